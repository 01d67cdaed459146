"""What a notebook's kernel runs first in the stage of run.py that gives it a stand-in
for a GPU.
"""

import standin  # noqa: F401

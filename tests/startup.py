"""What a notebook's kernel runs first in the nightly stage that gives it a stand-in
for a GPU.
"""

import standin  # noqa: F401

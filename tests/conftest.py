import os
import sys

import pytest

os.environ["MEDLIB_OFFLINE"] = "1"  # tests reach no other machine
os.environ["TQDM_DISABLE"] = "1"
if sys.platform == "win32":  # these fork, kill, and limit what a process may take
    collect_ignore = ["test_faults.py", "test_press_survivors.py", "test_processes.py"]
os.environ.pop("MEDLIB_MIRROR", None)
os.environ.pop("MEDLIB_DATA", None)


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers each time, whichever tests ran before it."""
    from medlib.device import seed

    seed(0)

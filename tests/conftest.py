import os
from pathlib import Path

import pytest

os.environ["MEDLIB_OFFLINE"] = "1"  # tests reach no other machine
os.environ["TQDM_DISABLE"] = "1"
MIRROR = os.environ.pop("MEDLIB_MIRROR", "nowhere")  # for the fixture alone
os.environ.pop("MEDLIB_DATA", None)


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers each time, whichever tests ran before it."""
    from medlib.device import seed

    seed(0)


@pytest.fixture
def mirror():
    """A set's folder in the MEDLIB_MIRROR that the run was started with."""

    def find(name: str) -> Path:
        place = Path(MIRROR).expanduser() / name
        if not place.is_dir():
            pytest.skip(f"MEDLIB_MIRROR has no {name}")
        return place

    return find

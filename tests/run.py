"""Everything that checks the project, then one line of counts. `make test` runs this."""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = [sys.executable, "-m"]
PYTEST = [*PYTHON, "pytest", "-p", "no:cacheprovider"]
PARALLEL = ["-n", "2", "--dist", "loadfile"]
CHAPTERS = [*PYTEST, *PARALLEL, "--nbval-lax", "--nbval-current-env", "chapters"]
BUILD = [
    str(Path(sys.executable).parent / "jupyter-book"),
    "build",
    ".",
    "--all",
    "--quiet",
]
STAGES = {
    "ruff: lint": [*PYTHON, "ruff", "check", "."],
    "ruff: format": [*PYTHON, "ruff", "format", "--check", "."],
    "spelling": [str(Path(sys.executable).parent / "codespell")],
    "unit tests and checks on notebooks": [
        *PYTEST,
        *PARALLEL,
        "tests",
        "--ignore=tests/test_book.py",
    ],
    "chapters in the smoke profile": CHAPTERS,
    "chapters on a stand-in for a GPU": [
        "env",
        f"PYTHONSTARTUP={ROOT / 'tests/startup.py'}",
        *CHAPTERS,
    ],
    "book, warnings as errors": [*BUILD, "--warningiserror", "--keep-going"],
    "the book as a PDF": [sys.executable, "book/pdf.py"],
    "pages of the book": [*PYTEST, "-rs", "tests/test_book.py"],
}


def run(name: str, command: list[str]) -> tuple[int, int, int]:
    """(passed, failed, skipped) of one stage; a stage without a report counts as one
    check.
    """
    print(f"\n== {name}", flush=True)
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        counted = "pytest" in command
        extra = [f"--junitxml={report.name}"] if counted else []
        smoke = {"MEDLIB_PROFILE": "smoke", "TQDM_DISABLE": "1", "MEDLIB_OFFLINE": "1"}
        status = subprocess.run(
            [*command, *extra], cwd=ROOT, env=os.environ | smoke, check=False
        ).returncode
        if not counted:
            return int(status == 0), int(status != 0), 0
        try:
            suites = list(ET.parse(report.name).getroot().iter("testsuite"))
        except ET.ParseError:
            return 0, 1, 0
    tests, failures, errors, skipped = (
        sum(int(s.get(key, 0)) for s in suites)
        for key in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors or int(status != 0)  # no test collected is a failure too
    return max(tests - failures - errors - skipped, 0), failed, skipped


def main() -> int:
    totals = [run(name, command) for name, command in STAGES.items()]
    print("\n== state of the stored chapters", flush=True)
    subprocess.run(
        [sys.executable, "-m", "medlib.chapters", "status"], cwd=ROOT, check=False
    )
    passed, failed, skipped = (sum(column) for column in zip(*totals, strict=True))
    for name, (_, bad, _) in zip(STAGES, totals, strict=True):
        if bad:
            print(f"FAILED: {name} ({bad})")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

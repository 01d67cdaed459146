"""The chapters that wait for their rerun, from chapters/waiting.txt.

Of these alone the outputs may be older than the text, and older than medlib. The list
may only shrink: a chapter leaves it when it is run.
"""

import subprocess

from press import text

NAME = "waiting.txt"


def waiting() -> list[str]:
    """The chapters' names, such as "02_lenet"."""
    path = text.FOLDER / NAME
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def strike(name: str) -> None:
    """Take a chapter off the list, if it is there."""
    path = text.FOLDER / NAME
    if name in waiting():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.strip() != name]
        path.write_text("".join(kept), encoding="utf-8")


def commit_of(path) -> str:
    """The last commit that changed this file, in short; "" where git knows none."""
    asked = subprocess.run(
        ["git", "log", "-1", "--format=%h", "--", path.name],
        cwd=path.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return asked.stdout.strip()

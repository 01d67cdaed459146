"""The first cell of every chapter and assignment: where medlib is not at hand, it
fetches the book.

This is its one source: a chapter's text has a comment in its place, storing puts it
into the notebook, and `python -m press first` into all notebooks at once. It is no part
of what a chapter runs (text.program), so none becomes stale by it.
"""

import inspect
import sys
import tomllib
from functools import cache
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode

from press import minutes
from press.text import ROOT, ChapterError, tags, write

TITLE = "# @title Fetch the book (run me first)"  # Colab shows it in place of the code


def bring_medlib(version, address, beside=".."):
    """Where the book's package is not at hand (Colab, Kaggle, a notebook alone), fetch
    the book into the home folder, and install what it needs. → where medlib lies
    """
    import os
    import subprocess
    import tempfile
    import tomllib
    from importlib import metadata, util
    from pathlib import Path

    def git(*words):
        asks_nobody = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
        try:
            done = subprocess.run(
                ["git", *words],
                env=asks_nobody,
                capture_output=True,
                text=True,
                check=False,
            )
            failed, said = done.returncode, done.stderr.strip()
        except FileNotFoundError:
            failed, said = True, "git is missing; install it"
        if failed:
            network = "Is there a network? (On Kaggle: Settings, Internet on.)"
            raise RuntimeError(f"cannot fetch {address}: {said}\n{network}")
        return done.stdout

    def place():  # a mere folder named medlib has no origin
        spec = util.find_spec("medlib")
        return Path(spec.origin).parents[1] if spec and spec.origin else None

    tag, home = f"v{version}", Path.home() / "medlib-book"
    near = str(Path(beside).resolve())
    if Path(near, "medlib", "__init__.py").exists() and near not in sys.path:
        sys.path.insert(0, near)
    if not place():
        if (home / "medlib").exists():
            print(f"Using the book in {home}, fetched before.")
        elif home.exists():
            raise RuntimeError(f"{home} holds no medlib: move that folder away")
        else:
            branch = tag if git("ls-remote", address, f"refs/tags/{tag}") else "main"
            if branch != tag:
                print(f"Version {version} has no tag yet: the newest is taken.")
            with tempfile.TemporaryDirectory(dir=home.parent) as half:
                git("clone", "--depth=1", "-b", branch, address, f"{half}/book")
                Path(half, "book").rename(home)
            print(f"Fetched {branch} of {address} into {home}.")
        sys.path.insert(0, str(home))
        from medlib import doctor

        doctor.install()

    root = place()
    if (root / "chapters").exists():  # the whole book
        listed = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
        found = listed["project"]["version"]
        remedy = f"git -C {root} fetch --depth=1 {address} {tag}"
        remedy += f" && git -C {root} checkout FETCH_HEAD"
    else:
        known = [d.version for d in metadata.distributions(name="medlib")]
        found = known[0] if known else "unknown"
        remedy = f"pip install git+{address}@{tag}"
    if found != version:
        print(f"This notebook is of version {version}, medlib in {root} of {found}:")
        print("its numbers may differ, and cells may fail. Open the notebook of that")
        print("version; or bring medlib to this one, and start a new session:")
        print(f"  !{remedy}")
    return root


# ---------------------------------------------------------------- whose, and which


def address() -> str:
    """The repository's, from _config.yml."""
    return _substitutions()["repo"]


def branch() -> str:
    """What the buttons open: main, or the tag of the last release."""
    return _substitutions()["branch"]


def _substitutions() -> dict[str, str]:
    return _parsed((ROOT / "_config.yml").read_text(encoding="utf-8"))


@cache
def _parsed(config: str) -> dict[str, str]:
    """Each link asks; a release changes the file in between."""
    return yaml.safe_load(config)["parse"]["myst_substitutions"]


def on_colab(link: str) -> str:
    """Where Colab opens what a link on GitHub leads to."""
    colab = "https://colab.research.google.com/github"
    return link.replace("https://github.com", colab)


def pages(address: str) -> str:
    """Where GitHub shows the pages of a repository."""
    owner, name = address.split("/")[-2:]
    return f"https://{owner}.github.io/{name}"


def version() -> str:
    """The book's and medlib's, from pyproject.toml."""
    listed = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(listed)["project"]["version"]


# ---------------------------------------------------------------- the cell


def chapter(name: str) -> str:
    """The first cell of a chapter; a long one asks whether this card has the time."""
    call = f'BOOK = bring_medlib("{version()}", "{address()}")'
    cell = f"{TITLE}\nimport sys\n\n\n{inspect.getsource(bring_medlib)}\n\n{call}"
    if name in (long := minutes.long()):
        cell += f"\nfrom medlib import device\n\ndevice.spare(minutes={long[name]})"
    return cell


def assignment(name: str) -> str:
    """That of an assignment, which works in the folder of its visible tests, with
    otter.
    """
    started = chapter("").removesuffix(")") + ', beside="../..")'
    return f"""{started}

import os
from importlib.util import find_spec

if not os.path.isdir("tests"):
    os.chdir(BOOK / "assignments" / "{name}")
if not find_spec("otter"):
    from medlib import doctor

    doctor.install("otter-grader")"""


def fill(chapter_: NotebookNode, name: str) -> None:
    """Put the cell where a chapter's text has a comment for it."""
    for cell in chapter_.cells:
        if "colab" in tags(cell):
            cell.source = chapter(name)


def cells() -> dict[Path, str]:
    """{notebook: the first cell that it should hold}."""
    chapters = [*ROOT.glob("chapters/[0-9]*.ipynb"), *ROOT.glob("colab/[0-9]*.ipynb")]
    due = {path: chapter(path.stem) for path in sorted(chapters)}
    assignments = sorted(ROOT.glob("assignments/[0-9]*/*.ipynb"))
    return due | {path: assignment(path.stem) for path in assignments}


def held(path: Path) -> str:
    """The first cell that a notebook holds."""
    for found in nbformat.read(path, as_version=4).cells:
        if "colab" in tags(found):
            return found.source
    raise ChapterError(f"{path.name}: expected a first cell with the tag colab")


def put() -> list[Path]:
    """Copy the cell into all notebooks; those that changed."""
    late = [(path, cell) for path, cell in cells().items() if held(path) != cell]
    for path, cell in late:
        notebook = nbformat.read(path, as_version=4)
        next(c for c in notebook.cells if "colab" in tags(c)).source = cell
        write(notebook, path)
    return [path for path, _ in late]

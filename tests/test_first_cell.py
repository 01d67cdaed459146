"""The first cell, run as a reader's notebook runs it: a bare interpreter without
medlib, an empty home, a pip that only notes what it is asked for, and the book's
address leading to a repository on this disk.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from types import SimpleNamespace

import nbformat
import pytest

from press import first, text
from press.text import ROOT, code_hash, read, sources

VERSION, TAG = first.version(), f"v{first.version()}"
PIP = "import json, sys\nprint('pip:', json.dumps(sys.argv[2:]))\n"


def git(*words, at):
    """Without the settings of this machine."""
    name = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    alone = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", "-C", at, *name, *words]
    return subprocess.check_output(command, env=alone, text=True).strip()


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A repository with the branch main, and no tag: medlib and its needs, one of which
    no machine has.
    """
    folder = tmp_path_factory.mktemp("github") / "book"
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "medlib", folder / "medlib", ignore=skipped)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lacking = project.replace("dependencies = [", 'dependencies = ["no-such-thing",', 1)
    (folder / "pyproject.toml").write_text(lacking, encoding="utf-8")
    for name in ("chapters", "assignments/01_toy"):
        (folder / name).mkdir(parents=True)
        (folder / name / "kept").touch()
    git("init", "--quiet", "--initial-branch=main", at=folder)
    git("add", ".", at=folder)
    git("commit", "--quiet", "-m", "The book", at=folder)
    return folder


@pytest.fixture
def reader(book, tmp_path):
    """A machine: its folders, and `run(code)` in a fresh session on it."""
    home, work, pip = (tmp_path / name for name in ("home", "work", "pip"))
    for folder in (home, work, pip / "pip"):
        folder.mkdir(parents=True)
    (pip / "pip" / "__init__.py").touch()
    (pip / "pip" / "__main__.py").write_text(PIP, encoding="utf-8")
    repository = tmp_path / "book.git"
    git("clone", "--quiet", "--bare", book.as_uri(), repository, at=tmp_path)
    # -S: no medlib that was installed in place; its other packages by their folder
    packages = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    variables = {k: v for k, v in os.environ.items() if not k.startswith("MEDLIB_")}
    variables |= {
        "HOME": str(home), "USERPROFILE": str(home), "PIP_NO_INDEX": "1",
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_VALUE_0": first.address(),
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "PYTHONPATH": os.pathsep.join([str(pip), *packages]),
    }  # fmt: skip

    def run(code=first.chapter(""), at=work, well=True, **more):  # noqa: B008
        done = subprocess.run(
            [sys.executable, "-S", "-c", f"{code}\nprint('goes on in', BOOK)"],
            cwd=at, env=variables | more, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) == well, done.stderr
        return done.stdout if well else done.stderr.splitlines()

    return SimpleNamespace(
        run=run, home=home, work=work, repository=repository,
        cloned=home / "medlib-book", path=variables["PYTHONPATH"],
    )  # fmt: skip


# ---------------------------------------------------------------- medlib is not here


def test_it_fetches_the_tag_of_its_version_and_installs_what_lacks(reader):
    git("tag", TAG, at=reader.repository)
    said = reader.run().splitlines()
    assert said[0] == f"Fetched {TAG} of {first.address()} into {reader.cloned}."
    assert said[1].startswith("Installing no-such-thing")
    assert said[-1] == f"goes on in {reader.cloned}" and len(said) == 4
    assert git("describe", "--tags", at=reader.cloned) == TAG
    assert os.listdir(reader.home) == ["medlib-book"] and not os.listdir(reader.work)


def test_what_is_here_is_held(reader):
    said = reader.run().splitlines()
    (asked,) = (json.loads(line[5:]) for line in said if line.startswith("pip: "))
    assert asked[:2] == ["--quiet", "no-such-thing"]
    held = dict(line.split("==") for line in asked[2:])
    assert {"torch", "torchvision", "numpy", "scipy", "matplotlib"} <= held.keys()
    import numpy

    assert held["numpy"] == numpy.__version__


def test_without_the_tag_it_says_so_and_takes_main(reader):
    said = reader.run().splitlines()
    assert said[0] == f"Version {first.version()} has no tag yet: the newest is taken."
    assert said[1].startswith("Fetched main of ")
    assert git("branch", "--show-current", at=reader.cloned) == "main"


def test_the_next_session_finds_it_without_a_network(reader):
    reader.run()
    shutil.rmtree(reader.repository)
    said = reader.run().splitlines()
    assert said[0] == f"Using the book in {reader.cloned}, fetched before."
    assert said[-1] == f"goes on in {reader.cloned}"


def test_a_folder_that_bears_the_name_is_not_taken_for_the_package(reader):
    (reader.work / "medlib" / "store").mkdir(parents=True)
    assert "Fetched main" in reader.run()


def test_an_assignment_goes_on_in_its_folder(reader):
    code = first.assignment("01_toy") + "\nprint(os.getcwd())"
    here = reader.cloned / "assignments" / "01_toy"
    assert str(here) in reader.run(code).splitlines()
    (reader.work / "tests").mkdir()
    assert str(reader.work) in reader.run(code).splitlines()  # its tests lie beside it


# ---------------------------------------------------------------- it cannot be fetched


def test_without_a_network_it_says_what_to_do_and_leaves_nothing(reader):
    shutil.rmtree(reader.repository)
    said = reader.run(well=False)
    why = f"RuntimeError: cannot fetch {first.address()}: "
    assert any(line.startswith(why) for line in said)
    assert "Is there a network?" in said[-1] and not any(reader.home.iterdir())


def test_without_git_it_says_so(reader, tmp_path):
    *_, why, _ = reader.run(well=False, PATH=str(tmp_path))
    assert why.endswith("git is missing; install it")


def test_a_folder_in_its_place_is_left_alone(reader):
    (reader.cloned / "mine").mkdir(parents=True)
    assert reader.run(well=False)[-1].endswith("holds no medlib: move that folder away")
    assert os.listdir(reader.cloned) == ["mine"]


def test_a_clone_that_breaks_off_leaves_nothing(reader):
    broken = next(p for p in reader.repository.rglob("*.pack"))
    broken.chmod(0o600)
    broken.write_bytes(broken.read_bytes()[:100])
    assert "cannot fetch" in "".join(reader.run(well=False))
    assert not any(reader.home.iterdir())


# ---------------------------------------------------------------- medlib is here


def test_beside_the_book_it_is_silent(reader, book):
    assert reader.run(at=book / "chapters") == f"goes on in {book}\n"
    assert not any(reader.home.iterdir())


def test_another_version_in_a_clone_is_named_with_what_to_do(reader, tmp_path):
    other = tmp_path / "other"
    git("clone", "--quiet", reader.repository.as_uri(), other, at=tmp_path)
    listed = other / "pyproject.toml"
    old = listed.read_text("utf-8").replace(f'"{VERSION}"', '"0.0.1"', 1)
    listed.write_text(old, encoding="utf-8")
    said = reader.run(PYTHONPATH=os.pathsep.join([str(other), reader.path]))
    assert f"is of version {VERSION}, medlib in {other} of 0.0.1" in said
    assert f"git -C {other} fetch --depth=1 {first.address()} {TAG} && git" in said
    assert said.endswith(f"goes on in {other}\n")
    git("tag", TAG, at=reader.repository)
    git("checkout", "--quiet", "--", ".", at=other)
    git("fetch", "--quiet", "--depth=1", reader.repository.as_uri(), TAG, at=other)
    git("checkout", "--quiet", "FETCH_HEAD", at=other)
    assert len(reader.run(at=other / "chapters").splitlines()) == 1


@pytest.mark.parametrize("version", ["0.0.1", ""])
def test_another_version_of_the_package_is_named_too(reader, tmp_path, version):
    place = tmp_path / "site"
    (place / "medlib").mkdir(parents=True)
    (place / "medlib" / "__init__.py").touch()
    if version:
        about = place / f"medlib-{version}.dist-info"
        about.mkdir()
        words = f"Metadata-Version: 2.1\nName: medlib\nVersion: {version}\n"
        (about / "METADATA").write_text(words, encoding="utf-8")
    said = reader.run(PYTHONPATH=str(place))
    assert f"medlib in {place} of {version or 'unknown'}:" in said
    assert f"pip install git+{first.address()}@{TAG}" in said


# ---------------------------------------------------------------- one source


def test_every_notebook_holds_it():
    late = [p.name for p, cell in first.cells().items() if first.held(p) != cell]
    assert not late, f"`python -m press first` puts it into {', '.join(late)}"


def test_it_asks_for_medlib_and_not_where_it_runs():
    cell = first.chapter("")
    assert "colab" not in cell.lower().replace("(colab, kaggle, a notebook alone)", "")
    assert "shell" not in cell and "os.system" not in cell
    defined, call = ast.parse(cell).body[-2:]
    assert isinstance(defined, ast.FunctionDef) and isinstance(call, ast.Assign)


def test_a_change_of_it_makes_no_chapter_stale():
    source = sources()[0]
    now, then = read(source), read(source)
    cell = next(c for c in then.cells if "colab" in text.tags(c))
    cell.source = "print('another')"
    assert code_hash(now) == code_hash(then)
    text.code_cells(then)[1].source += "\nprint('another')"
    assert code_hash(now) != code_hash(then)


TOY = """# %% [markdown]
# # Toy

# %% tags=["hide-input", "colab"]
# The cell that fetches the book: press/first.py puts it here.

# %%
print(1)
"""


def test_it_is_put_into_notebooks_and_changes_nothing_else(tmp_path, monkeypatch):
    for folder in ("chapters", "colab", "assignments/01_toy"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("_config.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(first, "ROOT", tmp_path)
    script = tmp_path / "99_toy.py"
    script.write_text(TOY, encoding="utf-8")
    notebook = read(script)
    for folder in ("chapters", "colab", "assignments/01_toy"):
        text.write(notebook, tmp_path / folder / "01_toy.ipynb")
    assert len(first.put()) == 3 and first.put() == []
    put = nbformat.read(tmp_path / "chapters" / "01_toy.ipynb", as_version=4)
    assert [c.source for c in put.cells[::2]] == ["# Toy", "print(1)"]
    assert put.cells[1].source == first.chapter("01_toy")
    given = nbformat.read(tmp_path / "assignments/01_toy/01_toy.ipynb", as_version=4)
    assert given.cells[1].source == first.assignment("01_toy")
    first.fill(notebook, "01_toy")
    assert [c.source for c in notebook.cells] == [c.source for c in put.cells]
    text.write(nbformat.v4.new_notebook(), tmp_path / "colab" / "02_toy.ipynb")
    with pytest.raises(text.ChapterError, match="02_toy.ipynb: expected a first cell"):
        first.put()


def test_a_long_chapter_asks_whether_the_card_has_the_time(monkeypatch):
    monkeypatch.setattr("press.minutes.long", lambda: {"11_unet": 25})
    assert first.chapter("11_unet").endswith("device.spare(minutes=25)")
    assert "spare" not in first.chapter("02_lenet")

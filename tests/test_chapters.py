"""The stored chapters are one clean run of the text beside them, on real data."""

import re
import statistics
import tomllib
from collections import Counter
from importlib.resources import files

import nbformat
import pytest
import yaml

from medlib import chapters

SOURCES = chapters.sources()
NOTEBOOK = chapters.FOLDER / "01_images.ipynb"


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_stored_notebook_matches_its_text(source):
    assert (
        chapters.faults(
            nbformat.read(source.with_suffix(".ipynb"), as_version=4), source
        )
        == []
    )


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_cells_are_short(source):
    lines = [
        len(c.source.splitlines())
        for c in chapters.read(source).cells
        if c.cell_type == "code"
    ]
    assert max(lines) <= 25 and statistics.median(lines) <= 8


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_first_cells_and_words(source):
    cells = chapters.read(source).cells
    assert cells[0].source.startswith("# ") and "colab" in cells[1].metadata.tags
    config = yaml.safe_load((chapters.ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert (
        config["sphinx"]["config"]["html_theme_options"]["repository_url"]
        in cells[1].source
    )
    assert '"cuda"' not in source.read_text(encoding="utf-8")


QUESTION = re.compile(
    r"^\*\*(\d+)\.\*\* ([\s\S]+?)\n\n((?:- \*\*[A-D]\*\* .+\n(?:  .+\n)*){3,4})\n"
    r"<details><summary>Answer</summary>\n\n\*\*([A-D])\.\*\* ([\s\S]+?)\n\n</details>",
    re.MULTILINE,
)


def quiz(source):
    """The questions of a chapter, each as (number, question, options, the right letter,
    why).
    """
    text = "\n".join(
        c.source for c in chapters.read(source).cells if c.cell_type == "markdown"
    )
    return QUESTION.findall(
        text.split("## Check yourself", 1)[1].split("## Exercises")[0]
    )


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_quiz_has_six_questions_with_reasons(source):
    asked = quiz(source)
    assert len(asked) >= 6 and [int(q[0]) for q in asked] == list(
        range(1, len(asked) + 1)
    )
    for _, _, options, right, why in asked:
        letters = re.findall(r"^- \*\*([A-D])\*\*", options, re.MULTILINE)
        assert (
            letters == list("ABCD")[: len(letters)]
            and right in letters
            and len(why) > 30
        )
    assert source.read_text("utf-8").count("<summary>Answer") == len(asked)


def test_right_answers_are_spread_over_the_letters():
    rights = Counter(q[3] for source in SOURCES for q in quiz(source))
    assert min(rights[letter] for letter in "ABC") > sum(rights.values()) / 6


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_five_exercises_with_solutions(source):
    text = source.read_text(encoding="utf-8")
    titles = re.findall(
        r"^# `{3,}\{exercise\} (★+) \w+: .+\n# :label: (ex-[\w-]+)$", text, re.MULTILINE
    )
    solved = re.findall(
        r"^# `{3,}\{solution\} (ex-[\w-]+)\n# :class: dropdown$", text, re.MULTILINE
    )
    assert len(titles) >= 5 and {stars for stars, _ in titles} == {"★", "★★", "★★★"}
    assert sorted(solved) == sorted(label for _, label in titles)


def test_one_english():
    """British spelling in all prose; codespell's list of American forms says what is
    not.
    """
    words = files("codespell_lib") / "data" / "dictionary_en-GB_to_en-US.txt"
    pairs = [
        line.split("->")
        for line in words.read_text("utf-8").split("\n")
        if "->" in line
    ]
    american = (
        {us.strip(", ").lower() for _, us in pairs}
        - {gb.lower() for gb, _ in pairs}
        - {"story", "program"}
    )
    prose = [
        c.source
        for s in SOURCES
        for c in chapters.read(s).cells
        if c.cell_type == "markdown"
    ]
    prose += [
        p.read_text(encoding="utf-8")
        for p in [*(chapters.ROOT / "book").glob("*.md"), chapters.ROOT / "README.md"]
    ]
    bare = re.sub(
        r"(`{3,}).*?\1|`[^`]*`|https?://\S+|“[^”]*”",
        "",
        "\n\n".join(prose),
        flags=re.DOTALL,
    )
    assert (
        "normalisation" in bare
        and set(re.findall(r"[a-z]+", bare.lower())) & american == set()
    )


def test_data_cards_name_every_set():
    cards = (chapters.ROOT / "data" / "README.md").read_text(encoding="utf-8")
    registry = tomllib.loads(
        (chapters.ROOT / "data" / "datasets.toml").read_text(encoding="utf-8")
    )
    assert all(
        f"`{name}`" in cards and "licence" in entry and "split" in entry
        for name, entry in registry.items()
    )
    known = (chapters.ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    assert all(
        f"{{{key}," in known for entry in registry.values() for key in entry["citation"]
    )


def spoil(change):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    change(notebook, [c for c in notebook.cells if c.cell_type == "code"])
    return " ".join(chapters.faults(notebook, NOTEBOOK.with_suffix(".py")))


def widget():
    return nbformat.v4.new_output(
        "display_data", {"application/vnd.jupyter.widget-view+json": {}}
    )


def stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", text=text, name=name)


def figure(name):
    made = {"figure": {"alt": "a", "caption": "c", "name": name}}
    return nbformat.v4.new_output(
        "display_data", {"image/png": "x"}, metadata={"medlib": made}
    )


@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda nb, code: nb.metadata.pop("medlib"), "no stamp"),
        (
            lambda nb, code: nb.metadata.medlib.update(code="0"),
            "stamp is of other code",
        ),
        (lambda nb, code: nb.metadata.medlib.update(profile="smoke"), "smoke profile"),
        (
            lambda nb, code: nb.metadata.medlib.data.update(breastmnist="stand-in"),
            "stand-in",
        ),
        (lambda nb, code: nb.cells[0].update(source="# Another title"), "text of"),
        (lambda nb, code: code[0].update(source="x = 1"), "text of"),
        (lambda nb, code: code[2].update(execution_count=99), "execution counts"),
        (
            lambda nb, code: code[0].outputs.append(stream("/home/someone/file")),
            "absolute path",
        ),
        (
            lambda nb, code: code[0].outputs.append(stream("careful", "stderr")),
            "stderr",
        ),
        (
            lambda nb, code: code[0].outputs.append(
                nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
            ),
            "an error",
        ),
        (
            lambda nb, code: code[0].outputs.append(
                nbformat.v4.new_output("display_data", {"image/png": "x"})
            ),
            "without alt text",
        ),
        (lambda nb, code: code[0].outputs.append(stream("x" * 1_500_000)), "MB"),
        (lambda nb, code: code[0].outputs.append(widget()), "a widget"),
        (
            lambda nb, code: code[0].outputs.append(stream("<Legend at 0x7f48>")),
            "an object's address",
        ),
        (
            lambda nb, code: code[0].outputs.extend(
                [figure("fig-99"), stream("and more")]
            ),
            "shares its cell",
        ),
        (lambda nb, code: nb.cells[1].update(source="> runs in a second"), "card"),
    ],
)
def test_each_fault_is_found(change, fault):
    assert fault in spoil(change)


def test_a_change_of_medlib_alone_is_stale_not_faulty(monkeypatch):
    monkeypatch.setattr(chapters, "module_hashes", dict)
    assert chapters.state(NOTEBOOK.with_suffix(".py"))[0] == "stale"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "FOLDER", tmp_path)
    monkeypatch.setattr(chapters, "RUNS", tmp_path / "runs")
    monkeypatch.setenv("MEDLIB_PROFILE", "cpu")

    def write(code):
        path = tmp_path / "99_toy.py"
        path.write_text(f"# %% [markdown]\n# # Toy\n\n# %%\n{code}\n", encoding="utf-8")
        return path

    return write


def test_a_chapter_runs_and_is_stored_with_its_stamp(toy):
    source = toy("from medlib import load\nlen(load('digits').train.x)")
    notebook = nbformat.read(chapters.run(source), as_version=4)
    assert notebook.cells[2].outputs[0].data["text/plain"] == "1257"
    assert (
        notebook.metadata.medlib.data == {"digits": "package"}
        and chapters.state(source)[0] == "fresh"
    )


def test_the_value_of_a_setter_is_not_shown(toy):
    code = "class Axis:\n    def set(self):\n        return 'noise'\n\nprint('kept')\nAxis().set()"
    outputs = (
        nbformat.read(chapters.run(source := toy(code)), as_version=4).cells[2].outputs
    )
    assert [o.output_type for o in outputs] == ["stream"]
    assert chapters.again(source) == []


def test_a_second_run_names_the_cells_that_came_out_otherwise(toy, capsys):
    source = toy(
        "import time\nprint('always')\n\n# %%\nprint(time.time())\n\n# %% "
        'tags=["timing"]\nprint(time.time())'
    )
    chapters.run(source)
    assert chapters.again(source) == ["99_toy, cell [2]: print(time.time())"]
    assert chapters.main(["again", "99"]) == 1 and "cell [2]" in capsys.readouterr().out


def test_a_failing_cell_stores_nothing(toy):
    source = toy("1 / 0")
    with pytest.raises(chapters.ChapterError, match="ZeroDivisionError"):
        chapters.run(source)
    assert not source.with_suffix(".ipynb").exists()


def test_changed_prose_is_taken_over_and_changed_code_is_not(toy):
    source = toy("1 + 1")
    before = nbformat.read(chapters.run(source), as_version=4)
    source.write_text(
        source.read_text().replace("# Toy", "# Another\n#\n# word"), encoding="utf-8"
    )
    assert chapters.state(source)[0] == "faulty"
    after = nbformat.read(chapters.retext(source), as_version=4)
    assert "word" in after.cells[0].source and after.cells[2] == before.cells[2]
    assert chapters.state(source)[0] == "fresh"
    source.write_text(source.read_text().replace("1 + 1", "1 + 2"), encoding="utf-8")
    with pytest.raises(chapters.ChapterError, match="code changed"):
        chapters.retext(source)


def test_a_kernel_that_dies_is_named(toy):
    with pytest.raises(
        chapters.ChapterError, match="99_toy.py, cell 1: the kernel died"
    ):
        chapters.run(toy("import os\nos._exit(1)"))


def test_a_run_that_was_killed_goes_on_after_its_last_training(toy, tmp_path):
    source = toy(
        "import os, torch\nfrom medlib import fit, load\nfound = "
        "os.listdir(os.environ['MEDLIB_RESUME'])\n"
        "net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
        "fit(net, load('digits'), epochs=0.2, validations=1)\n"
        f"if not os.path.exists({str(tmp_path / 'again')!r}):\n    os._exit(1)\nfound"
    )
    with pytest.raises(chapters.ChapterError, match="kernel died"):
        chapters.run(source)
    (tmp_path / "again").touch()
    notebook = nbformat.read(chapters.run(source), as_version=4)
    assert notebook.cells[2].outputs[0].data["text/plain"] == "['0000.pt']"
    assert notebook.metadata.medlib.resumed and "went on" in notebook.cells[1].source
    assert (
        "1 training of networks with 650 parameters, seed 0" in notebook.cells[1].source
    )
    assert not any((tmp_path / "runs").iterdir())


def test_outputs_from_stand_in_data_are_not_stored(toy):
    source = toy("from medlib import data\ndata.loaded['breastmnist'] = 'stand-in'")
    with pytest.raises(chapters.ChapterError, match="stand-in data for breastmnist"):
        chapters.run(source)
    assert not source.with_suffix(".ipynb").exists()


def test_an_unknown_chapter_is_named(capsys):
    assert (
        chapters.main(["run", "77"]) == 1
        and "no chapter '77'" in capsys.readouterr().err
    )


def test_a_run_that_cannot_go_on_starts_anew(toy, tmp_path):
    source = toy(
        "import os, torch\nfrom medlib import fit, load\nagain = "
        f"os.path.exists({str(tmp_path / 'again')!r})\n"
        "net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
        "fit(net, load('digits'), epochs=0.4 if again else 0.2, validations=1)\n"
        "if not again:\n    os._exit(1)"
    )
    with pytest.raises(chapters.ChapterError, match="kernel died"):
        chapters.run(source)
    (tmp_path / "again").touch()
    with pytest.raises(chapters.ChapterError, match="run it once more"):
        chapters.run(source)
    assert (
        "resumed"
        not in nbformat.read(chapters.run(source), as_version=4).metadata.medlib
    )

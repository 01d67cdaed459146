"""The stored chapters are one clean run of the text beside them, on real data."""

import ast
import re
import statistics
import tomllib
from collections import Counter
from importlib.resources import files

import pytest

from press import minutes
from press.check import faults
from press.stamp import whole_seconds
from press.text import ROOT, code_cells, read, sources, stored, tags

SOURCES = sources()
LONG = {"11_unet"}  # take more than 20 minutes on a T4 in full
QUICK = 300  # CPU-seconds that a chapter may take in the quick profile


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_stored_notebook_matches_its_text(source):
    assert faults(stored(source), source) == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_cells_are_short(source):
    shown = [c for c in code_cells(read(source)) if "colab" not in tags(c)]
    lines = [len(c.source.splitlines()) for c in shown]
    assert max(lines) <= 25 and statistics.median(lines) <= 8


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_first_cells_and_words(source):
    cells = read(source).cells
    title, question = cells[0].source.split("\n\n")[:2]
    assert re.fullmatch(r"# [^?:]{3,24}", title), "a title is the name alone"
    assert re.fullmatch(r"\*[^*]+\?\*", question), "a question in italics follows it"
    assert "colab" in cells[1].metadata.tags
    assert '"cuda"' not in source.read_text(encoding="utf-8")


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_a_long_chapter_names_quick_sizes(source):
    sizes = [
        {argument.arg for argument in call.keywords}
        for call in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "profile"
    ]
    assert all({"smoke", "full"} <= names for names in sizes)
    if whole_seconds(stored(source).metadata["medlib"]) > QUICK:
        assert any("quick" in names for names in sizes)


def test_a_chapter_of_which_only_quick_is_known_is_not_long(monkeypatch):
    known = {"01_a": {"quick": {"minutes": 30}}, "02_b": {"full": {"minutes": 21.4}}}
    monkeypatch.setattr(minutes, "table", lambda: known)
    assert minutes.long() == {"02_b": 21}


def test_minutes_are_known_and_quick_is_short():
    table = minutes.table()
    assert table.keys() <= {source.stem for source in SOURCES}
    for name, sizes in table.items():
        assert sizes.get("full", {"minutes": 1})["minutes"] > 0, name
        assert sizes.get("quick", {"cpu_seconds": 0})["cpu_seconds"] <= QUICK, name


def test_the_list_of_long_chapters_only_shrinks():
    assert minutes.long().keys() <= LONG


QUESTION = re.compile(
    r"^\*\*(\d+)\.\*\* ([\s\S]+?)\n\n((?:- \*\*[A-D]\*\* .+\n(?:  .+\n)*){3,4})\n"
    r"<details><summary>Answer</summary>\n\n\*\*([A-D])\.\*\* ([\s\S]+?)\n\n</details>",
    re.MULTILINE,
)


def quiz(source):
    """The questions of a chapter, each as (number, question, options, the right letter,
    why).
    """
    text = "\n".join(c.source for c in read(source).cells if c.cell_type == "markdown")
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
        - {"story", "program", "practice"}  # right as nouns
    )
    prose = [
        c.source for s in SOURCES for c in read(s).cells if c.cell_type == "markdown"
    ]
    prose += [
        p.read_text(encoding="utf-8")
        for p in [*(ROOT / "book").glob("*.md"), ROOT / "README.md"]
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
    cards = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    registry = tomllib.loads(
        (ROOT / "data" / "datasets.toml").read_text(encoding="utf-8")
    )
    assert all(
        f"`{name}`" in cards and "licence" in entry and "split" in entry
        for name, entry in registry.items()
    )
    known = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    assert all(
        f"{{{key}," in known for entry in registry.values() for key in entry["citation"]
    )

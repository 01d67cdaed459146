"""Readers' notebooks: the stored code, in words that Colab and GitHub know."""

import re

import nbformat
import pytest

from press import colab, text
from press.run import KERNEL
from press.text import ChapterError, code_cells, sources, stored

RAW = re.compile(
    r"\{[\w:-]+\}`|^\s*(:{3,}|`{3,})\{|\{\{|^\([\w-]+\)=|^\$\$ *\(", re.MULTILINE
)


@pytest.fixture(scope="module")
def pairs():
    """[(name, the stored notebook, the readers')]."""
    found = []
    for source in sources():
        path = colab.folder() / f"{source.stem}.ipynb"
        found.append((source.stem, stored(source), nbformat.read(path, as_version=4)))
    return found


def words(notebook):
    return [c.source for c in notebook.cells if c.cell_type == "markdown"]


def test_code_is_that_of_the_stored_notebooks_without_outputs(pairs):
    for name, chapter, readers in pairs:
        assert [c.source for c in code_cells(readers)] == [
            c.source for c in code_cells(chapter)
        ], name
        assert not any(c.outputs for c in code_cells(readers)), name


def test_they_are_up_to_date_and_none_is_left_over(pairs):
    late = [name for name, chapter, kept in pairs if colab.made(name, chapter) != kept]
    assert not late, f"`python -m press colab` makes them anew: {', '.join(late)}"
    names = {path.stem for path in colab.folder().iterdir()}
    assert names == {name for name, _, _ in pairs}


def test_no_role_directive_or_label_is_left(pairs):
    for name, _, readers in pairs:
        for source in words(readers):
            assert not RAW.search(source), (name, RAW.search(source))


def test_every_solution_is_folded(pairs):
    for name, chapter, readers in pairs:
        asked = sum(source.count("{solution}") for source in words(chapter))
        shown = "\n".join(words(readers))
        assert shown.count("<summary>Solution of exercise") == asked, name
        assert shown.count("<details>") == shown.count("</details>"), name


def test_they_are_small(pairs):
    paths = [colab.folder() / f"{name}.ipynb" for name, _, _ in pairs]
    assert sum(path.stat().st_size for path in paths) < 2_000_000


# ---------------------------------------------------------------- one cell


def chapter(*cells, name="02_lenet"):
    made = [nbformat.v4.new_markdown_cell(cell) for cell in cells]
    notebook = nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": KERNEL})
    return colab.made(name, notebook)


def shown(*cells, **more):
    """What a reader sees of these cells, without the line on top."""
    return "\n".join(words(chapter(*cells, **more))[1:])


PAGES = colab.page("")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{term}`Dice`", f"[Dice]({PAGES}book/glossary.html#term-Dice)"),
        ("{term}`dice <Dice>`", f"[dice]({PAGES}book/glossary.html#term-Dice)"),
        ("{cite:p}`yang2023medmnist`", "([Yang et al., 2023](https://doi.org/10.1038/"),
        ("{cite:t}`grady2006random`", "[Grady (2006)](https://"),
        ("{doc}`../book/notation`", f"[Notation and words]({PAGES}book/notation.html)"),
        ("{doc}`01_images`", "/colab/01_images.ipynb)"),
        (
            "{eq}`eq-step`",
            f"[(2.2)]({PAGES}chapters/02_lenet.html#equation-eq-step)",
        ),
        (
            "{numref}`fig-permuted`",
            f"[Fig. 2.2]({PAGES}chapters/02_lenet.html#fig-permuted)",
        ),
        ("`{term}` is a role", "`{term}` is a role"),
        ("```\n{term}`x`\n```", "```\n{term}`x`\n```"),
    ],
)
def test_roles_become_words_and_links(source, expected):
    assert expected in shown(source, name="03_alexnet")


def test_equations_and_exercises_carry_the_numbers_of_the_book():
    seen = shown(
        "$$\nx = 1\n$$ (eq-a)",
        "```{math}\n:label: eq-b\ny = 2\n```",
        "$$ z = 3 $$ (eq-c)\n\nSee {eq}`eq-c` and {ref}`ex-a`.",
        "```{exercise} ★ Predict: this\n:label: ex-a\nWhat is {eq}`eq-a`?\n```\n\n"
        "````{solution} ex-a\n:class: dropdown\nOne:\n\n```python\nx = 1\n```\n````",
    )  # fmt: skip
    assert "y = 2 \\tag{2.2}" in seen and "See (2.3) and [Exercise 2.1](#ex-a)." in seen
    assert "**Exercise 2.1** (★ Predict: this)\n\nWhat is (2.1)?" in seen
    folded = "<details><summary>Solution of exercise 2.1</summary>\n\nOne:\n\n```python"
    assert folded in seen and seen.endswith("x = 1\n```\n\n</details>")


def test_an_interlude_has_no_number_before_those_of_its_equations():
    seen = shown("$$\nx\n$$ (eq-a)\n\n{eq}`eq-a`", name="07_tournament")
    assert "\\tag{1}" in seen and seen.endswith("(1)")


def test_admonitions_are_quotations_and_dropdowns_fold():
    seen = shown(
        ":::{note}\nOf a {term}`kernel`.\n\n- one\n:::",
        ":::{admonition} Mind this\n:class: dropdown\ninside\n:::",
        "- a list\n\n  ```{tip}\n  within\n  ```\n- goes on",
    )  # fmt: skip
    assert "> **Note**\n>\n> Of a [kernel](" in seen and "> - one" in seen
    assert "<details><summary>Mind this</summary>\n\ninside\n\n</details>" in seen
    assert "  > **Tip**\n  >\n  > within\n- goes on" in seen


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("{abbr}`MRI`", "the role {abbr}"),
        ("```{mermaid}\na\n```", "the directive {mermaid}"),
        ("{{ repo }}", "a substitution"),
        ("{cite:p}`nobody1900`", "the reference nobody1900"),
        ("{eq}`eq-nowhere`", "the label eq-nowhere"),
    ],
)
def test_what_it_does_not_know_is_named(source, named):
    with pytest.raises(ChapterError, match=f"02_lenet: {re.escape(named)}"):
        chapter(source)


def test_a_caption_with_numbers_of_the_run_is_left_to_the_page():
    def cell(source, caption):
        shown = {"figure": {"alt": "a", "caption": caption, "name": "fig-a"}}
        output = nbformat.v4.new_output("display_data", {}, metadata={"medlib": shown})
        made = nbformat.v4.new_code_cell(source, outputs=[output])
        made.metadata.tags = ["hide-input"]
        return made

    cells = [cell("show('Two.')", "Two."), cell("show(f'{n}.')", "3.")]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    readers = colab.made("02_lenet", notebook)
    anchor = '<a name="fig-a"></a>'
    assert words(readers)[1:] == [f"{anchor}**Fig. 2.1** Two.", f"{anchor}**Fig. 2.2**"]
    assert readers.cells[1].metadata.cellView == "form"  # folded, as in the book


def test_storing_a_chapter_makes_its_readers_notebook(tmp_path, monkeypatch):
    from press import run

    monkeypatch.setattr(text, "FOLDER", tmp_path / "chapters")
    (tmp_path / "chapters").mkdir()
    monkeypatch.setattr(run, "faults", lambda notebook, source: [])
    monkeypatch.setattr(run, "card", lambda stamp: "> a card")
    source = tmp_path / "chapters" / "98_toy.py"

    def store(words):
        cells = [nbformat.v4.new_markdown_cell(words)]
        about = {"kernelspec": KERNEL, "medlib": {}}
        run.store(nbformat.v4.new_notebook(cells=cells, metadata=about), source)

    store("# Toy")
    made = colab.folder() / "98_toy.ipynb"
    kept = made.read_bytes(), source.with_suffix(".ipynb").read_bytes()
    assert "# Toy" in words(nbformat.read(made, as_version=4))
    with pytest.raises(ChapterError, match="abbr"):
        store("{abbr}`MRI`")  # neither of the two is written
    assert kept == (made.read_bytes(), source.with_suffix(".ipynb").read_bytes())

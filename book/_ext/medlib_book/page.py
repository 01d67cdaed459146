"""What a chapter's page has around its text: buttons and minutes under the question;
and, folded at the end, what the run was, where the chapter leads, and how to cite it.
"""

from press import colab, first
from press.check import figure
from press.minutes import reading, words
from press.text import tags

from . import plan

TITLE = "# @title "  # of a folded cell, on Colab


def dress(name: str, notebook: dict) -> None:
    """Put them into a chapter's notebook, in place."""
    cells = notebook["cells"]
    title, question, *text = "".join(cells[0]["source"]).split("\n\n", 2)
    top = head(name, notebook)
    cells[0]["source"] = "\n\n".join([title, question, top, *text])
    card = next(cell for cell in cells if "card" in tags(cell))
    cells.remove(card)
    run = "".join(card["source"])
    cells.append(card | {"source": f"{FOLDED}\n\n{run}\n\n{end(name)}\n\n</details>"})
    for cell in cells:
        if "hide-input" in tags(cell):
            label_fold(cell)


FOLDED = '<details class="about"><summary>About this chapter’s run</summary>'


def head(name: str, notebook: dict) -> str:
    """The buttons, and what the chapter takes a reader. In HTML."""
    links = colab.launchers(name)
    minutes = f"{reading(notebook)} min to read"
    if run := words(name):
        minutes += f" · {run}"
    buttons = [
        f'<a class="button first" href="{links["Colab"]}">Open in Colab</a>',
        f'<a class="button" href="{links["Kaggle"]}">Kaggle</a>',
        f'<a class="button" href="{colab.file(name)}">Notebook</a>',
        f"<span>{minutes}</span>",
    ]
    if "outputs_of" in notebook["metadata"]["medlib"]:
        date = notebook["metadata"]["medlib"]["date"]
        buttons.append(
            "<small>The figures and numbers on this page are of an older version of "
            f"the chapter, run on {date}; a new run is due.</small>"
        )
    return "\n".join(['<div class="start">', *buttons, "</div>"])


def end(name: str) -> str:
    """Where the chapter leads, and how to cite it. In Markdown."""
    here = plan.chapters()[name]

    def named(files: list[str]) -> str:
        return ", ".join(f"[{plan.chapters()[f]['title']}]({f}.ipynb)" for f in files)

    on = plan.leads_to(name)
    related = [f for f in here["related"] if f not in (*on, *here["needs"])]
    lines = [f"**Builds on** {named(here['needs']) or 'calculus and Python'}."]
    lines += [f"**Leads to** {named(on)}."] if on else []
    lines += [f"**See also** {named(related)}."] if related else []
    cite = (
        f"**Cite this chapter.** “{here['title']}”, in *Deep Learning for Medical "
        f"Images: a review, tested claim by claim*, version {first.version()}, "
        f"<{colab.page(f'chapters/{name}.html')}>."
    )
    return f"{' '.join(lines)}\n\n{cite}"


def label_fold(cell: dict) -> None:
    """A folded cell says what is in it."""
    line = "".join(cell["source"]).partition("\n")[0]
    shown = any(figure(output) for output in cell.get("outputs", []))
    label = "How this figure was made" if shown else "The code of this step"
    if line.startswith(TITLE):
        label = line.removeprefix(TITLE)
    prompt = {"code_prompt_show": label, "code_prompt_hide": label}
    cell["metadata"].setdefault("mystnb", {}).update(prompt)

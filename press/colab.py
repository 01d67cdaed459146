"""Readers' notebooks: colab/NN_slug.ipynb, made from the stored ones.

Colab, Kaggle and GitHub show plain Markdown. So here roles become words and links,
solutions are folded, equations and figures carry the numbers that they have in the
book. The code is the stored notebooks'; outputs are left out: they would double the
repository, and a reader makes new ones.
"""

import copy
import re
from collections import Counter
from functools import cache
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode

from press import first, minutes, text
from press.check import figure
from press.text import ChapterError, stored, tags

# `{name}`words``, or a span of code, which is left as it is
ROLE = re.compile(
    r"(?P<code>(`+)(?!`).+?(?<!`)\2(?!`))|\{(?P<name>[\w:-]+)\}`(?P<words>[^`]+)`"
)
TARGET = re.compile(r"(?P<words>.+?)\s*<(?P<target>[^<>]+)>", re.DOTALL)
OPTION = re.compile(r":([\w-]+):\s*(.*)")
ADMONITIONS = (
    "admonition", "attention", "caution", "danger", "error", "hint", "important",
    "note", "seealso", "tip", "warning",
)  # fmt: skip
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}  # Colab; VS Code


def folder() -> Path:
    return text.FOLDER.parent / "colab"


def write(name: str, chapter: NotebookNode) -> Path:
    """Make the readers' notebook of a stored chapter, whole or not at all."""
    target = folder() / f"{name}.ipynb"
    target.parent.mkdir(exist_ok=True)
    text.write(made(name, chapter), target)
    return target


def made(name: str, chapter: NotebookNode) -> NotebookNode:
    """The readers' notebook. ChapterError where the text holds what Colab cannot show
    and this module does not know.
    """
    chapter = copy.deepcopy(chapter)
    words = Words(name, chapter)
    cells = [nbformat.v4.new_markdown_cell(_on_top(name), id="on-top")]
    for cell in chapter.cells:
        cells.append(cell)
        marks = tags(cell)
        cell.metadata = NotebookNode({"tags": marks} if marks else {})
        if cell.cell_type == "markdown":
            cell.source = words.render(cell.source)
            continue
        if "hide-input" in marks:
            cell.metadata |= FOLDED
        if captions := words.captions(cell):
            below = nbformat.v4.new_markdown_cell(captions, id=f"{cell.id}-caption")
            cells.append(below)
        cell.outputs, cell.execution_count = [], None
    chapter.cells = cells
    chapter.metadata = NotebookNode(
        {
            "colab": {"provenance": [], "toc_visible": True},
            "kernelspec": chapter.metadata.kernelspec,
            "language_info": {"name": "python"},
        }
    )
    return chapter


# ---------------------------------------------------------------- addresses


def file(name: str) -> str:
    """A readers' notebook on GitHub."""
    return f"{first.address()}/blob/{first.branch()}/colab/{name}.ipynb"


def launchers(name: str) -> dict[str, str]:
    """{who runs notebooks: where it opens a readers' notebook}."""
    there = file(name)
    kaggle = f"https://kaggle.com/kernels/welcome?src={there}"
    return {"Colab": first.on_colab(there), "Kaggle": kaggle}


def page(path: str) -> str:
    """A page of the book on GitHub Pages, such as chapters/02_lenet.html#fig-xray."""
    return f"{first.pages(first.address())}/{path}"


def _on_top(name: str) -> str:
    run = " or ".join(f"[{where}]({link})" for where, link in launchers(name).items())
    takes = f" It takes {took}." if (took := minutes.words(name)) else ""
    return (
        f"*This copy of the chapter is made to be run, here or on {run}.{takes} On "
        "Colab, choose a graphics card first (Runtime → Change runtime type → T4); on "
        "Kaggle, turn the internet on (Settings). Then run the cells from the top: the "
        "first fetches the book, in about a minute. The published figures and numbers "
        f"are on [the book's page]({page(f'chapters/{name}.html')}); how to keep "
        "trainings in your Drive says "
        f"[How to use this book]({page('book/how_to_use.html')}).*"
    )


# ---------------------------------------------------------------- what words refer to


@cache
def bibliography() -> dict[str, tuple[str, str]]:
    """{key: ("Yang et al., 2023", its address)}."""
    from pybtex.database import parse_file

    found = {}
    path = text.ROOT / "book" / "references.bib"
    for key, entry in parse_file(str(path)).entries.items():
        names = [
            " ".join(map(str, [*p.rich_prelast_names, *p.rich_last_names]))
            for p in entry.persons["author"]
        ]
        who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        fields = entry.fields
        link = page("book/references.html")
        if "doi" in fields:
            link = f"https://doi.org/{fields['doi']}"
        elif "eprint" in fields:
            link = f"https://arxiv.org/abs/{fields['eprint']}"
        found[key] = f"{who}, {fields['year']}", fields.get("url", link)
    return found


@cache
def glossary() -> dict[str, str]:
    """{term in small letters: its address}, a line of its own without an indent."""
    page_of_terms = (text.ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    inside = page_of_terms.split("{glossary}")[1].split(":::")[0]
    terms = re.findall(r"^\S.*$", inside, re.MULTILINE)
    anchor = {t: "term-" + re.sub(r"[^a-zA-Z0-9._]+", "-", t).strip("-") for t in terms}
    return {t.lower(): page(f"book/glossary.html#{anchor[t]}") for t in terms}


@cache
def numbered() -> set[str]:
    """The chapters that have a number in the book."""
    toc = yaml.safe_load((text.ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [part for part in toc["parts"] if "numbered" in part]
    return {c["file"].split("/")[-1] for part in parts for c in part["chapters"]}


# ---------------------------------------------------------------- one notebook


class Words:
    """Renders the text of one chapter."""

    def __init__(self, name: str, chapter: NotebookNode):
        self.name = name
        self.prefix = f"{int(name[:2])}." if name in numbered() else ""
        self.counts: Counter[str] = Counter()
        self.labels: dict[str, str] = {}  # {label: its number}
        for cell in chapter.cells:
            if cell.cell_type == "code":
                for shown in filter(None, map(figure, cell.outputs)):
                    self._count("figure", shown["name"])
                continue
            for token in _parser().parse(cell.source):
                if token.type == "math_block_label":
                    self._count("equation", token.info)
                found = _directive(token)
                if found and found[0] == "exercise":
                    self._count("exercise", found[2].get("label"))
                if found and found[0] == "math" and "label" in found[2]:
                    self._count("equation", found[2]["label"])
        self.figures = iter(range(1, self.counts["figure"] + 1))

    def _count(self, kind: str, label: str | None) -> None:
        self.counts[kind] += 1
        if label:
            self.labels[label] = f"{self.prefix}{self.counts[kind]}"

    def captions(self, cell: NotebookNode) -> str:
        """What the book prints below a cell's figures. A caption with numbers of the
        run is left to the page: here the run is the reader's.
        """
        lines = []
        for shown in filter(None, map(figure, cell.outputs)):
            name, caption = shown["name"], shown["caption"]
            anchor = f'<a name="{name}"></a>' if name else ""
            told = f" {self.inline(caption)}" if caption in cell.source else ""
            lines.append(f"{anchor}**Fig. {self.prefix}{next(self.figures)}**{told}")
        return "\n\n".join(lines)

    def render(self, source: str) -> str:
        """MyST → the Markdown that Colab and GitHub know."""
        lines, out, at = source.split("\n"), [], 0
        for token in _parser().parse(source):
            if not token.map or token.map[0] < at:
                continue
            start, end = token.map
            if token.type == "math_block_label":
                block = self._equation(token.content.strip(), token.info)
            elif token.type == "myst_target":
                block = f'<a name="{token.content}"></a>'
            elif directive := _directive(token):
                block = self._directive(*directive)
            elif token.type in ("fence", "code_block"):
                block = None  # code, as it stands
            else:
                continue
            out.append(self.inline("\n".join(lines[at:start])))
            indent = re.sub(r"[^ >].*", "", lines[start])  # of a list, a quotation
            kept = lines[start:end]
            out += (
                kept if block is None else [indent + line for line in block.split("\n")]
            )
            at = end
        if at == 0:
            return self.inline(source)
        out.append(self.inline("\n".join(lines[at:])))
        return "\n".join(out).strip("\n")

    # ------------------------------------------------------------ blocks

    def _directive(self, kind: str, argument: str, options: dict, body: str) -> str:
        if kind == "exercise":
            number = self.labels.get(options.get("label", ""), "")
            anchor = f'<a name="{options.get("label")}"></a>'
            return (
                f"{anchor}\n**Exercise {number}** ({argument})\n\n{self.render(body)}"
            )
        if kind == "solution":
            return _folded(
                f"Solution of exercise {self.labels[argument]}", self.render(body)
            )
        if kind == "dropdown" or "dropdown" in options.get("class", ""):
            return _folded(
                self.inline(argument or kind.capitalize()), self.render(body)
            )
        if kind in ADMONITIONS:
            title = self.inline(argument) if kind == "admonition" else kind.capitalize()
            inside = f"**{title}**\n\n{self.render(body)}".split("\n")
            return "\n".join(f"> {line}".rstrip() for line in inside)
        if kind == "math":
            return self._equation(body, options.get("label"))
        if kind in ("code", "code-block"):
            return f"```{argument}\n{body}\n```"
        raise self._unknown(f"the directive {{{kind}}}")

    def _equation(self, formula: str, label: str | None) -> str:
        number = f" \\tag{{{self.labels[label]}}}" if label else ""
        return f"$$\n{formula}{number}\n$$"

    # ------------------------------------------------------------ words

    def inline(self, words: str) -> str:
        if "{{" in words:
            raise self._unknown("a substitution {{…}}")
        return ROLE.sub(
            lambda m: m[0] if m["code"] else self._role(m["name"], m["words"]), words
        )

    def _role(self, kind: str, words: str) -> str:
        told = TARGET.fullmatch(words)
        shown, target = (told["words"], told["target"]) if told else ("", words)
        if kind == "term":
            link = glossary().get(target.lower())
            return f"[{shown or target}]({link})" if link else shown or target
        if kind in ("cite:p", "cite:t"):
            cited = [self._cited(key.strip(), kind) for key in words.split(",")]
            return f"({'; '.join(cited)})" if kind == "cite:p" else ", ".join(cited)
        if kind == "eq":
            return self._to(target, shown or "({})", "equation-")
        if kind == "numref":
            return self._to(target, (shown or "Fig. {}").replace("{number}", "{}"))
        if kind == "ref":
            return self._to(
                target, shown or ("Exercise {}" if target.startswith("ex-") else "{}")
            )
        if kind == "doc":
            return self._doc(shown, target)
        raise self._unknown(f"the role {{{kind}}}")

    def _cited(self, key: str, kind: str) -> str:
        if key not in bibliography():
            raise self._unknown(f"the reference {key}")
        words, link = bibliography()[key]
        if kind == "cite:t":
            who, year = words.rsplit(", ", 1)
            words = f"{who} ({year})"
        return f"[{words}]({link})"

    def _to(self, label: str, shown: str, before: str = "") -> str:
        """A number, with a link where it stands: an equation here has no anchor."""
        if label in self.labels:
            words = shown.format(self.labels[label])
            return words if before else f"[{words}](#{label})"
        name, number = self._elsewhere(label)
        return (
            f"[{shown.format(number)}]({page(f'chapters/{name}.html#{before}{label}')})"
        )

    def _elsewhere(self, label: str) -> tuple[str, str]:
        for source in text.sources():
            if source.stem != self.name and label in source.read_text(encoding="utf-8"):
                labels = Words(source.stem, stored(source)).labels
                if label in labels:
                    return source.stem, labels[label]
        raise self._unknown(f"the label {label}")

    def _doc(self, shown: str, target: str) -> str:
        folder, name = target.split("/")[-2:] if "/" in target else ("chapters", target)
        if folder in ("..", ".", "chapters"):
            return (
                f"[{shown or _title(stored(text.FOLDER / f'{name}.py'))}]({file(name)})"
            )
        first = (
            (text.ROOT / folder / f"{name}.md")
            .read_text(encoding="utf-8")
            .splitlines()[0]
        )
        return f"[{shown or first.lstrip('# ')}]({page(f'{folder}/{name}.html')})"

    def _unknown(self, what: str) -> ChapterError:
        return ChapterError(
            f"{self.name}: {what} has no plain form for Colab; press/colab.py says "
            "which have one"
        )


def _title(chapter: NotebookNode) -> str:
    return chapter.cells[0].source.splitlines()[0].lstrip("# ")


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


# ---------------------------------------------------------------- grammar


@cache
def _parser():
    """The grammar of MyST's blocks."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.colon_fence import colon_fence_plugin
    from mdit_py_plugins.dollarmath import dollarmath_plugin
    from mdit_py_plugins.myst_blocks import myst_block_plugin

    made = MarkdownIt("commonmark").use(colon_fence_plugin).use(myst_block_plugin)
    return made.use(dollarmath_plugin, double_inline=False)


def _directive(token) -> tuple[str, str, dict[str, str], str] | None:
    """(name, argument, options, body) of a fence that is a directive."""
    if token.type not in ("fence", "colon_fence"):
        return None
    begun = re.fullmatch(r"\{([\w:-]+)\}\s*(.*)", token.info.strip())
    if not begun:
        return None
    lines, options = token.content.rstrip("\n").split("\n"), {}
    while lines and (option := OPTION.fullmatch(lines[0].strip())):
        options[option[1]] = option[2]
        lines.pop(0)
    return begun[1], begun[2].strip(), options, "\n".join(lines).strip("\n")

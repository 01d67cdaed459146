"""chapters/NN_slug.py, the text that people edit, as a notebook without outputs."""

import ast
import hashlib
import os
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "chapters"


class ChapterError(RuntimeError):
    """A chapter could not be run or stored; the message says why."""


def sources(chosen: str | None = None) -> list[Path]:
    """The chapters' texts in order, or those with this number or name."""
    everything = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
    if chosen is None:
        return everything
    found = [p for p in everything if chosen in (p.stem, p.stem.split("_")[0])]
    if not found:
        raise ChapterError(
            f"no chapter {chosen!r}; expected one of "
            f"{', '.join(p.stem for p in everything)}"
        )
    return found


def read(source: Path) -> NotebookNode:
    """The chapter's text as a notebook without outputs, with the same ids each time."""
    import jupytext

    notebook = jupytext.read(source, fmt="py:percent")
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"{source.stem[:2]}-{i:03}"
    return notebook


def stored(source: Path) -> NotebookNode:
    """The executed notebook beside the text."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        raise ChapterError(f"{source.name} was never run; run it")
    return nbformat.read(target, as_version=4)


def write(notebook: NotebookNode, target: Path) -> None:
    """Whole or not at all."""
    partial = target.with_suffix(".part")
    words = nbformat.writes(notebook).rstrip("\n") + "\n"
    partial.write_text(words, encoding="utf-8", newline="\n")
    os.replace(partial, target)


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def canonical(node) -> str:
    """A syntax tree as text: the same in each version of Python, where ast.dump is not,
    and without comments and line breaks, which no tree holds.
    """
    if isinstance(node, list):
        return f"[{', '.join(map(canonical, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [
        f"{name}={canonical(value)}"
        for name, value in ast.iter_fields(node)
        if value not in (None, []) or isinstance(node, ast.Constant)
    ]
    return f"{type(node).__name__}({', '.join(fields)})"


def program(notebook: NotebookNode) -> list[str]:
    """The code that runs: all but the first cell, which brings medlib (press.first)."""
    return [c.source for c in code_cells(notebook) if "colab" not in tags(c)]


def code_hash(notebook: NotebookNode) -> str:
    """Of the code that runs, without its comments: they are prose, and cost no run."""
    return digest("\n".join(canonical(ast.parse(code)) for code in program(notebook)))

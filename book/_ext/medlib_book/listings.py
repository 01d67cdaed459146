"""Listings of medlib on a chapter's page, as the files are today: a comment that was
reworded since the chapter ran costs no run.
"""

import ast
from functools import cache
from pathlib import Path

from press import text
from press.graph import Graph, Module


@cache
def medlib() -> Graph:
    return Graph(text.ROOT, "medlib")


def renew(name: str, notebook: dict) -> None:
    """In a chapter's notebook let each `plots.show_source(…)` show what medlib holds
    now.
    """
    code = "\n".join(text.program(text.read(text.FOLDER / f"{name}.py")))
    chapter = Module(f"chapters.{name}", code)
    medlib().add(chapter)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            shown = [output(path) for path in asked("".join(cell["source"]), chapter)]
            others = [o for o in cell["outputs"] if not shown or not is_listing(o)]
            cell["outputs"] = others + shown  # a cell shows its listings last


def asked(code: str, chapter: Module) -> list[str]:
    """The paths that a cell hands to `show_source`, in order."""
    found = []
    for node in ast.walk(ast.parse(code) if "show_source(" in code else ast.Module([])):
        match node:
            case ast.Call(ast.Attribute(attr="show_source"), args=things):
                found += [f"{chapter.name}.{ast.unparse(thing)}" for thing in things]
    return found


def is_listing(output: dict) -> bool:
    words = "".join(output.get("data", {}).get("text/markdown", ""))
    return words.startswith("`medlib/") and "```python" in words


def output(path: str) -> dict:
    """As `plots.show_source` shows the definition that `path` leads to."""
    ((module, name),) = medlib().resolve(path)
    file = Path(*module.split(".")).with_suffix(".py")
    node = medlib().modules[module].definitions[name][0]
    first = min([node, *getattr(node, "decorator_list", [])], key=lambda n: n.lineno)
    lines = (text.ROOT / file).read_text(encoding="utf-8").splitlines()
    source = "\n".join(lines[first.lineno - 1 : node.end_lineno])
    words = f"`{file.as_posix()}`\n\n```python\n{source}\n```"
    data = {"text/markdown": words, "text/plain": words}
    return {"output_type": "display_data", "data": data, "metadata": {}}

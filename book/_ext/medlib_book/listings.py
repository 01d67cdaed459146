"""Listings of medlib on a chapter's page, as the files are today: a comment that was
reworded since the chapter ran costs no run.
"""

import ast
import json
from functools import cache
from pathlib import Path

from press import text
from press.graph import Graph, Module


@cache
def medlib() -> Graph:
    return Graph(text.ROOT, "medlib")


def renew(name: str, notebook: str) -> str:
    """The JSON of a chapter's notebook, in which each `plots.show_source(…)` shows what
    medlib holds now.
    """
    stored = json.loads(notebook)
    code = "\n".join(text.program(text.read(text.FOLDER / f"{name}.py")))
    chapter = Module(f"chapters.{name}", code)
    medlib().add(chapter)
    for cell in stored["cells"]:
        code = "".join(cell["source"]) if cell["cell_type"] == "code" else ""
        if shown := listings(code, chapter):
            cell["outputs"] = shown
    return json.dumps(stored)


def listings(code: str, chapter: Module) -> list[dict]:
    """The outputs of a cell that does nothing but show sources; [] of any other."""
    if "show_source(" not in code:
        return []
    outputs = []
    for statement in ast.parse(code).body:
        match statement:
            case ast.Expr(ast.Call(ast.Attribute(attr="show_source"), args=shown)):
                for thing in shown:
                    outputs.append(output(f"{chapter.name}.{ast.unparse(thing)}"))
            case _:
                return []
    return outputs


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

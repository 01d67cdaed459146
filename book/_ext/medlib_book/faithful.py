"""Each network and each attention module against its paper: the docstrings of medlib,
whose numbers the tests check.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def documented(path: Path, *, classes: bool) -> list[tuple[str, str]]:
    """(name, docstring) of a file, or of its public classes that name a paper."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not classes:
        return [(path.stem, ast.get_docstring(tree))]
    nodes = [
        n
        for n in tree.body
        if isinstance(n, ast.ClassDef) and not n.name.startswith("_")
    ]
    return [
        (n.name, text) for n in nodes if "Paper" in (text := ast.get_docstring(n) or "")
    ]


def prose(text: str) -> str:
    """A docstring as Markdown: a paragraph each, nothing in it taken for markup but
    `code`.
    """
    blocks = [" ".join(block.split()) for block in text.split("\n\n")]
    return "\n\n".join(re.sub(r"([*_$\[\]<>{}|#])", r"\\\1", block) for block in blocks)


def entry(name: str, text: str, path: Path) -> str:
    head, _, rest = text.partition("\n")
    idea = head.split(":", 1)[1].strip() if ":" in head else head
    title = head.split(":", 1)[0] if ":" in head else name
    where = path.relative_to(ROOT).as_posix()
    first = prose(idea[:1].upper() + idea[1:])
    return f"### {title}\n\n{first} `{where}`\n\n{prose(rest.strip())}"


def page() -> str:
    # a name with an underscore: what several papers share
    models = sorted((ROOT / "medlib" / "models").glob("[!_]*.py"))
    families = sorted((ROOT / "medlib" / "attention").glob("[!_]*.py"))
    lines = ["## Networks"]
    lines += [
        entry(name, text, path)
        for path in models
        for name, text in documented(path, classes=False)
    ]
    lines += ["## Attention modules"]
    for path in families:
        for name, text in documented(path, classes=True):
            lines.append(entry(name, f"{name}: {text}", path))
    return "\n\n".join(lines)

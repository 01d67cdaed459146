"""What a chapter uses, and what of it changed since the chapter ran.

A chapter uses each definition of medlib that its code can reach, the claims that it
printed and the entries of its data sets: a change of one of these makes it stale, and
so does another minor version of torch in requirements.lock. Nothing else does: no
comment, no docstring, no type hint, no definition beside the one that is used.
"""

import json
import re
import tomllib
from functools import cache
from pathlib import Path

from medlib import paths
from press import text
from press.card import registry
from press.graph import Graph, Module, code_of

IMPORT = "<import>"  # what a module does when it is imported, apart from defining


@cache
def medlib() -> Graph:
    return Graph(text.ROOT, "medlib")


def uses(source: Path, graph: Graph | None = None) -> dict[str, str]:
    """{"medlib.models.vnet.VNet": hash, …} of what a chapter's code can reach."""
    graph = graph or medlib()
    code = "\n".join(text.program(text.read(source)))
    chapter = Module(f"chapters.{source.stem}", code)
    graph.add(chapter)
    reached, loaded = graph.closure(chapter)
    found = {}
    for module, name in reached:
        if module != chapter.name:
            found[f"{module}.{name}"] = graph.hash(module, name)
    for module in loaded - {chapter.name}:
        if effects := graph.modules[module].effects:
            found[f"{module}.{IMPORT}"] = code_of(effects)
    return dict(sorted(found.items()))


def claim_hashes(ids: list[str]) -> dict[str, str]:
    """{id: hash of its entry in book/claims.toml}."""
    listed = tomllib.loads(paths.resource("claims.toml").read_text(encoding="utf-8"))
    known = {entry["id"]: _entry_hash(entry) for entry in listed["claim"]}
    return {id: known[id] for id in ids if id in known}


def card_hashes(names) -> dict[str, str]:
    """{data set: hash of its entry in data/datasets.toml}."""
    known = registry()
    return {name: _entry_hash(known[name]) for name in names if name in known}


def _entry_hash(entry: dict) -> str:
    return text.digest(json.dumps(entry, sort_keys=True, default=str))


def locked_torch() -> str:
    """The version of torch in requirements.lock."""
    lock = (text.ROOT / "requirements.lock").read_text(encoding="utf-8")
    return re.findall(r"^torch==(\S+)", lock, re.MULTILINE)[0]


def changes(stamp: dict, source: Path) -> list[str]:
    """The names of what a chapter uses that changed since the stamp was made."""
    if "uses" not in stamp:
        return ["how chapters are stamped"]
    then = stamp["uses"] | stamp["claims"] | stamp["cards"]
    now = uses(source) | claim_hashes(stamp["claims"]) | card_hashes(stamp["cards"])
    found = [n for n in sorted(then.keys() | now.keys()) if then.get(n) != now.get(n)]
    ours = locked_torch()
    if ours.split(".")[:2] != stamp["torch"].split(".")[:2]:
        found.append(f"torch ({stamp['torch']} then, {ours} now)")
    return found

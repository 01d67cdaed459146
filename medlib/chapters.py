"""Run the chapters: chapters/NN_slug.py (the text that people edit) →
chapters/NN_slug.ipynb (executed).

    python -m medlib.chapters run        all that changed or is stale
    python -m medlib.chapters run 02     this one, whatever its state
    python -m medlib.chapters text 02    take over changed prose; its code must be as it ran
    python -m medlib.chapters again 02   run it once more, store nothing, and name the cells that came out otherwise
    python -m medlib.chapters status     one line a chapter

A stamp in the notebook's metadata says how its outputs were made; `faults` holds a
notebook against it.
"""

import argparse
import ast
import ctypes.util
import datetime
import hashlib
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "chapters"
RUNS = ROOT / "data" / "cache" / "runs"  # trainings of chapters that are being run
LIMIT = 1_500_000  # bytes a notebook
# Run in the chapter's kernel after its last cell; leaves no trace in the notebook.
PROBE = """
import json, os, platform, resource, sys
import torch
from medlib import data, train
print(json.dumps(dict(
    profile=train.profile(), device=str(train.device()), precision=train.precision(),
    threads=torch.get_num_threads(), torch=torch.__version__, python=platform.python_version(),
    allocator="jemalloc" if "jemalloc" in os.environ.get("LD_PRELOAD", "") else "default",
    cpu_seconds=round(sum(sum(resource.getrusage(w)[:2]) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))),
    peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)),
    fitted=train.fitted, data=data.loaded, modules=sorted(m for m in sys.modules if m.split(".")[0] == "medlib"),
)))
"""


class ChapterError(RuntimeError):
    """A chapter could not be run or stored; the message says why."""


def sources(number: str | None = None) -> list[Path]:
    """The chapters' texts in order, or the one with this number."""
    found = sorted(FOLDER.glob(f"{number or '[0-9][0-9]'}_*.py"))
    if number and not found:
        raise ChapterError(
            f"no chapter {number!r}; there are {', '.join(p.stem for p in sources())}"
        )
    return found


def read(source: Path) -> nbformat.NotebookNode:
    """The chapter's text as a notebook without outputs, with the same ids each time."""
    import jupytext

    notebook = jupytext.read(source, fmt="py:percent")
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"{source.stem[:2]}-{i:03}"
    return notebook


def _hash(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[
        :16
    ]


def code_hash(notebook) -> str:
    """Of the code that ran: all but the cell for Colab, which does nothing elsewhere."""
    ran = [
        c
        for c in notebook.cells
        if c.cell_type == "code" and "colab" not in c.metadata.get("tags", [])
    ]
    return _hash("\n\x00".join(c.source for c in ran))


def module_hashes() -> dict[str, str]:
    """{"medlib.data": hash, …} of the package as it is now."""
    paths = sorted((ROOT / "medlib").rglob("*.py"))
    names = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for p in paths
    ]
    return {name: _hash(p.read_bytes()) for name, p in zip(names, paths, strict=True)}


def card(stamp: dict) -> str:
    """What a reader wants to know before starting, from the stamp of the stored run."""
    from medlib.fetch import REGISTRY

    sets = "; ".join(
        f"{REGISTRY[name]['title']} ({REGISTRY[name]['licence']})"
        for name in sorted(stamp["data"])
    )
    minutes = max(1, round(stamp["cpu_seconds"] / 60))
    trained = ""
    if made := stamp.get("trained"):
        trained = (
            f" · {made['trainings']} training{'s' * (made['trainings'] > 1)} of "
            "networks with "
            f"{_span(made['parameters'])} parameters, "
            f"seed{'s' * (len(set(made['seeds'])) > 1)} {_span(made['seeds'])}"
        )
    part = (
        " (of its last part: it was broken off and went on)"
        if stamp.get("resumed")
        else ""
    )
    return (
        f"> **This chapter's run.** About {minutes} "
        f"CPU-minute{'s' if minutes > 1 else ''}{part} and "
        f"{stamp['peak_mb'] / 1024:.1f} GB of memory{trained} · data: "
        f"{sets or 'simulated or shipped with packages'} · "
        f"profile `{stamp['profile']}` on {stamp['device']}, {stamp['threads']} "
        "thread(s), forward pass in "
        f"{'bf16' if stamp['precision'] == 'bf16' else 'fp32'}, torch "
        f"{stamp['torch']} · run on {stamp['date']}"
    )


def _span(ends: list[int]) -> str:
    low, high = ends
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def run(source: Path) -> Path:
    """Execute one chapter in a fresh kernel and store it; nothing is stored where a
    cell fails.
    """
    return _store(execute(source), source)


def again(source: Path) -> list[str]:
    """Execute a chapter once more, store nothing, and name the cells whose text or
    tables are not the stored ones. Cells with the tag `timing` are left out: they hold
    times.
    """
    both = _stored(source), execute(source)
    pairs = zip(
        *([c for c in notebook.cells if c.cell_type == "code"] for notebook in both),
        strict=True,
    )
    return [
        f"{source.stem}, cell [{old.execution_count}]: "
        f"{old.source.strip().splitlines()[0]}"
        for old, new in pairs
        if "timing" not in old.metadata.get("tags", []) and _words(old) != _words(new)
    ]


def _words(cell) -> list[str]:
    """What a cell says in text; pictures may differ by a pixel."""
    data = [o.get("data", {"text/plain": o.get("text", "")}) for o in cell.outputs]
    return [d.get("text/markdown", d.get("text/plain", "")) for d in data]


def execute(source: Path) -> nbformat.NotebookNode:
    """One chapter, executed in a fresh kernel, with its stamp.

    Finished trainings are kept until it is through, so that a run that was killed goes
    on after the last of them.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from tqdm import tqdm

    notebook = read(source)
    environment = os.environ | {"TQDM_DISABLE": "1", "PYTHONPATH": str(ROOT)}
    environment.setdefault("OMP_NUM_THREADS", "1")
    environment |= allocator()
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", record_timing=False,
        resources={"metadata": {"path": str(FOLDER)}},
    )  # fmt: skip
    started = time.perf_counter()
    before = module_hashes()
    kept, resumed = _trainings(source, code_hash(notebook), before)
    environment["MEDLIB_RESUME"] = str(kept)
    with client.setup_kernel(env=environment):
        for i, cell in enumerate(tqdm(notebook.cells, desc=source.stem, unit="cell")):
            try:
                client.execute_cell(cell, i)
            except CellExecutionError as error:
                if resumed and "is of another run" in str(
                    error
                ):  # as where steps are counted by the clock
                    shutil.rmtree(kept)
                    raise ChapterError(
                        f"{source.name} was broken off, and this run differs from "
                        "that one before it comes to the "
                        "trainings that were kept; they are thrown away, so run it "
                        "once more"
                    ) from None
                raise ChapterError(
                    f"{source.name}, cell {i}, failed; nothing was stored.\n{error}"
                ) from None
            except DeadKernelError:
                raise ChapterError(
                    f"{source.name}, cell {i}: the kernel died, perhaps for want of "
                    "memory; nothing was stored"
                ) from None
        notebook.cells.append(nbformat.v4.new_code_cell(PROBE))
        client.execute_cell(
            notebook.cells[-1], len(notebook.cells) - 1, store_history=False
        )
        probe = notebook.cells.pop()
    stamp = json.loads(next(o.text for o in probe.outputs if o.get("name") == "stdout"))
    shutil.rmtree(kept)
    stamp |= {"resumed": True} if resumed else {}
    if fitted := stamp.pop("fitted"):
        parameters, seeds = (
            [min(column), max(column)] for column in zip(*fitted, strict=True)
        )
        stamp["trained"] = {
            "trainings": len(fitted),
            "parameters": parameters,
            "seeds": seeds,
        }
    stamp |= {
        "code": code_hash(notebook),
        "medlib": {name: before[name] for name in stamp.pop("modules")},
        "seconds": round(time.perf_counter() - started),
        "date": datetime.date.today().isoformat(),
    }
    for cell in notebook.cells:
        _drop_setter_value(cell)
        _place_figures(cell)
    notebook.metadata["medlib"] = stamp
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    return notebook


def allocator() -> dict[str, str]:
    """The variables that let a process keep freed memory, where jemalloc is installed:
    on virtual machines page faults cost more than arithmetic. Not for ever, or a
    chapter that trains networks of many sizes grows to many times what it needs. Pages
    of 2 MB fault an eighth as often.
    """
    jemalloc = ctypes.util.find_library("jemalloc")
    settings = "dirty_decay_ms:20000,muzzy_decay_ms:20000,thp:always"
    return {"LD_PRELOAD": jemalloc, "MALLOC_CONF": settings} if jemalloc else {}


def _trainings(source: Path, code: str, modules: dict[str, str]) -> tuple[Path, bool]:
    """The folder where `fit` keeps a chapter's trainings, and whether a run that was
    cut short left any. What is left of the same settings but of other code, or of
    another medlib, is thrown away.
    """
    settings = {
        key: value for key, value in os.environ.items() if key.startswith("MEDLIB_")
    }
    mine = f"{source.stem}-{_hash(json.dumps(settings, sort_keys=True))[:8]}"
    folder = RUNS / f"{mine}-{_hash(json.dumps([code, modules], sort_keys=True))}"
    for old in RUNS.glob(f"{mine}-*"):
        if old != folder:
            shutil.rmtree(old)
    folder.mkdir(parents=True, exist_ok=True)
    return folder, any(folder.iterdir())


def _stored(source: Path) -> nbformat.NotebookNode:
    """The stored notebook; refused where it is of other code."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        raise ChapterError(f"{source.name} was never run; run it")
    notebook = nbformat.read(target, as_version=4)
    if notebook.metadata["medlib"]["code"] != code_hash(read(source)):
        raise ChapterError(
            f"{source.name}: its code changed, not only its prose; run it"
        )
    return notebook


def retext(source: Path) -> Path:
    """Put changed prose beside the stored outputs, without running; refused where code
    changed too.
    """
    text, notebook = read(source), _stored(source)
    ran = iter([c for c in notebook.cells if c.cell_type == "code"])
    notebook.cells = [
        next(ran) if cell.cell_type == "code" else cell for cell in text.cells
    ]
    for cell, now in zip(notebook.cells, text.cells, strict=True):
        cell["id"], cell["source"] = now["id"], now["source"]
    return _store(notebook, source)


def _store(notebook, source: Path) -> Path:
    """Write an executed notebook with its card, whole or not at all; refused where it
    has faults.
    """
    text = card(notebook.metadata["medlib"])
    notebook.cells.insert(
        1, nbformat.v4.new_markdown_cell(text, id="card", metadata={"tags": ["card"]})
    )
    target = source.with_suffix(".ipynb")
    if problems := faults(notebook, source):
        raise ChapterError(f"{source.name} is not stored:\n  " + "\n  ".join(problems))
    partial = target.with_suffix(".part")
    partial.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    os.replace(partial, target)
    return target


def _drop_setter_value(cell) -> None:
    """Drop what a cell shows only because it ends in matplotlib's axis.set(…),
    .legend(…) or .axis(…).
    """
    if cell.cell_type != "code" or not cell.source.strip():
        return
    last = ast.parse(cell.source).body[-1]
    match last:
        case ast.Expr(ast.Call(ast.Attribute(attr="set" | "legend" | "axis"))):
            cell.outputs = [
                o for o in cell.outputs if o.output_type != "execute_result"
            ]


def _place_figures(cell) -> None:
    """Hand a figure's alt text, caption and label to the book's renderer, which reads
    cell metadata.
    """
    for output in cell.get("outputs", []):
        if figure := output.get("metadata", {}).get("medlib", {}).get("figure"):
            cell.metadata["mystnb"] = {
                "image": {"alt": figure["alt"]},
                "figure": {"caption": figure["caption"]}
                | ({"name": figure["name"]} if figure["name"] else {}),
            }


def faults(notebook, source: Path) -> list[str]:
    """Why this executed notebook may not be published; empty where all is well."""
    found = []
    stamp = notebook.metadata.get("medlib")
    if not stamp:
        return ["no stamp: it was not made by `make run`"]
    stored = [c for c in notebook.cells if "card" not in c.metadata.get("tags", [])]
    text = read(source)
    if [(c.cell_type, c.source) for c in stored] != [
        (c.cell_type, c.source) for c in text.cells
    ]:
        found.append(
            f"the text of {source.name} changed since it ran: `make run "
            f"CH={source.stem[:2]}`"
        )
    if stamp["code"] != code_hash(text):
        found.append("its stamp is of other code than the text beside it")
    if [c.source for c in notebook.cells if "card" in c.metadata.get("tags", [])] != [
        card(stamp)
    ]:
        found.append("its card does not say what its stamp says")
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    if [c.execution_count for c in code] != list(range(1, len(code) + 1)):
        found.append("execution counts are not 1 … n: not one clean run")
    outputs = [o for c in code for o in c.outputs]
    found += [
        f"an error: {o.ename}: {o.evalue}" for o in outputs if o.output_type == "error"
    ]
    found += [
        f"text on stderr: {o.text[:200]}" for o in outputs if o.get("name") == "stderr"
    ]
    if any(
        "application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in outputs
    ):
        found.append("a widget, such as a progress bar, in an output")
    plain = json.dumps(
        [{k: v for k, v in o.items() if k != "metadata"} for o in outputs]
    )
    if path := re.search(
        r"(?<![\w.])(/(work|home|root|tmp|Users|content|usr)/[\w./-]*|[A-Z]:\\\\)",
        plain,
    ):
        found.append(f"an absolute path in an output: {path[0]}")
    if " at 0x" in plain:
        found.append(
            "an object's address in an output: its cell ends in a value that nobody "
            "wants to read"
        )
    if standing_in := [
        name for name, origin in stamp["data"].items() if origin == "stand-in"
    ]:
        found.append(
            f"it ran on stand-in data for {', '.join(standing_in)}: see data/README.md"
        )
    if stamp["profile"] == "smoke":
        found.append("it ran in the smoke profile, whose numbers mean nothing")
    if any(
        "image/png" in o.get("data", {})
        and "figure" not in o.get("metadata", {}).get("medlib", {})
        for o in outputs
    ):
        found.append("a picture without alt text and caption: use medlib.plots.show")
    for c in code:
        labels = [
            o.metadata["medlib"]["figure"]["name"]
            for o in c.outputs
            if o.get("metadata", {}).get("medlib", {}).get("figure")
        ]
        if any(labels) and len(c.outputs) > 1:
            found.append(
                f"the figure {labels[0]} shares its cell with other outputs, which "
                "would get its label too"
            )
    if len(nbformat.writes(notebook)) > LIMIT:
        found.append(
            f"{len(nbformat.writes(notebook)) / 1e6:.1f} MB; the rule: at most "
            f"{LIMIT / 1e6} MB"
        )
    return found


def state(source: Path) -> tuple[str, list[str]]:
    """ "fresh", "stale" (only medlib changed since), "faulty" or "never run", and why."""
    target = source.with_suffix(".ipynb")
    if not target.exists():
        return "never run", []
    notebook = nbformat.read(target, as_version=4)
    if problems := faults(notebook, source):
        return "faulty", problems
    now = module_hashes()
    ran = notebook.metadata["medlib"]["medlib"].items()
    # Not the package's own file: it holds a page of contents and imports nothing by
    # itself.
    moved = [name for name, then in ran if name != "medlib" and now.get(name) != then]
    return ("stale", [f"changed since: {', '.join(moved)}"]) if moved else ("fresh", [])


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m medlib.chapters", description=__doc__.split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser(
        "run", help="execute chapters and store them with their outputs"
    )
    runner.add_argument(
        "chapter", nargs="?", help="two digits; by default all that changed or is stale"
    )
    writer = commands.add_parser("text", help="take over changed prose without running")
    writer.add_argument("chapter", help="two digits")
    repeater = commands.add_parser(
        "again", help="run a chapter once more and compare it with what is stored"
    )
    repeater.add_argument("chapter", help="two digits")
    commands.add_parser(
        "status", help="say which chapters are fresh, stale, faulty or never run"
    )
    options = parser.parse_args(arguments)
    try:
        if options.command == "status":
            states = [(path, *state(path)) for path in sources()]
            for path, name, why in states:
                print(f"{path.stem:24} {name:10} {'; '.join(why)}")
            stale = sum(name == "stale" for _, name, _ in states)
            print(f"{len(states)} chapters, {stale} stale")
            return 0
        chosen = (
            sources(options.chapter)
            if options.chapter
            else [p for p in sources() if state(p)[0] != "fresh"]
        )
        if options.command == "again":
            found = [line for path in chosen for line in again(path)]
            print("\n".join(found) or "the same text and tables")
            return int(bool(found))
        store = retext if options.command == "text" else run
        for path in chosen:
            print(f"stored {store(path).relative_to(ROOT)}")
        print(f"{len(chosen)} chapter(s) stored")
        return 0
    except ChapterError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

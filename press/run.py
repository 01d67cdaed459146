"""Run the chapters: chapters/NN_slug.py → chapters/NN_slug.ipynb (executed).

A chapter is executed in a fresh kernel, several of them side by side where asked. What
a run finished training stays in the store (MEDLIB_STORE), so that a run that was broken
off, or one after a change of a figure, trains nothing twice.
"""

import ast
import asyncio
import ctypes.util
import datetime
import difflib
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import nbformat
from nbformat import NotebookNode

from medlib import paths
from press import colab, first, stale, text
from press.card import card
from press.check import faults, figure
from press.text import ChapterError, code_cells, code_hash, read, stored, tags
from press.waiting import commit_of, strike, waiting

# Run in the kernel before the first cell and after the last.
BEGIN = "from press.stamp import begin; begin(); del begin"
FINISH = "from press.stamp import finish; finish()"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_alone = Lock()  # one thread at a time writes the list of waiting chapters


def environment() -> dict[str, str]:
    """The variables of a chapter's kernel; those that are set already win."""
    defaults = {
        "MEDLIB_PROFILE": "full",  # what is published
        "MEDLIB_STORE": str(paths.cache() / "store"),
        "OMP_NUM_THREADS": "1",
    }
    ours = {"TQDM_DISABLE": "1", "PYTHONPATH": str(text.ROOT)}
    return defaults | os.environ | ours | allocator()


def allocator() -> dict[str, str]:
    """The variables that let a process keep freed memory, where jemalloc is installed:
    on virtual machines page faults cost more than arithmetic. Not for ever, or a
    chapter that trains networks of many sizes grows to many times what it needs. Pages
    of 2 MB fault an eighth as often.
    """
    jemalloc = ctypes.util.find_library("jemalloc")
    settings = "dirty_decay_ms:20000,muzzy_decay_ms:20000,thp:always"
    return {"LD_PRELOAD": jemalloc, "MALLOC_CONF": settings} if jemalloc else {}


# ---------------------------------------------------------------- one chapter


def execute(source: Path, tick: Callable[[], object] = lambda: None) -> NotebookNode:
    """One chapter, executed in a fresh kernel, with its stamp; `tick` is called after
    each cell. ChapterError where a cell fails or the kernel dies.
    """
    notebook = read(source)
    uses = stale.uses(source)  # as they are now: files may change while it runs
    started = time.perf_counter()
    stamp = asyncio.run(in_a_kernel(notebook, source.name, tick))
    stamp["code"] = code_hash(notebook)
    stamp["uses"] = uses
    stamp["claims"] = stale.claim_hashes(stamp["claims"])
    stamp["cards"] = stale.card_hashes(stamp["data"])
    stamp["seconds"] = round(time.perf_counter() - started)
    stamp["date"] = datetime.date.today().isoformat()
    for cell in code_cells(notebook):
        _drop_setter_value(cell)
        _place_figures(cell)
    notebook.metadata["medlib"] = stamp
    notebook.metadata["kernelspec"] = KERNEL
    return notebook


async def in_a_kernel(
    notebook: NotebookNode,
    name: str,
    tick: Callable[[], object] = lambda: None,
    *,
    ends: tuple[str, str] = (BEGIN, FINISH),
    variables: dict[str, str] | None = None,
    failing: bool = False,
) -> dict:
    """Put outputs into all cells, and return what the kernel says at its end: its part
    of the stamp.

    ends       what is executed before the first cell and after the last; the latter
               prints JSON
    variables  of the environment, besides those of every chapter
    failing    go on after a cell that fails; its error is in its outputs
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", record_timing=False,
        allow_errors=failing, resources={"metadata": {"path": str(text.FOLDER)}},
    )  # fmt: skip
    async with client.async_setup_kernel(env=environment() | (variables or {})):
        await _aside(client, ends[0])
        for i, cell in enumerate(notebook.cells):
            try:
                await client.async_execute_cell(cell, i)
            except CellExecutionError as error:
                raise ChapterError(
                    f"{name}, cell {i}, failed; nothing was stored.\n{error}"
                ) from None
            except DeadKernelError:
                raise ChapterError(
                    f"{name}, cell {i}: the kernel died, perhaps for want of memory; "
                    "nothing was stored"
                ) from None
            tick()
        return json.loads((await _aside(client, ends[1])).splitlines()[-1])


async def _aside(client, code: str) -> str:
    """What `code` prints in the kernel. Neither the notebook nor its counts show it."""
    cells = client.nb.cells
    cells.append(nbformat.v4.new_code_cell(code))
    try:
        await client.async_execute_cell(cells[-1], len(cells) - 1, store_history=False)
    finally:
        cell = cells.pop()
    return "".join(o.text for o in cell.outputs if o.get("name") == "stdout")


def _drop_setter_value(cell: NotebookNode) -> None:
    """Drop what a cell shows only because it ends in matplotlib's axis.set(…),
    .legend(…) or .axis(…).
    """
    if not cell.source.strip():
        return
    match ast.parse(cell.source).body[-1:]:
        case [ast.Expr(ast.Call(ast.Attribute(attr="set" | "legend" | "axis")))]:
            cell.outputs = [
                o for o in cell.outputs if o.output_type != "execute_result"
            ]


def _place_figures(cell: NotebookNode) -> None:
    """Hand a figure's alt text, caption and label to the book's renderer, which reads
    cell metadata.
    """
    for output in cell.outputs:
        if made := figure(output):
            label = {"name": made["name"]} if made["name"] else {}
            cell.metadata["mystnb"] = {
                "image": {"alt": made["alt"]},
                "figure": {"caption": made["caption"]} | label,
            }


def run(source: Path, tick: Callable[[], object] = lambda: None) -> Path:
    """Execute one chapter, store it, and take it off the list of those that wait;
    nothing is stored where a cell fails.
    """
    target = store(execute(source, tick), source)
    with _alone:
        strike(source.stem)
    return target


def store(notebook: NotebookNode, source: Path) -> Path:
    """Write an executed notebook with its card, and the readers' one made from it,
    whole or not at all; ChapterError where it has faults.
    """
    first.fill(notebook, source.stem)
    notebook.metadata["medlib"]["chapter"] = source.stem
    words = card(notebook.metadata["medlib"])
    made = nbformat.v4.new_markdown_cell(words, id="card", metadata={"tags": ["card"]})
    notebook.cells.append(made)
    if problems := faults(notebook, source):
        raise ChapterError(f"{source.name} is not stored:\n  " + "\n  ".join(problems))
    target = source.with_suffix(".ipynb")
    colab.write(source.stem, notebook)  # first: it may refuse
    text.write(notebook, target)
    return target


def verify(source: Path) -> list[str]:
    """Execute a chapter once more, store nothing, and name the cells whose text or
    tables are not the stored ones. Cells with the tag `timing` are left out: they hold
    times.
    """
    old = stored(source)
    _expect_same_code(old, source)
    new = execute(source)
    return [
        f"{source.stem}, cell [{then.execution_count}]: "
        f"{then.source.strip().splitlines()[0]}"
        for then, now in zip(code_cells(old), code_cells(new), strict=True)
        if "timing" not in tags(then) and _words(then) != _words(now)
    ]


def _words(cell: NotebookNode) -> list[str]:
    """What a cell says in text; pictures may differ by a pixel."""
    data = [o.get("data", {"text/plain": o.get("text", "")}) for o in cell.outputs]
    return [d.get("text/markdown", d.get("text/plain", "")) for d in data]


# ---------------------------------------------------------------- prose without a run


def _expect_same_code(notebook: NotebookNode, source: Path) -> None:
    if notebook.metadata["medlib"]["code"] != code_hash(read(source)):
        raise ChapterError(
            f"{source.name}: its code changed, not only its prose; run it"
        )


def store_prose(source: Path) -> Path:
    """Put the text over the outputs of the last run, without running. ChapterError
    where its code changed too, unless the chapter waits for its rerun: then its card
    says of which commit the outputs are.
    """
    old = stored(source)
    if source.stem in waiting():
        target = source.with_suffix(".ipynb")
        old.metadata["medlib"].setdefault("outputs_of", commit_of(target))
    else:
        _expect_same_code(old, source)
    return store(_with_outputs(read(source), old), source)


def _with_outputs(new: NotebookNode, old: NotebookNode) -> NotebookNode:
    """The text `new` with the outputs of `old`, cell by cell."""
    ran, cells = code_cells(old), code_cells(new)
    pairs = matched([c.source for c in ran], [c.source for c in cells])
    for i, cell in enumerate(cells):
        if i in pairs:
            then = ran[pairs[i]]
            cell.outputs, cell.execution_count = then.outputs, then.execution_count
            _place_figures(cell)
    new.metadata = old.metadata
    return new


def matched(old: list[str], new: list[str]) -> dict[int, int]:
    """{index of a new cell: index of the old cell whose outputs it takes}: in order
    where there are as many, else by what is alike.

    >>> matched(["a", "b"], ["a", "new", "b"])
    {0: 0, 2: 1}
    """
    if len(old) == len(new):
        return {i: i for i in range(len(new))}
    pairs: dict[int, int] = {}
    alike = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for _, start, end, new_start, new_end in alike.get_opcodes():
        pairs |= zip(range(new_start, new_end), range(start, end), strict=False)
    return pairs


# ---------------------------------------------------------------- all of them


def state(source: Path) -> tuple[str, list[str]]:
    """What is to be done about a chapter, and why: "fresh" (nothing), "waiting"
    (nothing for now), "prose" (only its text is to be taken over), "stale" (something
    that it uses changed since), "faulty" or "never run".
    """
    if not source.with_suffix(".ipynb").exists():
        return "never run", []
    notebook = stored(source)
    problems = faults(notebook, source)
    waits = source.stem in waiting()
    if problems and not _only_prose(notebook, source, waits):
        return "faulty", problems
    if not waits and (changed := stale.changes(notebook.metadata["medlib"], source)):
        return "stale", [f"changed since: {', '.join(changed)}"]
    if problems:
        return "prose", problems
    return ("waiting", ["for its rerun"]) if waits else ("fresh", [])


def _only_prose(notebook: NotebookNode, source: Path, waits: bool) -> bool:
    """Whether all faults go once the text is taken over."""
    stamp = notebook.metadata.get("medlib")
    if not stamp or not (waits or stamp["code"] == code_hash(read(source))):
        return False
    taken = _with_outputs(read(source), notebook)
    words = nbformat.v4.new_markdown_cell(card(stamp), metadata={"tags": ["card"]})
    taken.cells.append(words)
    return not faults(taken, source)


def side_by_side(sources: list[Path], jobs: int) -> dict[str, str]:
    """Run chapters, `jobs` at a time; {its name: why} of those that failed, which stop
    no other.
    """
    from tqdm import tqdm

    failed: dict[str, str] = {}
    cells = sum(len(read(source).cells) for source in sources)
    with tqdm(total=cells, unit="cell", smoothing=0) as bar:

        def one(source: Path) -> None:
            try:
                run(source, bar.update)
                stamp = stored(source).metadata["medlib"]
                bar.write(f"stored {source.stem}: {stamp['seconds']} s")
            except ChapterError as error:
                failed[source.stem] = str(error)
                bar.write(f"FAILED {source.stem}")

        pool = ThreadPoolExecutor(jobs)
        try:
            list(pool.map(one, sources))
        except KeyboardInterrupt:
            os._exit(130)  # waits for no chapter; the kernels end with this process
        pool.shutdown()
    return failed

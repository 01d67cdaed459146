"""Why an executed notebook may not be published, one rule a fault.

A rule takes the stored notebook, the text as it is now and the stamp, and yields what
is wrong. All are given to `faults`, which the runner asks before it stores anything.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from press.card import card
from press.text import code_cells, code_hash, read, tags
from press.waiting import waiting

LIMIT = 1_500_000  # bytes a notebook
PATH = r"(?<![\w.])(/(work|home|root|tmp|Users|content|usr)/[\w./-]*|[A-Z]:\\\\)"
WIDGET = "application/vnd.jupyter.widget-view+json"


def outputs(stored: NotebookNode) -> list[NotebookNode]:
    return [output for cell in code_cells(stored) for output in cell.outputs]


def figure(output: NotebookNode) -> dict | None:
    """Alt text, caption and name, as medlib.plots.show left them."""
    return output.get("metadata", {}).get("medlib", {}).get("figure")


def printed(stored: NotebookNode) -> str:
    """All outputs as JSON, without their metadata."""
    bare = [{k: v for k, v in o.items() if k != "metadata"} for o in outputs(stored)]
    return json.dumps(bare)


# ---------------------------------------------------------------- the rules


def same_text(stored, text, stamp) -> Iterator[str]:
    cells = [(c.cell_type, _words(c)) for c in stored.cells if "card" not in tags(c)]
    if cells != [(c.cell_type, _words(c)) for c in text.cells]:
        yield "its text changed since it was stored: `make run` takes it over"


def _words(cell: NotebookNode) -> str:
    """What a text and its notebook share: the first cell is press.first's affair."""
    return "" if "colab" in tags(cell) else cell.source


def same_card(stored, text, stamp) -> Iterator[str]:
    cards = [c.source for c in stored.cells if "card" in tags(c)]
    if cards != [card(stamp)]:
        yield "its card does not say what its stamp says"


def same_code(stored, text, stamp) -> Iterator[str]:
    if stamp["code"] != code_hash(text):
        yield "its code changed since it ran"


def one_clean_run(stored, text, stamp) -> Iterator[str]:
    counts = [c.execution_count for c in code_cells(stored) if c.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        yield "execution counts are not 1 … n: not one clean run"


def no_error(stored, text, stamp) -> Iterator[str]:
    for output in outputs(stored):
        if output.output_type == "error":
            yield f"an error: {output.ename}: {output.evalue}"


def no_stderr(stored, text, stamp) -> Iterator[str]:
    for output in outputs(stored):
        if output.get("name") == "stderr":
            yield f"text on stderr: {output.text[:200]}"


def no_widget(stored, text, stamp) -> Iterator[str]:
    if any(WIDGET in output.get("data", {}) for output in outputs(stored)):
        yield "a widget, such as a progress bar, in an output"


def no_path(stored, text, stamp) -> Iterator[str]:
    if found := re.search(PATH, printed(stored)):
        yield f"an absolute path in an output: {found[0]}"


def no_address(stored, text, stamp) -> Iterator[str]:
    if " at 0x" in printed(stored):
        yield (
            "an object's address in an output: its cell ends in a value that nobody "
            "wants to read"
        )


def real_data(stored, text, stamp) -> Iterator[str]:
    invented = [name for name, source in stamp["data"].items() if source == "stand-in"]
    if invented:
        yield f"it ran on stand-in data for {', '.join(invented)}: see data/README.md"


def published_size(stored, text, stamp) -> Iterator[str]:
    if stamp["profile"] not in ("full", "cpu"):  # cpu: its name in older stamps
        yield f"it ran in the {stamp['profile']} profile, expected full"


def sentences_hold(stored, text, stamp) -> Iterator[str]:
    for sentence in stamp.get("untrue", []):
        yield f"its text says what the run did not find: {sentence!r}"


def alt_texts(stored, text, stamp) -> Iterator[str]:
    for output in outputs(stored):
        if "image/png" in output.get("data", {}) and not figure(output):
            yield "a picture without alt text and caption: use medlib.plots.show"


def one_label_a_cell(stored, text, stamp) -> Iterator[str]:
    for cell in code_cells(stored):
        labels = [made["name"] for o in cell.outputs if (made := figure(o))]
        if any(labels) and len(cell.outputs) > 1:
            yield (
                f"the figure {labels[0]} shares its cell with other outputs, which "
                "would get its label too"
            )


def small_file(stored, text, stamp) -> Iterator[str]:
    if (size := len(nbformat.writes(stored))) > LIMIT:
        yield f"{size / 1e6:.1f} MB, expected at most {LIMIT / 1e6} MB"


RULES = (
    same_text, same_card, no_error, no_stderr, no_widget, no_path, no_address,
    real_data, published_size, sentences_hold, alt_texts, one_label_a_cell, small_file,
)  # fmt: skip
OF_ITS_OWN_RUN = (same_code, one_clean_run)  # not asked of a chapter that waits


def faults(stored: NotebookNode, source: Path) -> list[str]:
    """Why this executed notebook may not be published; empty where all is well."""
    stamp = stored.metadata.get("medlib")
    if not stamp:
        return ["no stamp: it was not made by `make run`"]
    rules = RULES if source.stem in waiting() else RULES + OF_ITS_OWN_RUN
    text = read(source)
    return [fault for rule in rules for fault in rule(stored, text, stamp)]

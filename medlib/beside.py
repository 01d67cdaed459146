"""A reader's run beside the published one: one call at the end of a chapter."""

import json
import math
from collections.abc import Mapping
from typing import Any

from medlib import paths
from medlib.notes import heard
from medlib.stats import Interval

# What may differ between two runs, and why that may change a figure.
REASONS = {
    "size": "a smaller profile trains shorter, with fewer seeds, on fewer patients",
    "data": "other images have other figures",
    "device": "another processor adds in another order",
    "precision": "fewer digits in the forward pass",
    "torch": "another version may draw other random numbers",
}


def beside(chapter: str, figures: Mapping[str, Interval], data: Any) -> None:
    """Show a chapter's main figures, and on a reader's own run the published ones
    beside them: which of the reader's means lie inside the published intervals, and
    where one does not, what differs between the runs.

    chapter  its file's name, such as "11_unet"
    figures  {what it is, in a few words: its 95 % interval}
    data     the Dataset or Cohort that they were found on: its source is compared

    Raises TypeError for a figure that is no Interval.
    """
    from IPython.display import Markdown, display

    for name, value in figures.items():
        if not isinstance(value, Interval):
            raise TypeError(f"{name}: {value!r}; expected an Interval of medlib.stats")
    numbers = {k: [_finite(end) for end in v[:3]] for k, v in figures.items()}
    yours: dict[str, Any] = {"figures": numbers} | _run(data)
    if heard():
        text = _table(yours["figures"], None)
        text += "\n\nOn a run of your own, your figures stand beside these."
    elif (published := _published(chapter)) is None:
        text = (
            f"The published figures of {chapter} are not at hand: they lie in the "
            "book's own folder, `chapters/`, which an installed package does not "
            "have. Yours are\n\n" + _table(yours["figures"], None)
        )
    else:
        text = _compared(yours, published)
    display(Markdown(text), metadata={"medlib": {"beside": yours}})


def _finite(end: float) -> float | None:
    """None for an open end, which one seed gives: JSON has no infinity."""
    return float(end) if math.isfinite(end) else None


def _run(data: Any) -> dict[str, str]:
    """What may differ between two runs."""
    import torch

    from medlib import device

    where = device.device().type
    if where == "cuda":
        where = torch.cuda.get_device_name()
    return {
        "size": device.profile(),
        "data": f"{data.name} ({data.source})",
        "device": where,
        "precision": device.precision(),
        "torch": ".".join(torch.__version__.split(".")[:2]),
    }


def _published(chapter: str) -> dict | None:
    """What the stored notebook recorded; None where there is none."""
    if not paths.CHECKOUT:
        return None
    path = paths.CHECKOUT / "chapters" / f"{chapter}.ipynb"
    if not path.exists():
        return None
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", ()):
            if found := output.get("metadata", {}).get("medlib", {}).get("beside"):
                return found
    return None


def _compared(yours: dict, published: dict) -> str:
    theirs = published["figures"]
    inside = {
        name: _within(value, theirs[name])
        for name, value in yours["figures"].items()
        if name in theirs
    }
    differ = [key for key in REASONS if yours[key] != published[key]]
    text = f"**Your run beside ours**\n\n{_table(yours['figures'], theirs)}\n\n"
    text += f"{sum(inside.values())} of {len(inside)} inside the published interval."
    if not all(inside.values()) and differ:
        text += " What differs: " + "; ".join(
            f"{key}: {yours[key]}, published with {published[key]} ({REASONS[key]})"
            for key in differ
        )
    elif not all(inside.values()):
        text += " The two runs have the same size, data, device and precision."
    return text


def _table(yours: Mapping[str, list], theirs: Mapping[str, list] | None) -> str:
    if theirs is None:
        lines = ["| | mean and 95 % interval |", "| --- | ---: |"]
        return "\n".join(lines + [f"| {k} | {_words(v)} |" for k, v in yours.items()])
    lines = ["| | published | yours | |", "| --- | ---: | ---: | --- |"]
    for name, value in yours.items():
        known = theirs.get(name)
        if known is None:
            lines.append(f"| {name} | | {_words(value)} | not published |")
            continue
        mark = "✔ inside" if _within(value, known) else "✘ outside"
        lines.append(f"| {name} | {_words(known)} | {_words(value)} | {mark} |")
    return "\n".join(lines)


def _within(value: list, published: list) -> bool:
    """Does the mean lie in the published interval? An open end holds everything."""
    mean, (_, low, high) = value[0], published
    return (low is None or low <= mean) and (high is None or mean <= high)


def _words(value: list) -> str:
    mean, low, high = value
    if low is None or high is None:
        return f"{mean:.3f} (no interval)"
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"

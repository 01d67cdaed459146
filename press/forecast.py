"""Minutes a chapter, from the stamps of the stored runs."""

import json

from press.stamp import whole_seconds
from press.text import FOLDER

# CPU-seconds of medlib.doctor.step() on the machine behind the published outputs, by
# the precision that it was measured in.
REFERENCE = {"bf16": 0.040, "no": 0.061}


def forecast(seconds: float | None = None) -> list[tuple[str, int]]:
    """[(chapter, CPU-minutes as published)], or, where one step takes `seconds` here,
    the minutes here: scaled by the two machines' steps.
    """
    found = []
    for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb")):
        stamp = json.loads(path.read_text(encoding="utf-8"))["metadata"]["medlib"]
        ratio = seconds / REFERENCE[stamp["precision"]] if seconds else 1
        found.append((path.stem, max(1, round(whole_seconds(stamp) / 60 * ratio))))
    return found

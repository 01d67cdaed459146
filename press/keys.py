"""Which child each image of PneumoniaMNIST shows, as the book carries it.

python -m press.keys FOLDER   writes data/keys/pneumoniamnist_keys.csv.gz from
                              pneumoniamnist_sources.csv in FOLDER

A row an image: the MD5 of its 28 × 28 bytes, and the patient that upstream's file name
gives. Images whose file was not found are left out.
"""

import csv
import gzip
import io
import sys
from pathlib import Path

from medlib.paths import resource


def table(sources: Path) -> bytes:
    """The zipped table: the same bytes for the same rows, whatever their order."""
    with open(sources, newline="", encoding="utf-8") as f:
        known = {
            (row["md5_of_28x28_bytes"], row["patient_key"])
            for row in csv.DictReader(f)
            if row["patient_key"]
        }
    if len({md5 for md5, _ in known}) < len(known):
        raise ValueError(f"{sources}: one image with two patients; expected one each")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("md5", "patient"))
    rows.writerows(sorted(known))
    return gzip.compress(text.getvalue().encode(), mtime=0)


if __name__ == "__main__":
    target = resource("pneumoniamnist_keys.csv.gz")
    target.write_bytes(table(Path(sys.argv[1]) / "pneumoniamnist_sources.csv"))
    print(f"{target}: {target.stat().st_size:,} bytes")

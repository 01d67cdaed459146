"""The beating heart of the front page: a sheet of its frames, and what is said of it.

SCD0000101 of Sunnybrook (CC0), one slice in the middle of the heart through a beat from
end-diastole on, with the expert's outlines at the two moments that were drawn, and in
every frame those of the book's own network, once it is among medlib.zoo's.
"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from press.text import ROOT

FOLDER = ROOT / "book" / "_static" / "front"
NETWORK = "unet_hearts"
SIDE, ZOOM = 100, 4  # pixels of the scanner around the heart; of the picture for each


def make() -> Path:
    """Write beat.webp and beat.json; returns the sheet's path. Needs the images:
    see sunnybrook_dicom in data/README.md.
    """
    from medlib import fetch, hearts, plots

    scan = hearts.read_dicom(fetch.folder("sunnybrook_dicom")[0] / "SCD0000101.zip")
    patient = hearts.load_sunnybrook("sunnybrook_dicom")[0]
    middle = len(patient.ed.image) // 2
    drawn = {}  # phase: the expert's mask
    for volume in (patient.ed, patient.es):
        same = (scan.image == volume.image[middle]).all((2, 3))
        phase, place = np.argwhere(same)[0]
        drawn[int(phase)] = volume.mask[middle]
    ed, es = drawn
    lines = outlines(scan, place, ed, es)
    row, column = (int(c) for c in hearts.centre(patient))
    rows, columns = (slice(c - SIDE // 2, c + SIDE // 2) for c in (row, column))
    order = [(ed + k) % len(scan.image) for k in range(len(scan.image))]
    low, high = np.quantile(scan.image[:, place, rows, columns], (0.01, 0.995))
    empty = np.zeros(scan.image.shape[2:], int)
    frames = []
    for phase in order:
        image, expert, network = (
            lying_as_acdc(x[rows, columns])
            for x in (
                scan.image[phase, place],
                drawn.get(phase, empty),
                lines.get(phase, empty),
            )
        )
        frames.append(
            plots.outlined(
                image, expert, network=network, zoom=ZOOM, limits=(low, high)
            )
        )
    return write(frames, beat(scan), bool(lines))


def outlines(scan, place: int, ed: int, es: int) -> dict[int, np.ndarray]:
    """{phase: the network's mask of the slice}; empty as long as there is no network.
    The heart is found by its motion from each phase to another, as in training.
    """
    from medlib import hearts, zoo

    if NETWORK not in zoo.names():
        return {}
    net = zoo.load(NETWORK)
    deep, high, wide = scan.spacing
    volumes = [
        hearts.Volume(lying_as_acdc(phase).copy(), None, (deep, wide, high))
        for phase in scan.image
    ]
    found = {}
    for phase, volume in enumerate(volumes):
        other = volumes[ed if phase == es else es]
        masks, _ = hearts.segment(net, hearts.Patient("", "", volume, other))
        found[phase] = np.rot90(masks[place])  # back to how the scanner has it
    return found


def lying_as_acdc(x: np.ndarray) -> np.ndarray:
    """A quarter turn clockwise: the RV, below the LV in this cine, comes to its left,
    where it lies in ACDC.
    """
    return np.rot90(x, -1, (-2, -1))


def beat(scan) -> int:
    """Milliseconds of a whole beat."""
    return round(float(scan.ms[-1] + np.diff(scan.ms).mean()))


def write(frames: list[np.ndarray], ms: int, network: bool) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    sheet = Image.fromarray(np.concatenate(frames, 1))
    sheet.save(buffer, "WEBP", quality=72, method=6)
    (FOLDER / "beat.webp").write_bytes(buffer.getvalue())
    ours = (
        "the outlines of the book's own network in every frame (dashed), and "
        if network
        else ""
    )
    about = {
        "frames": len(frames),
        "ms": ms,
        "alt": "A slice through a beating heart: the left ventricle fills and empties.",
        "caption": f"A heart through one beat, {ours}the expert's outlines at "
        "end-diastole and end-systole (yellow: the myocardium, red: the left "
        "ventricle). Sunnybrook SC-HF-I-1, CC0 (Radau et al. 2009).",
    }
    text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    (FOLDER / "beat.json").write_text(text, encoding="utf-8", newline="\n")
    return FOLDER / "beat.webp"

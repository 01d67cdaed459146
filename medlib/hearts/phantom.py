"""A beating-heart phantom: short-axis cine MRI with known masks, volumes and motion.

Each heart is a function of position at end-diastole (ED). A later phase asks for every
pixel where the tissue seen there was at ED, and evaluates the function there: image,
mask and motion agree, nothing is resampled. On a ray from the LV axis let s = r²: equal
steps of s are equal areas. Apart from a small twist, the map is

    LV cavity    s_ED = s / keep       keep = 1 - LV contraction: the LV ejection
                                       fraction is a parameter
    LV wall      s_ED = s + shift      area, hence muscle volume, is kept: a smaller
                                       cavity has a thicker wall
    RV cavity    stretched beyond the wall by 1 / (1 - RV contraction)
    outside      the shift decays over 4000 mm², slowly enough that nothing folds

Units: mm, mL, intensity about [0, 1]. Axes (D, H, W): base → apex, anterior → inferior,
septum → lateral. Unlike a heart: the base does not descend, no tissue crosses a slice,
so motion in the plane carries the whole ejection fraction; no valves, outflow tract or
flow. Unlike a scan: a slice is its central plane, not tilted. As in ACDC, papillary
muscles count as LV, RV muscle as background. Plausible, not fitted to patients: test
methods on it, never estimate clinical accuracy. Sources: groups after ACDC (Bernard et
al., TMI 37, 2018); Rician noise, the magnitude of a noisy complex signal (Gudbjartsson
and Patz, MRM 34, 1995).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
MIDDLE = 50  # mm below the base: the centre of every stack

# Drawn uniformly; mm at ED; ef: share of the cavity that contraction removes. A lesion
# is a sector of the wall, 1 + lesion_wall times as thick, that contracts by lesion_loss
# less: HCM the septum, MINF any sector.
PARAMETERS = (
    "radius",
    "length",
    "wall",
    "ef",
    "rv_width",
    "rv_ef",
    "lesion_wall",
    "lesion_loss",
)
RANGES = {
    "NOR": (
        (24, 28),
        (86, 98),
        (7.5, 9.5),
        (0.55, 0.68),
        (29, 35),
        (0.48, 0.62),
        (0, 0),
        (0, 0),
    ),
    "DCM": (
        (33, 38),
        (93, 106),
        (6, 8),
        (0.14, 0.36),
        (29, 37),
        (0.30, 0.50),
        (0, 0),
        (0, 0),
    ),
    "HCM": (
        (22, 26),
        (82, 94),
        (11, 14),
        (0.64, 0.76),
        (27, 33),
        (0.50, 0.65),
        (0.3, 0.8),
        (0.2, 0.5),
    ),
    "MINF": (
        (28, 32),
        (88, 102),
        (7.5, 9.5),
        (0.38, 0.54),
        (29, 35),
        (0.42, 0.56),
        (-0.5, -0.3),
        (0.9, 1),
    ),
    "RV": (
        (23, 27),
        (84, 96),
        (7.5, 9.5),
        (0.50, 0.64),
        (42, 50),
        (0.20, 0.38),
        (0, 0),
        (0, 0),
    ),
}
# what varies alike in every group; angles in radians, clockwise in the image from its
# right edge
COMMON = {
    "rv_angle": (3.04, 3.49), "rv_span": (1.2, 1.4),
    "twist": (0.10, 0.18), "lesion_angle": (0, 6.28),
    "oval": (-0.09, 0.09), "oval_angle": (0, 3.14),
    "pear": (-0.06, 0.06), "pear_angle": (0, 3.14),
    "row": (-5, 5), "column": (8, 18),
    "tilt_row": (-0.15, 0.10), "tilt_column": (-0.05, 0.20),
    "papillary": (0.17, 0.22), "fat": (1.5, 4), "dome": (40, 50), "girth": (140, 155),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Phantom:
    image: Tensor  # (N, T, D, H, W) float32
    mask: Tensor  # (N, T, D, H, W) uint8, index in hearts.LABELS
    # (N, T, 2, D, H, W) mm (row, column): what is at x was at x + motion at ED
    motion: Tensor | None
    volumes: Tensor  # (N, T, 3) mL of RV, myocardium and LV, counted in the mask
    group: Tensor  # (N,) int64, index in GROUPS
    spacing: tuple[float, float, float]
    phases: tuple[float, ...]

    @property
    def ejection_fraction(self) -> Tensor:
        """(N, 2): of LV and RV, from the phase with the largest LV (ED) to the one with
        the smallest (ES).
        """
        patient, lv = torch.arange(len(self.volumes)), self.volumes[..., 2]
        ed, es = (
            self.volumes[patient, lv.argmax(1)],
            self.volumes[patient, lv.argmin(1)],
        )
        return (1 - es / ed)[:, [2, 0]]


def contraction(phase: Tensor) -> Tensor:
    """Share of the stroke volume that is out: 0 at ED (phase 0), 1 at end-systole
    (0.35), 0 at phase 1.
    """
    return torch.sin(math.pi / 2 * torch.minimum(phase / 0.35, (1 - phase) / 0.65)) ** 2


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One patient: what was drawn from RANGES and COMMON (mm at ED, radians, shares),
    and what the scan adds.
    """

    radius: float  # of the LV cavity at the base
    length: float  # of the LV cavity, base to apex
    wall: float  # its thickness
    ef: float  # share of the LV cavity that contraction removes
    rv_width: float
    rv_ef: float
    lesion_wall: float
    lesion_loss: float
    rv_angle: float  # where the septum is
    rv_span: float  # half the angle that the RV takes
    twist: float
    lesion_angle: float
    oval: float  # how far, and which way, the heart is from round
    oval_angle: float
    pear: float
    pear_angle: float
    row: float  # of the LV axis in the middle slice, from the middle of the image
    column: float
    tilt_row: float  # mm that the axis moves for each mm towards the apex
    tilt_column: float
    papillary: float
    fat: float
    dome: float  # of the liver
    girth: float  # of the chest
    coil: Tensor  # (3,): how the signal falls off
    breath: Tensor  # (2, D, 1, 1): a shift of each slice (row, column) in mm
    # (D, 2, 88, 88), carried by the tissue: knots 3 mm apart, detail of 9 mm and 25 mm
    texture: Tensor


class Tissue(NamedTuple):
    """For every pixel of each phase, where the tissue seen there was at ED."""

    angle: Tensor  # (T, D, H, W), about the LV axis
    s: Tensor  # (T, D, H, W): squared radius, in mm²
    contours: tuple[Tensor, Tensor, Tensor]  # s of endocardium, epicardium, RV wall
    motion: tuple[Tensor, Tensor]  # (T, D, H, W) each: mm to there, rows and columns


def _draw(group: str, depth: int, generator: torch.Generator) -> Anatomy:
    ranges = dict(zip(PARAMETERS, RANGES[group], strict=True)) | COMMON
    draws = zip(
        ranges.items(),
        torch.rand(len(ranges), generator=generator).tolist(),
        strict=True,
    )
    drawn = {name: low + u * (high - low) for (name, (low, high)), u in draws}
    if group == "HCM":  # its lesion is the septum
        drawn["lesion_angle"] = drawn["rv_angle"]
    coil = 0.15 * torch.randn(3, generator=generator)
    breath = 1.2 * torch.randn(2, depth, 1, 1, generator=generator).clamp(-2.5, 2.5)
    fine = 3 * F.avg_pool2d(
        torch.randn(depth, 1, 90, 90, generator=generator), 3, stride=1
    )
    coarse = F.interpolate(
        torch.randn(depth, 1, 12, 12, generator=generator), (88, 88), mode="bicubic"
    )
    texture = torch.cat((fine, coarse), 1)
    return Anatomy(**drawn, coil=coil, breath=breath, texture=texture)


def _beat(h: Anatomy, phase: Tensor, z: Tensor, y: Tensor, x: Tensor) -> Tissue:
    """Map (y, x), about the LV axis, back to ED."""
    squeeze, below = contraction(phase), z.clamp(min=0)
    r2 = (y**2 + x**2).clamp(min=1e-3)
    wall = torch.where(z < 0, 2.0, h.wall)  # above the base: a thin-walled atrium
    narrowing = (1 - (below / (h.length + h.wall)) ** 2).clamp(min=0).sqrt()
    near = (h.radius + wall) * narrowing  # (D, 1, 1)
    # The twist comes first: it keeps r, and all that follows belongs to the tissue, so
    # to its angle at ED.
    turn = (
        squeeze
        * h.twist
        * (1.4 * below / h.length - 0.4)
        * ((near**2 - r2).clamp(max=0) / 1500).exp()
    )
    angle = torch.atan2(y, x) + turn  # (T, D, H, W)
    lobes = h.oval * torch.cos(2 * (angle - h.oval_angle)) + h.pear * torch.cos(
        3 * (angle - h.pear_angle)
    )
    s = r2 / (1 + lobes)
    # Three nested contours at ED, as s: endocardium and epicardium (half ellipsoids
    # along z), RV free wall: a circle that leaves the epicardium rv_span to either side
    # of the septum and reaches rv_width beyond it.
    lesion = torch.sigmoid(8 * (torch.cos(angle - h.lesion_angle) - 0.6))
    endo = h.radius**2 * (1 - (below / h.length) ** 2).clamp(min=0)
    epi = (near * (1 + wall / (h.radius + wall) * h.lesion_wall * lesion)) ** 2
    far = near + h.rv_width * (1 - (below / h.length / 0.85) ** 2).clamp(min=0).sqrt()
    apart = (2 * (far - near * math.cos(h.rv_span))).clamp(min=1e-3)
    centre = (far**2 - near**2) / apart
    cos = torch.cos(angle - h.rv_angle)
    reach = (
        centre * cos
        + (centre**2 * cos**2 + far**2 - 2 * far * centre).clamp(min=0).sqrt()
    )
    free = epi + (reach**2 - near**2).clamp(min=0)
    keep = 1 - squeeze * h.ef * (1 - h.lesion_loss * lesion)
    keep_rv = 1 - squeeze * h.rv_ef
    shift, shift_rv = endo * (1 - keep), (free - epi) * (1 - keep_rv)
    beyond = (s - epi + shift).clamp(min=0)  # past the epicardium of this phase
    moved = torch.minimum(s * (1 / keep - 1), shift) + torch.minimum(
        beyond * (1 / keep_rv - 1), shift_rv
    )
    s_ed = s + moved * torch.exp((free - epi - shift_rv - beyond).clamp(max=0) / 4000)
    stretch, cos, sin = (s_ed / s).sqrt(), turn.cos(), turn.sin()
    motion = stretch * (y * cos + x * sin) - y, stretch * (x * cos - y * sin) - x
    return Tissue(angle, s_ed, (endo, epi, free), motion)


def _paint(
    h: Anatomy, pixel: float, z: Tensor, y: Tensor, x: Tensor, tissue: Tissue
) -> Tensor:
    """Intensity of the tissue at ED position (y, x), painted from the back to the
    front, layer over layer.
    """
    angle, s, contours, _ = tissue
    grid = torch.stack((x, y), -1) / 130.5  # the knots of the texture span ±130.5 mm
    fine, coarse = torch.stack(
        [F.grid_sample(h.texture, g, align_corners=True) for g in grid]
    ).unbind(2)
    image = 0.06 + 0.06 * (fine - 1).clamp(min=0)  # lung and its vessels

    def paint(distance: Tensor, value: Tensor | float) -> None:
        # Inside is negative; a pixel on the edge shows the mean of both sides.
        image.lerp_(torch.as_tensor(value), (distance / -pixel).add_(0.5).clamp_(0, 1))

    liver = h.dome + (x + 30) ** 2 / 300 - z / 4 - y + 2 * coarse
    paint(liver, 0.4 + 0.03 * fine + 0.08 * coarse)
    paint(torch.hypot(y - 58, x - 72) - 11, 0.85)  # descending aorta
    skin = torch.hypot(y - 50, x - 40) - h.girth + coarse
    paint(-32 - skin, 0.25 + 0.03 * fine)  # muscle of the chest wall
    between_ribs = torch.sin(6 * torch.atan2(y - 50, x - 40) + z / 30)
    paint(torch.hypot(skin + 24, 12 * between_ribs) - 4, 0.6)  # ribs
    paint(-14 - skin, 0.78 + 0.06 * coarse)  # fat under the skin
    paint(-skin, 0.01)  # air
    r, endo, epi, free = s.sqrt(), *(contour.sqrt() for contour in contours)
    muscle, blood, mixed = 0.25 + 0.02 * fine, 0.82 + 0.03 * fine, 0.55 + 0.1 * fine
    # The RV wall is 3 mm thick where there is an RV.
    rim = r - free - 3 * ((free - epi) / 10).clamp(max=1)
    fat = rim - h.fat * (1.5 + torch.cos(angle - h.rv_angle)) - 2 * coarse
    paint(fat, 0.62 + 0.05 * fine)
    paint(rim, muscle)
    paint(r - free, mixed)  # trabeculae, too fine to see one by one
    paint(r - free + 2 + 2 * coarse, blood)
    paint(r - epi, muscle)
    paint(r - endo, mixed)
    paint(r - endo + 1 + coarse, blood)
    size = (
        h.papillary
        * (1 - ((z / h.length - 0.5) / 0.35) ** 2).clamp(min=0).sqrt()
        * endo
    )
    # The anterolateral and the posteromedial papillary muscle, at 0.6 of the radius.
    for side in (2.3, 4.24):
        cos = torch.cos(angle - h.rv_angle - side)
        away = (s + endo * (0.36 * endo - 1.2 * r * cos)).clamp(min=0).sqrt()
        paint(away - size, muscle)
    return image


def phantom(
    patients: int,
    *,
    seed: int = 0,
    phases: tuple[float, ...] = (0.0, 0.35),
    shape: tuple[int, int, int] = (10, 128, 128),
    spacing: tuple[float, float, float] = (10.0, 1.5625, 1.5625),
    noise: float = 0.05,
    groups: tuple[str, ...] | None = None,
    motion: bool = False,
) -> Phantom:
    """Draw patients, in shuffled blocks that hold each group once. Patient k is the
    same in any number.

    noise: sd in each part of the complex signal. motion: add the field, twice the
    memory of the images. Few pixels need a wide spacing to show the heart: shape=(1,
    28, 28), spacing=(10, 5, 5) is a middle slice.
    """
    groups = GROUPS if groups is None else tuple(groups)
    phases = tuple(float(t) for t in phases)
    for name, seen, holds, expected in (
        ("patients", patients, patients >= 1, "at least 1"),
        ("groups", groups, groups and set(groups) <= set(GROUPS), f"some of {GROUPS}"),
        (
            "phases",
            phases,
            phases and all(0 <= t <= 1 for t in phases),
            "one or more numbers in [0, 1]",
        ),
        (
            "shape",
            shape,
            len(shape) == 3 and min(shape) > 0,
            "three sizes (D, H, W) above 0",
        ),
        (
            "spacing",
            spacing,
            len(spacing) == 3 and min(spacing) > 0,
            "three lengths in mm above 0",
        ),
    ):
        if not holds:
            raise ValueError(f"{name}={seen!r}; expected {expected}")
    between, down, across = (float(mm) for mm in spacing)
    generator = torch.Generator().manual_seed(seed)
    order = [
        torch.randperm(len(groups), generator=generator)
        for _ in range(0, patients, len(groups))
    ]
    group = torch.tensor([GROUPS.index(name) for name in groups])[
        torch.cat(order)[:patients]
    ]
    seeds = torch.randint(
        2**31, (patients,), generator=generator.manual_seed(seed)
    ).tolist()
    z, y, x = (
        (torch.arange(n) - (n - 1) / 2) * mm
        for n, mm in zip(shape, (between, down, across), strict=True)
    )
    z, y = z.view(-1, 1, 1) + MIDDLE, y.view(-1, 1)
    phase = torch.tensor(phases).view(-1, 1, 1, 1)
    image = torch.empty(patients, len(phases), *shape)
    mask = torch.empty(image.shape, dtype=torch.uint8)
    field = torch.empty(patients, len(phases), 2, *shape) if motion else None
    for k in range(patients):  # one at a time keeps the memory small
        h = _draw(GROUPS[group[k]], shape[0], generator.manual_seed(seeds[k]))
        # From the LV axis: (D, H, 1) and (D, 1, W).
        row = y - h.row - h.tilt_row * (z - MIDDLE) - h.breath[0]
        column = x - h.column - h.tilt_column * (z - MIDDLE) - h.breath[1]
        tissue = _beat(h, phase, z, row, column)
        dy, dx = tissue.motion
        clean = _paint(h, max(down, across), z, y + dy, x + dx, tissue)
        clean *= torch.exp(
            h.coil[0] * y / 100 + h.coil[1] * x / 100 + h.coil[2] * y * x / 100**2
        )
        signal = clean + noise * 2**0.5 * torch.randn(
            clean.shape, dtype=torch.complex64, generator=generator
        )
        image[k] = signal.abs()
        # Inside all three contours: LV, label 3.
        inside = torch.stack([tissue.s < c for c in tissue.contours]).sum(0)
        mask[k] = inside * (z >= 0)
        if field is not None:
            field[k] = torch.stack((dy, dx), 1)
    counts = torch.stack(
        [m.flatten().bincount(minlength=4)[1:] for m in mask.flatten(0, 1)]
    )  # (N * T, 3)
    volumes = counts.view(patients, -1, 3) * (between * down * across / 1000)
    return Phantom(image, mask, field, volumes, group, (between, down, across), phases)

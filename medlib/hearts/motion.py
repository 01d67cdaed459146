"""Motion as a field of arrows: how to draw an image through it, to chain it, to run it
backwards, to read strain off it.

A field u (B, 2, H, W) holds for every pixel x of the later image an arrow (rows,
columns), in pixels, to the place where that tissue was before: later(x) = earlier(x +
u(x)). So one field carries images, masks and contours of the earlier moment to the
later one. `exponential` follows Arsigny et al., "A Log-Euclidean Framework for
Statistics on Diffeomorphisms", MICCAI 2006; `demons` is SimpleITK's form of Thirion,
Medical Image Analysis 2, 1998; `tvl1` is scikit-image's form of Zach, Pock and Bischof,
DAGM 2007. Pixels are square here; multiply by their side for mm. Chapter 20.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlib import augment
from medlib.augment import Mode
from medlib.extras import extra

# ---------------------------------------------------------------- fields


def _single(x: Tensor) -> Tensor:
    """x in single precision at least: bf16 rounds row 257 to 256."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _field(u: Tensor) -> Tensor:
    """`u` in single precision at least, if it is a field."""
    if u.ndim != 4 or u.shape[1] != 2 or min(u.shape[2:]) < 2:
        raise ValueError(
            f"a field {tuple(u.shape)}; expected (B, 2, H, W), rows then columns, "
            "H and W at least 2"
        )
    return _single(u)


def pixels(u: Tensor) -> Tensor:
    """(2, H, W): the row and the column of every pixel."""
    u = _single(u)
    rows, columns = (torch.arange(n).to(u) for n in u.shape[2:])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def warp(x: Tensor, u: Tensor, *, mode: Mode = "bilinear") -> Tensor:
    """x(place + u): images (B, C, H, W), or masks (B, H, W) of integers with
    mode="nearest"; the edge is repeated. In single precision at least; the type of x
    comes out. An image is NaN where the arrow is.

    Raises ValueError where x and u do not fit each other, and for masks where an arrow
    is NaN.
    """
    u = _field(u)
    if len(x) != len(u) or x.shape[-2:] != u.shape[-2:]:
        raise ValueError(
            f"x {tuple(x.shape)}, field {tuple(u.shape)}; expected as many, of one "
            "height and width"
        )
    size = torch.tensor(u.shape[2:], device=u.device, dtype=u.dtype).view(2, 1, 1)
    places = (2 * (pixels(u) + u) + 1) / size - 1
    # torch counts columns first
    return augment.sample(x, places.flip(1).movedim(1, -1), mode=mode)


def compose(u: Tensor, v: Tensor) -> Tensor:
    """The field of "through v, then through u": warp(x, compose(u, v)) is warp(warp(x,
    u), v).
    """
    return _field(v) + warp(_field(u), v)


def exponential(v: Tensor, steps: int = 7) -> Tensor:
    """Where a steady current v, in pixels a unit of time, takes a particle in one unit:
    scaling and squaring.
    """
    if steps < 0:
        raise ValueError(f"steps={steps}; expected 0 or more")
    u = _field(v) / 2**steps
    for _ in range(steps):
        u = compose(u, u)
    return u


def gradient(u: Tensor) -> Tensor:
    """(B, 2, 2, H, W): the derivative of each component (first 2) by row and by column
    (second 2).
    """
    return torch.stack(torch.gradient(_field(u), dim=(2, 3)), 2)


def jacobian(u: Tensor) -> Tensor:
    """(B, H, W): the determinant of the derivative of x + u, that is, area before over
    area now. Negative: folded.
    """
    (a, b), (c, d) = (row.unbind(1) for row in gradient(u).unbind(1))
    return (1 + a) * (1 + d) - b * c


def folded(u: Tensor) -> Tensor:
    """(B, H, W) bool: pixels at which one of the four triangles with their neighbours
    has turned over. Stricter than the sign of `jacobian`, whose central differences do
    not see a field that alternates from pixel to pixel. At the border the arrows are
    repeated outwards, so a pixel there may count as folded though its neighbours inside
    the image do not.

    Raises ValueError where u is NaN.
    """
    if u.isnan().any():
        raise ValueError("a field with NaN; expected numbers")
    framed = F.pad(_field(u), (1, 1, 1, 1), mode="replicate")
    down, right = framed.diff(dim=2)[..., 1:-1], framed.diff(dim=3)[:, :, 1:-1]
    found = torch.zeros_like(u[:, 0], dtype=torch.bool)
    for row in (down[:, :, :-1], down[:, :, 1:]):
        for column in (right[..., :-1], right[..., 1:]):
            found |= (1 + row[:, 0]) * (1 + column[:, 1]) - row[:, 1] * column[
                :, 0
            ] <= 0
    return found


def polar(u: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Unit arrows (B, 2, H, W) away from `centre` (B, 2), in pixels, and around it,
    clockwise in the image.
    """
    u = _field(u)
    out = pixels(u) - centre.to(u)[:, :, None, None]
    out = out / out.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return out, torch.stack((out[:, 1], -out[:, 0]), 1)


def strain(u: Tensor, direction: Tensor) -> Tensor:
    """(B, H, W): how much longer (+) or shorter (−), as a share of its earlier length,
    is a short line of tissue that now lies along `direction` (B, 2, H, W)? Its earlier
    length is |(I + ∇u) direction|.
    """
    direction = _single(direction)
    before = direction + (gradient(u) * direction[:, None]).sum(2)
    return 1 / before.norm(dim=1).clamp(min=1e-6) - 1


# ---------------------------------------------------------------- what a good field is


def local_correlation(a: Tensor, b: Tensor, window: int = 9) -> Tensor:
    """Mean squared correlation of two images (B, 1, H, W) in windows of `window` ×
    `window` pixels, in single precision at least; 1 is best.
    """
    a, b = _single(a), _single(b)
    if a.shape != b.shape or window % 2 == 0:
        raise ValueError(
            f"{tuple(a.shape)}, {tuple(b.shape)}, window {window}; expected one "
            "shape, an odd window"
        )

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, window, 1, window // 2, count_include_pad=False)

    ma, mb = mean(a), mean(b)
    cross, va, vb = mean(a * b) - ma * mb, mean(a * a) - ma**2, mean(b * b) - mb**2
    return (cross**2 / (va.clamp(min=0) * vb.clamp(min=0) + 1e-3)).mean()


def roughness(u: Tensor) -> Tensor:
    """Mean square of the differences between neighbouring arrows; 0 for a field that
    moves all alike.
    """
    u = _field(u)
    return (u.diff(dim=2).square().mean() + u.diff(dim=3).square().mean()) / 2


# ---------------------------------------------------------------- classical baselines:
# (N, 1, H, W) twice → (N, 2, H, W)


def _images(moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
    """Both, in single precision at least, if they can be laid on each other."""
    if moving.ndim != 4 or moving.shape[1] != 1 or moving.shape != fixed.shape:
        raise ValueError(
            f"images {tuple(moving.shape)} and {tuple(fixed.shape)}; expected "
            "(N, 1, H, W) twice, of one shape"
        )
    if not (moving.isfinite().all() and fixed.isfinite().all()):
        raise ValueError("images with NaN or infinity; expected finite values")
    return _single(moving), _single(fixed)


def affine(
    moving: Tensor, fixed: Tensor, *, steps: int = 80, lr: float = 0.02
) -> Tensor:
    """Shift, turn, stretch and shear that make the square difference small: six numbers
    an image, by Adam.
    """
    moving, fixed = _images(moving, fixed)
    theta = nn.Parameter(moving.new_zeros(len(moving), 2, 3))
    optimizer = torch.optim.Adam([theta], lr)
    half = torch.tensor(moving.shape[2:], device=moving.device).view(2, 1, 1) / 2
    # From −1 to 1, so that one rate suits shifts and stretches.
    place = (pixels(moving) + 0.5) / half - 1
    place = torch.cat((place, torch.ones_like(place[:1])))
    with torch.autocast(moving.device.type, enabled=False), torch.enable_grad():
        for _ in range(steps):
            u = torch.einsum("bij,jhw->bihw", theta, place) * half
            optimizer.zero_grad()
            (warp(moving, u) - fixed).square().mean((1, 2, 3)).sum().backward()
            optimizer.step()
        return torch.einsum("bij,jhw->bihw", theta.detach(), place) * half


def demons(
    moving: Tensor,
    fixed: Tensor,
    *,
    sigma: float = 1.5,
    levels: tuple[int, ...] = (2, 1),
    steps: int = 60,
) -> Tensor:
    """Thirion's demons in their symmetric form: each pixel is pushed along the slope of
    the images, and the field is blurred with a Gaussian of `sigma` pixels after each of
    `steps`; first on images smaller by the factors in `levels`.
    """
    with extra("chapters"):
        import SimpleITK as sitk

    moving, fixed = _images(moving, fixed)
    filter = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    filter.SetNumberOfThreads(torch.get_num_threads())
    filter.SetNumberOfIterations(steps)
    filter.SetSmoothDisplacementField(True)
    filter.SetStandardDeviations(sigma)
    u = torch.zeros_like(moving).expand(-1, 2, -1, -1)
    for level in levels:
        small = [
            F.avg_pool2d(x, level)[:, 0].double().cpu().numpy() for x in (fixed, moving)
        ]
        scale = small[0].shape[-1] / u.shape[-1]
        u = F.interpolate(u, small[0].shape[1:], mode="bilinear") * scale
        found = []
        for f, m, start in zip(
            *small, u.double().cpu().movedim(1, -1).flip(-1).numpy(), strict=True
        ):
            field = sitk.GetImageFromArray(start, isVector=True)
            found.append(
                sitk.GetArrayFromImage(
                    filter.Execute(*map(sitk.GetImageFromArray, (f, m)), field)
                )
            )
        u = (
            torch.stack([torch.from_numpy(f) for f in found])
            .flip(-1)
            .movedim(-1, 1)
            .to(moving)
        )
    return u


def tvl1(moving: Tensor, fixed: Tensor, *, attachment: float = 15.0) -> Tensor:
    """Optical flow with a total-variation prior: absolute differences of the images,
    and few places where the field jumps. A larger `attachment` follows the images more
    closely.
    """
    with extra("chapters"):
        from skimage.registration import optical_flow_tvl1

    moving, fixed = _images(moving, fixed)
    pairs = zip(
        fixed[:, 0].double().cpu().numpy(),
        moving[:, 0].double().cpu().numpy(),
        strict=True,
    )
    return torch.stack(
        [torch.from_numpy(optical_flow_tvl1(*p, attachment=attachment)) for p in pairs]
    ).to(moving)

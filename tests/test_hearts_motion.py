"""Fields of motion: warping, chaining, exponentials, strain, and the classical methods
against a known motion.
"""

import math

import numpy as np
import pytest
import torch

from medlib.hearts import motion
from medlib.hearts.phantom import phantom

close = torch.testing.assert_close


def linear(matrix, size=24):
    """(1, 2, size, size): the field of x → centre + matrix (x − centre)."""
    u = torch.zeros(1, 2, size, size, dtype=torch.double)
    x = motion.pixels(u) - (size - 1) / 2
    return torch.einsum(
        "ij,jhw->ihw", torch.tensor(matrix, dtype=torch.double) - torch.eye(2), x
    )[None]


def smooth(size=32, height=2.0):
    """A gentle field that is still at the border."""
    s = torch.linspace(0, math.pi, size, dtype=torch.double)
    bump = torch.outer(s.sin(), s.sin()) ** 2
    return height * torch.stack((bump, -0.5 * bump * torch.linspace(-1, 1, size)))[None]


def inside(x, by=4):
    return x[..., by:-by, by:-by]


def test_a_constant_shift_is_a_roll_in_the_interior():
    x, u = torch.randn(2, 3, 17, 20), torch.zeros(2, 2, 17, 20)
    u[:, 0], u[:, 1] = 2, -3
    close(
        inside(motion.warp(x, u)),
        inside(torch.roll(x, (-2, 3), (2, 3))),
        atol=1e-4,
        rtol=0,
    )


def test_a_half_pixel_shift_is_the_mean_of_two_pixels():
    x, u = torch.randn(1, 1, 9, 11).double(), torch.zeros(1, 2, 9, 11).double()
    u[:, 1] = 0.5
    close(motion.warp(x, u)[..., :-1], (x[..., :-1] + x[..., 1:]) / 2)


def test_a_mask_stays_a_mask():
    mask, u = torch.randint(4, (2, 15, 13)), torch.randn(2, 2, 15, 13)
    out = motion.warp(mask, u, mode="nearest")
    assert (
        out.dtype == mask.dtype
        and out.shape == mask.shape
        and set(out.unique().tolist()) <= {0, 1, 2, 3}
    )
    with pytest.raises(ValueError, match="bilinear reading of torch.int64"):
        motion.warp(mask, u)


def test_warping_agrees_with_scipy():
    from scipy.ndimage import map_coordinates

    x, u = torch.randn(1, 1, 20, 26).double(), torch.randn(1, 2, 20, 26).double()
    places = (motion.pixels(u) + u[0]).numpy()
    expected = map_coordinates(x[0, 0].numpy(), places, order=1, mode="nearest")
    np.testing.assert_allclose(motion.warp(x, u)[0, 0], expected, atol=1e-10)


def test_composition_is_warping_twice():
    x, u, v = motion.pixels(smooth())[None], smooth(), smooth(height=-1.3)
    close(
        inside(motion.warp(x, motion.compose(u, v))),
        inside(motion.warp(motion.warp(x, u), v)),
        atol=1e-9,
        rtol=0,
    )


def test_composition_with_no_motion_changes_nothing():
    u = torch.randn(2, 2, 12, 15)
    close(motion.compose(u, torch.zeros_like(u)), u, atol=1e-5, rtol=0)
    close(motion.compose(torch.zeros_like(u), u), u)


def test_the_exponential_of_a_constant_current_is_the_shift():
    v = torch.tensor([0.3, -0.2]).view(1, 2, 1, 1).expand(1, 2, 14, 18)
    close(motion.exponential(v), v, atol=1e-6, rtol=1e-5)


def test_the_exponential_of_a_linear_current_is_that_of_its_matrix():
    a = torch.tensor([[0.05, -0.2], [0.2, -0.1]]).double()
    found = motion.exponential(linear((torch.eye(2) + a).tolist()), 12)
    close(
        inside(found, 8),
        inside(linear(torch.linalg.matrix_exp(a).tolist()), 8),
        atol=1e-3,
        rtol=0,
    )


def test_forth_and_back_is_no_motion():
    v = smooth()
    home = motion.compose(motion.exponential(v), motion.exponential(-v))
    assert v.norm(dim=1).max() > 1.9 and home.norm(dim=1).max() < 0.02


def test_an_exponential_does_not_fold_where_the_plain_field_does():
    v = 4 * torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    v = torch.nn.functional.interpolate(v, 64, mode="bicubic")
    plain, flown = (
        motion.folded(f).double().mean() for f in (v, motion.exponential(v))
    )
    assert plain > 0.05 and flown < 0.005


@pytest.mark.parametrize(
    "matrix",
    [[[1.2, 0.0], [0.0, 0.7]], [[0.9, -0.3], [0.4, 1.1]], [[-1.0, 0.0], [0.0, 1.0]]],
)
def test_the_jacobian_of_an_affine_field_is_its_determinant(matrix):
    found, expected = (
        motion.jacobian(linear(matrix)),
        torch.linalg.det(torch.tensor(matrix).double()),
    )
    close(found, expected.expand_as(found))
    assert motion.folded(linear(matrix)).all() == (expected < 0)


def test_folds_that_central_differences_do_not_see():
    u = torch.zeros(1, 2, 8, 8)
    u[:, 0, ::2] = 1.5  # every second row lies beyond the next one
    assert motion.jacobian(u)[:, 1:-1].min() > 0 and motion.folded(u).all()


def test_strain_of_a_pure_stretch():
    u = linear([[1 / 1.3, 0.0], [0.0, 1 / 0.8]])  # rows were shorter, columns longer
    rows, columns = (
        torch.eye(2).double()[i].view(1, 2, 1, 1).expand_as(u) for i in (0, 1)
    )
    close(motion.strain(u, rows), torch.full((1, 24, 24), 0.3).double())
    close(motion.strain(u, columns), torch.full((1, 24, 24), -0.2).double())


def test_a_turn_is_no_strain():
    u = linear([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]])
    out, around = motion.polar(u, torch.tensor([[11.5, 11.5]]))
    assert (
        motion.strain(u, out).abs().max() < 1e-9
        and motion.strain(u, around).abs().max() < 1e-9
    )


def test_polar_arrows_are_unit_and_at_right_angles():
    out, around = motion.polar(torch.zeros(1, 2, 9, 9), torch.tensor([[4.2, 3.9]]))
    close(out.norm(dim=1), torch.ones(1, 9, 9))
    assert (out * around).sum(1).abs().max() < 1e-6
    assert (
        out[0, 0, 8, 4] > 0.9 and around[0, 0, 4, 8] > 0.9
    )  # down from the centre; clockwise: down on the right


def test_roughness_is_zero_for_a_shift_and_counts_steps():
    assert motion.roughness(torch.ones(1, 2, 9, 9)) == 0
    assert motion.roughness(linear([[2.0, 0.0], [0.0, 2.0]])).item() == pytest.approx(
        0.5
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_positions_keep_their_digits_whatever_a_field_comes_in(dtype):
    """In bf16 the columns above 256 are even numbers."""
    x, u = torch.zeros(1, 1, 4, 600), torch.zeros(1, 2, 4, 600, dtype=dtype)
    x[..., 511] = 1
    u[:, 1] = 2
    with torch.autocast("cpu", torch.bfloat16):
        moved, far = motion.warp(x.to(dtype), u), motion.exponential(u)
    assert moved.dtype == dtype and moved[0, 0, 1].nonzero().tolist() == [[509]]
    close(far, u.float())
    assert motion.pixels(u)[1, 0].tolist() == list(range(600))
    mask = (300 * x[:, 0]).to(torch.int32)
    found = motion.warp(mask, u, mode="nearest")
    assert found.dtype == torch.int32 and found.unique().tolist() == [0, 300]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_what_is_read_off_a_field_is_in_single_precision_at_least(dtype):
    u = (300 + torch.randn(1, 2, 12, 12)).to(dtype)
    a, b = (1 + torch.rand(2, 1, 1, 32, 32)).to(dtype)
    exact = torch.promote_types(dtype, torch.float32)
    out = motion.polar(u, torch.tensor([[5.3, 6.1]]))[0]
    for f, given in [
        (motion.jacobian, [u]),
        (motion.roughness, [u]),
        (lambda u: motion.polar(u, torch.tensor([[5.3, 6.1]]))[0], [u]),
        (lambda u: motion.strain(u, out.to(dtype)), [u]),
        (lambda u: motion.compose(u, u), [u]),
        (motion.local_correlation, [a, b]),
    ]:
        found, expected = f(*given), f(*(x.double() for x in given))
        assert found.dtype == exact
        close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_nan_is_seen_and_not_read_as_a_pixel():
    x, u = torch.rand(1, 3, 5, 6), torch.zeros(1, 2, 5, 6)
    u[0, 1, 2, 3] = math.nan
    assert motion.warp(x, u).isnan().nonzero().tolist() == [
        [0, c, 2, 3] for c in range(3)
    ]
    for found in (motion.compose(u, u), motion.exponential(u), motion.jacobian(u)):
        assert found.isnan().any()
    with pytest.raises(ValueError, match="NaN; expected numbers"):
        motion.warp(x[:, 0].long(), u, mode="nearest")
    with pytest.raises(ValueError, match="a field with NaN; expected"):
        motion.folded(u)


def test_local_correlation_does_not_mind_brightness():
    a = torch.randn(2, 1, 32, 32)
    assert motion.local_correlation(a, 3 - 2 * a) > 0.99
    assert motion.local_correlation(a, torch.randn_like(a)) < 0.2


def test_local_correlation_by_hand():
    a, b = 2 + torch.rand(2, 1, 1, 6, 7, generator=torch.Generator().manual_seed(0))
    b = b + a / 2
    found = []
    for i in range(6):
        for j in range(7):
            rows, columns = (slice(max(k - 1, 0), k + 2) for k in (i, j))
            c = np.cov(*(x[0, 0, rows, columns].flatten() for x in (a, b)), ddof=0)
            found.append(c[0, 1] ** 2 / (c[0, 0] * c[1, 1] + 1e-3))
    close(motion.local_correlation(a, b, 3).item(), np.mean(found), rtol=1e-4, atol=0)


def test_gradients_are_finite():
    v = torch.zeros(1, 2, 16, 16, requires_grad=True)
    a, b = torch.randn(2, 1, 1, 16, 16)
    a[..., :8] = 0  # no contrast at all
    u = motion.exponential(v)
    out, around = motion.polar(u.detach(), torch.tensor([[8.0, 8.0]]))
    value = (
        motion.local_correlation(motion.warp(a, u), b)
        + motion.roughness(u)
        + motion.jacobian(u).mean()
    )
    (value + motion.strain(u, out).mean() + motion.strain(u, around).mean()).backward()
    assert v.grad.isfinite().all() and v.grad.any()


@pytest.fixture(scope="module")
def shifted():
    """A phantom's slices and the same drawn through a known smooth field, with the
    field.
    """
    x = phantom(
        1, phases=(0.0,), shape=(2, 64, 64), spacing=(10, 3, 3), noise=0.02
    ).image[0, 0][:, None]
    u = smooth(64).float().expand(2, -1, -1, -1)
    return 4 * x, motion.warp(4 * x, u), u


@pytest.mark.parametrize("method, share", [(motion.demons, 0.6), (motion.tvl1, 0.6)])
def test_a_known_smooth_motion_is_found(shifted, method, share):
    moving, fixed, u = shifted
    found, busy = method(moving, fixed), u.norm(dim=1) > 1
    assert found.shape == u.shape and found.dtype == u.dtype
    assert (found - u).norm(dim=1)[busy].mean() < share * u.norm(dim=1)[busy].mean()


def test_without_a_word_demons_and_flow_take_the_chapters_settings(shifted):
    moving, fixed = (x[:1] for x in shifted[:2])
    told = motion.demons(moving, fixed, sigma=1.5, levels=(2, 1), steps=60)
    close(motion.demons(moving, fixed), told)
    close(motion.tvl1(moving, fixed), motion.tvl1(moving, fixed, attachment=15.0))
    close(motion.affine(moving, fixed), motion.affine(moving, fixed, steps=80, lr=0.02))


def test_affine_finds_a_shift(shifted):
    moving, _, u = shifted
    shift = torch.tensor([1.5, -2.0]).view(1, 2, 1, 1).expand_as(u)
    fixed = motion.warp(moving, shift)
    found = motion.affine(moving, fixed)
    assert inside(found - shift).abs().max() < 0.3
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        close(motion.affine(moving, fixed), found)


@pytest.mark.parametrize("method", [motion.affine, motion.demons, motion.tvl1])
def test_the_classical_methods_look_at_their_images_first(method):
    x = torch.rand(2, 1, 16, 16)
    for moving, fixed in (
        (x, x[:1]),
        (x[:, 0], x[:, 0]),
        (x.expand(-1, 2, -1, -1),) * 2,
    ):
        with pytest.raises(ValueError, match=r"expected \(N, 1, H, W\) twice"):
            method(moving, fixed)
    with pytest.raises(ValueError, match="NaN or infinity; expected finite"):
        method(x, x / 0)
    assert method(x.bfloat16(), x.bfloat16()).dtype == torch.float32
    assert method(x.double(), x.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "act, words",
    [
        (
            lambda: motion.warp(torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8)),
            r"\(1, 3, 8, 8\).*\(B, 2, H, W\)",
        ),
        (
            lambda: motion.warp(torch.zeros(1, 1, 8, 8), torch.zeros(1, 2, 8, 9)),
            r"\(1, 1, 8, 8\).*one height",
        ),
        (
            lambda: motion.warp(torch.zeros(3, 8, 8).long(), torch.zeros(1, 2, 8, 8)),
            r"\(3, 8, 8\).*as many",
        ),
        (
            lambda: motion.exponential(torch.zeros(1, 2, 8, 8), -1),
            "steps=-1.*0 or more",
        ),
        (lambda: motion.jacobian(torch.zeros(2, 8, 8)), r"\(2, 8, 8\).*expected"),
        (
            lambda: motion.local_correlation(
                torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), 4
            ),
            "window 4.*odd",
        ),
    ],
)
def test_errors_that_teach(act, words):
    with pytest.raises(ValueError, match=words):
        act()

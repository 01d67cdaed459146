"""Reading images and masks between their pixels, and drawing them anew."""

import pytest
import torch

from medlib.augment import elastic, random_affine, random_shift, sample

close = torch.testing.assert_close


def everywhere(height, width, batch=1):
    """Places (B, H, W, 2) that read every pixel where it is."""
    theta = torch.eye(2, 3).expand(batch, -1, -1)
    size = [batch, 1, height, width]
    return torch.nn.functional.affine_grid(theta, size, align_corners=False)


def test_read_where_they_are_images_and_masks_come_back():
    x, mask = torch.rand(2, 3, 6, 7), torch.randint(4, (2, 6, 7))
    places = everywhere(6, 7, 2)
    close(sample(x, places, mode="bilinear"), x, rtol=0, atol=1e-5)
    assert torch.equal(sample(mask, places, mode="nearest"), mask)


def test_between_two_pixels_an_image_is_their_mean_and_a_mask_is_one_of_them():
    x = torch.tensor([[[[0.0, 4.0]]]])
    places = torch.tensor([[[[0.0, 0.0]]]])  # x = 0: half-way
    assert sample(x, places, mode="bilinear").item() == 2
    assert sample(x[:, 0].long(), places, mode="nearest").item() in (0, 4)


def test_the_mode_decides_and_not_the_type_or_the_rank():
    """A single channel of floating point, (B, H, W), is read bilinearly if so asked."""
    x = torch.tensor([[[0.0, 4.0]]])
    places = torch.tensor([[[[0.0, 0.0]]]])
    assert sample(x, places, mode="bilinear").item() == 2
    assert sample(x[None], places, mode="nearest").item() in (0, 4)


def test_integers_are_never_blended():
    with pytest.raises(ValueError, match="bilinear reading of torch.int64; expected"):
        sample(torch.zeros(1, 4, 4).long(), everywhere(4, 4), mode="bilinear")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_places_keep_their_digits_whatever_the_image_comes_in(dtype):
    x, places = torch.rand(1, 1, 4, 500).to(dtype), everywhere(4, 500)
    for read in (places, places.double()):
        close(sample(x, read, mode="bilinear"), x, rtol=0, atol=1e-2)
    mask = torch.arange(2000).view(1, 4, 500)
    low = places.clamp(-0.5, 0.5).round().to(dtype)  # −1, 0 or 1 in any type
    close(sample(mask, low, mode="nearest"), sample(mask, low.float(), mode="nearest"))


def test_an_image_read_at_nan_is_nan_and_a_mask_is_refused():
    places = everywhere(4, 5)
    places[0, 1, 2, 0] = torch.nan
    for mode in ("bilinear", "nearest"):
        found = sample(torch.rand(1, 2, 4, 5), places, mode=mode)
        assert found.isnan().nonzero().tolist() == [[0, 0, 1, 2], [0, 1, 1, 2]]
    with pytest.raises(ValueError, match="places that are NaN; expected numbers"):
        sample(torch.zeros(1, 4, 5).long(), places, mode="nearest")
    # Beyond the image lies its edge, however far.
    far = sample(torch.rand(1, 1, 4, 5), places.nan_to_num(torch.inf), mode="bilinear")
    assert far.isfinite().all()


def test_stacks_are_read_slice_by_slice():
    x, mask = torch.rand(2, 1, 3, 6, 7), torch.randint(4, (2, 3, 6, 7))
    places = everywhere(6, 7, 2) + 0.1
    for z in range(3):
        for whole, mode in ((x, "bilinear"), (mask, "nearest")):
            one = whole[:, :, z] if whole is x else whole[:, z]
            found = sample(whole, places, mode=mode)
            close(
                found[:, :, z] if whole is x else found[:, z],
                sample(one, places, mode=mode),
            )


def test_random_shift_moves_whole_images():
    x = torch.zeros(50, 1, 9, 9)
    x[:, 0, 4, 4] = 1
    moved = random_shift(2)(x, torch.Generator().manual_seed(0))
    places = torch.stack([m[0].nonzero()[0] for m in moved])
    assert (
        moved.sum() == 50
        and places.min() >= 2
        and places.max() <= 6
        and len(places.unique(dim=0)) > 10
    )
    assert torch.equal(random_shift(0)(x, torch.Generator()), x)


def test_affine_moves_an_image_and_its_mask_alike():
    x = torch.zeros(20, 1, 40, 40)
    x[:, :, 10:20, 18:30] = 1
    moved, mask = random_affine(contrast=0)(
        x, x[:, 0].long(), torch.Generator().manual_seed(0)
    )
    assert ((moved[:, 0] > 0.5) == (mask == 1)).float().mean() > 0.99
    assert mask.dtype == torch.long and (moved - x).abs().amax((1, 2, 3)).min() > 0.5


@pytest.mark.parametrize(
    "settings",
    [
        {"degrees": 30, "scale": 0, "shift": 0},
        {"degrees": 0, "scale": 0, "shift": 0.2},
        {"degrees": 0, "scale": 0.3, "shift": 0},
    ],
)
def test_each_part_of_the_affine_moves_something(settings):
    x = torch.zeros(8, 1, 41, 41)
    x[:, :, 15:18, 8:33] = 1
    moved, _ = random_affine(contrast=0, **settings)(
        x, x[:, 0].long(), torch.Generator().manual_seed(0)
    )
    # The median, since a draw may be next to nothing.
    assert (moved - x).abs().amax((1, 2, 3)).median() > 0.9


def drawn(*sizes):
    """What `random_affine` draws first with the seed 0: from −1 to 1."""
    return 2 * torch.rand(*sizes, generator=torch.Generator().manual_seed(0)) - 1


def test_a_turn_is_by_the_angle_that_was_drawn():
    """A spot on the right of the centre is found again at −angle (rows count down)."""
    x = torch.zeros(6, 1, 101, 101)
    x[:, :, 48:53, 78:83] = 1  # 30 pixels to the right
    turn = random_affine(degrees=40, scale=0, shift=0, contrast=0)
    moved, _ = turn(x, x[:, 0].long(), torch.Generator().manual_seed(0))
    rows, columns = torch.meshgrid(*[torch.arange(101.0) - 50] * 2, indexing="ij")
    weight = moved[:, 0] / moved.sum((1, 2, 3))[:, None, None]
    row, column = (weight * rows).sum((1, 2)), (weight * columns).sum((1, 2))
    angle = torch.rad2deg(torch.atan2(row, column))
    close(angle, -40 * drawn(5, 6)[0], atol=0.3, rtol=0)
    close(torch.hypot(row, column), torch.full((6,), 30.0), atol=0.3, rtol=0)


def test_stretch_and_shift_are_what_was_drawn():
    """A place (column, row) from −1 to 1 is read at stretch · place + move."""
    line = torch.linspace(-1, 1, 201) * 200 / 201  # the centres of 201 pixels
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    x = torch.stack((columns, rows)).expand(4, -1, -1, -1)  # an image of its places
    change = random_affine(degrees=0, scale=0.2, shift=0.1, contrast=0)
    moved, _ = change(x, x[:, 0].long(), torch.Generator().manual_seed(0))
    draw = drawn(5, 4)
    middle = moved[:, :, 100, 100]
    close(middle, 2 * 0.1 * draw[3:].T, atol=1e-4, rtol=0)
    slope = torch.stack(
        (moved[:, 0, 100, 110] - middle[:, 0], moved[:, 1, 110, 100] - middle[:, 1]), 1
    )
    close(slope / line[110], (1 + 0.2 * draw[1:3]).T, atol=1e-3, rtol=0)


def test_an_affine_map_keeps_the_type_and_no_autocast_rounds_its_places():
    x = torch.rand(2, 1, 200, 200)
    y, affine = (300 * x[:, 0]).long(), random_affine()

    def moved(x):
        return affine(x, y, torch.Generator().manual_seed(0))

    plain, mask = moved(x)
    with torch.autocast("cpu", torch.bfloat16):
        same, labels = moved(x)
    assert torch.equal(plain, same) and torch.equal(mask, labels)
    assert moved(x.bfloat16())[0].dtype == torch.bfloat16


def test_contrast_and_brightness_change_the_grey_values_alone():
    x = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    still = random_affine(degrees=0, scale=0, shift=0, contrast=0.2)
    y = torch.zeros(50, 8, 8).long()
    moved, _ = still(x, y, torch.Generator().manual_seed(0))
    spread = moved.flatten(1).std(1) / x.flatten(1).std(1)
    assert 0.1 < spread.std() < 0.3 and abs(spread.mean() - 1) < 0.1
    generator = torch.Generator().manual_seed(0)
    torch.rand(5, 50, generator=generator)  # angle, stretches and shifts
    a, b = 0.2 * torch.randn(2, 50, 1, 1, 1, generator=generator)
    close(moved, x * (1 + a) + b, atol=1e-5, rtol=0)


def test_what_is_drawn_by_default():
    x = torch.rand(3, 1, 20, 20)
    named = random_affine(degrees=15, scale=0.1, shift=0.05, contrast=0.2)
    one, other = (
        f(x, x[:, 0].long(), torch.Generator().manual_seed(0))[0]
        for f in (random_affine(), named)
    )
    assert torch.equal(one, other)


def test_augmentation_moves_all_slices_of_a_stack_alike():
    x = torch.rand(2, 1, 1, 32, 32).expand(2, 1, 4, 32, 32)
    y = (x[:, 0] > 0.5).long()
    moved, labels = random_affine(contrast=0)(x, y, torch.Generator().manual_seed(0))
    assert (
        moved.shape == x.shape and labels.shape == y.shape and not torch.equal(moved, x)
    )
    assert (moved == moved[:, :, :1]).all() and (labels == labels[:, :1]).all()
    flat, _ = random_affine(contrast=0)(
        x[:, :, 0], y[:, 0], torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(flat, moved[:, :, 0])


# ---------------------------------------------------------------- elastic deformation


def bent(strength, *, points=3, batch=200, side=33):
    """Where each pixel was read, in sides of the image: a batch whose pictures are
    their own rows and columns."""
    line = (torch.arange(side) + 0.5) / side
    x = torch.stack(torch.meshgrid(line, line, indexing="ij")).repeat(batch, 1, 1, 1)
    y = torch.zeros(batch, side, side, dtype=torch.long)
    draw = torch.Generator().manual_seed(0)
    found, _ = elastic(strength=strength, points=points)(x, y, draw)
    return found - x


def test_without_strength_nothing_is_bent():
    close(bent(0.0, batch=2), torch.zeros(2, 2, 33, 33), rtol=0, atol=1e-6)


def test_the_displacement_at_a_grid_point_has_the_standard_deviation_asked_for():
    """The middle of 3 × 3 points: away from the edge, which repeats."""
    moves = bent(0.02)[:, :, 16, 16]
    assert abs(moves.std().item() - 0.02) < 0.002
    assert abs(moves.mean().item()) < 0.002
    assert abs(moves.prod(1).mean().item()) < 1e-4, "rows and columns are drawn apart"


def test_more_points_bend_more_often_along_a_line():
    """Curvature of the displacement between the points grows with their number."""
    few, many = (
        bent(0.01, points=n)[..., 4:-4].diff(n=2, dim=3).abs().mean() for n in (3, 9)
    )
    assert many > 4 * few


def test_a_mask_is_bent_as_its_image_is():
    disc = (everywhere(64, 64)[0].norm(dim=-1) < 0.6).long().repeat(8, 1, 1)
    draw = torch.Generator().manual_seed(1)
    x, y = elastic(strength=0.05)(disc[:, None].float(), disc, draw)
    assert (y != disc).float().mean() > 0.02, "something moved"
    assert ((x[:, 0] > 0.5).long() == y).float().mean() > 0.995


def test_a_deformation_needs_points_from_corner_to_corner():
    with pytest.raises(ValueError, match="points=1; expected 2 or more"):
        elastic(points=1)


def test_turns_and_bends_are_read_in_one_pass():
    """With hardly any bending it is the affine augmentation, draw for draw."""
    how = {"degrees": 15, "scale": 0.1, "shift": 0.05}
    x, y = torch.rand(4, 1, 32, 32), torch.randint(4, (4, 32, 32))
    one, other = (torch.Generator().manual_seed(3) for _ in range(2))
    found = elastic(strength=0.0, **how)(x, y, one)
    expected = random_affine(contrast=0, **how)(x, y, other)
    close(found[0], expected[0], rtol=0, atol=1e-5)
    assert torch.equal(found[1], expected[1])

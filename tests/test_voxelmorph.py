"""VoxelMorph and its diffeomorphic form; what its loss sees; learning a motion from
images alone.
"""

import pytest
import torch

from medlib import fit, seed
from medlib.hearts import motion, pairs
from medlib.models.voxelmorph import Unsupervised, VoxelMorph, loss, refine

close = torch.testing.assert_close
X = torch.randn(2, 2, 40, 52, generator=torch.Generator().manual_seed(0))


def shaken(**options):
    """A network whose last layer no longer says 0."""
    torch.manual_seed(0)
    net = VoxelMorph(width=4, **options)
    torch.nn.init.normal_(net.unet.head.weight, std=0.3)
    return net


@pytest.mark.parametrize("diffeomorphic", [False, True])
def test_at_initialisation_nothing_moves(diffeomorphic):
    u = VoxelMorph(width=4, diffeomorphic=diffeomorphic)(X)
    assert u.shape == (2, 2, 40, 52) and not u.any()
    close(motion.warp(X[:, :1], u), X[:, :1], atol=1e-4, rtol=0)


def test_parameter_count():
    with torch.device("meta"):
        assert sum(p.numel() for p in VoxelMorph().parameters()) == 483_474


def test_the_current_runs_back_what_it_ran_forth():
    net = shaken(diffeomorphic=True)
    with torch.no_grad():
        v = torch.nn.functional.avg_pool2d(net.current(X), 5, 1, 2)
        forth, back = net.field(v), net.field(v, -1)
    assert forth.norm(dim=1).max() > 1
    assert (
        motion.compose(forth, back)[..., 6:-6, 6:-6].norm(dim=1).mean()
        < 0.1 * forth.norm(dim=1).mean()
    )


def test_half_the_time_twice_is_the_whole():
    net = shaken(diffeomorphic=True)
    v = torch.nn.functional.avg_pool2d(net.current(X).detach(), 5, 1, 2)
    half = net.field(v, 0.5)
    error = (motion.compose(half, half) - net.field(v))[..., 6:-6, 6:-6]
    assert error.norm(dim=1).mean() < 0.05 * net.field(v).norm(dim=1).mean()


def test_the_plain_form_is_the_current_read_in_between():
    net = shaken()
    close(net.field(torch.ones(1, 2, 5, 6)), torch.full((1, 2, 10, 12), 2.0))


@pytest.mark.parametrize("cycle", [False, True])
def test_what_the_loss_sees(cycle):
    net = shaken().eval()
    out, u = Unsupervised(net, cycle=cycle).eval()(X), net(X)
    close(out[:, :2], u)
    close(out[:, 2:3], motion.warp(X[:, :1], u))
    close(out[:, 3:4], X[:, 1:])
    assert out.shape[1] == (6 if cycle else 4)


def test_identical_images_that_do_not_move_cost_next_to_nothing():
    x = X[:, :1].expand(-1, 2, -1, -1)
    out = Unsupervised(VoxelMorph(width=4), cycle=True)(x)
    assert (
        loss(1.0, cycle=1.0, likeness="mse")(out, None) < 1e-8
        and loss(1.0)(out, None) < 0.02
    )


@pytest.mark.parametrize("diffeomorphic", [False, True])
@pytest.mark.parametrize("likeness", ["ncc", "mse"])
def test_every_parameter_gets_a_finite_gradient(diffeomorphic, likeness):
    net = shaken(diffeomorphic=diffeomorphic)
    loss(0.1, cycle=0.1, likeness=likeness)(
        Unsupervised(net, cycle=True)(X), None
    ).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert all(p.grad.any() for p in net.unet.head.parameters())


@pytest.mark.parametrize("diffeomorphic", [False, True])
def test_it_learns_a_beat_from_images_alone(diffeomorphic):
    seed(0)
    lessons = pairs.phantom_pairs(2, seed=1, depth=2)
    data, net = (
        pairs.dataset(lessons, lessons, name="phantom", source="simulated"),
        VoxelMorph(width=8, diffeomorphic=diffeomorphic),
    )
    value = loss(0.02, likeness="mse")
    before = value(Unsupervised(net)(data.val.x), None)
    fit(
        Unsupervised(net),
        data,
        epochs=40,
        batch_size=8,
        lr=1e-2,
        loss=value,
        keep="last",
        score=lambda o, _: 0.0,
        validations=1,
    )
    assert (
        value(
            Unsupervised(net.eval())(data.val.x.to(next(net.parameters()).device)), None
        )
        < 0.8 * before
    )


def test_refining_lowers_the_loss_and_leaves_the_network_alone():
    net, value = shaken(diffeomorphic=True), loss(0.02, likeness="mse")
    x = torch.cat(pairs.phantom_pairs(1, seed=3, depth=2))
    before = [p.clone() for p in net.parameters()]
    first, last = refine(net, x, value, steps=0), refine(net, x, value, steps=30)
    cost = [
        value(torch.cat((u, motion.warp(x[:, :1], u), x[:, 1:]), 1), None)
        for u in (first, last)
    ]
    assert cost[1] < 0.9 * cost[0] and net.training and not last.requires_grad
    assert all(
        torch.equal(a, b) and b.grad is None
        for a, b in zip(before, net.parameters(), strict=True)
    )


@pytest.mark.parametrize("act, words", [
    (lambda: VoxelMorph(width=4)(torch.zeros(1, 2, 9, 8)), r"\(1, 2, 9, 8\).*of 2"),
    (lambda: VoxelMorph(width=4)(torch.zeros(2, 8, 8)), r"\(2, 8, 8\).*\(B, 2, H, W\)"),
    (lambda: loss(-1.0), "-1.0.*0 or more"),
    (lambda: loss(1.0, likeness="psnr"), "psnr.*ncc or mse"),
])  # fmt: skip
def test_errors_that_teach(act, words):
    with pytest.raises(ValueError, match=words):
        act()

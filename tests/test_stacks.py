"""Networks that see a stack of slices: 3D U-Net, V-Net, 2.5D, RFCN and propagation."""

import pytest
import torch
from torch.nn import functional as F

from medlib import cost, losses
from medlib.augment import random_affine
from medlib.models import RFCN, Neighbours, Propagation, SmallUNet, UNet3D, VNet
from medlib.models.propagation import taught
from medlib.models.rfcn import ConvGRU

FLAT = ((1, 2, 2),) * 3
SMALL = {
    "3D U-Net": lambda: UNet3D(1, 4, width=2, pool=FLAT, patch=2),
    "V-Net": lambda: VNet(
        1, 4, width=4, strides=((1, 2, 2),) * 2, kernel=(3, 3, 3), norm=True, patch=2
    ),
    "2D": lambda: Neighbours(1, 4, reach=0, width=4),
    "2.5D": lambda: Neighbours(1, 4, width=4),
    "RFCN": lambda: RFCN(1, 4, width=4),
    "propagation": lambda: Propagation(1, 4, width=4),
}
REACH = {
    "2D": 0,
    "2.5D": 1,
}  # slices up and down that a slice's mask depends on; the others: all, or all above


@pytest.fixture(params=SMALL)
def name(request):
    return request.param


@pytest.fixture
def stack():
    return torch.randn(2, 1, 5, 32, 32, generator=torch.Generator().manual_seed(0))


def eager(name):
    torch.manual_seed(0)
    return SMALL[name]().eval()


def test_logits_are_as_large_as_the_stack(name, stack):
    assert eager(name)(stack).shape == (2, 4, 5, 32, 32)


def test_what_a_slice_depends_on(name, stack):
    net, other = eager(name), stack.clone()
    other[:, :, 3] += torch.randn(2, 1, 32, 32)
    moved = (net(other) - net(stack)).abs().amax((0, 1, 3, 4)) > 1e-4
    if name in REACH:
        assert moved.tolist() == [abs(k - 3) <= REACH[name] for k in range(5)]
    elif name in ("RFCN", "propagation"):  # from the base to the apex, never back
        assert moved.tolist() == [False] * 3 + [True] * 2
    else:
        assert moved.all()


def test_every_parameter_gets_a_finite_gradient(name, stack):
    net, target = SMALL[name](), torch.randint(0, 4, (2, 5, 32, 32))
    losses.dice_ce(net(stack), target).backward()
    lost = [
        n
        for n, p in net.named_parameters()
        if p.grad is None or not p.grad.isfinite().all()
    ]
    assert not lost


def test_an_image_for_a_stack_is_refused(name):
    with pytest.raises(ValueError, match=r"expected \(B, 1, D, H, W"):
        eager(name)(torch.zeros(1, 1, 32, 32))


def test_one_step_of_training_works_without_numbers(name):
    with torch.device("meta"):
        net, x, y = (
            SMALL[name](),
            torch.empty(2, 1, 4, 32, 32),
            torch.zeros(2, 4, 32, 32, dtype=torch.long),
        )
        losses.soft_dice(net(x), y).backward()


def test_the_papers_parameter_counts():
    assert (
        cost.parameters_and_macs(lambda: VNet(1, 2), (1, 16, 16, 16))[0] == 65_175_314
    )
    assert cost.parameters_and_macs(lambda: UNet3D(3, 3), (3, 8, 8, 8))[0] == 19_072_291


def randomise(net):
    torch.manual_seed(0)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return net.double()


@torch.no_grad()
def test_a_3d_unet_of_two_levels_by_hand():
    net = randomise(UNet3D(1, 2, width=2, pool=((1, 2, 2), (3, 1, 2))))
    w = net.state_dict()

    def twice(x, name):
        for conv, norm in ((0, 1), (3, 4)):
            x = F.conv3d(x, w[f"{name}.{conv}.weight"], padding=1)
            scale, shift = w[f"{name}.{norm}.weight"], w[f"{name}.{norm}.bias"]
            x = F.batch_norm(x, None, None, scale, shift, training=True).clamp(min=0)
        return x

    x = torch.randn(2, 1, 3, 4, 8, dtype=torch.double)
    first = twice(x, "down.0")
    second = twice(F.max_pool3d(first, (1, 2, 2)), "down.1")
    y = twice(F.max_pool3d(second, (3, 1, 2)), "bottleneck")
    y = F.conv_transpose3d(y, w["raise_.0.weight"], stride=(3, 1, 2))
    y = twice(torch.cat((second, y), 1), "up.0")
    y = F.conv_transpose3d(y, w["raise_.1.weight"], stride=(1, 2, 2))
    y = twice(torch.cat((first, y), 1), "up.1")
    y = F.conv3d(y, w["head.weight"], w["head.bias"])
    torch.testing.assert_close(net(x), y)


@torch.no_grad()
def test_a_3d_unet_sees_patches_of_the_plane_as_channels():
    net = randomise(UNet3D(1, 2, width=2, pool=FLAT[:1], patch=3)).eval()
    whole = UNet3D(9, 18, width=2, pool=FLAT[:1]).double().eval()
    whole.load_state_dict(net.state_dict())
    x = torch.randn(1, 1, 2, 6, 12, dtype=torch.double)
    places = [(i, j) for i in range(3) for j in range(3)]
    logits = whole(torch.cat([x[..., i::3, j::3] for i, j in places], 1))
    for k, (i, j) in enumerate(places):
        torch.testing.assert_close(net(x)[..., i::3, j::3], logits[:, k::9])
    with pytest.raises(ValueError, match=r"multiples of \(1, 3, 3\)"):
        net(x[..., :8])


@torch.no_grad()
def test_a_3d_unet_is_framed_by_zeros_at_the_end():
    net = UNet3D(1, 2, width=2, pool=((3, 4, 5),)).eval()
    x = torch.randn(1, 1, 4, 6, 7)
    y = net(F.pad(x, (0, 3, 0, 2, 0, 2)))
    assert y.shape == (1, 2, 6, 8, 10)
    torch.testing.assert_close(net(x), y[..., :4, :6, :7])


@pytest.mark.parametrize("kernel", [(1, 3, 5), (5, 7, 9)])
def test_a_kernel_of_three_sizes_keeps_the_size(kernel):
    net = UNet3D(width=2, pool=FLAT[:1], kernel=kernel)
    assert net(torch.randn(1, 1, 3, 8, 6)).shape == (1, 2, 3, 8, 6)
    assert [m.kernel_size for m in net.down[0] if hasattr(m, "padding")] == [kernel] * 2


def test_without_a_word_it_is_the_papers_3d_network():
    with torch.device("meta"):
        net, papers = UNet3D(), UNet3D(1, 2, width=32, pool=((2, 2, 2),) * 3)
    assert cost.parameters(net) == cost.parameters(papers)
    assert net.pool == papers.pool and net.patch == 1


@torch.no_grad()
def test_a_vnet_of_one_level_by_hand():
    net = randomise(VNet(1, 2, width=2, strides=((1, 2, 2),), kernel=(3, 3, 3)))
    w = net.state_dict()

    def prelu(x, name):
        return torch.where(x > 0, x, w[name + ".weight"].view(-1, 1, 1, 1) * x)

    def conv(x, name, **options):
        return F.conv3d(x, w[name + ".weight"], w[name + ".bias"], **options)

    x = torch.randn(2, 1, 3, 4, 6, dtype=torch.double)
    first = conv(x, "first.convolutions.0.0", padding=1) + torch.cat((x, x), 1)
    first = prelu(first, "first.prelu")
    down = prelu(conv(first, "down.0.0", stride=(1, 2, 2)), "down.0.1")
    y = conv(down, "left.0.convolutions.0.0", padding=1)
    y = prelu(y, "left.0.convolutions.0.1")
    y = conv(y, "left.0.convolutions.1.0", padding=1) + down
    y = prelu(y, "left.0.prelu")
    up = w["up.0.0.weight"], w["up.0.0.bias"]
    y = prelu(F.conv_transpose3d(y, *up, stride=(1, 2, 2)), "up.0.1")
    joined = torch.cat((first, y), 1)
    y = conv(joined, "right.0.convolutions.0.0", padding=1) + joined
    y = conv(prelu(y, "right.0.prelu"), "head")
    torch.testing.assert_close(net(x), y)


def test_with_flat_kernels_a_3d_unet_sees_slices_one_by_one(stack):
    net = UNet3D(1, 4, width=2, pool=FLAT, kernel=(1, 3, 3)).eval()
    torch.testing.assert_close(
        net(stack)[:, :, 2:3], net(stack[:, :, 2:3]), rtol=1e-4, atol=1e-5
    )


def test_a_3d_convolution_of_flat_kernels_is_the_2d_one():
    net = UNet3D(1, 4, width=2, pool=FLAT, kernel=(1, 3, 3)).eval()
    first, x = net.down[0][0], torch.randn(1, 1, 3, 8, 8)
    expected = F.conv2d(x[0].transpose(0, 1), first.weight[:, :, 0], padding=1)
    torch.testing.assert_close(first(x)[0].transpose(0, 1), expected)


def test_3d_unet_takes_odd_sizes():
    assert UNet3D(1, 2, width=2).eval()(torch.randn(1, 1, 9, 17, 20)).shape == (
        1,
        2,
        9,
        17,
        20,
    )


def test_vnet_says_which_sizes_it_takes():
    with pytest.raises(ValueError, match=r"multiples of \(16, 16, 16"):
        VNet(width=2)(torch.zeros(1, 1, 8, 16, 16))
    with pytest.raises(ValueError, match="expected a width that is a multiple of 3"):
        VNet(3, 2, width=16)


def test_a_residual_stage_adds_its_input():
    stage = VNet(width=2).first.eval()
    torch.nn.init.zeros_(stage.convolutions[0][0].weight)
    torch.nn.init.zeros_(stage.convolutions[0][0].bias)
    x = torch.rand(1, 1, 3, 3, 3)
    torch.testing.assert_close(stage(x), x.expand(1, 2, 3, 3, 3))


def test_without_reach_it_is_the_2d_network(stack):
    net = eager("2D")
    torch.testing.assert_close(
        net(stack)[:, :, 1], net.net(stack[:, :, 1]), rtol=1e-4, atol=1e-5
    )


def test_gru_equals_torchs_on_one_pixel():
    """Theirs resets after the product, ours before: the same where the memory's weights
    are diagonal.
    """
    ours, theirs = ConvGRU(3), torch.nn.GRU(3, 3, batch_first=True)
    ours.candidate.weight.data[:, 3:] *= torch.eye(3)[..., None, None]
    z, r, q = (
        *ours.gates.weight[:, :, 1, 1].chunk(2),
        ours.candidate.weight[:, :, 1, 1],
    )
    bz, br, bq = (*ours.gates.bias.chunk(2), ours.candidate.bias)
    theirs.weight_ih_l0.data = torch.cat(
        (r[:, :3], -z[:, :3], q[:, :3])
    ).data  # their z is the complement of ours
    theirs.weight_hh_l0.data = torch.cat((r[:, 3:], -z[:, 3:], q[:, 3:])).data
    theirs.bias_ih_l0.data, theirs.bias_hh_l0.data = (
        torch.cat((br, -bz, bq)).data,
        torch.zeros(9),
    )
    x = torch.randn(2, 4, 3)
    torch.testing.assert_close(ours(x[..., None, None])[..., 0, 0], theirs(x)[0])


def test_a_gru_whose_gate_is_shut_remembers_nothing():
    gru = ConvGRU(2)
    gru.gates.bias.data[:2] = -50
    assert gru(torch.randn(1, 3, 2, 4, 4)).abs().max() < 1e-6


def test_features_recur_and_masks_do_not(stack):
    """The recurrent network has no place where a mask goes in; propagation has."""
    net, empty = eager("propagation"), torch.zeros(2, 32, 32, dtype=torch.long)
    full = torch.full_like(empty, 3)
    changed = net(stack, {1: full}) - net(stack, {1: empty})
    assert changed[:, :, :2].abs().max() == 0 and changed[:, :, 2].abs().max() > 1e-4


def test_with_its_own_masks_as_the_truth_teacher_forcing_changes_nothing(stack):
    net = eager("propagation")
    free = net(stack)
    forced = net(torch.cat((stack, free.argmax(1)[:, None].float()), 1))
    torch.testing.assert_close(free, forced, rtol=1e-3, atol=1e-4)


def test_taught_lays_the_moved_labels_beside_the_moved_image():
    x, y = torch.randn(2, 1, 3, 16, 16), torch.randint(0, 4, (2, 3, 16, 16))
    both, labels = taught(random_affine())(x, y, torch.Generator().manual_seed(0))
    assert both.shape == (2, 2, 3, 16, 16) and torch.equal(both[:, 1].long(), labels)


def test_rfcn_without_its_memory_is_the_unet(stack):
    net = eager("RFCN")
    net.gru = torch.nn.Identity()
    unet = SmallUNet(1, 4, width=4).eval()
    unet.load_state_dict(net.net.state_dict())
    torch.testing.assert_close(
        net(stack)[:, :, 2], unet(stack[:, :, 2]), rtol=1e-4, atol=1e-5
    )

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from medlib import explain
from medlib.data import Split
from medlib.models import UNet


class Corner(nn.Module):
    """Class 1 scores the brightness of a map that copies the image; class 0 scores its
    opposite.
    """

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 1, 1)
        nn.init.ones_(self.features.weight)
        nn.init.zeros_(self.features.bias)

    def forward(self, x):
        score = self.features(x).mean((1, 2, 3))
        return torch.stack([-score, score], 1)


def image():
    x = torch.zeros(1, 1, 8, 8)
    x[..., :2, :2] = 1
    return x


def test_grad_cam_by_hand():
    model, x = Corner().train(), image()
    maps = explain.grad_cam(model, model.features, x, torch.tensor([1]))
    torch.testing.assert_close(maps, x[:, 0])
    assert not explain.grad_cam(model, model.features, x, torch.tensor([0])).any()
    assert model.training


def test_feature_maps_are_those_of_the_layer():
    model, x = Corner(), image()
    torch.testing.assert_close(explain.feature_maps(model, model.features, x), x)
    assert not model.features._forward_hooks


def test_randomised_is_a_changed_copy():
    model = Corner()
    one, same = explain.randomised(model, 1), explain.randomised(model, 1)
    assert torch.equal(one.features.weight, same.features.weight)
    assert not torch.equal(one.features.weight, model.features.weight)


def test_sanity_sees_a_map_that_ignores_the_weights():
    class Stubborn(Corner):
        def __init__(self):
            super().__init__()
            self.features, self.unused = nn.Identity(), nn.Linear(1, 1)

    x, y = torch.rand(3, 1, 8, 8), torch.ones(3, dtype=torch.long)
    found = explain.sanity(Stubborn(), lambda m: m.features, x, y, networks=4)
    assert len(found.trained) == 4 and len(found.random) == 2 and found.images == 3
    assert min(found.trained + found.random) > 0.999


def test_sanity_is_the_mean_over_images_for_each_random_network(monkeypatch):
    from scipy.stats import spearmanr

    rng = torch.Generator().manual_seed(0)
    maps = [torch.rand(5, 6, 6, generator=rng) for _ in range(5)]
    maps[2][3] = 0  # flat: this image has no ranks there
    monkeypatch.setattr(explain, "grad_cam", lambda *_: next(given))
    given = iter(maps)
    x, y = torch.zeros(5, 1, 6, 6), torch.zeros(5, dtype=torch.long)
    found = explain.sanity(Corner(), lambda m: m.features, x, y, networks=4)

    def by_hand(a, b):
        kept = [i for i in range(5) if a[i].std() > 0 and b[i].std() > 0]
        return np.mean([spearmanr(a[i].ravel(), b[i].ravel())[0] for i in kept])

    own, *others = [m.numpy() for m in maps]
    assert found.trained == pytest.approx([by_hand(own, o) for o in others])
    assert found.random == pytest.approx([by_hand(*others[:2]), by_hand(*others[2:])])
    with pytest.raises(ValueError, match="4 or more"):
        explain.sanity(Corner(), lambda m: m.features, x, y, networks=3)


def test_cases_are_the_first_of_each_class():
    split = Split(torch.zeros(6, 1, 2, 2), torch.tensor([1, 0, 1, 0, 0, 1]))
    assert explain.cases(split, 2).tolist() == [1, 3, 0, 2]


def test_surest_mistakes_come_first():
    logits = torch.tensor([[5.0, 0], [0, 5], [0, 1], [3, 0]])
    result = SimpleNamespace(logits=logits, target=torch.tensor([1, 1, 0, 0]))
    assert explain.surest_mistakes(result, 2).tolist() == [0, 2]


def test_sanity_says_what_the_ranks_mean():
    def said(trained):
        return explain.sanity_says(explain.Sanity(trained, [0.1, -0.1, 0.05], 8))

    # One random network out of many may agree by chance: that is no agreement.
    assert "depend on what was learnt" in said([0.46, -0.27, 0.25, -0.2, -0.1])
    assert "tend to agree" in said([0.5, 0.4, 0.45])
    assert "opposite" in said([-0.5, -0.4, -0.45])
    assert "-0.450 [" in said([-0.5, -0.4, -0.45]) and "3 random" in said([1, 1, 1])
    assert "too few" in said([0.3])


def relus(inplace):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(inplace), nn.Conv2d(4, 4, 3), nn.ReLU(inplace),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip


@pytest.mark.parametrize("i", [0, 2])
def test_maps_are_those_of_the_layer_and_not_of_what_changes_them_in_place(i):
    plain, hasty = relus(False), relus(True)
    x, target = torch.rand(1, 1, 10, 10), torch.tensor([1])
    maps = explain.feature_maps(hasty, hasty[i], x)
    assert torch.equal(maps, plain[: i + 1](x).detach()) and maps.min() < 0
    expected = explain.grad_cam(plain, plain[i], x, target)
    with torch.no_grad():
        hasty.requires_grad_(False)
        assert torch.equal(explain.grad_cam(hasty, hasty[i], x, target), expected)


class Twice(Corner):
    """Runs its layer twice, one never, and one that gives two things."""

    def __init__(self):
        super().__init__()
        self.never, self.two = nn.Conv2d(1, 1, 1), nn.MaxPool2d(2, return_indices=True)

    def forward(self, x):
        self.two(x)
        return super().forward(self.features(x))


@pytest.mark.parametrize(
    "name, words",
    [
        ("features", "Conv2d ran 2 times for one batch; expected"),
        ("never", "Conv2d ran 0 times for one batch; expected"),
        ("two", r"MaxPool2d gives a tuple \(\); expected a layer that gives maps"),
    ],
)
def test_a_layer_without_maps_of_its_own_is_refused(name, words):
    model = Twice()
    layer = getattr(model, name)
    for look in (explain.feature_maps, partial(explain.grad_cam, target=torch.ones(1))):
        with pytest.raises(ValueError, match=words):
            look(model, layer, image())
        assert not layer._forward_hooks


def test_nan_is_no_map_no_order_and_no_class():
    model, one = Corner(), torch.tensor([1])
    with pytest.raises(ValueError, match="feature maps with NaN"):
        explain.grad_cam(model, model.features, image() * torch.nan, one)
    with pytest.raises(ValueError, match="for 1 images; expected one class an image"):
        explain.grad_cam(model, model.features, image(), torch.tensor([1, 1]))
    logits = torch.tensor([[5.0, 0], [torch.nan, 5]])
    with pytest.raises(ValueError, match="logits with NaN; expected numbers"):
        explain.surest_mistakes(SimpleNamespace(logits=logits, target=one), 2)
    masks = Split(torch.zeros(2, 1, 3, 3), torch.zeros(2, 3, 3).long())
    with pytest.raises(ValueError, match=r"labels \(2, 3, 3\); expected one an image"):
        explain.cases(masks)
    nine = Split(torch.zeros(9, 1, 1, 1), torch.zeros(9).long())
    assert explain.cases(nine).tolist() == [0, 1, 2, 3]


def test_the_receptive_fields_of_the_u_net_as_counted_by_hand():
    net, chain, found = UNet(width=2), [], []
    for level in net.down:
        chain += [*level]
        found.append(explain.receptive_field(chain))
        chain.append(net.pool)
    chain += [*net.bottleneck]
    found.append(explain.receptive_field(chain))
    assert found == [(5, 1), (14, 2), (32, 4), (68, 8), (140, 16)]


@pytest.mark.parametrize("resize", [False, True])
def test_a_receptive_field_is_where_the_gradient_is(resize):
    """With positive weights and no ReLU in the way, every pixel seen has a gradient."""
    net = UNet(width=1, depth=2, padded=True, resize=resize)
    for weight in net.parameters():
        torch.nn.init.constant_(weight, 0.1)
    x = torch.ones(1, 1, 96, 96, requires_grad=True)
    chain = [*net.down[0], net.pool, *net.down[1], net.pool, *net.bottleneck]
    _, bottom = net.encode(x)
    field, step = explain.receptive_field(chain)
    bottom[0, 0, 12, 12].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    # Max-pooling of equal pixels sends the gradient to the first of them alone.
    assert field - step < rows.max() - rows.min() + 1 <= field


def test_a_transposed_convolution_looks_back_to_one_position():
    up = torch.nn.ConvTranspose2d(1, 1, 2, stride=2)
    assert explain.receptive_field([torch.nn.MaxPool2d(2), up]) == (2, 1)
    wide = torch.nn.ConvTranspose2d(1, 1, 4, stride=2)
    assert explain.receptive_field([torch.nn.MaxPool2d(2), wide]) == (4, 1)


def test_a_receptive_field_that_is_no_square_is_refused():
    with pytest.raises(ValueError, match="the same height and width"):
        explain.receptive_field([torch.nn.Conv2d(1, 1, (3, 5))])

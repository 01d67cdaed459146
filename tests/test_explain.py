from types import SimpleNamespace

import torch
from torch import nn

from medlib import explain
from medlib.data import Split


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

    x = torch.rand(3, 1, 8, 8)
    assert (
        min(
            explain.sanity(
                Stubborn(), lambda m: m.features, x, torch.ones(3, dtype=torch.long)
            )
        )
        > 0.999
    )


def test_cases_are_the_first_of_each_class():
    split = Split(torch.zeros(6, 1, 2, 2), torch.tensor([1, 0, 1, 0, 0, 1]))
    assert explain.cases(split, 2).tolist() == [1, 3, 0, 2]


def test_surest_mistakes_come_first():
    logits = torch.tensor([[5.0, 0], [0, 5], [0, 1], [3, 0]])
    result = SimpleNamespace(logits=logits, target=torch.tensor([1, 1, 0, 0]))
    assert explain.surest_mistakes(result, 2).tolist() == [0, 2]


def test_sanity_says_what_the_ranks_mean():
    assert "close to zero" in explain.sanity_says([0.05, -0.04, 0.02], 3)
    apart = explain.sanity_says([-0.5, -0.4, -0.6], 8)
    assert "the 3 of 8 images" in apart and "lie in opposite positions" in apart
    assert "tend to agree" in explain.sanity_says([0.5, 0.4], 2)
    assert "None of the 8" in explain.sanity_says([], 8)

from otter.test_files import test_case

OK_FORMAT = False

name = "q6"
points = 2


@test_case(
    points=1,
    hidden=False,
    failure_message="With all weights 1 it should be the mean cross-entropy of the pixels. The loss takes logits.",
)
def test_q6_ones(pixel_loss):
    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(5)
    logits = 3 * torch.randn(2, 3, 4, 5, generator=draw)
    target = torch.randint(3, (2, 4, 5), generator=draw)
    assert torch.allclose(
        pixel_loss(logits, target, torch.ones(2, 4, 5)),
        F.cross_entropy(logits, target),
        atol=1e-05,
    )

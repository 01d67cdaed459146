from otter.test_files import test_case

OK_FORMAT = False

name = "q4"
points = 5


@test_case(
    points=1,
    hidden=False,
    failure_message="Each pixel should get one logit a class. Print the shape after each step and hold it against the table.",
)
def test_q4_shape(UNet):
    import torch

    logits = UNet(3, 4, 6)(torch.rand(2, 3, 12, 20))
    assert tuple(logits.shape) == (2, 4, 12, 20), f"yours: {tuple(logits.shape)}"


@test_case(
    points=1,
    hidden=False,
    failure_message="The network has too many or too few parameters. How many maps enter each double behind a skip?",
)
def test_q4_parameters(UNet):
    assert sum(p.numel() for p in UNet().parameters()) == 29330
    assert sum(p.numel() for p in UNet(2, 4, 4).parameters()) == 7448

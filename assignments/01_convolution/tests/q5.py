from otter.test_files import test_case

OK_FORMAT = False

name = "q5"
points = 5


@test_case(
    points=1,
    hidden=False,
    failure_message="Follow the shapes of the table, layer by layer. The first axis is the batch, and it stays.",
)
def test_q5_shape(LeNet):
    import torch

    for batch in (1, 3):
        logits = LeNet()(torch.rand(batch, 1, 28, 28))
        assert tuple(logits.shape) == (batch, 10), f"yours: {tuple(logits.shape)}"


@test_case(
    points=2,
    hidden=False,
    failure_message="The network has too many or too few parameters. Compare each layer with the table, biases too.",
)
def test_q5_parameters(LeNet):
    assert sum(p.numel() for p in LeNet().parameters()) == 61706
    assert sum(p.numel() for p in LeNet(3, 2).parameters()) == 61326

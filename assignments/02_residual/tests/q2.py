from otter.test_files import test_case

OK_FORMAT = False

name = "q2"
points = 5


@test_case(
    points=2,
    hidden=False,
    failure_message="In training, each map should come out with the mean and the spread that its bias and weight ask for. Which axes does the mean go over?",
)
def test_q2_training(BatchNorm):
    import torch
    from torch import nn

    torch.manual_seed(1)
    ours, theirs, x = (BatchNorm(4), nn.BatchNorm2d(4), 3 * torch.randn(3, 4, 2, 5) + 1)
    for norm in (ours, theirs):
        norm.weight.data = torch.tensor([1.0, 2, 3, 4])
        norm.bias.data = torch.tensor([0.0, 1, 2, 3])
    assert torch.allclose(ours(x), theirs(x), atol=0.0001)


@test_case(
    points=1,
    hidden=False,
    failure_message="After two batches the running statistics are not torch's. See which share the new batch gets, and which variance.",
)
def test_q2_running(BatchNorm):
    import torch
    from torch import nn

    torch.manual_seed(2)
    ours, theirs = (BatchNorm(3), nn.BatchNorm2d(3))
    for _ in range(2):
        x = 2 * torch.randn(2, 3, 2, 3) + 5
        (ours(x), theirs(x))
    assert torch.allclose(ours.running_mean, theirs.running_mean, atol=0.0001)
    assert torch.allclose(ours.running_var, theirs.running_var, atol=0.0001)

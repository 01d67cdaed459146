from otter.test_files import test_case

OK_FORMAT = False

name = "q4"
points = 3


@test_case(
    points=1,
    hidden=False,
    failure_message="F(x) is not zero. Which of the five layers has the last word on its scale?",
)
def test_q4_zero(start_as_identity):
    import torch
    from torch import nn

    torch.manual_seed(6)
    block = nn.Module()
    block.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    block.bn1 = nn.BatchNorm2d(4)
    block.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    block.bn2 = nn.BatchNorm2d(4)
    start_as_identity(block)
    f = block.bn2(block.conv2(block.bn1(block.conv1(torch.randn(2, 4, 5, 6))).relu()))
    assert f.abs().max() == 0

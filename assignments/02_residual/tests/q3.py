from otter.test_files import test_case

OK_FORMAT = False

name = "q3"
points = 5


@test_case(
    points=2,
    hidden=False,
    failure_message="Where the shape stays, the values differ from the formula. When is the input added, and is the last ReLU before or after?",
)
def test_q3_same(Block):
    import torch
    import torch.nn.functional as F

    torch.manual_seed(4)
    block, x = (Block(6, 6), torch.randn(2, 6, 7, 10))
    f = F.batch_norm(
        F.conv2d(x, block.conv1.weight, padding=1), None, None, training=True
    ).relu()
    f = F.batch_norm(
        F.conv2d(f, block.conv2.weight, padding=1), None, None, training=True
    )
    assert torch.allclose(block(x), (f + x).relu(), atol=0.0001)


@test_case(
    points=1,
    hidden=False,
    failure_message="The block has too many or too few parameters. Is there a bias where none is needed?",
)
def test_q3_parameters(Block):
    assert sum(p.numel() for p in Block(8, 8).parameters()) == 1184
    assert sum(p.numel() for p in Block(8, 16, 2).parameters()) == 3680

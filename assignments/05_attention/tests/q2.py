from otter.test_files import test_case

OK_FORMAT = False

name = "q2"
points = 4


@test_case(
    points=1,
    hidden=False,
    failure_message="The shape stays, and inside one map all pixels are multiplied by the same gate.",
)
def test_q2_shape(SE):
    import torch

    torch.manual_seed(1)
    x = torch.rand(2, 8, 5, 7) + 0.5
    y = SE(8)(x)
    assert y.shape == x.shape
    gates = y / x
    assert torch.allclose(gates, gates[:, :, :1, :1].expand_as(gates), atol=1e-05)


@test_case(
    points=1,
    hidden=False,
    failure_message="With all weights and biases 0, each gate is the sigmoid of 0, whatever the other gates are.",
)
def test_q2_zero(SE):
    import torch

    net, x = (SE(8), torch.randn(2, 8, 3, 4))
    for p in net.parameters():
        p.data.zero_()
    assert torch.allclose(net(x), x / 2, atol=1e-06)

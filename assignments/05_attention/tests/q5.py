from otter.test_files import test_case

OK_FORMAT = False

name = "q5"
points = 4


@test_case(
    points=1,
    hidden=False,
    failure_message="At the start the module should give x back, at any height and width.",
)
def test_q5_identity(SelfAttention):
    import torch

    x = torch.randn(2, 4, 3, 5)
    assert torch.allclose(SelfAttention(4)(x), x, atol=1e-06)


@test_case(
    points=1,
    hidden=False,
    failure_message="If all pixels have the same value vector, each gets that vector, whatever the weights are.",
)
def test_q5_constant(SelfAttention):
    import torch

    net, x = (SelfAttention(4), torch.randn(2, 4, 3, 5))
    net.gamma.data.fill_(2)
    net.value.weight.data.zero_()
    net.value.bias.data.copy_(torch.arange(4.0))
    expected = x + 2 * torch.arange(4.0)[:, None, None]
    assert torch.allclose(net(x), expected, atol=1e-05)

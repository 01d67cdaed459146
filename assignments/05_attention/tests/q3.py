from otter.test_files import test_case

OK_FORMAT = False

name = "q3"
points = 5


@test_case(
    points=1,
    hidden=False,
    failure_message="Each query gets a mixture of values and has one weight a key. N, M, d and e all differ here.",
)
def test_q3_shape(attention):
    import torch

    y, weights = attention(
        torch.rand(2, 5, 4), torch.rand(2, 7, 4), torch.rand(2, 7, 3)
    )
    assert tuple(y.shape) == (2, 5, 3), f"yours: {tuple(y.shape)}"
    assert tuple(weights.shape) == (2, 5, 7), f"yours: {tuple(weights.shape)}"


@test_case(
    points=2,
    hidden=False,
    failure_message="The weights of each query should add up to 1. Over which axis does the softmax go?",
)
def test_q3_sums(attention):
    import torch

    torch.manual_seed(3)
    _, weights = attention(
        torch.randn(2, 5, 4), torch.randn(2, 7, 4), torch.randn(2, 7, 3)
    )
    assert torch.allclose(weights.sum(2), torch.ones(2, 5), atol=1e-05)

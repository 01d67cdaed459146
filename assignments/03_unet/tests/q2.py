from otter.test_files import test_case

OK_FORMAT = False

name = "q2"
points = 4


@test_case(
    points=1,
    hidden=False,
    failure_message="Both sides double, and the maps become as many as the second axis of the weight says.",
)
def test_q2_shape(up_convolution):
    import torch

    output = up_convolution(
        torch.rand(2, 6, 3, 5), torch.rand(6, 4, 2, 2), torch.rand(4)
    )
    assert tuple(output.shape) == (2, 4, 6, 10), f"yours: {tuple(output.shape)}"


@test_case(
    points=1,
    hidden=False,
    failure_message="With one map and one input pixel, the output should be that pixel times the kernel, plus the bias.",
)
def test_q2_pixel(up_convolution):
    import torch

    kernel, bias = (torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([0.5]))
    output = up_convolution(torch.full((1, 1, 1, 1), 2.0), kernel[None, None], bias)
    assert torch.allclose(output[0, 0], 2 * kernel + 0.5)

from otter.test_files import test_case

OK_FORMAT = False

name = "q4"
points = 4


@test_case(
    points=1,
    hidden=False,
    failure_message="The new axis is the third, and all slices of the kernel are alike.",
)
def test_q4_shape(inflate):
    import torch

    kernel = inflate(torch.rand(4, 2, 3, 5), 7)
    assert tuple(kernel.shape) == (4, 2, 7, 3, 5), f"yours: {tuple(kernel.shape)}"
    assert torch.allclose(kernel, kernel[:, :, :1].expand_as(kernel))


@test_case(
    points=1,
    hidden=False,
    failure_message="Each output channel has a kernel of its own, and that looks at all input channels.",
)
def test_q4_weights(weights):
    from torch import nn

    assert weights(4, 6, (3, 5)) == nn.Conv2d(4, 6, (3, 5), bias=False).weight.numel()
    assert weights(4, 6, (3, 3, 3)) == nn.Conv3d(4, 6, 3, bias=False).weight.numel()

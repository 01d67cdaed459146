from otter.test_files import test_case

OK_FORMAT = False

name = "q2"
points = 4


@test_case(
    points=1,
    hidden=False,
    failure_message="Count the places where the kernel fits, along each axis by itself. Rows come first.",
)
def test_q2_shape(correlate):
    import torch

    output = correlate(torch.rand(7, 10), torch.rand(3, 3))
    assert tuple(output.shape) == (5, 8), f"yours: {tuple(output.shape)}"


@test_case(
    points=2,
    hidden=False,
    failure_message="The values differ from torch's. Is the kernel turned or transposed? Does each of its values meet the right pixel?",
)
def test_q2_values(correlate):
    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(2)
    image, kernel = (
        torch.rand(9, 12, generator=draw),
        torch.rand(3, 3, generator=draw),
    )
    assert torch.allclose(
        correlate(image, kernel),
        F.conv2d(image[None, None], kernel[None, None])[0, 0],
        atol=1e-05,
    )

from otter.test_files import test_case

OK_FORMAT = False

name = "q3"
points = 4


@test_case(
    points=1,
    hidden=False,
    failure_message="Without stride and padding it should already agree with torch. Sum over the C maps, and add one bias to each of the O maps.",
)
def test_q3_maps(convolve):
    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(4)
    x, weight, bias = (
        torch.randn(s, generator=draw) for s in ((2, 3, 8, 11), (4, 3, 3, 3), (4,))
    )
    assert torch.allclose(
        convolve(x, weight, bias), F.conv2d(x, weight, bias), atol=0.0001
    )


@test_case(
    points=1,
    hidden=False,
    failure_message="The frame of zeros goes around all four sides, so both axes grow twice by the padding.",
)
def test_q3_padding(convolve):
    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(5)
    x, weight, bias = (
        torch.randn(s, generator=draw) for s in ((2, 3, 8, 11), (4, 3, 5, 5), (4,))
    )
    output = convolve(x, weight, bias, padding=2)
    expected = F.conv2d(x, weight, bias, padding=2)
    assert output.shape == expected.shape, (
        f"shape {tuple(output.shape)}, expected {tuple(expected.shape)}"
    )
    assert torch.allclose(output, expected, atol=0.0001)

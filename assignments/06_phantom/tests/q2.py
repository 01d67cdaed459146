from otter.test_files import test_case

OK_FORMAT = False

name = "q2"
points = 4


@test_case(
    points=1,
    hidden=False,
    failure_message="Check the two shapes. All sizes differ here.",
)
def test_q2_shape(to_slices, to_stack):
    import torch

    slices = to_slices(torch.rand(2, 3, 5, 6, 7))
    stack = to_stack(torch.rand(10, 3, 6, 7), 2)
    assert tuple(slices.shape) == (10, 3, 6, 7), f"yours: {tuple(slices.shape)}"
    assert tuple(stack.shape) == (2, 3, 5, 6, 7), f"yours: {tuple(stack.shape)}"


@test_case(
    points=2,
    hidden=False,
    failure_message="The shapes may be right and the slices wrong. The second slice of the first patient should be number 1 of the batch.",
)
def test_q2_order(to_slices):
    import torch

    x = torch.arange(2 * 3 * 5 * 2 * 2.0).view(2, 3, 5, 2, 2)
    slices = to_slices(x)
    assert torch.equal(slices[1], x[0, :, 1]) and torch.equal(slices[7], x[1, :, 2])

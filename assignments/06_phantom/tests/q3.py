from otter.test_files import test_case

OK_FORMAT = False

name = "q3"
points = 4


@test_case(
    points=1,
    hidden=False,
    failure_message="As many rows as voxels, as many columns as voxels in the window.",
)
def test_q3_shape(neighbourhood):
    import torch

    rows = neighbourhood(torch.rand(4, 5, 6), (1, 3, 5))
    assert tuple(rows.shape) == (120, 15), f"yours: {tuple(rows.shape)}"


@test_case(
    points=1,
    hidden=False,
    failure_message="The middle column should be the voxel itself.",
)
def test_q3_middle(neighbourhood):
    import torch

    stack = torch.rand(3, 4, 5)
    assert torch.equal(neighbourhood(stack, (3, 3, 3))[:, 13], stack.flatten())

from otter.test_files import test_case

OK_FORMAT = False

name = "q4"
points = 3


@test_case(
    points=1,
    hidden=False,
    failure_message="Check the two shapes. All sizes differ here.",
)
def test_q4_shape(split, merge):
    import torch

    parts, whole = (split(torch.rand(2, 5, 12), 3), merge(torch.rand(2, 3, 5, 4)))
    assert tuple(parts.shape) == (2, 3, 5, 4), f"yours: {tuple(parts.shape)}"
    assert tuple(whole.shape) == (2, 5, 12), f"yours: {tuple(whole.shape)}"

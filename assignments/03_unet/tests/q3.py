from otter.test_files import test_case

OK_FORMAT = False

name = "q3"
points = 4


@test_case(
    points=2,
    hidden=False,
    failure_message="The batch and the size of x stay, and the numbers of maps add up.",
)
def test_q3_shape(crop_and_join):
    import torch

    joined = crop_and_join(torch.rand(2, 3, 12, 10), torch.rand(2, 4, 8, 6))
    assert tuple(joined.shape) == (2, 7, 8, 6), f"yours: {tuple(joined.shape)}"

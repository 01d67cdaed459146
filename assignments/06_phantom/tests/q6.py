from otter.test_files import test_case

OK_FORMAT = False

name = "q6"
points = 3


@test_case(
    points=1,
    hidden=False,
    failure_message="Each slice belongs to one of the two sets, and none to both.",
)
def test_q6_once(split):
    import torch

    train, test = split(
        torch.arange(10).repeat_interleave(6), 0.3, torch.Generator().manual_seed(0)
    )
    assert train.dtype == test.dtype == torch.bool
    assert test.any() and torch.equal(train, ~test)

from otter.test_files import test_case

OK_FORMAT = False

name = "q5"
points = 3


@test_case(
    points=1,
    hidden=False,
    failure_message="The largest distance may lie in either direction.",
)
def test_q5_hausdorff(summaries):
    import numpy as np

    ab, ba = (np.array([0.0, 1, 2]), np.array([0.0, 5, 1, 1]))
    assert summaries(ab, ba)[0] == 5 and summaries(ba, ab)[0] == 5

from otter.test_files import test_case

OK_FORMAT = False

name = "q2"
points = 4


@test_case(
    points=1,
    hidden=False,
    failure_message="A mask against itself gives 1, and masks that do not touch give 0.",
)
def test_q2_extremes(dice):
    import numpy as np

    a, b = np.zeros((2, 4, 6), bool)
    a[:2], b[3:] = (True, True)
    assert abs(dice(a, a) - 1) < 1e-06 and abs(dice(a, b)) < 1e-06


@test_case(
    points=2,
    hidden=False,
    failure_message="Draw the two masks of this test, and count the three numbers of the formula.",
)
def test_q2_between(dice):
    import numpy as np

    a, b = np.zeros((2, 5, 7), int)
    a[1:4, 1:4], b[2:5, 2:6] = (1, 2)
    assert abs(dice(a, b) - 8 / 21) < 1e-06

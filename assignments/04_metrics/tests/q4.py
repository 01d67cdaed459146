from otter.test_files import test_case

OK_FORMAT = False

name = "q4"
points = 4


@test_case(
    points=1,
    hidden=False,
    failure_message="With a spacing of 1 mm these are plain distances between points of a grid.",
)
def test_q4_plain(distances):
    import numpy as np

    a, b = np.zeros((2, 6, 6), bool)
    a[0, 0], a[0, 5], b[3, 4] = (True, True, True)
    assert np.allclose(distances(a, b, (1, 1)), [5, 10**0.5])


@test_case(
    points=2,
    hidden=False,
    failure_message="Here rows are 2 mm apart and columns 1 mm. A step along each axis has its own length, before anything is squared.",
)
def test_q4_spacing(distances):
    import numpy as np

    a, b = np.zeros((2, 6, 6), bool)
    a[0, 0], b[2, 3], b[0, 5] = (True, True, True)
    assert np.allclose(distances(a, b, (2, 1)), [5])
    assert np.allclose(distances(a, b, (0.5, 3)), [82**0.5])

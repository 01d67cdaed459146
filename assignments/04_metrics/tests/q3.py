from otter.test_files import test_case

OK_FORMAT = False

name = "q3"
points = 3


@test_case(
    points=1,
    hidden=False,
    failure_message="For this L the one pixel with an open corner and four inner neighbours is not on the surface. Print your result and compare.",
)
def test_q3_image(surface):
    import numpy as np

    mask = np.zeros((7, 8), int)
    mask[1:6, 1:4], mask[3:6, 1:7] = (1, 1)
    expected = mask.astype(bool)
    expected[2:5, 2], expected[4, 2:6] = (False, False)
    expected[3, 3] = False
    assert np.array_equal(surface(mask), expected)

from otter.test_files import test_case

OK_FORMAT = False

name = "q5"
points = 3


@test_case(
    points=1,
    hidden=False,
    failure_message="A kernel of 3 sees 3 voxels. In a stack with 10 mm between slices this is 30 mm.",
)
def test_q5_one(seen):
    assert list(seen([(3, 3, 3)], (10, 1.5, 2))) == [30, 4.5, 6]

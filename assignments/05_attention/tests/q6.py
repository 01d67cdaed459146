from otter.test_files import test_case

OK_FORMAT = False

name = "q6"
points = 2


@test_case(
    points=1,
    hidden=False,
    failure_message="For 10 × 10 pixels there are 100 queries. How many keys does each look at?",
)
def test_q6_small(megabytes):
    assert abs(megabytes(10, 10) - 0.04) < 1e-09

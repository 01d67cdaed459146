from otter.test_files import test_case

OK_FORMAT = False

name = "q5"
points = 2


@test_case(
    points=1,
    hidden=False,
    failure_message="Write down two layers of each kind, and use the chain rule.",
)
def test_q5_two(gradients):
    assert abs(gradients(0.5, 2)[0] - 0.25) < 1e-09
    assert abs(gradients(-0.5, 1)[1] - 0.5) < 1e-09

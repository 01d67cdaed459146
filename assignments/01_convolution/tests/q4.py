from otter.test_files import test_case

OK_FORMAT = False

name = "q4"
points = 3


@test_case(
    points=1,
    hidden=False,
    failure_message="Draw 28 pixels and a kernel of 5 on paper, and count the places.",
)
def test_q4_lenet(output_size):
    assert output_size(28, 5) == 24
    assert output_size(28, 5, padding=2) == 28

from otter.test_files import test_case

OK_FORMAT = False

name = "q1"
points = 2


@test_case(
    points=0,
    hidden=False,
    failure_message="Set q1 to one of the letters, in quotation marks.",
)
def test_q1_letter(q1):
    assert q1 in ("a", "b", "c")

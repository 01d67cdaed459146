from otter.test_files import test_case

OK_FORMAT = False

name = "q5"
points = 3


@test_case(
    points=1,
    hidden=False,
    failure_message="The figure of the paper has 572 pixels on the left and 388 on the right. Follow it level by level.",
)
def test_q5_paper(unet_output):
    assert unet_output(572) == 388

from otter.test_files import test_case

OK_FORMAT = False

name = "q6"
points = 4


@test_case(
    points=1,
    hidden=False,
    failure_message="Multiply the three lengths of a voxel, and mind the unit.",
)
def test_q6_volume(volume):
    import numpy as np

    assert abs(volume(np.full((5, 10, 20), 3), (10, 1, 2)) - 20) < 1e-06


@test_case(
    points=1,
    hidden=False,
    failure_message="A heart of 150 mL that contracts to 60 mL has pumped out 90 mL. Of what are these 60 %?",
)
def test_q6_fraction(ejection_fraction):
    assert abs(ejection_fraction(150, 60) - 60) < 1e-06

"""Patients together: folds, and where they came from."""

from dataclasses import replace

import pytest
from acdc_folder import GROUPS, ten_hearts, write

from medlib import hearts
from medlib.data import DataError
from medlib.hearts import Cohort, Patient, Volume
from medlib.hearts.phantom import phantom


@pytest.fixture
def cohort(tmp_path):
    return ten_hearts(tmp_path)


def test_folds_and_split_keep_patients_apart_and_diagnoses_together(cohort):
    parts = hearts.folds(cohort, 2)
    assert sorted(p.name for part in parts for p in part) == [p.name for p in cohort]
    assert all({p.group for p in part} == set(GROUPS) for part in parts)
    train, val, test = hearts.split(cohort)
    assert [len(x) for x in (train, val, test)] == [6, 2, 2]


def test_every_beginning_of_the_shuffled_order_keeps_the_diagnoses(cohort):
    assert {p.group for p in hearts.shuffled(cohort, 3)[:5]} == set(GROUPS)
    first, second = ([p.name for p in hearts.shuffled(cohort, s)] for s in (3, 4))
    assert first != second


def test_copies_of_one_scan_stay_in_one_fold(cohort):
    twin = cohort[3]._replace(name="patient999")
    for part in hearts.folds(Cohort((*cohort, twin), "toy", "simulated")):
        names = {p.name for p in part}
        assert (twin.name in names) == (cohort[3].name in names)


def test_patients_without_masks_are_named_and_left_out(tmp_path):
    write(tmp_path, "patient001")
    write(tmp_path, "patient002", masks=False)
    both = hearts.load(tmp_path)
    with pytest.warns(UserWarning, match="no masks: patient002"):
        assert [p.name for p in hearts.drawn(both)] == ["patient001"]
    with pytest.raises(DataError, match="patient002: no mask"):
        hearts.score((both[1].ed.image, both[1].es.image), both[1])


def test_folds_hold_the_patients_that_they_held_before(cohort):
    """Which patients are tested together decides every number of the heart chapters."""
    found = [[int(p.name[-3:]) for p in part] for part in hearts.folds(cohort, seed=1)]
    assert found == [[1, 3], [0, 6], [5, 7], [2, 4], [8, 9]]


def test_more_diagnoses_are_dealt_evenly_in_whatever_order_they_come(tmp_path):
    """Ten of one diagnosis, then five of another: two and one of them in each fold."""
    for k in range(15):
        group = "NOR" if k < 10 else "DCM"
        write(tmp_path, f"patient{k:03}", group, seed=k, shape=(1, 90, 90))
    for part in hearts.folds(hearts.read_patients(tmp_path)):
        assert sorted(p.group for p in part) == ["DCM", "NOR", "NOR"]


# ---------------------------------------------------------------- where they came from


def names(patients):
    return [p.name for p in patients]


def phantoms(n=5):
    """Simulated patients, put together by hand, as a plain list."""
    drawn = phantom(n, shape=(2, 64, 64), spacing=(20.0, 3.0, 3.0))

    def volume(k, t):
        return Volume(
            drawn.image[k, t].numpy(), drawn.mask[k, t].numpy(), drawn.spacing
        )

    return [Patient(f"p{k}", "NOR", volume(k, 0), volume(k, 1)) for k in range(n)]


def test_a_cohort_is_a_sequence_that_keeps_its_label(cohort):
    cohort = replace(cohort, name="acdc", source="cache")
    some = [
        cohort[2:5],
        cohort.where(lambda p: p.group == "DCM"),
        cohort.of([cohort[7], cohort[1]]),
        hearts.shuffled(cohort),
        hearts.drawn(cohort),
        *hearts.folds(cohort),
        *hearts.split(cohort),
        cohort[:2] + cohort[4:6],
    ]
    assert {(c.name, c.source) for c in some} == {("acdc", "cache")}
    assert names(some[0]) == ["patient002", "patient003", "patient004"]
    assert names(some[1]) == ["patient001", "patient006"]
    assert names(some[2]) == ["patient007", "patient001"]
    assert names(some[-1]) == ["patient000", "patient001", "patient004", "patient005"]
    assert cohort[0] is next(iter(cohort)) and cohort[-1].name == "patient009"
    assert repr(cohort).startswith("acdc (cache): 10 patients: DCM 2")


def test_a_sum_of_two_cohorts_names_both(cohort):
    other = Cohort(tuple(phantoms()), "phantom", "simulated")
    both = replace(cohort, name="acdc", source="mirror") + other
    assert (both.name, both.source) == ("acdc + phantom", "mirror + simulated")


def test_only_members_can_be_chosen(cohort):
    with pytest.raises(DataError, match="p1 not among its 10 patients"):
        cohort.of([cohort[0], phantoms()[1]])
    with pytest.raises(AttributeError):
        cohort.source = "acdc"


@pytest.mark.parametrize(
    "use",
    [
        lambda some: hearts.slices(some, some, some),
        lambda some: hearts.stacks(some, some, some),
        hearts.folds,
        hearts.split,
        hearts.shuffled,
        hearts.drawn,
        lambda some: Cohort((), "acdc", "cache") + some,
    ],
)
def test_a_plain_list_of_patients_is_refused(use):
    with pytest.raises(DataError, match="a list of patients; expected a Cohort"):
        use(phantoms())


def test_phantoms_are_never_called_acdc(cohort, tmp_path, monkeypatch):
    """Not even after ACDC was loaded, and not where they are mixed with it."""
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "cache"))
    for k in range(5):
        write(tmp_path / "cache" / "acdc", f"patient{k:03}", seed=k)
    real = hearts.load()
    assert (real.name, real.source) == ("acdc", "cache")
    simulated = Cohort(tuple(phantoms()), "phantom", "simulated")
    for make in (hearts.slices, hearts.stacks):
        d = make(simulated[:3], simulated[3:4], simulated[4:], side=32)
        assert (d.name, d.source) == ("phantom", "simulated")
        mixed = make(real[:2], real[2:3], simulated[:1], side=32)
        assert (mixed.name, mixed.source) == ("acdc + phantom", "cache + simulated")
        alone = make(real[:2], real[2:3], real[3:], side=32).standardise()
        assert (alone.name, alone.source) == ("acdc", "cache")

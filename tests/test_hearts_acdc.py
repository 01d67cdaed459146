"""Reading ACDC's layout, from folders written here."""

import gzip

import numpy as np
import pytest
from acdc_folder import ten_hearts, write

from medlib import hearts, notes
from medlib.data import DataError


@pytest.fixture
def cohort(tmp_path):
    return ten_hearts(tmp_path)


def test_reads_what_was_written(cohort, tmp_path):
    first = cohort[0]
    assert (len(cohort), first.name, first.group) == (10, "patient000", "NOR")
    assert first.ed.image.shape == (3, 120, 110) and first.ed.spacing == (10, 1.5, 1.5)
    assert set(np.unique(first.es.mask)) == {0, 1, 2, 3}
    assert (cohort.name, cohort.source) == (tmp_path.name, "folder")


def test_the_official_archive_may_be_unpacked_at_any_depth(tmp_path):
    write(tmp_path / "database" / "training")
    assert [p.name for p in hearts.load(tmp_path)] == ["patient001"]


def damage(place, what):
    frame = place / "patient001_frame09.nii.gz"
    match what:
        case "no info":
            (place / "Info.cfg").unlink()
        case "no group":
            (place / "Info.cfg").write_text("ED: 1\nES: 9\n")
        case "words for a frame":
            (place / "Info.cfg").write_text("ED: one\nES: 9\nGroup: NOR\n")
        case "no frame":
            frame.unlink()
        case "cut short":
            frame.write_bytes(frame.read_bytes()[:-300])
        case "not gzip":
            frame.write_bytes(b"hello")
        case "forged header":
            raw = bytearray(gzip.decompress(frame.read_bytes()))
            raw[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
            frame.write_bytes(gzip.compress(bytes(raw)))
        case "other size":
            other = write(place / "other", "patient001", shape=(2, 120, 110))
            frame.write_bytes((other / frame.name).read_bytes())
        case "strange label":
            import nibabel

            target = place / "patient001_frame09_gt.nii.gz"
            header = nibabel.load(target).header
            scan = nibabel.Nifti1Image(
                np.full((110, 120, 3), 7, np.uint8), None, header
            )
            nibabel.save(scan, target)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("no info", "no Info.cfg"),
        ("no group", "Group: None"),
        ("words for a frame", "ED: 'one'"),
        ("no frame", "no file patient001_frame09"),
        ("cut short", "cannot be read"),
        ("not gzip", "cannot be read"),
        ("forged header", "has the shape"),
        ("other size", "a mask of"),
        ("strange label", "mask labels"),
    ],
)
def test_a_malformed_folder_names_the_patient_and_the_fault(tmp_path, what, says):
    damage(write(tmp_path), what)
    with pytest.raises(DataError, match=rf"patient001.*{says}"):
        hearts.read_patient(tmp_path / "patient001")


def test_a_folder_without_patients(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="patient"):
            hearts.load(place)


@pytest.fixture
def nothing(monkeypatch, tmp_path):
    """An empty cache, and no mirror."""
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MEDLIB_MIRROR", raising=False)
    return tmp_path


def listened(action):
    """What `action` gives, and what it noted."""
    told = []
    with notes.listening(lambda event, facts: told.append((event, facts))):
        return action(), told


def test_without_data_phantoms_stand_in(nothing, capsys):
    cohort, told = listened(hearts.load)
    assert "STAND-IN" in capsys.readouterr().out
    assert told == [("loaded", {"name": "acdc", "source": "stand-in"})]
    assert (cohort.name, cohort.source) == ("phantoms", "stand-in")
    assert len(cohort) == 20 and cohort[0].ed.mask.max() == 3


def test_acdc_is_found_in_the_mirror_and_in_the_cache(nothing, monkeypatch):
    monkeypatch.setenv("MEDLIB_MIRROR", str(nothing / "mirror"))
    for place in ("mirror", "cache"):
        write(nothing / place / "acdc" / "training", "patient001")
        cohort, told = listened(hearts.load)
        assert (cohort.name, cohort.source, len(cohort)) == ("acdc", place, 1)
        assert told == [("loaded", {"name": "acdc", "source": place})]


def test_the_spacing_is_the_zooms_whatever_the_affine_says(tmp_path):
    """ACDC's affines say 1 mm; its zooms are right."""
    import nibabel

    place = write(tmp_path)
    for file in place.glob("*.nii.gz"):
        scan = nibabel.load(file)
        scan = nibabel.Nifti1Image(np.asarray(scan.dataobj), None, scan.header)
        scan.header.set_sform(np.diag((-1, -1, 1, 1)), code=2)
        scan.header.set_qform(None, code=0)
        scan.header["pixdim"][1:4] = (1.25, 1.75, 6.5)
        nibabel.save(scan, file)
    assert hearts.read_patient(place).ed.spacing == (6.5, 1.75, 1.25)


def test_another_folder_takes_the_place_of_acdc(tmp_path, monkeypatch):
    write(tmp_path / "deep" / "down", "patient301")
    monkeypatch.setenv("MEDLIB_DATA", str(tmp_path))
    cohort, told = listened(hearts.load)
    assert [p.name for p in cohort] == ["patient301"] and cohort.source == "folder"
    assert told == [("loaded", {"name": tmp_path.name, "source": "folder"})]
    monkeypatch.setenv("MEDLIB_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere is not a folder"):
        hearts.load()

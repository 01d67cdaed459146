"""Reading Sunnybrook's layouts, from files written here."""

import numpy as np
import pytest

from medlib import hearts, notes
from medlib.data import DataError
from medlib.fetch import Unreachable
from medlib.hearts import sunnybrook


def write(
    folder,
    *,
    ed=(20, 40, 60),
    es=(28, 48),
    dicom=False,
    name="HF-I-05",
    spacing=(1.5, 1.25),
    size=(64, 80),
):
    from PIL import Image

    contours, images = folder / f"SC-{name}" / "contours-manual", folder / name
    contours.mkdir(parents=True)
    images.mkdir(parents=True)
    for n in (*ed, *es):
        grey = np.full(size, n, np.uint8)
        if dicom:
            write_dicom(images / f"IM-0001-{n:04}.dcm", grey, spacing)
        else:
            Image.fromarray(grey).save(images / f"{'d' if n in ed else 's'}-{n}.jpg")
        for which, half in (("i", 5), ("o", 9))[
            : 1 + (n in ed)
        ]:  # squares about column 40, row 30
            x, y = (40 - half, 40 + half), (30 - half, 30 + half)
            corners = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
            np.savetxt(
                contours / f"IM-0001-{n:04}-{which}contour-manual.txt",
                corners,
                fmt="%.2f",
            )
    return folder


def write_dicom(path, grey, spacing):
    import pydicom

    scan = pydicom.Dataset()
    scan.file_meta = pydicom.dataset.FileMetaDataset()
    scan.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    scan.Rows, scan.Columns = grey.shape
    scan.SamplesPerPixel, scan.PhotometricInterpretation = 1, "MONOCHROME2"
    scan.BitsAllocated = scan.BitsStored = 8
    scan.HighBit, scan.PixelRepresentation = 7, 0
    scan.PixelSpacing, scan.SliceThickness = list(spacing), 8
    scan.SOPClassUID, scan.SOPInstanceUID = (
        pydicom.uid.MRImageStorage,
        pydicom.uid.generate_uid(),
    )
    scan.PixelData = grey.tobytes()
    scan.save_as(path, enforce_file_format=True)


@pytest.mark.filterwarnings("ignore:.*8 mm between slices, by SliceThickness")
@pytest.mark.parametrize("dicom", [False, True])
def test_reads_the_slices_that_were_drawn_twice(tmp_path, dicom):
    (patient,) = hearts.read_sunnybrook(write(tmp_path, dicom=dicom))
    assert (patient.name, patient.group) == ("HF-I-05", "HF-I")
    assert (
        patient.ed.image.shape == patient.es.mask.shape == (2, 64, 80)
    )  # 20 has no partner
    assert patient.ed.spacing == ((8, 1.5, 1.25) if dicom else sunnybrook.ASSUMED)


def test_images_are_numbered_from_1_and_twenty_a_slice(tmp_path):
    """Images 21 to 40 are the second slice, 41 to 60 the third."""
    (patient,) = hearts.read_sunnybrook(write(tmp_path, ed=(21, 60), es=(40, 41)))
    assert [float(v[0, 0]) for v in patient.ed.image] == [21, 60]
    assert [float(v[0, 0]) for v in patient.es.image] == [40, 41]


def test_three_points_are_a_contour(tmp_path):
    write(tmp_path)
    contour = next(tmp_path.rglob("*0040-icontour*"))
    contour.write_text("40 20\n55 20\n40 40\n")  # columns, then rows
    mask = hearts.read_sunnybrook(tmp_path)[0].ed.mask[0] == 3
    assert mask[22, 50] and mask[38, 41] and not mask[38, 50]
    assert mask.sum() == pytest.approx(15 * 20 / 2, abs=30)  # its edge included


def test_masks_lie_where_the_contours_do(tmp_path):
    (patient,) = hearts.read_sunnybrook(write(tmp_path))
    lv, wall = patient.ed.mask[0] == 3, patient.ed.mask[0] == 2
    assert lv[30, 40] and wall[30, 47] and not wall[38, 55]
    assert lv.sum() == pytest.approx(100, abs=25) and wall.sum() == pytest.approx(
        324 - 100, abs=40
    )
    assert set(np.unique(patient.es.mask)) == {0, 3}


def test_a_network_can_segment_it(tmp_path):
    from medlib.models import SmallUNet

    (patient,) = hearts.read_sunnybrook(write(tmp_path))
    ed, es = hearts.segment(SmallUNet(width=4), patient, side=32)
    assert ed.shape == es.shape == (2, 64, 80)


@pytest.mark.parametrize(
    "spoil, fault",
    [
        (lambda f: [p.unlink() for p in f.rglob("*.txt")], "no contour"),
        (
            lambda f: [p.unlink() for p in f.rglob("d-*.jpg")],
            "HF-I-05: no slice with an image",
        ),
        (
            lambda f: next(f.rglob("d-40.jpg")).write_bytes(b"no image"),
            "d-40.jpg cannot be read",
        ),
        (
            lambda f: next(f.rglob("*0040-icontour*")).write_text("1 2\n3 4"),
            "three or more points",
        ),
        (
            lambda f: next(f.rglob("*0040-icontour*")).write_text("a b"),
            "cannot be read",
        ),
        (
            lambda f: (f / "HF-I-05" / "d-40.jpg").write_bytes(
                (
                    write(f.parent / "b", size=(60, 80)) / "HF-I-05" / "d-40.jpg"
                ).read_bytes()
            ),
            r"HF-I-05: slices of \[\(60, 80\), \(64, 80\)\] pixels; expected one size",
        ),
        (
            lambda f: [p.unlink() for p in f.rglob("*-ocontour*")],
            "drawn at both ED and ES",
        ),
    ],
)
def test_each_fault_is_named(tmp_path, spoil, fault):
    spoil(write(tmp_path))
    with pytest.raises(DataError, match=fault):
        hearts.read_sunnybrook(tmp_path)


def test_the_cohort_says_where_it_is_from(tmp_path, monkeypatch):
    write(tmp_path / "sunnybrook")
    mine = hearts.read_sunnybrook(tmp_path / "sunnybrook")
    assert (mine.name, mine.source) == ("sunnybrook", "folder")
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "nothing"))
    monkeypatch.setenv("MEDLIB_MIRROR", str(tmp_path))
    told = []
    with notes.listening(lambda event, facts: told.append(facts)):
        cohort = hearts.load_sunnybrook()
    assert (cohort.name, cohort.source, len(cohort)) == ("sunnybrook", "mirror", 1)
    assert told == [{"name": "sunnybrook", "source": "mirror"}]
    monkeypatch.delenv("MEDLIB_MIRROR")
    with pytest.raises(Unreachable, match="no folder"):
        hearts.load_sunnybrook()

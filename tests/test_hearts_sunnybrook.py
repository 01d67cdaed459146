"""Reading Sunnybrook's layouts, from files written here."""

import shutil

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
    with pytest.raises(Unreachable, match="not in the cache.*MEDLIB_OFFLINE is set"):
        hearts.load_sunnybrook()


# ---------------------------------------------------------------- the layouts


def upstream(folder, layout, *, name="HF-I-1", patient="SCD0000101"):
    """A whole cine of 3 slices × 20 phases with geometry, drawn as `write` does."""
    from test_hearts_dicom import frame, save

    write(folder / "x", name=f"{name[:-1]}0{name[-1]}")
    contours = folder / f"SC-{name[:-1]}0{name[-1]}"
    (folder / "x" / contours.name).rename(contours)
    shutil.rmtree(folder / "x")
    for n in range(1, 61):
        slice_, phase = divmod(n - 1, 20)
        scan = frame(phase, slice_, step=-10, Rows=64, Columns=80)  # base first
        scan.PixelData = np.full((64, 80), n, np.uint16).tobytes()
        place = {
            "cap": f"{patient}/CINESAX_300/IM-0003-{n:04}.dcm",
            "2009": f"SC-{name}/IM-0004-{n:04}.dcm",
            "mirror": f"{patient}/{n}.dcm",
        }[layout]
        save(scan, folder / place)
    if layout != "2009":
        (folder / "scd_patientdata.csv").write_text(
            f"PatientID,OriginalID,Gender\n{patient},SC-{name},Male\n"
        )
    return folder


@pytest.mark.parametrize("layout", ["cap", "2009", "mirror"])
@pytest.mark.parametrize("zipped", [False, True])
def test_each_layout_is_read(tmp_path, layout, zipped):
    place = upstream(tmp_path / "set", layout)
    if zipped:
        shutil.make_archive(str(tmp_path / "z" / "images_1"), "zip", place)
        place = tmp_path / "z"
    (patient,) = hearts.read_sunnybrook(place)
    assert (patient.name, patient.group) == ("HF-I-01", "HF-I")
    assert [v[0, 0] for v in patient.ed.image] == [40, 60]
    assert [v[0, 0] for v in patient.es.image] == [28, 48]
    assert patient.ed.spacing == (10, 1.5, 1.25)  # SliceThickness says 6


def test_the_series_that_was_drawn_is_found_among_others(tmp_path):
    from test_hearts_dicom import frame, save

    place = upstream(tmp_path, "cap")
    for n in range(1, 61):
        scan = frame(n, 0, series="1.2.9", Rows=64, Columns=80)
        scan.PixelData = np.zeros((64, 80), np.uint16).tobytes()
        save(scan, place / "SCD0000101" / "CINELAX_301" / f"IM-0004-{n:04}.dcm")
    (patient,) = hearts.read_sunnybrook(place)
    assert [v[0, 0] for v in patient.ed.image] == [40, 60]
    (place / "SCD0000101" / "CINELAX_301").rename(place / "SCD0000101" / "CINESAX_301")
    with pytest.raises(
        DataError, match="HF-I-01: 2 series hold the images .* expected"
    ):
        hearts.read_sunnybrook(place)


def test_whatever_is_left_out_is_named_and_the_others_stay(tmp_path):
    write(tmp_path)
    (tmp_path / "HF-I-05" / "s-48.jpg").unlink()
    write(tmp_path, name="HYP-08")
    (tmp_path / "HYP-08" / "d-40.jpg").write_bytes(b"no image")
    write(tmp_path, name="N-09")
    for path in (tmp_path / "N-09").iterdir():
        path.unlink()
    with pytest.warns(UserWarning) as told:
        (patient,) = hearts.read_sunnybrook(tmp_path)
    assert patient.name == "HF-I-05" and len(patient.ed.image) == 1
    message = str(told[0].message)
    assert "HF-I-05: 1 contours without an image left out (48)" in message
    assert "left out, HYP-08/d-40.jpg cannot be read" in message
    assert "1 patients without any image: N-09" in message


@pytest.mark.parametrize("suffix", ["jpeg", "JPG"])
def test_pictures_of_any_suffix_and_not_those_of_macos(tmp_path, suffix):
    write(tmp_path)
    for path in list((tmp_path / "HF-I-05").iterdir()):
        path.rename(path.with_suffix(f".{suffix}"))
        junk = tmp_path / "__MACOSX" / "HF-I-05" / f"._{path.name}"
        junk.parent.mkdir(parents=True, exist_ok=True)
        junk.write_bytes(b"mac")
        path.with_name(f"._{path.name}").write_bytes(b"mac")
    (patient,) = hearts.read_sunnybrook(tmp_path)
    assert patient.ed.image.shape == (2, 64, 80)


def test_two_files_of_one_number_are_refused_unless_alike(tmp_path):
    write(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert len(hearts.read_sunnybrook(tmp_path)) == 1
    next((tmp_path / "b").rglob("*0040-icontour*")).write_text("1 1\n9 1\n1 9\n")
    with pytest.raises(DataError, match="HF-I-05: .* are both number 40 and differ"):
        hearts.read_sunnybrook(tmp_path)


def test_a_full_heart_without_an_outer_border_is_still_full(tmp_path):
    write(tmp_path, ed=(20, 40, 60), es=(28, 48))
    next(tmp_path.rglob("*0040-ocontour*")).unlink()
    (patient,) = hearts.read_sunnybrook(tmp_path)
    assert [round(v.mean()) for v in patient.ed.image] == [40, 60]
    assert 2 not in patient.ed.mask[0] and 2 in patient.ed.mask[1]


def test_slices_of_ed_and_es_lie_at_one_place(tmp_path):
    import pydicom

    place = upstream(tmp_path, "2009")
    path = place / "SC-HF-I-1" / "IM-0004-0028.dcm"
    scan = pydicom.dcmread(path)
    scan.ImagePositionPatient = [5, 6, 0]
    scan.save_as(path)
    with pytest.raises(DataError, match="IM-0004-0028.dcm lie 3.0 mm apart"):
        hearts.read_sunnybrook(place)


def test_a_pixel_is_of_a_contour_that_runs_through_or_around_it():
    corners = np.array([(2.9, 1.1), (5.1, 1.9), (5.9, 3.5), (2.2, 3.0)])
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    assert (sunnybrook.filled(corners, (6, 8)) == expected).all()


def test_masks_in_place_of_contours(tmp_path):
    from PIL import Image

    rows = ["file,patient,group,part,instance,slice,phase_of_20,ed_or_es_inferred"]
    for k in range(3):
        for moment in ("ED", "ES")[: 1 + (k < 2)]:
            file = f"SC-N-02/IM-0001-{k}{moment}"
            rows.append(f"{file},SC-N-02,N,Part1,1,{k},1,{moment}")
            for kind, pixel in (("images", 50 + k), ("masks", 255)):
                path = tmp_path / kind / f"{file}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((6, 8), pixel, np.uint8)).save(path)
    (tmp_path / "index.csv").write_text("\n".join(rows))
    (patient,) = hearts.read_sunnybrook(tmp_path)
    assert (patient.name, patient.group) == ("N-02", "N")
    assert [v[0, 0] for v in patient.es.image] == [50, 51]
    assert set(np.unique(patient.ed.mask)) == {3}
    path.with_name("IM-0001-1ES.png").unlink()
    with pytest.raises(DataError, match="N-02: no file masks/SC-N-02/IM-0001-1ES.png"):
        hearts.read_sunnybrook(tmp_path)


# ---------------------------------------------------------------- the mirror's copies


@pytest.mark.filterwarnings("ignore:.*contours of 4 patients without any image")
def test_volumes_by_edge_pixels_and_by_the_polygons_areas(mirror):
    place = mirror("sunnybrook_dicom")
    (patient,) = hearts.read_sunnybrook(place)
    voxel = np.prod(patient.ed.spacing) / 1000
    filled = [(v.mask == 3).sum() * voxel for v in (patient.ed, patient.es)]
    assert np.round(filled).tolist() == [202, 151] and len(patient.ed.mask) == 9
    assert 1 - filled[1] / filled[0] == pytest.approx(0.25, abs=0.005)
    areas = {0: 0.0, 1: 0.0}
    for path in (place / "contours" / "SC-HF-I-1").rglob("*icontour*"):
        x, y = np.loadtxt(path).T
        number = int(path.name.split("-")[2])
        es = not list(path.parents[1].rglob(f"*{number:04}-ocontour*"))
        areas[es] += abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 * voxel
    assert [round(areas[k]) for k in (0, 1)] == [191, 141]


def test_the_masks_of_the_copy_are_filled_by_the_same_rule(mirror):
    from PIL import Image

    masks = mirror("sunnybrook45") / "masks" / "SC-HF-I-01"
    contours = mirror("sunnybrook_dicom") / "contours" / "SC-HF-I-1" / "i-contours"
    for path in contours.iterdir():
        mask = np.asarray(Image.open(masks / f"{path.name[:12]}.png")) > 0
        assert (sunnybrook.filled(np.loadtxt(path), mask.shape) == mask).all()


def test_all_patients_of_the_copy_are_read(mirror):
    cohort = hearts.read_sunnybrook(mirror("sunnybrook45"))
    assert len(cohort) == 45
    assert sum(len(p.ed.image) for p in cohort) == 385

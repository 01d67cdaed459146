"""Reading DICOM, from files written here: every slice at its true place, or refused."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from medlib import hearts
from medlib.data import DataError

AXIAL = (1, 0, 0, 0, 1, 0)
OBLIQUE = (-0.6, 0.8, 0, 0, 0, -1)  # the normal is (−.8, −.6, 0)
H, W = 6, 8


def value(t, d):
    return 10 * d + t + 1


def frame(t, d, *, axes=AXIAL, step=10.0, series="1.2.3", **tags) -> Dataset:
    """Phase t of slice d, filled with `value`; its left upper pixel is 3 larger."""
    scan = Dataset()
    scan.file_meta = FileMetaDataset()
    scan.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    scan.SOPClassUID, scan.SOPInstanceUID = MRImageStorage, generate_uid()
    scan.Modality, scan.PatientID = "MR", "somebody"
    scan.StudyInstanceUID, scan.SeriesInstanceUID = "1.2", series
    scan.FrameOfReferenceUID = generate_uid()  # another in each file
    scan.Rows, scan.Columns = H, W
    scan.SamplesPerPixel, scan.PhotometricInterpretation = 1, "MONOCHROME2"
    scan.BitsAllocated = scan.BitsStored = 16
    scan.HighBit, scan.PixelRepresentation = 15, 0
    scan.PixelSpacing = [1.5, 1.25]
    scan.SliceThickness, scan.SpacingBetweenSlices = 6, 7  # neither is the distance
    normal = np.cross(axes[:3], axes[3:])
    scan.ImageOrientationPatient = list(axes)
    scan.ImagePositionPatient = list(np.round(normal * step * d + (5, 6, 7), 4))
    scan.SliceLocation = 6.72 * d  # lies
    scan.TriggerTime, scan.InstanceNumber = 40.0 * t + d, 100 * d + t + 1
    pixels = np.full((H, W), value(t, d), np.uint16)
    pixels[0, 0] += 3
    scan.PixelData = pixels.tobytes()
    for keyword, given in tags.items():
        if given is None:
            delattr(scan, keyword)
        else:
            setattr(scan, keyword, given)
    return scan


def save(scan: Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scan.save_as(path, enforce_file_format=True)


def series(folder: Path, phases=3, slices=4, **tags) -> Path:
    """Files whose names and numbers say nothing of the order."""
    rng = np.random.default_rng(0)
    names = iter(rng.permutation(phases * slices))
    for d in range(slices):
        for t in range(phases):
            save(frame(t, d, **tags), folder / f"{next(names)}.dcm")
    return folder


def values(scan) -> list:
    return scan.image[:, :, -1, -1].tolist()


EXPECTED = [[value(t, d) for d in range(4)] for t in range(3)]


@pytest.mark.parametrize("axes", [AXIAL, OBLIQUE])
def test_slices_lie_by_their_positions_and_phases_by_their_times(tmp_path, axes):
    scan = hearts.read_dicom(series(tmp_path, axes=axes))
    assert scan.image.shape == (3, 4, H, W) and scan.image.dtype == np.float32
    assert values(scan) == EXPECTED
    assert scan.spacing == (10, 1.5, 1.25)
    assert scan.ms.tolist() == [1.5, 41.5, 81.5]  # medians over the slices
    assert scan.said == ()


def test_the_affine_leads_to_each_slices_place(tmp_path):
    scan = hearts.read_dicom(series(tmp_path, axes=OBLIQUE))
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    for d in range(4):
        lps = np.array((5, 6, 7)) + normal * 10 * d
        lps = lps + np.multiply(OBLIQUE[:3], 1.25 * 2) + np.multiply(OBLIQUE[3:], 1.5)
        ras = scan.grid.affine @ (2, 1, d, 1)  # column, row, slice
        np.testing.assert_allclose(ras[:3], lps * (-1, -1, 1), atol=1e-3)


def test_slices_are_turned_towards_dicoms_axes_and_back(tmp_path):
    """Rows that run to the right and columns to the front: both are turned round."""
    scan = hearts.read_dicom(series(tmp_path / "a", axes=(-1, 0, 0, 0, -1, 0)))
    assert scan.image.shape == (3, 4, H, W)
    assert scan.image[0, 0, -1, -1] == value(0, 0) + 3 and scan.image[0, 0, 0, 0] == 1
    scan = hearts.read_dicom(series(tmp_path / "b", axes=(0, 0, -1, 1, 0, 0)))
    assert scan.image.shape == (3, 4, W, H) and scan.spacing == (10, 1.25, 1.5)
    voxels = scan.grid.to_file(scan.image[0])
    assert voxels.shape == (W, H, 4) and voxels[0, 0, 0] == value(0, 0) + 3
    hearts.grid.write_mask(scan.image[0] > 5, scan, tmp_path / "mask.nii.gz")


@pytest.mark.parametrize(
    "clock, tags",
    [
        ("TemporalPositionIdentifier", {}),
        ("InstanceNumber", {}),
        ("AcquisitionTime", {"InstanceNumber": None}),
    ],
)
def test_phases_by_the_next_best_tag(tmp_path, clock, tags):
    for d in range(3):
        for t in range(3):
            told = {
                "TemporalPositionIdentifier": 9 - t,
                "InstanceNumber": 100 * d + 9 - t,
                "AcquisitionTime": f"1159{50 - t}.5",
            }[clock]
            scan = frame(t, d, **{"TriggerTime": None, **tags})
            setattr(scan, clock, told)
            save(scan, tmp_path / f"{d}{t}.dcm")
    scan = hearts.read_dicom(tmp_path)
    assert values(scan)[0] == [value(2, d) for d in range(3)]
    assert scan.ms is None


def test_phases_that_nothing_tells_apart_are_refused(tmp_path):
    series(tmp_path, TriggerTime="", InstanceNumber=7)
    with pytest.raises(DataError, match=r"\.dcm: nothing tells the 3 phases .*Trigger"):
        hearts.read_dicom(tmp_path)


@pytest.mark.parametrize("form", ["zip", "zip in a folder", "link", "single files"])
def test_folders_zips_and_links(tmp_path, form):
    folder = series(tmp_path / "in" / "deep")
    (folder / "._0.dcm").write_bytes(b"mac")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "0.dcm").write_bytes(b"mac")
    if form.startswith("zip"):
        shutil.make_archive(str(tmp_path / "out" / "cine"), "zip", tmp_path / "in")
        place = tmp_path / "out" / ("cine.zip" if form == "zip" else "")
    elif form == "link":
        (tmp_path / "out").mkdir()
        os.symlink(folder, tmp_path / "out" / "linked")
        os.symlink(tmp_path / "out", folder / "back")  # a ring
        place = tmp_path / "out"
    else:
        for n, path in enumerate(sorted(folder.glob("[0-9]*.dcm"))):
            path.rename(path.with_name((f"IM{n}", f"{n}.DCM", f"{n}.IMA")[n % 3]))
        place = folder
    assert values(hearts.read_dicom(place)) == EXPECTED


def test_no_member_of_a_zip_leaves_it(tmp_path):
    path = tmp_path / "in" / "evil.zip"
    series(tmp_path / "x")
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for file in (tmp_path / "x").iterdir():
            archive.write(file, f"../../{file.name}")
    before = set(tmp_path.rglob("*"))
    assert values(hearts.read_dicom(path)) == EXPECTED
    assert set(tmp_path.rglob("*")) == before


def test_what_is_no_image_is_counted(tmp_path):
    series(tmp_path)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "DICOMDIR").write_bytes(b"no DICOM either")
    report = frame(0, 0, Rows=None, Columns=None, PixelData=None, Modality="SR")
    save(report, tmp_path / "report.dcm")
    scan = hearts.read_dicom(tmp_path)
    assert values(scan) == EXPECTED
    assert scan.said == (
        "2 files that are no DICOM left out",
        "1 DICOM objects that are no images left out",
    )


def test_a_damaged_file_is_named(tmp_path):
    series(tmp_path)
    (tmp_path / "broken.dcm").write_bytes(b"not a header")
    with pytest.warns(UserWarning, match="1 damaged files left out: broken.dcm"):
        scan = hearts.read_dicom(tmp_path)
    assert values(scan) == EXPECTED and "broken.dcm" in scan.said[0]
    (tmp_path / "broken.dcm").unlink()
    first = next(tmp_path.iterdir())
    first.write_bytes(first.read_bytes()[:-20])
    with pytest.raises(DataError, match=f"{first.name} cannot be read"):
        hearts.read_dicom(tmp_path)


def test_a_file_without_a_preamble_is_read(tmp_path):
    series(tmp_path)
    path = next(tmp_path.iterdir())
    scan = pydicom.dcmread(path)
    del scan.file_meta
    scan.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert values(hearts.read_dicom(tmp_path)) == EXPECTED


# ---------------------------------------------------------------- grey values


def test_rescaling_is_of_each_slice(tmp_path):
    for d in range(3):
        pixels = np.full((H, W), 100 * (d + 1), np.uint16)
        tags = {"RescaleSlope": 1 / (d + 1), "RescaleIntercept": -d}
        scan = frame(0, d, PixelData=pixels.tobytes(), **tags)
        save(scan, tmp_path / f"{d}.dcm")
    assert values(hearts.read_dicom(tmp_path)) == [[100, 99, 98]]
    scan = pydicom.dcmread(tmp_path / "0.dcm")
    scan.RescaleSlope = 0
    scan.save_as(tmp_path / "0.dcm")
    with pytest.raises(DataError, match=r"0\.dcm .*RescaleSlope \(0028,1053\) is 0"):
        hearts.read_dicom(tmp_path)


@pytest.mark.parametrize("signed, white", [(0, 4095), (1, -1)])
def test_monochrome1_is_turned_round(tmp_path, signed, white):
    series(
        tmp_path,
        PhotometricInterpretation="MONOCHROME1",
        PixelRepresentation=signed,
        BitsStored=12,
        HighBit=11,
    )
    expected = [[white - v for v in row] for row in EXPECTED]
    scan = hearts.read_dicom(tmp_path)
    assert values(scan) == expected
    assert (scan.image[..., 0, 0] < scan.image[..., 1, 1]).all()  # stored larger


def test_big_endian_and_run_lengths_are_read(tmp_path):
    for n, path in enumerate(sorted(series(tmp_path).iterdir())):
        scan = pydicom.dcmread(path)
        if n % 2:
            scan.compress(RLELossless)
            scan.save_as(path)
        else:
            pixels = np.frombuffer(scan.PixelData, "<u2").astype(">u2")
            scan.PixelData = pixels.tobytes()
            scan["PixelData"].VR = "OW"
            copy = Dataset(scan)
            copy.file_meta = scan.file_meta if n % 4 else FileMetaDataset()
            if n % 4:
                copy.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
            pydicom.dcmwrite(path, copy, little_endian=False, implicit_vr=False)
    assert values(hearts.read_dicom(tmp_path)) == EXPECTED


def test_pixels_that_nothing_here_decodes_are_refused(tmp_path):
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    if get_decoder(JPEGLosslessSV1).is_available:
        pytest.skip("a decoder is installed")
    scan = frame(0, 0)
    scan.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    scan.PixelData = encapsulate([b"\xff\xd8 lossless \xff\xd9"])
    scan["PixelData"].is_undefined_length = True
    save(scan, tmp_path / "a.dcm")
    with pytest.raises(
        DataError,
        match=r"a\.dcm .*1\.2\.840\.10008\.1\.2\.4\.70; .*install .*pylibjpeg",
    ):
        hearts.read_dicom(tmp_path)


def test_colour_is_refused(tmp_path):
    pixels = np.zeros((H, W, 3), np.uint8)
    for d in range(3):
        save(
            frame(
                0, d, SamplesPerPixel=3, PhotometricInterpretation="RGB",
                PlanarConfiguration=0, BitsAllocated=8, BitsStored=8, HighBit=7,
                PixelData=pixels.tobytes(),
            ),
            tmp_path / f"{d}.dcm",
        )  # fmt: skip
    with pytest.raises(DataError, match=r"\.dcm: a colour image .*RGB"):
        hearts.read_dicom(tmp_path)


# ---------------------------------------------------------------- geometry refused


def spoil_one(folder, **tags):
    path = min(folder.iterdir())
    scan = pydicom.dcmread(path)
    for keyword, given in tags.items():
        if given is None:
            delattr(scan, keyword)
        else:
            setattr(scan, keyword, given)
    scan.save_as(path)
    return path.name


@pytest.mark.parametrize(
    "tags, fault",
    [
        ({"PixelSpacing": None}, r"PixelSpacing \(0028,0030\) is missing or empty"),
        ({"PixelSpacing": ""}, r"PixelSpacing \(0028,0030\) is missing or empty"),
        (
            {"PixelSpacing": None, "ImagerPixelSpacing": [1, 1]},
            "ImagerPixelSpacing measures the detector and is no substitute",
        ),
        ({"PixelSpacing": [0, 1]}, r"PixelSpacing .* expected 0.1 to 20 mm"),
        ({"PixelSpacing": [3, 2.5]}, r"PixelSpacing .* is 3 × 2.5, and 1.5 × 1.25 in"),
        ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, "Orientation.* is 0 × 1"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "at right angles"),
        ({"ImagePositionPatient": ""}, "ImagePositionPatient .* is missing or empty"),
        ({"ImagePositionPatient": [5, 6, 99]}, "has 1 phases and most others 3"),
    ],
)  # fmt: skip
def test_one_file_that_differs_is_named(tmp_path, tags, fault):
    name = spoil_one(series(tmp_path), **tags)
    with pytest.raises(DataError, match=fault) as caught:
        hearts.read_dicom(tmp_path)
    assert name in str(caught.value) or "phases" in fault


def test_a_slice_that_is_missing_is_noticed(tmp_path):
    series(tmp_path, slices=5)
    for path in tmp_path.iterdir():
        if pydicom.dcmread(path).SliceLocation == pytest.approx(2 * 6.72):
            path.unlink()
    with pytest.raises(DataError, match=r"lie 20.00 mm apart, most slices 10.00 mm"):
        hearts.read_dicom(tmp_path)


def test_a_phase_that_is_missing_is_noticed(tmp_path):
    series(tmp_path)
    next(tmp_path.iterdir()).unlink()
    with pytest.raises(DataError, match=r"has 2 phases and most others 3; expected"):
        hearts.read_dicom(tmp_path)


def test_copies_are_left_out_and_twins_refused(tmp_path):
    series(tmp_path)
    first = min(tmp_path.iterdir())
    shutil.copy(first, tmp_path / "copy.dcm")
    scan = hearts.read_dicom(tmp_path)
    assert values(scan) == EXPECTED and "copy of 0.dcm" in scan.said[0]
    (tmp_path / "copy.dcm").unlink()
    for path in list(tmp_path.iterdir()):  # the same once more, under other UIDs
        twin = pydicom.dcmread(path)
        twin.SOPInstanceUID, twin.InstanceNumber = generate_uid(), 999
        save(twin, tmp_path / f"twin {path.name}")
    with pytest.raises(DataError, match="are of one slice and one TriggerTime"):
        hearts.read_dicom(tmp_path)


# ---------------------------------------------------------------- without positions

NOWHERE = {"ImagePositionPatient": None, "ImageOrientationPatient": None}


@pytest.mark.parametrize(
    "tags, step, tag",
    [
        ({}, 7, "SpacingBetweenSlices"),
        ({"SpacingBetweenSlices": ""}, 6, "SliceThickness"),
    ],
)
def test_without_positions_the_distance_is_a_tags_and_said(tmp_path, tags, step, tag):
    scan = hearts.read_dicom(series(tmp_path, **NOWHERE, **tags))
    assert scan.spacing == (step, 1.5, 1.25) and not scan.grid.told
    assert values(scan) == EXPECTED
    assert "ordered by SliceLocation" in scan.said[0]
    assert f"{step} mm between slices, by {tag}" in scan.said[1]


@pytest.mark.parametrize(
    "tags, fault",
    [
        ({"SliceLocation": None}, "neither ImagePositionPatient .* nor SliceLocation"),
        (
            {"SpacingBetweenSlices": None, "SliceThickness": ""},
            "distance of slices is not known",
        ),
    ],
)
def test_without_any_place_it_is_refused(tmp_path, tags, fault):
    with pytest.raises(DataError, match=fault):
        hearts.read_dicom(series(tmp_path, **NOWHERE, **tags))


# ---------------------------------------------------------------- several series


def test_the_short_axis_is_found_among_other_series(tmp_path):
    series(tmp_path / "a", SeriesDescription="SAX")
    series(tmp_path / "b", slices=1, axes=OBLIQUE, series="1.2.4")  # a long axis
    series(tmp_path / "c", phases=1, slices=5, series="1.2.5")  # does not move
    for n, axes in enumerate((AXIAL, OBLIQUE, (0, 1, 0, 0, 0, -1))):  # a scout
        for d in range(3):
            save(frame(0, d, axes=axes, series="1.2.6"), tmp_path / "d" / f"{n}{d}")
    scan = hearts.read_dicom(tmp_path)
    assert values(scan) == EXPECTED and len(scan.said) == 3
    assert all("another series" in s for s in scan.said)


def test_two_short_axes_are_listed_and_one_can_be_named(tmp_path):
    series(tmp_path / "a", SeriesDescription="cine SAX", SeriesNumber=300)
    series(tmp_path / "b", phases=2, series="1.2.4", SeriesNumber=301)
    with pytest.raises(DataError, match=r"2 of 2 series .*300 cine SAX.*301 .*series="):
        hearts.read_dicom(tmp_path)
    for name in ("1.2.3", "300", "cine SAX"):
        assert values(hearts.read_dicom(tmp_path, series=name)) == EXPECTED
    with pytest.raises(DataError, match="none of 2 series"):
        hearts.read_dicom(tmp_path, series="302")


def test_a_stack_of_one_series_a_slice_is_one_stack(tmp_path):
    for d in range(4):
        for t in range(3):
            save(frame(t, d, series=f"1.2.3.{d}"), tmp_path / f"s{d}" / f"{t}.dcm")
    series(tmp_path / "long", slices=1, axes=OBLIQUE, series="1.2.4")
    assert values(hearts.read_dicom(tmp_path)) == EXPECTED


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(DataError, match="is not a folder; expected a folder, a zip"):
        hearts.read_dicom(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(DataError, match="no DICOM image .*1 files that are no DICOM"):
        hearts.read_dicom(tmp_path)
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match=r"cut\.zip cannot be read"):
        hearts.read_dicom(tmp_path)


# ---------------------------------------------------------------- several frames


def item(**tags) -> Dataset:
    given = Dataset()
    for keyword, v in tags.items():
        setattr(given, keyword, v)
    return given


def enhanced(phases=3, slices=4) -> Dataset:
    """All in one file, shuffled; geometry and times in functional groups."""
    scan = frame(0, 0, PixelSpacing=None, ImagePositionPatient=None, TriggerTime=None)
    scan.ImageOrientationPatient = scan.SpacingBetweenSlices = None
    scan.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    places = [(t, d) for d in range(slices) for t in range(phases)]
    np.random.default_rng(1).shuffle(places)
    scan.NumberOfFrames = len(places)
    one = lambda **tags: Sequence([item(**tags)])
    scan.SharedFunctionalGroupsSequence = one(
        PixelMeasuresSequence=one(PixelSpacing=[1.5, 1.25], SliceThickness=6),
        PlaneOrientationSequence=one(ImageOrientationPatient=list(AXIAL)),
    )
    scan.PerFrameFunctionalGroupsSequence = Sequence(
        item(
            PlanePositionSequence=one(ImagePositionPatient=[5, 6, 7 + 10 * int(d)]),
            CardiacSynchronizationSequence=one(NominalCardiacTriggerDelayTime=40.0 * t),
            PixelValueTransformationSequence=one(
                RescaleSlope=1, RescaleIntercept=int(d)
            ),
        )
        for t, d in places
    )
    pixels = np.stack([np.full((H, W), value(t, d) - d, np.uint16) for t, d in places])
    scan.PixelData = pixels.tobytes()
    return scan


def test_an_enhanced_file_holds_the_whole_cine(tmp_path):
    save(enhanced(), tmp_path / "all.dcm")
    scan = hearts.read_dicom(tmp_path)
    assert values(scan) == EXPECTED
    assert scan.spacing == (10, 1.5, 1.25) and scan.ms.tolist() == [0, 40, 80]


def test_old_files_of_several_frames_are_phases_or_refused(tmp_path):
    for d in range(4):
        pixels = np.stack([np.full((H, W), value(t, d), np.uint16) for t in range(3)])
        scan = frame(0, d, NumberOfFrames=3, PixelData=pixels.tobytes())
        scan.FrameTime, scan.FrameIncrementPointer = 40, 0x00181063
        save(scan, tmp_path / f"{d}.dcm")
    scan = hearts.read_dicom(tmp_path)
    assert values(scan) == EXPECTED and scan.ms.tolist() == [0, 40, 80]
    spoil_one(tmp_path, FrameIncrementPointer=None)
    with pytest.raises(DataError, match=r"3 frames, and no FrameIncrementPointer"):
        hearts.read_dicom(tmp_path)


def test_a_screenshot_is_another_series(tmp_path):
    series(tmp_path)
    pixels = np.zeros((H, W, 3), np.uint8)
    shot = frame(
        0, 0, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
        BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=pixels.tobytes(),
        SOPClassUID=SecondaryCaptureImageStorage, series="1.2.9",
    )  # fmt: skip
    save(shot, tmp_path / "shot.dcm")
    assert values(hearts.read_dicom(tmp_path)) == EXPECTED


# ---------------------------------------------------------------- the real one


def test_the_cine_of_the_mirror(mirror):
    scan = hearts.read_dicom(mirror("sunnybrook_dicom") / "SCD0000101.zip")
    assert scan.image.shape == (20, 12, 256, 256)
    assert scan.spacing == pytest.approx((10, 1.367188, 1.367188))
    assert np.diff(scan.ms) == pytest.approx(np.full(19, 37.97), abs=0.01)
    assert scan.grid.turn == (True, False, True)  # the RV to the left of the LV
    assert scan.image.min() == 0 and scan.image.max() > 1000 and scan.said == ()

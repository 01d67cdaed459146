"""Where voxels lie: lengths and directions of NIfTI headers, and the way back."""

import csv
import itertools

import nibabel
import numpy as np
import pytest
from acdc_folder import write
from nibabel.affines import apply_affine

from medlib import hearts
from medlib.data import DataError
from medlib.hearts import function
from medlib.hearts.grid import AS_STORED, geometry, read_nifti, towards_dicom

SHAPE = (40, 50, 8)  # columns, rows, slices of a file
LENGTHS = (3.1, 2.5, 7.0)  # mm
LPS = np.diag([-1.0, -1.0, 1.0])  # rows towards the left, columns towards the back


def turned(degrees: float, axis: int) -> np.ndarray:
    """(3, 3): a rotation about an axis."""
    a, (i, j) = np.radians(degrees), [k for k in range(3) if k != axis]
    found = np.eye(3)
    found[i, i] = found[j, j] = np.cos(a)
    found[i, j], found[j, i] = -np.sin(a), np.sin(a)
    return found


DIRECTIONS = {
    "as DICOM's": LPS,
    "columns from behind": LPS @ np.diag([1, -1, 1]),
    "rows from the left": LPS @ np.diag([-1, 1, 1]),
    "feet first": LPS @ np.diag([1, 1, -1]),
    "rows and columns exchanged": LPS[:, [1, 0, 2]],
    "slices from front to back": LPS[:, [0, 2, 1]],
    "slices from side to side": LPS[:, [1, 2, 0]],
    "oblique": turned(35, 0) @ turned(-25, 2) @ LPS,
    "oblique and turned": turned(100, 2) @ turned(30, 1) @ LPS,
}


def affine(directions=LPS, lengths=LENGTHS, at=(60, 70, -90)) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3] = directions * lengths
    found[:3, 3] = at
    return found


def scan(voxels, sform=None, qform=None, *, endian="<", pixdim=LENGTHS, unit="mm"):
    """An image with the header as told: what is None is unset."""
    header = nibabel.Nifti1Header(endianness=endian)
    header.set_data_dtype(voxels.dtype)
    made = nibabel.Nifti1Image(voxels, None, header)
    made.header.set_xyzt_units(unit)
    if qform is not None:
        made.header.set_qform(qform, code=1)
    made.header["pixdim"][1:4] = pixdim
    if sform is not None:
        made.header.set_sform(sform, code=2)
    return made


def save(made, path):
    """nibabel's images write their own affine into the header; this keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = made.header.copy()
    made._affine = None
    made.update_header = lambda: None
    nibabel.save(made, path)
    assert nibabel.load(path).header["sform_code"] == header["sform_code"]
    return path


def header(**options):
    return scan(np.zeros(SHAPE, np.int16), **options).header


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("form", ["sform", "qform", "both"])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", DIRECTIONS)
def test_each_voxel_keeps_its_place_and_masks_go_back_exactly(
    tmp_path, name, form, endian, ending
):
    rng = np.random.default_rng(0)
    place = affine(DIRECTIONS[name])
    voxels = rng.integers(0, 900, SHAPE).astype(np.int16)
    labels = rng.integers(0, 4, SHAPE).astype(np.uint8)
    forms = {
        "sform": place if form != "qform" else None,
        "qform": place if form != "sform" else None,
    }
    folder = tmp_path / "patient001"
    folder.mkdir()
    (folder / "Info.cfg").write_text("ED: 1\nES: 1\nGroup: NOR\n")
    first = folder / f"patient001_frame01{ending}"
    save(scan(voxels, endian=endian, **forms), first)
    drawn = save(
        scan(labels, endian=endian, **forms), folder / f"patient001_frame01_gt{ending}"
    )
    with pytest.warns(UserWarning, match="the same image"):
        volume = hearts.read_patient(folder).ed
    # D is the file's slice axis: each slice holds the voxels of the file's slice.
    assert len(volume.image) == SHAPE[2]
    for k in range(SHAPE[2]):
        assert set(volume.image[k].ravel()) == set(voxels[:, :, k].ravel())
    # A voxel of the array lies where the file says.
    index = np.indices(SHAPE).transpose(1, 2, 3, 0)
    there = apply_affine(place, index)  # (columns, rows, slices, 3) in mm
    moved = np.stack([volume.grid.to_array(there[..., a]) for a in range(3)], -1)
    grid, steps = volume.grid, np.eye(3, dtype=int)
    for axis in range(3):
        step = moved[tuple(steps[axis])] - moved[0, 0, 0]
        assert np.linalg.norm(step) == pytest.approx(grid.spacing[axis], rel=1e-5)
    assert apply_affine(grid.affine, index) == pytest.approx(there, abs=1e-3)
    # In the plane, rows run towards the left or the back, columns to the back or feet.
    across, down = moved[0, 0, 1] - moved[0, 0, 0], moved[0, 1, 0] - moved[0, 0, 0]
    assert -(across[0] + across[1]) > 0
    assert -(down[1] + down[2]) > 0
    assert (grid.to_file(volume.image) == voxels).all()

    written = tmp_path / "out" / f"mask{ending}"
    hearts.write_mask(volume.mask, volume, written)
    again, stored = nibabel.load(written), nibabel.load(drawn)
    assert (np.asarray(again.dataobj) == labels).all()
    assert np.array_equal(again.affine, stored.affine)
    assert again.header.endianness == endian
    for field in ("pixdim", "sform_code", "qform_code", "xyzt_units", "quatern_b"):
        assert np.array_equal(again.header[field], stored.header[field])


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_the_turn_leads_towards_dicoms_axes_whatever_the_file_has(order, signs):
    place = affine(np.eye(3)[:, list(order)] * signs)
    found = towards_dicom(place)
    axes = place[:3, :2] / np.linalg.norm(place[:3, :2], axis=0)  # column, row
    across, down = (axes[:, ::-1] if found.transposed else axes).T
    across = -across if found.columns else across
    down = -down if found.rows else down
    best = {0: (-1, 0, 0), 1: (0, -1, 0), 2: (0, 0, -1)}
    plane = sorted(k for k in range(3) if np.abs(axes[k]).max() > 0.5)
    assert np.allclose(across, best[plane[0]]) and np.allclose(down, best[plane[1]])


def test_a_cine_is_turned_in_every_phase_and_keeps_its_times(tmp_path):
    rng = np.random.default_rng(0)
    voxels = rng.integers(0, 900, (*SHAPE, 3)).astype(np.int16)
    made = scan(voxels, sform=affine(DIRECTIONS["rows and columns exchanged"]))
    made.header.set_xyzt_units("mm", "msec")
    made.header["pixdim"][4] = 40
    cine = hearts.read_cine(save(made, tmp_path / "patient001_4d.nii.gz"))
    assert cine.image.shape == (3, SHAPE[2], SHAPE[0], SHAPE[1])
    assert cine.ms.tolist() == [0, 40, 80]
    for t in range(3):
        assert (cine.grid.to_file(cine.image[t]) == voxels[..., t]).all()


def test_a_slope_scales_the_image_and_does_not_come_back_in_the_mask(tmp_path):
    voxels = np.random.default_rng(0).integers(1, 900, SHAPE).astype(np.int16)
    made = scan(voxels, sform=affine())
    path = save(made, tmp_path / "scaled.nii")
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([0.5, 10], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(content)
    found, grid = read_nifti(path)
    assert found == pytest.approx(voxels * 0.5 + 10)
    image = grid.to_array(found.astype(np.float32))
    volume = hearts.Volume(image, None, grid.spacing, grid)
    hearts.write_mask(np.full(image.shape, 3), volume, tmp_path / "mask.nii")
    again = nibabel.load(tmp_path / "mask.nii")
    assert (np.asarray(again.dataobj) == 3).all()


# ---------------------------------------------------------------- which lengths


def test_an_unset_sform_gives_its_directions_and_pixdim_the_lengths():
    made = header(sform=affine(lengths=(1, 1, 1)))  # as in every file of ACDC
    grid = geometry("a", made, SHAPE)
    assert grid.lengths == LENGTHS and grid.spacing == LENGTHS[::-1]
    assert grid.turn == AS_STORED  # with such a header nothing is turned
    unit = grid.affine[:3, :3] / LENGTHS
    assert np.allclose(unit, LPS)


def test_an_unset_pixdim_gives_way_to_the_sform():
    with pytest.warns(
        UserWarning, match=r"pixdim is unset .1 × 1 × 1.*sform's 3.1 × 2"
    ):
        grid = geometry("a", header(sform=affine(), pixdim=(1, 1, 1)), SHAPE)
    assert grid.lengths == pytest.approx(LENGTHS)


@pytest.mark.parametrize(
    ("in_sform", "in_pixdim", "believed"),
    [
        (LENGTHS, (31, 25, 70), LENGTHS),  # an image of 1.2 m is none
        ((0.31, 0.25, 0.7), LENGTHS, LENGTHS),
        ((3.1, 2.5, 0.7), LENGTHS, LENGTHS),  # nor is a stack of 6 mm
    ],
)
def test_two_lengths_are_judged_by_width_and_height_and_both_are_said(
    in_sform, in_pixdim, believed
):
    made = header(sform=affine(lengths=in_sform), pixdim=in_pixdim)
    with pytest.warns(UserWarning, match="pixdim says .* its sform .* taken") as said:
        grid = geometry("scan.nii", made, SHAPE)
    assert grid.lengths == pytest.approx(believed)
    words = str(said[0].message)
    assert all(f"{v:.5g}" in words for v in (*in_sform, *in_pixdim))
    assert words.startswith("scan.nii")


@pytest.mark.parametrize(
    ("in_sform", "in_pixdim", "which"),
    [
        (LENGTHS, (3.3, 2.5, 7), "both"),
        ((31, 25, 70), (0.31, 0.25, 0.7), "neither"),
    ],
)
def test_lengths_that_nothing_decides_are_refused(in_sform, in_pixdim, which):
    made = header(sform=affine(lengths=in_sform), pixdim=in_pixdim)
    with pytest.raises(DataError, match=f"scan.nii: .*{which} can be.*look it up"):
        geometry("scan.nii", made, SHAPE)


@pytest.mark.parametrize(
    ("unit", "factor"), [("meter", 1e-3), ("micron", 1e3), ("mm", 1), ("unknown", 1)]
)
def test_lengths_are_millimetres_whatever_the_unit(unit, factor):
    scaled = np.array(LENGTHS) * factor
    place = affine(lengths=scaled, at=np.array((60, 70, -90)) * factor)
    grid = geometry("a", header(sform=place, pixdim=scaled, unit=unit), SHAPE)
    assert grid.lengths == pytest.approx(LENGTHS)
    assert grid.affine == pytest.approx(affine(), abs=1e-3)


def test_a_unit_that_cannot_be_is_dropped_with_a_word():
    made = header(sform=affine(), unit="meter")
    with pytest.warns(UserWarning, match="by its unit; taken as 3.1 × 2.5 × 7 mm"):
        assert geometry("a", made, SHAPE).lengths == pytest.approx(LENGTHS)


@pytest.mark.parametrize("pixdim", [(0, 2.5, 7), (np.nan, 2.5, 7), (3.1, np.inf, 7)])
def test_lengths_of_nothing(pixdim):
    with pytest.raises(DataError, match="pixdim, and no sform; expected three lengths"):
        geometry("a", header(pixdim=pixdim), SHAPE)
    with pytest.warns(UserWarning, match="the sform's 3.1 × 2.5 × 7 mm are taken"):
        grid = geometry("a", header(sform=affine(), pixdim=pixdim), SHAPE)
    assert grid.lengths == pytest.approx(LENGTHS)


def test_negative_lengths_lose_their_signs_with_a_word():
    with pytest.warns(UserWarning, match="its signs are dropped"):
        grid = geometry("a", header(pixdim=(-3.1, 2.5, -7)), SHAPE)
    assert grid.lengths == pytest.approx(LENGTHS)


@pytest.mark.parametrize(
    ("lengths", "shape"),
    [((0.05, 0.05, 8), (200, 200, 8)), ((1.5, 1.5, 80), (200, 200, 12))],
)
def test_a_spacing_that_no_scan_has_is_refused(lengths, shape):
    with pytest.raises(DataError, match="expected mm of a heart scan.*look them up"):
        geometry("a", header(pixdim=lengths), shape)


def test_a_stack_thinner_than_a_heart_is_said():
    with pytest.warns(UserWarning, match=r"8 slices 1 mm apart.*do not trust mm"):
        geometry("a", header(pixdim=(3.1, 2.5, 1)), SHAPE)


def test_a_sheared_sform_is_refused():
    sheared = affine()
    sheared[0, 1] = 1.5
    pixdim = np.linalg.norm(sheared[:3, :3], axis=0)
    with pytest.raises(DataError, match="not at right angles"):
        geometry("a", header(sform=sheared, pixdim=pixdim), SHAPE)


def test_forms_that_point_elsewhere_are_said_and_the_sform_is_taken():
    made = header(sform=affine(), qform=affine(turned(20, 2) @ LPS))
    with pytest.warns(UserWarning, match="turned by up to 20°; the sform is taken"):
        grid = geometry("a", made, SHAPE)
    assert grid.affine == pytest.approx(affine(), abs=1e-3)


# ---------------------------------------------------------------- held together


def patient(folder, *, mask=None, late=None):
    """A patient whose mask at ED, or whose both files at ES, lie by another affine."""
    place = write(folder, spacing=LENGTHS)
    plain = affine(lengths=LENGTHS, at=(0, 0, 0))
    for path in sorted(place.glob("*.nii.gz")):
        voxels = np.asarray(nibabel.load(path).dataobj)
        its = plain
        if mask is not None and path.name.endswith("frame01_gt.nii.gz"):
            its = mask
        if late is not None and "frame09" in path.name:
            its = late
        lengths = np.linalg.norm(its[:3, :3], axis=0)
        save(scan(voxels, sform=its, pixdim=lengths), path)
    return place


@pytest.mark.parametrize("which", ["mask", "late"])
@pytest.mark.parametrize(
    ("other", "fault"),
    [
        (affine(lengths=(3.1, 2.5, 5), at=(0, 0, 0)), "expected one grid: resample"),
        (affine(LPS @ np.diag([-1, 1, 1]), at=(0, 0, 0)), "do not lie together"),
        (affine(turned(10, 2) @ LPS, at=(0, 0, 0)), "do not lie together"),
    ],
)
def test_files_of_one_patient_on_two_grids_are_refused(tmp_path, which, other, fault):
    with pytest.raises(DataError, match=fault):
        hearts.read_patient(patient(tmp_path, **{which: other}))


def test_a_shifted_mask_is_said_and_taken_voxel_by_voxel(tmp_path):
    place = patient(tmp_path, mask=affine(at=(9, 0, 0)))
    with pytest.warns(UserWarning, match="lies 9.0 mm away.*voxel by voxel"):
        assert hearts.read_patient(place).ed.mask.max() == 3


def test_a_mask_without_lengths_takes_the_images(tmp_path):
    place = patient(tmp_path, mask=affine(lengths=(1, 1, 1), at=(0, 0, 0)))
    with pytest.warns(UserWarning, match=r"1 × 1 × 1 mm and is unset"):
        assert hearts.read_patient(place).ed.spacing == LENGTHS[::-1]


# ---------------------------------------------------------------- writing


def test_only_whole_masks_of_the_volumes_shape_are_written(tmp_path):
    volume = hearts.read_patient(write(tmp_path)).ed
    good = volume.mask
    for bad, says in (
        (good[1:], "expected .D, H, W."),
        (good + 0.5, "whole numbers"),
        (np.where(good, 300, 0), "0 to 255"),
    ):
        with pytest.raises(ValueError, match=says):
            hearts.write_mask(bad, volume, tmp_path / "mask.nii")
    with pytest.raises(ValueError, match=r"ends in .nii"):
        hearts.write_mask(good, volume, tmp_path / "mask.png")
    with pytest.raises(DataError, match="no grid"):
        hearts.write_mask(good, volume._replace(grid=None), tmp_path / "mask.nii")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        hearts.write_mask(good, volume, tmp_path / "file" / "mask.nii")
    assert not list(tmp_path.glob("**/mask*"))


# ---------------------------------------------------------------- the real hearts


def test_volumes_of_all_patients_are_those_computed_apart(mirror):
    folder = mirror("acdc")
    with (folder.parent / "acdc_volumes.csv").open(encoding="utf-8") as file:
        known = {row["patient"]: row for row in csv.DictReader(file)}
    cohort = hearts.load(folder)
    assert {p.name for p in cohort} == known.keys() and len(known) == 100
    for one in cohort:
        ed, es = (function.volumes(v.mask, v.spacing) for v in (one.ed, one.es))
        area = np.sqrt(one.height * one.weight / 3600)  # m²; Mosteller
        found = {
            "lv_edv_ml": ed.lv, "lv_esv_ml": es.lv,
            "rv_edv_ml": ed.rv, "rv_esv_ml": es.rv,
            "lv_ef_pct": function.ejection_fraction(ed.lv, es.lv),
            "rv_ef_pct": function.ejection_fraction(ed.rv, es.rv),
            "lv_mass_ed_g": function.mass(ed.myocardium), "bsa_mosteller_m2": area,
            "lv_edv_index": ed.lv / area, "rv_edv_index": ed.rv / area,
        }  # fmt: skip
        row = known[one.name]
        assert row["group"] == one.group
        for name, value in found.items():
            assert value == pytest.approx(float(row[name]), rel=1e-3, abs=0.06), name

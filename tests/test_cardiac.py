"""Reading, splitting, preparing and segmenting hearts, on folders written here."""

import gzip

import numpy as np
import pytest
import torch

from medlib import cardiac, data
from medlib.data import DataError

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")


def write(
    folder,
    name="patient001",
    group="NOR",
    *,
    seed=0,
    spacing=(1.5, 1.5, 10),
    shape=(3, 120, 110),
    masks=True,
):
    """One patient in ACDC's layout: a bright disc that shrinks, and moves nothing else."""
    import nibabel

    place = folder / name
    place.mkdir(parents=True)
    (place / "Info.cfg").write_text(f"ED: 1\nES: 9\nGroup: {group}\nHeight: 170.0\n")
    rng = np.random.default_rng(seed)
    row, column = np.indices(shape[1:])
    far = np.hypot(row - 55, column - 65)
    for frame, radius in ((1, 12), (9, 7)):
        mask = np.zeros(shape, np.uint8)
        (
            mask[:, far < radius + 5],
            mask[:, far < radius],
            mask[:, (far < radius) & (column < 62)],
        ) = 2, 3, 1
        image = 100 * (mask == 3) + 5 * rng.random(shape)
        for suffix, voxels in (("", image.astype(np.int16)), ("_gt", mask))[
            : 1 + masks
        ]:
            scan = nibabel.Nifti1Image(
                voxels.transpose(2, 1, 0), np.diag((*spacing, 1))
            )
            nibabel.save(scan, place / f"{name}_frame{frame:02}{suffix}.nii.gz")
    return place


@pytest.fixture
def hearts(tmp_path):
    for k in range(10):
        write(tmp_path, f"patient{k:03}", GROUPS[k % 5], seed=k)
    return cardiac.load(tmp_path)


def test_reads_what_was_written(hearts):
    first = hearts[0]
    assert (len(hearts), first.name, first.group) == (10, "patient000", "NOR")
    assert first.ed.image.shape == (3, 120, 110) and first.ed.spacing == (10, 1.5, 1.5)
    assert set(np.unique(first.es.mask)) == {0, 1, 2, 3}
    assert data.loaded["acdc"] == "folder"


def test_the_official_archive_may_be_unpacked_at_any_depth(tmp_path):
    write(tmp_path / "database" / "training")
    assert [p.name for p in cardiac.load(tmp_path)] == ["patient001"]


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

            scan = nibabel.Nifti1Image(
                np.full((110, 120, 3), 7, np.uint8), np.diag((1.5, 1.5, 10, 1))
            )
            nibabel.save(scan, place / "patient001_frame09_gt.nii.gz")


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
        cardiac.read_patient(tmp_path / "patient001")


def test_a_folder_without_patients(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="patient"):
            cardiac.load(place)


def test_folds_and_split_keep_patients_apart_and_diagnoses_together(hearts):
    parts = cardiac.folds(hearts, 2)
    assert sorted(p.name for part in parts for p in part) == [p.name for p in hearts]
    assert all({p.group for p in part} == set(GROUPS) for part in parts)
    train, val, test = cardiac.split(hearts)
    assert [len(x) for x in (train, val, test)] == [6, 2, 2]


def test_every_beginning_of_the_shuffled_order_keeps_the_diagnoses(hearts):
    assert {p.group for p in cardiac.shuffled(hearts, 3)[:5]} == set(GROUPS)
    assert cardiac.shuffled(hearts, 3) != cardiac.shuffled(hearts, 4)


def test_copies_of_one_scan_stay_in_one_fold(hearts):
    twin = hearts[3]._replace(name="patient999")
    for part in cardiac.folds([*hearts, twin]):
        names = {p.name for p in part}
        assert (twin.name in names) == (hearts[3].name in names)


def test_the_heart_is_found_by_its_motion_without_masks(tmp_path):
    patient = cardiac.read_patient(write(tmp_path, masks=False))
    row, column = cardiac.centre(patient)
    assert patient.ed.mask is None and abs(row - 55) < 8 and abs(column - 65) < 8
    with pytest.raises(DataError, match="patient001: no mask"):
        cardiac.slices([patient], [patient], [patient])


def test_slices_are_square_standardised_and_labelled(hearts):
    d = cardiac.slices(*cardiac.split(hearts), side=40, field=60)
    assert d.train.x.shape == (36, 1, 40, 40) and d.train.y.shape == (36, 40, 40)
    assert d.train.x[:6].mean().abs() < 0.01 and set(d.train.y.unique().tolist()) == {
        0,
        1,
        2,
        3,
    }
    assert "%" in repr(d)


def test_no_pixel_is_interpolated_where_the_sizes_agree(hearts):
    cut = cardiac.window(hearts[0], 20, 30)
    top, left = (int(c - 9.5) for c in cut.centre)
    found = cut.cut(torch.from_numpy(hearts[0].ed.image)[:, None])[:, 0].numpy()
    assert np.allclose(
        found, hearts[0].ed.image[:, top : top + 20, left : left + 20], atol=1e-2
    )


class Oracle(torch.nn.Module):
    """Gives back the mask that it is told, as sure logits."""

    def __init__(self, masks):
        super().__init__()
        self.masks, self.nothing = masks, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return 20.0 * torch.nn.functional.one_hot(self.masks, 4).movedim(-1, 1)


@pytest.mark.parametrize("side", [64, 96])
def test_masks_come_back_to_the_scanners_grid(hearts, side):
    patient = hearts[0]
    d = cardiac.slices([patient], [patient], [patient], side=side, field=96)
    scores = cardiac.dice(Oracle(d.test.y), [patient], side=side, field=96)
    assert scores.shape == (1, 2, 3) and scores.min() > (0.99 if side == 64 else 0.95)


def test_an_impossible_spacing_is_not_believed(tmp_path):
    patient = cardiac.read_patient(write(tmp_path, spacing=(7, 7, 10)))
    with pytest.warns(UserWarning, match="840 mm wide"):
        assert cardiac.spacing(patient) == pytest.approx((400 / 120, 400 / 120))


def test_without_data_phantoms_stand_in(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("MEDLIB_MIRROR", raising=False)
    monkeypatch.setattr(data, "ROOT", tmp_path)
    patients = cardiac.load()
    assert "STAND-IN" in capsys.readouterr().out and data.loaded["acdc"] == "stand-in"
    assert len(patients) == 20 and patients[0].ed.mask.max() == 3


def test_stacks_hold_the_slices_in_order(hearts):
    train, val, test = cardiac.split(hearts)
    flat, deep = (f(train, val, test) for f in (cardiac.slices, cardiac.stacks))
    assert deep.train.x.shape == (
        2 * len(train),
        1,
        8,
        128,
        128,
    )  # three slices, and five empty ones
    assert torch.equal(deep.train.x[0, 0, :3], flat.train.x[:3, 0])
    assert (
        torch.equal(deep.train.y[1, :3], flat.train.y[3:6])
        and deep.train.y[:, 3:].max() == 0
    )


def test_blocks_cover_a_longer_stack():
    blocks = cardiac._blocks(torch.arange(20)[:, None], 4)[
        ..., 0
    ]  # ten slices of ED, ten of ES
    assert blocks[:, 0].tolist() == [0, 10, 3, 13, 6, 16]
    assert (
        set(blocks.flatten().tolist()) == set(range(20))
        and (blocks.diff(dim=1) == 1).all()
    )


def test_a_network_for_stacks_segments_as_one_for_slices(hearts):
    from medlib.models import Neighbours

    net = Neighbours(reach=0, width=4)
    stacks = cardiac.segment(net, hearts[0], side=64, whole=True)
    slices = cardiac.segment(net.net, hearts[0], side=64)
    assert (
        np.mean(stacks[0] == slices[0]) > 0.999
        and stacks[1].shape == hearts[0].es.image.shape
    )


def test_augmentation_moves_all_slices_of_a_stack_alike():
    x = torch.rand(2, 1, 1, 32, 32).expand(2, 1, 4, 32, 32)
    y = (x[:, 0] > 0.5).long()
    moved, labels = data.random_affine(contrast=0)(
        x, y, torch.Generator().manual_seed(0)
    )
    assert (
        moved.shape == x.shape and labels.shape == y.shape and not torch.equal(moved, x)
    )
    assert (moved == moved[:, :, :1]).all() and (labels == labels[:, :1]).all()
    flat, _ = data.random_affine(contrast=0)(
        x[:, :, 0], y[:, 0], torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(flat, moved[:, :, 0])


def test_patients_without_masks_are_named_and_left_out(tmp_path):
    write(tmp_path, "patient001")
    write(tmp_path, "patient002", masks=False)
    both = cardiac.load(tmp_path)
    with pytest.warns(UserWarning, match="no masks: patient002"):
        assert [p.name for p in cardiac.drawn(both)] == ["patient001"]
    with pytest.raises(DataError, match="patient002: no mask"):
        cardiac.score((both[1].ed.image, both[1].es.image), both[1])


def test_another_folder_takes_the_place_of_acdc(tmp_path, monkeypatch):
    write(tmp_path / "deep" / "down", "patient301")
    monkeypatch.setenv("MEDLIB_DATA", str(tmp_path))
    assert [p.name for p in cardiac.load()] == ["patient301"]
    monkeypatch.setenv("MEDLIB_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere is not a folder"):
        cardiac.load()


def test_a_moment_on_another_scale_changes_nothing(hearts):
    one = hearts[0]
    other = one._replace(es=one.es._replace(image=20 * one.es.image))
    cut = cardiac.window(one)
    assert cardiac.centre(other) == cardiac.centre(one)
    torch.testing.assert_close(cardiac.prepare(other, cut), cardiac.prepare(one, cut))

"""Splits and data sets: what is checked, and what they carry along."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medlib import load
from medlib.data import DataError, Dataset, Split, audit, check, shared_patients


def images(n=4, classes=2):
    return Split(torch.rand(n, 1, 4, 4), torch.arange(n) % classes)


def nan():
    x, y, _ = images()
    x[2, 0, 1, 1] = float("nan")
    return Split(x, y)


@pytest.mark.parametrize(
    "split, match",
    [
        (Split(torch.zeros(0, 1, 4, 4), torch.zeros(0).long()), "toy/val: no images"),
        (nan(), "toy/val: image 2 holds NaN"),
        (images()._replace(x=images().x / 0), "toy/val: image 0 holds NaN or infinity"),
        (images()._replace(x=images().x.byte()), "images in torch.uint8.*float()"),
        (images()._replace(y=images().y.int()), "labels in torch.int32.*y.long()"),
        (
            images()._replace(y=images().y * torch.nan),
            "labels in torch.float32.*long()",
        ),
        (images()._replace(y=images().y > 0), "labels in torch.bool.*y.long()"),
        (images()._replace(x=np.zeros((4, 1, 4, 4))), "of type ndarray.*from_numpy"),
        (images()._replace(y=[0, 1, 0, 1]), "labels of type list; expected tensors"),
        (images()._replace(y=torch.tensor([0, -1, 0, 1])), "image 1 has label -1; exp"),
        (
            Split(torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 7])),
            "toy/val: image 2 has label 7; expected 0 to 1",
        ),
        (
            Split(torch.zeros(3, 4, 4), torch.zeros(3).long()),
            "toy/val: images.*expected",
        ),
    ],
)
def test_a_bad_split_names_set_and_index(split, match):
    with pytest.raises(DataError, match=match):
        Dataset("toy", ("a", "b"), images(), split, images(), "simulated")


def test_check_accepts_what_is_right():
    assert check(images(), 2, "toy") is None


def test_audit_finds_copies_across_splits_only(capsys):
    one, two, three = images(4), images(4), images(4)
    two.x[3], one.x[0] = one.x[1], one.x[2]
    pairs = audit(Dataset("toy", ("a", "b"), one, two, three, "simulated"))
    assert (
        pairs == [("train", 1, "val", 3)]
        and "1 validation or test image" in capsys.readouterr().out
    )


def test_subsets_nest_and_keep_the_class_shares():
    x = torch.arange(1000.0).view(-1, 1, 1, 1)
    d = Dataset(
        "toy",
        ("a", "b"),
        Split(x, (torch.arange(1000) % 10 == 0).long()),
        images(),
        images(),
        "simulated",
    )
    small, large = (set(d.subset_index(n, seed=3).tolist()) for n in (50, 200))
    assert small < large and d.subset(50, seed=3).train.y.sum() == 5
    assert set(d.subset_index(50, seed=4).tolist()) != small
    with pytest.raises(DataError, match="expected 2 to 1000"):
        d.subset(1001)


def test_standardise_uses_the_training_images_alone():
    d = Dataset(
        "toy",
        ("a", "b"),
        images(),
        Split(images().x + 5, images().y),
        images(),
        "simulated",
    ).standardise()
    assert (
        abs(d.train.x.mean()) < 1e-6
        and abs(d.train.x.std() - 1) < 1e-5
        and d.val.x.mean() > 5
    )


def test_resize_and_pad():
    digits = load("digits", device="cpu")
    larger, framed = digits.resize(16), digits.pad(11)
    assert larger.test.x.shape[1:] == (1, 16, 16) and framed.val.x.shape[1:] == (
        1,
        11,
        11,
    )
    torch.testing.assert_close(framed.test.x[..., 1:9, 1:9], digits.test.x)
    assert (framed.test.x[..., 0, :] == digits.train.x.min()).all()
    assert abs(larger.train.x.mean() - digits.train.x.mean()) < 0.01


# ---------------------------------------------------------------- carried along


@pytest.fixture
def toy():
    """Six, four and two images of three patients; even and odd ones are two classes."""
    torch.manual_seed(0)
    parts = [
        images(n)._replace(whose=np.array([f"patient{k % 3}" for k in range(n)]))
        for n in (6, 4, 2)
    ]
    return Dataset("toy", ("a", "b"), *parts, "simulated")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.standardise(),
        lambda d: d.resize(8),
        lambda d: d.pad(8),
        lambda d: d.to("cpu"),
        lambda d: d.subset(6),
    ],
)
def test_what_is_made_of_a_set_keeps_its_name_its_source_and_whose_images_they_are(
    toy, change
):
    made = change(toy)
    assert (made.name, made.source, made.classes) == ("toy", "simulated", ("a", "b"))
    for part in ("train", "val", "test"):
        ours, theirs = getattr(made, part), getattr(toy, part)
        assert sorted(ours.whose) == sorted(theirs.whose)


@pytest.mark.parametrize(
    "index",
    [slice(1, 6, 2), torch.tensor([1, 3, 5]), torch.arange(6) % 2 == 1],
)
def test_take_keeps_image_label_and_patient_together(toy, index):
    chosen = toy.train.take(index)
    assert torch.equal(chosen.x, toy.train.x[[1, 3, 5]])
    assert chosen.y.tolist() == [1, 1, 1]
    assert chosen.whose.tolist() == ["patient1", "patient0", "patient2"]
    nobody = toy.train._replace(whose=None).take(index)
    assert nobody.whose is None and torch.equal(nobody.x, chosen.x)


def test_a_subset_takes_the_patients_along(toy):
    keep = toy.subset_index(4, seed=1)
    small = toy.subset(4, seed=1)
    assert small.train.whose.tolist() == [f"patient{int(k) % 3}" for k in keep]


def test_as_many_names_as_images(toy):
    with pytest.raises(
        DataError, match=r"toy/val: patients' names \(3,\) for 4 images"
    ):
        replace(toy, val=toy.val._replace(whose=toy.val.whose[:3]))
    with pytest.raises(DataError, match="expected one name an image"):
        toy.map(lambda s: s._replace(whose=s.whose[:1]))


def test_a_subset_by_class_of_masks_is_refused():
    masks = Split(torch.rand(4, 1, 8, 8), torch.zeros(4, 8, 8).long())
    d = Dataset("hearts", ("a", "b"), masks, masks, masks, "simulated")
    with pytest.raises(
        DataError, match=r"hearts: .*masks; expected one label an image"
    ):
        d.subset(2)


def test_a_bad_mask_is_named_too():
    masks = Split(torch.rand(3, 1, 4, 4), torch.zeros(3, 4, 4).long())
    masks.y[2, 1, 1] = 5
    with pytest.raises(DataError, match="toy: image 2 has label 5; expected 0 to 1"):
        check(masks, 2, "toy")


def test_pixels_are_looked_at_once(toy, monkeypatch):
    """Moving a set, or changing all of its images, checks shapes and no values."""
    monkeypatch.setattr(torch, "isfinite", None)
    moved = toy.to("cpu").standardise().map(lambda s: s).subset(4)
    assert moved.train.x.shape == (4, 1, 4, 4)
    with pytest.raises(TypeError):
        replace(toy, name="new")
    with pytest.raises(DataError, match="toy/train: images"):
        toy.map(lambda s: s._replace(x=s.x[:, 0]))


def test_a_set_that_does_not_move_is_the_same_set(toy):
    assert toy.to("cpu") is toy


def test_images_of_one_grey_value_cannot_be_standardised(toy):
    grey = replace(toy, train=toy.train._replace(x=torch.ones(6, 1, 4, 4)))
    with pytest.raises(DataError, match="toy: .*deviation of 0; expected one above 0"):
        grey.standardise()


def test_two_sets_can_be_compared(toy):
    same, other = toy, replace(toy)
    assert toy == same and toy != other


# ---------------------------------------------------------------- fingerprints


def test_equal_content_has_one_fingerprint_wherever_it_lies(toy):
    def copied(split):
        channels_last = split.x.clone().contiguous(memory_format=torch.channels_last)
        return Split(channels_last, split.y.clone())

    other = Dataset(
        "other", toy.classes, *map(copied, (toy.train, toy.val, toy.test)), "x"
    )
    assert other.fingerprint() == toy.fingerprint()
    assert len(toy.fingerprint()) == 32 and int(toy.fingerprint(), 16) >= 0


def test_all_that_a_training_sees_is_in_the_fingerprint(toy):
    def of(**parts):
        return replace(toy, **parts).fingerprint()

    x, y, _ = toy.train
    pixel = x.clone()
    pixel[5, 0, 3, 3] += 1e-3
    label = toy.val.y.clone()
    label[0] = 1 - label[0]
    wide = [p._replace(x=p.x.view(-1, 1, 2, 8)) for p in (toy.train, toy.val)]
    seen = [
        toy.fingerprint(),
        of(train=Split(pixel, y)),
        of(train=toy.train.take(slice(0, 5))),
        of(train=Split(x.double(), y)),
        of(val=Split(toy.val.x, label)),
        of(classes=("a", "c")),
        of(train=wide[0], val=wide[1]),
    ]
    assert len(set(seen)) == len(seen)
    assert of(test=toy.val, name="other", source="other") == seen[0]


def test_the_fingerprint_is_kept_until_a_tensor_changes(toy, monkeypatch):
    from medlib import data

    calls, digest = [], data._digest
    monkeypatch.setattr(data, "_digest", lambda *a: calls.append(1) or digest(*a))
    before = toy.fingerprint()
    assert toy.fingerprint() == before and len(calls) == 1
    toy.val.x[0, 0, 0, 0] += 1
    after = toy.fingerprint()
    assert after != before and len(calls) == 2
    toy.val.x[0, 0, 0, 0] -= 1
    toy.train.x.mul_(2)
    assert toy.fingerprint() not in (before, after)


def test_what_is_made_of_a_set_keeps_a_type_that_a_network_learns_from(toy):
    with pytest.raises(DataError, match="images in torch.int32"):
        toy.map(lambda s: s._replace(x=s.x.int()))


def test_a_smaller_image_is_a_mean_and_a_smaller_frame_is_refused(toy):
    """Without anti-aliasing, stripes of a pixel would come out black or white."""
    striped = toy.map(
        lambda s: s._replace(x=torch.arange(8.0).expand(len(s.x), 1, 8, 8) % 2)
    )
    small = striped.resize(2).train.x
    torch.testing.assert_close(small, torch.full_like(small, 0.5), atol=0.1, rtol=0)
    with pytest.raises(DataError, match="7 pixels for images of 8; expected as many"):
        striped.pad(7)
    assert torch.equal(striped.pad(8).train.x, striped.train.x)
    framed = striped.pad(11).train.x  # one pixel more at the end
    assert framed.shape[-2:] == (11, 11)
    assert torch.equal(framed[..., 1:9, 1:9], striped.train.x)


def test_half_precision_has_a_fingerprint(toy):
    half = toy.map(lambda s: s._replace(x=s.x.bfloat16()))
    assert half.fingerprint() != toy.fingerprint()


def test_audit_counts_images_of_patients_of_an_earlier_split(toy, capsys):
    # the split's own patients again, a patient of validation, and a stranger
    train = toy.train._replace(whose=np.array(["a", "b", "c"] * 10)[: len(toy.train.y)])
    val = toy.val._replace(whose=np.array(["a", "v", "v", "w"]))
    test = toy.test._replace(
        whose=np.array(["w", "x", "b", "y"] * 10)[: len(toy.test.y)]
    )
    known = replace(toy, train=train, val=val, test=test)
    again = int(np.isin(test.whose, ["w", "b"]).sum())
    assert shared_patients(known) == {"val": 1, "test": again}
    audit(known)
    told = capsys.readouterr().out
    assert "val: 1 of 4 images show a patient of an earlier split" in told
    unknown = replace(known, test=known.test._replace(whose=None))
    assert shared_patients(unknown) is None
    audit(unknown)
    assert "not known" in capsys.readouterr().out


def test_a_column_of_labels_is_refused_with_the_way_out():
    column = Split(torch.zeros(3, 1, 4, 4), torch.zeros(3, 1).long())
    with pytest.raises(DataError, match=r"labels \(3, 1\).*y\.ravel\(\)"):
        check(column, 2, "toy")


def test_a_mask_with_255_is_named():
    y = torch.zeros(3, 4, 4).long()
    y[1, 2:] = 255
    with pytest.raises(DataError, match="image 1 has label 255; expected 0 to 1"):
        check(Split(torch.zeros(3, 1, 4, 4), y), 2, "toy")

"""The list of chapters that wait for their rerun only shrinks."""

import pytest

from press.text import sources, stored
from press.waiting import strike, waiting

# Those that waited when the list was begun; no other may ever join them.
FIRST = """
02_lenet 03_alexnet 04_vgg 05_shortcuts 06_mobilenet 07_efficientnet
07_tournament 08_classical 10_fcn 11_unet 11_unet_hearts 12_deeplab 13_residual
14_soft_attention 15_hard_attention 16_attention_in_networks
17_volumes 18_between_slices 19_diagnosis 20_motion
""".split()  # noqa: SIM905


def test_the_list_only_shrinks():
    assert set(waiting()) <= set(FIRST) and len(waiting()) == len(set(waiting()))


@pytest.mark.parametrize("source", sources(), ids=lambda p: p.stem)
def test_a_chapter_waits_or_has_a_stamp_of_what_it_uses(source):
    assert ("uses" in stored(source).metadata.medlib) != (source.stem in waiting())


def test_a_chapter_is_struck_off_and_the_comment_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("press.text.FOLDER", tmp_path)
    assert waiting() == []
    (tmp_path / "waiting.txt").write_text("# why\n02_a\n03_b\n", encoding="utf-8")
    strike("02_a")
    strike("04_c")
    assert (tmp_path / "waiting.txt").read_text("utf-8") == "# why\n03_b\n"

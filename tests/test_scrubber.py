import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from medlib.scrubber import scrubber


@pytest.fixture
def page(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **k: shown.append(data))

    def show(frames, **options):
        scrubber(frames, alt='a "small" <dot>', caption="A dot, 3 $", **options)
        return shown[-1]["text/html"]

    return show


def colours(n):
    """Frames (n, 16, 16, 3), each of one grey value."""
    grey = np.linspace(0, 240, n).astype(np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (n, 16, 16, 3))


def test_all_frames_lie_in_one_picture_in_their_order(page):
    frames = colours(6).reshape(2, 3, 16, 16, 3)
    text = page(frames, sliders=("slice", "moment"), quality=100)
    (data,) = re.findall(r"base64,([^)]*)\)", text)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert sheet.shape == (16, 96, 3)
    middles = sheet[8, 8::16, 0].astype(int)
    assert abs(middles - [0, 48, 96, 144, 192, 240]).max() < 8


def test_a_sheet_stays_within_what_a_webp_can_hold(page, monkeypatch):
    monkeypatch.setattr("medlib.scrubber.LONGEST", 64)  # four frames
    text = page(colours(6), sliders=("step",), quality=100)
    (data,) = re.findall(r"base64,([^)]*)\)", text)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    middles = sheet[8::16, 8::16, 0].astype(int)
    assert abs(middles - [[0, 48, 96, 144], [192, 240, 0, 0]]).max() < 8
    assert "background-size:400% 200%" in text
    assert "background-position:100.000% 0.000%" in text  # the fourth of six


def test_small_frames_are_shown_larger_and_in_the_middle(page):
    text = page(np.zeros((2, 8, 300, 3)), sliders=("step",))
    assert "max-width:480px;margin:0 auto" in text and "aspect-ratio:300/8" in text


def test_words_are_escaped_and_every_place_is_filled(page):
    text = page(colours(5), sliders=("<step>",))
    assert 'aria-label="a &quot;small&quot; &lt;dot&gt;"' in text
    assert "A dot, 3 $</figcaption>" in text and "&lt;step&gt;</span> <input" in text
    assert not re.findall(r"\$\{?[a-z]", text)


def test_the_middle_stands_still_without_javascript(page):
    text = page(colours(5), sliders=("step",))
    assert "background-position:50.000% 0.000%" in text
    assert 'max="4" value="2" data-axis="x"> <span><output>3</output> of 5' in text


def test_two_on_one_page_do_not_share_a_name(page):
    first, second = (page(colours(2), sliders=("step",)) for _ in range(2))
    names = [re.findall(r'id="(scrubber-\d+)"', text)[0] for text in (first, second)]
    assert names[0] != names[1]
    assert all(
        f'getElementById("{name}")' in text
        for name, text in zip(names, (first, second), strict=True)
    )


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (2, 4, 8, 8, 3)])
def test_as_many_names_as_axes(page, shape):
    names = ("a", "b", "c")[: 6 - len(shape)]
    with pytest.raises(ValueError, match="expected one, or two"):
        page(np.zeros(shape), sliders=names)

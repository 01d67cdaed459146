import base64
import io
import json
import re
import subprocess
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from medlib import plots, theme
from medlib.metrics import auc
from medlib.stats import Interval


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr(
        "IPython.display.display", lambda *a, **k: found.append((*a, k))
    )
    return found


def test_a_figure_needs_words():
    with pytest.raises(TypeError, match="alt"):
        plots.show(plots.grid([np.eye(2)]))
    with pytest.raises(ValueError, match="alt text"):
        plots.show(plots.grid([np.eye(2)]), alt=" ", caption="x")


def test_a_figure_carries_its_words(shown):
    plots.show(
        plots.grid([np.eye(2)]), alt="two pixels", caption="Two pixels.", name="fig-two"
    )
    bundle, options = shown[0]
    assert bundle["image/png"].startswith("iVBOR")
    assert options["metadata"]["image/png"] == {"alt": "two pixels", "width": 280}
    assert options["metadata"]["medlib"]["figure"]["name"] == "fig-two"


def test_intervals_and_overlays_hold_what_they_were_given():
    rows = {"a": Interval(0.9, 0.8, 0.95, 5), "b": Interval(0.7, 0.6, 0.8, 5)}
    axis = plots.intervals(rows, xlabel="AUC", references={"published": 0.944}).axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in axis.texts] == ["published"]
    means = [line.get_xdata() for line in axis.lines if line.get_marker() == "o"]
    (spans,) = axis.collections
    assert np.array(means).tolist() == [[0.9, 0.7]]
    assert [s[:, 0].tolist() for s in spans.get_segments()] == [[0.8, 0.95], [0.6, 0.8]]
    figure = plots.overlay(
        np.zeros((3, 4, 4)), np.ones((3, 4, 4)), ["x", "y", "z"], columns=2
    )
    assert [len(a.images) for a in figure.axes] == [2, 2, 2, 0]


def test_tables_and_sources_are_markdown(shown):
    plots.table([("a", 1)], ["name", "n"])
    plots.show_source(auc)
    assert shown[0][0].data.splitlines() == [
        "| name | n |",
        "| --- | ---: |",
        "| a | 1 |",
    ]
    assert "medlib/metrics.py" in shown[1][0].data and "def auc(" in shown[1][0].data


def test_the_style_comes_with_the_first_figure_and_not_with_the_import():
    code = (
        "import matplotlib as m; before = dict(m.rcParams); from medlib import plots\n"
        "assert dict(m.rcParams) == before\n"
        "_, axis = plots.panels(1)\n"
        "assert not axis.spines['top'].get_visible()\n"
        "assert m.rcParams['image.cmap'] == 'gray'"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


def test_every_figure_has_the_style_whatever_was_set_before():
    with mpl.rc_context({"axes.spines.top": True, "axes.grid": False}):
        axis = plots.intervals({"a": Interval(0.9, 0.8, 0.95, 5)}, xlabel="AUC").axes[0]
        assert not axis.spines["top"].get_visible()
        assert axis.xaxis.get_gridlines()[0].get_visible()


def test_the_dot_of_a_learning_curve_is_the_best_validation():
    history = SimpleNamespace(
        step=[10, 20, 30],
        train_loss=[3, 2, 1],
        val_loss=[3, 2, 2],
        score=[0.5, 0.9, 0.7],
    )
    history.best = 1
    left, right = plots.curves({"net": history}).axes
    assert [line.get_label() for line in left.lines] == [
        "net, training", "net, validation"
    ]  # fmt: skip
    assert left.lines[0].get_ydata().tolist() == [3, 2, 1]
    assert right.lines[1].get_xydata().tolist() == [[20, 0.9]]


def test_a_confusion_matrix_has_the_truth_in_its_rows():
    # Of three healthy two are found, of two ill both.
    target, found = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 1])
    logits = torch.nn.functional.one_hot(found, 2).float()
    result = SimpleNamespace(target=target, logits=logits)
    axis = plots.confusion(result, ["healthy", "ill"]).axes[0]
    assert axis.get_ylabel() == "true" and axis.get_xlabel() == "predicted"
    counts = {(t.get_position()[::-1], t.get_text()) for t in axis.texts}
    assert counts == {((0, 0), "2"), ((0, 1), "1"), ((1, 0), "0"), ((1, 1), "2")}
    shares = axis.images[0].get_array().tolist()
    assert shares == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]))


def test_a_roc_curve_is_sensitivity_over_one_minus_specificity():
    # The surest positive leads, then the negatives: half of the positives at no cost.
    axis = plots.roc({"net": [4, 1, 3, 2]}, [1, 1, 0, 0], resamples=5).axes[0]
    x, y = axis.lines[0].get_data()
    assert axis.get_ylabel() == "sensitivity" and "specificity" in axis.get_xlabel()
    assert y[0] == 0.5 and y[50] == 0.5 and y[-1] == 1 and len(x) == 101


def test_the_band_of_a_roc_curve_is_around_it_and_narrower_with_more_cases():
    rng, widths = np.random.default_rng(0), []
    for n in (200, 3200):
        target = np.arange(n) % 2
        axis = plots.roc({"net": target + rng.normal(size=n)}, target).axes[0]
        (band,) = axis.collections[0].get_paths()
        x, y = axis.lines[0].get_data()
        low, high = (
            np.array(
                [f(band.vertices[np.isclose(band.vertices[:, 0], v), 1]) for v in x]
            )
            for f in (np.min, np.max)
        )
        assert (low <= y).all() and (y <= high).all()
        widths.append((high - low).mean())
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.3)  # one over the root


def test_several_arms_of_a_row_stand_under_one_another():
    a, b = Interval(0.9, 0.8, 0.95, 5), Interval(0.7, 0.6, 0.8, 5)
    figure = plots.dots({"n = 4": {"with": a, "without": b}}, xlabel="Dice")
    places = {
        line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines
    }
    (x, above), (left, below) = places["with"][0], places["without"][0]
    assert (x, left) == (0.9, 0.7) and above < 0 < below  # the axis runs downwards
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["with", "without"]


def test_an_interval_stands_under_its_mean_and_a_table_can_be_folded(shown):
    rows = [("net", Interval(0.968, 0.954, 0.98, 5)), ("other", "**0.9 [0.8, 1.0]**")]
    plots.table(rows, ["", "AUC"], folded="The numbers")
    text = shown[0][0].data
    assert "| net | 0.968<br><small>[0.954,&nbsp;0.980]</small> |" in text
    assert "| **0.9**<br><small>[0.8,&nbsp;1.0]</small> |" in text
    assert text.startswith(
        '<details class="numbers"><summary>The numbers</summary>\n\n|'
    )
    assert text.endswith("|\n\n</details>")


def test_line_ends_are_named_once_and_apart():
    _, axis = plots.panels(1)
    for k in range(3):
        axis.plot([0, 1], [0, 1 + 0.001 * k], label=f"arm {k}")
    axis.plot([0, 1], [1, 0])  # without a label
    plots.label_ends(axis)
    assert [t.get_text() for t in axis.texts] == ["arm 0", "arm 1", "arm 2"]
    heights = [t.get_position()[1] for t in axis.texts]  # points beside the ends
    assert (np.diff(heights) > axis.texts[0].get_fontsize()).all()


# ---------------------------------------------------------------- outlines


def square() -> np.ndarray:
    mask = np.zeros((9, 9), int)
    mask[2:6, 3:8] = 3
    return mask


def drawn(mask, who="expert"):
    _, axis = plots.panels(1)
    axis.imshow(np.zeros(mask.shape))
    before = axis.axis()
    plots.outline(axis, mask, who)
    assert axis.axis() == before
    return list(axis.collections)


def test_a_contour_runs_between_the_pixels_inside_and_those_outside():
    (lines,) = drawn(square())
    (path,) = lines.get_paths()
    x, y = path.vertices.T
    assert (x.min(), x.max(), y.min(), y.max()) == (2.5, 7.5, 1.5, 5.5)
    assert mpl.colors.to_hex(lines.get_edgecolor()[0]) == theme.COLOURS["lv"]


def test_a_contour_is_closed_at_the_border_of_the_image():
    (lines,) = drawn(np.ones((4, 4), bool))
    x, y = lines.get_paths()[0].vertices.T
    assert (x.min(), x.max(), y.min(), y.max()) == (-0.5, 3.5, -0.5, 3.5)


def test_a_common_border_is_drawn_once():
    mask = square()
    mask[mask == 0] = 2  # all around
    muscle, cavity = drawn(mask)
    inner = muscle.get_paths()[0].vertices
    assert not ((inner > 0) & (inner < 8)).all(1).any()  # only its outer border
    assert len(cavity.get_paths()[0].vertices) > 4


def test_the_network_is_dashed_and_white_and_the_expert_wider():
    (expert,), (network,) = drawn(square()), drawn(square(), "network")
    assert mpl.colors.to_hex(network.get_edgecolor()[0]) == "#ffffff"
    assert network.get_linestyle()[0][1] and not expert.get_linestyle()[0][1]
    assert expert.get_linewidth()[0] > network.get_linewidth()[0]
    with pytest.raises(KeyError):
        drawn(square(), "nobody")


def test_a_frame_has_the_colour_of_the_label_where_its_edge_is():
    picture = plots.outlined(np.full((9, 9), 0.0), square(), zoom=20, limits=(0, 1))
    assert picture.shape == (180, 180, 3) and picture.dtype == np.uint8
    colour = np.array([round(255 * c) for c in mpl.colors.to_rgb(plots.OUTLINES[3])])
    near = (abs(picture.astype(int) - colour) < 40).all(2)
    assert near[80, 59:62].any() and near[80, 158:162].any()  # left and right edge
    assert not near[80, 70:150].any() and not near[80, :50].any()


@pytest.mark.parametrize("shape", [(29, 57), (57, 58), (16, 203)])
def test_a_frame_has_zoom_times_as_many_pixels_whatever_their_number(shape):
    flat = np.zeros(shape)
    assert plots.outlined(flat, flat, zoom=1).shape == (*shape, 3)


def test_cases_mark_too_much_and_missed_where_they_are():
    expert, network = np.zeros((6, 6), int), np.zeros((6, 6), int)
    expert[1, 1], network[4, 4] = 3, 1  # missed; too much
    expert[2, 4], network[2, 4] = 2, 3  # taken for another
    expert[3, 3] = network[3, 3] = 2
    figure = plots.cases([np.eye(6)], [expert], [network], ["the worst"])
    assert [a.get_title() for a in figure.axes] == [
        "image",
        "expert",
        "network",
        "error",
    ]
    assert figure.axes[0].get_title("left") == "the worst"
    wrong = figure.axes[3].images[1].get_array()
    found = {
        tuple(map(int, at)): mpl.colors.to_hex(wrong[tuple(at)])
        for at in np.argwhere(wrong[..., 3] > 0)
    }
    more, missed = theme.COLOURS["more"], theme.COLOURS["missed"]
    assert found == {(4, 4): more, (1, 1): missed, (2, 4): "#ffffff"}


# ---------------------------------------------------------------- the SVG of a page


def page(figure, shown, caption="A title. More.", alt="What is seen <here>.") -> str:
    plots.show(figure, alt=alt, caption=caption)
    return shown[-1][0][plots.SVG]


def plot(x=1.0):
    figure, axis = plots.panels(1)
    axis.plot([0, x], [0, 1], "o-", label="net")
    axis.plot([0, x], [1, 0], color="0.8")
    axis.set(xlabel="step", ylabel="Dice", title="Much")
    return figure


def test_colours_become_variables_of_the_page(shown):
    text = page(plot(), shown)
    for name in ("ink", "soft", "rule", "accent"):
        assert f"var(--{name}, {theme.COLOURS[name]})" in text
    assert "color-mix(in srgb, var(--ink, #000000) 20%, var(--paper" in text
    bare = re.sub(r"var\(--\w+, #[0-9a-f]{6}\)", "", text)
    assert not re.findall(r"#[0-9a-f]{6}\b", bare)


def test_black_and_white_over_a_picture_stay(shown):
    figure, axis = plots.panels(1)
    axis.imshow(np.eye(3))
    axis.text(1, 1, "over", color="white")
    axis.set_title("above")
    root = ElementTree.fromstring(page(figure, shown))
    style = {t.text: t.get("style") for t in root.iter("text")}
    assert "fill: #ffffff" in style["over"] and "var(--ink" in style["above"]


def test_an_svg_has_no_date_style_size_or_foreign_address(shown):
    text = page(plot(), shown)
    root = ElementTree.fromstring(text)
    assert root.tag == "svg" and "width" not in root.attrib and root.get("viewBox")
    assert not list(root.iter("style")) and not list(root.iter("metadata"))
    assert "http" not in text and "Matplotlib" not in text and "font-family" not in text
    assert page(plot(), shown) == text  # the same bytes each time


def test_an_svg_has_a_title_a_description_and_letters_of_ten_pixels(shown):
    root = ElementTree.fromstring(page(plot(), shown))
    title, desc = root[0], root[1]
    assert (title.text, desc.text) == ("A title", "What is seen <here>.")
    ids = f"{title.get('id')} {desc.get('id')}"
    assert root.get("role") == "img" and root.get("aria-labelledby") == ids
    least = int(re.findall(r"min-width: (\d+)px", root.get("style"))[0])
    sizes = re.findall(r"<text [^>]*font-size: ([\d.]+)", page(plot(), shown))
    assert least / (72 * 7.2) * min(map(float, sizes)) == pytest.approx(10, abs=0.02)


def test_ids_of_two_figures_differ_and_all_references_have_an_end(shown):
    texts = [page(plot(x), shown) for x in (1.0, 2.0)]
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in texts]
    assert ids[0] and not ids[0] & ids[1]
    for text, own in zip(texts, ids, strict=True):
        used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
        assert used and {"".join(pair) for pair in used} <= own


def test_the_name_of_the_y_axis_lies_on_top(shown):
    figure = plot()
    page(figure, shown)
    label = figure.axes[0].yaxis.label
    assert label.get_rotation() == 0 and label.get_position()[1] > 1


def test_a_picture_may_have_no_ticks_and_keeps_the_grid_of_its_pixels(shown):
    figure, (bare, grid) = plots.panels(2)
    bare.imshow(np.eye(3))
    bare.set(xticks=[], yticks=[])
    grid.imshow(np.eye(3))
    grid.set(xticks=[0.5, 1.5], yticks=[0.5, 1.5])
    page(figure, shown)
    assert all(line.get_visible() for line in grid.get_xgridlines())


def test_a_figure_of_photographs_stays_small(shown):
    noise = np.random.default_rng(0).random((2, 100, 100))
    noise = gaussian_filter(noise, (0, 1, 1))
    mask = np.zeros((100, 100), int)
    mask[30:60, 30:60] = 3
    plots.show(
        plots.cases([*noise], [mask] * 2, [mask] * 2, "ab"), alt="a", caption="b"
    )
    bundle = shown[0][0]
    assert len(json.dumps(bundle)) < 500_000  # a third of a notebook
    pictures = re.findall(r"data:image/(\w+);base64,([^\"]+)", bundle[plots.SVG])
    assert {kind for kind, _ in pictures} == {"webp"}
    image = Image.open(io.BytesIO(base64.b64decode(pictures[0][1])))
    assert image.size == (100, 100)  # the browser enlarges it


def test_a_figure_of_very_many_marks_is_a_png_alone(shown, monkeypatch):
    monkeypatch.setattr(plots, "LARGEST", 1000)
    plots.show(plot(), alt="a", caption="b")
    assert plots.SVG not in shown[0][0] and "image/png" in shown[0][0]


def test_the_colours_of_the_book_survive_in_a_png(shown):
    figure, axis = plots.panels(1)
    axis.imshow(np.random.default_rng(0).random((80, 80)), cmap="viridis")
    axis.plot([10, 70], [40, 40], color=theme.COLOURS["rv"], linewidth=6)
    picture = Image.open(io.BytesIO(theme.png(figure))).convert("RGB")
    colours = {colour for _, colour in picture.getcolors(100_000)}
    assert tuple(round(255 * c) for c in mpl.colors.to_rgb("#3a86c8")) in colours
    assert (255, 255, 255) in colours


def test_letters_are_as_wide_as_on_the_page():
    figure = plots.new_figure(1, 1)
    text = figure.text(0, 0, "Dice of the left ventricle")
    assert "MedlibSans" in mpl.font_manager.findfont(text.get_fontproperties())

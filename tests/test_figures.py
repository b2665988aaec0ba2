import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from regbook import figures, widgets


@pytest.fixture(autouse=True)
def in_the_books_style():
    with plt.rc_context():
        figures.style()
        yield
    assert not plt.get_fignums(), "a figure was left open"


def line(y=(0, 1)):
    figure, ax = plt.subplots(figsize=(3, 2))
    ax.plot(y)
    return figure


def table(**arms):
    rows = [(arm, step, value, value - 0.1, value + 0.1) for arm, values in arms.items() for step, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["arm", "step", "mean", "low", "high"]).set_index(["arm", "step"])


def test_a_picture_carries_its_text_and_is_reproducible():
    one, two = (figures.show(line(), alt='a "line"', caption="A <em>line</em>.") for _ in range(2))
    assert one.png == two.png and len(one.png) < 10_000
    assert 'alt="a &quot;line&quot;"' in one._repr_html_() and "<figcaption>A <em>line</em>.</figcaption>" in one._repr_html_()
    assert Image.open(io.BytesIO(one.png)).size == (300, 200)
    with pytest.raises(ValueError, match="alt=''"):
        figures.show(line(), alt=" ")
    plt.close("all")


def test_curves_draw_the_mean_and_the_band_and_label_the_ends():
    figure, ax = plt.subplots()
    figures.curves(ax, table(a=[1, 2], b=[3, 4]), {"b": "second"})
    (drawn,), (band,) = ax.lines, ax.collections
    np.testing.assert_array_equal(drawn.get_ydata(), [3, 4])
    assert band.get_datalim(ax.transData).y0 == pytest.approx(2.9)
    assert [t.get_text() for t in ax.texts] == ["second"] and ax.texts[0].get_color() == drawn.get_color()
    plt.close(figure)


def test_labels_of_close_curves_do_not_overlap_and_follow_later_limits():
    figure, axes = plt.subplots(2, 1, figsize=(5, 5))
    for ax in axes:
        figures.curves(ax, table(a=[0, 1.0], b=[0, 1.001], c=[0, 0.999], d=[1, 0.01]))
    axes[1].set(yscale="log", ylim=(1e-3, 1e3))
    figures.png(figure)
    for ax in axes:
        boxes = {text.get_text(): text.get_window_extent() for text in ax.texts}
        names = list(boxes)
        assert not any(boxes[one].overlaps(boxes[two]) for i, one in enumerate(names) for two in names[:i])
        assert boxes["d"].y0 < boxes["c"].y0 < boxes["a"].y0 < boxes["b"].y0
        middle, line_end = (boxes["d"].y0 + boxes["d"].y1) / 2, ax.transData.transform((0, 0.01))[1]
        assert abs(middle - line_end) < 2, "a label with room stays at its line"


def test_image_grid_fills_rows_and_hides_the_rest():
    figure = figures.image_grid(torch.rand(5, 3, 8, 8), list("abcde"), columns=3)
    assert len(figure.axes) == 6 and sum(bool(ax.images) for ax in figure.axes) == 5
    assert [ax.get_title() for ax in figure.axes[:5]] == list("abcde")
    plt.close(figure)


def test_histograms_count_every_value():
    figure, axes = plt.subplots(2, 1)
    values = torch.tensor([-5.0, -0.5, 0.5, 0.5, 7.0])
    figures.histograms(axes, [values, values], (-1, 1), bins=2)
    counts = axes[0].patches[0].get_data().values
    np.testing.assert_array_equal(counts, [2, 3])
    assert axes[0].texts[0].get_text() == f"sd {values.std():.2g}"
    plt.close(figure)


def test_weight_map_is_symmetric_about_zero():
    figure, ax = plt.subplots()
    figures.weight_map(ax, torch.tensor([[-1.0, 3.0]]), "W")
    assert ax.images[0].get_clim() == (-3, 3)
    plt.close(figure)


def test_scrub_shows_one_frame_and_names_itself_by_its_content():
    def make(start=1):
        return widgets.scrub([line((0, k)) for k in (1, 2, 3)], [1, 2, 3], "slope", alt="A line.", start=start)

    shown = make()._repr_html_()
    assert shown == make()._repr_html_(), "running a page again must not change it"
    images = re.findall(r"<img [^>]*>", shown)
    assert ["hidden" in image for image in images] == [True, False, True]
    assert [re.search(r'alt="([^"]*)"', image)[1] for image in images] == [f"A line. Here slope = {k}." for k in (1, 2, 3)]
    (name,) = re.findall(r'<input id="([^"]*)" type="range" min="0" max="2" value="1"', shown)
    assert f'<label for="{name}">slope</label>' in shown
    assert "http" not in shown and "3 figures over slope" in repr(make())


def test_scrub_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match="1 frames and 2 values"):
        widgets.scrub([line()], [1, 2], "x", alt="A line.")
    with pytest.raises(ValueError, match=r"start=3; it must be in 0\.\.0"):
        widgets.scrub([line()], [1], "x", alt="A line.", start=3)
    figure, ax = plt.subplots(figsize=(7, 7))
    ax.imshow(np.random.default_rng(0).random((700, 700)))
    with pytest.raises(ValueError, match="20 kB at most"):
        widgets.scrub([figure], [1], "x", alt="Noise.")
    plt.close("all")

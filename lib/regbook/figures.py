"""The look of the book: one style, a few kinds of figure, and every picture with its alternative text and caption.

Functions draw on matplotlib axes that a page made; :func:`show` turns the figure into what the page displays.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from PIL import Image
from torch import Tensor

# Okabe & Ito's colours, which colour-blind readers can tell apart (their yellow is too light for lines)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
END_LABEL = "end label"
STYLE = {
    "figure.figsize": (7.0, 3.0),
    "figure.dpi": 100,
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "image.cmap": "gray",
}


def style() -> None:
    """Use the book's style for every figure of this page."""
    mpl.rcParams.update(STYLE)


@dataclass(frozen=True)
class Picture:
    """A picture with its alternative text and caption; notebooks and pages show it as a figure."""

    png: bytes
    alt: str
    caption: str

    def _repr_html_(self) -> str:
        caption = f"<figcaption>{self.caption}</figcaption>" if self.caption else ""
        return f'<figure class="picture">{image_tag(self.png, self.alt)}{caption}</figure>'

    def __repr__(self) -> str:
        return f"[figure: {self.alt}]"


def show(figure: plt.Figure, *, alt: str, caption: str = "") -> Picture:
    """Close ``figure`` and return it as a :class:`Picture`. ``alt`` says in words what there is to see."""
    if not alt.strip():
        raise ValueError("alt=''; say in words what the figure shows, for readers who cannot see it")
    return Picture(png(figure), alt, caption)


def png(figure: plt.Figure, colours: int = 128) -> bytes:
    """The figure as a PNG of at most ``colours`` colours (a third of the size of a true-colour one); closes the figure."""
    buffer, packed = io.BytesIO(), io.BytesIO()
    for ax in figure.axes:
        if labels := [text for text in ax.texts if text.get_gid() == END_LABEL]:
            figure.canvas.draw()  # only now are scales, limits and layout known
            _spread(labels)
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def image_tag(content: bytes, alt: str, attributes: str = "") -> str:
    """An HTML ``<img>`` that carries its PNG, so that a saved page or notebook needs no other file."""
    data = base64.b64encode(content).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" style="max-width:100%;background:#fff"{attributes}>'


def curves(ax: plt.Axes, table: pd.DataFrame, names: Mapping[str, str] | None = None, **line) -> None:
    """One line an arm from ``Results.curves``: the mean over the seeds, the band from minimum to maximum.

    Each line is labelled at its right end; ``names`` maps arms to other labels, and arms that it lacks are not drawn.
    """
    arms = list(dict.fromkeys(table.index.get_level_values("arm")))
    ends = []
    for arm in arms if names is None else names:
        one = table.loc[arm]
        (drawn,) = ax.plot(one.index, one["mean"], **line)
        ax.fill_between(one.index, one["low"], one["high"], color=drawn.get_color(), alpha=0.2, linewidth=0)
        ends.append((one["mean"].iloc[-1], arm if names is None else names[arm], drawn.get_color()))
    label_ends(ax, ends)


def label_ends(ax: plt.Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write each (height, text, colour) at the right edge of ``ax``; :func:`png` moves labels apart that would overlap."""
    for height, text, colour in ends:
        where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "annotation_clip": False}
        ax.annotate(text, (1, height), (5, 0), color=colour, va="center", fontsize="small", gid=END_LABEL, **where)


def _spread(labels: Sequence[plt.Annotation]) -> None:
    """Shift the labels of one axes up or down so that none covers another, in the order of their heights."""
    ax = labels[0].axes
    bottom, top = ax.bbox.y0, ax.bbox.y1
    labels = sorted(labels, key=lambda label: label.xy[1])
    wanted = [min(max(ax.transData.transform((0, label.xy[1]))[1], bottom), top) for label in labels]
    gap = 1.05 * max(label.get_window_extent().height for label in labels)
    placed = list(wanted)
    for _ in range(100):  # push close neighbours apart, a little each time, until they rest
        for i in range(1, len(placed)):
            overlap = placed[i - 1] + gap - placed[i]
            if overlap > 0:
                placed[i - 1] -= overlap / 2
                placed[i] += overlap / 2
    for label, at in zip(labels, placed, strict=True):
        pixels = at - ax.transData.transform((0, label.xy[1]))[1]
        label.set_position((5, pixels * 72 / ax.figure.dpi))


def image_grid(images: Tensor, titles: Sequence[str] = (), columns: int = 8) -> plt.Figure:
    """``images`` (N × 1 or 3 × H × W, values in [0, 1]) in rows of ``columns``, each under its title."""
    rows = -(-len(images) // columns)
    height = rows * (1.05 if titles else 0.9)
    figure, axes = plt.subplots(rows, columns, squeeze=False, figsize=(0.9 * columns, height))
    for ax in axes.flat:
        ax.axis("off")
    for position, (ax, image) in enumerate(zip(axes.flat, images.cpu().permute(0, 2, 3, 1).numpy(), strict=False)):
        ax.imshow(image.squeeze(), vmin=0, vmax=1)
        ax.set_title(titles[position] if titles else "", fontsize="small")
    return figure


def histograms(axes: Sequence[plt.Axes], layers: Sequence[Tensor], limits: tuple[float, float], bins: int = 40) -> None:
    """The distribution of each layer's values, one axes a layer, from the first at the top; each notes its standard deviation.

    Values outside ``limits`` are counted at the nearer end. Bars show shares of the values, each axes on its own scale.
    """
    for number, (ax, values) in enumerate(zip(axes, layers, strict=True), start=1):
        counts = values.flatten().float().clamp(*limits).histc(bins, *limits).cpu().numpy()
        ax.stairs(counts, np.linspace(*limits, bins + 1), fill=True)
        ax.set(xlim=limits, ylim=(0, counts.max() * 1.1), yticks=[])
        ax.set_ylabel(f"{number}", rotation=0, va="center", labelpad=10)
        ax.text(1.02, 0.5, f"sd {values.std():.2g}", transform=ax.transAxes, va="center", fontsize="small")
        ax.spines["left"].set_visible(False)
        ax.tick_params(labelbottom=number == len(layers))


def weight_map(ax: plt.Axes, matrix: Tensor, title: str = "") -> None:
    """A matrix as a picture, red for negative and blue for positive values, on a scale that is symmetric about zero."""
    values = matrix.detach().cpu().numpy()
    limit = np.abs(values).max() or 1.0
    drawn = ax.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    ax.set_title(title)
    ax.figure.colorbar(drawn, ax=ax, shrink=0.8)

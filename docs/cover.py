"""Draw the cover, the social card and the favicon: `python docs/cover.py`, from the root of the book.

One network, one set of points on two spirals, a fifth of the labels wrong; only the regularizer differs. The colour is the
predicted probability of a class.
"""

from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LinearSegmentedColormap
from PIL import Image

from regbook import data, figures, models
from regbook.training import fit

STATIC = Path(__file__).parents[1] / "_static"
COLOURS = LinearSegmentedColormap.from_list("classes", [figures.COLOURS[1], "#fbe8dc", "#ffffff", "#dcebf5", figures.COLOURS[0]])
LIMIT, PIXELS = 1.12, 280
ADAM = partial(torch.optim.Adam, lr=2e-3)
ARMS = {
    "no regularization": {"optimizer": ADAM},
    "dropout": {"optimizer": ADAM, "dropout": 0.3},
    "early stopping": {"optimizer": ADAM, "patience": 20},
    "weight decay": {"optimizer": partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.5)},
}


def probabilities(points: data.Data, optimizer, dropout: float = 0.0, patience: float = float("inf")) -> torch.Tensor:
    """Train one network; return its probability of the second class on a grid, PIXELS × PIXELS."""
    torch.manual_seed(0)
    network = models.mlp(2, [200, 200, 200], 2, dropout=dropout)
    best = {"valid_loss": float("inf")}

    def stop(row: dict, network) -> bool:
        if row["valid_loss"] < best["valid_loss"]:
            best.update(row, weights={name: value.clone() for name, value in network.state_dict().items()})
        return row["step"] - best["step"] > patience * 25

    fit(network, points, steps=6000, evaluate_every=25, optimizer=optimizer, on_eval=stop)
    if patience < float("inf"):
        network.load_state_dict(best["weights"])
    line = torch.linspace(-LIMIT, LIMIT, PIXELS)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)
    with torch.no_grad():
        return network.eval()(grid).softmax(1)[:, 1].reshape(PIXELS, PIXELS)


def draw(ax, shown: torch.Tensor, points: data.Data) -> None:
    extent = [-LIMIT, LIMIT, -LIMIT, LIMIT]
    ax.imshow(shown, origin="lower", extent=extent, cmap=COLOURS, vmin=0, vmax=1, interpolation="bilinear")
    edges = ["black" if wrong else "white" for wrong in points.wrong]
    ax.scatter(*points.train.x.T, c=points.train.y, cmap=COLOURS, s=9, edgecolors=edges, linewidths=0.5)
    ax.set_axis_off()


def save(figure, name: str) -> None:
    (STATIC / name).write_bytes(figures.png(figure))
    print(STATIC / name, (STATIC / name).stat().st_size, "bytes")


if __name__ == "__main__":
    figures.style()
    points = data.spirals(n=300, noise=0.2)
    maps = {name: probabilities(points, **arm) for name, arm in ARMS.items()}

    figure, axes = plt.subplots(1, len(maps), figsize=(11.2, 2.8))
    for ax, shown in zip(axes, maps.values(), strict=True):
        draw(ax, shown, points)
    save(figure, "cover.png")

    figure = plt.figure(figsize=(12, 6.3), layout="none")  # 1200 × 630, what social networks ask for
    figure.text(0.05, 0.84, "Regularization in Deep Learning", fontsize=38, weight="bold", va="center")
    figure.text(0.05, 0.72, "an executable course", fontsize=26, color="0.35", va="center")
    for position, shown in enumerate(maps.values()):
        draw(figure.add_axes([0.05 + 0.23 * position, 0.1, 0.21, 0.4]), shown, points)
        figure.text(0.05 + 0.23 * position, 0.54, list(maps)[position], fontsize=15)
    save(figure, "social.png")

    bold = (maps["early stopping"].flip(0) > 0.5).float()  # at 16 pixels only the shape is left
    pixels = (COLOURS(bold.numpy())[:, :, :3] * 255).astype("uint8")
    Image.fromarray(pixels).resize((64, 64)).save(STATIC / "favicon.png", optimize=True)

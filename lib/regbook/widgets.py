"""Interactive figures that need no kernel: a slider over frames that were drawn beforehand."""

import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt

from regbook.figures import image_tag, png

FRAME_BYTES = 20_000  # on average: thirty such frames stay well under a page's 1.5 MB


@dataclass(frozen=True)
class Scrub:
    """Frames behind a slider. Plain HTML, so it works on a static page, in Jupyter, VS Code and Colab, and by keyboard."""

    frames: tuple[bytes, ...]
    values: tuple[str, ...]
    label: str
    alt: str
    caption: str
    start: int

    def _repr_html_(self) -> str:
        # named after its content, so that running the page again does not change the notebook
        name = "scrub-" + hashlib.sha256(b"".join(self.frames) + self.label.encode()).hexdigest()[:8]
        label, last = html.escape(self.label), len(self.frames) - 1
        shown = [" hidden" if i != self.start else "" for i in range(len(self.frames))]
        images = "".join(
            image_tag(frame, f"{self.alt} Here {self.label} = {value}.", f' data-value="{html.escape(value)}"{hidden}')
            for frame, value, hidden in zip(self.frames, self.values, shown, strict=True)
        )
        move = (
            "const f=this.closest('figure').querySelectorAll('img');f.forEach((e,i)=>{e.hidden=i!=this.value});"
            "const t=f[this.value].dataset.value;this.nextElementSibling.value=t;this.setAttribute('aria-valuetext',t)"
        )
        slider = (
            f'<label for="{name}">{label}</label> <input id="{name}" type="range" min="0" max="{last}" value="{self.start}" '
            f'aria-valuetext="{html.escape(self.values[self.start])}" style="width:50%;vertical-align:middle" '
            f'oninput="{move}"> <output>{html.escape(self.values[self.start])}</output>'
        )
        caption = f"<figcaption>{self.caption}</figcaption>" if self.caption else ""
        return f'<figure class="picture scrub"><div>{slider}</div>{images}{caption}</figure>'

    def __repr__(self) -> str:
        return f"[{len(self.frames)} figures over {self.label} = {self.values[0]} … {self.values[-1]}: {self.alt}]"


def scrub(frames: Sequence[plt.Figure], values: Sequence, label: str, *, alt: str, caption: str = "", start: int = 0) -> Scrub:
    """A slider named ``label`` that shows ``frames[i]`` at ``values[i]``; ``start`` is the frame shown first.

    Draw every frame with the same size and the same axes, so that only the data move. Closes the figures. Raises
    ``ValueError`` where frames and values do not match, or where the frames take over 20 kB on average.
    """
    if not frames or len(frames) != len(values):
        raise ValueError(f"{len(frames)} frames and {len(values)} values; give one value for each frame, and at least one")
    if not 0 <= start < len(frames):
        raise ValueError(f"start={start}; it must be in 0..{len(frames) - 1}")
    made = tuple(png(frame, colours=32) for frame in frames)
    average = sum(map(len, made)) / len(made)
    if average > FRAME_BYTES:
        raise ValueError(f"a frame takes {average / 1000:.0f} kB on average; draw smaller or simpler frames (20 kB at most)")
    return Scrub(made, tuple(map(str, values)), label, alt, caption, start)

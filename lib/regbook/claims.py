"""Claims: one sentence, what was measured, a bound it must keep, and what the source reports.

A claim that does not hold raises. So a page that runs to its end, on your machine and with your seeds, has shown what it
says. Several measurements (one a seed) are judged by the 95 % confidence interval of their mean: all of it must lie
within the bound.
"""

import html
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np


class ClaimFailed(AssertionError):
    """The measurement does not support the sentence."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval [``low``, ``high``], the standard deviation ``std``, and the number ``n``."""

    mean: float
    low: float
    high: float
    std: float
    n: int

    def __str__(self) -> str:
        half = self.high - self.mean
        if self.n == 1:
            return _number(self.mean)
        decimals = 1 - math.floor(math.log10(half)) if half > 0 else -1  # two digits of the half width
        if 0 <= decimals <= 6:
            return f"{self.mean:.{decimals}f} ± {half:.{decimals}f}"
        return f"{_number(self.mean)} ± {_number(half)}"


def estimate(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Student's t interval for the mean of independent ``values``; a single value is its own interval."""
    values = np.atleast_1d(np.asarray(values, dtype=float))
    if values.ndim > 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"values={values.tolist()}; one finite number for each seed is needed, in one row")
    mean, n = values.mean(), len(values)
    if n == 1:
        return Estimate(float(mean), float(mean), float(mean), 0.0, 1)
    std = values.std(ddof=1)
    half = _t_quantile(0.5 + confidence / 2, n - 1) * std / math.sqrt(n)
    return Estimate(float(mean), float(mean - half), float(mean + half), float(std), n)


def _t_quantile(probability: float, df: int) -> float:
    """Quantile of Student's t, without SciPy: T = tan(θ)·√df turns its density into one over θ ∝ cos(θ)^(df−1)."""
    theta = np.linspace(0, math.pi / 2, 100_001)
    density = np.cos(theta) ** (df - 1)
    mass = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(df) * math.tan(np.interp(2 * probability - 1, mass / mass[-1], theta))


@dataclass(frozen=True)
class Claim:
    """A claim that held. It shows itself as one row of the table of claims."""

    text: str
    here: Estimate
    bound: str
    paper: str
    source: str

    def _repr_html_(self) -> str:
        return as_html([self], None)

    def __repr__(self) -> str:
        return f"✓ {self.text} — here {self.here} ({self.bound}); paper: {self.paper or '—'}"


_made: dict[str, Claim] = {}  # of this page, by their sentence: running a cell again replaces its claims


def claim(
    text: str,
    measured: float | Sequence[float] | Estimate,
    *,
    above: float | None = None,
    below: float | None = None,
    paper: str = "",
    source: str = "",
) -> Claim:
    """Assert that ``measured`` lies above ``above`` and below ``below`` (give one or both), and note it for the table.

    ``measured`` is one number, one number a seed, or an :class:`Estimate` such as ``Results.difference`` returns; of the
    last two the whole interval must keep the bound. ``paper`` is what the source reports, in words; ``source`` is its
    key in ``references.bib``. Raises :class:`ClaimFailed` where the bound is broken.
    """
    if above is None and below is None:
        raise ValueError(f"the claim {text!r} has no bound, so it could not fail: give above=, below= or both")
    if paper and not source:
        raise ValueError(f"paper={paper!r} needs a source: give its key in references.bib")
    here = measured if isinstance(measured, Estimate) else estimate(measured)
    bound = _bound(above, below)
    kept = (above is None or here.low > above) and (below is None or here.high < below)
    if not kept:
        _made.pop(text, None)
        interval = f", 95 % interval {_number(here.low)} to {_number(here.high)}, n = {here.n}" if here.n > 1 else ""
        raise ClaimFailed(f"{text}\n  measured {_number(here.mean)}{interval}\n  needed   {bound}")
    _made[text] = Claim(text, here, bound, paper, source)
    return _made[text]


def claims() -> list[Claim]:
    """The claims that held so far in this session, oldest first."""
    return list(_made.values())


class Table:
    """Claims as rows: claim · paper · here · required, and the recorded full-scale run where there is a page to look it up."""

    def __init__(self, rows: Sequence[Claim], page: str | None):
        self.rows, self.page = list(rows), page

    def _repr_html_(self) -> str:
        return as_html(self.rows, record(self.page) if self.page else None)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.rows))


def claims_table(*made: Claim, page: str | None = None) -> Table:
    """Show the claims ``made``, such as ``claims_table(claim(…), claim(…))``.

    At the end of a page, ``claims_table(page="dropout/bagging")`` shows all of its claims with what was recorded for it.
    """
    if bool(made) == bool(page):
        raise ValueError(f"{len(made)} claims and page={page!r}; give either some claims or the name of the page")
    return Table(made or claims(), page)


def record(page: str) -> dict:
    """The recorded full-scale run of ``page``, from ``results/<page>.json`` of the book; empty where there is none."""
    for results in (Path(__file__).parents[2] / "results", Path(__file__).parent / "results"):  # in a checkout, in a wheel
        if (results / f"{page}.json").is_file():
            return json.loads((results / f"{page}.json").read_text(encoding="utf-8"))
    return {}


def as_record() -> list[dict]:
    """The claims of this session in the form that ``results/`` keeps."""
    return [asdict(made) for made in claims()]


def _bound(above: float | None, below: float | None) -> str:
    if above is not None and below is not None:
        return f"between {_number(above)} and {_number(below)}"
    return f"above {_number(above)}" if below is None else f"below {_number(below)}"


def _number(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.1e}"


def as_html(rows: Sequence[Claim], recorded: dict | None) -> str:
    """A table of claims; with ``recorded`` (which may be empty) it has a column for the full-scale run."""
    full = {made["text"]: Estimate(**made["here"]) for made in (recorded or {}).get("claims", [])}
    titles = ["claim", "paper", "here", "required"]
    if recorded is not None:
        titles.append(f"full scale ({recorded['device']}, {recorded['date']})" if recorded else "full scale")
    lines = [_row("th", map(html.escape, titles))]
    for made in rows:
        cited = f"{html.escape(made.paper)} <small>[{html.escape(made.source)}]</small>" if made.paper else "—"
        here = f"{made.here}<br><small>n = {made.here.n}</small>"
        cells = [html.escape(made.text), cited, here, html.escape(made.bound)]
        lines.append(_row("td", cells if recorded is None else [*cells, str(full.get(made.text, "not recorded yet"))]))
    return f'<div class="claims"><table>{"".join(lines)}</table></div>'


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"

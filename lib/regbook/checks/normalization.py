"""Feedback for the exercises of ``chapters/normalization``."""

import torch

from regbook.checks import checker, describe, expect, expect_number, number, prediction_then_run, trend, verdict
from regbook.normalization import normalize

# --- layer, instance and group normalization -----------------------------------------------------------------------


@checker
def four_channels(answer: object) -> str:
    """Layer normalization of (1, 3, 2, 10): the last one, 6/√12.5."""
    mistakes = {
        6 / (50 / 3) ** 0.5: "you divided the sum of squares by 3. Normalization layers divide by the number of values, 4.",
        6 / 12.5: "divide by the standard deviation, the root of the variance.",
        6.0: "that is the deviation from the mean; divide it by the standard deviation.",
        1.0: "that is group normalization with two groups. Layer normalization takes all four channels together.",
        0.0: "that is instance normalization: a mean over a single value. Take all four channels together.",
    }
    expect_number(number(answer), 6 / 12.5**0.5, mistakes, "Subtract the mean, 4, and divide by the root of the mean square.")
    return "6/√12.5 ≈ 1.70."


@checker
def channels_last(answer) -> str:
    """Against the package's function on the transposed picture, with an ε large enough to see where it stands."""
    generator = torch.Generator().manual_seed(0)
    for shape, groups, eps in (((3, 4, 6, 8), 2, 0.5), ((2, 2, 3, 6), 3, 0.5), ((4, 8, 8, 8), 4, 1e-5), ((1, 3, 2, 5), 1, 0.1)):
        x = 2 * torch.randn(shape, dtype=torch.float64, generator=generator) + torch.arange(shape[-1])
        x += 3 * torch.arange(shape[0])[:, None, None, None] + torch.arange(shape[1])[:, None, None]
        given, place = x.clone(), f"For x of shape {shape}, groups={groups} and eps={eps}:"
        found = answer(x, groups, eps)
        expect(torch.equal(x, given), f"{place} your function changed its input; work on a copy.")
        expect(isinstance(found, torch.Tensor), f"{place} a tensor is needed, and {describe(found)} came.")
        expect(found.shape == x.shape, f"{place} the output has the shape of x, and {tuple(found.shape)} came.")
        right = normalize(x.movedim(-1, 1), groups, eps=eps).movedim(1, -1)
        for mistake, result in _channels_last_mistakes(x, groups, eps).items():
            near_mistake = result.shape == x.shape and torch.allclose(found, result.to(found), atol=1e-6)
            expect(not near_mistake or torch.allclose(right, result, atol=1e-6), f"{place} {mistake}")
        same = torch.allclose(found, right.to(found), atol=1e-5)
        expect(
            same, f"{place} the values are others. One mean is over height, width and the members of one group, in one example."
        )
    return "height, width and the members of a group share a mean; examples and groups do not."


def _channels_last_mistakes(x: torch.Tensor, groups: int, eps: float) -> dict[str, torch.Tensor]:
    """What the usual mistakes return."""

    def over(axes: tuple[int, ...], correction: int = 0, outside: bool = False, strided: bool = False) -> torch.Tensor:
        sets = x.unflatten(-1, (-1, groups)).transpose(-1, -2) if strided else x.unflatten(-1, (groups, -1))
        variance, mean = torch.var_mean(sets, axes, correction=correction, keepdim=True)
        root = variance.sqrt() + eps if outside else (variance + eps).sqrt()
        made = (sets - mean) / root
        return (made.transpose(-1, -2) if strided else made).flatten(-2)

    mistakes = {
        "your groups mix examples: the mean must not go over the first axis.": over((0, 1, 2, 4)),
        "each position has a mean of its own; the mean goes over height and width too.": over((4,)),
        "you averaged over all channels, not over the members of one group.": over((1, 2, 3, 4)),
        "each channel has a mean of its own; the members of a group share one.": over((1, 2)),
        "ε stands outside the root; it is added to the variance.": over((1, 2, 4), outside=True),
        "you divided the sum of squares by m − 1; `var` does so unless told otherwise.": over((1, 2, 4), correction=1),
        "your groups take every so-many-th channel; a group is a run of neighbours.": over((1, 2, 4), strided=True),
    }
    if x.shape[1] % groups == 0:
        mistakes["wrong axis: you cut the groups from the height. The channels are the last axis."] = normalize(
            x, groups, eps=eps
        )
    return mistakes


@checker
def learned_styles(answer) -> str:
    """(prediction, gain after plain pictures, gain after restyled ones), as Estimates of instance minus batch norm."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (before, after):
        expect(abs(measured.mean) <= 1, f"accuracies lie between 0 and 1; a gain of {measured} came.")
    expect(before.high > 0, f"after plain pictures your gain is negative ({before}): subtract batch from instance normalization.")
    said = verdict(prediction, trend(before, after), "What does each network still have to learn about colours?")
    return f"the gain went from {before} to {after}: {said}"

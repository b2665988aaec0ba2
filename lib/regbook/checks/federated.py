"""Feedback for the exercises on federated learning."""

import math

import torch

from regbook.checks import checker, describe, expect, number, prediction_then_run

# --- communication -------------------------------------------------------------------------------------------------


@checker
def bits_a_weight(answer: object) -> str:
    """398 of 39,760 values, 32 bits each and 16 for the index, a weight of the network: 0.480, to 1 %."""
    value, d = number(answer), 39_760

    def near(wanted: float) -> bool:
        return math.isclose(value, wanted, rel_tol=0.01)

    expect(not near(398 * 32 / d), "you sent the values alone; the server must also learn where they belong.")
    expect(not near(398 * 64 / d), "an index of 32 bits is what the page counts; asked for is the shortest one that is enough.")
    expect(not near(48), "48 bits is what one sent entry takes; share them among all weights of the network.")
    expect(not near(398 * 47 / d), "2 to the power of 15 is 32,768: fifteen bits cannot name 39,760 places.")
    expect(not near(398 * 48 / 8 / d), "those are bytes a weight; asked for are bits.")
    expect(near(398 * 48 / d), f"{value:.3g} is not it. Multiply the entries sent by the bits of each, and divide by 39,760.")
    return "398 · (32 + 16) ÷ 39,760 = 0.48 bits a weight: less than half of what signs alone take."


def _largest(v: torch.Tensor) -> torch.Tensor:
    return torch.where(v.abs() == v.abs().max(), v, torch.zeros_like(v))


def _signs(v: torch.Tensor) -> torch.Tensor:
    return torch.where(v < 0, -v.abs().mean(), v.abs().mean())


def _coins(v: torch.Tensor) -> torch.Tensor:
    return 2 * v * (torch.rand(v.shape, dtype=v.dtype) < 0.5)


@checker
def feedback_step(step) -> str:
    """(sent, new residual) of one client, for three compressors, one of them random, and one for whom nothing is lost."""
    generator = torch.Generator().manual_seed(0)
    compressors = {"the largest entry": _largest, "one bit": _signs, "no compression": torch.clone, "random entries": _coins}
    for special, compress in compressors.items():
        u, e = torch.randn(2, 12, generator=generator, dtype=torch.float64)
        given, place = (u.clone(), e.clone()), f"With {special}:"
        answer = step(u, e, compress)
        expect(
            torch.equal(u, given[0]) and torch.equal(e, given[1]), f"{place} your function changed its input; make new tensors."
        )
        right = (
            isinstance(answer, tuple | list) and len(answer) == 2 and all(getattr(a, "shape", None) == u.shape for a in answer)
        )
        expect(
            right, f"{place} return two tensors of shape {tuple(u.shape)}, what is sent and the residual; got {describe(answer)}."
        )
        sent, new = answer
        if special == "random entries":
            expect(
                torch.allclose(sent + new, u + e),
                f"{place} what is sent and the residual do not add up to u + e: did you compress twice? Each call draws anew.",
            )
        else:
            _judge_step(place, u, e, compress, sent, new)
    return "four compressors agree: C(u + e) is sent, and what is missing from u + e is kept."


def _judge_step(place, u, e, compress, sent, new) -> None:
    """Name what is wrong with ``sent``, then with ``new``."""
    whole, wanted = u + e, compress(u + e)
    for mistake, why in (
        (compress(u), "the update alone was compressed; the residual must be added before."),
        (compress(u) + e, "the residual was added after compression, so it is sent whole; add it before."),
        (compress(u - e), "the residual was subtracted; it is what the server still has to get."),
        (whole - wanted, "the residual stands where the message should: return what is sent first."),
        (whole, "nothing was compressed."),
    ):
        if not torch.allclose(sent, wanted) and torch.allclose(sent, mistake):
            expect(False, f"{place} {why}")
    expect(torch.allclose(sent, wanted), f"{place} what is sent is not compress(u + e).")
    left = whole - wanted
    for mistake, why in (
        (e, "the residual stays as it was; it must become what is missing now."),
        (u - wanted, "the residual is u − C(u + e); what was missing before is forgotten. Keep (u + e) − C(u + e)."),
        (u - compress(u), "the residual is u − C(u); what was missing before is forgotten. Keep (u + e) − C(u + e)."),
        (whole, "the residual is u + e, although a part of it was sent; subtract that part."),
        (wanted - whole, "the residual has the wrong sign: it is what was wanted minus what was sent."),
        (e + left, "the old residual is counted twice; u + e has it already."),
    ):
        if not torch.allclose(new, left) and torch.allclose(new, mistake):
            expect(False, f"{place} {why}")
    expect(torch.allclose(new, left), f"{place} the residual is not (u + e) − C(u + e).")


@checker
def memory_for_two_bits(answer) -> str:
    """(prediction, loss with minus without error feedback for 1 bit, for 2 bits), as Estimates."""
    prediction, one, two = prediction_then_run(answer, ("helps", "hurts", "no difference"))
    expect(
        one.low < 0,
        f"for one bit your difference is positive ({one}): subtract the loss without error feedback from that with it.",
    )
    outcome = "helps" if two.high < 0 else "hurts" if two.low > 0 else "no difference"
    verdict = (
        "as you predicted." if prediction == outcome else f"you predicted {prediction!r}. How large is the error of one message?"
    )
    return f"error feedback changes the loss by {one} with one bit and by {two} with two: {outcome!r}, {verdict}"

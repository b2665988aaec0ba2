"""Exercises of chapters/start: wrong answers that people really give, and the words that name the mistake."""

import numpy as np
import pytest
from conftest import ROOT

from regbook.checks import start as check
from regbook.claims import estimate
from regbook.press import pages

T = {2: 12.706, 3: 4.303, 5: 2.776, 10: 2.262}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (420, "drops the last"),
        (8, "in one epoch"),
        (469, "across epochs"),
        (500, "Count the batches"),
        ("many", "a finite number is needed"),
    ],
)
def test_steps_taken(answer, words):
    assert check.steps_taken(480).passed
    feedback = check.steps_taken(answer)
    assert feedback.passed is False and words in feedback.message


def interval(spread, t=T.get, centre=lambda a, b: np.mean(a - b)):
    def answer(a, b):
        half = t(len(a)) * spread(a, b) / len(a) ** 0.5
        return centre(a, b) - half, centre(a, b) + half

    return answer


def paired(a, b):
    return np.std(a - b, ddof=1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (interval(lambda a, b: np.std(a - b)), "divides by n"),
        (interval(lambda a, b: paired(a, b) * len(a) ** 0.5), "not divided by √n"),
        (interval(paired, t=lambda n: 1.96), "1.96 is for many runs"),
        (interval(lambda a, b: np.hypot(np.std(a, ddof=1), np.std(b, ddof=1))), "subtract seed by seed"),
        (interval(paired, centre=lambda a, b: np.mean(b) - np.mean(a)), "mean of a − b"),
        (lambda a, b: interval(paired)(a, b)[::-1], "low is not below high"),
        (lambda a, b: 0.3, "return two numbers"),
        (interval(lambda a, b: 2 * paired(a, b)), "half the width should be"),
    ],
)
def test_paired_interval(answer, words):
    assert check.paired_interval(interval(paired)).passed
    feedback = check.paired_interval(answer)
    assert feedback.passed is False and words in feedback.message


def test_paired_interval_takes_what_is_right_in_any_form():
    right = interval(paired)
    assert check.paired_interval(lambda a, b: list(right(a, b))).passed
    assert check.paired_interval(lambda a, b: np.round(right(a, b), 4)).passed
    assert check.paired_interval((0.1, 0.2)).passed is False


def test_the_solution_on_the_page_is_the_right_interval():
    (solution,) = [
        cell
        for cell in pages.code_cells(pages.read(ROOT / "chapters/start/workbench.ipynb"))
        if "def paired_interval" in cell and "ddof=1" in cell
    ]
    namespace = {"check": check}
    exec(solution, namespace)
    assert check.paired_interval(namespace["paired_interval"]).passed


GAIN, LESS, NONE = estimate([0.05, 0.06, 0.07]), estimate([0.02, 0.021, 0.022]), estimate([-0.01, 0.0, 0.012])


@pytest.mark.parametrize(("many", "outcome"), [(LESS, "smaller"), (NONE, "gone"), (estimate([0.08, 0.09]), "larger")])
def test_gain_with_more_data_tells_what_happened(many, outcome):
    for prediction in ("smaller", "gone", "larger"):
        feedback = check.gain_with_more_data((prediction, GAIN, many))
        assert feedback.passed and f"'{outcome}'" in feedback.message
        assert ("as you predicted" in feedback.message) == (prediction == outcome)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("smaller", estimate([-0.05, -0.06]), LESS), "subtract the control"),
        (("smaller", GAIN, estimate([-0.05, -0.06])), "subtract the control"),
        (("smaller", estimate([5.0, 6.0]), estimate([2.0, 2.1])), "below one"),
        (("bigger", GAIN, LESS), "'bigger' came"),
        (("smaller", 0.06, 0.02), "what `difference` returns"),
    ],
)
def test_gain_with_more_data_refuses(answer, words):
    feedback = check.gain_with_more_data(answer)
    assert feedback.passed is False and words in feedback.message

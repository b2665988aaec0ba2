"""Exercises of chapters/start: wrong answers that people really give, and the words that name the mistake."""

import numpy as np
import pytest
from conftest import ROOT

from regbook.checks import start as check
from regbook.press import pages

T = {2: 12.706, 3: 4.303, 5: 2.776, 10: 2.262}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (420, "drops the last"),
        (8, "in one epoch"),
        (469, "across epochs"),
        (500, "Count the batches"),
        ("many", "a number is needed"),
    ],
)
def test_steps_taken(answer, words):
    assert check.steps_taken(480).passed
    feedback = check.steps_taken(answer)
    assert feedback.passed is False and words in feedback.message


def interval(spread, t=T.get, centre=lambda a, b: np.mean(np.subtract(a, b))):
    def answer(a, b):
        half = t(len(a)) * spread(np.asarray(a), np.asarray(b)) / len(a) ** 0.5
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


def test_the_solution_on_the_page_is_the_right_interval():
    namespace = {"check": check}
    (solution,) = [cell for cell in pages.code_cells(pages.read(ROOT / "chapters/start/workbench.ipynb"))
                   if "def paired_interval" in cell and "d.std()" in cell]  # fmt: skip
    exec("import torch\n" + solution.rpartition("\n")[0], namespace)
    assert check.paired_interval(namespace["paired_interval"]).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("bigger", 0.06, 0.01), "'bigger' came"),
        (("smaller", 6.0, 1.0), "fractions of the test set"),
        (("smaller", 0.06, 0.06), "same number"),
        (("smaller", 0.06, 0.08), "same steps"),
    ],
)
def test_gain_with_more_data(answer, words):
    assert check.gain_with_more_data(("smaller", 0.06, 0.01)).passed
    assert "what do shifts replace" in check.gain_with_more_data(("larger", 0.06, 0.01)).message
    assert check.gain_with_more_data((..., 0.06, ...)).passed is None
    feedback = check.gain_with_more_data(answer)
    assert feedback.passed is False and words in feedback.message

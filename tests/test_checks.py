import pytest
import torch

from regbook.checks import Wrong, checker, describe, expect, expect_number, number, prediction_then_run, trend, verdict
from regbook.claims import estimate


@checker
def double(function):
    for x in (1.0, torch.ones(3, 4)):
        expect(torch.equal(torch.as_tensor(function(x)), torch.as_tensor(2 * x)), f"for {describe(x)} it should be twice that.")
    return "both are doubled."


def test_right_wrong_and_open_answers():
    right, wrong = double(lambda x: x + x), double(lambda x: x)
    assert right.passed is True and repr(right) == "✓ correct: both are doubled."
    assert wrong.passed is False and repr(wrong) == "✗ not yet: for 1.0 it should be twice that."
    assert 'class="feedback wrong"' in wrong._repr_html_()


def raises_not_implemented(x):
    raise NotImplementedError


@pytest.mark.parametrize("stub", [None, ..., lambda x: None, lambda x: ..., raises_not_implemented])
def test_a_stub_is_not_attempted_and_raises_nothing(stub):
    assert double(stub).passed is None and "not attempted yet" in repr(double(stub))


def test_an_exception_in_the_answer_is_told_with_its_input():
    feedback = double(lambda x: x.mean())
    assert feedback.passed is False and "AttributeError" in feedback.message and "for the input 1.0" in feedback.message
    assert "a tensor of shape (3, 4)" in double(lambda x: 2 * x if isinstance(x, float) else 1 / 0).message


def test_markup_in_an_answer_stays_text():
    assert "<b>" not in double(lambda x: (_ for _ in ()).throw(ValueError("<b>")))._repr_html_()


def test_an_answer_of_another_form_gets_words_too():
    assert "another form" in double((1, 2)).message and double((1, 2)).passed is False
    assert "another form" in repr(double("twice"))


def test_a_prediction_comes_with_what_was_measured():
    @checker
    def grew(answer):
        prediction, before, after = prediction_then_run(answer, ("up", "down"))
        return f"{prediction}: {before.mean} to {after.mean}"

    one, two = estimate([1.0, 1.5]), estimate([2.0, 2.5])
    assert grew(("up", one, two)).passed
    assert grew((..., one, ...)).passed is None and grew(("up", one, ...)).passed is None
    for answer, words in (
        (("left", one, two), "predict one of 'up', 'down'; 'left' came"),
        (("up", one, 2.0), "give what `difference` returns, mean and interval; 2.0 came"),
        (("up", one, one), "both measurements are the same"),
        (("up", one), "another form"),
    ):
        assert grew(answer).passed is False and words in grew(answer).message


def test_numbers_are_asked_for_in_words():
    @checker
    def three(answer):
        expect(number(answer) == 3, "no")
        return "yes"

    assert three(3).passed and three(torch.tensor(3.0)).passed
    assert three(float("nan")).passed is False
    assert three("three").message == "a finite number is needed, and 'three' came."


def test_a_trend_and_what_is_said_beside_it():
    some, more, none = estimate([1.0, 1.5]), estimate([12.0, 12.5]), estimate([-1.0, 1.0])
    assert estimate([9.0, 9.5]).low > 0 and some.low <= 0
    nine = estimate([9.0, 9.5])
    assert (trend(nine, more), trend(more, nine), trend(more, none), trend(more, some)) == ("larger", "smaller", "gone", "gone")
    assert verdict("gone", "gone", "Why?") == "'gone', as you predicted."
    assert verdict("larger", "gone", "Why?") == "'gone', you predicted 'larger'. Why?"


def test_a_wrong_number_is_named_and_a_right_one_passes_beside_a_mistake_that_gives_the_same():
    mistakes = {2.0: "that is the square.", 1.001: "as good as right."}
    assert expect_number(1.001, 1.0, mistakes, "Take the root.") is None
    for value, words in ((2.01, "that is the square"), (3.0, "3 is not it. Take the root.")):
        with pytest.raises(Wrong, match=words):
            expect_number(value, 1.0, mistakes, "Take the root.")
    with pytest.raises(Wrong, match="0.02 is not it"):
        expect_number(0.02, 0.0, {}, "Zero?")
    assert expect_number(0.02, 0.0, {}, "Zero?", abs_tol=0.05) is None

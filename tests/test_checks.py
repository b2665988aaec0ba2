import pytest
import torch

from regbook.checks import checker, describe, expect, number


@checker
def double(function):
    for x in (1.0, torch.ones(3, 4)):
        expect(torch.equal(torch.as_tensor(function(x)), torch.as_tensor(2 * x)), f"for {describe(x)} it should be twice that.")
    return "both are doubled."


def test_right_wrong_and_open_answers():
    right, wrong = double(lambda x: x + x), double(lambda x: x)
    assert right.passed is True and repr(right) == "✓ right: both are doubled."
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


def test_numbers_are_asked_for_in_words():
    @checker
    def three(answer):
        expect(number(answer) == 3, "no")
        return "yes"

    assert three(3).passed and three(torch.tensor(3.0)).passed
    assert three("three").message == "a number is needed, and 'three' came."

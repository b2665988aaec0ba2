import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from regbook import claims
from regbook.claims import Claim, ClaimFailed, claim, claims_table, estimate


@pytest.fixture(autouse=True)
def empty_page(monkeypatch):
    monkeypatch.setattr(claims, "_made", {})


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_students(values, confidence):
    ours = estimate(values, confidence)
    sem = np.std(values, ddof=1) / len(values) ** 0.5
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * sem
    assert ours.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert ours.high - ours.mean == pytest.approx(half, rel=1e-3, abs=1e-9)
    assert ours.mean - ours.low == pytest.approx(half, rel=1e-3, abs=1e-9)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = [e.low < 3 < e.high for e in (estimate(rng.normal(3, 2, 5)) for _ in range(2000))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("mean", "half", "shown"),
    [
        (0.63041, 0.02539, "0.630 ± 0.025"),
        (1.2, 0.4, "1.20 ± 0.40"),
        (5.9e-8, 1.2e-7, "5.9e-08 ± 1.2e-07"),
        (7, 0, "7 ± 0"),
        (123, 45, "123 ± 45"),
    ],
)
def test_an_estimate_shows_the_digits_that_it_knows(mean, half, shown):
    assert str(claims.Estimate(mean, mean - half, mean + half, 1.0, 5)) == shown


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")], [[1.0, 2.0], [3.0, 4.0]]])
def test_what_cannot_be_averaged_is_refused(values):
    with pytest.raises(ValueError, match="values="):
        estimate(values)


def test_a_claim_holds_only_if_the_whole_interval_does():
    seeds = [0.1, 0.3, 0.2, 0.25, 0.15]
    assert claim("a gain", seeds, above=0).here.mean == pytest.approx(0.2)
    with pytest.raises(ClaimFailed, match=r"a gain\n  measured 0.2, 95 % interval 0.102 to 0.298, n = 5\n  needed   above 0.15"):
        claim("a gain", seeds, above=0.15)
    assert claims.claims() == [], "a claim that failed on running its cell again must not stay in the table"
    with pytest.raises(ClaimFailed):
        claim("swapped", [-s for s in seeds], above=0)
    with pytest.raises(ClaimFailed, match="needed   between 0 and 0.2"):
        claim("both sides", seeds, above=0, below=0.2)
    claim("one number", 0.5, above=0.4, below=0.6)


def test_a_claim_must_be_able_to_fail_and_to_name_its_source():
    with pytest.raises(ValueError, match="no bound"):
        claim("always true", 1.0)
    with pytest.raises(ValueError, match="source"):
        claim("as in the paper", 1.0, above=0, paper="about 1")


def test_the_table_shows_paper_here_and_the_recorded_run(monkeypatch, tmp_path):
    claim("a < b & so on", [1.0, 2.0], above=-10, paper="about 1.4", source="He2015")
    table = claims_table(page="topic/section")
    assert "a &lt; b &amp; so on" in table._repr_html_() and "not recorded yet" in table._repr_html_()
    assert "1.5 ± 6.4" in table._repr_html_() and "He2015" in table._repr_html_() and "n = 2" in table._repr_html_()

    kept = {"device": "some GPU", "date": "2026-01-02", "claims": claims.as_record()}
    kept["claims"][0]["here"]["mean"] = 7.0
    monkeypatch.setattr(claims, "record", lambda page: json.loads(json.dumps(kept)))
    recorded = claims_table(page="topic/section")._repr_html_()
    assert "some GPU, 2026-01-02" in recorded and "not recorded yet" not in recorded and "7" in recorded


def test_a_table_of_some_claims():
    one, two = claim("one", 1.0, above=0), claim("two", 2.0, above=0)
    assert repr(claims_table(two)) == repr(two) and "full scale" not in claims_table(two)._repr_html_()
    assert repr(claims_table(page="topic/section")) == f"{one!r}\n{two!r}"
    with pytest.raises(ValueError, match="either some claims or the name"):
        claims_table()


def test_running_a_cell_again_replaces_its_claims():
    claim("twice", 1.0, above=0)
    claim("twice", 2.0, above=0)
    (kept,) = claims.claims()
    assert isinstance(kept, Claim) and kept.here.mean == 2.0 and "twice" in repr(kept)

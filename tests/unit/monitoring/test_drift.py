"""Bins that were fixed once, and what they show: tables of literal columns."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from configs.settings import load_settings
from feature_repo.contract import BY_NAME, CORE_SERVICE, LABEL, features_of
from monitoring.drift import (
    SCORE,
    Baseline,
    BinCounts,
    FeatureBins,
    compare_drift,
    make_baseline,
    negative_log_likelihoods,
)
from tests.support.small_model import features_of_snapshot, simulated

LIMITS = load_settings().monitoring.model_copy(update={"rows_min": 100})
SPEC = features_of(CORE_SERVICE)
CONTRACT, PARTNER, TENURE = (BY_NAME[name] for name in ("contract_type", "partner", "tenure_months"))


def numbers(*values):
    return pd.Series([math.nan if value is None else value for value in values], dtype="float64")


def words(*values):
    return pd.Series(values, dtype="object")


TENURES = FeatureBins.from_values(TENURE, numbers(*range(100)), 4)
MOSTLY_0 = FeatureBins.from_values(TENURE, numbers(*[0] * 90, *range(1, 11)), 4)
CONSTANT = FeatureBins.from_values(TENURE, numbers(*[7] * 50), 10)
NEVER = FeatureBins.from_values(TENURE, numbers(*[None] * 50), 10)


@pytest.mark.parametrize(
    ("bins", "values", "counts"),
    [
        # null, below the least, four quarters, above the greatest
        (TENURES, numbers(None, -1, 0, 24, 25, 49, 50, 99, 100, math.inf, -math.inf), [1, 2, 2, 2, 1, 1, 2]),
        (TENURES, numbers(), [0, 0, 0, 0, 0, 0, 0]),
        # Where most are 0 they have an interval of their own.
        (MOSTLY_0, numbers(0, 0, 0.5, 10, 11), [0, 0, 2, 2, 1]),
        # A column that never changed shows any other value.
        (CONSTANT, numbers(7, 7, 6, 8, None), [1, 1, 2, 1]),
        (NEVER, numbers(None, 1, 2), [1, 2]),
        (
            FeatureBins.from_values(CONTRACT, words(), 10),
            words("One year", None, "Two year", "Weekly", "One year"),
            [1, 0, 2, 1, 1],
        ),
        (FeatureBins.from_values(PARTNER, words(), 10), words(True, False, None, True), [1, 1, 2, 0]),
        (FeatureBins.from_values(PARTNER, words(), 10), words(), [0, 0, 0, 0]),
    ],
)
def test_where_a_value_falls(bins, values, counts):
    assert bins.count(values).tolist() == counts
    assert len(bins.titles()) == len(bins) == len(counts)


def test_a_bin_says_what_it_holds():
    assert TENURES.titles() == ["null", "below", "<= 24", "<= 49", "<= 74", "<= 99", "> 99"]
    assert NEVER.titles() == ["null", "any number"]
    assert FeatureBins.from_values(CONTRACT, words(), 10).titles() == ["null", *CONTRACT.categories, "any other"]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60), st.integers(2, 12))
def test_every_value_falls_into_one_bin_whatever_it_is(values, count):
    column = numbers(*values)
    bins = FeatureBins.from_values(TENURE, column, count)
    assert bins.count(column).sum() == len(values)
    assert bins.count(column)[0] == column.isna().sum()
    assert list(bins.edges) == sorted(set(bins.edges))


def reference(customers=2000, seed=7):
    rows = simulated(customers, seed)
    features = features_of_snapshot(rows)
    chance = np.random.default_rng(seed)
    score = np.clip(chance.beta(2, 6, len(features)), 1e-6, 1 - 1e-6)
    churned = chance.random(len(features)) < score
    made = make_baseline(
        features,
        SPEC,
        score,
        churned,
        present=np.ones(len(features), dtype=bool),
        digest="d" * 64,
        contract_hash="c",
        observed="2026-01-01T06:00:00+00:00",
        bins=10,
    )
    return made, features, score, churned


def table(made, features, score, left=None, limits=LIMITS, **options):
    counted = BinCounts.of(made)
    counted.add(made, features, score)
    return {row.name: row for row in compare_drift(made, counted, left, limits, **options)}


def test_the_rows_themselves_have_not_moved():
    made, features, score, churned = reference()
    rows = table(made, features, score, (len(churned), int(churned.sum())))
    assert list(rows) == [*(feature.name for feature in SPEC), SCORE, LABEL]
    assert {(row.status, row.psi) for row in rows.values()} == {("stable", 0.0)}
    assert (made.rows, made.churned) == (len(churned), churned.sum())
    assert made.log_loss == pytest.approx(negative_log_likelihoods(churned, score).mean())


@pytest.mark.slow
def test_others_of_the_same_world_have_not_moved_either():
    made, *_ = reference()
    for seed in range(20, 30):
        _, features, score, churned = reference(1500, seed)
        rows = table(made, features, score, (len(churned), int(churned.sum())))
        assert [row.name for row in rows.values() if row.status != "stable"] == []


@pytest.mark.parametrize(
    ("change", "name", "moved"),
    [
        (lambda f, s: (f.assign(monthly_charges_usd=f["monthly_charges_usd"] * 1.5), s), "monthly_charges_usd", "> "),
        (lambda f, s: (f.assign(contract_type="Two year"), s), "contract_type", "Two year: "),
        (lambda f, s: (f.assign(contract_type="Weekly"), s), "contract_type", "any other: 0.0% -> 100.0%"),
        (lambda f, s: (f.assign(tenure_months=math.nan), s), "tenure_months", "null: 0.0% -> 100.0%"),
        (lambda f, s: (f, s / 4), SCORE, "<= "),
    ],
    ids=["another price", "one contract", "a new contract", "a lost column", "lower scores"],
)
def test_what_moved_is_named_and_nothing_else(change, name, moved):
    made, features, score, _ = reference()
    rows = table(made, *change(features, score))
    assert [row.name for row in rows.values() if row.status == "drift"] == [name]
    assert moved in rows[name].moved
    assert rows[name].psi > rows[name].bound


def test_rows_that_can_not_be_judged_are_insufficient_data_without_figures():
    made, features, score, _ = reference()
    moved = features.assign(contract_type="Two year", monthly_charges_usd=features["monthly_charges_usd"] * 1.5)
    rows = table(made, moved, score / 4, unjudged={"contract_type", SCORE})
    assert [row.name for row in rows.values() if row.status == "drift"] == ["monthly_charges_usd"]
    for name in ("contract_type", SCORE):
        row = rows[name]
        assert (row.status, row.psi, row.bound, row.moved) == ("insufficient data", None, None, "")
        assert (row.reference_rows, row.current_rows) == (made.rows, len(features))


def test_more_that_leave_are_seen():
    made, features, score, churned = reference()
    share = churned.mean()
    rows = table(made, features, score, (2000, int(2000 * min(1.0, share * 2.5))))
    assert rows[LABEL].status == "drift"
    assert rows[LABEL].kind == "label"


def test_no_labels_yet_and_few_rows_are_insufficient_and_never_a_number_that_json_lacks():
    made, features, score, _ = reference()
    rows = table(made, features.head(99).assign(contract_type="Weekly"), score[:99])
    assert {row.status for row in rows.values()} == {"insufficient data"}
    assert (rows[LABEL].psi, rows[LABEL].bound, rows[LABEL].current_rows) == (None, None, 0)
    none = table(made, features.head(0), score[:0])
    assert {(row.status, row.psi) for row in none.values()} == {("insufficient data", None)}


def test_features_and_scores_are_counted_of_the_population_that_is_watched_and_labels_of_all():
    made, features, score, churned = reference()
    told = {"digest": "d" * 64, "contract_hash": "c", "observed": made.observed, "bins": 10}
    watched = make_baseline(features, SPEC, score, churned, present=~churned, **told)
    rows = table(watched, features[~churned], score[~churned], (len(churned), int(churned.sum())))
    assert {(row.status, row.psi) for row in rows.values()} == {("stable", 0.0)}
    assert {row.reference_rows for row in rows.values()} == {int((~churned).sum()), len(churned)}
    assert (watched.rows, watched.log_loss) == (made.rows, made.log_loss)
    # Those who stay are of another kind than all.
    assert table(made, features[~churned], score[~churned])[SCORE].psi > 0.03
    nobody = make_baseline(features, SPEC, score, churned, present=np.zeros(len(features), dtype=bool), **told)
    assert {row.status for row in table(nobody, features, score).values()} == {"insufficient data"}


@pytest.mark.slow
def test_equal_populations_show_drift_at_the_nominal_rate_at_most():
    """Whole tables of the bounds for chance alone: the settings are 0."""
    rate, worlds = 0.05, 300
    strict = LIMITS.model_copy(update={"psi_max": 0, "score_psi_max": 0, "label_psi_max": 0, "false_alarm": rate})
    _, features, score, churned = reference(6000, 3)
    chance, alarms = np.random.default_rng(5), 0
    for _ in range(worlds):
        order = chance.permutation(len(features))
        then, now = order[:1000], order[1000:5000]
        made = make_baseline(
            features.iloc[then],
            SPEC,
            score[then],
            churned[then],
            present=~churned[then],
            digest="d" * 64,
            contract_hash="c",
            observed="2026-01-01T06:00:00+00:00",
            bins=10,
        )
        here = now[~churned[now]]
        left = (len(now), int(churned[now].sum()))
        rows = table(made, features.iloc[here], score[here], left, strict)
        alarms += any(row.status == "drift" for row in rows.values())
    assert alarms <= binom.ppf(0.999, worlds, rate)


def test_no_figure_is_infinite_however_odd_the_columns_are():
    made, features, score, _ = reference()
    odd = features.assign(
        **{feature.name: math.inf if feature.dtype in {"int64", "float64"} else "\x00" for feature in SPEC}
    )
    for row in table(made, odd, np.full(len(score), 1 - 1e-16), (500, 0)).values():
        assert math.isfinite(row.psi)
        assert math.isfinite(row.bound)


def test_chunks_add_up_to_the_whole():
    made, features, score, _ = reference()
    whole, parts = BinCounts.of(made), BinCounts.of(made)
    whole.add(made, features, score)
    for start in range(0, len(features), 333):
        parts.add(made, features.iloc[start : start + 333], score[start : start + 333])
    assert {name: counts.tolist() for name, counts in parts.counts.items()} == {
        name: counts.tolist() for name, counts in whole.counts.items()
    }
    assert (parts.rows, parts.scored) == (whole.rows, whole.scored)


def test_small_differences_of_few_rows_are_chance_and_of_many_are_not():
    made, *_ = reference()
    strict = LIMITS.model_copy(update={"psi_max": 0.001, "score_psi_max": 0.001})
    _, features, score, _ = reference(300, 21)
    rows = table(made, features, score, limits=strict)
    assert max(row.psi for row in rows.values() if row.psi is not None) > 0.001
    assert {row.status for row in rows.values()} == {"stable", "insufficient data"}


def test_a_baseline_is_json_that_reads_back_the_same_and_names_nobody():
    made, *_ = reference(300)
    text = made.to_json()
    assert Baseline.from_json(text) == made
    assert not [each for each in simulated(300)["customer_id"] if each in text]
    for broken in ("", "[]", "{}", json.dumps({**json.loads(text), "more": 1})):
        with pytest.raises((ValueError, KeyError, TypeError)):
            Baseline.from_json(broken)

"""The policy file is checked before it is followed, and what it says is what happens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from feature_repo.clocks import CLOCKS_DIFFER
from feature_repo.contract import TTL_DAYS
from feature_repo.stores.freshness import (
    FRESHNESS_FILE,
    LIMIT_H,
    FreshnessError,
    ViewState,
    at_the_contract,
    load_freshness,
    parse_freshness,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TEXT = FRESHNESS_FILE.read_text("utf-8")
VIEWS = ("customer_contract", "customer_billing", "customer_usage")
TICK = timedelta(microseconds=1)


def changed(view, **keys):
    """The shipped file with other values in the entry of one view."""
    head, entry, rest = TEXT.partition(f"[views.{view}]\n")
    body, gap, rest = rest.partition("\n\n")
    lines = [line for line in body.splitlines() if line.partition(" =")[0] not in keys]
    lines += [f"{key} = {value}" for key, value in keys.items() if value is not None]
    return head + entry + "\n".join(lines) + gap + rest


def test_the_shipped_policy_is_valid_and_refuses_what_the_contract_does():
    policy, contract = load_freshness(), at_the_contract()
    assert {name: (view.refuse_after_h, view.on_expired) for name, view in policy.views.items()} == {
        name: (view.refuse_after_h, view.on_expired) for name, view in contract.views.items()
    }
    assert LIMIT_H == TTL_DAYS * 24


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("views = [", "is no TOML"),
        (TEXT.replace("ordinary_nulls", "usual_nulls"), "usual_nulls: Extra inputs"),
        (
            TEXT.replace("[views.customer_usage]", "[views.customer_use]"),
            "view customer_usage has no entry; there is no",
        ),
        (
            TEXT.replace("[views.customer_usage]", "[views.customer_protected]"),
            "no view customer_protected that is served",
        ),
        (changed("customer_usage", stale_after_h=None), "customer_usage.stale_after_h: Field required"),
        (changed("customer_usage", stale_after_h=0), "customer_usage.stale_after_h"),
        (changed("customer_usage", stale_after_h="nan"), "customer_usage.stale_after_h"),
        (changed("customer_usage", stale_after_h='"1"'), "customer_usage.stale_after_h"),
        (changed("customer_usage", stale_after_h="true"), "customer_usage.stale_after_h"),
        (changed("customer_usage", refuse_after_h=2208.5), "customer_usage.refuse_after_h"),
        (changed("customer_usage", refuse_after_h=24), "customer_usage: stale_after_h is more than refuse_after_h"),
        (changed("customer_usage", stale_after_h=9, refuse_after_h=24), "before, training had the values"),
        (changed("customer_usage", on_expired='"guess"'), "customer_usage.on_expired"),
        (changed("customer_usage", on_null='"x"'), "customer_usage.on_null: Extra inputs"),
        (changed("customer_billing", on_expired='"null"'), "customer_billing: on_expired"),
        (TEXT.replace('"usage_trend"', '"usage_trends"'), "usage_trends is no feature"),
        (TEXT.replace('"usage_trend"', '"tenure_months"'), "tenure_months is no feature that may be null"),
        (TEXT.replace('"usage_trend"', '"usage_on"'), "usage_on is no feature"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_and_says_where(text, said):
    with pytest.raises(FreshnessError) as refused:
        parse_freshness(text)
    assert said in refused.value.message
    assert "freshness.toml" in refused.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FreshnessError, match=r"policy\.toml can't be read"):
        load_freshness(tmp_path / "policy.toml")


@pytest.mark.parametrize(
    ("hours", "tick", "status"),
    [(0, 0, "fresh"), (10, 0, "fresh"), (10, 1, "stale"), (20, 0, "stale"), (20, 1, "expired")],
)
def test_a_limit_is_the_last_instant_that_it_allows(hours, tick, status):
    policy = parse_freshness(changed("customer_billing", stale_after_h=10, refuse_after_h=20))
    at = NOW - timedelta(hours=hours) - tick * TICK
    age = policy.age(["customer_billing"], [at], NOW)
    assert age.views == (ViewState("customer_billing", at, status),)
    assert age.stale == (("customer_billing",) if status == "stale" else ())
    assert age.refused == (status == "expired")


@pytest.mark.parametrize(
    ("ahead", "status"),
    [
        (timedelta(0), "fresh"),
        (CLOCKS_DIFFER, "fresh"),
        (CLOCKS_DIFFER + TICK, "unknown"),
        (timedelta(days=1), "unknown"),
        (timedelta(days=400), "unknown"),
    ],
)
def test_what_is_dated_after_now_is_fresh_only_as_far_as_clocks_differ(ahead, status):
    policy, at = load_freshness(), NOW + ahead
    age = policy.age(["customer_billing"], [at], NOW)
    assert age.views == (ViewState("customer_billing", at, status),)
    assert (age.as_of, age.stale, age.refused) == (at, (), False)
    # What was judged once is judged anew as soon as the clock has come near.
    assert age.since < NOW <= age.until
    for edge in (age.since, age.until):
        for now in (edge, edge + TICK) if 1 < edge.year < 9999 else ():
            again = policy.age(["customer_billing"], [at], now)
            assert (again.views == age.views) == (age.since < now <= age.until)


@pytest.mark.parametrize(
    ("days", "statuses", "as_of", "refused"),
    [
        ((1, 2, 3), ("fresh", "fresh", "fresh"), 2, False),
        ((1, 70, 1), ("fresh", "stale", "fresh"), 70, False),
        ((1, 93, 1), ("fresh", "expired", "fresh"), 93, True),
        ((1, 2, 93), ("fresh", "fresh", "expired"), 2, False),
        ((1, None, 93), ("fresh", "unknown", "expired"), 1, False),
        ((None, None, 1), ("unknown", "unknown", "fresh"), None, False),
    ],
)
def test_each_view_is_judged_by_its_own_rule(days, statuses, as_of, refused):
    def ago(count):
        return None if count is None else NOW - timedelta(days=count)

    age = load_freshness().age(VIEWS, [ago(count) for count in days], NOW)
    assert tuple(view.status for view in age.views) == statuses
    # Of the snapshot's views only: windows know their own time.
    assert (age.as_of, age.refused) == (ago(as_of), refused)


@pytest.mark.parametrize("days", [0, 10, 62, 70, 92, 93, 200])
def test_an_age_holds_as_long_as_it_says(days):
    policy = load_freshness()
    instants = [NOW - timedelta(days=days), NOW - timedelta(days=days + 1), None]
    found = policy.age(VIEWS, instants, NOW)
    assert found.since < NOW <= found.until
    for edge, inside, outside in [(found.since, TICK, 0 * TICK), (found.until, 0 * TICK, TICK)]:
        if edge.year in {1, 9999}:
            continue  # nothing changes on that side, ever
        assert policy.age(VIEWS, instants, edge + inside) == found
        assert policy.age(VIEWS, instants, edge + outside).views != found.views


def test_events_may_be_made_to_refuse():
    policy = parse_freshness(changed("customer_usage", stale_after_h=1, refuse_after_h=24, on_expired='"refuse"'))
    assert policy.age(["customer_usage"], [NOW - timedelta(hours=25)], NOW).refused
    assert not policy.age(["customer_usage"], [None], NOW).refused


def test_a_view_without_an_entry_is_no_views_guess():
    with pytest.raises(KeyError):
        load_freshness().age(["customer_protected"], [NOW], NOW)

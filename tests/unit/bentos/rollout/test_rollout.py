"""Promote, roll back, try: what serves afterwards, what the ledger says, and what is refused."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime, timedelta

import pytest

from bentos.bundle import BundleError
from bentos.rollout.ledger import append_entry, ledger_path, read_ledger
from bentos.rollout.pointer import Rollout, write_pointer
from bentos.rollout.rollout import (
    ChampionChangedError,
    NoChampionError,
    NothingToRollBackError,
    OtherTrialError,
    TrialEndedError,
    TrialInvalidError,
    WithdrawnError,
    champion_digest,
    promote,
    read_rollout,
    rollback,
    served_rollout,
    start_trial,
    stop_trial,
)
from feature_repo.files.atomic_writes import StorageError
from tests.support.small_model import saved

NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)
KNOWN = {"who": "Ann", "why": "better", "now": NOW}


@pytest.fixture
def home(tmp_path):
    """A home with bundles a, b and c, none of them promoted."""
    return tmp_path


@pytest.fixture
def digest(home):
    """The digest of a bundle by its model version."""
    return functools.cache(lambda version: saved(home, model_version=version)[0].digest)


def serves(home):
    found = read_rollout(home)
    return None if found is None else (found.model_version, found.previous, found.challenger, found.mode, found.share)


def actions(home):
    return [entry.action for entry in read_ledger(home)]


def test_before_the_first_promotion_nothing_serves(home):
    assert read_rollout(home) is None
    for refused in (served_rollout, champion_digest, functools.partial(rollback, **KNOWN)):
        with pytest.raises(NoChampionError):
            refused(home)
    assert stop_trial(home, **KNOWN) is None


def test_the_life_of_a_home(home, digest):
    a, b = digest("a"), digest("b")
    steps = [
        (promote, (a,), {}, ("a", None, None, "none", 0)),
        (promote, (b,), {"expected": a}, ("b", a, None, "none", 0)),
        (rollback, (), {}, ("a", b, None, "none", 0)),
        (promote, (b,), {}, ("b", a, None, "none", 0)),
        (start_trial, (digest("c"),), {"mode": "shadow", "share": 0.7}, ("b", a, digest("c"), "shadow", 0)),
        (start_trial, (digest("c"),), {"mode": "canary", "share": 0.7}, ("b", a, digest("c"), "canary", 0.7)),
        (stop_trial, (), {"action": "abort"}, ("b", a, None, "none", 0)),
        (start_trial, (digest("c"),), {"mode": "canary", "share": 0.9}, ("b", a, digest("c"), "canary", 0.9)),
        (promote, (digest("c"),), {}, ("c", b, None, "none", 0)),
        (start_trial, (a,), {"mode": "shadow", "share": 0}, ("c", b, a, "shadow", 0)),
        (rollback, (), {}, ("b", digest("c"), None, "none", 0)),
    ]
    for number, (step, given, named, expected) in enumerate(steps, start=1):
        entry = step(home, *given, **KNOWN, **named)
        assert serves(home) == expected
        assert (
            (read_rollout(home).sequence, read_rollout(home).hash)
            == (entry.sequence, entry.hash)
            == (number, entry.hash)
        )
        assert entry.rollout() == read_rollout(home)
        assert champion_digest(home) == home / "bundles" / read_rollout(home).champion
    assert [entry.before for entry in read_ledger(home)] == [None, *(entry.after for entry in read_ledger(home)[:-1])]
    assert actions(home) == [
        "promote",
        "promote",
        "rollback",
        "promote",
        "shadow",
        "canary",
        "abort",
        "canary",
        "promote",
        "shadow",
        "rollback",
    ]


def test_doing_it_again_changes_nothing(home, digest):
    first = promote(home, digest("a"), **KNOWN)
    # Compared with nothing, retried after it was done: the retry of a step that died must not fail.
    assert promote(home, digest("a"), expected=None, **KNOWN) == first
    trial = start_trial(home, digest("b"), mode="canary", share=0.1, **KNOWN)
    assert start_trial(home, digest("b"), mode="canary", share=0.1, **KNOWN) == trial
    assert promote(home, digest("a"), **KNOWN) == first
    assert stop_trial(home, **KNOWN).details == {"challenger": digest("b"), "mode": "canary"}
    assert stop_trial(home, **KNOWN) is None
    promote(home, digest("b"), **KNOWN)
    back = rollback(home, **KNOWN)
    assert promote(home, digest("a"), **KNOWN) == back
    assert actions(home) == ["promote", "canary", "stop", "promote", "rollback"]


def test_a_rollback_leaves_the_champion_that_is_meant_and_once(home, digest):
    a, b, c = (digest(each) for each in "abc")
    promote(home, a, **KNOWN)
    promote(home, b, **KNOWN)
    assert rollback(home, leaving=a, **KNOWN) is None
    assert rollback(home, leaving=b, **KNOWN).after["champion"] == a
    assert rollback(home, leaving=b, **KNOWN) is None
    assert rollback(home, **KNOWN) is None
    # A trial in between changes nothing about that.
    start_trial(home, c, mode="shadow", share=0, **KNOWN)
    assert rollback(home, **KNOWN) is None
    assert (serves(home)[0], read_rollout(home).mode) == ("a", "shadow")
    promote(home, c, **KNOWN)
    assert rollback(home, **KNOWN).after["champion"] == a
    # A champion that was set by hand serves by no rollback.
    write_pointer(home, Rollout(b, "b", a))
    assert rollback(home, **KNOWN).after["champion"] == a


def test_a_rollback_brings_no_withdrawn_model_back(home, digest):
    a, b, c = (digest(each) for each in "abc")
    for each in (a, b, c):
        promote(home, each, **KNOWN)
    rollback(home, leaving=c, who="Bob", why="calls", now=NOW)
    before = read_rollout(home)
    with pytest.raises(WithdrawnError, match=f"{c[:12]}, was rolled back by Bob: calls") as refused:
        rollback(home, leaving=b, **KNOWN)
    assert "churn promote --version N --force --why" in refused.value.hint
    assert read_rollout(home) == before
    # A pointer that was set by hand leads there no more than a rollback's.
    write_pointer(home, Rollout(a, "a", c))
    with pytest.raises(WithdrawnError):
        rollback(home, **KNOWN)
    # Whoever promotes it takes that back, and it is a champion to go back to again.
    promote(home, c, **KNOWN)
    promote(home, b, **KNOWN)
    assert rollback(home, leaving=b, **KNOWN).after["champion"] == c


def test_another_challenger_s_trial_is_replaced_only_where_that_is_meant(home, digest):
    promote(home, digest("a"), **KNOWN)
    trial = start_trial(home, digest("b"), mode="shadow", share=0, replacing=False, **KNOWN)
    with pytest.raises(OtherTrialError, match=f"the shadow of bundle {digest('b')[:12]} is running"):
        start_trial(home, digest("c"), mode="shadow", share=0, replacing=False, **KNOWN)
    assert start_trial(home, digest("b"), mode="shadow", share=0, replacing=False, **KNOWN) == trial
    assert start_trial(home, digest("c"), mode="shadow", share=0, **KNOWN).sequence == 3


def test_a_verdict_about_another_champion_does_not_count(home, digest):
    promote(home, digest("a"), expected=None, **KNOWN)
    for compared_with in (None, digest("c")):
        with pytest.raises(ChampionChangedError):
            promote(home, digest("b"), expected=compared_with, **KNOWN)
    assert serves(home)[0] == "a"
    assert actions(home) == ["promote"]


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (lambda home, _: stop_trial(home, who="service", why="slow", now=NOW, action="abort"), "by service: slow"),
        (lambda home, b: start_trial(home, b, mode="canary", share=0.2, **KNOWN), "by Ann: better"),
        (
            lambda home, b: (stop_trial(home, **KNOWN), start_trial(home, b, mode="canary", share=0.1, **KNOWN)),
            "by Ann",
        ),
        (
            lambda home, b: write_pointer(home, Rollout(read_rollout(home).champion, "x")),
            "no entry that ended",
        ),
    ],
)
def test_a_promotion_that_rests_on_a_trial_needs_it_to_be_running(home, digest, end, says):
    promote(home, digest("a"), **KNOWN)
    trial = start_trial(home, digest("b"), mode="canary", share=0.1, **KNOWN).sequence
    end(home, digest("b"))
    before = actions(home)
    with pytest.raises(TrialEndedError, match=says):
        promote(home, digest("b"), trial=trial, **KNOWN)
    assert (champion_digest(home).name, actions(home)) == (digest("a"), before)


def test_a_promotion_during_its_trial_is_one_and_its_retry_too(home, digest):
    promote(home, digest("a"), **KNOWN)
    end = NOW + timedelta(hours=24)
    trial = start_trial(home, digest("b"), mode="canary", share=0.1, ends_at=end, **KNOWN).sequence
    with pytest.raises(TrialEndedError, match="was to end at 2026-03-02T06:00:00"):
        promote(home, digest("b"), trial=trial, **KNOWN | {"now": end})
    done = promote(home, digest("b"), trial=trial, **KNOWN)
    assert promote(home, digest("b"), trial=trial, **KNOWN) == done
    assert serves(home) == ("b", digest("a"), None, "none", 0)


def test_a_trial_keeps_its_end_and_begins_anew_after_it(home, digest):
    promote(home, digest("a"), **KNOWN)

    def begin(now, **more):
        return start_trial(home, digest("b"), mode="shadow", share=0, **KNOWN | {"now": now}, **more)

    endless = begin(NOW)
    day = timedelta(hours=24)
    first = begin(NOW, ends_at=NOW + day, details={"as_of": "then"})
    assert first.sequence == endless.sequence + 1, "one of an earlier version gets an end"
    assert first.details == {"as_of": "then"}
    assert begin(NOW + day / 2, ends_at=NOW + 2 * day) == first
    assert first.after["ends_at"] == read_rollout(home).ends_at == "2026-03-02T06:00:00+00:00"
    again = begin(NOW + day, ends_at=NOW + 2 * day)
    assert (again.sequence, again.after["ends_at"]) == (first.sequence + 1, "2026-03-03T06:00:00+00:00")
    assert "ends_at" not in stop_trial(home, **KNOWN).after
    assert read_rollout(home).ends_at is None


def test_a_service_ends_the_trial_that_it_means_and_no_other(home, digest):
    promote(home, digest("a"), **KNOWN)
    meant = start_trial(home, digest("b"), mode="canary", share=0.1, **KNOWN)
    start_trial(home, digest("b"), mode="canary", share=0.2, **KNOWN)
    assert stop_trial(home, trial=meant.sequence, **KNOWN) is None
    assert read_rollout(home).share == 0.2


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda home, digest: rollback(home, **KNOWN), NothingToRollBackError),
        (lambda home, digest: promote(home, "0" * 64, **KNOWN), BundleError),
        (lambda home, digest: promote(home, "../" + digest("b"), **KNOWN), BundleError),
        (lambda home, digest: start_trial(home, digest("a"), mode="shadow", share=0, **KNOWN), TrialInvalidError),
        (lambda home, digest: start_trial(home, "0" * 64, mode="shadow", share=0, **KNOWN), BundleError),
        *(
            (lambda home, digest, s=share: start_trial(home, digest("b"), mode="canary", share=s, **KNOWN), error)
            for share, error in ((0, TrialInvalidError), (1, TrialInvalidError), (float("nan"), TrialInvalidError))
        ),
    ],
)
def test_what_can_not_be_changes_nothing(home, digest, wrong, error):
    promote(home, digest("a"), **KNOWN)
    before = read_rollout(home)
    with pytest.raises(error):
        wrong(home, digest)
    assert read_rollout(home) == before
    assert actions(home) == ["promote"]


@pytest.mark.parametrize("file", ["manifest.json", "trees.ubj", "linear.json", "reason_codes.toml"])
def test_a_damaged_bundle_is_neither_promoted_nor_rolled_back_to(home, digest, file):
    promote(home, digest("a"), **KNOWN)
    promote(home, digest("b"), **KNOWN)
    for version, change in (("a", lambda: rollback(home, **KNOWN)), ("c", lambda: promote(home, digest("c"), **KNOWN))):
        path = home / "bundles" / digest(version) / file
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(BundleError):
            change()
    assert serves(home)[0] == "b"


def test_a_bundle_of_another_contract_is_not_promoted(home):
    other = saved(home, contract_hash="0" * 64)[0].digest
    with pytest.raises(BundleError, match="another contract"):
        promote(home, other, **KNOWN)
    assert read_rollout(home) is None


@pytest.mark.parametrize("left", ["the old pointer", "no pointer", "a damaged pointer"])
def test_who_died_between_ledger_and_pointer_has_promoted(home, digest, left):
    promote(home, digest("a"), **KNOWN)
    old = read_rollout(home)
    pointer = home / "bundles" / "champion.json"
    content = pointer.read_bytes()
    promote(home, digest("b"), **KNOWN)
    if left == "no pointer":
        pointer.unlink()
    else:
        pointer.write_bytes(content if left == "the old pointer" else b"{")
    # The next operation finds b serving, whatever it is.
    entry = start_trial(home, digest("c"), mode="shadow", share=0, **KNOWN)
    assert entry.before["champion"] == digest("b")
    assert serves(home) == ("b", old.champion, digest("c"), "shadow", 0)


def test_who_died_at_the_first_promotion_has_promoted(home, digest):
    append_entry(home, [], "promote", (None, Rollout(digest("a"), "a")), **KNOWN)
    assert read_rollout(home) is None
    assert stop_trial(home, **KNOWN) is None
    assert serves(home)[0] == "a"
    assert promote(home, digest("a"), **KNOWN).sequence == 1


def test_a_pointer_that_a_person_wrote_decides_and_the_next_entry_says_so(home, digest):
    promote(home, digest("a"), **KNOWN)
    promote(home, digest("b"), **KNOWN)
    write_pointer(home, Rollout(digest("c"), "c"))
    assert promote(home, digest("a"), **KNOWN).before["champion"] == digest("c")
    assert serves(home)[:2] == ("a", digest("c"))


def test_a_home_of_an_earlier_version_goes_on_with_its_champion(home, digest):
    (home / "bundles").mkdir(exist_ok=True)
    text = json.dumps({"digest": digest("a"), "path": digest("a"), "model_version": "a"})
    (home / "bundles" / "champion.json").write_text(text)
    assert promote(home, digest("b"), **KNOWN).before["champion"] == digest("a")
    assert rollback(home, **KNOWN).after["champion"] == digest("a")


def test_a_promotion_that_the_disk_refused_does_not_happen_later(home, digest, monkeypatch):
    promote(home, digest("a"), **KNOWN)
    before = ledger_path(home).read_bytes()

    def full(home, rollout):
        raise StorageError("no space left on device")

    # The disk has room for the entry and none for the pointer: no limit of the system tells the two files apart.
    with monkeypatch.context() as fault:
        fault.setattr("bentos.rollout.rollout.write_pointer", full)
        with pytest.raises(StorageError):
            promote(home, digest("b"), **KNOWN)
    assert ledger_path(home).read_bytes() == before
    start_trial(home, digest("c"), mode="shadow", share=0, **KNOWN)
    assert serves(home)[0] == "a"


def test_a_pointer_that_can_not_be_replaced_is_named(home, digest):
    promote(home, digest("a"), **KNOWN)
    pointer = home / "bundles" / "champion.json"
    pointer.unlink()
    pointer.mkdir()
    with pytest.raises(StorageError):
        promote(home, digest("b"), **KNOWN)
    assert actions(home) == ["promote"]

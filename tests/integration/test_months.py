"""Five months of six customers, through the real feature build and Feast: who vanishes, returns, is corrected, is late.

Values carry the number of the publication that they are from (tests/support/monthly_extracts.py), so the tables below
say which publication's values each training row must hold.
"""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import pytest

from configs.settings import load_settings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, EVENT_TIMESTAMP, LABEL, OBSERVED_AT, STORED
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.materialization_record import read_record
from feature_repo.stores.materialize import materialize
from feature_repo.stores.registration import apply
from flows.steps.build_features import build_features
from flows.steps.train import provenance, training_set
from tests.support.monthly_extracts import deliver, instant, month, scored

LATER = scored(4) + timedelta(days=20)
"""When the correction and the late file come."""

IN_TIME = {
    # number of the publication: (month, who is in the extract)
    1: (0, {"ann": "No", "bob": "No", "cy": "No", "dan": "Yes", "eve": "No"}),
    2: (1, {"ann": "No", "bob": "No", "eve": "No"}),  # cy vanished; dan had left; eve stays
    3: (2, {"ann": "No", "bob": "Yes", "cy": "No", "eve": "No"}),  # cy is back; bob leaves
    4: (4, {"ann": "No", "cy": "No", "eve": "No", "fay": "No"}),  # month 3 is missing
}
AFTERWARDS = {
    5: (2, {"ann": "No", "bob": "Yes", "cy": "No"}),  # a correction: eve was no customer then
    6: (3, {"ann": "No", "cy": "Yes", "eve": "No", "fay": "No"}),  # the missing month, late
}

FIRST_ROWS = {
    # (customer, month scored; -1 the declared date): (left in the month after, publication of the values)
    ("ann", -1): (False, 1),
    ("bob", -1): (False, 1),
    ("cy", -1): (False, 1),
    ("dan", -1): (True, 1),
    ("eve", -1): (False, 1),
    ("ann", 0): (False, 1),
    ("bob", 0): (False, 1),
    ("eve", 0): (False, 1),
    ("ann", 1): (False, 2),
    ("bob", 1): (True, 2),
    ("eve", 1): (False, 2),
    # Month 2 has no month after it, yet.
}
LAST_ROWS = {
    **{key: row for key, row in FIRST_ROWS.items() if key != ("eve", 1)},  # no label any more, by the correction
    # The late month labels who was observed in month 2: with the values of then, not those of the correction.
    ("ann", 2): (False, 3),
    ("cy", 2): (True, 3),
    # Month 3 is scored on what was known at its date: month 2. cy had left by then, fay was unknown, and eve
    # stood in month 2 as it was known, and in months 3 and 4.
    ("ann", 3): (False, 3),
    ("eve", 3): (False, 3),
}


def rows_of(settings):
    made = training_set(settings)
    number = [round((at - scored(0)) / timedelta(days=30)) for at in made.keys[OBSERVED_AT]]
    told = zip(made.churned, made.features["tenure_months"].astype(int), strict=True)
    return dict(zip(zip(made.keys[CUSTOMER], number, strict=True), told, strict=True))


def built(settings):
    build_features(settings)
    folder = settings.home / "offline"
    return {path.name: path.read_bytes() for path in folder.rglob("*.parquet")}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The months in time, their rows and parts; then the correction and the late file, and the same again."""
    settings = load_settings(home=tmp_path_factory.mktemp("story") / "home")
    for number, base in IN_TIME.values():
        deliver(settings.home, month(number), base)
    before = built(settings)
    apply(settings)
    first = rows_of(settings)
    for number, base in AFTERWARDS.values():
        deliver(settings.home, month(number), base, LATER)
    after = built(settings)
    return settings, (before, first), (after, rows_of(settings))


def test_labels_and_values_of_months_in_time(story):
    assert story[1][1] == FIRST_ROWS


def test_labels_and_values_after_a_correction_and_a_late_file(story):
    assert story[2][1] == LAST_ROWS


def test_no_part_and_no_old_value_was_changed_by_what_came_later(story):
    (before, first), (after, last) = story[1:]
    assert {name: after[name] for name in before} == before
    assert sorted(set(after) - set(before)) == [f"{month(2)}.v2.parquet", f"{month(3)}.v1.parquet"]
    both = set(first) & set(last)
    assert len(both) == len(first) - 1
    assert {key: first[key] for key in both} == {key: last[key] for key in both}


def asked(settings, customer, at):
    """What Feast's own join gives: the publication of the values, None for a withdrawn or unknown customer."""
    store = open_feature_store(settings)
    entities = pd.DataFrame({CUSTOMER: [customer], EVENT_TIMESTAMP: [pd.Timestamp(at)]})
    names = [f"{feature.view}:{feature.name}" for feature in STORED]
    row = store.get_historical_features(entity_df=entities, features=names).to_df().iloc[0]
    values = row[[feature.name for feature in STORED if not feature.nullable]]
    assert values.isna().all() or values.notna().all(), "a withdrawal takes everything"
    return None if values.isna().all() else int(row["tenure_months"])


@pytest.mark.parametrize(
    ("customer", "at", "publication"),
    [
        ("dan", instant(month(0)), 1),  # the declared values, until the extract says that dan left
        ("dan", scored(0), None),
        ("cy", scored(0), 1),
        ("cy", scored(1), None),  # vanished
        ("cy", scored(2), 3),  # returned
        ("bob", scored(2), None),  # left
        ("eve", scored(2), 3),
        ("fay", scored(3), None),  # nobody knew the late month's newcomer then
        ("fay", scored(4), 4),
        ("cy", LATER + timedelta(hours=1), 4),  # month 4 is newer than the late word that cy left in month 3
        ("eve", LATER + timedelta(hours=1), 4),
        ("bob", LATER + timedelta(hours=1), None),
    ],
)
def test_what_feast_says_of_each_at_an_instant(story, customer, at, publication):
    assert asked(story[0], customer, at) == publication


def test_withdrawn_customers_have_no_value_online(tmp_path):
    settings = load_settings(home=tmp_path / "home")
    deliver(settings.home, month(0), {"ann": "No", "bob": "No", "cy": "Yes"})
    deliver(settings.home, month(1), {"ann": "No"})
    build_features(settings)
    apply(settings)
    materialize(settings, scored(1) - timedelta(hours=1))
    assert read_record(settings.home).next_known_at == scored(1), "month 1 was left out, and is to be copied then"
    materialize(settings, scored(1) + timedelta(hours=1))
    assert read_record(settings.home).next_known_at is None
    store = open_feature_store(settings)
    rows = [{CUSTOMER: each} for each in ("ann", "bob", "cy")]
    names = [f"{feature.view}:{feature.name}" for feature in STORED if not feature.protected]
    answer = store.get_online_features(features=names, entity_rows=rows).to_dict()
    assert answer["tenure_months"] == [2, None, None]
    assert all(answer[name.split(":")[1]][1:] == [None, None] for name in names)


def test_training_goes_on_over_a_gap_and_says_where_it_comes_from(story):
    settings = story[0]
    made = training_set(settings)
    assert made.service == CORE_SERVICE
    assert made.keys[LABEL].dtype == bool
    said = provenance(settings, LATER)
    assert said.time == "observed"
    assert said.snapshots == tuple(f"{month(n)}.v{v}" for n, v in ((0, 1), (1, 1), (2, 2), (3, 1), (4, 1)))

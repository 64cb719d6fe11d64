"""The whole base, scored to Parquet: everybody once, what the model says, and nothing that changes by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bentos.batch import score_base as scoring
from bentos.batch.score_base import LATEST, SCHEMA, BaseMovedError, score_base
from bentos.bundle import Bundle
from bentos.decisions.economics import load_economics
from bentos.decisions.reason_codes import load_reason_codes
from bentos.rollout import NoChampionError
from configs.settings import load_settings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, OBSERVED_AT, TTL_DAYS, features_of
from feature_repo.files.atomic_writes import file_sha256
from feature_repo.files.locks import LeaseHeldError, lease
from feature_repo.raw.snapshots.telco_csv import normalise
from feature_repo.stores.casting import to_python_values
from feature_repo.stores.errors import NothingToMaterializeError
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.historical_features import get_historical_features
from tests.support import customer_base

CHURN = str(Path(sys.executable).with_name("churn"))
NOW = customer_base.scored(0) + timedelta(hours=1)
INCOMPLETE, FORGOTTEN, GONE, TOMORROW = "INCOMPLETE-1", "FORGOTTEN-1", "GONE-1", "TOMORROW-1"


def odd_ones(settings):
    """One customer for each reason not to be scored."""
    row = normalise(customer_base.first_extract()).head(1)
    long_ago, recently = NOW - timedelta(days=TTL_DAYS + 1), NOW - timedelta(days=1)
    nothing = row.drop(columns=[CUSTOMER, "churned"]).map(lambda _: None)
    customer_base.add(settings, "odd-1", row.assign(**{CUSTOMER: INCOMPLETE, "contract_type": None}), recently)
    customer_base.add(settings, "odd-2", row.assign(**{CUSTOMER: FORGOTTEN}), long_ago)
    customer_base.add(settings, "odd-3", row.assign(**{CUSTOMER: GONE}), long_ago - timedelta(days=1))
    withdrawn = nothing.astype(row.drop(columns=[CUSTOMER, "churned"]).convert_dtypes().dtypes)
    customer_base.add(settings, "odd-4", withdrawn.assign(**{CUSTOMER: GONE}), long_ago)
    customer_base.add(settings, "odd-5", row.assign(**{CUSTOMER: TOMORROW}), NOW + timedelta(hours=1))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    settings = customer_base.world(tmp_path_factory.mktemp("scores") / "home")
    odd_ones(settings)
    return settings


@pytest.fixture(scope="module")
def done(made):
    return score_base(made, NOW)


@pytest.fixture
def copied(made, done, tmp_path):
    """A home of one's own that has been scored."""
    shutil.copytree(made.home, tmp_path / "home")
    return made.model_copy(update={"home": tmp_path / "home"})


def scores(settings, run):
    return pq.read_table(settings.home / run.path / "parts").to_pandas()


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def expected(settings):
    """Ids, features and the explanation of everybody who stayed, without chunks."""
    extract = normalise(customer_base.first_extract())
    ids = sorted(extract.loc[~extract["churned"].astype(bool), CUSTOMER])
    keys = pd.DataFrame({CUSTOMER: ids}).assign(**{OBSERVED_AT: pd.Timestamp(NOW)})
    features = get_historical_features(open_feature_store(settings), keys, CORE_SERVICE)
    bundle = Bundle.load(settings.home / "bundles" / customer_base.bundle(settings.home).digest)
    return ids, features, bundle, bundle.explain(features)


def test_everybody_who_stayed_is_there_once_with_what_the_model_says(made, done):
    ids, _, bundle, explained = expected(made)
    found = scores(made, done)
    assert found[CUSTOMER].tolist() == ids
    np.testing.assert_allclose(found["probability"], explained.score, rtol=1e-12)
    leaves = found["probability"] >= bundle.manifest.threshold
    assert (found["label"] == np.where(leaves, "churn", "stay")).all()
    assert 0 < done.churn == leaves.sum() < len(ids)
    assert found["threshold"].unique().tolist() == [bundle.manifest.threshold]
    assert found["model_version"].unique().tolist() == [bundle.manifest.model_version] == [done.model_version]
    assert found["bundle_digest"].unique().tolist() == [bundle.digest] == [done.champion]
    assert found[OBSERVED_AT].unique().tolist() == [pd.Timestamp(NOW)] == [pd.Timestamp(done.observed_at)]


def test_reasons_are_those_of_the_service_and_the_profit_is_that_of_the_economics(made, done):
    _, features, bundle, explained = expected(made)
    found, dictionary, economics = scores(made, done), load_reason_codes(CORE_SERVICE), load_economics()
    values = zip(
        *[to_python_values(each, features[each.name].tolist()) for each in features_of(CORE_SERVICE)], strict=True
    )
    for place, row in enumerate(values):
        reasons = dictionary.reasons(
            explained.contributions[place],
            row,
            leaves=explained.score[place] >= bundle.manifest.threshold,
            most=made.serving.reasons_max,
        )
        assert found["reasons"][place].tolist() == [reason.code for reason in reasons]
    profit = explained.score * economics.gain_usd - (1 - explained.score) * economics.waste_usd
    np.testing.assert_allclose(found["expected_profit_usd"], profit, rtol=1e-9)
    chosen = (found["label"] == "churn").to_numpy()
    assert done.expected_profit_usd == pytest.approx(found.loc[chosen, "expected_profit_usd"].sum())


def test_who_is_not_scored_is_counted_by_reason(made, done):
    left = int(normalise(customer_base.first_extract())["churned"].sum())
    assert done.refused == {"no usable value for contract_type": 1}
    assert (done.expired, done.withdrawn) == (1, left + 1)
    assert done.customers == done.scored + 1 == customer_base.CUSTOMERS - left + 1
    assert done.unexplained == 0
    assert not {INCOMPLETE, FORGOTTEN, GONE, TOMORROW} & set(scores(made, done)[CUSTOMER])


def test_the_manifest_and_the_pointer_lead_to_every_part(made, done):
    run = made.home / done.path
    pointer = json.loads((made.home / "scores" / LATEST).read_text())
    manifest = json.loads((run / "manifest.json").read_text())
    assert pointer["path"] == done.path
    assert pointer["manifest_sha256"] == file_sha256(run / "manifest.json")
    assert manifest["files"] == {f"parts/{path.name}": file_sha256(path) for path in (run / "parts").iterdir()}
    assert len(manifest["files"]) == done.parts == -(-(customer_base.CUSTOMERS + 1) // 200)
    for path in (run / "parts").iterdir():
        assert pq.read_schema(path).remove_metadata().equals(SCHEMA)
    ids = set(scores(made, done)[CUSTOMER])
    for path in (run / "manifest.json", run / "plan.json", made.home / "scores" / LATEST):
        assert not [each for each in ids if each in path.read_text()]


def test_the_same_day_again_changes_nothing(copied, done):
    before = files(copied.home / "scores")
    again = score_base(copied, NOW + timedelta(hours=9))
    assert not again.fresh
    assert again == type(done)(**{**vars(done), "fresh": False})
    assert files(copied.home / "scores") == before


def test_chunks_make_no_difference_but_for_the_files(made, done, tmp_path):
    shutil.copytree(made.home, tmp_path / "home", ignore=shutil.ignore_patterns("scores"))
    for size in (33, 20_000):
        shutil.rmtree(tmp_path / "home" / "scores", ignore_errors=True)
        one = made.model_copy(
            update={"home": tmp_path / "home", "batch": made.batch.model_copy(update={"chunk_customers": size})}
        )
        run = score_base(one, NOW)
        assert run.parts == -(-(customer_base.CUSTOMERS + 1) // size)
        pd.testing.assert_frame_equal(scores(one, run), scores(made, done))


def test_another_day_another_champion_and_other_data_are_other_runs(copied, done):
    seen = {done.path}
    for change in (
        lambda: score_base(copied, NOW + timedelta(days=1)),
        lambda: (crown_another(copied), score_base(copied, NOW))[1],
        lambda: (add_one(copied), score_base(copied, NOW))[1],
    ):
        run = change()
        assert run.path not in seen
        assert run.fresh
        seen.add(run.path)
    # The pointer shows the newest instant, whatever was completed last.
    pointer = json.loads((copied.home / "scores" / LATEST).read_text())
    assert pointer["observed_at"] == (NOW + timedelta(days=1)).isoformat()
    assert len(files(copied.home / "scores")) == 1 + sum(2 + done.parts for _ in seen)


def crown_another(settings):
    customer_base.crown(settings, customer_base.bundle(settings.home, threshold=0.5, model_version="another"), 0)


def add_one(settings):
    row = normalise(customer_base.first_extract()).head(1)
    customer_base.add(settings, "another", row.assign(**{CUSTOMER: "ANOTHER-1"}), NOW - timedelta(hours=1))


def test_data_that_arrive_meanwhile_stop_the_run_and_the_next_takes_them(copied, monkeypatch):
    later = NOW + timedelta(days=1)
    real, calls = scoring.read_chunk, []

    def reading(store, bundle, ids, now):
        calls.append(len(ids))
        if len(calls) == 2:
            add_one(copied)
        return real(store, bundle, ids, now)

    monkeypatch.setattr(scoring, "read_chunk", reading)
    with pytest.raises(BaseMovedError) as stopped:
        score_base(copied, later)
    assert stopped.value.transient
    monkeypatch.undo()
    run = score_base(copied, later)
    assert "ANOTHER-1" in set(scores(copied, run)[CUSTOMER])
    # What the stopped run left is gone: nobody would ever complete it.
    assert list((copied.home / "scores" / f"{later:%Y-%m-%d}").iterdir()) == [copied.home / run.path]


@pytest.mark.parametrize("damage", ["truncated", "gone", "another plan", "no manifest"])
def test_what_was_damaged_is_written_again_the_same(copied, done, damage):
    run = copied.home / done.path
    before = files(copied.home / "scores")
    part = run / "parts" / "part-00001.parquet"
    if damage == "truncated":
        part.write_bytes(part.read_bytes()[:-9])
    elif damage == "gone":
        part.unlink()
    elif damage == "no manifest":
        part.write_bytes(part.read_bytes()[:-9])
        (run / "manifest.json").unlink()
    else:
        (run / "plan.json").write_text("{}")
    assert score_base(copied, NOW).fresh
    assert files(copied.home / "scores") == before


def test_two_at_once_are_refused_and_a_home_without_a_champion_or_rows_says_so(copied, tmp_path):
    with lease(copied.home, "score-base", "the first"), pytest.raises(LeaseHeldError, match="the first"):
        score_base(copied, NOW)
    with pytest.raises(NoChampionError):
        score_base(load_settings(home=tmp_path / "empty"), NOW)
    shutil.rmtree(copied.home / "offline")
    with pytest.raises(NothingToMaterializeError):
        score_base(copied, NOW)


def test_a_base_that_everybody_left_is_an_empty_result(copied):
    run = score_base(copied, NOW + timedelta(days=TTL_DAYS + 3))
    assert (run.customers, run.scored, run.parts) == (0, 0, 0)
    assert run.expired + run.withdrawn == customer_base.CUSTOMERS + 4


def test_the_command(copied):
    environment = {**os.environ, "CHURN_HOME": str(copied.home)}
    ended = subprocess.run([CHURN, "score-base"], env=environment, capture_output=True, text=True, check=False)
    # The world's customers are of January 2026: whether they have expired by now or not is told.
    assert ended.returncode == 0, ended.stderr
    assert f"customers as of {datetime.now(UTC).date().isoformat()}" in ended.stdout
    assert "withdrawn" in ended.stdout
    assert (copied.home / "scores" / datetime.now(UTC).date().isoformat()).is_dir()

"""The whole base, scored to Parquet: everybody once, what the model says, and nothing that changes by itself."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bentos.batch import score_base as scoring
from bentos.batch.call_list import ListNotWrittenError, write_csv, write_excel
from bentos.batch.score_base import LATEST, BaseMovedError, score_base
from bentos.batch.scores_table import SCHEMA
from bentos.batch.summary import advice
from bentos.bundle import Bundle
from bentos.decisions.counterfactuals import recommend
from bentos.decisions.economics import load_economics, profit_threshold
from bentos.decisions.levers import load_levers
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
from tests.support.workbooks import sheet

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
        assert found["reason_texts"][place].tolist() == [reason.text for reason in reasons]
    profit = explained.score * economics.gain_usd - (1 - explained.score) * economics.waste_usd
    np.testing.assert_allclose(found["expected_profit_usd"], profit, rtol=1e-9)
    chosen = (found["label"] == "churn").to_numpy()
    assert done.expected_profit_usd == pytest.approx(found.loc[chosen, "expected_profit_usd"].sum())
    ranked = found.sort_values(["expected_profit_usd", CUSTOMER], ascending=[False, True])
    assert ranked["rank"].tolist() == list(range(1, len(found) + 1))


def test_the_offer_is_that_of_the_service_and_is_made_only_where_contacting_pays(made, done):
    _, features, bundle, explained = expected(made)
    levers = load_levers(CORE_SERVICE, load_reason_codes(CORE_SERVICE))
    found = scores(made, done)
    values = list(
        zip(*[to_python_values(each, features[each.name].tolist()) for each in features_of(CORE_SERVICE)], strict=True)
    )
    best = recommend(levers, values, bundle.vectors(features), explained.score, bundle.score_vectors)
    offered = [each if left == "churn" else None for each, left in zip(best, found["label"], strict=True)]
    assert found["lever"].tolist() == [each and each.lever.name for each in offered]
    assert found["lever_text"].tolist() == [each and each.lever.text for each in offered]
    given = [each for each in offered if each]
    assert len({each.lever.name for each in given}) > 1
    probabilities = found["lever_probability"].dropna()
    np.testing.assert_allclose(probabilities, [each.score for each in given], rtol=1e-12)
    assert (probabilities < found.loc[probabilities.index, "probability"]).all()


def test_old_data_and_gaps_stand_with_the_score(made, done, copied):
    assert scores(made, done)["score_quality"].unique().tolist() == ["full"]
    assert (done.partial, done.stale) == (0, 0)
    later = score_base(copied, NOW + timedelta(days=40))
    found = scores(copied, later).set_index(CUSTOMER)
    assert found.pop("score_quality").pop(TOMORROW) == "full"
    old = found.drop(TOMORROW)["stale"].map(list).tolist()
    assert old == [["customer_contract", "customer_services", "customer_billing"]] * (len(found) - 1)
    assert later.stale == later.scored - 1 > 0


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


def test_a_run_that_was_stopped_between_scores_and_ranks_is_completed_to_the_same_bytes(copied, done, monkeypatch):
    run, before = copied.home / done.path, files(copied.home / "scores")
    shutil.rmtree(run)
    real, written = scoring.with_ranks, []

    def stopping(rows, found):
        written.append(len(rows))
        if len(written) == 2:
            raise KeyboardInterrupt
        return real(rows, found)

    monkeypatch.setattr(scoring, "with_ranks", stopping)
    with pytest.raises(KeyboardInterrupt):
        score_base(copied, NOW)
    monkeypatch.undo()
    assert len(list((run / "unranked").iterdir())) == done.parts
    assert score_base(copied, NOW + timedelta(hours=1)) == done
    assert files(copied.home / "scores") == before


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


@pytest.fixture(scope="module")
def run(made, done):
    return made.home / done.path


def test_the_list_is_what_a_person_reads_best_customer_first(made, done, run, tmp_path):
    assert write_csv(made, run, tmp_path / "list.csv") == done.scored
    content = (tmp_path / "list.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbfRank,Customer id,Call,Risk of leaving within 30 days (%),")
    assert content.count(b"\r\n") == content.count(b"\n") == done.scored + 1
    listed = pd.read_csv(tmp_path / "list.csv", dtype=str, keep_default_na=False)
    found = scores(made, done).sort_values("rank").reset_index(drop=True)
    assert listed["Customer id"].tolist() == found[CUSTOMER].tolist()
    assert listed["Rank"].tolist() == found["rank"].astype(str).tolist()
    assert listed["Call"].tolist() == found["label"].map({"churn": "yes", "stay": "no"}).tolist()
    assert listed["Call"].tolist() == ["yes"] * done.churn + ["no"] * (done.scored - done.churn)
    risks = listed["Risk of leaving within 30 days (%)"].astype(float)
    np.testing.assert_allclose(risks, found["probability"] * 100, atol=0.0501)
    assert listed["Offer"].tolist() == found["lever_text"].fillna("").tolist()
    assert (listed["Risk with the offer (%)"] == "").tolist() == found["lever"].isna().tolist()
    assert listed["Reason 1"].tolist() == [texts[0] for texts in found["reason_texts"]]
    assert set(listed["Quality of the data"]) == {"full"}
    assert {path.name for path in tmp_path.iterdir()} == {"list.csv"}


def test_the_workbook_holds_the_same_with_ids_as_text(made, done, run, tmp_path):
    assert write_excel(made, run, tmp_path / "list.xlsx") == done.scored
    write_csv(made, run, tmp_path / "list.csv")
    with (tmp_path / "list.csv").open(encoding="utf-8-sig", newline="") as file:
        expected_rows = list(csv.reader(file))
    assert [[text for _, text in row] for row in sheet(tmp_path / "list.xlsx")] == expected_rows
    assert {kind for _, (kind, _), *_ in sheet(tmp_path / "list.xlsx")} == {"inlineStr"}


def test_a_run_of_the_first_format_is_read_too(made, done, tmp_path):
    """Parts without rank, offers, texts and quality, as they were written before."""
    old = tmp_path / "old"
    for part in (made.home / done.path / "parts").iterdir():
        (old / "parts").mkdir(parents=True, exist_ok=True)
        pq.write_table(pq.read_table(part).select(SCHEMA.names[:9]), old / "parts" / part.name)
    manifest = json.loads((made.home / done.path / "manifest.json").read_text()) | {"format": 1}
    (old / "manifest.json").write_text(json.dumps(manifest))
    assert write_csv(made, old, tmp_path / "old.csv") == done.scored
    listed = pd.read_csv(tmp_path / "old.csv", dtype=str, keep_default_na=False)
    found = scores(made, done).sort_values("rank").reset_index(drop=True)
    assert listed["Customer id"].tolist() == found[CUSTOMER].tolist()
    assert listed["Reason 1"].tolist() == [codes[0] for codes in found["reasons"]]
    assert set(listed["Quality of the data"]) == {"unknown"}


def test_a_list_that_can_t_be_written_leaves_the_old_one(made, run, tmp_path):
    (tmp_path / "list.csv").write_text("old")
    with pytest.raises(ListNotWrittenError, match="can't be read"):
        write_csv(made, tmp_path / "none", tmp_path / "list.csv")
    with pytest.raises(ListNotWrittenError, match="can't be written"):
        write_csv(made, run, tmp_path / "none" / "list.csv")
    assert (tmp_path / "list.csv").read_text() == "old"


def test_the_sum_says_on_what_it_rests_and_whom_not_to_contact(done):
    agreed = replace(done, threshold=profit_threshold(load_economics()))
    call, rest = advice(agreed)
    assert call.startswith(f"call {done.churn}: expected profit {done.expected_profit_usd:,.0f} USD if all of them")
    assert "stays is worth 200 USD, the offer costs 10 USD when it is taken, a call costs 1 USD, and 30%" in call
    assert rest == (
        f"do not contact the other {done.scored - done.churn}: their risk is below 16.4%, so a call costs more than it "
        "brings on average"
    )
    # The test's model has a threshold of its own: what the costs of now say is said, and nothing that is not so.
    _, rest, other = advice(done)
    assert "costs more" not in rest
    assert "a call pays from a risk of 16.4% on; train again" in other


def test_the_command(copied, tmp_path):
    environment = {**os.environ, "CHURN_HOME": str(copied.home)}
    target = tmp_path / "list.csv"
    ended = subprocess.run(
        [CHURN, "score-base", "--csv", str(target)], env=environment, capture_output=True, text=True, check=False
    )
    # The world's customers are of January 2026: whether they have expired by now or not is reported.
    assert ended.returncode == 0, ended.stderr
    assert target.read_text("utf-8-sig").startswith("Rank,Customer id,Call")
    assert ended.stdout.splitlines()[-1].startswith(("do not contact the other", "configs/economics.toml has other"))
    assert f"customers as of {datetime.now(UTC).date().isoformat()}" in ended.stdout
    assert "withdrawn" in ended.stdout
    assert (copied.home / "scores" / datetime.now(UTC).date().isoformat()).is_dir()

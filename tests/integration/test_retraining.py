"""Retraining on a real registry: who may serve, and what stays when somebody may not."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import replace
from datetime import timedelta

import mlflow
import numpy as np
import pandas as pd
import pytest
from prefect.states import Failed
from pydantic import SecretStr

from bentos.bundle import Bundle, BundleError
from bentos.rollout import ChampionChangedError, champion_digest
from bentos.rollout.ledger import read_ledger
from bentos.rollout.live_comparison import LiveFigures
from bentos.rollout.rollout import read_rollout
from feature_repo.contract import CORE_SERVICE, CUSTOMER, LABEL, SERVICES_OF
from feature_repo.definition_hash import feature_hashes
from feature_repo.files.atomic_writes import StorageError
from flows.pipeline.policy import is_retryable
from flows.steps.apply_features import apply_features
from flows.steps.compare import compare_models, serving
from flows.steps.promote import (
    WhyMissingError,
    begin_trial,
    compare_and_promote,
    promote_challenger,
    roll_back,
    sync_aliases,
)
from flows.steps.train import (
    DataChangedError,
    UnknownServiceError,
    current_fingerprint,
    fit_and_save_challenger,
    register_challenger,
    registered_challenger,
    train_and_register,
    train_challenger,
    training_set,
)
from tests.support.next_version import next_version
from tests.support.retraining_home import NOW, copy, extracts, land, make, seeded
from training.data.heldout import heldout_path, read_heldout
from training.data.training_set import TrainingSetError
from training.mlflow_database import tracking_uri
from training.registry import FINGERPRINT, find_version, version_of, versions_with
from training.registry_errors import ExperimentDeletedError, NoSuchVersionError

__all__ = ["next_version"]
LATER = NOW + timedelta(days=30)
BETTER = "better than the champion beyond chance"
COMPARABLE = "champion comparable"


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    return make(tmp_path_factory.mktemp("untrained") / "home")


@pytest.fixture(scope="module")
def lived(tmp_path_factory, untrained):
    """A home whose first model serves."""
    settings = copy(untrained, tmp_path_factory.mktemp("retraining") / "home")
    return settings, train_and_register(settings, NOW, who="ann")


@pytest.fixture
def fresh(tmp_path, untrained):
    """A home of its own for a test that breaks something; its first model serves."""
    settings = copy(untrained, tmp_path / "home")
    return settings, train_and_register(settings, NOW, who="ann").trained


def test_what_can_not_pass_is_said_before_the_work(untrained, tmp_path):
    """A deleted experiment, a full disk: nothing was tuned, and Prefect does not try again what is mended by hand."""
    settings = copy(untrained, tmp_path / "home")
    mlflow.set_tracking_uri(tracking_uri(settings))
    number = mlflow.create_experiment(settings.mlflow.experiment)
    mlflow.MlflowClient().delete_experiment(number)
    with pytest.raises(ExperimentDeletedError) as refused:
        train_challenger(settings, NOW)
    assert not is_retryable(None, None, Failed(data=refused.value))
    greedy = settings.model_copy(
        update={"promotion": settings.promotion.model_copy(update={"bundle_size_max_mb": 1e12})}
    )
    with pytest.raises(StorageError, match="MB are free below the home"):
        train_challenger(greedy, NOW)
    assert not (settings.home / "optuna").exists()
    assert not (settings.home / "bundles").exists()


def pointer(settings):
    return json.loads((settings.home / "bundles" / "champion.json").read_text())


def tags(settings, version):
    return find_version(settings, version).tags


def challenge(settings, rows, mark, now=LATER):
    """A registered challenger made of these rows."""
    fitted, bundle = fit_and_save_challenger(settings, rows, now)
    registered = register_challenger(settings, fitted, bundle, rows, mark).registered
    return registered_challenger(settings, registered.version)


def failed(done):
    return [name for name, held, _ in done.compared.verdict.rules if not held]


def of_the_contract_before(settings, digest):
    """Let a bundle serve that says it was trained on another contract; returns its digest."""
    source = settings.home / "bundles" / digest
    content = json.loads((source / "manifest.json").read_text()) | {"contract_hash": "0" * 64}
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    old = hashlib.sha256(text.encode()).hexdigest()
    shutil.copytree(source, source.with_name(old))
    (source.with_name(old) / "manifest.json").write_text(text)
    path = source.with_name("champion.json")
    path.write_text(json.dumps({"digest": old, "path": old, "model_version": content["model_version"]}))
    return old


def poisoned_rows(settings):
    """All labels that are learnt from turned, those of the newest month true."""
    rows = training_set(settings)
    older = (rows.keys["observed_at"] < rows.keys["observed_at"].max()).to_numpy()
    churned = rows.churned.to_numpy(dtype=bool)
    return replace(rows, keys=rows.keys.assign(**{LABEL: np.where(older, ~churned, churned)}))


def test_the_first_challenger_serves_if_it_holds_the_floors(lived):
    settings, done = lived
    assert done.compared.verdict.promote, done.compared.verdict.why
    assert done.compared.champion is None
    assert version_of(settings, "champion").version == version_of(settings, "challenger").version == "1"
    assert version_of(settings, "previous") is None
    assert (pointer(settings)["digest"], pointer(settings)["previous"]) == (done.trained.digest, None)
    assert Bundle.load(champion_digest(settings.home)).digest == done.trained.digest
    (entry,) = read_ledger(settings.home)
    assert (entry.action, entry.who, entry.details["version"]) == ("promote", "ann", "1")
    assert entry.details["figures"]["challenger_roc_auc"] > 0.7


def test_the_verdict_is_a_file_of_the_run_and_tags_of_the_version(lived):
    settings, done = lived
    found = tags(settings, "1")
    assert (found["verdict"], found["why"], found["compared_with"]) == ("passed", "every rule held", "")
    figures = json.loads(found["verdict_figures"])
    assert figures["challenger_log_loss"] == pytest.approx(done.compared.verdict.figures["challenger_log_loss"], 1e-4)
    mlflow.set_tracking_uri(tracking_uri(settings))
    kept = mlflow.artifacts.load_dict(f"runs:/{done.trained.run_id}/promotion/verdict.json")
    assert kept == done.compared.to_json()


def test_no_customer_is_in_the_verdict_the_tags_or_the_ledger(lived):
    settings, done = lived
    told = json.dumps([done.compared.to_json(), tags(settings, "1")])
    told += (settings.home / "ledger" / "ledger.jsonl").read_text()
    assert [each for each in read_heldout(settings.home, done.trained.digest)[CUSTOMER] if each in told] == []


def test_the_same_data_settings_and_code_give_the_same_version_and_change_nothing(lived):
    settings, done = lived
    again = train_and_register(settings, LATER, who="ann")
    assert again.trained == replace(done.trained, fresh=False)
    assert done.trained.fresh
    assert (again.compared, again.entry, again.serves) == (None, None, True)
    assert len(read_ledger(settings.home)) == 1
    assert tags(settings, "1")["verdict"] == "passed"


def test_28_poisoned_labels_change_nothing_that_serves(lived):
    settings, first = lived
    served = pointer(settings)
    made = challenge(settings, poisoned_rows(settings), "f" * 64)
    done = compare_and_promote(settings, made, who="ann", why="", now=LATER)
    assert not done.serves
    assert "log loss against the champion" in done.compared.verdict.why
    assert pointer(settings) == served
    assert version_of(settings, "champion").bundle_digest == first.trained.digest
    # It stays as what it is, with the reason beside it.
    assert version_of(settings, "challenger").version == made.version
    assert tags(settings, made.version)["verdict"] == "refused"
    assert tags(settings, made.version)["why"] == done.compared.verdict.why
    assert tags(settings, made.version)["compared_with"] == first.trained.digest
    assert tags(settings, "1")["verdict"] == "passed"
    assert len(read_ledger(settings.home)) == 1


def test_an_equal_challenger_proves_nothing_and_the_champion_stays(lived):
    settings, first = lived
    # The very same model, made a month later.
    made = challenge(settings, training_set(settings), "e" * 64)
    assert made.digest != first.trained.digest
    done = compare_and_promote(settings, made, who="ann", why="", now=LATER)
    assert [name for name, held, _ in done.compared.verdict.rules if not held] == [BETTER]
    assert done.compared.verdict.figures["log_loss_gain"] == 0.0
    assert pointer(settings)["digest"] == first.trained.digest


def test_whoever_overrules_the_verdict_says_why_and_can_go_back(lived):
    settings, first = lived
    made = registered_challenger(settings)
    with pytest.raises(WhyMissingError):
        compare_and_promote(settings, made, who="ann", why="", now=LATER, force=True)
    done = compare_and_promote(settings, made, who="ann", why="a rehearsal", now=LATER, force=True)
    assert done.serves
    assert BETTER in done.entry.details["overruled"]
    aliases = {alias: version_of(settings, alias).version for alias in ("champion", "previous", "challenger")}
    assert aliases == {"champion": made.version, "previous": "1", "challenger": made.version}
    entry = roll_back(settings, who="bob", why="it was one", now=LATER)
    assert entry.after["champion"] == pointer(settings)["digest"] == first.trained.digest
    aliases = {alias: version_of(settings, alias).version for alias in ("champion", "previous")}
    assert aliases == {"champion": "1", "previous": made.version}


def test_what_was_rolled_back_does_not_come_back_by_itself(fresh):
    settings, _ = fresh
    made = challenge(settings, training_set(settings), "e" * 64)
    compare_and_promote(settings, made, who="ann", why="a rehearsal", now=LATER, force=True)
    roll_back(settings, who="bob", why="it was one", now=LATER)
    done = compare_and_promote(settings, made, who="ann", why="", now=LATER)
    assert not done.serves
    assert "not withdrawn before (rollback by bob: it was one)" in done.compared.verdict.why


def test_versions_are_found_by_number_and_others_are_named(lived):
    settings, first = lived
    assert registered_challenger(settings, "1") == replace(first.trained, fresh=False)
    for unknown in ("99", "x"):
        with pytest.raises(NoSuchVersionError, match=unknown):
            registered_challenger(settings, unknown)


def test_nothing_trained_is_named(settings):
    with pytest.raises(NoSuchVersionError, match="nothing was trained yet"):
        registered_challenger(settings)
    assert sync_aliases(settings) == {}


def test_a_new_month_gives_a_new_version_that_is_compared_on_its_own_rows(fresh):
    settings, first = fresh
    land(settings, 3, extracts()[3])
    made = train_challenger(settings, LATER)
    assert (made.fresh, made.version, made.seen_rows) == (True, "2", 0)
    assert made.fingerprint != first.fingerprint
    newest = read_heldout(settings.home, made.digest)
    assert newest["observed_at"].min() > read_heldout(settings.home, first.digest)["observed_at"].max()
    compared = compare_models(settings, made, serving(settings.home), LATER)
    assert compared.champion == first.digest
    assert compared.verdict.figures["champion_rows"] == len(newest)
    # With live requests required, those of its trial count; without one it is not let through.
    strict = settings.model_copy(update={"rollout": settings.rollout.model_copy(update={"shadow_requests_min": 50})})
    refused = compare_and_promote(strict, made, who="ann", why="", now=LATER)
    assert "live requests (0 >= 50)" in refused.compared.verdict.why
    seen = LiveFigures(50, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0)
    assert (
        compare_models(strict, made, serving(settings.home), LATER, live=seen).verdict.promote
        is compared.verdict.promote
    )
    begin_trial(settings, made, share=None, who="ann", why="", now=LATER)
    assert sync_aliases(settings) == {"champion": "1", "previous": None, "challenger": "2"}


def test_between_verdict_and_promotion_another_champion_is_noticed(fresh):
    settings, _ = fresh
    rows = training_set(settings)
    one, two = (challenge(settings, rows, mark * 64, LATER + timedelta(days=day)) for mark, day in (("a", 1), ("b", 2)))
    compared = compare_models(settings, two, serving(settings.home), LATER)
    promote_challenger(
        settings,
        one,
        compare_models(settings, one, serving(settings.home), LATER),
        who="ann",
        why="first",
        now=LATER,
        force=True,
    )
    with pytest.raises(ChampionChangedError):
        promote_challenger(settings, two, compared, who="ann", why="late", now=LATER, force=True)
    assert read_rollout(settings.home).champion == one.digest
    # Who was killed after the promotion and asks again is not refused for it.
    again = promote_challenger(
        settings, one, replace(compared, challenger=one.digest), who="ann", why="", now=LATER, force=True
    )
    assert again == read_ledger(settings.home)[-1]


def test_a_damaged_champion_is_restored_from_mlflow_and_compared_with(fresh):
    settings, first = fresh
    made = challenge(settings, training_set(settings), "a" * 64)
    folder = settings.home / "bundles" / first.digest
    for damage in (lambda: (folder / "trees.ubj").write_bytes(b""), lambda: shutil.rmtree(folder)):
        damage()
        done = compare_and_promote(settings, made, who="ann", why="", now=LATER)
        assert failed(done) == [BETTER]
        assert Bundle.load(folder).digest == first.digest


def test_a_champion_that_can_not_be_compared_with_stays_until_a_person_decides(fresh):
    settings, first = fresh
    made = challenge(settings, training_set(settings), "a" * 64)
    (settings.home / "bundles" / first.digest / "trees.ubj").write_bytes(b"")
    for copied in (settings.home / "mlflow" / "artifacts").rglob("trees.ubj"):
        copied.write_bytes(b"damaged")
    done = compare_and_promote(settings, made, who="ann", why="", now=LATER)
    assert not done.serves
    assert failed(done) == [COMPARABLE]
    assert "trees.ubj of bundle" in done.compared.verdict.why
    assert "MLflow has no whole copy" in done.compared.verdict.why
    assert read_rollout(settings.home).champion == first.digest
    forced = compare_and_promote(settings, made, who="ann", why="nobody has a copy", now=LATER, force=True)
    assert forced.serves
    assert COMPARABLE in forced.entry.details["overruled"]


def test_after_a_change_of_the_contract_a_person_lets_the_new_model_serve(fresh):
    settings, _ = fresh
    # As if this home had served a model of the code before.
    old = of_the_contract_before(settings, read_rollout(settings.home).champion)
    made = challenge(settings, training_set(settings), "a" * 64)
    done = compare_and_promote(settings, made, who="ann", why="", now=LATER)
    assert not done.serves
    assert failed(done) == [COMPARABLE]
    assert "another contract of churn_core_v1: " in done.compared.verdict.why
    assert 'a person decides: churn promote --force --why "new contract"' in done.compared.verdict.why
    assert done.compared.champion == old
    assert compare_and_promote(settings, made, who="ann", why="new contract", now=LATER, force=True).serves


def test_versions_of_a_feature_service_are_compared_and_promoted_and_rolled_back(fresh, next_version, monkeypatch):
    """On the same customers, each with its own features; without a person."""
    settings, _ = fresh
    weak = challenge(settings, poisoned_rows(settings), "a" * 64)
    compare_and_promote(settings, weak, who="ann", why="a rehearsal", now=LATER, force=True)
    apply_features(settings)
    newer = settings.model_copy(
        update={"training": settings.training.model_copy(update={"feature_service": next_version})}
    )
    with monkeypatch.context() as changed:
        changed.setitem(SERVICES_OF, next_version, SERVICES_OF[CORE_SERVICE])
        with pytest.raises(TrainingSetError, match=f"{next_version} is registered with another contract"):
            training_set(newer)
    made = challenge(newer, training_set(newer), "b" * 64, LATER + timedelta(days=1))
    manifests = [Bundle.load(settings.home / "bundles" / each.digest).manifest for each in (weak, made)]
    assert [each.service for each in manifests] == [CORE_SERVICE, next_version]
    assert [each.feature_hashes for each in manifests] == [feature_hashes(each.service) for each in manifests]
    done = compare_and_promote(settings, made, who="ann", why="churn train", now=LATER)
    assert (failed(done), done.serves) == ([], True)
    assert "overruled" not in done.entry.details
    assert done.compared.verdict.figures["log_loss_gain"] > 0
    assert roll_back(settings, who="bob", why="too many calls", now=LATER).after["champion"] == weak.digest
    assert sync_aliases(settings) == {"champion": weak.version, "previous": made.version}
    compared = compare_models(settings, made, serving(settings.home), LATER)
    assert "not withdrawn before (rollback by bob: too many calls)" in compared.verdict.why


def test_a_service_that_no_model_reads_is_named(lived):
    settings, _ = lived
    named = settings.training.model_copy(update={"feature_service": "churn_core_v98"})
    with pytest.raises(UnknownServiceError, match="churn_core_v98") as refused:
        training_set(settings.model_copy(update={"training": named}))
    assert CORE_SERVICE in refused.value.hint


def test_the_same_model_of_another_day_does_not_come_back_after_a_rollback(fresh):
    settings, first = fresh
    one, again, other = (
        challenge(asked, training_set(asked), mark * 64, LATER + timedelta(days=day))
        for day, (asked, mark) in enumerate([(seeded(settings, 12), "a"), (seeded(settings, 12), "b"), (settings, "c")])
    )
    assert one.digest != again.digest
    compare_and_promote(settings, one, who="ann", why="a rehearsal", now=LATER, force=True)
    roll_back(settings, who="bob", why="too many calls", now=LATER)
    said = "rollback by bob: too many calls"
    refused = compare_and_promote(settings, again, who="flow", why="", now=LATER).compared.verdict
    assert f"not withdrawn before ({said})" in refused.why
    # Nor does any other by itself.
    refused = compare_and_promote(settings, other, who="flow", why="", now=LATER).compared.verdict
    assert "not withdrawn before" not in refused.why
    assert f"no rollback since ({said}; a person decides: churn promote --force --why)" in refused.why
    assert read_rollout(settings.home).champion == first.digest
    assert compare_and_promote(settings, again, who="ann", why="it was the weather", now=LATER, force=True).serves
    refused = compare_and_promote(settings, other, who="flow", why="", now=LATER).compared.verdict
    assert "no rollback since" not in refused.why


def test_held_out_rows_of_a_training_that_died_are_removed_by_the_next_one(fresh):
    settings, first = fresh
    _, died = fit_and_save_challenger(settings, training_set(settings), LATER)
    challenger = challenge(settings, training_set(settings), "a" * 64, LATER + timedelta(days=1))
    orphan = heldout_path(settings.home, died.digest)
    assert orphan.is_file()
    kept = {heldout_path(settings.home, each.digest) for each in (first, challenger)}
    # While the ledger can't be read nothing is removed: whom it names is not known.
    ledger = settings.home / "ledger" / "ledger.jsonl"
    said = ledger.read_text()
    ledger.write_text(said.replace("churn train", "churn  rain"))
    train_challenger(settings, LATER)
    assert orphan.is_file()
    ledger.write_text(said)
    train_challenger(settings, LATER)
    assert set((settings.home / "heldout").iterdir()) == kept


def test_a_damaged_challenger_is_refused(fresh):
    settings, first = fresh
    made = challenge(settings, training_set(settings), "a" * 64)
    (settings.home / "bundles" / made.digest / "trees.ubj").write_bytes(b"")
    done = compare_and_promote(settings, made, who="ann", why="", now=LATER)
    assert not done.serves
    assert "trees.ubj" in done.compared.verdict.why
    with pytest.raises(BundleError):
        compare_and_promote(settings, made, who="ann", why="I want it", now=LATER, force=True)
    assert read_rollout(settings.home).champion == first.digest


def test_what_is_lost_in_the_home_is_restored_from_mlflow_and_the_data(fresh):
    settings, first = fresh
    before = read_heldout(settings.home, first.digest)
    shutil.rmtree(settings.home / "bundles" / first.digest)
    heldout_path(settings.home, first.digest).unlink()
    assert train_challenger(settings, LATER) == replace(first, fresh=False)
    assert Bundle.load(champion_digest(settings.home)).digest == first.digest
    pd.testing.assert_frame_equal(read_heldout(settings.home, first.digest), before)


def test_what_is_lost_everywhere_is_trained_anew(fresh):
    settings, first = fresh
    shutil.rmtree(settings.home / "bundles" / first.digest)
    for copied in (settings.home / "mlflow" / "artifacts").rglob("trees.ubj"):
        copied.write_bytes(b"damaged")
    made = train_challenger(settings, LATER)
    assert (made.fresh, made.version, made.fingerprint) == (True, "2", first.fingerprint)
    assert Bundle.load(settings.home / "bundles" / made.digest).digest == made.digest
    # From now on it is the one that is found.
    assert train_challenger(settings, LATER) == replace(made, fresh=False)


def test_data_that_land_while_they_are_read_stop_the_training(fresh, monkeypatch):
    settings, _ = fresh
    settings = seeded(settings, 12)

    def landing_meanwhile(asked):
        rows = training_set(asked)
        land(asked, 3, extracts()[3])
        return rows

    monkeypatch.setattr("flows.steps.train.training_set", landing_meanwhile)
    before = current_fingerprint(settings)
    with pytest.raises(DataChangedError) as refused:
        train_challenger(settings, LATER)
    assert refused.value.transient
    assert versions_with(settings, FINGERPRINT, before) == []


def test_without_mlflow_going_back_works_and_the_aliases_follow_later(fresh, port, monkeypatch, caplog):
    settings, first = fresh
    made = challenge(settings, training_set(settings), "a" * 64)
    compare_and_promote(settings, made, who="ann", why="a rehearsal", now=LATER, force=True)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    dead = settings.mlflow.model_copy(update={"tracking_uri": SecretStr(f"http://127.0.0.1:{port}")})
    with caplog.at_level(logging.WARNING, logger="flows.steps.promote"):
        roll_back(settings.model_copy(update={"mlflow": dead}), who="bob", why="calls", now=LATER)
    assert "aliases follow at the next" in caplog.text
    assert read_rollout(settings.home).champion == first.digest
    assert version_of(settings, "champion").version == made.version
    assert sync_aliases(settings) == {"champion": "1", "previous": made.version}
    assert version_of(settings, "champion").version == "1"


def test_old_bundles_stay_for_whoever_must_go_back(lived):
    settings, _ = lived
    for number in ("1", "2", "3"):
        digest = find_version(settings, number).bundle_digest
        assert Bundle.load(settings.home / "bundles" / digest).digest == digest

"""Two versions of a feature service in one home: served, rolled back, kept, refused, removed, checked for parity."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest

from bentos.bundle import Bundle
from bentos.bundle.manifest import bundles_folder
from bentos.churn.metrics import ServiceMetrics
from bentos.churn.runtime.model_manager import ModelManager
from bentos.rollout.rollout import promote, rollback, start_trial, stop_trial
from configs.errors import ChurnError
from feature_repo import definition_hash
from feature_repo.contract import CORE_SERVICE, SERVICES_OF
from feature_repo.stores.materialize import materialize
from feature_repo.stores.registration import registered
from flows.steps.apply_features import ContractInUseError, apply_features, refuse_changes
from flows.steps.check_parity import check_parity
from tests.support.next_version import NEXT, as_next, next_version
from tests.support.patience import until
from tests.support.serving_home import another, build

__all__ = ["next_version"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("next_version")]
CALLERS = 3


@pytest.fixture(scope="module")
def world(tmp_path_factory, telco_csv):
    return build(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, None)


@pytest.fixture
def settings(world, tmp_path):
    """Settings of a copy of the world's home."""
    for part in ("feast", "bundles", "ledger", "offline"):
        shutil.copytree(world.settings.home / part, tmp_path / part)
    return world.settings.model_copy(update={"home": tmp_path})


def known():
    return {"who": "tests", "why": "a test", "now": datetime.now(UTC)}


def lines(settings, **options):
    return list(apply_features(settings, **options).lines())


def follow(models):
    models.refresh(datetime.now(UTC))
    return models.current()


def test_promotion_and_rollback_across_versions_lose_no_answer(settings, world):
    apply_features(settings)
    other = as_next(world.bundle, settings.home, "next", 0.5)
    margin = world.bundle.margin(world.frame)
    truth = {
        model: dict(zip(world.ids, 1 / (1 + np.exp(-margin - shift)), strict=True))
        for model, shift in (("test-1", 0.0), ("next", 0.5))
    }
    models = ModelManager(settings, ServiceMetrics())
    models.current()
    done, found = threading.Event(), []

    def ask(caller):
        ids = world.ids[caller::CALLERS]
        while not done.is_set():
            for each in models.current().predict(ids, datetime.now(UTC), reasons_max=3):
                assert not isinstance(each, ChurnError), each
                body = each.body()
                found.append((body["model_version"], body["customer_id"], body["probability"], len(body["reasons"])))

    def served(model):
        follow(models)
        seen = len(found)
        until(lambda: any(each.done() for each in asking) or any(each[0] == model for each in found[seen:]))
        assert not any(each.done() for each in asking), [each.exception() for each in asking if each.done()]

    with ThreadPoolExecutor(CALLERS) as callers:
        asking = [callers.submit(ask, caller) for caller in range(CALLERS)]
        try:
            for _ in range(2):
                promote(settings.home, other.digest, **known())
                served("next")
                rollback(settings.home, **known())
                served("test-1")
        finally:
            done.set()
        for each in asking:
            each.result()
    models.close()
    assert {model for model, *_ in found} == {"test-1", "next"}
    assert all(reasons for *_, reasons in found)
    assert [probability for *_, probability, _ in found] == pytest.approx(
        [truth[model][customer_id] for model, customer_id, *_ in found], abs=1e-12
    )


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_trial_reads_its_own_version(settings, world, mode):
    apply_features(settings)
    other = as_next(world.bundle, settings.home, "next", 0.0)
    start_trial(settings.home, other.digest, mode=mode, share=0.5, **known())
    models = ModelManager(settings, ServiceMetrics())
    models.current()
    serving = follow(models)
    assert serving.rejected is None
    assert (serving.champion.features.features, serving.trial.challenger.features.features) == (
        world.bundle._wanted,
        other._wanted,
    )
    answers = [each.body() for each in serving.predict(world.ids, datetime.now(UTC), reasons_max=3)]
    scores = world.bundle.score(world.frame)
    assert [each["probability"] for each in answers] == pytest.approx(scores.tolist(), abs=1e-12)
    answered = {each["model_version"] for each in answers}
    assert answered == ({"test-1", "next"} if mode == "canary" else {"test-1"})
    models.close()


def test_a_bundle_is_refused_against_the_version_that_it_names_alone(settings, world, monkeypatch):
    other = as_next(world.bundle, settings.home, "next", 0.0)
    monkeypatch.setitem(SERVICES_OF, NEXT, SERVICES_OF[CORE_SERVICE])
    assert Bundle.load(bundles_folder(settings.home) / world.bundle.digest).digest == world.bundle.digest
    with pytest.raises(ChurnError, match=f"trained on another contract of {NEXT}"):
        Bundle.load(bundles_folder(settings.home) / other.digest)


def test_a_version_is_kept_while_a_bundle_needs_it_and_removed_on_wish(settings, world):
    assert set(registered(settings)) == set(SERVICES_OF) - {NEXT}
    kept = f"{CORE_SERVICE}: kept for bundle {world.bundle.digest[:12]} "
    assert lines(settings) == [f"{kept}(champion, model test-1)"]
    assert set(registered(settings)) == set(SERVICES_OF)
    materialize(settings, datetime.now(UTC))
    parity = check_parity(settings, datetime.now(UTC))
    assert list(parity) == [CORE_SERVICE, NEXT]
    assert all(each.holds and each.customers > len(world.ids) for each in parity.values())

    first, second = (
        as_next(world.bundle, settings.home, f"next-{day}", 0.1 * day, created_at=f"2026-03-0{day}T00:00:00Z")
        for day in (1, 2)
    )
    promote(settings.home, first.digest, **known())
    assert lines(settings, remove_unneeded=True) == [f"{kept}(previous champion, model test-1)"]
    promote(settings.home, second.digest, **known())
    assert lines(settings) == [
        f"{CORE_SERVICE}: no bundle needs it any more; to remove it: churn apply --remove-unneeded"
    ]
    assert CORE_SERVICE in registered(settings)
    (removed,) = lines(settings, remove_unneeded=True)
    assert removed == f"{CORE_SERVICE}: removed; delete it from feature_repo/contract.py"
    assert set(registered(settings)) == set(SERVICES_OF) - {CORE_SERVICE}
    # It does not come back by itself, and the rest is served and compared as before.
    assert lines(settings) == []
    assert list(check_parity(settings, datetime.now(UTC))) == [NEXT]
    models = ModelManager(settings, ServiceMetrics())
    assert models.current().champion.bundle.digest == second.digest
    models.close()


def test_the_newest_bundle_and_one_on_trial_keep_their_version_too(settings, world):
    first = as_next(world.bundle, settings.home, "next-1", 0.1, created_at="2026-03-01T00:00:00Z")
    second = as_next(world.bundle, settings.home, "next-2", 0.2, created_at="2026-03-02T00:00:00Z")
    promote(settings.home, first.digest, **known())
    promote(settings.home, second.digest, **known())
    start_trial(settings.home, world.bundle.digest, mode="shadow", share=0.0, **known())
    assert "challenger on trial" in lines(settings)[0]
    stop_trial(settings.home, **known())
    assert "no bundle needs it any more" in lines(settings)[0]
    made = another(world.bundle, settings.home, "newest", 0.3, created_at="2026-03-03T00:00:00Z")
    assert lines(settings) == [f"{CORE_SERVICE}: kept for bundle {made.digest[:12]} (newest challenger, model newest)"]


def changed_transform(monkeypatch):
    source = definition_hash._transforms()
    monkeypatch.setattr(definition_hash, "_transforms", lambda: source.replace('"(automatic)"', '"(by itself)"'))


def without_version(monkeypatch):
    monkeypatch.delitem(SERVICES_OF, CORE_SERVICE)


def another_order(monkeypatch):
    monkeypatch.setitem(SERVICES_OF, CORE_SERVICE, SERVICES_OF[CORE_SERVICE][::-1])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed_transform, "automatic_payment (feature_repo/transforms.py)"),
        (without_version, f"reads feature service {CORE_SERVICE}, which this code lacks"),
        (another_order, "the order of the features (feature_repo/contract.py)"),
    ],
)
def test_a_change_under_a_name_that_a_bundle_needs_is_refused(settings, world, monkeypatch, change, says):
    before = registered(settings)
    change(monkeypatch)
    definition_hash.feature_hash.cache_clear()
    definition_hash._computation.cache_clear()
    try:
        for command in (apply_features, refuse_changes):
            with pytest.raises(ContractInUseError) as refused:
                command(settings)
            assert f"bundle {world.bundle.digest[:12]} (champion, model test-1): " in refused.value.message
            assert says in refused.value.message
            assert "new version" in refused.value.hint
    finally:
        definition_hash.feature_hash.cache_clear()
        definition_hash._computation.cache_clear()
    assert registered(settings) == before

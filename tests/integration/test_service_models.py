"""What serves in one worker: following the pointer, refusing what is bad, shadow and canary; on a real SQLite store."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import weakref
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bentos.bundle import Bundle
from bentos.bundle.manifest import bundles_folder
from bentos.churn.metrics import ServiceMetrics
from bentos.churn.runtime.model_manager import ModelManager
from bentos.churn.runtime.model_watcher import ModelWatcher
from bentos.churn.trials.canary import Canary, CanaryShare
from bentos.churn.trials.shadow import PATIENCE_S, Shadow
from bentos.churn.trials.trial_counts import TrialCounter
from bentos.prediction.model import load_model, warm_up
from bentos.prediction.predictor import predict_customers
from bentos.rollout.ledger import ledger_path, read_ledger
from bentos.rollout.live_comparison import read_live
from bentos.rollout.pointer import Rollout
from bentos.rollout.rollout import promote, read_rollout, start_trial, stop_trial
from feature_repo.stores.errors import StoreUnavailableError
from tests.support.patience import until
from tests.support.serving_home import EXPIRED, another, as_kind, build

MANY = 120
NEARLY_ALL = 1 - 1e-12
"""Of the customers: a canary of all of them is refused."""


def known():
    return {"who": "tests", "why": "a test", "now": datetime.now(UTC)}


@pytest.fixture(scope="module")
def world(tmp_path_factory, telco_csv):
    return build(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, None)


@pytest.fixture
def settings(world, tmp_path):
    """Settings of a copy of the world's home."""
    for part in ("feast", "bundles", "ledger"):
        shutil.copytree(world.settings.home / part, tmp_path / part)
    return world.settings.model_copy(update={"home": tmp_path})


@pytest.fixture
def other(world, settings):
    return another(world.bundle, settings.home, "other", 0.5)


@pytest.fixture
def models(settings):
    made = ModelManager(settings, ServiceMetrics())
    made.current()
    made.refresh(datetime.now(UTC))
    yield made
    made.close()


def follow(models):
    models.refresh(datetime.now(UTC))
    return models.current()


def test_a_model_that_is_replaced_is_freed_at_once(settings, world):
    """Without the garbage collector, which may not come by for hours: a service that follows promotions would grow."""
    first = load_model(settings, bundles_folder(settings.home) / world.bundle.digest)
    gc.collect()
    gc.disable()
    try:
        model = load_model(settings, bundles_folder(settings.home) / world.bundle.digest, first)
        warm_up(model, datetime.now(UTC))
        assert len(predict_customers(model, world.ids[:MANY], datetime.now(UTC), reasons_max=3)) == MANY
        model.bundle.explain_vectors(model.features.read_batch(world.ids, datetime.now(UTC)).vectors)
        trees = model.bundle.trees
        (tables,) = trees._tables.values()
        parts = (model, model.bundle, trees, trees.booster, tables.trees, tables.trees.columnwise, model.reasons)
        left = [weakref.ref(part) for part in (*parts, model.features)]
        del model, trees, tables, parts
        assert [ref() for ref in left] == [None] * len(left)
    finally:
        gc.enable()


def test_a_request_keeps_the_model_that_it_began_with(models, settings, world, other):
    begun = models.current()
    promote(settings.home, other.digest, **known())
    assert models.current() is begun
    assert follow(models).champion.bundle.digest == other.digest
    (one,), (two,) = (
        each.predict(world.ids[:1], datetime.now(UTC), reasons_max=3) for each in (begun, models.current())
    )
    assert (one.model_version, two.model_version) == ("test-1", "other")
    assert one.probability == pytest.approx(float(world.bundle.score(world.frame.head(1))[0]), abs=1e-12)
    assert two.probability == pytest.approx(float(other.score(world.frame.head(1))[0]), abs=1e-12)


def test_where_nothing_changed_nothing_is_loaded_or_swapped(models):
    before = models.current()
    assert follow(models) == before
    assert models.current().champion is before.champion


def test_a_model_that_serves_already_is_not_loaded_again(models, settings, world, other):
    start_trial(settings.home, other.digest, mode="shadow", share=0, **known())
    shadow = follow(models).trial
    start_trial(settings.home, other.digest, mode="canary", share=0.2, **known())
    canary = follow(models).trial
    assert (type(shadow), type(canary)) == (Shadow, Canary)
    assert canary.challenger is shadow.challenger
    promote(settings.home, other.digest, **known())
    assert follow(models).champion is canary.challenger
    assert models.current().trial is None
    # The store is opened once: each one has a thread and connections that never end.
    assert models.current().champion.features._store is follow(models).champion.features._store


@pytest.mark.parametrize("file", ["manifest.json", "trees.ubj", "linear.json", "trees_design.json"])
def test_a_bad_champion_is_refused_once_and_taken_when_it_was_mended(models, settings, world, other, file, caplog):
    promote(settings.home, other.digest, **known())
    spoilt = settings.home / "bundles" / other.digest / file
    content = spoilt.read_bytes()
    spoilt.write_bytes(content[:-10])
    for _ in range(3):
        serving = follow(models)
        assert serving.champion.bundle.digest == world.bundle.digest
        assert (serving.rejected.digest, serving.rejected.error.error) == (other.digest, "bundle_invalid")
    assert caplog.text.count("refused bundle") == 1
    spoilt.write_bytes(content)
    models._retry_at = time.monotonic()
    assert follow(models).champion.bundle.digest == other.digest
    assert models.current().rejected is None


def test_a_bad_challenger_leaves_the_champion_alone(models, settings, world, other):
    start_trial(settings.home, other.digest, mode="canary", share=NEARLY_ALL, **known())
    (settings.home / "bundles" / other.digest / "linear.json").unlink()
    serving = follow(models)
    assert (serving.trial, serving.rollout.mode, serving.rejected.digest) == (None, "none", other.digest)
    assert [each.role for each in serving.models()] == ["champion"]


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"{")])
def test_without_a_readable_pointer_the_champion_answers_and_a_trial_rests(models, settings, other, spoil):
    start_trial(settings.home, other.digest, mode="canary", share=NEARLY_ALL, **known())
    assert follow(models).trial is not None
    pointer = settings.home / "bundles" / "champion.json"
    content = pointer.read_bytes()
    spoil(pointer)
    serving = follow(models)
    assert (serving.trial, serving.rejected.digest) == (None, None)
    pointer.write_bytes(content)
    assert follow(models).trial is not None
    assert models.current().rejected is None


class Broken(Bundle):
    """A bundle that can't score any more: the fault itself, everything around it is real."""

    def explain_vectors(self, vectors):
        raise MemoryError(f"no room for {len(vectors)} rows")

    score_vectors = explain_vectors


class Stuck(Bundle):
    """A bundle that takes as long as a test holds it."""

    let_go = threading.Event()

    def explain_vectors(self, vectors):
        self.let_go.wait()
        return super().explain_vectors(vectors)


@pytest.fixture(autouse=True)
def _nobody_stays_stuck():
    Stuck.let_go.clear()
    yield
    Stuck.let_go.set()
    until(lambda: not [each for each in threading.enumerate() if each.name == "churn-canary"])


def beside(world, settings, kind, bundle):
    """The world's champion, and a challenger of that kind."""
    models = ModelManager(settings, ServiceMetrics())
    champion = models.current().champion
    return champion, replace(champion, bundle=as_kind(kind, bundle))


def counting(settings, bundle, mode):
    trial = Rollout("0" * 64, "v", None, bundle.digest, mode, 1.0, 9)
    return TrialCounter(settings.home, trial, ServiceMetrics())


def canary(settings, challenger, bundle, *, share=1.0, limit_s=10.0):
    customers = CanaryShare(bundle.digest, share)
    return Canary(challenger, counting(settings, bundle, "canary"), customers=customers, reasons_max=3, limit_s=limit_s)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_canary_s_answers_are_each_of_the_model_that_they_name(settings, world, other, share):
    champion, challenger = beside(world, settings, Bundle, other)
    trial = canary(settings, challenger, other, share=share)
    ids = [*world.ids[:20], EXPIRED, "nobody", *world.ids[:20]]
    found = trial.predict(champion, ids, datetime.now(UTC))
    takes = CanaryShare(other.digest, share).takes
    for model in (world.bundle, other):
        expected = dict(zip(world.ids, model.score(world.frame), strict=True))
        for customer_id, each in zip(ids, found, strict=True):
            if customer_id in expected and takes(customer_id) == (model is other):
                assert each.customer_id == customer_id
                assert each.model_version == model.manifest.model_version
                assert each.probability == pytest.approx(expected[customer_id], abs=1e-12)
    assert [each.error for each in found[20:22]] == ["features_expired", "customer_unknown"]
    assert len({each.prediction_id for each in (*found[:20], *found[22:])}) == 40
    counts = trial.counting.snapshot()
    theirs = sum(map(takes, world.ids[:20]))
    # Customers, each once; whom nobody can score is nobody's failure.
    assert (counts.challenger.answered, counts.champion.answered) == (theirs, 20 - theirs)
    assert (counts.challenger.failed, counts.champion.failed) == (0, 0)


@pytest.mark.parametrize(("kind", "limit_s"), [(Broken, 10.0), (Stuck, 0.1)])
def test_where_the_challenger_fails_the_champion_answers(settings, world, other, kind, limit_s, caplog):
    champion, challenger = beside(world, settings, kind, other)
    trial = canary(settings, challenger, other, share=0.5, limit_s=limit_s)
    for _ in range(2):
        found = trial.predict(champion, world.ids[:20], datetime.now(UTC))
        assert {each.model_version for each in found} == {"test-1"}
    theirs = sum(map(CanaryShare(other.digest, 0.5).takes, world.ids[:20]))
    counts = trial.counting.snapshot()
    assert (counts.challenger.failed, counts.challenger.answered) == (2 * theirs, 0)
    assert (counts.champion.failed, counts.champion.answered) == (0, 40)
    assert caplog.text.count("the challenger in canary failed") == 1
    assert not any(each in caplog.text for each in world.ids[:20])


def test_a_challenger_that_never_comes_back_holds_up_a_few_requests_and_then_none(settings, world, other):
    champion, challenger = beside(world, settings, Stuck, other)
    trial = canary(settings, challenger, other, limit_s=0.05)
    for _ in range(8):
        trial.predict(champion, world.ids[:1], datetime.now(UTC))
    trial._limit_s = 60  # who waited now would have its answer in the end
    trial.predict(champion, world.ids[:1], datetime.now(UTC))
    assert trial.counting.snapshot().challenger.failed == 9


@pytest.mark.parametrize("mode", ["canary", "shadow"])
def test_models_are_timed_by_what_they_compute_and_not_by_the_clock(settings, world, other, shadows, mode):
    """Half a second of waiting, as for an interpreter that another has, is nobody's slowness."""
    champion, challenger = beside(world, settings, Stuck, other)
    if mode == "canary":
        trial = canary(settings, challenger, other)
    else:
        trial = shadows(settings, challenger, other)
        champion = replace(champion, bundle=as_kind(Stuck, world.bundle))
    threading.Timer(0.5, Stuck.let_go.set).start()
    trial.predict(champion, world.ids[:1], datetime.now(UTC))
    until(lambda: trial.counting.snapshot().challenger.timed_requests == 1)
    counts = trial.counting.snapshot()
    timed = [each.p50_ms() for each in (counts.champion, counts.challenger) if each.timed_requests]
    assert len(timed) == (1 if mode == "canary" else 2)
    assert max(timed) < 250


def test_where_both_fail_the_caller_is_told_and_both_are_counted(settings, world, other):
    _, challenger = beside(world, settings, Broken, other)
    champion = replace(challenger, bundle=as_kind(Broken, world.bundle))
    trial = canary(settings, challenger, other)
    with pytest.raises(MemoryError):
        trial.predict(champion, world.ids[:3], datetime.now(UTC))
    counts = trial.counting.snapshot()
    assert (counts.challenger.failed, counts.champion.failed) == (3, 3)


@pytest.fixture
def shadows():
    """Makes shadows; ends them."""
    made = []

    def make(settings, challenger, bundle, room=1000, patience_s=PATIENCE_S):
        counted = counting(settings, bundle, "shadow")
        made.append(Shadow(challenger, counted, reasons_max=3, room=room, patience_s=patience_s))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_shadow_compares_whom_both_can_score(settings, world, other, shadows):
    champion, challenger = beside(world, settings, Bundle, other)
    trial = shadows(settings, challenger, other)
    found = trial.predict(champion, [*world.ids[:MANY], EXPIRED, world.ids[0]], datetime.now(UTC))
    assert {each.model_version for each in found[:MANY]} == {"test-1"}
    until(lambda: trial.counting.snapshot().compared == MANY)
    trial.predict(champion, world.ids[:1], datetime.now(UTC))
    until(lambda: trial.counting.snapshot().compared == MANY + 1)
    counts = trial.counting.snapshot()
    ours, theirs = (bundle.score(world.frame.head(MANY)) for bundle in (world.bundle, other))
    total = abs(ours - theirs).sum() + abs(ours[0] - theirs[0])
    assert counts.figures().mean_difference == pytest.approx(total / (MANY + 1), abs=1e-8)
    # Of one request for one customer the time is told, of many it is not.
    assert (counts.champion.timed_requests, counts.challenger.timed_requests) == (1, 1)
    trial.save()
    assert read_live(settings.home, other.digest) == counts


@pytest.mark.parametrize("kind", [Broken, Stuck])
def test_a_shadow_never_delays_or_fails_an_answer(settings, world, other, shadows, kind, caplog):
    champion, challenger = beside(world, settings, kind, other)
    trial = shadows(settings, challenger, other, room=30)
    champion_alone = shadows(settings, challenger, other, room=0)
    champion_alone.predict(champion, world.ids[:20], datetime.now(UTC))
    # Answers come while the stuck one is held, and it is held until the trial ends.
    threading.Thread(target=lambda: (trial._ended.wait(), Stuck.let_go.set())).start()
    for _ in range(3):
        found = trial.predict(champion, world.ids[:20], datetime.now(UTC))
        assert {each.model_version for each in found} == {"test-1"}
    assert not Stuck.let_go.is_set()
    trial.close()
    counts = trial.counting.snapshot()
    # 30 may wait; those beyond, and who waited at the end, are counted and left out.
    assert counts.dropped + counts.compared + counts.challenger.failed == 60
    assert counts.dropped >= 20
    assert champion_alone.counting.snapshot().dropped == 20
    if kind is Broken:
        assert counts.compared == 0
        assert caplog.text.count("the challenger in shadow failed") <= 1
    # After its end it takes nobody any more.
    trial.predict(champion, world.ids[:1], datetime.now(UTC))
    assert trial.counting.snapshot().dropped == counts.dropped + 1


@pytest.mark.parametrize(("patience_s", "waits"), [(600.0, True), (0.0, False)])
def test_a_shadow_waits_for_a_quiet_moment(settings, world, other, shadows, patience_s, waits):
    """While a request is under way its work rests, up to its patience."""
    champion, challenger = beside(world, settings, Bundle, other)
    trial = shadows(settings, challenger, other, patience_s=patience_s)
    slow = replace(champion, bundle=as_kind(Stuck, world.bundle))
    long = threading.Thread(target=trial.predict, args=(slow, world.ids[:1], datetime.now(UTC)))
    long.start()
    until(lambda: trial._requests == 1)
    trial.predict(champion, world.ids[1:2], datetime.now(UTC))
    if waits:
        time.sleep(0.3)
        assert trial.counting.snapshot().compared == 0
        Stuck.let_go.set()
    until(lambda: trial.counting.snapshot().compared >= 1)
    assert Stuck.let_go.is_set() == waits
    Stuck.let_go.set()
    long.join()


def test_a_canary_that_fails_is_ended_for_all_workers_by_whoever_sees_it_first(settings, world, other):
    promote(settings.home, world.bundle.digest, **known())
    trial = start_trial(settings.home, other.digest, mode="canary", share=NEARLY_ALL, **known())
    workers = [ModelManager(settings, ServiceMetrics()) for _ in range(2)]
    for worker in workers:
        worker.current()
        serving = follow(worker)
        worker._serving = replace(serving, trial=canary_of(serving, Broken))
    # Each sees a few failures, which may be chance; together they are too many.
    for worker in workers:
        for each in world.ids[:4]:
            worker.current().predict([each], datetime.now(UTC), reasons_max=3)
    assert follow(workers[0]).trial is not None
    assert follow(workers[1]).trial is None
    assert follow(workers[0]).trial is None
    ended = read_ledger(settings.home)[-1]
    assert (ended.sequence, ended.action, ended.who) == (trial.sequence + 1, "abort", "service")
    assert ended.details["error_rate"] == 1
    # Begun again, it is judged by what it does then.
    start_trial(settings.home, other.digest, mode="canary", share=NEARLY_ALL, **known())
    assert follow(workers[0]).trial is not None
    assert follow(workers[0]).trial is not None
    for worker in workers:
        worker.close()


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_trial_that_nobody_watches_is_ended_in_time_and_once(settings, world, other, mode):
    now = datetime.now(UTC)
    trial = start_trial(
        settings.home, other.digest, mode=mode, share=NEARLY_ALL, ends_at=now + timedelta(hours=1), **known()
    )
    workers = [ModelManager(settings, ServiceMetrics()) for _ in range(2)]
    for worker in workers:
        worker.current()
        worker.refresh(now)
        assert worker.current().trial is not None
    late = now + timedelta(hours=1)
    for worker in workers:
        worker.refresh(late)
        assert worker.current().trial is None
    ended = read_ledger(settings.home)[-1]
    assert (ended.sequence, ended.action, ended.who) == (trial.sequence + 1, "stop", "service")
    assert ended.why.startswith("its time was over at ")
    assert read_rollout(settings.home).mode == "none"
    # A trial that begins afterwards is not meant.
    start_trial(settings.home, other.digest, mode=mode, share=NEARLY_ALL, ends_at=late + timedelta(hours=1), **known())
    for worker in workers:
        worker.refresh(late)
        assert worker.current().trial is not None
        worker.close()


def test_a_trial_whose_end_can_not_be_written_is_left_by_this_worker(models, settings, other, caplog):
    now = datetime.now(UTC)
    start_trial(settings.home, other.digest, mode="shadow", share=0, ends_at=now + timedelta(hours=1), **known())
    assert follow(models).trial is not None
    whole = ledger_path(settings.home).read_bytes()
    ledger_path(settings.home).write_bytes(whole[1:])
    for _ in range(2):
        models.refresh(now + timedelta(hours=1))
        assert models.current().trial is None
    assert caplog.text.count("ended in this worker alone") == 1
    assert read_rollout(settings.home).mode == "shadow"
    ledger_path(settings.home).write_bytes(whole)


def canary_of(serving, kind):
    """The same trial with a challenger that has the fault."""
    real = serving.trial
    model = replace(real.challenger, bundle=as_kind(kind, real.challenger.bundle))
    return Canary(model, real.counting, customers=real._customers, reasons_max=3, limit_s=10)


def test_a_canary_that_can_not_be_ended_for_all_is_left_by_this_worker(models, settings, world, other, caplog):
    start_trial(settings.home, other.digest, mode="canary", share=NEARLY_ALL, **known())
    serving = follow(models)
    models._serving = replace(serving, trial=canary_of(serving, Broken))
    for each in world.ids[:5]:
        models.current().predict([each], datetime.now(UTC), reasons_max=3)
    whole = ledger_path(settings.home).read_bytes()
    ledger_path(settings.home).write_bytes(whole[1:])
    for _ in range(2):
        assert follow(models).trial is None
    assert caplog.text.count("ended in this worker alone") == 1
    assert read_rollout(settings.home).mode == "canary"
    ledger_path(settings.home).write_bytes(whole)
    stop_trial(settings.home, **known())


@pytest.mark.parametrize("spoil", ["another worker's counts", "no room for ours"])
def test_where_the_counts_of_all_are_not_to_be_had_a_worker_judges_by_its_own(models, settings, world, other, spoil):
    start_trial(settings.home, other.digest, mode="canary", share=NEARLY_ALL, **known())
    serving = follow(models)
    models._serving = replace(serving, trial=canary_of(serving, Broken))
    folder = settings.home / "rollout" / other.digest
    if spoil == "no room for ours":
        folder.parent.mkdir(exist_ok=True)
        folder.write_text("a file where the folder should be")
    else:
        folder.mkdir(parents=True)
        (folder / f"{serving.rollout.sequence:08d}-x.json").write_text("{")
    for each in world.ids[:5]:
        models.current().predict([each], datetime.now(UTC), reasons_max=3)
    assert follow(models).trial is None
    assert read_ledger(settings.home)[-1].action == "abort"


def test_a_store_that_is_down_keeps_the_old_model_and_is_named(models, settings, world, other):
    """Nobody swaps to what could not be tried."""
    promote(settings.home, other.digest, **known())
    online = settings.home / "feast" / "online.db"
    content = online.read_bytes()
    online.write_bytes(b"no database" * 1000)
    serving = follow(models)
    assert serving.champion.bundle.digest == world.bundle.digest
    assert serving.rejected.error.error == StoreUnavailableError.error
    online.write_bytes(content)
    models._retry_at = time.monotonic()
    assert follow(models).champion.bundle.digest == other.digest


def test_a_watcher_ends_with_its_worker_and_survives_what_it_meets(settings, world, other):
    start_trial(settings.home, other.digest, mode="shadow", share=0, **known())
    before = set(threading.enumerate())
    models = ModelManager(settings, ServiceMetrics())
    watcher = ModelWatcher(models, 0.05)
    until(lambda: (serving := models.current_or_none()) is not None and serving.trial is not None)
    assert {"churn-watcher", "churn-shadow"} <= {thread.name for thread in threading.enumerate()}
    promote(settings.home, other.digest, **known())
    until(lambda: models.current_or_none().champion.bundle.digest == other.digest)
    watcher.stop()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {name for name in left if name.startswith("churn-")}

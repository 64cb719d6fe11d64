"""Two workers under load while models come and go: every answer is whole and of the model that it names."""

from __future__ import annotations

import re
import shutil
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from bentos.bundle import Bundle
from bentos.bundle.design_matrix import Factor, Term
from bentos.churn.trials.canary import CanaryShare
from bentos.psi import psi
from bentos.rollout.ledger import read_ledger
from bentos.rollout.live_comparison import SCORE_BINS, read_live
from bentos.rollout.rollout import promote, read_rollout, rollback, start_trial, stop_trial
from flows.service_process import ServiceProcess, free_port, request_json
from tests.support.patience import PATIENCE_S, until
from tests.support.serving_home import Served, World, another, build, point_at, serving

WORKERS = 2
CALLERS = 4
SWAPS = 20
SWAPPED = 'churn_model_swaps_total{outcome="swapped"}'


def known(why="a test"):
    return {"who": "tests", "why": why, "now": datetime.now(UTC)}


@pytest.fixture(scope="module")
def home(tmp_path_factory, telco_csv):
    """A copy of the world: its champion changes here, and nowhere else."""
    original = build(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, None)
    copied = tmp_path_factory.mktemp("rollout")
    for part in ("feast", "bundles", "ledger"):
        shutil.copytree(original.settings.home / part, copied / part)
    return replace(original, settings=original.settings.model_copy(update={"home": copied}))


@pytest.fixture(scope="module")
def models(home):
    """Bundles by model version, each with scores of its own."""
    world = home.settings.home
    shifts = {"red": 0.4, "green": -0.4, "blue": 0.8, "last": -0.8}
    made = {
        # Another threshold, too: a mixture of two models in one answer would show.
        name: another(home.bundle, world, name, shift, threshold=0.3 + shift / 10)
        for name, shift in shifts.items()
    }
    return {"test-1": home.bundle, **made}


@pytest.fixture(scope="module")
def service(home):
    """Two workers that look ten times a second."""
    rules = home.settings.rollout.model_copy(update={"canary_requests_min": 100})
    settings = serving(home.settings, port=free_port(), workers=WORKERS, reload_interval_s=0.1)
    with ServiceProcess(settings.model_copy(update={"rollout": rules})) as running:
        running.wait("/readyz", PATIENCE_S)
        yield Served(home, running)


@pytest.fixture(autouse=True)
def _the_first_champion(home):
    """Each test begins with the world's own champion and no trial."""
    promote(home.settings.home, home.bundle.digest, **known())
    stop_trial(home.settings.home, **known())


@pytest.fixture
def truth(home, models):
    """What each model says of each customer, computed here."""
    return {
        name: dict(zip(home.ids, map(float, bundle.score(home.frame)), strict=True)) for name, bundle in models.items()
    }


def metadata(service):
    return request_json(service.url + "/metadata")[1]


def settled(service, digest, mode="none", challenger=None):
    """Wait until both workers serve them. Which worker answers a request is the system's choice: each logs it."""
    wanted = read_rollout(service.world.settings.home)
    assert (wanted.champion, wanted.mode, wanted.challenger) == (digest, mode, challenger)
    until(lambda: service.log().count(f"ledger entry {wanted.sequence} is in force here") == WORKERS)


@dataclass
class Load:
    """Callers that ask without a pause and keep every answer."""

    world: World
    url: str
    size: int = 1
    answers: list[list[dict]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self):
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CALLERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number):
        order = np.random.default_rng(number)
        while not self._ended.is_set():
            ids = [str(each) for each in order.choice(self.world.ids, self.size, replace=False)]
            # A connection of its own each time: it falls to either worker.
            status, answer = request_json(self.url + "/predict/batch", {"customer_ids": ids})
            if status == 200:
                self.answers.append(answer["results"])
            else:
                self.failures.append(f"{status} {answer}")


def metric(service, name):
    """The value of a series, 0 where it is not there yet."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", service.get("/metrics").text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def test_hot_swap_under_load_with_both_workers(service, home, models, truth):
    settled(service, home.bundle.digest)
    before = metric(service, SWAPPED)
    names = ["red" if number % 2 else "green" for number in range(SWAPS - 1)]
    with Load(home, service.url, size=5) as load:
        for name in names:
            followed = metric(service, SWAPPED)
            promote(home.settings.home, models[name].digest, **known(f"to {name}"))
            # By one worker; the other may meet the next one first.
            until(lambda followed=followed: metric(service, SWAPPED) > followed)
        promote(home.settings.home, models["last"].digest, **known("to the last"))
        # Served never before: a worker that writes this line has swapped, and there are two of them.
        until(lambda: service.log().count("serving model last, bundle") == WORKERS)
        settled_at = len(load.answers) + len(load.failures)
        until(lambda: len(load.answers) > settled_at + 20)
    assert load.failures == []
    versions = [{entry["model_version"] for entry in answer} for answer in load.answers]
    assert all(len(each) == 1 for each in versions)
    assert set().union(*versions) >= {"red", "green", "last"}
    # Of what was under way when the second worker had swapped, one answer a caller may be older.
    assert set().union(*versions[settled_at + CALLERS :]) == {"last"}
    for entry in (entry for answer in load.answers for entry in answer):
        expected = truth[entry["model_version"]][entry["customer_id"]]
        assert entry["probability"] == pytest.approx(expected, abs=1e-9)
        assert entry["threshold"] == models[entry["model_version"]].manifest.threshold
        assert entry["label"] == ("churn" if entry["probability"] >= entry["threshold"] else "stay")
    assert len(load.answers) > 100
    # Both workers followed all along, not at the end alone; two promotions in one look are one swap.
    assert metric(service, SWAPPED) - before > SWAPS
    assert not re.search(r"(?i)traceback|unexpected", service.log())


def test_metrics_name_the_models_of_now_and_not_those_before(service, home, models):
    for name in ("red", "green"):
        promote(home.settings.home, models[name].digest, **known())
        settled(service, models[name].digest)
    start_trial(home.settings.home, models["blue"].digest, mode="shadow", share=0, **known())
    settled(service, models["green"].digest, "shadow", models["blue"].digest)
    shown = [line for line in service.get("/metrics").text.splitlines() if line.startswith("churn_model_info{")]
    green, blue = (models[name].digest[:12] for name in ("green", "blue"))
    assert shown == [
        f'churn_model_info{{bundle="{green}",mode="none",model_version="green",role="champion"}} 1.0',
        f'churn_model_info{{bundle="{blue}",mode="shadow",model_version="blue",role="challenger"}} 1.0',
    ]


def test_a_rollback_is_one_call_and_reaches_both_workers(service, home, models):
    promote(home.settings.home, models["red"].digest, **known())
    settled(service, models["red"].digest)
    rollback(home.settings.home, **known("worse"))
    settled(service, home.bundle.digest)


def test_a_shadow_s_counts_are_those_of_a_recomputation(service, home, models, truth):
    challenger = models["blue"]
    promote(home.settings.home, home.bundle.digest, **known())
    trial = start_trial(home.settings.home, challenger.digest, mode="shadow", share=0, **known())
    settled(service, home.bundle.digest, "shadow", challenger.digest)
    with Load(home, service.url) as load:
        until(lambda: len(load.answers) >= 150)
    assert load.failures == []
    asked = [entry for answer in load.answers for entry in answer]
    # Nobody sees the challenger.
    assert {entry["model_version"] for entry in asked} == {"test-1"}

    def live():
        return read_live(home.settings.home, challenger.digest, since=trial.sequence)

    counts = until(lambda: (found := live()).compared + found.dropped == len(asked) and found)
    assert counts.dropped == 0
    ours, theirs = (np.array([truth[name][entry["customer_id"]] for entry in asked]) for name in ("test-1", "blue"))
    labels = [each >= models[name].manifest.threshold for each, name in ((ours, "test-1"), (theirs, "blue"))]
    figures = counts.figures()
    assert counts.agreeing == int((labels[0] == labels[1]).sum())
    assert figures.agreement < 1
    assert figures.mean_difference == pytest.approx(float(np.abs(ours - theirs).mean()), abs=1e-8)
    bins = [np.bincount((each * SCORE_BINS).astype(int), minlength=SCORE_BINS) for each in (ours, theirs)]
    assert figures.score_psi == psi(*bins)
    assert (figures.error_rate, figures.champion_error_rate) == (0, 0)
    assert counts.champion.timed_requests == counts.challenger.timed_requests == len(asked)
    assert sum(counts.ratios) == len(asked)


def test_a_canary_answers_for_its_customers_and_no_others(service, home, models, truth):
    challenger, share = models["blue"], 0.3
    trial = start_trial(home.settings.home, challenger.digest, mode="canary", share=share, **known())
    settled(service, home.bundle.digest, "canary", challenger.digest)
    with Load(home, service.url, size=3) as load:
        until(lambda: len(load.answers) >= 60)
    assert load.failures == []
    takes = CanaryShare(challenger.digest, share).takes
    asked = [entry for answer in load.answers for entry in answer]
    for entry in asked:
        name = "blue" if takes(entry["customer_id"]) else "test-1"
        assert entry["model_version"] == name
        assert entry["probability"] == pytest.approx(truth[name][entry["customer_id"]], abs=1e-9)

    def live():
        return read_live(home.settings.home, challenger.digest, since=trial.sequence)

    counts = until(lambda: (found := live()).challenger.answered + found.champion.answered == len(asked) and found)
    assert counts.challenger.answered == sum(takes(entry["customer_id"]) for entry in asked)
    assert read_rollout(home.settings.home).mode == "canary"


def failing(bundle: Bundle, home) -> Bundle:
    """A bundle that is sound, loads, scores the zeros of a warm-up, and has no number for a customer with charges."""
    huge = tuple(Term(f"huge_{number}", (Factor("total_charges_usd", "number"),)) for number in range(2))
    linear = replace(
        bundle.linear,
        design=(*bundle.linear.design, *huge),
        mean=np.append(bundle.linear.mean, [0.0, 0.0]),
        scale=np.append(bundle.linear.scale, [1e-300, 1e-300]),
        coefficients=np.append(bundle.linear.coefficients, [1e300, -1e300]),
    )
    changed = replace(bundle.manifest, model_version="failing")
    return replace(bundle, linear=linear, manifest=changed).save(home)


def slow(bundle: Bundle, home) -> Bundle:
    """A bundle of so many columns that computing them takes its time; they add nothing to any score."""
    count = 40_000
    factors = (Factor("tenure_months", "number"),) * 20
    many = tuple(Term(f"many_{number}", factors) for number in range(count))
    linear = replace(
        bundle.linear,
        design=(*bundle.linear.design, *many),
        mean=np.append(bundle.linear.mean, np.zeros(count)),
        scale=np.append(bundle.linear.scale, np.ones(count)),
        coefficients=np.append(bundle.linear.coefficients, np.zeros(count)),
    )
    changed = replace(bundle.manifest, model_version="slow")
    return replace(bundle, linear=linear, manifest=changed).save(home)


@pytest.mark.parametrize(
    ("challenger_of", "says"), [(failing, "failed for"), (slow, "times the champion's")], ids=["fails", "is slow"]
)
def test_a_bad_canary_is_ended_by_the_service_and_no_caller_sees_it(service, home, truth, challenger_of, says):
    challenger = challenger_of(home.bundle, home.settings.home)
    before = metric(service, "churn_trial_aborts_total")
    trial = start_trial(home.settings.home, challenger.digest, mode="canary", share=0.4, **known())
    settled(service, home.bundle.digest, "canary", challenger.digest)
    with Load(home, service.url) as load:
        until(lambda: read_rollout(home.settings.home).mode == "none")
        settled(service, home.bundle.digest)
    assert load.failures == []
    for (entry,) in load.answers:
        assert entry["model_version"] in {"test-1", challenger.manifest.model_version}
        assert entry["probability"] == pytest.approx(truth["test-1"][entry["customer_id"]], abs=1e-9)
    if challenger_of is failing:
        assert {entry["model_version"] for (entry,) in load.answers} == {"test-1"}
    ended = read_ledger(home.settings.home)[-1]
    assert (ended.action, ended.who, ended.sequence) == ("abort", "service", trial.sequence + 1)
    assert says in ended.why
    assert ended.details["challenger"] == challenger.digest
    assert ended.after["champion"] == home.bundle.digest
    assert metric(service, "churn_trial_aborts_total") == before + 1


def test_metadata_tells_the_roll_out(service, home, models):
    start_trial(home.settings.home, models["red"].digest, mode="canary", share=0.25, **known())
    settled(service, home.bundle.digest, "canary", models["red"].digest)
    assert metadata(service)["rollout"] == {
        "champion": home.bundle.digest,
        "challenger": models["red"].digest,
        "mode": "canary",
        "share": 0.25,
        "refused": None,
    }


def test_a_pointer_to_nothing_is_told_and_changes_no_answer(service, home):
    settled(service, home.bundle.digest)
    point_at(home.settings.home, "0" * 64)
    found = until(lambda: metadata(service)["rollout"]["refused"])
    assert (found["bundle_digest"], found["error"]["error"]) == ("0" * 64, "bundle_invalid")
    assert service.get("/health").json()["status"] == "ok"
    assert service.predict(home.ids[0]).json()["model_version"] == "test-1"
    # Whoever promotes next finds what a person wrote, and says so.
    assert promote(home.settings.home, home.bundle.digest, **known()).before["champion"] == "0" * 64
    settled(service, home.bundle.digest)
    until(lambda: metadata(service)["rollout"]["refused"] is None)

"""The batch scoring flow: score every active customer, in chunks, to Parquet.

See docs/decisions/0022-whole-base-runs.md.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, task

from bentos.batch import score_base as scoring
from bentos.batch.summary import advice, coverage
from configs.settings import load_settings
from flows.pipeline.artifacts import bullets, facts, publish
from flows.pipeline.policy import FLOW, TASK, Now, resolve_now, start_run, to_json_dict


@flow(name="score_base", flow_run_name="score base", timeout_seconds=12 * 3600, **FLOW)
def score_base(now: Now = None) -> dict[str, Any]:
    """Score every active customer with the champion, as of now; resumes a killed run.

    Returns the summary of the run: its folder, customers scored, and counts of those without a score, by reason.

    Args:
        now: The instant that the run works as of, with its time zone; empty: the present moment.
    """
    start_run()
    done: dict[str, Any] = score_everyone(resolve_now(now))
    return done


@task(name="score everyone", **TASK)
def score_everyone(now: datetime) -> dict[str, Any]:
    """Write the missing chunks and publish all of them together."""
    done = scoring.score_base(load_settings(), now)
    told = to_json_dict(done)
    assumptions = told["economics"]
    shown = {name: value for name, value in told.items() if name != "economics"}
    publish(
        "score-run",
        "Scores of the whole base",
        [
            bullets([*coverage(done), *advice(done)]),
            facts(shown),
            "Assumptions, from configs/economics.toml:",
            facts(assumptions),
            "A list for people: `uv run churn score-base --csv FILE` or `--excel FILE`.",
        ],
    )
    return told

"""How fast predictions with reasons are, side by side: `uv run poe bench-serve [--write]`, `uv run poe bench-shap`.

Over HTTP, in process, explanations alone, and large bodies that are checked; ours, the usual way, the usual way tuned,
and the floor, in one run, the contenders taking turns. Ratios are those of a round's own figures: median, lowest,
highest. Each figure is printed and kept as it comes; a peer that fails is a row that says so, ours failing is an error
at the end. `--write` puts the tables into docs/performance.md, `--quick` tries everything on little.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from flows.service_process import service_environment
from tests.bench.record import Entry, Record, options, report
from tests.bench.serving import body_checks, in_process, machine, over_http, peers, tables, tree_explanations, world

PARTS = ("http", "inside", "shap", "bodies")
FEW = frozenset({over_http.OURS, over_http.LIVEZ, over_http.USUAL, over_http.FLOOR})
QUICK = {"servers": FEW, "customers": 400, "trees": 20, "rounds": 1, "seconds": 0.5, "rows": 2000, "limit_s": 1.0}


def serving(given: argparse.Namespace, folder: Path, record: Record) -> list[str]:
    """Return the section about HTTP and about the work in process."""
    available, busy = machine.cores(), os.getloadavg()[0]
    # One core for Redis and the load, one for the server under test, where there are two.
    app, beside = available[-1:], available[:1]
    lines, reached = ["## Serving", ""], []
    with machine.redis_server(folder / "redis-data", beside) as port:
        built = world.build(folder, port, given.customers, given.trees)
        precomputed = record.attempt("Feast's precomputed vectors", "precompute", peers.precompute, built.redis)
        if "http" in given.parts:
            with over_http.contenders(built, app, available, record, given.servers) as ready:
                found = over_http.measure(
                    ready,
                    built,
                    record,
                    shapes=over_http.SHAPES,
                    rounds=given.rounds,
                    seconds=given.seconds,
                    cores=beside,
                )
            lines += ["### Over HTTP", "", _where(given, built, available, busy), ""]
            lines += [line for shape, each in found.items() for line in tables.http(shape, each)]
            lines += [_precomputed(*precomputed), ""] if precomputed else []
            reached += tables.http_goals(found)
        if "inside" in given.parts:
            with machine.on(app):
                asked = {"rounds": given.rounds, "seconds": given.seconds / 2}
                entries = _run("in_process", asked, record, service_environment(built.redis))
            figures = in_process.by_way(entries, given.rounds)
            lines += ["### In process", "", *tables.inside(figures, in_process.WHOLE, in_process.FLOOR)]
            lines += ["The online read alone:", "", *tables.inside(figures, in_process.READS, in_process.RAW)]
            reached += tables.inside_goals(figures)
    return [*lines, "### Goals of serving", "", *tables.goals(reached)]


def explanations(given: argparse.Namespace, record: Record) -> list[str]:
    """Return the section about explanations."""
    asked = {"rows": given.rows, "rounds": given.rounds, "trees": given.trees, "limit_s": given.limit_s}
    found = tree_explanations.by_way(_run("tree_explanations", asked, record, None), given.rounds, given.trees)
    return [
        "## Explanations",
        "",
        (
            f"`uv run poe bench-shap`: {given.trees} trees as the project trains them, and deeper ones;"
            f" {given.rounds} interleaved rounds. One row: the median of 200. Many: up to {given.rows:,} rows, or as"
            f" many as a way explains in {given.limit_s:g} s. A difference is that of a contribution in log-odds from"
            f" `pred_contribs`, which adds in float32. shap.TreeExplainer hands plain XGBoost trees to `pred_contribs`."
        ),
        "",
        *tables.explained(found),
        *tables.goals(tables.explained_goals(found)),
    ]


def bodies(given: argparse.Namespace, record: Record) -> list[str]:
    """Return the section about large bodies."""
    busy = os.getloadavg()[0]
    return [
        "## Large bodies",
        "",
        (
            f"`uv run poe bench-serve --parts bodies`: {body_checks.BATCHES} bad batches of"
            f" {body_checks.BODY_BYTES >> 10} KiB at once in one process; {given.rounds} interleaved rounds, each with"
            " its longest time without a turn of the event loop, in which no other request is answered: median, lowest,"
            f" highest. Before it began the machine's load was {busy:.1f}."
        ),
        "",
        *tables.checked(_run("body_checks", {"rounds": given.rounds}, record, None), given.rounds),
    ]


def _run(module: str, asked: dict[str, Any], record: Record, environ: dict[str, str] | None) -> list[Entry]:
    """Return what a measuring module records, run in a process of its own."""
    return record.follow([sys.executable, "-m", f"tests.bench.serving.{module}", json.dumps(asked)], environ)


def _where(given: argparse.Namespace, built: world.World, available: list[int], busy: float) -> str:
    shared = (
        f"Redis and the load generator on core {available[0]}, the server under test on core {available[-1]};"
        " that with two workers has both, and shares the first with them."
        if len(available) > 1
        else "Redis, the load generator and the servers share what cores there are."
    )
    return (
        f"`uv run poe bench-serve`: {built.source}, {given.trees} trees of depth 3 (5 where it says so), three reasons"
        f" an answer; {given.rounds} interleaved rounds of {given.seconds:g} s each. Ours is `churn serve` with API"
        " keys, rate limit, receipts and metrics on. The usual way is a BentoML service with Feast's SDK, a data"
        " frame, a scikit-learn pipeline and shap.TreeExplainer, all made once. Tuned: dictionaries, one matrix,"
        " `pred_contribs`, the garbage collector frozen, no traces, metrics and access log. Both have trees like ours,"
        " and none of its linear part, calibration, levers and receipts. XGBoost has one thread everywhere. The load"
        f" generator (tests/bench/serving/load.py) is one process that keeps its connections open. {shared}"
        f" Before it began the machine's load was {busy:.1f}."
    )


def _precomputed(vectors: int, seconds: float, refused: str) -> str:
    return (
        f"Feast computed {vectors:,} vectors in {seconds:.1f} s. For the project's own feature service it refuses:"
        f" “{refused}” The stored features alone are precomputed here, and the peer derives the rest itself."
    )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["http", "inside"])
    parser.add_argument("--customers", type=int, default=7043)
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to explain")
    parser.add_argument("--limit-s", type=float, default=60.0, help="a way that needs longer explains fewer rows")
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it runs")
    options(parser)
    given = parser.parse_args()
    given.servers = None
    if given.quick:
        vars(given).update(QUICK)
    codes = []
    if "shap" in given.parts:
        codes.append(report("bench-shap", given, partial(explanations, given)))
    if "bodies" in given.parts:
        codes.append(report("bench-bodies", given, partial(bodies, given)))
    if set(given.parts) - {"shap", "bodies"}:
        folder = Path(tempfile.mkdtemp(prefix="bench-serve-"))
        try:
            codes.append(report("bench-serve", given, partial(serving, given, folder)))
        finally:
            shutil.rmtree(folder)
    sys.exit(max(codes))


if __name__ == "__main__":
    main()

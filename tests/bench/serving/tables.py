"""From figures to the tables and sentences of docs/performance.md. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.record import Entry
from tests.bench.serving import body_checks, in_process, over_http, tree_explanations
from tests.bench.serving.over_http import Found, Shape


@dataclass(frozen=True)
class Spread:
    """The median of some rounds' figures, and the lowest and highest of them."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread | None:
        """Return the spread, None without a figure."""
        return cls(statistics.median(figures), min(figures), max(figures)) if figures else None

    def __str__(self) -> str:
        """Return "median (lowest to highest)"."""
        digits = 1 if self.median >= 10 else 2
        return f"{self.median:,.{digits}f} ({self.lowest:,.{digits}f} to {self.highest:,.{digits}f})"


@dataclass(frozen=True)
class Goal:
    """What was to be reached: ``figure`` at least (or at most) ``wanted``."""

    what: str
    figure: Spread | None
    wanted: float
    at_most: bool = False

    def line(self) -> str:
        """Return a row of the table of goals."""
        bound = f"{'at most' if self.at_most else 'at least'} {self.wanted:g}x"
        if self.figure is None:
            return f"| {self.what} | {bound} | not measured | - |"
        reached = self.figure.median <= self.wanted if self.at_most else self.figure.median >= self.wanted
        return f"| {self.what} | {bound} | {self.figure} | {'yes' if reached else '**no**'} |"


Rounds = Sequence[float | None]
"""A figure a round, None where the contender failed; fewer, or none, where it did so for good."""


def over(first: Rounds, second: Rounds) -> Spread | None:
    """Return the spread of the ratios of the rounds that both have, None without one."""
    both = ((one, other) for one, other in zip(first, second, strict=False))
    return Spread.of([one / other for one, other in both if one is not None and other is not None])


def median(figures: Rounds, digits: int) -> str:
    """Return the median of the figures that there are, "-" without one."""
    there = [each for each in figures if each is not None]
    return f"{statistics.median(there):,.{digits}f}" if there else "-"


def named(contender: str, rounds: Sequence[object]) -> str:
    """Return the contender's name, and in how many rounds it failed."""
    failed = sum(each is None for each in rounds)
    if not rounds or failed == len(rounds):
        return f"{contender}: **failed**"
    return f"{contender} (failed in {failed} of {len(rounds)} rounds)" if failed else contender


def http(shape: Shape, found: Found) -> list[str]:
    """Return the table of one shape of load."""
    usual = _rates(found, over_http.USUAL)
    lines = [
        f"#### {shape.title}",
        "",
        "| server | requests a second | x the usual way (median, range) | p50 ms | p99 ms | CPU ms a request |",
        "|---|---|---|---|---|---|",
    ]
    for name, turns in found.items():
        rates = _rates(found, name)
        p50, p99 = (median(_times(found, name, which), 2) for which in ("p50_ms", "p99_ms"))
        cpu = median([turn and turn.cpu_ms for turn in turns], 2)
        beside = over(rates, usual) or "-"
        lines.append(f"| {named(name, turns)} | {median(rates, 0)} | {beside} | {p50} | {p99} | {cpu} |")
    return [*lines, ""]


def http_goals(found: dict[Shape, Found]) -> list[Goal]:
    """Return the goals of HTTP."""
    one, sixteen = found[over_http.ONE], found[over_http.SIXTEEN]
    ours, no_op = (_times(one, name, "p50_ms") for name in (over_http.OURS, over_http.LIVEZ))
    return [
        *(
            Goal(
                f"requests a second over the usual way, 16 clients, {what}",
                over(_rates(sixteen, name), _rates(sixteen, over_http.USUAL)),
                40,
            )
            for what, name in (("one worker", over_http.OURS), ("two workers", over_http.OURS_TWO))
            if name in sixteen
        ),
        Goal("p50 over that of `GET /livez` of the same server, one client", over(ours, no_op), 2, at_most=True),
        Goal("p99 over p50, one client", over(_times(one, over_http.OURS, "p99_ms"), ours), 4, at_most=True),
        *(
            Goal(
                f"requests a second over the same with `pred_contribs`, 16 clients, depth {depth}",
                over(_rates(sixteen, tabled), _rates(sixteen, untabled)),
                3,
            )
            for depth, tabled, untabled in (
                (3, over_http.OURS, over_http.OURS_UNTABLED),
                (5, over_http.OURS_DEEP, over_http.OURS_DEEP_UNTABLED),
            )
            if {tabled, untabled} <= set(sixteen)
        ),
    ]


def inside(found: dict[str, Any], ways: Sequence[str], floor: str) -> list[str]:
    """Return a table of what was measured in process; times over those of ``floor``."""
    columns = [f"{size} customer{'s' * (size > 1)}" for size in in_process.SIZES]
    lines = [
        "| way | " + " | ".join(f"{each}: p50 ms | p99 ms | x floor (median, range)" for each in columns) + " |",
        "|---|" + "---|---|---|" * len(columns),
    ]
    for way in ways:
        cells = [named(way, [times for size in found[way].values() for times in size])]
        for size in map(str, in_process.SIZES):
            p50, p99 = (_column(found[way][size], place) for place in (0, 1))
            cells += [median(p50, 3), median(p99, 3), str(over(p50, _column(found[floor][size], 0)) or "-")]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def inside_goals(found: dict[str, Any]) -> list[Goal]:
    """Return the goals in process."""

    def times(way: str, size: int) -> Rounds:
        return _column(found[way][str(size)], 0)

    bare = over(times(in_process.OURS, 1), times(in_process.FLOOR, 1))
    reads = [(1, 4.0), (in_process.SIZES[-1], 6.0)]
    return [
        Goal("features, score and reasons over raw `HMGET` + bare predict, one customer", bare, 1.5, at_most=True),
        *(
            Goal(
                f"Feast's own `get_online_features` over ours by the same call, {size} customer{'s' * (size > 1)}",
                over(times(in_process.FEAST, size), times(in_process.FEAST_OURS, size)),
                wanted,
            )
            for size, wanted in reads
        ),
    ]


def explained(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table of explanations."""
    lines = [
        "| trees | way | one row, ms | x `pred_contribs` | rows a second | x `pred_contribs` | rows | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        beside = _beside(found, each)
        single = ["-", "-"]
        if each["single_ms"]:
            single = [median(each["single_ms"], 3), str(over(beside["single_ms"], each["single_ms"]) or "-")]
        rate = median(each["per_second"], 0)
        ratio = over(each["per_second"], beside["per_second"]) or "-"
        differs = "-" if each["difference"] is None else f"{each['difference']:.0e}"
        shape = f"{each['trees']}, depth {each['depth']}"
        name = named(each["way"], [*each["single_ms"], *each["per_second"]])
        cells = [shape, name, *single, rate, str(ratio), f"{each['rows']:,}", differs]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def explained_goals(found: Sequence[dict[str, Any]]) -> list[Goal]:
    """Return the goals of explanations."""
    goals = []
    for each in found:
        beside = _beside(found, each)
        shape = f"depth {each['depth']}"
        if each["way"] == tree_explanations.OURS:
            ratio = over(beside["single_ms"], each["single_ms"])
            goals.append(Goal(f"one row's explanation over `pred_contribs`, {shape}", ratio, 10))
        if each["way"] == tree_explanations.OURS_TWO:
            goals.append(
                Goal(
                    f"many rows over `pred_contribs`, both on two threads, {shape}",
                    over(each["per_second"], _of(found, each["depth"], tree_explanations.CONTRIBS_TWO)["per_second"]),
                    30,
                )
            )
    return goals


def checked(entries: Sequence[Entry], rounds: int) -> list[str]:
    """Return the table of large bodies that are checked."""
    lines = ["| batches of | checked | longest pause, ms | all checked after, ms |", "|---|---|---|---|"]
    for kind in body_checks.KINDS:
        for way in body_checks.WAYS:
            mine = [each.figures for each in entries if (each.what, each.contender) == (kind, way) and each.figures]
            spreads = [Spread.of([figures[name] for figures in mine]) or "-" for name in ("pause_ms", "all_ms")]
            name = named(way, [*mine, *[None] * (rounds - len(mine))])
            lines.append(f"| {kind} | {name} | {spreads[0]} | {spreads[1]} |")
    return [*lines, ""]


def goals(reached: Sequence[Goal]) -> list[str]:
    """Return the table of goals."""
    return [
        "| goal | wanted | measured (median, range) | reached |",
        "|---|---|---|---|",
        *(each.line() for each in reached),
        "",
    ]


def _beside(found: Sequence[dict[str, Any]], figure: dict[str, Any]) -> dict[str, Any]:
    return _of(found, figure["depth"], tree_explanations.CONTRIBS)


def _of(found: Sequence[dict[str, Any]], depth: int, way: str) -> dict[str, Any]:
    return next(each for each in found if (each["depth"], each["way"]) == (depth, way))


def _rates(found: Found, name: str) -> Rounds:
    return [turn and turn.figures.per_second for turn in found.get(name, ())]


def _times(found: Found, name: str, which: str) -> Rounds:
    return [turn and getattr(turn.figures, which) for turn in found.get(name, ())]


def _column(rounds: Sequence[Sequence[float] | None], place: int) -> Rounds:
    return [each and each[place] for each in rounds]

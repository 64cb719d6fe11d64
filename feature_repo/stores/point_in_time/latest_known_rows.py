"""Point-in-time join by sorting and bisection of NumPy arrays. Pure."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class KnownRows:
    """Stored rows: ``code`` of the key, event, created and place, n each, in any order."""

    code: Ints
    event: Ints
    created: Ints
    position: Ints

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> KnownRows:
        return KnownRows(self.code[chosen], self.event[chosen], self.created[chosen], self.position[chosen])


def latest_known(rows: KnownRows, code: Ints, observed: Ints, threads: int = 1) -> Ints:
    """Return for each probe (code, observed in microseconds) the index of its row in ``rows``, or -1.

    The codes are divided among ``threads`` threads: NumPy releases the interpreter's lock while it sorts.
    """
    if threads <= 1 or len(rows.code) < 1 << 16:
        return _latest_known(rows, code, observed)
    found = np.full(len(code), -1, dtype=np.int64)

    def work(part: int) -> None:
        stored, asked = np.flatnonzero(rows.code % threads == part), np.flatnonzero(code % threads == part)
        taken = KnownRows(rows.code[stored] // threads, rows.event[stored], rows.created[stored], rows.position[stored])
        place = _latest_known(taken, code[asked] // threads, observed[asked])
        found[asked] = np.where(place >= 0, stored[place] if len(stored) else -1, -1)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return found


def _latest_known(rows: KnownRows, code: Ints, observed: Ints) -> Ints:
    if not len(rows.code) or not len(code):
        return np.full(len(code), -1, dtype=np.int64)
    known_from = np.maximum(rows.event, rows.created)
    stored, asked = _sortable(rows.code, known_from, code, observed)
    order = np.argsort(stored)
    at = np.searchsorted(stored[order], asked, side="right") - 1
    best = order if _in_order(rows, order) else _running_best(rows, order)
    found: Ints = best[at]  # at index -1 this is any row: rejected in the next line
    return np.where((at >= 0) & (rows.code[found] == code), found, -1)


def _sortable(code: Ints, known_from: Ints, asked_code: Ints, observed: Ints) -> tuple[Ints, Ints]:
    """Return (code, time) of rows and of probes as one integer each, comparable with each other."""
    least = int(known_from.min())
    bits = (int(known_from.max()) - least + 1).bit_length()
    codes = max(int(code.max()), int(asked_code.max()))
    if codes.bit_length() + bits > 63:  # noqa: PLR2004 - the bits of a non-negative int64
        # The times are replaced by their ranks, which are far fewer.
        instants, known_from = np.unique(known_from, return_inverse=True)
        observed = np.searchsorted(instants, observed, side="right") - 1
        least, bits = 0, (len(instants) + 1).bit_length()
    # Time 0 is reserved for "before everything", so that no probe reaches into the preceding key.
    stored = (code << bits) | (known_from - least + 1)
    clipped = np.clip(observed - least + 1, 0, (1 << bits) - 1)
    return stored, (asked_code << bits) | clipped


def _in_order(rows: KnownRows, order: Ints) -> bool:
    """Return whether in each key later known rows are greater: then the last known row is the result."""
    code, event = rows.code[order], rows.event[order]
    same = code[1:] == code[:-1]
    step = event[1:] - event[:-1]
    if bool((same & (step < 0)).any()):
        return False
    tied = np.flatnonzero(same & (step == 0))
    before, after = order[tied], order[tied + 1]
    later = rows.created[after] - rows.created[before]
    return bool(((later > 0) | ((later == 0) & (rows.position[after] > rows.position[before]))).all())


def _running_best(rows: KnownRows, order: Ints) -> Ints:
    """Return, for each row in ``order``, the greatest row of its key up to it."""
    by_rank = np.lexsort((rows.position, rows.created, rows.event, rows.code))
    rank = np.empty(len(by_rank), dtype=np.int64)
    rank[by_rank] = np.arange(len(by_rank))
    # A greater code has only greater ranks, so that the maximum never carries over from one key to the next.
    best: Ints = by_rank[np.maximum.accumulate(rank[order])]
    return best

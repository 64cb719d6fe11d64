"""Roll-out of bundles: the pointer to champion and challenger, the ledger, and their only writer.

See docs/decisions/0018-pointer-and-ledger.md.
"""

from bentos.rollout.ledger import LedgerBrokenError, LedgerEntry
from bentos.rollout.rollout import (
    ChampionChangedError,
    NoChampionError,
    NothingToRollBackError,
    Rollout,
    champion_digest,
)

__all__ = [
    "ChampionChangedError",
    "LedgerBrokenError",
    "LedgerEntry",
    "NoChampionError",
    "NothingToRollBackError",
    "Rollout",
    "champion_digest",
]

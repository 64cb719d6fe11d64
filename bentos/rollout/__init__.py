"""Roll-out of bundles: the pointer to champion and challenger, the ledger, and their only writer."""

from bentos.rollout.ledger import Entry, LedgerBrokenError
from bentos.rollout.rollout import ChampionChangedError, NoChampionError, NothingToRollBackError, Rollout, champion

__all__ = [
    "ChampionChangedError",
    "Entry",
    "LedgerBrokenError",
    "NoChampionError",
    "NothingToRollBackError",
    "Rollout",
    "champion",
]

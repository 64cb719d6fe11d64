"""Which bundle serves, and which one is on trial: the pointer, the ledger, and the one door that changes them."""

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

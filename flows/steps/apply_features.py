"""Registration of the feature services that are current, and of older versions as long as a bundle needs them.

See docs/decisions/0044-versioned-feature-services.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bentos.bundle.manifest import other_contract
from bentos.rollout.needed_bundles import NeededBundle, needed_bundles
from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.contract import SERVICES_OF, current_services, features_of
from feature_repo.definition_hash import CONTRACT_FILE, contract_hash
from feature_repo.stores import registration
from feature_repo.stores.contract_plan import DefinitionChange, plan
from flows.steps.compare import serving

REMOVE: Final = "--remove-unneeded"
"""Option of `churn apply` that removes the versions that no bundle needs."""


class ContractInUseError(ChurnError):
    """The code changed, or no longer has, a version of a feature service that a bundle needs."""

    error = "contract_in_use"
    http_status = 409


@dataclass(frozen=True)
class Applied:
    """Result of a registration.

    ``names`` are those of all registered objects, sorted. ``kept`` maps an older version to the bundles that need it.
    ``unneeded`` are older versions that stay registered although no bundle needs them, ``removed`` those that left.
    """

    names: list[str]
    kept: dict[str, list[NeededBundle]]
    unneeded: list[str]
    removed: list[str]

    def lines(self) -> Iterator[str]:
        """Yield a line for each older version: kept for which bundles, unneeded, or removed."""
        for service, bundles in self.kept.items():
            yield f"{service}: kept for {', '.join(map(str, bundles))}"
        for service in self.unneeded:
            yield f"{service}: no bundle needs it any more; to remove it: churn apply {REMOVE}"
        for service in self.removed:
            if service not in SERVICES_OF:
                yield f"{service}: removed"
                continue
            only = _features_of_no_other(service)
            yield f"{service}: removed; delete it from {CONTRACT_FILE}" + (
                f", with the features that no other service reads: {', '.join(only)}" if only else ""
            )


def apply_features(settings: Settings, *, remove_unneeded: bool = False) -> Applied:
    """Register the newest version of each feature service, and the older ones that are needed or registered.

    Parameters
    ----------
    remove_unneeded
        Remove the older versions that no bundle needs, from the registry and the online store.

    Raises
    ------
    ContractInUseError
        If a bundle needs a version that this code changed or lacks: nothing is registered.
    RegistryUnavailableError, StoreUnavailableError
        If the registry or the online store can't be used.
    LedgerBrokenError
        If the pointer is lost and the ledger was changed.
    """
    needed = needed_bundles(settings.home, serving(settings.home))
    _refuse_changes(needed)
    services, kept, unneeded, before = _selection(settings, needed, remove_unneeded=remove_unneeded)
    names = registration.apply(settings, services)
    return Applied(names, kept, unneeded, [name for name in before if name not in services])


def plan_features(settings: Settings) -> list[DefinitionChange]:
    """Return what :func:`apply_features` would change in the registry, by contract; raises as it does for stores."""
    services, *_ = _selection(settings, needed_bundles(settings.home, serving(settings.home)), remove_unneeded=False)
    return plan(settings, services)


def _selection(
    settings: Settings, needed: list[NeededBundle], *, remove_unneeded: bool
) -> tuple[list[str], dict[str, list[NeededBundle]], list[str], dict[str, str]]:
    """Return the services to register, the older ones kept for bundles, those unneeded, and the registered ones."""
    current, before = current_services(), registration.registered(settings)
    kept = {
        service: bundles
        for service in SERVICES_OF
        if service not in current and (bundles := [each for each in needed if each.manifest.service == service])
    }
    older = [name for name in SERVICES_OF if name in before and name not in current and name not in kept]
    unneeded = [] if remove_unneeded else older
    services = [name for name in SERVICES_OF if name in {*current, *kept, *unneeded}]
    return services, kept, unneeded, before


def refuse_changes(settings: Settings) -> None:
    """Raise ContractInUseError if a bundle needs a version that this code changed or lacks."""
    _refuse_changes(needed_bundles(settings.home, serving(settings.home)))


def _refuse_changes(needed: list[NeededBundle]) -> None:
    faults = {each: found for each in needed if (found := other_contract(each.manifest)) is not None}
    if not faults:
        return
    hint = (
        "put it back as it was; a changed feature gets a new name, in a new version of the service next to the old one "
        "(docs/journeys/feature-author.md)"
    )
    # A feature's values may be the same after a refactoring, and only a person can say so.
    same = sorted(
        f"{each.manifest.contract_hash} under {contract_hash(each.manifest.service)}"
        for each in faults
        if each.manifest.features == SERVICES_OF.get(each.manifest.service)
    )
    if same:
        hint += f"; if every value stayed the same, list in SAME_CONTRACTS of {CONTRACT_FILE}: {', '.join(same)}"
    raise ContractInUseError(
        f"nothing was registered. {'; '.join(f'{each}: {found}' for each, found in faults.items())}", hint
    )


def _features_of_no_other(service: str) -> list[str]:
    others = {name for other, names in SERVICES_OF.items() if other != service for name in names}
    return [each.name for each in features_of(service) if each.name not in others]

"""Registration of the feature definitions: `feast apply` from code. See docs/decisions/0009-feast-command.md."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING

from configs.settings import Settings
from feature_repo.contract import PROJECT, SERVICES_OF
from feature_repo.stores.errors import translate_store_errors
from feature_repo.stores.feature_store import open_feature_store

if TYPE_CHECKING:
    from feast.repo_contents import RepoContents


def apply(settings: Settings, services: Collection[str] | None = None) -> list[str]:
    """Register the definitions and create the online tables.

    It calls the function behind `feast apply`: all other objects leave the registry, and `feast plan` reports no
    changes afterwards.

    Parameters
    ----------
    services
        The versions of feature services to register, and the views that they read; None: all of the contract.

    Returns
    -------
    list of str
        The names of the registered objects, sorted.

    Raises
    ------
    RegistryUnavailableError, StoreUnavailableError
        If the registry or the online store can't be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from feature_repo.stores.registration import apply
    >>> names = apply(load_settings(home=Path(tempfile.mkdtemp())))
    >>> [name for name in names if name.endswith("_v1")]
    ['churn_audit_v1', 'churn_behavior_v1', 'churn_core_v1']
    """
    contents = _contents(SERVICES_OF if services is None else services)
    with translate_store_errors(settings), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        from feast.repo_operations import apply_total_with_repo_instance

        # Feast warns at each apply that on-demand views are experimental; ours are plain Python and tested for parity.
        warnings.filterwarnings("ignore", message="On demand feature view is an experimental", category=RuntimeWarning)
        store = open_feature_store(settings)
        apply_total_with_repo_instance(store, PROJECT, store.registry, contents, skip_source_validation=True)
        # Feast creates online tables for views that are new to the registry; a lost online store needs them again
        # although all views are registered.
        views = store.list_feature_views()
        store._get_provider().update_infra(PROJECT, [], views, [], [], partial=True)  # noqa: SLF001 - no public name
        store.refresh_registry()
    return _names(contents)


def registered(settings: Settings) -> dict[str, str]:
    """Return the registered feature services: name -> contract hash; empty before the first :func:`apply`.

    Raises RegistryUnavailableError if the registry can't be read.
    """
    with translate_store_errors(settings):
        services = open_feature_store(settings).list_feature_services()
        return {service.name: str(service.tags.get("contract_hash", "")) for service in services}


def _contents(services: Collection[str]) -> RepoContents:
    from feast import Entity, FeatureView, Project
    from feast.data_source import DataSource
    from feast.feature_view import DUMMY_ENTITY
    from feast.on_demand_feature_view import OnDemandFeatureView
    from feast.repo_contents import RepoContents

    from feature_repo import definitions
    from feature_repo.services import build_feature_service

    # Feast modifies what it registers in place, and would refuse its own additions the second time in a process.
    objects = [copy.deepcopy(getattr(definitions, name)) for name in definitions.__all__]
    versions = [build_feature_service(name) for name in services]
    read = {projection.name for version in versions for projection in version.feature_view_projections}
    on_demand = [each for each in objects if isinstance(each, OnDemandFeatureView) and each.name in read]
    read |= {projection.name for each in on_demand for projection in each.source_feature_view_projections.values()}
    return RepoContents(
        projects=[each for each in objects if isinstance(each, Project)],
        data_sources=[each for each in objects if isinstance(each, DataSource)],
        feature_views=[each for each in objects if isinstance(each, FeatureView) and each.name in read],
        on_demand_feature_views=on_demand,
        stream_feature_views=[],
        label_views=[],
        # Views without entities (on-demand views included) need Feast's dummy entity, which its command adds as well.
        entities=[*(each for each in objects if isinstance(each, Entity)), DUMMY_ENTITY],
        feature_services=versions,
        permissions=[],
    )


def _names(contents: RepoContents) -> list[str]:
    from feast.feature_view import DUMMY_ENTITY_NAME

    kinds = ("data_sources", "feature_views", "on_demand_feature_views", "entities", "feature_services")
    return sorted({each.name for kind in kinds for each in getattr(contents, kind)} - {DUMMY_ENTITY_NAME})

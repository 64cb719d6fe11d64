"""Registration of the feature definitions: `feast apply` from code. See docs/decisions/0009-feast-command.md."""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from typing import TYPE_CHECKING

from configs.settings import Settings
from feature_repo.contract import PROJECT
from feature_repo.stores.errors import translate_store_errors
from feature_repo.stores.feature_store import open_feature_store

if TYPE_CHECKING:
    from feast.repo_contents import RepoContents


def apply(settings: Settings) -> list[str]:
    """Register all of definitions.py and create the online tables.

    It calls the function behind `feast apply`: objects removed from the definitions leave the registry, and `feast
    plan` reports no changes afterwards.

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
    with translate_store_errors(settings), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        from feast.repo_operations import apply_total_with_repo_instance

        # Feast warns at each apply that on-demand views are experimental; ours are plain Python and tested for parity.
        warnings.filterwarnings("ignore", message="On demand feature view is an experimental", category=RuntimeWarning)
        store = open_feature_store(settings)
        apply_total_with_repo_instance(store, PROJECT, store.registry, _contents(), skip_source_validation=True)
        # Feast creates online tables for views that are new to the registry; a lost online store needs them again
        # although all views are registered.
        views = store.list_feature_views()
        store._get_provider().update_infra(PROJECT, [], views, [], [], partial=True)  # noqa: SLF001 - no public name
        store.refresh_registry()
    return _names()


def _contents() -> RepoContents:
    from feast import Entity, FeatureService, FeatureView, Project
    from feast.data_source import DataSource
    from feast.feature_view import DUMMY_ENTITY
    from feast.on_demand_feature_view import OnDemandFeatureView
    from feast.repo_contents import RepoContents

    from feature_repo import definitions

    # Feast modifies what it registers in place, and would refuse its own additions the second time in a process.
    objects = [copy.deepcopy(getattr(definitions, name)) for name in definitions.__all__]
    return RepoContents(
        projects=[each for each in objects if isinstance(each, Project)],
        data_sources=[each for each in objects if isinstance(each, DataSource)],
        feature_views=[each for each in objects if isinstance(each, FeatureView)],
        on_demand_feature_views=[each for each in objects if isinstance(each, OnDemandFeatureView)],
        stream_feature_views=[],
        label_views=[],
        # Views without entities (on-demand views included) need Feast's dummy entity, which its command adds as well.
        entities=[*(each for each in objects if isinstance(each, Entity)), DUMMY_ENTITY],
        feature_services=[each for each in objects if isinstance(each, FeatureService)],
        permissions=[],
    )


def _names() -> list[str]:
    from feature_repo import definitions

    return sorted({getattr(definitions, name).name for name in definitions.__all__} - {PROJECT})

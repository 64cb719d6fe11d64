"""Write the definitions into the registry: `feast apply`, from code."""

from __future__ import annotations

import warnings

from configs.settings import Settings
from feature_repo.stores.opening import open_store


def apply(settings: Settings) -> list[str]:
    """Register everything that definitions.py holds and create the online tables; return the names, sorted.

    Objects that left the definitions are removed from the registry, as the Feast command does.
    """
    from feast import Project

    from feature_repo import definitions

    store = open_store(settings)
    wanted = [getattr(definitions, name) for name in definitions.__all__]
    objects = [each for each in wanted if not isinstance(each, Project)]
    names = {each.name for each in objects}
    registered = [
        *store.list_feature_services(),
        *store.list_on_demand_feature_views(),
        *store.list_feature_views(),
        *store.list_entities(),
        *store.list_data_sources(),
    ]
    gone = [each for each in registered if each.name not in names and each.name != "__dummy"]
    with warnings.catch_warnings():
        # Feast calls on-demand views experimental at each apply; ours are plain Python and tested for parity.
        warnings.filterwarnings("ignore", message="On demand feature view is an experimental", category=RuntimeWarning)
        store.apply(objects, objects_to_delete=gone, partial=False)
    store.refresh_registry()
    return sorted(names)

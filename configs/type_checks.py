"""Disabling of the run-time type checks that typeguard compiles into Feast's classes.

Called by ``feature_repo/__init__.py``. The checks cost two seconds of a core per start: for each method typeguard
parses and compiles the whole module again. Its documentation says that they are not meant for production.
See docs/decisions/0031-no-type-checks-in-feast.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Final

_CHECKER: Final = "typeguard"
_UNCHECKED: Final = "feast"


def leave_out() -> None:
    """Disable typeguard's decorator for Feast's classes; for other packages it still works.

    Must run before Feast is imported. typeguard itself is not imported here: many processes never need it.
    """
    if _CHECKER in sys.modules:
        _replace(sys.modules[_CHECKER])
    elif not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _replace(module: ModuleType) -> None:
    checked = module.typechecked

    def typechecked(target: Any = None, **options: Any) -> Any:
        ours = target is not None and target.__module__.partition(".")[0] == _UNCHECKED
        return target if ours else checked(target, **options)

    module.typechecked = typechecked  # type: ignore[attr-defined]


class _Finder(MetaPathFinder):
    """Find typeguard through the usual path, and replace its decorator after it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        if fullname != _CHECKER:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loaded(spec.loader)
        return spec


class _Loaded(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _replace(module)

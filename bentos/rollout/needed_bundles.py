"""Bundles whose feature services must stay: those that answer, may answer again, or are about to be compared.

See docs/decisions/0044-versioned-feature-services.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from bentos.bundle.manifest import BundleError, Manifest, bundles_folder, is_digest, read_manifest
from bentos.rollout.pointer import Rollout

Role = Literal["champion", "previous champion", "challenger on trial", "newest challenger"]


@dataclass(frozen=True, eq=False)
class NeededBundle:
    """A bundle that needs its version of a feature service, and why."""

    digest: str
    role: Role
    manifest: Manifest

    def __str__(self) -> str:
        return f"bundle {self.digest[:12]} ({self.role}, model {self.manifest.model_version})"


def needed_bundles(home: Path, served: Rollout | None) -> list[NeededBundle]:
    """Return the bundles that need their feature service, each once.

    These are the champion, the one before it (a rollback leads there), the challenger on trial, and the newest bundle
    if it is newer than the champion: it waits for a comparison, a trial or a promotion. A bundle whose manifest is
    missing or damaged is left out: nothing can load it.

    Parameters
    ----------
    served
        The roll-out; None before a promotion.
    """
    roles: dict[str, Role] = {}
    if served is not None:
        roles[served.champion] = "champion"
        if served.challenger is not None:
            roles.setdefault(served.challenger, "challenger on trial")
        if served.previous is not None:
            roles.setdefault(served.previous, "previous champion")
    manifests = dict(_manifests(home))
    newest = max(manifests, key=lambda digest: (_made_at(manifests[digest]), digest), default=None)
    if newest is not None:
        champion = manifests.get(served.champion) if served is not None else None
        if champion is None or _made_at(manifests[newest]) > _made_at(champion):
            roles.setdefault(newest, "newest challenger")
    return [NeededBundle(digest, role, manifests[digest]) for digest, role in roles.items() if digest in manifests]


def _manifests(home: Path) -> Iterator[tuple[str, Manifest]]:
    for folder in sorted(bundles_folder(home).glob("*")):
        if is_digest(folder.name):
            try:
                yield folder.name, read_manifest(folder)[0]
            except BundleError:
                continue


def _made_at(manifest: Manifest) -> datetime:
    return datetime.fromisoformat(manifest.created_at)

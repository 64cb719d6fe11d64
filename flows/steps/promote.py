"""Promotion, roll-back and trials of models; keeps MLflow's aliases in line with the roll-out.

Used by the command line and the deployment flow. See docs/decisions/0018-pointer-and-ledger.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bentos.bundle.manifest import BundleError, bundles_folder, is_digest, read_manifest
from bentos.rollout import rollout as serving_now
from bentos.rollout.ledger import LedgerEntry, read_ledger
from bentos.rollout.live_comparison import LiveComparison, LiveFigures, read_live
from bentos.rollout.pointer import Rollout
from configs.errors import EXIT_USAGE, ChurnError
from configs.settings import Settings
from flows.steps.compare import ComparisonResult, compare_models, serving, withdrawal
from training.registry import CHALLENGER, CHAMPION, DIGEST, PREVIOUS, Alias, set_alias, tag_version, versions_with
from training.registry_errors import ModelRegistryUnavailableError, NoSuchVersionError

if TYPE_CHECKING:
    from training.registry import RegisteredChallenger, RegisteredVersion

log = logging.getLogger(__name__)

DIGITS_MIN: Final = 8
"""Minimum number of hex digits of a digest that name a bundle."""
OVERRULED: Final = "overruled"
"""Tag ``verdict`` of a version that serves although a rule failed."""
TRIALS: Final = frozenset({"shadow", "canary"})


class UnknownNameError(NoSuchVersionError):
    """An operator's name matches no bundle and no entry of the ledger."""

    exit_code = EXIT_USAGE


class WhyMissingError(ChurnError):
    """The verdict is overruled without a reason."""

    error = "why_missing"


@dataclass(frozen=True)
class PromotionOutcome:
    """Outcome for a challenger.

    Parameters
    ----------
    trained
        The challenger.
    compared
        The comparison; None if it serves already.
    entry
        The ledger's entry; None if it was refused.
    """

    trained: RegisteredChallenger
    compared: ComparisonResult | None
    entry: LedgerEntry | None

    @property
    def result(self) -> str:
        """The outcome as one of "promoted", "serves already" and "refused"."""
        if self.compared is None:
            return "serves already"
        return "refused" if self.entry is None else "promoted"

    @property
    def serves(self) -> bool:
        """Whether the challenger is the champion now."""
        return self.compared is None or self.entry is not None


def compare_and_promote(
    settings: Settings,
    trained: RegisteredChallenger,
    *,
    who: str,
    why: str,
    now: datetime,
    force: bool = False,
    leaving: str | None = None,
) -> PromotionOutcome:
    """Decide about a challenger and promote it if the verdict allows it, or if ``force`` overrules it.

    If the settings require live requests before a promotion, those of its running shadow count. A challenger that
    serves already stays, and the aliases are corrected.

    Parameters
    ----------
    settings
        The home, the stores and the rules.
    trained
        The challenger.
    who, why
        The operator and the reason, for the ledger: no secret, no customer.
    now
        The instant that the run works as of, UTC.
    force
        Whether a refusal is overruled; needs ``why``.
    leaving
        The digest of the only champion that may be replaced; None: whichever serves.

    Raises
    ------
    WhyMissingError
        If the verdict is overruled without a reason.
    ChampionChangedError
        If another champion was promoted meanwhile.
    """
    if force and not why:
        raise WhyMissingError("a verdict is overruled without a reason", "add --why: it goes into the ledger")
    served = serving(settings.home)
    if served is not None and served.champion == trained.digest:
        try_sync_aliases(settings)
        return PromotionOutcome(trained, None, None)
    live = _live(settings, trained, served) if served is not None and settings.rollout.shadow_requests_min else None
    compared = compare_models(settings, trained, served, now, live=live)
    if leaving not in {None, compared.champion}:
        raise serving_now.ChampionChangedError("another champion serves by now", "run it again, or name that one")
    return PromotionOutcome(
        trained, compared, promote_challenger(settings, trained, compared, who=who, why=why, now=now, force=force)
    )


def promote_challenger(
    settings: Settings,
    trained: RegisteredChallenger,
    compared: ComparisonResult,
    *,
    who: str,
    why: str,
    now: datetime,
    force: bool = False,
    trial: int | None = None,
) -> LedgerEntry | None:
    """Promote a challenger after its verdict; return the ledger's entry, None if the verdict refuses it.

    A repeated call changes nothing and returns the same entry. Running services follow by themselves.

    Parameters
    ----------
    now
        The instant that the run works as of: the ledger's ``as_of``. Its ``at`` is the clock's.
    trial
        The ledger's sequence of the trial that must still be running.

    Raises
    ------
    ChampionChangedError
        If the champion is not the one of the comparison.
    TrialEndedError
        If ``trial`` was ended meanwhile.
    BundleError, LedgerBrokenError, StorageError
        As :func:`bentos.rollout.rollout.promote`: the old champion stays.
    """
    if not (compared.verdict.promote or force):
        return None
    as_of = now.astimezone(UTC).isoformat()
    details: dict[str, Any] = {"as_of": as_of, "version": trained.version, **compared.verdict.to_json()}
    if not compared.verdict.promote:
        details["overruled"] = compared.verdict.why
    entry = serving_now.promote(
        settings.home,
        trained.digest,
        who=who,
        why=why,
        now=datetime.now(UTC),
        expected=compared.champion,
        trial=trial,
        details=details,
    )
    try_sync_aliases(settings)
    return entry


def roll_back(
    settings: Settings,
    *,
    who: str,
    why: str,
    now: datetime,
    leaving: str | None = None,
    report: Callable[[LedgerEntry | None], object] = lambda _entry: None,
) -> LedgerEntry | None:
    """Promote the previous champion again; needs neither a training nor MLflow.

    Parameters
    ----------
    settings
        The home, and MLflow's address.
    who, why, now, leaving
        As those of :func:`bentos.rollout.rollout.rollback`.
    report
        Called with the entry right after the roll-back: MLflow's aliases follow after that, and importing MLflow takes
        longer than all the rest.

    Returns
    -------
    LedgerEntry or None
        None if nothing was to be done.

    Raises
    ------
    ChurnError
        As :func:`bentos.rollout.rollout.rollback`.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from flows.steps.promote import roll_back
    >>> settings = load_settings(home=Path(tempfile.mkdtemp()))
    >>> roll_back(settings, who="ann", why="complaints", now=datetime(2026, 1, 1, tzinfo=UTC))
    Traceback (most recent call last):
        ...
    bentos.rollout.rollout.NoChampionError: ...
    """
    entry = serving_now.rollback(settings.home, who=who, why=why, now=now, leaving=leaving)
    report(entry)
    try_sync_aliases(settings)
    return entry


def is_named(home: Path, digest: str | None, version: str) -> bool:
    """Return whether an operator's ``version`` names the bundle ``digest`` (None: no bundle to match).

    It may be the digest or its first 8 or more hex digits, the model's version, or MLflow's version number as recorded
    in the ledger: a rollback must not depend on MLflow.

    Raises
    ------
    UnknownNameError
        If it names no other bundle either: none in the home, and none in the ledger.
    LedgerBrokenError
        If the ledger was changed.
    """
    book = read_ledger(home)
    if digest is not None and _means(home, book, digest, version):
        return True
    if not any(_means(home, book, other, version) for other in _known(home, book)):
        found = serving(home)
        serves = "no model serves" if found is None else f"{found.champion[:12]} (model {found.model_version}) serves"
        raise UnknownNameError(
            f"no bundle and no entry of the ledger has the version {version!r}", f"{serves}; see: churn history"
        )
    return False


def _known(home: Path, book: list[LedgerEntry]) -> set[str]:
    """Return the digests of all bundles in the home and in the ledger."""
    states = [state for entry in book for state in (entry.before, entry.after) if state]
    named = {state[place] for state in states for place in ("champion", "previous", "challenger") if state[place]}
    return named | {folder.name for folder in bundles_folder(home).glob("*") if is_digest(folder.name)}


def _means(home: Path, book: list[LedgerEntry], digest: str, version: str) -> bool:
    if len(version) >= DIGITS_MIN and digest.startswith(version):
        return True
    about = [
        entry
        for entry in book
        if digest == (entry.after["challenger"] if entry.action in TRIALS else entry.after["champion"])
    ]
    if any(str(entry.details["version"]) == version for entry in about if "version" in entry.details):
        return True
    try:
        return read_manifest(bundles_folder(home) / digest)[0].model_version == version
    except BundleError:
        return any(entry.after["model_version"] == version for entry in about if entry.action not in TRIALS)


def begin_trial(
    settings: Settings, trained: RegisteredChallenger, *, share: float | None, who: str, why: str, now: datetime
) -> LedgerEntry:
    """Start a trial of a challenger: shadow (``share`` None), or canary for a share of the customers.

    The trial ends ``rollout.trial_timeout_h`` after ``now``, the clock's instant, unless it is ended before. A
    challenger that was aborted or rolled back needs a reason: a repeated command does not start its trial again.

    Raises
    ------
    WhyMissingError
        If it was withdrawn and no reason is passed.
    OtherTrialError
        If another challenger is on trial.
    BundleError, LedgerBrokenError, NoChampionError, StorageError, TrialInvalidError
        As :func:`bentos.rollout.rollout.start_trial`.
    """
    if not why and (withdrawn := withdrawal(settings.home, trained.digest)):
        raise WhyMissingError(f"this model was withdrawn: {withdrawn}", "add --why to try it all the same")
    entry = serving_now.start_trial(
        settings.home,
        trained.digest,
        mode="shadow" if share is None else "canary",
        share=share or 0.0,
        who=who,
        why=why,
        now=now,
        ends_at=now + timedelta(hours=settings.rollout.trial_timeout_h),
        replacing=False,
        details={"version": trained.version},
    )
    try_sync_aliases(settings)
    return entry


def end_trial(settings: Settings, version: str | None, *, who: str, why: str, now: datetime) -> LedgerEntry | None:
    """End the running trial, or only that of the challenger ``version``; None if it is not running.

    Raises UnknownNameError as :func:`is_named`, and as :func:`bentos.rollout.rollout.stop_trial`.
    """
    if version is None:
        return serving_now.stop_trial(settings.home, who=who, why=why, now=now)
    served = serving(settings.home)
    challenger = served.challenger if served else None
    if not is_named(settings.home, challenger, version) or served is None:
        return None
    return serving_now.stop_trial(settings.home, who=who, why=why, now=now, trial=served.sequence)


def try_sync_aliases(settings: Settings) -> None:
    """Correct MLflow's aliases; if MLflow does not respond, log it and leave the roll-out unchanged."""
    try:
        sync_aliases(settings)
    except ModelRegistryUnavailableError as away:
        log.warning("%s: its aliases follow at the next promotion, rollback or training", away.message)


def sync_aliases(settings: Settings) -> dict[str, str | None]:
    """Set the aliases champion, previous, challenger from the roll-out; return alias -> version or None.

    A champion that was promoted against its verdict is tagged ``verdict: overruled``, with the ledger's sequence.

    The pointer in the home decides what serves; MLflow displays it. A bundle unknown to MLflow has no alias. The
    challenger is the one on trial; without a trial it stays the newest trained one.

    Raises
    ------
    RegistryUnavailableError
        If MLflow does not respond.
    """
    served = serving(settings.home)
    if served is None:
        return {}
    wanted: dict[Alias, str | None] = {CHAMPION: served.champion, PREVIOUS: served.previous}
    if served.challenger is not None:
        wanted[CHALLENGER] = served.challenger
    found: dict[str, str | None] = {}
    for alias, digest in wanted.items():
        known = versions_with(settings, DIGEST, digest) if digest else []
        found[alias] = known[0].version if known else None
        set_alias(settings, alias, found[alias])
        if alias == CHAMPION and known:
            _tag_overruled(settings, known[0])
    return found


def _tag_overruled(settings: Settings, champion: RegisteredVersion) -> None:
    """Correct the verdict's tag of a champion that was promoted against it."""
    promotions = [each for each in read_ledger(settings.home) if each.action == "promote"]
    about = [each for each in promotions if each.after["champion"] == champion.bundle_digest][-1:]
    if about and about[0].forced and champion.tags.get("verdict") != OVERRULED:
        tag_version(settings, champion.version, {"verdict": OVERRULED, "overruled_in": str(about[0].sequence)})


def _live(settings: Settings, trained: RegisteredChallenger, served: Rollout) -> LiveFigures:
    """Return the results of the running shadow; earlier trials ran against another champion."""
    if served.challenger != trained.digest or served.mode != "shadow":
        return LiveComparison().figures()
    return read_live(settings.home, trained.digest, since=served.sequence).figures()

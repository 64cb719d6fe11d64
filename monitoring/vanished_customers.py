"""The gate's rule on customers that are missing in an extract although they had not left. Pure.

See docs/decisions/0041-what-a-home-accepts.md.
"""

from __future__ import annotations

from configs.printable import printable
from configs.settings import DataSettings
from feature_repo.raw.snapshots.acceptance import Acceptance
from feature_repo.raw.snapshots.changes import SnapshotChanges
from monitoring.quality_report import VANISHED_RULE, CheckResult


def vanished_check(moved: SnapshotChanges, share_limit: float, accepted: Acceptance | None) -> CheckResult:
    """Return the outcome of the rule for the changes since the snapshot before.

    Parameters
    ----------
    moved
        The changes; a first snapshot keeps the rule.
    share_limit
        Vanished customers / customers of the snapshot before, 0..1; above it the rule is broken.
    accepted
        The operator that accepted a greater share, if any: the broken rule is then a warning and stops nothing.
    """
    passed = moved.vanished_share <= share_limit
    detail = "no snapshot before this one"
    if moved.before is not None:
        detail = (
            f"{moved.vanished} of {moved.customers_before} customers ({moved.vanished_share:.1%}) vanished since "
            f"{moved.before} without leaving, at most {share_limit:.1%} may"
        )
    if not passed and accepted is not None:
        detail += f"; accepted by {printable(accepted.who)}: {printable(accepted.why)}"
    return CheckResult(
        rule=VANISHED_RULE,
        column="",
        expectation="vanished customers / customers before",
        passed=passed,
        failed_rows=0,
        failed_share=moved.vanished_share,
        severity="critical" if accepted is None else "warning",
        quarantine=False,
        sample=(),
        detail=detail,
        why="Customers who vanish are withdrawn and get no label: an extract of another base, or a part of one, would "
        "withdraw nearly everybody.",
    )


def vanished_finding(moved: SnapshotChanges | None, limits: DataSettings) -> str | None:
    """Return a warning about a published snapshot if too many customers vanished, None otherwise.

    No refusal: the other customers' rows are valid. Above ``vanished_share_limit`` :func:`vanished_check` refuses.
    """
    if moved is None or moved.vanished_share <= limits.vanished_share_max:
        return None
    return (
        f"{moved.vanished} of {moved.customers_before} customers ({moved.vanished_share:.1%}) vanished since "
        f"{moved.before} without leaving: more than {limits.vanished_share_max:.1%}; they are withdrawn and get no "
        "label. Is the extract whole? (data.vanished_share_max)"
    )

"""Check of the files that declare features, by `churn features check` and before definitions are registered."""

from __future__ import annotations

from configs.errors import ChurnError
from configs.settings import PROJECT_ROOT
from configs.text import decoded
from feature_repo.files.regular_files import read_regular
from training.feature_check import TEXT_FILES, Finding, contract_findings, findings


class FeatureFilesError(ChurnError):
    """The files that declare features do not agree, or one of them can't be read."""

    error = "feature_files_inconsistent"


def check_features() -> list[Finding]:
    """Return the inconsistencies of this project's files; those of the contract alone if it has any.

    Raises
    ------
    FeatureFilesError
        If a file can't be read.

    Examples
    --------
    >>> from flows.steps.check_features import check_features
    >>> check_features()
    []
    """
    if found := contract_findings():
        return found
    texts = {}
    for name in TEXT_FILES:
        try:
            texts[name] = decoded(read_regular(PROJECT_ROOT / name))
        except (OSError, UnicodeDecodeError) as broken:
            raise FeatureFilesError(f"{name} can't be read ({type(broken).__name__})", "restore the file") from broken
    return findings(texts)


def refuse_inconsistent_features() -> None:
    """Raise FeatureFilesError if :func:`check_features` finds anything."""
    if found := check_features():
        raise FeatureFilesError(
            f"the files that declare features do not agree, nothing was registered: {'; '.join(map(str, found))}",
            "correct the files; to list the findings: churn features check",
        )

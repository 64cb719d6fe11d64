"""Base class of the platform's errors: name, message, hint, exit code and HTTP status.

Every error that a user can cause or fix derives from :class:`ChurnError`. The command line turns it into one line and
an exit code, the service into one JSON body and a status; both read them from here.
"""

from __future__ import annotations

from typing import Final

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_GATE: Final = 3
"""The data-quality gate refused the input: nothing was published."""


class ChurnError(Exception):
    """Base of every error that a user can cause or fix.

    Parameters
    ----------
    message
        What happened and where, in one sentence. Never holds a customer id or a secret.
    hint
        What to do about it; a command where there is one.
    """

    error = "failed"
    """Stable machine-readable name (snake_case)."""
    exit_code = EXIT_FAILURE
    http_status = 500
    transient = False
    """Whether the same call may succeed later without any fix."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def body(self) -> dict[str, str]:
        """Return the JSON body ``{error, message, hint}`` that the service answers."""
        return {"error": self.error, "message": self.message, "hint": self.hint}


class SettingsError(ChurnError):
    """A setting is unknown, missing or out of range."""

    error = "settings_invalid"
    exit_code = EXIT_USAGE

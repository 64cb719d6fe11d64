"""Who runs a command: for ledgers and audits."""

from __future__ import annotations

import os
import pwd


def operator() -> str:
    """Return the name of the user that runs this process, for the ledger and the audit."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have no name
        return f"uid {os.getuid()}"

"""The operating system user of this process, for ledgers and audits."""

from __future__ import annotations

import os
import pwd


def current_user() -> str:
    """Return the name of the user that runs this process, "uid N" without a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have no name
        return f"uid {os.getuid()}"

"""The programs that a tier of tests starts: what is missing is installed, or named before any test runs.

``python tests/programs.py TIER [COMMAND ...]`` is the set-up of ``poe quick``, ``test``, ``full`` and ``nightly`` and
of ``.ci/run``. As root on a Debian it installs the packages of what is missing, and says which. Elsewhere it lists what
is missing with the command that installs it, and exits with 2. Then COMMAND takes its place.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

# What each tier runs; the nightly tests start nothing that the README's tier does not.
TIERS = {
    "quick": ("quick",),
    "test": ("quick", "test"),
    "full": ("quick", "test", "full"),
    "nightly": ("quick", "test"),
}
# Debian keeps servers where the PATH of an ordinary user does not lead.
_SERVERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_UPDATE = ("apt-get", "update", "-qq")
_INSTALL = ("apt-get", "install", "-y", "-qq", "--no-install-recommends")
MISSING = 2
"""Exit code: something is missing and was not installed."""


@dataclass(frozen=True)
class Program:
    """A program, the Debian package that has it, and the cheapest tier that starts it."""

    name: str
    package: str
    tier: str
    instead: tuple[str, ...] = ()
    folder: str = ""

    def path(self) -> str | None:
        """Where it is, or None."""
        folders = [*os.get_exec_path(), *_SERVERS, *sorted(glob.glob(self.folder), reverse=True)]  # noqa: PTH207
        found = (shutil.which(name, path=os.pathsep.join(folders)) for name in (self.name, *self.instead))
        return next(filter(None, found), None)


PROGRAMS = {
    name: Program(name, **{key: tuple(value) if key == "instead" else value for key, value in entry.items()})
    for name, entry in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items()
}


def program(name: str) -> str:
    """The path of a registered program; without it the test fails and says how to install it."""
    path = PROGRAMS[name].path()
    if path is None:
        pytest.fail(f"{name} is not installed; as root: {' '.join(_INSTALL)} {PROGRAMS[name].package}")
    return path


def missing(tier: str) -> list[Program]:
    """What the tier starts and this machine lacks."""
    return [each for each in PROGRAMS.values() if each.tier in TIERS[tier] and each.path() is None]


def set_up(tier: str) -> int:
    """Bring what is missing, or say what it is; 0 or ``MISSING``."""
    lacking = missing(tier)
    if lacking and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"the tier {tier!r} lacks programs: installing {_packages(lacking)} with apt-get", flush=True)
        _install(lacking)
        lacking = missing(tier)
    if not lacking:
        return 0
    lines = [f"  {each.name} (Debian package {each.package})" for each in lacking]
    print(f"the tier {tier!r} starts programs that this machine lacks; no test ran:", *lines, sep="\n")
    print(f"on Debian and Ubuntu, as root: {' '.join(_UPDATE)} && {' '.join(_INSTALL)} {_packages(lacking)}")
    return MISSING


def _packages(programs: list[Program]) -> str:
    return " ".join(sorted({each.package for each in programs}))


def _install(programs: list[Program]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (_UPDATE, (*_INSTALL, *_packages(programs).split())):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
            return


def main(tier: str, *command: str) -> int:
    """Set the tier up; then become the command, if there is one."""
    code = set_up(tier)
    if command and not code:
        sys.stdout.flush()
        os.execvp(command[0], command)  # noqa: S606 - the tier's own command, in this process's place
    return code


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))

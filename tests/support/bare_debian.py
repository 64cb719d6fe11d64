"""A Debian in a folder where nothing is installed, to try the README's commands as a new user does.

It is the release that this machine runs, from this machine's own package sources, with its certificates and its
settings of pip and uv. Needs root and debootstrap. ``tests/docs/test_bare_debian.py`` uses it; by hand:
``python tests/support/bare_debian.py FOLDER root|someone 'COMMAND'`` makes it where there is none, clones the checkout
to ``/src`` in it, and runs the command there.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

from configs.settings import PROJECT_ROOT
from tests.programs import program

USER = "someone"
_PACKAGES = ("ca-certificates", "git", "python3", "python3-venv")
# What leads to package sources, below /etc.
_CONFIGURATION = ("apt/sources.list", "apt/sources.list.d", "apt/apt.conf.d", "pip.conf", "uv", "resolv.conf", "hosts")
_CERTIFICATES = "ssl/certs/ca-certificates.crt"
_PATHS = {"root": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", USER: "/usr/local/bin:/usr/bin:/bin"}
# The parts of the environment that lead to package sources; all else stays outside.
_PASSED = (
    "PIP_",
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_SYSTEM_CERTS",
    "UV_NATIVE_TLS",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
)
_PROXIES = {"http_proxy", "https_proxy", "no_proxy"}
_ENTER = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot --userspec="$1" "$0" "${@:2}"'


class BareDebian:
    """The system below a folder; ``make`` fills it, ``clone`` puts the checkout into it, ``run`` runs a command.

    As a context it is made, and removed afterwards.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __enter__(self) -> Self:
        self.make()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.root)

    def make(self) -> None:
        """Install the smallest system with Python and git, and an ordinary user who may enter it."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        words = [program("debootstrap"), "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
        _done([*words, platform.freedesktop_os_release()["VERSION_CODENAME"], self.root, _mirror()])
        etc = self.root / "etc"
        (etc / "apt/sources.list").unlink(missing_ok=True)
        for name in (*_CONFIGURATION, _CERTIFICATES):
            here = Path("/etc") / name
            if here.is_dir():
                shutil.copytree(here, etc / name, dirs_exist_ok=True)
            elif here.is_file():
                shutil.copy(here, etc / name)
        _done(["chroot", self.root, "useradd", "-m", USER])

    def clone(self, user: str) -> None:
        """Put a fresh clone of the checkout to ``/src``; it belongs to the user."""
        shutil.rmtree(self.root / "src", ignore_errors=True)
        _done(["git", "clone", "-q", PROJECT_ROOT, self.root / "src"])
        _done(["chroot", self.root, "chown", "-R", f"{user}:{user}", "/src"])

    def run(self, user: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line of bash in ``/src`` as the user; both streams are read as one.

        Mounts and processes are in namespaces of their own, and end with the command.
        """
        home = "/root" if user == "root" else f"/home/{user}"
        passed = {
            name: value
            for name, value in os.environ.items()
            if (name.startswith(_PASSED) or name.lower() in _PROXIES) and name != "PIP_FIND_LINKS"
        }
        inside = {**passed, "HOME": home, "USER": user, "LANG": "C.UTF-8", "TERM": "dumb", "PATH": _PATHS[user]}
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        words += ["bash", "-c", _ENTER, str(self.root), f"{user}:{user}", "env", "-i"]
        words += [f"{name}={value}" for name, value in inside.items()]
        words += ["bash", "-c", f"cd /src && {command}"]
        return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def _mirror() -> str:
    """Where this machine's own release comes from."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    wanted = ["apt-get", "indextargets", "--format", "$(RELEASE) $(SITE)", "Created-By: Packages"]
    lines = [line.split() for line in _done(wanted).splitlines()]
    return next(site for release, site in lines if release == codename)


def _done(words: list[str | Path]) -> str:
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(map(str, words))}\n{done.stdout}"
    return done.stdout


if __name__ == "__main__":
    system = BareDebian(Path(sys.argv[1]).resolve())
    if not (system.root / "etc").is_dir():
        system.make()
    system.clone(sys.argv[2])
    ended = system.run(sys.argv[2], sys.argv[3])
    print(ended.stdout, end="")
    raise SystemExit(ended.returncode)

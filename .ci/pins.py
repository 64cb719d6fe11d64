"""Write the pins of all dependencies to pyproject.toml and to the image's requirements file.

Run by `uv run poe pins` after a dependency was added, raised or dropped. `uv.lock` names the host of a package
registry, which no committed file may. Its result is kept as complete constraints in pyproject.toml, so that every
clone resolves to the same versions from any index, and as a hashed requirements file for images.
See docs/decisions/0010-pins.md.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from configs.settings import PROJECT_ROOT

PYPROJECT = PROJECT_ROOT / "pyproject.toml"
IMAGE_REQUIREMENTS = PROJECT_ROOT / "bentos" / "churn" / "requirements.txt"
# The marker that uv writes for a package needed in all of [tool.uv] environments: removed as redundant.
_CPYTHON = "platform_python_implementation == 'CPython'"
SUPPORTED = (
    f"implementation_name == 'cpython' and ((platform_machine == 'arm64' and {_CPYTHON} and sys_platform == 'darwin') "
    f"or ({_CPYTHON} and sys_platform == 'linux'))"
)
_BLOCK = re.compile(r"constraint-dependencies = \[.*?\n?\]\n", re.DOTALL)


def uv(*arguments: str) -> str:
    """Run uv in the checkout and return what it printed."""
    done = subprocess.run(["uv", *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def exported(*options: str) -> str:
    """Return the locked requirements, without index URLs and comments."""
    text = uv("export", "--frozen", "--no-emit-project", "--no-header", "--no-annotate", *options)
    for everywhere in (f" ; {SUPPORTED}", f" and {SUPPORTED}"):
        text = text.replace(everywhere, "")
    return "\n".join(line for line in text.splitlines() if not line.startswith(("--", "#"))) + "\n"


def write_pins(*, upgrade: bool) -> None:
    """Resolve the lock file (from scratch if ``upgrade``) and write the constraints and requirements."""
    content = PYPROJECT.read_text(encoding="utf-8")
    if upgrade:
        # The old constraints would prevent any upgrade.
        PYPROJECT.write_text(_BLOCK.sub("constraint-dependencies = []\n", content), encoding="utf-8")
    uv("lock", *(["--upgrade"] if upgrade else []))
    lines = sorted(exported("--no-hashes", "--all-extras", "--all-groups").splitlines())
    quoted = "".join(f"  {_toml(line)},\n" for line in lines)
    content = PYPROJECT.read_text(encoding="utf-8")
    PYPROJECT.write_text(_BLOCK.sub(f"constraint-dependencies = [\n{quoted}]\n", content), encoding="utf-8")
    uv("lock")
    Path(IMAGE_REQUIREMENTS).write_text(exported("--no-default-groups"), encoding="utf-8")


def _toml(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'


if __name__ == "__main__":
    write_pins(upgrade="--upgrade" in sys.argv[1:])

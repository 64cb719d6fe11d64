"""Run the unit, property and architecture tests on every other supported Python of this machine.

The newest runs all of them, the others leave out the slow ones.

Used by `.ci/run` after the tests. Interpreters are those that uv or pyenv finds; nothing is downloaded. The newest
patch of each minor version is used, in an environment of its own, `.venv-3.X`.
See docs/decisions/0030-interpreters.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet

from configs.settings import PROJECT_ROOT

_MINORS = range(8, 40)


def supported(requires_python: str) -> list[str]:
    """Return the minor versions that a ``requires-python`` allows, such as 3.11."""
    bounds = SpecifierSet(requires_python)
    return [f"3.{minor}" for minor in _MINORS if f"3.{minor}" in bounds]


def found(minor: str, pyenv: Path) -> Path | None:
    """Return this machine's interpreter of a minor version: pyenv's newest patch, else the one uv finds."""
    patches = {int(path.name.rpartition(".")[2]): path for path in pyenv.glob(f"versions/{minor}.*") if _is_patch(path)}
    for patch in sorted(patches, reverse=True):
        if (python := patches[patch] / "bin" / "python").is_file():
            return python
    words = ["uv", "python", "find", "--no-project", "--no-python-downloads", "--system", minor]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def _is_patch(path: Path) -> bool:
    return re.fullmatch(r"3\.\d+\.\d+", path.name) is not None


def main() -> int:
    """Print the interpreters found and run the tests on each; return 1 if they failed on one, else 0."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    running = f"3.{sys.version_info.minor}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    others = {minor: found(minor, pyenv) for minor in supported(project["requires-python"]) if minor != running}
    for minor, python in others.items():
        print(f"Python {minor}: {python or 'not on this machine'}", flush=True)
    here = {minor: python for minor, python in others.items() if python}
    newest = max(here, key=lambda minor: int(minor.partition(".")[2]), default="")
    tasks = {minor: "units" if minor == newest else "quick" for minor in here}
    failed = [minor for minor, python in here.items() if not passes(minor, python, tasks[minor])]
    print(f"unit tests failed on {', '.join(failed)}" if failed else "unit tests passed on each", flush=True)
    return bool(failed)


def passes(minor: str, python: Path, task: str) -> bool:
    """Return whether the tests of a poe task pass on an interpreter."""
    own = {"UV_PROJECT_ENVIRONMENT": f".venv-{minor}", "UV_PYTHON": str(python), "UV_COMPILE_BYTECODE": "1"}
    inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(["uv", "run", "poe", task], cwd=PROJECT_ROOT, env=inherited | own, check=False)
    return done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())

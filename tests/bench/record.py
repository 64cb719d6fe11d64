"""What every bench shares: each figure is shown and kept as it comes, and a contender that fails costs itself alone.

A peer's failure is a row that says so. Ours failing is an error as well, at the end, when all others were measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from configs.settings import PROJECT_ROOT

Figures = TypeVar("Figures")
WHY_MAX_CHARS = 200
DOCUMENT = PROJECT_ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Entry:
    """What one contender gave at one thing: figures, or ``why`` there are none."""

    contender: str
    what: str
    figures: Any = None
    why: str = ""
    ours: bool = False

    def line(self) -> str:
        """Return it as a line of JSON."""
        figures = asdict(self.figures) if is_dataclass(self.figures) else self.figures  # type: ignore[arg-type]
        return json.dumps({**self.__dict__, "figures": figures})

    def __str__(self) -> str:
        """Return it as a line for a person."""
        return f"{self.contender}, {self.what}: {f'FAILED: {self.why}' if self.why else self.figures}"


@dataclass
class Record:
    """The entries of one run of a bench; ``show`` is told of each as it comes."""

    show: Callable[[Entry], None]
    entries: list[Entry] = field(default_factory=list)

    def attempt(
        self, contender: str, what: str, work: Callable[..., Figures], *given: Any, ours: bool = False
    ) -> Figures | None:
        """Return what ``work(*given)`` gives, None where it fails; either is kept."""
        try:
            found = work(*given)
        except Exception as broken:  # noqa: BLE001 - whatever one contender raises must not cost the others
            self.fail(contender, what, reason(broken), ours=ours)
            return None
        self.add(Entry(contender, what, found, ours=ours))
        return found

    def fail(self, contender: str, what: str, why: str, *, ours: bool = False) -> None:
        """Keep a failure that is known otherwise than by an exception."""
        self.add(Entry(contender, what, None, why or "no reason given", ours))

    def add(self, entry: Entry) -> None:
        """Keep an entry."""
        self.entries.append(entry)
        self.show(entry)

    def follow(self, words: Sequence[str], environ: Mapping[str, str] | None = None) -> list[Entry]:
        """Run a measuring program that shows its entries on standard output (:func:`told`); keep them as they come.

        That the program itself ends badly is a failure of ours.
        """
        known = len(self.entries)
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT, env=environ) as process:
            for line in process.stdout or ():
                self.add(Entry(**json.loads(line)))
        if process.returncode:
            self.fail("the measuring program", Path(words[-2]).name, f"ended with code {process.returncode}", ours=True)
        return self.entries[known:]

    @property
    def failed(self) -> list[Entry]:
        """The entries without figures."""
        return [each for each in self.entries if each.why]

    def table(self) -> list[str]:
        """Return the failures as a table, nothing where there are none."""
        if not self.failed:
            return []
        rows = [f"| {each.contender} | {each.what} | {each.why} |" for each in self.failed]
        return ["#### What failed", "", "| contender | at | why |", "|---|---|---|", *rows, ""]

    def exit_code(self) -> int:
        """Return 1 if ours failed, and say where; else 0."""
        ours = [str(each) for each in self.failed if each.ours]
        for each in ours:
            print(f"error: {each}", file=sys.stderr)
        return int(bool(ours))


def options(parser: argparse.ArgumentParser) -> None:
    """Add what every bench can be asked for."""
    parser.add_argument("--keep", type=Path, help="the file that each figure is appended to as it comes")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help=argparse.SUPPRESS)


def report(name: str, given: argparse.Namespace, measured: Callable[[Record], list[str]]) -> int:
    """Print the section that is measured and what failed; return the exit code, 1 where ours did.

    With ``given.write`` the section is put into the document too, unless ours failed.
    """
    record = kept(name, given.keep)
    try:
        section = measured(record)
    except Exception as broken:  # noqa: BLE001 - what was measured before is shown all the same
        traceback.print_exc()
        record.fail("the bench", name, reason(broken), ours=True)
        section = []
    section += record.table()
    print("\n".join(section))
    code = record.exit_code()
    if given.write and not code:
        put(name, section, given.document)
    return code


def put(name: str, section: list[str], document: Path) -> None:
    """Replace what stands between the marks of a document, or add it."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = document.read_text()
    if begin not in text:
        text = f"{text.rstrip()}\n\n{begin}\n{end}\n"
    head, rest = text.split(begin)
    body = "\n".join(section).rstrip()
    document.write_text(f"{head}{begin}\n{body}\n{end}{rest.split(end)[1]}")


def kept(name: str, path: Path | None = None) -> Record:
    """Return a record that is printed and appended to ``path`` line by line; by default to a new temporary file."""
    if path is None:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-figures-"))
        path = folder / "figures.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"each figure is kept as it comes: {path}", file=sys.stderr)

    def show(entry: Entry) -> None:
        print(entry, flush=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(entry.line() + "\n")

    return Record(show)


def told() -> Record:
    """Return the record of a program that :meth:`Record.follow` runs."""
    return Record(lambda entry: print(entry.line(), flush=True))


def reason(broken: BaseException) -> str:
    """Return in one line why something failed; of a program, the last line that it wrote."""
    if isinstance(broken, subprocess.CalledProcessError):
        said = broken.stderr or ""
        lines = (said if isinstance(said, str) else said.decode(errors="replace")).strip().splitlines()
        return _short(f"ended with code {broken.returncode}: {lines[-1] if lines else 'it said nothing'}")
    if isinstance(broken, subprocess.TimeoutExpired):
        return f"took longer than {broken.timeout:g} s"
    return _short(f"{type(broken).__name__}: {broken}")


def _short(text: str) -> str:
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) <= WHY_MAX_CHARS else f"{line[: WHY_MAX_CHARS - 1]}…"

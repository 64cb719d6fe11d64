"""A public name has one meaning, and a file is named by a noun. The rules for a new file: docs/contributing.md."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict

import pytest

from configs.settings import PROJECT_ROOT

PACKAGES = ("bentos", "configs", "feature_repo", "flows", "monitoring", "training")
SHARED = {
    "CustomerUnknownError": "the client raises what the service answered, under the same name",
    "CustomerWithdrawnError": "the client raises what the service answered, under the same name",
    "OverloadedError": "the client raises what the service answered, under the same name",
    "main": "the start of a process",
}
"""Names with several definitions that mean the same, and why."""
STAY = {
    "feature_repo/stores/typed.py": "model scripts stored in MLflow import this address",
    "feature_repo/views/derived.py": "the feature view customer_derived",
    "feature_repo/views/services_used.py": "the feature view customer_services; services.py holds Feast's services",
}
BANNED = {
    *("utils", "util", "helpers", "helper", "common", "misc", "stuff", "impl"),
    *("lane", "front", "door", "way", "ways", "thing", "things", "who"),
}
"""Words that say nothing about what a file holds, or say it in a figure of speech."""
NOUNS = {
    *("billing", "casting", "encoding", "monitoring", "sampling", "serving", "setting", "signing", "string"),
    *("timing", "tracing", "training", "tuning"),
}
PARTICIPLE = re.compile(r"\w{2,}(?:ing|ed)|given|gone|known|seen|spelt|told")


def parsed(package):
    for path in sorted((PROJECT_ROOT / package).rglob("*.py")):
        yield path.relative_to(PROJECT_ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def is_entry_point(function):
    decorators = [ast.unparse(each) for each in function.decorator_list]
    return any(re.match(r"(flow|task|click\.command|\w+\.command)\b", each) for each in decorators)


def definitions(tree):
    """Yield (name, kind, value) of each public definition at the top of a module."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found = [(node.name, "entry point" if is_entry_point(node) else "function", "")]
        elif isinstance(node, ast.ClassDef):
            found = [(node.name, "class", "")]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            value = ast.unparse(node.value).removeprefix("npt.")
            found = [(each.id, "value", value) for whole in targets for each in ast.walk(whole) if is_name(each)]
        else:
            continue
        yield from (each for each in found if not each[0].startswith("_"))


def is_name(node):
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def reads(tree):
    """Yield (module, name) of each name that a module takes from another one."""
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                modules[each.asname or each.name] = f"{node.module}.{each.name}"
                yield node.module, each.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield modules[node.value.id], node.attr


def clashes(trees):
    """Return the names with more than one meaning and the files that define them.

    - A function, a class and a value that another module reads have a name that no other module defines.
    - A value that only its own module reads (a logger, FORMAT, FILE) may be called as in another such module.
    - The same type alias or type variable may be written in several modules.
    - A command, a Prefect flow and a task share their verb with each other and with the function that they run.
    """
    defined = defaultdict(list)
    read = set()
    for file, tree in trees:
        module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        read |= {each for each in reads(tree) if each[0] != module}
        for name, kind, value in definitions(tree):
            defined[name].append((file, module, kind, value))
    found = {}
    for name, places in defined.items():
        named = [place for place in places if place[2] != "entry point"]
        alias = len({place[3] for place in named}) == 1 and re.match(r"NDArray|TypeVar|Literal", named[0][3])
        own = all(place[2] == "value" and (place[1], name) not in read for place in named)
        if len({place[0] for place in named}) > 1 and not alias and not own and name not in SHARED:
            found[name] = sorted({place[0] for place in places})
    return found


@pytest.mark.slow
def test_a_public_name_has_one_meaning():
    trees = [each for package in PACKAGES for each in parsed(package)]
    assert clashes(trees) == {}
    names = {name for _, tree in trees for name, _, _ in definitions(tree)}
    assert set(SHARED) <= names, "an exception that nothing needs"


def modules(*texts):
    texts = (*texts, "from bentos.a import Row")
    return [(f"bentos/{name}.py", ast.parse(text)) for name, text in zip("abc", texts, strict=True)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("def compare(): ...", "def compare(): ..."),
        ("class Column: ...", "class Column: ..."),
        ("def compare(): ...", "compare = 1"),
        ("Row = NDArray[float]", "Row = NDArray[int]\ndef show(): ..."),
    ],
)
def test_two_meanings_are_found(first, second):
    assert clashes(modules(first, second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("FORMAT = 1", "FORMAT = 2"),
        ("Row = NDArray[int]", "Row = npt.NDArray[int]"),
        ("@flow(name='x')\ndef train(): ...", "def train(): ..."),
        ("@click.command()\ndef train(): ...", "@flow\ndef train(): ..."),
    ],
)
def test_one_meaning_in_two_modules_passes(first, second):
    assert not clashes(modules(first, second))


def is_noun(stem):
    words = stem.split("_")
    return words[-1] in NOUNS or not PARTICIPLE.fullmatch(words[-1])


def test_a_file_is_named_by_a_noun():
    listed = subprocess.run(["git", "ls-files", "*.py"], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
    stems = {name: name.rsplit("/")[-1].removesuffix(".py") for name in listed.stdout.split() if name not in STAY}
    found = [
        name
        for name, stem in stems.items()
        if BANNED & set(stem.split("_")) or not (stem.startswith("test_") or is_noun(stem))
    ]
    assert found == []


@pytest.mark.parametrize("stem", ["asking", "keeping", "as_known", "planned", "told", "key_spelling"])
def test_a_participle_is_found(stem):
    assert not is_noun(stem)

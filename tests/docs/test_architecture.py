"""docs/architecture.md names code that is there, and its diagram is what its sources and the import contracts say."""

from __future__ import annotations

import ast
import re
import runpy
import tomllib

import pytest

from configs.settings import PROJECT_ROOT

DOCS = PROJECT_ROOT / "docs"
PAGE = (DOCS / "architecture.md").read_text()
SOURCE = (DOCS / "architecture.toml").read_text()
DIAGRAM = runpy.run_path(str(PROJECT_ROOT / ".ci" / "diagram.py"))
CONTRACTS = [
    each["layers"]
    for each in tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    if each["type"] == "layers"
]
NAMES = sorted(set(re.findall(r"`(\w+(?:\.\w+)+):([\w.]+)`", PAGE)))
LINKED = set(re.findall(r"\[`(\w+(?:\.\w+)+)(?::[\w.]+)?`\]\(\.\./([\w/]+)\.py\)", PAGE))


def defines(module, name):
    """Return whether a module's own text defines a class, function or value, or a class of it a method."""
    path = PROJECT_ROOT / f"{module.replace('.', '/')}.py"
    body = ast.parse(path.read_text()).body if path.is_file() else []
    for part in name.split("."):
        found = [node for node in body if part in names_of(node)]
        if not found:
            return False
        body = getattr(found[-1], "body", [])
    return True


def names_of(node):
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return {name}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
    return set()


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{module}:{name}" for module, name in NAMES])
def test_a_name_of_the_page_is_defined_there_and_links_to_its_file(module, name):
    assert defines(module, name)
    assert f"[`{module}:{name}`](../{module.replace('.', '/')}.py)" in PAGE
    assert PAGE.count(f"`{module}:{name}`") == PAGE.count(f"[`{module}:{name}`](")


@pytest.mark.parametrize(
    ("module", "name", "there"),
    [
        ("configs.errors", "ChurnError", True),
        ("configs.errors", "ChurnError.body", True),
        ("configs.errors", "EXIT_GATE", True),
        ("configs.errors", "ChurnError.soul", False),
        ("configs.errors", "NoSuchError", False),
        ("configs.no_such_module", "ChurnError", False),
    ],
)
def test_a_name_that_is_gone_would_be_found(module, name, there):
    assert defines(module, name) is there


def test_a_link_named_after_a_module_leads_to_it():
    assert len(LINKED) > 40
    assert {(module, path) for module, path in LINKED if module.replace(".", "/") != path} == set()


def test_every_file_and_folder_of_the_checkout_that_the_page_names_exists():
    ours = {path.name for path in PROJECT_ROOT.iterdir() if path.is_dir()}
    named = [name for name in re.findall(r"`([\w.]+/[\w./]*)`", PAGE) if name.split("/")[0] in ours - {"data"}]
    assert len(named) > 10
    assert [name for name in named if not (PROJECT_ROOT / name).exists()] == []


def test_each_folder_of_the_home_is_one_that_the_quickstart_lists():
    def listed(page, heading):
        table = (DOCS / page).read_text().split(f"## {heading}\n")[1]
        cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
        return {name.split("/")[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)}

    here = listed("architecture.md", "What lies in a home")
    assert len(here) > 10
    assert here - listed("quickstart.md", "Where things lie below the home") == set()


def test_the_diagram_is_what_its_sources_give():
    drawn = DIAGRAM["drawing"](SOURCE, PAGE)
    assert (DOCS / "architecture.svg").read_text() == drawn, "run: uv run poe diagram"


def test_the_diagram_marks_the_rooms_that_a_section_names():
    sections = DIAGRAM["sections_of"](PAGE)
    assert list(sections) == [1, 2, 3, 4]
    assert {"bentos.churn", "bentos.prediction", "feature_repo.stores"} <= sections[3][1]
    assert "training.model" not in sections[3][1]


def test_the_layers_and_rooms_of_the_diagram_are_those_of_the_import_contracts():
    layers = DIAGRAM["layers_of"](SOURCE)
    columns = {package.name: [set(column) for column in package.columns] for layer in layers for package in layer}
    held = [[set(re.split(r"\s*\|\s*", text)) for text in contract] for contract in CONTRACTS]
    assert [{package.name for package in layer} for layer in layers] in held
    # What a contract says of rooms is drawn, in its order and without a gap; single files beside them need no box.
    said = [contract for contract in held if all(name.count(".") == 1 for names in contract for name in names)]
    assert len(said) == 4
    for contract in said:
        drawn = columns[next(iter(contract[0])).split(".")[0]]
        boxes = {name for column in drawn for name in column}
        rooms = [kept for names in contract if (kept := {name for name in names if name in boxes or is_folder(name)})]
        assert rooms in [drawn[start : start + len(rooms)] for start in range(len(drawn))]


def is_folder(name):
    return (PROJECT_ROOT / name.replace(".", "/")).is_dir()


def test_every_room_is_in_the_diagram():
    packages = [package for layer in DIAGRAM["layers_of"](SOURCE) for package in layer]
    drawn = {room for package in packages for column in package.columns for room in column}
    inits = [init for package in packages for init in (PROJECT_ROOT / package.name).glob("*/__init__.py")]
    rooms = {f"{init.parents[1].name}.{init.parent.name}" for init in inits}
    assert rooms - drawn == set()
    files = [PROJECT_ROOT / room.replace(".", "/") for room in drawn]
    assert [path for path in files if not (path.is_dir() or path.with_suffix(".py").is_file())] == []


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ('flows = "cli"\n[captions]\nflows = "x"\n', "flows.cli has no caption"),
        ('flows = "cli"\n[captions]\nflows = "x"\n"flows.cli" = "a caption wider than its box"\n', "more than 23"),
        ('flows = "a_name_wider_than_its_box"\n[captions]\nflows = "x"\n', "wider than a box"),
    ],
)
def test_what_has_no_place_in_the_diagram_is_refused(source, why):
    with pytest.raises(ValueError, match=why):
        DIAGRAM["drawing"](f"[[layers]]\n{source}", PAGE)

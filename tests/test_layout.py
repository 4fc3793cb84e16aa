"""The house: rooms in a row, arrows that point one way, and a README that says what each module is for."""

import ast
import re

import pytest

from utils.paths import ROOT

UTILS = ROOT / "utils"
# From left to right, as data flow: a room imports only from rooms to its left, and from the ground (paths, config).
ROOMS = ("faces", "synthff", "learn", "results", "checks", "run")
GROUND = ("paths", "config", "protocol")


def imported(path):
    """Return the modules of utils/ that a file imports, at its top or within functions: ("learn", "models")."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {tuple(name.split(".")[1:3]) for name in names if name.startswith("utils.")}


def modules(room):
    return [path for path in sorted((UTILS / room).glob("*.py")) if path.name != "__init__.py"]


def test_utils_holds_the_ground_and_the_rooms_alone():
    found = {path.stem for path in UTILS.iterdir() if not path.name.startswith("_") and path.suffix != ".md"}
    assert found == {*GROUND, *ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_to_its_left(room):
    allowed = {*GROUND, *ROOMS[: ROOMS.index(room) + 1]}
    upwards = [
        f"{path.name} imports {'.'.join(names)}"
        for path in modules(room)
        for names in sorted(imported(path))
        if names[0] not in allowed
    ]
    assert not upwards


def test_the_ground_imports_no_room():
    assert imported(UTILS / "paths.py") == set()
    assert {names[0] for names in imported(UTILS / "config.py")} <= {"paths"}
    assert {names[0] for names in imported(UTILS / "protocol.py")} <= {"paths", "config"}


@pytest.mark.parametrize("room", ROOMS)
def test_no_two_modules_of_a_room_import_each_other(room):
    arrows = {path.stem: {names[1] for names in imported(path) if names[0] == room} - {path.stem} for path in modules(room)}
    while arrows:  # take away whoever imports nobody that is left
        leaves = [name for name, others in arrows.items() if not others & set(arrows)]
        assert leaves, f"a circle among {', '.join(arrows)}"
        for name in leaves:
            del arrows[name]


def test_colours_stand_in_style_alone():
    literal = re.compile(r"""#[0-9a-fA-F]{6}\b|(colou?r|fill)=["']|\(\d{2,3}, \d{2,3}, \d{2,3}\)|get_cmap""")
    drawing = [path for room in ("results", "checks") for path in modules(room) if path.name != "style.py"]
    assert [path.name for path in drawing if literal.search(path.read_text(encoding="utf-8"))] == []
    assert literal.search((UTILS / "results" / "style.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_comes_in_what_goes_out_and_where_to_start(room):
    lines = ast.get_docstring(ast.parse((UTILS / room / "__init__.py").read_text(encoding="utf-8"))).splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["In", "Out", "Open first"]
    assert (UTILS / room / re.search(r"`(\w+\.py)`", lines[2])[1]).is_file()


def test_a_readme_says_what_every_module_is_for():
    text = (UTILS / "README.md").read_text(encoding="utf-8")
    missing = [f"{room}/{path.name}" for room in ROOMS for path in modules(room) if room != "synthff"
               if not re.search(rf"^ *{path.stem}(\.py)? +\S.{{8,}}$", text, re.MULTILINE)]  # fmt: skip
    assert not missing

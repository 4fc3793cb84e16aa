"""The house: rooms in a row, arrows that point one way, and a README that says what each module is for."""

import ast
import importlib
import re

import nbformat
import pytest

from utils.paths import NOTEBOOKS, ROOT

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


def source_of(file):
    """Return a module's text, or a notebook's code with its solutions, one after the other."""
    if file.suffix == ".py":
        return file.read_text(encoding="utf-8")
    cells = nbformat.read(file, as_version=4).cells
    solutions = [code for cell in cells for code in re.findall(r"```python\n(.*?)```", cell.source, re.DOTALL)]
    return "\n".join([cell.source for cell in cells if cell.cell_type == "code"] + solutions)


def unknown_names(source):
    """Return what a text takes from a module of utils/ that has no such name: ["crops.BOX"]."""
    tree, known, unknown = ast.parse(source), {}, set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "utils":
            continue
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            try:
                known[alias.asname or alias.name] = importlib.import_module(name)
            except ModuleNotFoundError:  # no module: a function, a class, a number
                unknown |= set() if hasattr(importlib.import_module(node.module), alias.name) else {name}

    def bound(function):  # a parameter or variable that is called as a module is
        inside = list(ast.walk(function))
        stored = {node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        return stored | {node.arg for node in inside if isinstance(node, ast.arg)}

    def visit(node, modules):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            modules = {name: modules[name] for name in modules.keys() - bound(node)}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.value.id in modules and not hasattr(modules[node.value.id], node.attr):
                unknown.add(f"{node.value.id}.{node.attr}")
        for child in ast.iter_child_nodes(node):
            visit(child, modules)

    visit(tree, known)
    return sorted(unknown)


@pytest.mark.parametrize("folder", [UTILS, NOTEBOOKS, ROOT / "benchmarks", ROOT / "tests"], ids=lambda path: path.name)
def test_every_name_that_is_taken_from_a_module_of_utils_is_there(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".py", ".ipynb") and path.parent.name[0] != "."]
    unknown = {path.name: names for path in files if (names := unknown_names(source_of(path)))}
    assert files and not unknown


def test_a_name_that_no_module_has_is_found():
    source = "from utils.faces import crops, cache, nowhere\ncrops.gone, cache.BOX\ndef f(cache): return cache.mine\n"
    assert unknown_names(source) == ["crops.gone", "utils.faces.nowhere"]


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

"""Does the set-up install what the code imports? A developer's machine has more packages than a fresh one."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest

from utils.paths import NOTEBOOKS, ROOT
from utils.run.notebooks import find_notebooks

DISTRIBUTIONS = {**packages_distributions(), "dlib": ["dlib-bin"]}  # "cv2" -> "opencv-python-headless"; dlib-bin names none


def required(*files: str) -> set[str]:
    """Return the names of the distributions that requirement files pin."""
    lines = "\n".join((ROOT / file).read_text() for file in files)
    return {_normal(name) for name in re.findall(r"^([\w.-]+)==", lines, re.MULTILINE)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports(source: str) -> set[str]:
    """Return the dotted names of all modules that Python source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def reached(sources: dict[str, str]) -> dict[str, str]:
    """Return sources by name together with those of all modules of ours that they import, and these import in turn."""
    found = dict(sources)
    for source in sources.values():
        todo = {name for name in imports(source) if name.split(".")[0] == "utils"}
        while todo:
            name = todo.pop()
            path = ROOT.joinpath(*name.split("."))
            path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            if path.is_file() and name not in found:
                found[name] = path.read_text(encoding="utf-8")
                todo |= {name for name in imports(found[name]) if name.split(".")[0] == "utils"}
    return found


def missing(sources: dict[str, str], *files: str) -> set[tuple[str, str]]:
    """Return (module of ours, third-party package) for every import whose distribution the files do not pin."""
    pinned, lacking = required(*files), set()
    for name, source in sources.items():
        for package in {module.split(".")[0] for module in imports(source)} - {"utils", *sys.stdlib_module_names}:
            distributions = {_normal(distribution) for distribution in DISTRIBUTIONS.get(package, [package])}
            if not distributions & pinned:
                lacking.add((name, package))
    return lacking


def code_of(notebook: Path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code")


@pytest.mark.parametrize("notebook", find_notebooks(NOTEBOOKS), ids=lambda path: path.name[:2])
def test_a_notebook_needs_no_package_that_make_reproduce_does_not_install(notebook):
    assert not missing(reached({notebook.name: code_of(notebook)}), "requirements.txt")


@pytest.mark.parametrize(
    "module", ["run.notebooks", "run.grid", "run.extract", "results.report", "run.score", "run.page", "checks.quiz"]
)
def test_a_command_needs_no_package_that_make_reproduce_does_not_install(module):
    sources = reached({"command": f"import utils.{module}"})
    assert len(sources) > 2 and not missing(sources, "requirements.txt")


def test_everything_needs_no_package_but_the_pinned_ones():
    files = [*(ROOT / "utils").rglob("*.py"), *(ROOT / "tests").glob("*.py")]
    sources = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}
    ours = {path.stem for path in (ROOT / "tests").glob("*.py")}
    lacking = missing(sources, "requirements.txt", "requirements-synthff.txt")
    assert not {(name, package) for name, package in lacking if package not in ours}


def test_the_check_finds_a_package_that_is_not_pinned():
    assert missing({"some": "import moderngl"}, "requirements.txt") == {("some", "moderngl")}
    assert not missing({"some": "import cv2, numpy.linalg, os"}, "requirements.txt")


def test_the_lock_file_has_every_pin_and_a_hash_for_all_that_is_installed():
    """And set-up asks for the hashes: a package that is another file than it was is not installed."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.findall(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", lock, re.MULTILINE)
    locked = {_normal(name): version for name, version, _ in entries}
    assert len(locked) == len(entries) == len(re.findall(r"^[\w.-]+==", lock, re.MULTILINE)) > 150
    for file in ("requirements.txt", "requirements-synthff.txt"):
        pins = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / file).read_text(), re.MULTILINE)
        assert pins and all(locked.get(_normal(name)) == version for name, version in pins), file
    apart = (ROOT / "requirements-no-deps.txt").read_text()
    assert all("--hash=sha256:" in line for line in apart.splitlines() if "==" in line)
    setup = (ROOT / "Makefile").read_text()
    assert "--require-hashes -r requirements.lock" in setup and "--require-hashes -r requirements-no-deps.txt" in setup

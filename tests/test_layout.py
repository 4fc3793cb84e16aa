"""The tree keeps the order that the README promises: each module imports only from those before it."""

import ast
import re

from utils.paths import ROOT


def order():
    """Return the modules of utils/ in the README's order; a folder ends in a slash."""
    listed = re.search(r"^utils/ (.*?)^\S", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[1]
    return [name.rstrip("/") for name in listed.split()]


def imported(path):
    """Return the modules of utils/ that a file imports, at its top or within functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "utils":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("utils."):
            names.add(node.module.split(".")[1])
    return names


def test_the_readme_lists_every_module():
    found = [path for path in (ROOT / "utils").iterdir() if not path.name.startswith("_")]
    assert sorted(order()) == sorted(path.stem for path in found)


def test_modules_import_only_from_those_before_them():
    names, backwards = order(), []
    for place, name in enumerate(names):
        path = ROOT / "utils" / name
        files = path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
        for file in files:
            later = imported(file) - set(names[:place]) - {name}
            backwards += [f"{file.name} imports {other}" for other in sorted(later)]
    assert not backwards

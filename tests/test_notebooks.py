"""The notebooks: well-formed as committed; `test_tree.py` runs every one of them with the smoke profile's settings."""

import ast
import os
import re
import subprocess
import sys

import nbformat
import pytest
from mock_predictions import make_predictions, write_predictions

from utils.paths import NOTEBOOKS, ROOT, Workspace
from utils.results import claims, prose  # noqa: F401 - claims are registered where they are written
from utils.run import notebooks

ALL = notebooks.find_notebooks(NOTEBOOKS)
BUILDS, MOST_LINES = {"07"}, 15  # a build script, which tells no story; lines of a cell


def code_cells(notebook):
    return [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]


def run(work, *arguments):
    command = [sys.executable, "-m", "utils.run.notebooks", "--profile", "smoke", *arguments]
    environment = os.environ | {"DEEPFAKE_WORK": str(work)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_all_notebooks_are_there():
    assert [path.name[:2] for path in ALL] == [f"{number:02d}" for number in range(1, 12)]


@pytest.mark.parametrize("notebook", ALL, ids=lambda path: path.stem)
def test_notebook_keeps_the_house_rules(notebook):
    cells = code_cells(notebook)
    defaults = notebooks.read_parameters(notebook)  # exactly one `parameters` cell, literals only
    assert defaults["profile"] == "synthff" and defaults["seed"] == 0
    for cell in cells:
        assert len(cell.source.splitlines()) <= MOST_LINES, cell.source
        assert not cell.source.lstrip().startswith(("!", "%")) and "sys.path" not in cell.source
        assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(ast.parse(cell.source)))
    text = notebook.read_text(encoding="utf-8")
    assert str(ROOT) not in text and '"papermill"' not in text
    assert notebook.stat().st_size < 1_000_000


@pytest.mark.parametrize("notebook", ALL, ids=lambda path: path.stem)
def test_notebook_opens_with_a_question_and_ends_with_what_was_found(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert cells[0].cell_type == "markdown" and "?" in cells[0].source and "minute" in cells[0].source  # how long it takes
    if notebook.name[:2] in BUILDS:
        return
    assert texts[-1] == "## What we found" and cells[-1].source.startswith("Markdown(claims.told(")
    found = re.findall(r'"(\w+)"', cells[-1].source)
    assert len(set(found) & set(prose.CLAIMS)) == len(found) == 3
    assert sum(text.count("<details><summary>Solution</summary>") for text in texts) == 2


def test_notebooks_pass_the_linter():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "notebooks"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("notebook", ALL, ids=lambda path: path.stem)
def test_notebook_is_committed_executed_from_top_to_bottom(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs and not [output for output in outputs if output.output_type == "error"]


@pytest.mark.slow
def test_two_runs_of_a_notebook_and_its_files_do_not_differ(tmp_path):
    contents = []
    for name in ("first", "second"):
        workspace = Workspace(tmp_path / name / "smoke")
        write_predictions(workspace.results, make_predictions(models=("xception",), n_pairs=4))
        done = run(tmp_path / name, "--only", "07")
        assert done.returncode == 0, done.stdout + done.stderr
        files = sorted(path for path in workspace.root.rglob("*") if path.is_file())
        contents.append({str(path.relative_to(workspace.root)): path.read_bytes() for path in files})
    assert contents[0] == contents[1] and "report/report.pdf" in contents[0] and len(contents[0]) > 15


def test_figures_without_predictions_fail_at_once(tmp_path):
    done = run(tmp_path, "--only", "07")
    assert done.returncode == 2 and "no predictions" in done.stderr and done.stderr.count("\n") == 1

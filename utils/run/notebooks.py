"""Run the numbered notebooks in order.

    python -m utils.run.notebooks --profile synthff [--only 06 07] [-p name value] [--out DIR [--solutions]]

Papermill executes them, but everything that it would only warn about fails here before anything runs: unknown
parameters, a missing or second `parameters` cell, unknown profiles, missing data. A notebook that a partial tree gives too
little for is left out, with a line that says what it needs. Exit code 2 for a bad request, 1 for a notebook that failed
(kept in build/failed/), 3 where one was left out or a video could not be read, 0 otherwise.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import sys
import time
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbstripout import strip_output
from papermill.exceptions import PapermillExecutionError

from utils.config import PROFILES, Profile, get_profile, require_data
from utils.faces import crops, ffpp
from utils.paths import NOTEBOOKS, atomic
from utils.results import store

VOLATILE = ["metadata.papermill", "cell.metadata.papermill", "cell.metadata.execution", "metadata.language_info.version"]
READ_VIDEOS, READ_FACES, READ_PREDICTIONS = {"01", "02"}, {"03", "04", "05"}, {"06", "07", "11"}
PARTIAL = 3  # exit code: all that could be done is done, and something was left out


def find_notebooks(folder: Path = NOTEBOOKS, only: list[str] | None = None) -> list[Path]:
    """Return the numbered notebooks in order, or only those asked for; raise ValueError for unknown numbers."""
    found = {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    unknown = sorted(set(only or []) - set(found))
    if unknown:
        raise ValueError(f"no notebook {', '.join(unknown)} in {folder}: choose from {', '.join(found)}")
    if not found:
        raise ValueError(f"no notebooks in {folder}")
    return [path for number, path in found.items() if not only or number in only]


def read_parameters(notebook: Path) -> dict:
    """Return the defaults in a notebook's `parameters` cell.

    Raises ValueError unless there is exactly one such cell and it only assigns literals.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{notebook.name}: {len(tagged)} cells are tagged `parameters`; exactly one must be")
    defaults = {}
    for statement in ast.parse(tagged[0].source).body:
        try:
            (target,) = statement.targets
            defaults[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError):
            raise ValueError(f"{notebook.name}: `{ast.unparse(statement)}` in its parameters is no literal") from None
    if "profile" not in defaults:
        raise ValueError(f"{notebook.name}: its parameters cell lacks `profile`")
    return defaults


def convert(name: str, text: str, default: object) -> object:
    """Return the value typed on the command line in the type of the default; raise ValueError where it does not fit."""
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    fits = type(value) is type(default) or default is None or (isinstance(default, float) and type(value) is int)
    if not fits:
        raise ValueError(f"parameter {name} wants a {type(default).__name__} like {default!r}, not {text!r}")
    return value


def plan(notebooks: list[Path], profile: str, asked: dict[str, str]) -> list[tuple[Path, dict]]:
    """Return each notebook with the parameters that differ from its defaults.

    Raises ValueError for a parameter that no chosen notebook has: Papermill would only warn and run the defaults.
    """
    if "profile" in asked:
        raise ValueError("the profile is chosen by --profile, not by -p profile")
    defaults = {notebook: read_parameters(notebook) for notebook in notebooks}
    known = sorted({name for values in defaults.values() for name in values} - {"profile"})
    for name in asked:
        if name not in known:
            raise ValueError(f"unknown parameter {name!r}: these notebooks have {', '.join(known) or 'none'}")
    steps = []
    for notebook, values in defaults.items():
        wanted = {name: convert(name, text, values[name]) for name, text in asked.items() if name in values}
        wanted["profile"] = profile
        steps.append((notebook, {name: value for name, value in wanted.items() if value != values[name]}))
    return steps


def require_inputs(profile: Profile, notebooks: list[Path]) -> None:
    """Raise FileNotFoundError with the remedy where the first of the notebooks would find no input."""
    numbers = {notebook.name[:2] for notebook in notebooks}
    if numbers & READ_VIDEOS:
        require_data(profile)
    faces = profile.workspace.faces / "faces.csv"
    if numbers & READ_FACES and "02" not in numbers and not faces.is_file():
        raise FileNotFoundError(f"no face crops at {faces.parent}: run notebook 02 first")
    alone = not numbers & (READ_VIDEOS | READ_FACES)
    if numbers & READ_PREDICTIONS and alone and not store.has_predictions(profile):
        results = profile.workspace.results
        raise FileNotFoundError(f"no predictions in {results}: run notebooks 03 to 05 first (`make reproduce`)")


def too_little(profile: Profile, number: str) -> str:
    """Return what a notebook needs that the tree does not give it, "" where it has all; asked just before it runs."""
    if number in READ_FACES:
        faces = crops.read_table(profile.workspace.faces)
        lacks = ffpp.lacking(faces[faces["status"] == crops.FOUND])
        return f"it needs real and fake faces in train, val and test: {'; '.join(lacks)}" if lacks else ""
    if number in READ_PREDICTIONS and not store.has_predictions(profile):
        return "it needs the predictions of notebooks 03 to 05"
    return ""


def tidy(notebook: Path) -> None:
    """Strip what differs between two equal runs: times, versions, cell ids, and where printed text was cut."""
    content = nbformat.read(notebook, as_version=4)
    strip_output(content, keep_output=True, keep_count=True, keep_id=False, extra_keys=VOLATILE)
    for cell in content.cells:
        merged: list = []
        for output in cell.get("outputs", []):
            if merged and output.output_type == "stream" == merged[-1].output_type and output.name == merged[-1].name:
                merged[-1].text += output.text
            else:
                merged.append(output)
        if "outputs" in cell:
            cell.outputs = merged
    nbformat.write(content, notebook)


def with_solutions(notebook: Path) -> nbformat.NotebookNode:
    """Return a notebook in which the solutions of its exercises are cells, each block of code behind the text it stands in."""
    content = nbformat.read(notebook, as_version=4)
    cells = []
    for cell in content.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            folded = "".join(re.findall(r"<details>.*?</details>", cell.source, flags=re.S))
            blocks = re.findall(r"^```python\n(.*?)^```", folded, flags=re.S | re.M)
            cells += [nbformat.v4.new_code_cell(block.rstrip("\n")) for block in blocks]
    content.cells = cells
    return content


def run_notebook(notebook: Path, output: Path, parameters: dict, failed: Path, solutions: bool = False) -> None:
    """Execute one notebook in its own folder; write `output` only on success, else keep what ran in `failed`.

    With `solutions` those of its exercises are executed, too.
    """
    with atomic(output) as temporary:
        try:
            papermill.execute_notebook(
                with_solutions(notebook) if solutions else str(notebook),
                str(temporary),
                parameters,
                kernel_name="python3",
                cwd=str(notebook.parent),
                progress_bar=sys.stderr.isatty(),
                extra_arguments=["--log-level=CRITICAL"],
            )
        except BaseException:
            if temporary.is_file():
                failed.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(temporary, failed / notebook.name)
            raise
        tidy(temporary)


def run_all(steps: list[tuple[Path, dict]], profile: Profile, folder: Path, failed: Path, solutions: bool = False) -> int:
    """Run the steps in order, print the minutes each took and stop at the first that fails; return the exit code."""
    code = 0
    for notebook, parameters in steps:
        try:
            lack = too_little(profile, notebook.name[:2])
        except (ValueError, OSError) as error:  # a damaged table of faces
            print(f"error: {error}", file=sys.stderr)
            return 1
        if lack:
            print(f"{notebook.stem}: left out, {lack}", flush=True)
            code = PARTIAL
            continue
        print(f"{notebook.stem} ...", flush=True)
        start = time.monotonic()
        try:
            run_notebook(notebook, folder / notebook.name, parameters, failed, solutions)
        except PapermillExecutionError as error:
            cause = f"cell {error.cell_index}, {error.ename}: {error.evalue}".splitlines()[0]
        except (DeadKernelError, CellTimeoutError) as error:
            cause = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            print(f"{notebook.stem}: {(time.monotonic() - start) / 60:.1f} min", flush=True)
            if notebook.name[:2] == "02" and len(failures := crops.read_failures(profile.workspace.faces)):
                print(f"{len(failures)} videos could not be read: {', '.join(failures['video_id'].head(10))}", flush=True)
                code = PARTIAL
            continue
        print(f"error: {notebook.name} failed: {cause} (kept in {failed})", file=sys.stderr)
        return 1
    return code


def main(argv: list[str] | None = None) -> int:
    """Read the command line, check everything that can be checked without running, then run."""
    parser = argparse.ArgumentParser(prog="python -m utils.run.notebooks", description="Run the numbered notebooks in order.")
    parser.add_argument("--profile", default="synthff", help=f"{', '.join(PROFILES)} (default: synthff)")
    parser.add_argument("--only", nargs="+", metavar="NN", help="numbers of the notebooks to run (default: all)")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--out", type=Path, help="folder for the executed notebooks (default: the profile's own)")
    parser.add_argument("--solutions", action="store_true", help="execute the solutions of the exercises, too")
    args = parser.parse_args(argv)
    try:
        profile = get_profile(args.profile)
        notebooks = find_notebooks(NOTEBOOKS, args.only)
        steps = plan(notebooks, profile.name, dict(args.parameter))
        folder = args.out or profile.workspace.notebooks
        if folder.resolve() == NOTEBOOKS.resolve() and any(parameters for _, parameters in steps):
            raise ValueError("other parameters than the defaults would spoil the committed notebooks: add --out DIR")
        if folder.resolve() == NOTEBOOKS.resolve() and args.solutions:
            raise ValueError("the committed notebooks leave the solutions to the reader: add --out DIR")
        require_inputs(profile, notebooks)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    quiet = {"TQDM_DISABLE": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    os.environ.update(quiet, NOTEBOOKS_IN_BATCH="1")  # equal outputs
    return run_all(steps, profile, folder, profile.workspace.root / "build" / "failed", args.solutions)


if __name__ == "__main__":
    sys.exit(main())

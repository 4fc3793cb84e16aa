"""The notebook runner: equal outputs, nothing half-written, and one clear line for every wrong request."""

import subprocess
import sys

import nbformat
import pytest
from nbformat import v4

from utils.config import get_profile
from utils.paths import ROOT
from utils.run import notebooks, reproduce

PARAMETERS = 'profile = "synthff"\nseed = 0\nrate = 0.5\ndetector = "hog"\nwide = False'
COMPUTE = "import os\nfor i in range(3):\n    print(i, flush=True)\nprint(profile, seed, os.environ['TQDM_DISABLE'])"


def write_notebook(path, *sources, parameters=PARAMETERS):
    cells = [v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters else []
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(v4.new_notebook(cells=cells + [v4.new_code_cell(s) for s in sources], metadata=kernel), path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(notebooks, "NOTEBOOKS", folder)
    monkeypatch.setattr(notebooks, "require_inputs", lambda profile, notebooks: None)
    monkeypatch.setenv("TQDM_DISABLE", "0")
    return folder


def text_of(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


@pytest.mark.slow
def test_two_runs_are_equal_byte_for_byte_and_obey_parameters(folder, tmp_path, capfd):
    write_notebook(folder / "01_first.ipynb", COMPUTE)
    for name in ("a", "b"):
        assert notebooks.main(["--profile", "smoke", "-p", "seed", "3", "--out", str(tmp_path / name)]) == 0
    first, second = [tmp_path / name / "01_first.ipynb" for name in ("a", "b")]
    assert first.read_bytes() == second.read_bytes()
    assert text_of(first) == "0\n1\n2\nsmoke 3 1\n"
    content = nbformat.read(first, as_version=4)
    assert "papermill" not in content.metadata and "version" not in content.metadata.language_info
    assert all(not cell.metadata.keys() & {"papermill", "execution"} for cell in content.cells)
    assert [len(cell.outputs) for cell in content.cells] == [0, 0, 1]
    printed = capfd.readouterr()
    assert "01_first: 0." in printed.out and printed.err == ""


@pytest.mark.slow
def test_solutions_are_executed_where_they_are_asked_for(folder, tmp_path, capsys):
    path = write_notebook(folder / "01_first.ipynb", "x = 2")
    book = nbformat.read(path, as_version=4)
    folded = "<details><summary>Solution</summary>\n\n```python\nprint(%s)\n```\n\nSo it is.\n</details>"
    text = "**1.** Twice?\n\n" + folded % "2 * x" + "\n\n**2.** More?\n\n" + folded % "x**3"
    book.cells += [v4.new_markdown_cell(text), v4.new_markdown_cell("```python\nprint('no solution')\n```")]
    nbformat.write(book, path)
    for name, more in (("with", ["--solutions"]), ("without", [])):
        assert notebooks.main(["--profile", "smoke", "--out", str(tmp_path / name), *more]) == 0
    assert text_of(tmp_path / "with/01_first.ipynb") == "4\n8\n" and text_of(tmp_path / "without/01_first.ipynb") == ""
    before = path.read_bytes()
    assert notebooks.main(["--profile", "synthff", "--out", str(folder), "--solutions"]) == 2
    assert "add --out DIR" in capsys.readouterr().err and path.read_bytes() == before


@pytest.mark.slow
def test_a_failed_notebook_leaves_the_old_one_and_is_kept(folder, tmp_path, capsys):
    source = write_notebook(folder / "01_first.ipynb", "raise ValueError('no such thing')")
    write_notebook(folder / "02_second.ipynb", "1")
    before, failed = source.read_bytes(), tmp_path / "failed"
    steps = notebooks.plan(notebooks.find_notebooks(folder), "synthff", {})
    assert notebooks.run_all(steps, get_profile("synthff"), folder, failed) == 1
    assert source.read_bytes() == before and sorted(p.name for p in folder.iterdir()) == [
        "01_first.ipynb", "02_second.ipynb"
    ]
    assert (failed / "01_first.ipynb").is_file() and not (failed / "02_second.ipynb").exists()
    error = capsys.readouterr().err.strip()
    assert "01_first.ipynb failed" in error and "ValueError: no such thing" in error and "\n" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "nonsense"], "unknown profile 'nonsense'"),
        (["-p", "sede", "1", "--out", "x"], "unknown parameter 'sede'"),
        (["-p", "seed", "many", "--out", "x"], "parameter seed wants a int like 0"),
        (["-p", "profile", "smoke", "--out", "x"], "by --profile"),
        (["--only", "09"], "no notebook 09"),
        (["-p", "seed", "1", "--out", "notebooks"], "add --out DIR"),
    ],
)
def test_wrong_requests_fail_at_once_with_one_line(folder, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(folder.parent)
    write_notebook(folder / "01_first.ipynb", "1")
    assert notebooks.main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""


@pytest.mark.parametrize(
    ("parameters", "message"),
    [(None, "0 cells are tagged"), ("seed = 0", "lacks `profile`"), ('profile = str("x")', "is no literal"),
     ("import os", "is no literal")],
)
def test_bad_parameters_cells_are_refused(folder, capsys, parameters, message):
    write_notebook(folder / "01_first.ipynb", "1", parameters=parameters)
    assert notebooks.main([]) == 2
    assert message in capsys.readouterr().err


def test_a_second_parameters_cell_is_refused(folder):
    path = write_notebook(folder / "01_first.ipynb", "1")
    content = nbformat.read(path, as_version=4)
    content.cells.append(v4.new_code_cell("seed = 1", metadata={"tags": ["parameters"]}))
    nbformat.write(content, path)
    with pytest.raises(ValueError, match="2 cells are tagged"):
        notebooks.read_parameters(path)


def test_values_take_the_type_of_their_default(folder):
    notebook = write_notebook(folder / "01_first.ipynb", "1")
    asked = {"seed": "7", "rate": "1", "detector": "7", "wide": "True"}
    assert notebooks.plan([notebook], "synthff", asked) == [
        (notebook, {"seed": 7, "rate": 1, "detector": "7", "wide": True})
    ]
    assert notebooks.plan([notebook], "synthff", {"seed": "0"}) == [(notebook, {})]  # defaults are not injected


def test_missing_inputs_are_named_with_their_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("FFPP_ROOT", str(tmp_path))
    profile = get_profile("ffpp")
    by_number = {number: [notebooks.NOTEBOOKS / f"{number}_name.ipynb"] for number in ("01", "03", "07")}
    with pytest.raises(FileNotFoundError, match="set FFPP_ROOT"):
        notebooks.require_inputs(profile, by_number["01"])
    with pytest.raises(FileNotFoundError, match="run notebook 02 first"):
        notebooks.require_inputs(profile, by_number["03"])
    with pytest.raises(FileNotFoundError, match="run notebooks 03 to 05 first"):
        notebooks.require_inputs(profile, by_number["07"])


def test_the_module_runs_as_a_command():
    command = [sys.executable, "-m", "utils.run.notebooks", "--profile", "nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: unknown profile") and "Traceback" not in done.stderr


# ---- the main job ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch):
    """Let every step be noted, and return the exit code that a test gives it by its module, 0 otherwise."""
    asked, codes = [], {}

    def step(module, *arguments):
        asked.append((module.removeprefix("utils.run."), *arguments))
        return codes.get(asked[-1][0], 0)

    monkeypatch.setattr(reproduce, "step", step)
    monkeypatch.setattr(notebooks, "too_little", lambda *_: "")
    return asked, codes


def names(asked) -> list[str]:
    return [module for module, *_ in asked]


def test_the_main_job_is_faces_networks_the_small_study_notebooks_and_the_comparison(steps):
    asked, _ = steps
    assert reproduce.reproduce("repeat", strict=True, seeds=(1,)) == 0
    assert names(asked) == ["notebooks", "grid", "extract", "pilot", "notebooks", "compare"]
    assert asked[0][-2:] == ("01", "02") and {"03", "08", "11"} <= set(asked[4]) and not {"01", "02"} & set(asked[4])
    assert asked[1] == ("grid", "--profile", "repeat", "--groups", "main", "--seeds", "1")
    assert asked[5] == ("compare", "--strict")
    asked.clear()
    assert reproduce.reproduce("smoke") == 0 and names(asked) == ["notebooks", "grid", "notebooks"]


@pytest.mark.parametrize(
    ("module", "code", "ended", "left_out"),
    [
        ("grid", 2, 2, {"extract", "pilot", "compare"}),
        ("extract", 1, notebooks.PARTIAL, set()),  # some videos can't be read: the others are studied
        ("extract", 2, 2, {"pilot"}),
        ("pilot", 2, 2, set()),
        ("compare", 1, 1, set()),
    ],
)
def test_the_main_job_goes_as_far_as_it_can(steps, module, code, ended, left_out):
    asked, codes = steps
    codes[module] = code
    assert reproduce.reproduce("repeat") == ended
    assert {"notebooks", "grid", "extract", "pilot", "compare"} - set(names(asked)) == left_out
    assert names(asked).count("notebooks") == (1 if module == "grid" else 2)

from __future__ import annotations

import dataclasses
import time

import pandas as pd
import pytest
from clips import empty_tree
from fake_faces import tiny_profile

from utils.config import CASE_NETWORKS, ModelConfig, get_profile
from utils.faces import ffpp
from utils.paths import RATES
from utils.run import costs, grid, plan, progress

FFPP = get_profile("ffpp")
MEASURED = {"xception": (299, 2.0), "resnet18": (224, 10.0)}  # px, images a second


@pytest.fixture
def rates(tmp_path):
    rows = [("a CPU", "cpu", "fp32", "train", model, px, per_s) for model, (px, per_s) in MEASURED.items()]
    rows += [("a CPU", "cpu", "fp32", "infer", "xception", 299, 7.0), ("a CPU", "cpu", "", "extract", "hog", 720, 4.0)]
    table = pd.DataFrame(rows, columns=["machine", "device", "precision", "work", "model", "px", "per_s"])
    table.to_csv(tmp_path / "rates.csv", index=False)
    return tmp_path / "rates.csv"


@pytest.mark.parametrize(("column", "value"), [("per_s", 0.0), ("per_s", float("inf")), ("per_s", -1.0), ("px", -1)])
def test_rates_that_are_none_are_refused(rates, column, value):
    pd.read_csv(rates, keep_default_na=False).assign(**{column: value}).to_csv(rates, index=False)
    with pytest.raises(ValueError, match="rates.csv: rates that are none .*: measure it again"):
        costs.load_rates("cpu", "a CPU", rates)


def with_tree(profile, root):
    return dataclasses.replace(profile, data=dataclasses.replace(profile.data, root=str(root)))


def test_a_rate_is_measured_or_scaled_by_flops_or_unknown(rates):
    cpu, gpu = costs.load_rates("cpu", "a CPU", rates), costs.load_rates("cuda", "", rates)
    assert cpu.per_second("train", "xception", 299) == (2.0, False)
    assert cpu.per_second("train", "xception", 598) == (0.5, True)  # four times the pixels
    assert cpu.per_second("infer", "xception", 299) == (7.0, False)
    assert cpu.per_second("infer", "resnet18", 224) == (30.0, True)  # a third of the work of training
    speeds = [per_s * costs.flops(model, px) for model, (px, per_s) in MEASURED.items()]
    estimate, estimated = cpu.per_second("train", "resnet50", 224)
    assert estimated and estimate == pytest.approx(sum(speeds) / 2 / costs.flops("resnet50", 224))
    assert costs.flops("resnet50", 224) == pytest.approx(2 * 4.1e9, rel=0.03)  # 4.1 billion multiply-adds (He et al. 2016)
    assert gpu.per_second("train", "xception", 299) is None and cpu.per_second("index") is None
    with pytest.raises(FileNotFoundError, match="measure it by `python benchmarks/rates.py --csv"):
        costs.load_rates(path=rates.with_name("none.csv"))


def test_every_run_that_the_grid_expects_is_a_fit():
    for profile in (FFPP, get_profile("synthff")):
        for group in (grid.NOTEBOOKS, *grid.GROUPS):
            for task in grid.tasks(profile, group):
                fits = {(fit.experiment, fit.run) for fit in costs.fits(profile, task)}
                assert set(grid.expected(profile, task)) <= fits, task


def test_steps_and_images_are_those_of_the_settings():
    (task, _) = grid.tasks(FFPP, "comparison", [0])
    fits = {fit.run.split("-")[0]: fit for fit in costs.fits(FFPP, task)}
    student = fits["student_compression_it1"]
    assert (student.steps, student.images, student.px) == (20_000, 16 * (1 + 3), 380)
    assert (student.labelled, student.pool) == (1, pytest.approx(2 / 3))  # the clean view, of two thirds of the people
    assert fits["teacher_both"].images == fits["oracle"].images == 16
    head = costs.fits(FFPP, grid.tasks(FFPP, "cases", [0], ["xception"])[0])[0]
    assert head.layers == "head"
    assert [fit.pool for fit in costs.fits(FFPP, grid.tasks(FFPP, "labels", [0], people=[72])[0], 720) if fit.pool][0] == 0.9


def test_ffpp_without_a_tree_has_the_official_sizes(tmp_path, rates):
    profile = with_tree(FFPP, tmp_path / "none")
    faces = plan.count_faces(profile)
    assert faces.videos == 4000 and not faces.known and faces.by_split["train"] == 720 * 2 * 32
    parts = plan.make_plan(profile, faces, costs.load_rates("cpu", "", rates), costs.load_rates("cuda", "", rates))
    assert [part.name for part in parts] == [
        "index", "extraction", "comparison", "cases", "labels", "ablation", "scoring"
    ]  # fmt: skip
    extraction, comparison, cases = parts[1:4]
    assert extraction.bytes == 4000 * 32 * 3 * 380**2 and extraction.done == "no"
    assert (comparison.fits, comparison.done) == (5 * 10, "0/10")
    assert comparison.steps == 50 * 20_000
    assert cases.fits == len(CASE_NETWORKS) * (2 + 1 + 3)  # two phases, and a teacher and three students
    assert plan.hours(extraction, 2, False) == "4.4"  # 128,000 frames, four a second and core
    assert plan.hours(extraction, 1, True) == "0.56"  # on the 16 cores beside the GPU
    assert plan.hours(comparison, 8, True) == "?" and plan.hours(comparison, 8, False).startswith("~")


def test_without_rates_the_counts_are_there_and_the_hours_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "RATES", tmp_path / "none.csv")
    profile = with_tree(FFPP, tmp_path / "none")
    faces, (cpu, gpu) = plan.count_faces(profile), (costs.load_rates(device) for device in ("cpu", "cuda"))
    parts = plan.make_plan(profile, faces, cpu, gpu, seeds=[0])
    table = plan.table(parts)
    assert table.loc[table["part"] == "comparison", "fits"].item() == "10"
    assert (table.iloc[:, len(plan.HEADINGS) :] == "?").all(axis=None)
    assert any("benchmarks/rates.py` measures it" in line for line in plan.notes(profile, parts, faces, cpu, gpu))


def test_a_tree_and_its_splits_are_counted(tmp_path, rates):
    splits = {"train": [["000", "001"], ["002", "003"]], "val": [["004", "005"]], "test": [["006", "007"]]}
    profile = with_tree(FFPP, empty_tree(tmp_path / "tree", splits))
    faces = plan.count_faces(profile)
    assert faces.known and faces.videos == 32 and faces.train_people == 4
    assert faces.by_split == {"train": 8 * 32, "val": 4 * 32, "test": 4 * 32}


def test_a_plan_makes_nothing_and_leaves_no_group_of_the_main_job_out(tmp_path, rates, monkeypatch):
    splits = {"train": [["000", "001"], ["002", "003"]], "val": [["004", "005"]], "test": [["006", "007"]]}
    monkeypatch.setattr(ffpp, "encode_all", lambda *given: pytest.fail("a plan encodes"), raising=True)
    methods = ("Deepfakes", "NeuralTextures")
    lacking = with_tree(FFPP, empty_tree(tmp_path / "tree", splits, methods, qualities=("c23",)))
    assert plan.count_faces(lacking).videos == 32
    both = dataclasses.replace(lacking, data=dataclasses.replace(lacking.data, methods=methods))
    none = costs.load_rates(costs.CPU, "a CPU", rates)
    names = [part.name for part in plan.make_plan(both, plan.count_faces(both), none, none, seeds=(0,))]
    assert set(grid.groups_of(both, [grid.MAIN])) <= set(names) and grid.METHODS in names


def test_the_table_is_narrow_and_names_what_it_rests_on(tmp_path, rates, monkeypatch, capsys):
    monkeypatch.setattr(plan, "get_profile", lambda name: with_tree(FFPP, tmp_path / "none"))
    monkeypatch.setattr("sys.argv", ["plan", "--profile", "ffpp", "--rates", str(rates)])
    plan.main()
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    text = " ".join(text.split())
    assert "not measured on a GPU" in text and "one core of a CPU" in text and "FF++'s official splits" in text
    monkeypatch.setattr("sys.argv", ["plan", "--rates", str(tmp_path / "no.csv")])
    with pytest.raises(SystemExit):
        plan.main()
    assert capsys.readouterr().err.startswith("error: no table of rates")
    for damage in (b"split,identities\ntrain,2\n", b"\xff\xfe\x00", rates.read_bytes().replace(b"2.0", b"fast")):
        rates.write_bytes(damage)
        monkeypatch.setattr("sys.argv", ["plan", "--rates", str(rates)])
        with pytest.raises(SystemExit):
            plan.main()
        error = capsys.readouterr().err
        assert error.startswith(f"error: {rates}: ") and "measure it again" in error and error.count("\n") == 1


def test_tasks_end_when_the_last_of_them_does():
    assert plan.makespan([3, 1, 1, 1], 2) == 3 and plan.makespan([1, 1, 1, 3], 2) == 4 and plan.makespan([], 2) == 0


@pytest.mark.skipif(not RATES.is_file(), reason="no rates are committed yet: run benchmarks/rates.py on a quiet machine")
def test_the_committed_rates_name_their_machine_and_cover_every_network():
    table = pd.read_csv(RATES, keep_default_na=False)
    assert list(table) == costs.COLUMNS
    assert (table["per_s"] > 0).all() and table["machine"].str.len().gt(5).all()
    assert set(CASE_NETWORKS) <= set(table.loc[table["work"] == "train", "model"])


def test_progress_weighs_tasks_by_steps_and_cost(tmp_path, monkeypatch):
    profile = tiny_profile(tmp_path)
    models = profile.models | {"resnet18": ModelConfig(px=16, steps=30, batch_size=4)}
    profile = dataclasses.replace(profile, models=models | {"resnet50": ModelConfig(px=32, steps=10, batch_size=4)})
    todo = grid.supervised_tasks(profile, ["resnet18", "resnet50"], [0])
    nothing = costs.Rates(pd.DataFrame(columns=costs.COLUMNS), "", "cpu")
    monkeypatch.setattr(costs, "load_rates", lambda: nothing)  # by pixels: 30 * 16^2 and 10 * 32^2
    one = progress.Progress(profile, todo, jobs=2)
    assert one.estimate() == (0, None) and one.line() == "grid: 0 %"
    long, short = (next(iter(fits)) for fits in one.weights)
    log = costs.folder(profile, long) / "log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"step": 10}\n{"step": 15}\n')
    one.began = time.monotonic() - 60
    part, left = one.estimate()
    assert part == pytest.approx(15 * 256 / (30 * 256 + 10 * 1024))
    assert left == pytest.approx(60 * 2 * 10 * 1024 / (15 * 256), rel=0.01)  # the other task, by one of two processes
    (log.parent / "result.json").write_text("{}")
    costs.folder(profile, short).mkdir(parents=True)
    (costs.folder(profile, short) / "log.jsonl").write_text('{"step": 10}\n{"st')  # a line half written
    assert one.line().startswith("grid: 43 %, about ")
    again = progress.Progress(profile, todo, jobs=2)  # what was done before tells nothing about the speed
    assert again.line() == "grid: 43 %"


def test_lines_are_printed_where_there_is_no_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    profile = tiny_profile(tmp_path)
    todo = grid.supervised_tasks(profile, ["resnet18"], [0])
    monkeypatch.setattr(progress, "LOOK", 0.05)
    with progress.watched(profile, todo, 1) as finished:
        time.sleep(0.2)
        folder = costs.folder(profile, costs.fits(profile, todo[0])[0])
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("{}")
        finished(["done"])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "grid: 0 %" and lines[-1] == "grid: 100 %" and len(lines) <= 3

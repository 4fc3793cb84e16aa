from __future__ import annotations

import dataclasses

import pytest
from fake_faces import make_faces, tiny_profile

from utils import config
from utils.config import ARMS, CASE_NETWORKS, LABELLED_PEOPLE, Experiment, get_profile
from utils.learn.models import WeightsUnavailable
from utils.learn.scores import SCORES
from utils.paths import read_json, write_json
from utils.results import study
from utils.run import costs, grid, progress

SYNTHFF = get_profile("synthff")


def test_the_cases_are_every_network_in_every_phase_once():
    tasks = grid.tasks(SYNTHFF, "cases", [0, 1])
    cases = [(task.model, phase, task.seed) for task in tasks for phase in task.phases]
    assert len(cases) == len(set(cases)) == 2 * 3 * len(CASE_NETWORKS)
    assert all(task.phases in (("trained", "post_trained"), ("noisy_trained",)) for task in tasks)
    assert all(set(CASE_NETWORKS) == set(get_profile(name).models) for name in ("synthff", "ffpp"))
    only = grid.tasks(SYNTHFF, "cases", [0], ["xception"])
    assert [task.phases for task in only] == [("trained", "post_trained"), ("noisy_trained",)]


def test_the_comparison_and_the_label_counts_are_every_phase_once_a_seed():
    phases = [phase for task in grid.tasks(SYNTHFF, "comparison", [3]) for phase in task.phases]
    assert sorted(phases) == sorted(ARMS)
    for first, later in (("teacher_c40", "student_classic"), ("teacher_both", "student_compression")):
        (task,) = [task for task in grid.tasks(SYNTHFF, "comparison", [3]) if later in task.phases]
        assert task.phases.index(first) < task.phases.index(later)  # no other process may be training the teacher
    assert [task.people for task in grid.tasks(SYNTHFF, "labels", [0])] == list(LABELLED_PEOPLE)
    assert [task.people for task in grid.tasks(SYNTHFF, "labels", [0, 1], people=[10])] == [10, 10]
    with pytest.raises(ValueError, match="7 people with labels: whole pairs are needed"):
        grid.tasks(SYNTHFF, "labels", [0], people=[10, 7])


@pytest.mark.parametrize("wrong", [["--factors", "typo"], ["--people", "7"]])
def test_the_last_group_is_checked_before_the_first_is_trained(monkeypatch, capsys, wrong):
    monkeypatch.setattr(grid, "run_grid", lambda *given: pytest.fail("training has begun"))
    monkeypatch.setattr("sys.argv", ["grid", *wrong])
    with pytest.raises(SystemExit) as left:
        grid.main()
    assert left.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    chosen = grid.tasks(SYNTHFF, "ablation", [0, 1], factors=["pseudo_labels", "ema"])
    factors = [(task.seed, task.experiment.factor) for task in chosen]
    assert factors == [(0, "pseudo_labels"), (0, "ema"), (1, "pseudo_labels"), (1, "ema")]
    with pytest.raises(ValueError, match="unknown factor 'nothing': choose from pseudo_labels"):
        grid.tasks(SYNTHFF, "ablation", [0], factors=["nothing"])
    with pytest.raises(ValueError, match="unknown group 'nothing'"):
        grid.tasks(SYNTHFF, "nothing", [0])


def test_ffpp_runs_the_comparison_first_and_the_cases_after_it():
    assert grid.groups_of(get_profile("ffpp"), ["main"]) == ["comparison", "cases"]
    assert grid.groups_of(SYNTHFF, ["main"]) == grid.groups_of(get_profile("repeat"), ["main"]) == ["notebooks"]
    assert grid.groups_of(SYNTHFF, ["ablation", "comparison"]) == ["comparison", "ablation"]


@pytest.mark.parametrize("name", ["synthff", "ffpp", "smoke"])
def test_experiments_that_depend_on_the_usual_student_follow_the_profile(name):
    profile, phase = get_profile(name), "student_compression"
    usual, batch = profile.student_of(phase), profile.model(profile.student_model, phase).batch_size
    control = config.CONTROL.profile(profile)
    assert control.model(profile.student_model, phase).batch_size == batch * (1 + usual.mu)  # images of the student's steps
    (longer,) = (one for one in config.ABLATIONS if one.value == "ImageNet_twice_as_long")
    assert longer.profile(profile).student_of(phase) == dataclasses.replace(usual, steps_factor=2 * usual.steps_factor)
    if name == "synthff":
        assert (batch * (1 + usual.mu), 2 * usual.steps_factor) == (36, 8 / 3)  # of the committed runs


def test_a_failure_names_its_task(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "get_profile", lambda name: tiny_profile(tmp_path))
    (task, _) = grid.tasks(SYNTHFF, "cases", [3], ["mobilenet-v2"])
    with pytest.raises(grid.TaskFailed, match="^cases: mobilenet-v2 seed 3 failed: no faces at"):
        grid.run_grid("tiny", [task], jobs=1)


def test_what_notebooks_train_is_part_of_the_grid():
    tasks = grid.tasks(SYNTHFF, "notebooks", [0])
    assert tasks[:2] == grid.tasks(SYNTHFF, "comparison", [0])
    supervised = {task.model: task.phases for task in tasks[2:]}
    assert supervised == {"xception": ("trained",), "efficientnet-lite0": ("trained", "post_trained")}
    every = grid.tasks(get_profile("smoke"), "notebooks")
    assert {task.model for task in every[2:]} == {*get_profile("smoke").baselines, *get_profile("smoke").efficientnets}


def leave_a_run(profile, experiment, run, settings):
    """Leave a finished run's folder, without scores."""
    folder = dataclasses.replace(profile, variant=experiment).workspace.runs / run
    about = {"run": run, "settings": settings, "git_commit": "c", "machine": {"cpu": "x", "threads": 1}}
    write_json(folder / "config.json", about | {"data": {"pairs": []}, "train_config": {"precision": "fp32"}})
    write_json(folder / "result.json", {"val_auc": 0.5})
    return folder


def test_a_task_is_missing_until_its_last_iteration_and_all_scores_are_there(tmp_path):
    profile = tiny_profile(tmp_path, iterations=2)
    (task,) = [task for task in grid.tasks(profile, "comparison", [0]) if "student_compression" in task.phases]
    fits, scored = grid.expected(profile, task), grid.scored(profile, task)
    first, second, chosen = (("", f"student_compression{end}-mobilenet-v2-s0") for end in ("_it1", "_it2", ""))
    assert {first, second} <= set(fits) and chosen not in fits and {first, second, chosen} <= set(scored)
    folders = {key: leave_a_run(profile, *key, settings) for key, settings in (fits | {chosen: fits[second]}).items()}
    assert grid.missing(profile, [task]) == [task]  # trained, and nobody scored
    for key in scored:
        (folders[key] / SCORES).touch()
    assert grid.missing(profile, [task]) == []
    for key in (chosen, second):
        leave_a_run(profile, *key, "of an older config.py")
        assert grid.missing(profile, [task]) == [task]
        leave_a_run(profile, *key, fits[second])
    assert grid.missing(profile, [task]) == []
    for key in (second, chosen):
        (folders[key] / "result.json").rename(tmp_path / "away.json")
        assert grid.missing(profile, [task]) == [task]
        (tmp_path / "away.json").rename(folders[key] / "result.json")


def test_a_task_is_missing_where_others_have_labels_now(tmp_path):
    profile, faces = tiny_profile(tmp_path, iterations=1), make_faces(train=6)
    (task,) = [task for task in grid.tasks(profile, "comparison", [0]) if "student_compression" in task.phases]
    assert {"oracle", "student_compression"} < set(task.phases) and profile.data.labelled_fraction == 0.5
    fits = grid.expected(profile, task)
    for key in grid.scored(profile, task):
        folder = leave_a_run(profile, *key, fits.get(key, fits["", "student_compression_it1-mobilenet-v2-s0"]))
        config = read_json(folder / "config.json")
        pairs = [f"pair{place}" for place in range(6 if key[1].startswith("oracle") else 3)]
        write_json(folder / "config.json", config | {"data": {"pairs": pairs}})
        (folder / SCORES).touch()
    assert grid.missing(profile, [task]) == grid.missing(profile, [task], faces) == []
    fewer = dataclasses.replace(profile, data=dataclasses.replace(profile.data, labelled_fraction=1 / 3))
    assert grid.expected(fewer, task) == fits and grid.missing(fewer, [task], faces) == [task]


@pytest.mark.slow
def test_a_grid_trains_scores_and_resumes(tmp_path, monkeypatch):
    profile = tiny_profile(tmp_path, iterations=2)
    monkeypatch.setattr(grid, "get_profile", lambda name: profile)
    monkeypatch.setattr(grid, "load_faces", lambda profile: make_faces())
    monkeypatch.setattr(grid, "LABELLED_PEOPLE", (2,))
    one = Experiment("threshold", "0.4", {"threshold": 0.4})
    monkeypatch.setattr(config, "ABLATIONS", (one, Experiment("mu", "1", {"mu": 1})))  # mu = 1 is the profile's own
    groups = ("comparison", "cases", "labels", "ablation")
    todo = [task for group in groups for task in grid.tasks(profile, group, [0], ["mobilenet-v2"])]
    lines = grid.run_grid("tiny", todo, jobs=1)
    assert len(lines) == 6 + 3 + 5 + 1 and all(line.endswith(": done") for line in lines)
    space = profile.workspace
    scored = {str(path.parent.relative_to(space.runs)) for path in space.runs.rglob(SCORES)}
    assert len([name for name in scored if "/" not in name]) == 6 + 4 + 3 + 1  # iterations, and the teacher of phase 3
    assert "labels/people/2/student_classic-mobilenet-v2-s0" in scored
    assert "ablation/threshold/0.4/student_compression-mobilenet-v2-s0" in scored
    control = "labels/people/2/pseudo_labels/none_but_all_the_noise/student_compression-mobilenet-v2-s0"
    assert {control, "labels/people/2/student_compression_it1-mobilenet-v2-s0"} <= scored
    teacher = read_json(space.runs / control / "config.json")["teacher"]
    assert teacher == read_json(space.runs / "labels/people/2/teacher_both-mobilenet-v2-s0" / "config.json")["hash"]
    assert not (space.runs / "ablation/threshold/0.4/teacher_both-mobilenet-v2-s0").exists()  # the comparison's is used
    labelled = read_json(space.runs / "labels/people/2/teacher_both-mobilenet-v2-s0/config.json")["data"]["pairs"]
    assert len(labelled) == 1
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.suffix in (".gz", ".safetensors")}
    assert grid.run_grid("tiny", todo, jobs=1) == lines
    fits = {costs.folder(profile, fit): fit for task in todo for fit in costs.fits(profile, task, train_people=8)}
    trained = {path.parent: read_json(path) for path in space.runs.rglob("config.json")}
    trained = {folder: config for folder, config in trained.items() if "chosen" not in config}
    assert set(fits) == set(trained)  # what the plan counts is what was trained, in as many steps
    assert all(fits[folder].steps == config["model_config"]["steps"] for folder, config in trained.items())
    assert all(fits[folder].layers == config["layers"] for folder, config in trained.items())
    assert progress.Progress(profile, todo, jobs=2).line() == "grid: 100 %"
    assert len(grid.missing(profile, todo)) == 0  # every run has the settings that were expected of it
    assert grid.missing(profile, todo, make_faces()) == []  # and the labels
    longer = dataclasses.replace(profile, train=dataclasses.replace(profile.train, ema=0.6))
    assert len(grid.missing(longer, todo)) == len(todo)
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())
    monkeypatch.setattr(study, "LABELLED_PEOPLE", (2,))
    monkeypatch.setattr(study, "ABLATIONS", (one,))
    found = study.load_study(profile)
    tables = study.tables(found)
    assert set(tables["labels"]["people"]) == {2, 4}
    assert list(tables["ablation"]["setting"]) == ["0.4", "0.4"] and set(tables["iterations"]["iteration"]) == {0, 1, 2}
    assert len(tables["pseudo_labels"]) == 4 and tables["pseudo_labels"][["right", "kept"]].stack().between(0, 1).all()


def test_networks_without_weights_are_left_out_with_the_reason(tmp_path, monkeypatch):
    def unavailable(*arguments):
        raise WeightsUnavailable("no network")

    monkeypatch.setattr(grid, "get_profile", lambda name: tiny_profile(tmp_path))
    monkeypatch.setattr(grid, "load_faces", lambda profile: None)
    monkeypatch.setitem(grid.CASES, "trained", unavailable)
    (task, _) = grid.tasks(SYNTHFF, "cases", [0], ["efficientnet-b4-noisy"])
    task = dataclasses.replace(task, phases=("trained",))
    assert grid.run_task("tiny", task) == ["cases: efficientnet-b4-noisy seed 0, trained: left out, no network"]

"""The study's runner: order, resuming, and tests that are scored once, after a committed protocol."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_study_cells import STUDY, one_thread, study_faces, tiny_study  # noqa: F401 - a fixture

from utils import protocol
from utils.config import PROFILES, get_profile
from utils.faces.splits import POOL, SEALED
from utils.learn import cells as learn_cells
from utils.learn.cells import folder_of, is_finished
from utils.learn.dataset import FaceSet
from utils.learn.precision import cpu_kind
from utils.learn.scores import SCORES, read_scores
from utils.paths import ROOT, WORK, read_json, sha256, write_json
from utils.protocol import AIM, ARMS, PRIMARY, STUDIES, Cell, cells, stages
from utils.run import study

REAL, SMOKE = get_profile("study"), get_profile("study-smoke")


@pytest.fixture
def faces():
    return study_faces()


@pytest.fixture
def tiny(faces, tmp_path, monkeypatch):
    profile = tiny_study(tmp_path / "study", monkeypatch)
    monkeypatch.setattr(study, "get_profile", lambda name: profile)
    monkeypatch.setattr(study, "load_faces", lambda profile: faces)
    return profile


def test_the_primary_contrast_comes_first_over_all_seeds():
    every, config = cells(REAL), STUDIES["study"]
    first = every[: 3 * len(config.seeds)]
    assert [cell.arm for cell in first[:10]] == ["teacher"] * 10  # nobody waits for one
    assert {(cell.arm, cell.seed) for cell in first} == {(arm, seed) for arm in ("teacher", *PRIMARY) for seed in range(10)}
    assert {(cell.labels, cell.pool, cell.frames) for cell in first} == {(20, 0, 0), (20, 1000, 24)}
    assert len(set(every)) == len(every) and {cell.seed for cell in cells(REAL, only=["arms"])} == set(config.seeds)
    assert {cell.seed for cell in cells(REAL, only=["labels"])} == set(config.seeds[: config.fewer_seeds["labels"]])
    for cell in every:
        assert not ARMS[cell.arm].taught or every.index(cell.teacher(REAL)) < every.index(cell)


def test_the_study_has_every_arm_and_both_curves():
    every = set(cells(REAL, seeds=[2]))
    assert {cell.arm for cell in every} == set(ARMS) and {cell.seed for cell in every} == {2}
    student = {(c.labels, c.pool, c.frames) for c in every if c.arm == "student_compression"}
    assert student == {(20, pool, frames) for pool in (50, 134, 400, 1000) for frames in (6, 24)} | {
        (labels, 1000, 24) for labels in (4, 10, 66)
    }
    assert {c.labels for c in every if c.arm == "control"} == {c.labels for c in every if c.arm == "teacher"} == {4, 10, 20, 66}
    for cell in every:  # an equal or larger student has a control: the same network, steps and noise, labels alone
        if cell.arm == "student_imagenet":
            assert Cell("recipe", cell.labels, network=cell.network, seed=2) in every
    assert {c.network for c in every if c.arm == "recipe"} == set(REAL.models)
    assert STUDIES["study"].pool_split == POOL and STUDIES["study"].tests == SEALED
    assert all(cell.arm in ARMS for found in stages(STUDIES["study-smoke"], SMOKE.student_model).values() for cell in found)


def test_parts_of_the_study_can_be_asked_for():
    assert {cell.arm for cell in cells(REAL, arms=["control"])} == {"control"}
    assert [cell.seed for cell in cells(REAL, seeds=[7], only=["primary"])] == [7] * 3
    for wrong, match in (({"arms": ["magic"]}, "unknown arm"), ({"only": ["magic"]}, "unknown stage")):
        with pytest.raises(ValueError, match=match):
            cells(REAL, **wrong)
    for nothing in ({"seeds": [99]}, {"arms": ["oracle"], "only": ["pool"]}):
        with pytest.raises(ValueError, match="no cell has this arm in these stages under these seeds: .* the seeds 0, 1, 2"):
            cells(REAL, **nothing)
    with pytest.raises(ValueError, match="'synthff' has no study"):
        cells(PROFILES["synthff"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "99"], "no cell has this arm"), (["--out", "folder"], "--out is for --score"),
        (["--seeds", "-1"], "-1 is below 0"), (["--jobs", "0"], "give at least 1, or -1"),
    ],
)  # fmt: skip
def test_bad_requests_end_in_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        study.main(arguments)
    assert ended.value.code == 2 and said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"stages": []}', '{"stages": {"arms": {}}}', '{"stages": {"arms": 7}}'])
def test_a_damaged_record_is_named_with_its_remedy(text, tmp_path):
    (tmp_path / study.RECORD).write_text(text)
    with pytest.raises(ValueError, match="opened.json: no record of what was scored: .*git"):
        study.read_record(tmp_path / study.RECORD, study.STAGES)


def test_a_study_resumes_and_says_what_is_left(tiny, capsys, monkeypatch):
    todo = cells(tiny, seeds=[0], arms=["control", "student_compression"], only=["primary"])
    assert [study.state_of(tiny, cell) for cell in todo] == ["to do"] * 2
    assert study.run_study(tiny, todo, jobs=1, minutes=0) == []  # no time: nothing is begun
    (line,) = study.run_study(tiny, todo[:1], jobs=1)
    assert line.startswith("control efficientnet-lite0, 4 labels, seed 0: val_auc ")
    capsys.readouterr()
    kept = {path: path.stat().st_mtime_ns for path in (tiny.workspace.runs).rglob("*.safetensors")}
    assert len(kept) == 2  # the teacher came with it
    lines = study.run_study(tiny, todo, jobs=1)
    assert len(lines) == 1 and "pool of 4 x 4 frames" in lines[0]
    assert capsys.readouterr().out.splitlines()[0].startswith("2 cells: 1 finished, 1 left, about ")
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert study.run_study(tiny, todo, jobs=1) == [] and "2 finished, 0 left" in capsys.readouterr().out
    listed = list(study.listing(tiny, todo))
    assert listed[0].split()[:3] == ["finished", "primary", "control"] and listed[-1] == "primary: 2 finished"
    judged = pd.read_csv(folder_of(tiny, todo[1]) / "pseudo_labels_judged.csv")
    assert judged["clip"].nunique() == 8 and judged["right"].le(judged["frames"]).all()
    tiny.workspace.study.mkdir(parents=True, exist_ok=True)
    saved = pd.read_csv(study.save_judged(tiny, todo))
    elsewhere = replace(todo[1], seed=5)  # judged on another machine: its row stays, and what lacks is added
    saved.assign(seed=5, right=3).to_csv(tiny.workspace.study / study.RIGHT, index=False)
    again = pd.read_csv(study.save_judged(tiny, [*todo, elsewhere])).set_index("seed")["right"]
    assert again.to_dict() == {0: saved["right"].item(), 5: 3} and saved["right"].item() > 0
    saved.assign(right=1).to_csv(tiny.workspace.study / study.RIGHT, index=False)
    assert pd.read_csv(study.save_judged(tiny, todo))["right"].tolist() == [1]  # of the network that was scored
    judged.drop(columns="copies").to_csv(folder_of(tiny, todo[1]) / "pseudo_labels_judged.csv", index=False)
    (tiny.workspace.study / study.RIGHT).unlink()
    with pytest.raises(ValueError, match="pseudo_labels_judged.csv: no column copies: train the cell again"):
        study.save_judged(tiny, todo)
    table = study.scores_table(tiny, todo, study_faces())
    assert set(table["arm"]) == {"control", "student_compression"} and set(table["split"]) == {"val"}
    scores = read_scores(folder_of(tiny, todo[0]) / SCORES).query("quality == 'c40'")
    by_hand = scores.groupby("video_id")["score"].mean()
    clips = table.query("arm == 'control' and quality == 'c40'").set_index("video_id")
    assert np.allclose(clips["score"], by_hand[clips.index]) and (clips["faces"] == 4).all()


def test_teachers_that_are_asked_for_by_students_alone_come_first(tiny, monkeypatch):
    todo = cells(tiny, only=["students"])
    teachers = [Cell("teacher", 4, network=tiny.student_model, seed=seed) for seed in STUDY.seeds_of("students")]
    assert todo and study.with_teachers(tiny, todo) == teachers + todo
    assert study.with_teachers(tiny, teachers + todo) == teachers + todo
    monkeypatch.setattr(study, "is_finished", lambda profile, cell: cell.arm == "teacher" and cell.seed == 0)
    assert study.with_teachers(tiny, todo) == teachers[1:] + todo
    recipes = cells(tiny, only=["networks"])
    assert study.with_teachers(tiny, recipes) == recipes  # nobody teaches them


def test_two_processes_at_one_cell_train_it_once(tiny, faces, monkeypatch):
    import threading

    calls, real = [], learn_cells.fit
    monkeypatch.setattr(learn_cells, "fit", lambda *given, **more: calls.append(given[5].name) or real(*given, **more))
    from utils.learn import loop

    trained, run = [], loop.run
    monkeypatch.setattr(loop, "run", lambda *given, **more: trained.append(given[5].name) or run(*given, **more))
    threads = [threading.Thread(target=learn_cells.train_cell, args=(tiny, Cell("teacher", 4), faces)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 2 and len(trained) == 1


def test_the_command_refuses_what_makes_no_sense(capsys):
    with pytest.raises(SystemExit):
        study.main(["--score", "--seeds", "0"])
    assert "the cells of a stage are scored together" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        study.main(["--stages", "nothing"])
    assert "unknown stage 'nothing'" in capsys.readouterr().err
    study.main(["--list", "--profile", "study-smoke", "--stages", "primary"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + 1 + 1 and lines[-1].startswith("3 cells: ")


def test_a_half_built_pool_is_not_drawn_from(monkeypatch):
    lost = pd.DataFrame({"split": ["pool", "test2", "pool"], "path": ["a.mp4", "b.mp4", "c.mp4"]})
    whole, faces = pd.DataFrame({"split": ["pool"] * 3, "pair": list("abc")}), SimpleNamespace(pairs={"a"})
    monkeypatch.setattr(study, "load_faces", lambda profile: faces)
    monkeypatch.setattr(study.ffpp, "plan_index", lambda profile: whole)
    monkeypatch.setattr(study.ffpp, "missing_counterparts", lambda profile: lost)
    monkeypatch.setattr(study, "is_finished", lambda profile, cell: cell.seed == 1)
    with pytest.raises(ValueError, match="a.mp4 and 1 more clips of the pool are missing: run `make pool` first"):
        study.require_pool(REAL, cells(REAL, only=["primary"]))
    study.require_pool(REAL, cells(REAL, seeds=[1], only=["primary"]))  # finished
    study.require_pool(REAL, cells(REAL, only=["networks", "students"]))  # who draw none
    lost["split"] = "test2"
    with pytest.raises(ValueError, match="no face of b and 1 more pairs of the pool .* utils.run.extract --profile study"):
        study.require_pool(REAL, cells(REAL, only=["primary"]))
    faces.pairs |= {"b", "c", "d"}
    study.require_pool(REAL, cells(REAL, only=["primary"]))


# Scored once


def test_scores_of_the_real_study_are_committed_and_those_of_others_are_not():
    assert REAL.workspace.study == ROOT / "data" / "study" and SMOKE.workspace.study.is_relative_to(WORK)
    assert REAL.workspace.runs.is_relative_to(WORK)


SCORED = "primary.csv.gz"


def git(root, *arguments):
    about = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *about, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    for folder in ("report", "utils", "data/study"):
        (root / folder).mkdir(parents=True)
    git(tmp_path, "init", str(root))
    (root / "utils" / "protocol.py").write_text("LABELS = 20\n")
    (root / "utils" / "config.py").write_text("SIZE = 1\n")
    git(root, "add", "utils")
    git(root, "commit", "-m", "code")
    return root


def required(root):
    return study.require_protocol([root / "data" / "study" / SCORED], root, root / "report" / "protocol.md")


def test_the_tests_need_a_committed_and_unchanged_protocol(repository):
    text = repository / "report" / "protocol.md"
    with pytest.raises(study.Refused, match="not committed"):
        required(repository)
    text.write_text("What counts as shown.\n")
    with pytest.raises(study.Refused, match="not committed"):
        required(repository)
    git(repository, "add", "report")
    with pytest.raises(study.Refused, match="not committed"):  # staged is not committed
        required(repository)
    git(repository, "commit", "-m", "protocol")
    commit = required(repository)
    (repository / "other.txt").write_text("more")
    git(repository, "add", "other.txt")
    git(repository, "commit", "-m", "more")
    assert required(repository) == commit and len(commit) == 40  # the protocol's commit, not the last one
    text.write_text("Something else.\n")
    with pytest.raises(study.Refused, match="differs from its commit .*protocol.md"):
        required(repository)
    git(repository, "checkout", "report/protocol.md")
    (repository / "utils" / "protocol.py").write_text("LABELS = 66\n")
    with pytest.raises(study.Refused, match="differs from its commit .*utils/protocol.py"):
        required(repository)
    git(repository, "checkout", "utils/protocol.py")
    text.unlink()
    with pytest.raises(study.Refused, match="not committed"):
        required(repository)


def test_the_tests_are_scored_once(repository):
    (repository / "report" / "protocol.md").write_text("What counts as shown.\n")
    git(repository, "add", "report")
    git(repository, "commit", "-m", "protocol")
    required(repository)
    scores = repository / "data" / "study" / SCORED
    scores.write_bytes(b"scores")
    with pytest.raises(study.Refused, match="made once"):
        required(repository)
    git(repository, "add", "data")
    git(repository, "commit", "-m", "scores")
    git(repository, "rm", "-q", "data/study/" + SCORED)
    git(repository, "commit", "-m", "never happened")
    with pytest.raises(study.Refused, match="made once"):  # a commit has them
        required(repository)


def older(root, protocol, table):
    """Tell whether a protocol's commit is an ancestor of the commit that brought a table of scores, and not the same."""
    (brought,) = git(root, "log", "--diff-filter=A", "--format=%H", "--", table).split()
    ancestor = subprocess.run(["git", "merge-base", "--is-ancestor", protocol, brought], cwd=root, check=False).returncode == 0
    return ancestor and protocol != brought


def test_a_protocol_that_comes_with_the_scores_or_after_them_is_told(repository):
    text, table = repository / "report" / "protocol.md", repository / "data" / "study" / SCORED
    text.write_text("What counts as shown.\n")
    table.write_bytes(b"scores")
    git(repository, "add", ".")
    git(repository, "commit", "-m", "both at once")
    both = git(repository, "rev-parse", "HEAD").strip()
    assert not older(repository, both, "data/study/" + SCORED)
    text.write_text("Something easier.\n")
    git(repository, "commit", "-am", "after the fact")
    assert not older(repository, git(repository, "rev-parse", "HEAD").strip(), "data/study/" + SCORED)
    assert older(repository, git(repository, "rev-parse", f"{both}~").strip(), "data/study/" + SCORED)


def test_the_protocol_is_older_than_the_committed_scores():
    """And it is still the one that they were made under, or an amended one that names it."""
    if git(ROOT, "rev-parse", "--is-shallow-repository").strip() != "false":
        pytest.skip("needs the repository's whole history")
    opened = []
    tables = git(ROOT, "ls-files", "data/study/*.csv.gz").split()
    assert {Path(name).name.partition(".")[0] for name in tables} <= set(stages(STUDIES["study"], REAL.student_model))
    for name in tables:
        (protocol,) = pd.read_csv(ROOT / name)["protocol"].unique()
        assert older(ROOT, protocol, name), name
        opened.append((Path(name).name.partition(".")[0], protocol))
    record = REAL.workspace.study / study.RECORD
    stages_opened = read_json(record)["stages"] if record.is_file() else {}
    assert {(stage, each["protocol"]) for stage, each in stages_opened.items()} == set(opened)
    latest = git(ROOT, "log", "-1", "--format=%H", "--", "report/protocol.md").strip()
    study.require_amended([protocol for _, protocol in opened], latest)


def test_the_protocol_says_the_numbers_of_the_code():
    rows = re.findall(r"^\| ([\w ]+) \| ([\w, ]+) \|$", (ROOT / "report" / "protocol.md").read_text(), re.MULTILINE)
    said = dict(rows[1:])  # without the head
    assert f"at least +{AIM}" in (ROOT / "report" / "protocol.md").read_text()
    config, model = STUDIES["study"], REAL.model(REAL.student_model)
    listed = {name: ", ".join(map(str, getattr(config, name))) for name in ("label_counts", "pool_sizes", "frame_counts")}
    plain = ("labels", "pool", "student_pool", "frames", "teacher_steps", "student_steps", "score_frames")
    expected = {name: str(getattr(config, name)) for name in plain} | listed
    expected |= {"seeds": str(len(config.seeds)), "px": str(model.px), "batch_size": str(model.batch_size)}
    expected |= {f"seeds of the {stage} stage": str(count) for stage, count in config.fewer_seeds.items()}
    expected |= {name: str(value) for name, value in config.pseudo.items()}
    assert said == expected | {"mu": str(REAL.student.mu), "precision": REAL.train.precision}


def test_outside_of_git_nothing_is_scored(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "protocol.md").write_text("What counts as shown.\n")
    with pytest.raises(study.Refused, match="git can't tell"):
        required(tmp_path)


def test_scores_of_the_tests_carry_the_protocols_commit(repository, tiny, faces, monkeypatch):
    text = repository / "report" / "protocol.md"
    text.write_text("What counts as shown.\n")
    git(repository, "add", "report")
    git(repository, "commit", "-m", "protocol")
    monkeypatch.setitem(STUDIES, tiny.name, replace(STUDY, seeds=(0,), score_frames=2, unseen="unseen"))
    parts = {"primary": (Cell("teacher", 4),), "arms": (Cell("recipe", 4),)}
    monkeypatch.setattr(protocol, "stages", lambda study, network: parts)
    monkeypatch.setattr(study, "stages", lambda study, network: parts)
    unseen = study_faces()
    unseen = FaceSet(unseen.index.assign(quality=unseen.index["quality"].map({"c23": "vp9", "c40": "hevc"})), unseen.pixels)
    monkeypatch.setattr(study, "get_profile", lambda name: tiny if name == tiny.name else name)
    monkeypatch.setattr(study, "load_faces", lambda profile: unseen if profile == "unseen" else faces)
    scored = partial(study.score, tiny, 1, root=repository, protocol=text)
    with pytest.raises(study.Refused, match="not finished .1 of primary, 1 of arms"):
        scored()
    study.run_study(tiny, cells(tiny, arms=["recipe"]), jobs=1)
    with pytest.raises(study.Refused, match="not finished .1 of primary"):
        scored(["primary"])
    assert not list(tiny.workspace.root.rglob("*test_scores*"))
    (path,) = scored()  # what is finished
    assert path.name == "arms.csv.gz" and path == study.table_of(tiny, "arms")
    table = pd.read_csv(path, dtype={"video_id": str})
    assert tuple(table) == study.COLUMNS and set(table["arm"]) == {"recipe"}
    seen = table[table["quality"].isin(["c23", "c40"])]
    assert set(seen["split"]) == set(SEALED) and set(seen["pair"]) == faces.select(split=SEALED).pairs
    assert len(seen) == 2 * 4 * 2 and (seen["faces"] == 2).all()  # two pairs, four clips each, two qualities
    others = table.drop(seen.index)
    assert set(others["quality"]) == {"vp9", "hevc"} and set(others["split"]) == {SEALED[0]} and len(others) == 4 * 2
    record = read_json(path.parent / study.RECORD)
    first = record["stages"]["arms"]["protocol"]
    assert set(table["protocol"]) == {first} and len(first) == 40
    assert set(record["stages"]) == {"arms"} and record["stages"]["arms"]["cells"] == 1
    assert (record["stages"]["arms"]["device"], record["stages"]["arms"]["precision"]) == (cpu_kind(), tiny.train.precision)
    with pytest.raises(study.Refused, match="made once"):
        scored(["arms"])
    study.run_study(tiny, cells(tiny, only=["primary"]), jobs=1)
    text.write_text("Something easier.\n")
    git(repository, "commit", "-am", "protocol, again")
    with pytest.raises(study.Refused, match=f"after another protocol .{first[:7]}., and protocol.md does not name it"):
        scored()
    text.write_text(f"Amended: the arms were scored under the protocol of {first[:7]}.\n")
    git(repository, "commit", "-am", "protocol, amended")
    (other,) = scored()
    record = read_json(path.parent / study.RECORD)["stages"]
    assert other.name == "primary.csv.gz" and set(record) == {"arms", "primary"} and record["arms"]["protocol"] == first
    assert set(pd.read_csv(other)["protocol"]) == {record["primary"]["protocol"]} != {first}
    del record["primary"]["sha256"]  # as a call leaves it that is killed when it has written a table
    write_json(path.parent / study.RECORD, {"stages": record})
    with pytest.raises(study.Refused, match="none is left to score"):
        scored()
    assert read_json(path.parent / study.RECORD)["stages"]["primary"]["sha256"] == sha256(other)
    assert is_finished(tiny, Cell("recipe", 4))

    before = {table: table.read_bytes() for table in (path, other, path.parent / study.RECORD)}
    with pytest.raises(study.Refused, match="has the committed scores"):
        study.score_again(tiny, 1, [], path.parent)
    again = study.score_again(tiny, 1, [], path.parent.parent / "again")  # a repeat: by the same networks here
    assert len(again) == 2 * (2 * 2 + 2) and np.allclose(again["again"], again["committed"])
    monkeypatch.setattr(study, "is_finished", lambda profile, cell: cell.arm == "teacher")
    with pytest.raises(study.Refused, match="not finished .1 of arms"):
        study.score_again(tiny, 1, ["arms", "primary"], path.parent.parent / "again")
    alone = study.score_again(tiny, 1, [], path.parent.parent / "alone")
    assert set(alone["arm"]) == {"teacher"} and before == {table: table.read_bytes() for table in before}

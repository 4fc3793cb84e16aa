"""Trains the study of unlabelled video, resumably, and scores its tests, once (arms and cells: `protocol.py`).

    python -m utils.run.extract --profile study            # first: the faces of data/synthff2
    python -m utils.run.extract --profile study-unseen     # and those of its first test at other compressions
    python -m utils.run.study [--list] [--seeds 0 1] [--arms control ...] [--stages primary ...] [--limit MINUTES] [--jobs 2]
    python -m utils.run.study --score [--stages primary ...]  # after report/protocol.md is committed
    python -m utils.run.study --score --out FOLDER            # a repeat: beside the committed scores, not in their place

Each cell is one network, trained by one process with one thread. A cell whose run is finished is skipped, and one that was
killed goes on from its checkpoint. The primary contrast comes first, over all seeds; then the other arms, the curves, other
networks, and at last students of these, whose pool are its first people alone. Each run keeps its scores on the people who
validated it; the tests are scored by `--score` alone, a stage at a time, each once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm

from utils.config import Profile, get_profile
from utils.faces import ffpp
from utils.learn.cells import folder_of, is_finished, some_frames, train_cell
from utils.learn.checkpoints import CHECKPOINT, git, machine_of
from utils.learn.dataset import FaceSet, load_faces
from utils.learn.precision import pick_device
from utils.learn.predict import save_predictions
from utils.learn.scores import JUDGED, SCORES, read_scores, write_scores
from utils.paths import PROTOCOL, ROOT, alone, atomic, read_json, sha256, write_json
from utils.protocol import ARMS, STUDIES, Cell, cells, model_config, stages, student_config, study_of
from utils.results.metrics import video_scores
from utils.results.store import FROM_GIT, read_record, read_table
from utils.results.unlabelled import (
    CELL,
    CLIP,
    COLUMNS,
    RECORD,
    RIGHT,
    RIGHT_COLUMNS,
    STAGES,
    cells_table,
    load_unlabelled,
)
from utils.run import costs
from utils.run.arguments import at_least, processes
from utils.run.grid import TaskFailed, in_processes, run_task
from utils.run.progress import Progress, duration, watched

TEST_SCORES, UNSEEN_SCORES = "test_scores.csv.gz", "unseen_scores.csv.gz"  # of a run folder, one row a face
SETTINGS = ("utils/protocol.py", "utils/config.py")  # what the protocol says to a machine


# ---- Training -------------------------------------------------------------------------------------------------------------


def run_study(profile: Profile, todo: Sequence[Cell], jobs: int, minutes: float | None = None) -> list[str]:
    """Train what is not finished of some cells, in this order; return a line a cell.

    After so many `minutes` no other cell is begun. Raises TaskFailed where one fails.
    """
    done = [cell for cell in todo if is_finished(profile, cell)]
    left = [cell for cell in todo if cell not in done]
    end = np.inf if minutes is None else time.monotonic() + 60 * minutes
    jobs = max(1, min(jobs, len(left)))
    print(overview(profile, todo, done, jobs), flush=True)
    if not left:
        return []

    def calls() -> Iterator:
        for cell in left:
            if time.monotonic() >= end:
                return
            yield joblib.delayed(run_task)(profile.name, cell, 1, run_cell)

    with watched(profile, left, jobs, title="study", weigh=weigh, speed=measured_speed(profile, done)) as finished:
        return in_processes(jobs, calls(), finished)


def with_teachers(profile: Profile, todo: Sequence[Cell]) -> list[Cell]:
    """Return some cells behind the teachers that they need and nobody has trained, so that no process waits for another's."""
    needed = dict.fromkeys(cell.teacher(profile) for cell in todo if ARMS[cell.arm].taught)
    return [cell for cell in needed if cell not in todo and not is_finished(profile, cell)] + list(todo)


def require_pool(profile: Profile, todo: Sequence[Cell]) -> None:
    """Raise ValueError where some cells draw their pool and the tree, or the faces found in it, lack some of it.

    The draw would be another one.
    """
    drawn = [cell for cell in todo if ARMS[cell.arm].pool and not ARMS[cell.arm].first]
    if all(is_finished(profile, cell) for cell in drawn):
        return
    planned, split = ffpp.plan_index(profile), study_of(profile).pool_split
    missing = ffpp.missing_counterparts(planned)
    paths = missing.loc[missing["split"] == split, "path"]
    if len(paths):
        raise ValueError(f"{paths.iloc[0]} and {len(paths) - 1} more clips of the pool are missing: run `make pool` first")
    if lost := sorted(set(planned.loc[planned["split"] == split, "pair"]) - load_faces(profile).pairs):
        remedy = f"run `.venv/bin/python -m utils.run.extract --profile {profile.name}` first"
        raise ValueError(f"no face of {lost[0]} and {len(lost) - 1} more pairs of the pool has been cut out: {remedy}")


def run_cell(profile_name: str, cell: Cell) -> list[str]:
    """Train a cell; print and return a line."""
    profile = get_profile(profile_name)
    train_cell(profile, cell, load_faces(profile))
    result = read_json(folder_of(profile, cell) / "result.json")
    line = f"{cell}: val_auc {result['val_auc']:.3f} in {duration(result['seconds'])}"
    tqdm.write(line)
    return [line]


def weigh(profile: Profile, cell: Cell) -> dict[costs.Fit, float]:
    """Return a cell's fit and its cost: floating-point operations of its steps, and of what a teacher looks at."""
    study, arm = study_of(profile), ARMS[cell.arm]
    config, student = model_config(profile, study, cell), student_config(profile, arm)
    images, looks = config.batch_size * (1 + student.mu), 0
    if arm.learns == "pseudo-labels":
        views = len(student.student_views) if student.teacher_view == "same" else 1
        looks = 2 * cell.pool * min(student.teacher_frames or cell.frames, cell.frames) * views
    elif arm.pool:
        looks = config.steps * config.batch_size * student.mu
    fit = costs.Fit(cell.variant, cell.run, cell.network, config.px, config.steps, images, "all", len(profile.data.qualities))
    own, teachers = (costs.flops(name, config.px) for name in (cell.network, profile.student_model))
    return {fit: costs.PASSES * fit.steps * fit.images * own + looks * teachers}


def measured_speed(profile: Profile, done: Sequence[Cell]) -> float | None:
    """Return the cost that a process does in a second, by the finished cells `done`; None where there is none."""
    cost = sum(sum(weigh(profile, cell).values()) for cell in done)
    seconds = sum(read_json(folder_of(profile, cell) / "result.json")["seconds"] for cell in done)
    return cost / seconds if seconds else None


def overview(profile: Profile, todo: Sequence[Cell], done: Sequence[Cell], jobs: int) -> str:
    """Return "310 cells: 37 finished, 273 left, about 5.1 h for 2 processes (measured on 37)"; `done` are the finished ones."""
    speed = measured_speed(profile, done)
    text = f"{len(todo)} cells: {len(done)} finished, {len(todo) - len(done)} left"
    if len(done) == len(todo) or not speed:
        return text
    seconds = Progress(profile, todo, jobs, weigh, speed).estimate()[1]
    return f"{text}, about {duration(seconds)} for {jobs} processes (measured on {len(done)})"


def state_of(profile: Profile, cell: Cell) -> str:
    """Return "finished", "begun" (it goes on from a checkpoint) or "to do"."""
    if is_finished(profile, cell):
        return "finished"
    return "begun" if (folder_of(profile, cell) / CHECKPOINT).is_file() else "to do"


# ---- Scoring the tests, once ----------------------------------------------------------------------------------------------


class Refused(ValueError):
    """The tests are not scored; the message says why."""


def _git(*arguments: str, root: Path = ROOT) -> str:
    try:
        return git(*arguments, root=root)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Refused(f"git can't tell what is committed ({error}): score in a clone of the repository") from None


def _last_commit(file: Path, root: Path = ROOT) -> str:
    return _git("log", "-1", "--format=%H", "--", file.relative_to(root).as_posix(), root=root)


def require_protocol(tables: Sequence[Path], root: Path = ROOT, protocol: Path = PROTOCOL) -> str:
    """Return the commit of the protocol; raise Refused where the tests must not be scored.

    That is: where the protocol is not committed, where it or its numbers differ from what is committed, or where one of the
    tables of scores that are to be made exists, be it in a commit alone.
    """
    name = protocol.relative_to(root).as_posix()
    commit = _last_commit(protocol, root)
    changed = _git("status", "--porcelain", "--", name, *SETTINGS, root=root)
    inside = [str(table) for table in tables if table.is_relative_to(root)]
    before = _git("log", "--all", "-1", "--format=%H", "--", *inside, root=root) if inside else ""
    require_unmade(tables, before)
    if not commit or not protocol.is_file():
        raise Refused(f"{name} is not committed: write down what counts as shown before the tests are scored")
    if changed:
        raise Refused(f"the protocol differs from its commit ({' '.join(changed.split())}): commit it first")
    return commit


def require_amended(before: Iterable[str], commit: str, protocol: Path = PROTOCOL) -> None:
    """Raise Refused where stages were scored under other commits of a protocol, and its text does not name them.

    A protocol may be amended before a stage's test is scored, for stages that are not scored yet; it says so, and after what.
    """
    text = protocol.read_text(encoding="utf-8")
    if unnamed := sorted({other[:7] for other in before if other != commit and other[:7] not in text}):
        raise Refused(
            f"stages were scored after another protocol ({', '.join(unnamed)}), and {protocol.name} does not name it: the "
            "tests are opened once; an amendment says what it changes, why, and what was known"
        )


def require_unmade(tables: Sequence[Path], before: str = "") -> None:
    """Raise Refused where one of the tables of scores that are to be made is there, or a commit `before` had one."""
    there = [str(table) for table in tables if table.is_file()]
    if there or before:
        raise Refused(f"scores of the tests exist already ({before or ', '.join(there)}): they are made once")


def table_of(profile: Profile, stage: str) -> Path:
    """Return where the scores of a stage's cells on the tests are kept, one row a clip."""
    return profile.workspace.study / f"{stage}.csv.gz"


def score(profile: Profile, jobs: int, only: Sequence[str] = (), root: Path = ROOT, protocol: Path = PROTOCOL) -> list[Path]:
    """Score the tests with the cells of some stages, all of them finished, once; return a table a stage, one row a clip.

    No stages mean those that are finished and not scored. A later call needs the same protocol, or one that names those of the
    earlier calls; a killed call goes on. Raises Refused where the protocol is not in order, there is nothing to score or a
    cell is not finished.
    """
    with alone(profile.workspace.study):  # of two calls the second sees what the first has scored
        unfinished = _unfinished(profile, only)
        todo = only or [stage for stage, left in unfinished.items() if not left and not table_of(profile, stage).is_file()]
        opened = read_record(profile.workspace.study / RECORD, STAGES)
        _finish_scoring(profile, opened)
        commit = require_protocol([table_of(profile, stage) for stage in todo], root, protocol)
        _require_finished(todo, unfinished)
        require_amended([each["protocol"] for each in opened.values()], commit, protocol)
        for stage in todo:
            _score_stage(profile, stage, jobs, table_of(profile, stage), commit, opened)
        _finish_scoring(profile, opened)
        return [table_of(profile, stage) for stage in todo]


def _unfinished(profile: Profile, only: Sequence[str]) -> dict[str, list[Cell]]:
    """Return the cells of some stages, or of all, that are still to be trained."""
    return {
        stage: [cell for cell in cells(profile, only=[stage]) if not is_finished(profile, cell)]
        for stage in only or stages(study_of(profile), profile.student_model)
    }


def _require_finished(todo: Sequence[str], unfinished: dict[str, list[Cell]]) -> None:
    if not todo or any(unfinished[stage] for stage in todo):
        left = ", ".join(f"{len(some)} of {stage}" for stage, some in unfinished.items() if some)
        raise Refused(f"cells are not finished ({left or 'none is left to score'}): train them first (`make study`)")


def _finish_scoring(profile: Profile, opened: dict) -> None:
    """Do what follows a stage's table, or what a call left that was killed there: its hash, how right pseudo-labels were."""
    for stage, about in opened.items():
        if "sha256" not in about and table_of(profile, stage).is_file():
            about["sha256"] = sha256(table_of(profile, stage))
            write_json(profile.workspace.study / RECORD, {STAGES: opened})
    if opened:
        save_judged(profile, [cell for stage in opened for cell in cells(profile, only=[stage])])


def _score_stage(profile: Profile, stage: str, jobs: int, table: Path, commit: str, opened: dict) -> None:
    """Score the tests with a stage's cells, write its table, and what was done into the record beside it."""
    asked, record = cells(profile, only=[stage]), table.parent / RECORD
    opened[stage] = {
        "protocol": commit, "code": _git("rev-parse", "HEAD"), "cells": len(asked), "on": time.strftime("%Y-%m-%d"),
        "device": ", ".join(sorted({machine_of(folder_of(profile, cell)) for cell in asked})),
        "precision": profile.train.precision,
    }  # fmt: skip
    write_json(record, {STAGES: opened})
    calls = (joblib.delayed(run_task)(profile.name, cell, 1, score_cell) for cell in asked)
    with tqdm(total=len(asked), desc=f"tests, {stage}", disable=None) as bar:
        in_processes(max(1, min(jobs, len(asked))), calls, lambda lines: bar.update())
    faces = [test_faces(profile), *unseen_faces(profile)]
    parts = [scores_table(profile, asked, *each) for each in zip(faces, (TEST_SCORES, UNSEEN_SCORES), strict=False)]
    write_scores(table, pd.concat(parts, ignore_index=True).assign(protocol=commit)[list(COLUMNS)])
    opened[stage]["sha256"] = sha256(table)
    write_json(record, {STAGES: opened})


def score_again(profile: Profile, jobs: int, only: Sequence[str], out: Path) -> pd.DataFrame:
    """Score the tests with the cells of some stages that this machine has trained: a repeat, in a folder of its own.

    No stages mean those that are finished. Nothing is chosen by it, and the committed scores stay. Returns one row a cell,
    test and quality: AUC as committed and again. Raises Refused for the committed folder, or where cells are not finished.
    """
    if out.resolve() == profile.workspace.study.resolve():
        raise Refused(f"{out} has the committed scores, which are made once: name another folder")
    unfinished = _unfinished(profile, only)
    todo = only or [stage for stage, left in unfinished.items() if not left]
    _require_finished(todo, unfinished)
    out.mkdir(parents=True, exist_ok=True)
    opened = read_record(out / RECORD, STAGES)
    commit = _last_commit(PROTOCOL)
    for stage in todo:
        _score_stage(profile, stage, jobs, out / table_of(profile, stage).name, commit, opened)
    again, committed = (load_unlabelled(profile, folder) for folder in (out, profile.workspace.study))
    key = [*CELL, "split", "quality"]
    both = cells_table(again).set_index(key)[["seeds", "value"]]
    known = cells_table(committed).set_index(key)["value"] if committed else pd.Series(dtype=float)
    return both.assign(committed=known.reindex(both.index)).rename(columns={"value": "again"}).reset_index()


def save_judged(profile: Profile, scored: Sequence[Cell]) -> Path:
    """Save how many of the faces that each student learned from had the right label: RIGHT, one row a student and seed.

    Rows that are there stay: they are of the networks that were scored. Raises ValueError for a damaged table.
    """
    path, key = profile.workspace.study / RIGHT, [*CELL, "seed"]
    before = read_table(path, RIGHT_COLUMNS, ("arm", "network"), FROM_GIT).to_dict("records") if path.is_file() else []
    kept, rows = {tuple(row[name] for name in key): row for row in before}, []
    for cell in scored:
        judged, row = folder_of(profile, cell) / JUDGED, {name: getattr(cell, name) for name in key}
        if tuple(row.values()) in kept:
            rows.append(kept[tuple(row.values())])
        elif judged.is_file():
            clips = read_table(judged, ("copies", "copies_right"), (), "train the cell again")
            rows.append(row | {"faces": clips["copies"].sum(), "right": clips["copies_right"].sum()})
    with atomic(path) as temporary:
        pd.DataFrame(rows, columns=RIGHT_COLUMNS).to_csv(temporary, index=False, lineterminator="\n")
    return path


def test_faces(profile: Profile) -> FaceSet:
    """Return the faces of the tests that are scored."""
    study = study_of(profile)
    return some_frames(load_faces(profile).select(split=study.tests), study.score_frames)


def unseen_faces(profile: Profile) -> list[FaceSet]:
    """Return the faces of the first test at unseen compressions; none for a study without them."""
    name = study_of(profile).unseen
    return [load_faces(get_profile(name)).select(split=study_of(profile).tests[:1])] if name else []


def score_cell(profile_name: str, cell: Cell) -> list[str]:
    profile = get_profile(profile_name)
    if pick_device().type == "cpu":  # and this process does nothing else
        profile = replace(profile, train=replace(profile.train, scorer="openvino"))
    here, tests = replace(profile, variant=cell.variant), study_of(profile).tests
    save_predictions(here, cell.run, test_faces(profile), tests, TEST_SCORES)
    for faces in unseen_faces(profile):
        save_predictions(here, cell.run, faces, tests[:1], UNSEEN_SCORES)
    return [f"{cell}: scored"]


def scores_table(profile: Profile, todo: Sequence[Cell], faces: FaceSet, file: str = SCORES) -> pd.DataFrame:
    """Return the scores of finished cells, on validation by default, one row a clip: COLUMNS but the protocol."""
    pairs = faces.index.drop_duplicates("video_id").set_index("video_id")["pair"]
    tables = []
    for cell in todo:
        clips = video_scores(read_scores(folder_of(profile, cell) / file)).rename(columns={"frames": "faces"})
        clips["pair"] = clips["video_id"].map(pairs)
        tables.append(clips.sort_values(CLIP).assign(**asdict(cell)))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS[:-1])]


# ---- The command ----------------------------------------------------------------------------------------------------------


def listing(profile: Profile, todo: Sequence[Cell]) -> Iterator[str]:
    """Yield a line a cell with its state, and at the end how many are in which state, stage by stage."""
    place = {cell: stage for stage, found in stages(study_of(profile), profile.student_model).items() for cell in found}
    counts: dict[str, Counter] = {}
    for cell in todo:
        stage, state = place[replace(cell, seed=0)], state_of(profile, cell)
        counts.setdefault(stage, Counter())[state] += 1
        yield f"{state:<9} {stage:<9} {cell}"
    for stage, found in counts.items():
        yield f"{stage}: " + ", ".join(f"{count} {state}" for state, count in found.items())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.run.study", description="Train the study, score it once.")
    parser.add_argument("--profile", default="study", choices=tuple(STUDIES))
    parser.add_argument("--seeds", nargs="+", type=at_least(0), default=(), help="default: all of the protocol")
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=(), help="default: all; teachers come with them")
    parser.add_argument("--stages", nargs="+", default=(), help="default: all, in the protocol's order")
    parser.add_argument("--jobs", type=processes, default=os.cpu_count(), help="processes; default: one a core")
    parser.add_argument("--limit", type=float, metavar="MINUTES", help="begin no cell after so many minutes")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="with --score: a repeat, into a folder of its own")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="print the cells and their state, train nothing")
    what.add_argument("--score", action="store_true", help="score the tests: each stage once, after the protocol is committed")
    arguments = parser.parse_args(argv)
    if arguments.out and not arguments.score:
        parser.error("--out is for --score")
    try:
        profile = get_profile(arguments.profile)
        if arguments.score:
            if arguments.seeds or arguments.arms:
                raise Refused("the cells of a stage are scored together: no --seeds or --arms")
            cells(profile, only=arguments.stages)  # whether they are known
            if arguments.out:
                print(score_again(profile, arguments.jobs, arguments.stages, arguments.out).round(3).to_string(index=False))
                return
            print(*score(profile, arguments.jobs, arguments.stages), sep="\n")
            return
        todo = cells(profile, arguments.seeds, arguments.arms, arguments.stages)
        if arguments.list:
            print(*listing(profile, todo), sep="\n")
        else:
            require_pool(profile, todo)
            run_study(profile, with_teachers(profile, todo), arguments.jobs, arguments.limit)
        print(overview(profile, todo, [cell for cell in todo if is_finished(profile, cell)], arguments.jobs))
    except (ValueError, OSError, TaskFailed) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()

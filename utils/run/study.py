"""Trains the study of unlabelled video, resumably, and scores its tests, once (arms and cells: `protocol.py`).

    python -m utils.run.extract --profile study            # first: the faces of data/synthff2
    python -m utils.run.study [--list] [--seeds 0 1] [--arms control ...] [--stages primary ...] [--limit MINUTES] [--jobs 2]
    python -m utils.run.study --score                      # after report/protocol.md is committed

Each cell is one network, trained by one process with one thread. A cell whose run is finished is skipped, and one that was
killed goes on from its checkpoint. The primary contrast comes first, over all seeds; then the other arms, the curves, the
larger students. Each run keeps its scores on the people who validated it; the tests are scored by `--score` alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm

from utils.config import Profile, get_profile
from utils.learn.cells import draw_people, folder_of, is_finished, some_frames, train_cell
from utils.learn.checkpoints import CHECKPOINT, git
from utils.learn.dataset import FaceSet, load_faces
from utils.learn.noisy_student import judge
from utils.learn.predict import save_predictions
from utils.learn.scores import SCORES, read_scores, write_scores
from utils.paths import PROTOCOL, ROOT, read_json, write_json
from utils.protocol import ARMS, STUDIES, Cell, cells, model_config, stages, student_config, study_of
from utils.results.metrics import video_scores
from utils.run import costs
from utils.run.grid import TaskFailed, in_processes, run_task
from utils.run.progress import Progress, duration, watched

TEST_SCORES = "test_scores.csv.gz"  # of a run folder, one row a face; and of the study, one row a clip
RECORD = "test_scores.json"  # of the study: after which protocol the tests were opened
CELL = ["arm", "labels", "pool", "frames", "network", "seed"]
CLIP = ["split", "quality", "method", "video_id", "pair"]
COLUMNS = [*CELL, *CLIP, "label", "faces", "score", "protocol"]
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


def run_cell(profile_name: str, cell: Cell) -> list[str]:
    """Train a cell, and judge the pseudo-labels that it learned from; print and return a line."""
    profile = get_profile(profile_name)
    faces = load_faces(profile)
    train_cell(profile, cell, faces)
    if ARMS[cell.arm].learns == "pseudo-labels":
        study = study_of(profile)
        pool = faces.select(split=study.pool_split, pairs=draw_people(study, cell, faces).pool)
        judge(folder_of(profile, cell), some_frames(pool, cell.frames), cell.seed)
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


def require_protocol(table: Path, root: Path = ROOT, protocol: Path = PROTOCOL) -> str:
    """Return the commit of the protocol; raise Refused where the tests must not be scored.

    That is: where the protocol is not committed, where it or its numbers differ from what is committed, or where scores of
    the tests exist, be it in a commit alone.
    """
    name = protocol.relative_to(root).as_posix()
    try:
        commit = git("log", "-1", "--format=%H", "--", name, root=root)
        changed = git("status", "--porcelain", "--", name, *SETTINGS, root=root)
        before = git("log", "--all", "-1", "--format=%H", "--", str(table), root=root) if table.is_relative_to(root) else ""
    except (OSError, subprocess.CalledProcessError) as error:
        raise Refused(f"git can't tell whether {name} is committed ({error})") from None
    if table.is_file() or before:
        raise Refused(f"scores of the tests exist already ({before or table}): they are made once")
    if not commit or not protocol.is_file():
        raise Refused(f"{name} is not committed: write down what counts as shown before the tests are scored")
    if changed:
        raise Refused(f"the protocol differs from its commit ({' '.join(changed.split())}): commit it first")
    return commit


def score(profile: Profile, jobs: int, finished_only: bool = False, root: Path = ROOT, protocol: Path = PROTOCOL) -> Path:
    """Score the tests with every cell of the study and write one table, one row a clip, with the protocol's commit.

    A killed call goes on under the same protocol. Raises Refused where the protocol is not in order or a cell is not finished;
    with `finished_only` those are left out and the record counts them.
    """
    study, folder = study_of(profile), profile.workspace.study
    commit, record = require_protocol(folder / TEST_SCORES, root, protocol), folder / RECORD
    asked = cells(profile)
    todo = [cell for cell in asked if is_finished(profile, cell)]
    if not todo or (len(todo) < len(asked) and not finished_only):
        raise Refused(f"{len(asked) - len(todo)} of {len(asked)} cells are not finished: train them first (`make study`)")
    about = {"protocol": commit, "code": git("rev-parse", "HEAD", root=root)}
    about |= {"cells": len(todo), "left_out": len(asked) - len(todo)}
    if record.is_file() and read_json(record)["protocol"] != commit:
        raise Refused(f"{record} was begun after another protocol ({read_json(record)['protocol']}): the tests are opened once")
    write_json(record, about | {"splits": study.tests, "frames": study.score_frames})
    calls = (joblib.delayed(run_task)(profile.name, cell, 1, score_cell) for cell in todo)
    with tqdm(total=len(todo), desc="tests", disable=None) as bar:
        in_processes(max(1, min(jobs, len(todo))), calls, lambda lines: bar.update())
    table = scores_table(profile, todo, load_faces(profile), TEST_SCORES).assign(protocol=commit)
    write_scores(folder / TEST_SCORES, table[COLUMNS])
    return folder / TEST_SCORES


def score_cell(profile_name: str, cell: Cell) -> list[str]:
    profile = get_profile(profile_name)
    study = study_of(profile)
    tests = some_frames(load_faces(profile).select(split=study.tests), study.score_frames)
    save_predictions(replace(profile, variant=cell.variant), cell.run, tests, study.tests, TEST_SCORES)
    return [f"{cell}: scored"]


def scores_table(profile: Profile, todo: Sequence[Cell], faces: FaceSet, file: str = SCORES) -> pd.DataFrame:
    """Return the scores of finished cells, on validation by default, one row a clip: CELL, CLIP, label, faces, score."""
    pairs = faces.index.drop_duplicates("video_id").set_index("video_id")["pair"]
    tables = []
    for cell in todo:
        clips = video_scores(read_scores(folder_of(profile, cell) / file)).rename(columns={"frames": "faces"})
        clips["pair"] = clips["video_id"].map(pairs)
        tables.append(clips.sort_values(CLIP).assign(**asdict(cell)))
    return pd.concat(tables, ignore_index=True)[[*CELL, *CLIP, "label", "faces", "score"]]


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
    parser.add_argument("--seeds", nargs="+", type=int, default=(), help="default: all of the protocol")
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=(), help="default: all; teachers come with them")
    parser.add_argument("--stages", nargs="+", default=(), help="default: primary, arms, pool, labels, networks")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, one thread each; default: one a core")
    parser.add_argument("--limit", type=float, metavar="MINUTES", help="begin no cell after so many minutes")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="print the cells and their state, train nothing")
    what.add_argument("--score", action="store_true", help="score the tests: once, after the protocol is committed")
    parser.add_argument("--finished-only", action="store_true", help="with --score: leave out cells that are not finished")
    arguments = parser.parse_args(argv)
    profile = get_profile(arguments.profile)
    try:
        if arguments.score:
            if arguments.seeds or arguments.arms or arguments.stages:
                raise Refused("all cells are scored together: no --seeds, --arms or --stages")
            print(score(profile, arguments.jobs, arguments.finished_only))
            return
        todo = cells(profile, arguments.seeds, arguments.arms, arguments.stages)
        if arguments.list:
            print(*listing(profile, todo), sep="\n")
        else:
            run_study(profile, todo, arguments.jobs, arguments.limit)
        print(overview(profile, todo, [cell for cell in todo if is_finished(profile, cell)], arguments.jobs))
    except (ValueError, FileNotFoundError, TaskFailed) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()

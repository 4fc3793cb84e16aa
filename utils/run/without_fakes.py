"""Trains and scores the comparison of what is learned without fakes (arms: `config.WITHOUT_FAKES`), resumably.

    python -m utils.run.extract --profile shipped      # first: the faces of data/synthff
    python -m utils.run.without_fakes [--stages arms kinds redrawers] [--seeds 0 1] [--arms self_rendered ...] [--jobs 2]
    python -m utils.run.without_fakes --stages arms --score [--protocol COMMIT] [--out FOLDER]   # a repeat: beside the scores

Redrawers come first, then the arms that start from ImageNet's weights, then those that go on from them: each by one process,
on a GPU where there is one. Validation is scored with every arm; the tests by `--score` alone, a stage at a time, once, after
`report/protocol_without_fakes.md` is committed. A machine without the repository's history is told that commit. With `--steps`
it is a pilot: other steps, a folder of its own, and no tests; `--pilot` writes down what was reached on validation.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from utils.config import REDRAWERS, WITHOUT_FAKES, Profile, WithoutFakesConfig
from utils.faces.ffpp import HELD_OUT
from utils.learn import checkpoints
from utils.learn.dataset import load_faces
from utils.learn.scores import read_scores, write_scores
from utils.learn.self_rendered import PHASE
from utils.learn.without_fakes import (
    TWINS,
    fakeless_profile,
    redrawers_of,
    run_of,
    score_arm,
    score_twins,
    train_arm,
)
from utils.paths import FAKELESS, FAKELESS_PROTOCOL, alone, atomic, read_json, sha256, write_json
from utils.results.metrics import video_scores
from utils.results.store import FROM_GIT, read_record, read_table
from utils.results.without_fakes import (
    COLUMNS,
    PILOT_COLUMNS,
    PILOT_TEXT,
    PILOTS,
    RECORD,
    TWIN_COLUMNS,
    scores_file,
    twins_file,
)
from utils.run.arguments import at_least, processes
from utils.run.grid import TaskFailed, in_processes, run_task
from utils.run.study import Refused, require_amended, require_protocol, require_unmade

Cells = Sequence[tuple[str, int]]  # arms and seeds
VAL_SCORES, TEST_SCORES = "scores.csv.gz", "test_scores.csv.gz"  # of a run folder
TESTS = tuple(split for split in HELD_OUT if split != "val")
HELPERS = (2, 4)  # processes that read ahead for one that trains on a GPU: at least, at most


def run_redrawers(profile_name: str, task: tuple) -> list[str]:
    everybody, seed, names, steps = task
    profile = fakeless_profile(steps)
    redrawers_of(profile, load_faces(profile), everybody, seed, names)
    return [f"redrawers {' '.join(names)}, seed {seed}: done"]


def run_arm(profile_name: str, task: tuple) -> list[str]:
    """Train an arm, score the people who validate, and the tests if asked; return a line."""
    arm, seed, steps, splits, helpers = task
    profile, began = fakeless_profile(steps, helpers), time.monotonic()
    faces = load_faces(profile)
    train_arm(profile, arm, faces, seed)
    scored = score_arm(profile, arm, faces, seed, ("val",), VAL_SCORES)
    if names := judging(arm):
        score_twins(profile, arm, faces, seed, names)
    if splits:
        score_arm(profile, arm, faces, seed, splits, TEST_SCORES)
    aucs = ", ".join(f"{quality} {auc:.3f}" for quality, auc in aucs_of(scored).items())
    line = f"{arm}, seed {seed}: validation {aucs} in {time.monotonic() - began:.0f} s"
    tqdm.write(line)
    return [line]


def judging(arm: str) -> list[str]:
    """Return the redrawers whose twins an arm is judged by: all of them, the one that it was not given, or a pilot's own."""
    about = WITHOUT_FAKES[arm]
    judges = {"redrawers": [about.subject], "pilots": list(about.settings.redrawers)}
    return list(REDRAWERS) if arm == PHASE else judges.get(about.stage, [])


def aucs_of(scored: pd.DataFrame) -> dict[str, float]:
    """Return the AUC over clips of a table of scores, by quality."""
    clips = video_scores(scored)
    return {quality: roc_auc_score(some["label"], some["score"]) for quality, some in clips.groupby("quality")}


def run_all(cells: Cells, steps: int | None, jobs: int, splits: Sequence[str] = ()) -> None:
    """Train and score arms under seeds; what is there is read. Raises TaskFailed."""
    twins = [(WITHOUT_FAKES[arm], seed) for arm, seed in cells if WITHOUT_FAKES[arm].learns == "twins"]
    drawn = [(arm, seed) for arm, seed in twins if arm.settings.twins == PHASE]
    needed = {(arm.everybody, seed, name) for arm, seed in drawn for name in arm.settings.redrawers}
    needed |= {(True, seed, name) for arm, seed in cells for name in judging(arm)}
    helpers = int(np.clip(os.cpu_count() // jobs, *HELPERS)) if torch.cuda.is_available() else None
    todo = [("redrawers", run_redrawers, [(*who, (name,), steps) for *who, name in sorted(needed)])]
    for new in (True, False):
        some = [(*cell, steps, tuple(splits), helpers) for cell in cells if (WITHOUT_FAKES[cell[0]].start == "imagenet") == new]
        some.sort(key=lambda task: (not judging(task[0]), not WITHOUT_FAKES[task[0]].pool))  # what takes longest, first
        todo.append(("arms" if new else "arms that go on", run_arm, some))
    for title, run, tasks in todo:
        if tasks:
            calls = (joblib.delayed(run_task)("shipped", task, 1, run) for task in tasks)
            with tqdm(total=len(tasks), desc=title, disable=None) as bar:
                in_processes(max(1, min(jobs, len(tasks))), calls, lambda lines, bar=bar: bar.update(len(lines)))


def scores_table(profile: Profile, cells: Cells) -> pd.DataFrame:
    """Return the scores of some arms and seeds, validation and tests, one row a clip, in COLUMNS."""
    pairs = load_faces(profile).index.drop_duplicates("video_id").set_index("video_id")["pair"]
    tables = []
    for arm, seed in cells:
        folder = profile.workspace.runs / run_of(profile, arm, seed)
        both = pd.concat([read_scores(folder / file) for file in (VAL_SCORES, TEST_SCORES)], ignore_index=True)
        clips = video_scores(both).rename(columns={"frames": "faces"})
        tables.append(clips.assign(arm=arm, seed=seed, pair=clips["video_id"].map(pairs)))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def gather(profile: Profile, stage: str, cells: Cells, out: Path, protocol: str) -> None:
    """Write the tables of a stage, and the record of how they were made: the scores get their name last, and count then."""
    paths = [profile.workspace.runs / run_of(profile, *cell) / TWINS for cell in cells]
    with atomic(out / twins_file(stage)) as path:
        judged = [pd.read_csv(each) for each in paths if each.is_file()]  # a stage may have none
        twins = pd.concat(judged, ignore_index=True) if judged else pd.DataFrame(columns=list(TWIN_COLUMNS))
        twins.to_csv(path, index=False, float_format="%.5f", lineterminator="\n")
    with alone(out), atomic(out / scores_file(stage)) as path:
        write_scores(path, scores_table(profile, cells))
        record = read_record(out / RECORD)
        record[stage] = {
            "protocol": protocol, "on": time.strftime("%Y-%m-%d"),
            "torch": torch.__version__, "python": platform.python_version(),
            "device": ", ".join(sorted({machine_of(profile, cell) for cell in cells})),
            "sha256": {scores_file(stage): sha256(path), twins_file(stage): sha256(out / twins_file(stage))},
        }  # fmt: skip
        write_json(out / RECORD, record)


def machine_of(profile: Profile, cell: tuple[str, int]) -> str:
    """Return what kind of processor, or device, a finished run was trained on."""
    return checkpoints.machine_of(profile.workspace.runs / run_of(profile, *cell))


def gather_pilots(profile: Profile, cells: Cells, out: Path) -> pd.DataFrame:
    """Add what finished arms reach on validation to the table of pilots, in place of older rows of the same kind."""
    rows, path = [], out / PILOTS
    for arm, seed in cells:
        folder = profile.workspace.runs / run_of(profile, arm, seed)
        if (folder / VAL_SCORES).is_file():
            aucs = {f"auc_{quality}": auc for quality, auc in aucs_of(read_scores(folder / VAL_SCORES)).items()}
            steps = read_json(folder / "config.json")["model_config"]["steps"]
            judged = pd.read_csv(folder / TWINS).query("quality == 'c40'")["auc"] if (folder / TWINS).is_file() else pd.Series()
            about = {"arm": arm, "seed": seed, "steps": steps, "device": machine_of(profile, (arm, seed))}
            rows.append(about | aucs | {"twins_c40": judged.mean()})
    made = pd.DataFrame(rows, columns=list(PILOT_COLUMNS))
    with alone(out):  # another call may add to it
        if path.is_file():
            before = read_table(path, PILOT_COLUMNS, PILOT_TEXT, FROM_GIT)
            key = list(PILOT_COLUMNS[:4])
            made = pd.concat([before[~pd.MultiIndex.from_frame(before[key]).isin(pd.MultiIndex.from_frame(made[key]))], made])
        with atomic(path) as temporary:
            made.to_csv(temporary, index=False, float_format="%.4f", lineterminator="\n")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    stages = WithoutFakesConfig().stages()
    parser = argparse.ArgumentParser(prog="python -m utils.run.without_fakes", description="Learning without fakes, measured.")
    parser.add_argument("--stages", nargs="+", choices=tuple(stages), help="default: arms, kinds and redrawers")
    parser.add_argument("--seeds", nargs="+", type=at_least(0), help="default: all of the stage")
    parser.add_argument("--arms", nargs="+", choices=tuple(WITHOUT_FAKES), default=tuple(WITHOUT_FAKES))
    parser.add_argument("--steps", type=at_least(1), help="another number, for a pilot on validation")
    parser.add_argument("--jobs", type=processes, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--pilot", action="store_true", help="add what was reached on validation to the committed pilots")
    parser.add_argument("--score", action="store_true", help="score the tests too, once, after the protocol is committed")
    parser.add_argument("--protocol", default="", help="its commit, where git can't be asked")
    parser.add_argument("--out", type=Path, default=FAKELESS, help="where the tables are written")
    arguments = parser.parse_args(argv)
    done = [stage for stage in stages if arguments.score and (arguments.out / scores_file(stage)).is_file()]
    asked = arguments.stages or [stage for stage in ("arms", "kinds", "redrawers") if stage not in done]
    wanted = {stage: [(arm, seed) for arm, seed in stages[stage] if arm in arguments.arms
                      and (arguments.seeds is None or seed in arguments.seeds)] for stage in asked}  # fmt: skip
    try:
        if not wanted:
            raise Refused(f"all stages are scored in {arguments.out}: name another folder by --out to score them beside it")
        if not any(wanted.values()):
            raise ValueError("no network of these arms and seeds is in these stages: leave --seeds or --arms out for all")
        whole = all(stage != "pilots" and tuple(cells) == stages[stage] for stage, cells in wanted.items())
        if arguments.score and (arguments.steps or not whole):
            raise Refused("the tests are scored once, with all arms and seeds of a stage and its numbers; no pilot is")
        for stage, cells in wanted.items():
            if not arguments.score:
                run_all(cells, arguments.steps, arguments.jobs)
                if arguments.pilot:
                    print(gather_pilots(fakeless_profile(arguments.steps), cells, arguments.out).to_string(index=False))
                continue
            made = [folder / scores_file(stage) for folder in (arguments.out, FAKELESS)]
            if made[1].is_file() and arguments.out.resolve() != FAKELESS.resolve():
                made.pop()  # a repeat, beside the committed scores
            require_unmade(made)  # whoever says which protocol came before
            protocol = arguments.protocol or require_protocol(made, protocol=FAKELESS_PROTOCOL)
            if not re.fullmatch("[0-9a-f]{40}", protocol):
                raise Refused(f"--protocol {protocol}: give the 40 digits of its commit (git log -1 -- {FAKELESS_PROTOCOL})")
            before = [each["protocol"] for each in read_record(arguments.out / RECORD).values()]
            require_amended(before, protocol, FAKELESS_PROTOCOL)
            run_all(cells, None, arguments.jobs, TESTS)
            gather(fakeless_profile(), stage, cells, arguments.out, protocol)
    except (ValueError, OSError, TaskFailed) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()

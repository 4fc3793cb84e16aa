"""Trains and scores the comparison of what is learned without fakes (arms: `config.WITHOUT_FAKES`), resumably.

    python -m utils.run.extract --profile shipped      # first: the faces of data/synthff
    python -m utils.run.without_fakes [--seeds 0 1] [--arms self_rendered ...] [--steps 300] [--jobs 2]
    python -m utils.run.without_fakes --score [--protocol COMMIT] [--out FOLDER]

Redrawers come first, then the arms that start from ImageNet's weights, then those that go on from them: each by one process,
on a GPU where there is one. Validation is scored with every arm; the tests by `--score` alone, once, after
`report/protocol_without_fakes.md` is committed. A machine without the repository's history is told that commit.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import joblib
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from utils.config import REDRAWERS, WITHOUT_FAKES, Profile, WithoutFakesConfig
from utils.faces.ffpp import HELD_OUT
from utils.learn.dataset import load_faces
from utils.learn.precision import cpu_kind
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
from utils.paths import FAKELESS, FAKELESS_PROTOCOL, atomic, write_json
from utils.results.metrics import video_scores
from utils.results.without_fakes import COLUMNS, RECORD, SCORES, TWINS_TABLE, digest
from utils.run.grid import TaskFailed, in_processes, run_task
from utils.run.study import Refused, require_protocol

VAL_SCORES, TEST_SCORES = "scores.csv.gz", "test_scores.csv.gz"  # of a run folder
TESTS = tuple(split for split in HELD_OUT if split != "val")


def run_redrawers(profile_name: str, task: tuple) -> list[str]:
    everybody, seed, names, steps = task
    profile = fakeless_profile(steps)
    redrawers_of(profile, load_faces(profile), everybody, seed, names)
    return [f"redrawers {' '.join(names)}, seed {seed}: done"]


def run_arm(profile_name: str, task: tuple) -> list[str]:
    """Train an arm, score the people who validate, and the tests if asked; return a line."""
    arm, seed, steps, splits = task
    profile, began = fakeless_profile(steps), time.monotonic()
    faces = load_faces(profile)
    train_arm(profile, arm, faces, seed)
    scored = score_arm(profile, arm, faces, seed, ("val",), VAL_SCORES)
    if (names := judging(arm)) and not (profile.workspace.runs / run_of(profile, arm, seed) / TWINS).is_file():
        score_twins(profile, arm, faces, seed, names)
    if splits:
        score_arm(profile, arm, faces, seed, splits, TEST_SCORES)
    aucs = ", ".join(f"{quality} {auc:.3f}" for quality, auc in aucs_of(scored).items())
    line = f"{arm}, seed {seed}: validation {aucs} in {time.monotonic() - began:.0f} s"
    tqdm.write(line)
    return [line]


def judging(arm: str) -> list[str]:
    """Return the redrawers whose twins an arm is judged by: all of them, or the one that it was not given."""
    given = WITHOUT_FAKES[arm].settings.redrawers
    return list(REDRAWERS) if arm == PHASE else [name for name in REDRAWERS if arm == f"without_{name}" and name not in given]


def aucs_of(scored: pd.DataFrame) -> dict[str, float]:
    """Return the AUC over clips of a table of scores, by quality."""
    clips = video_scores(scored)
    return {quality: roc_auc_score(some["label"], some["score"]) for quality, some in clips.groupby("quality")}


def run_all(seeds: Sequence[int], arms: Sequence[str], steps: int | None, jobs: int, splits: Sequence[str] = ()) -> None:
    """Train and score arms over seeds; what is there is read. Raises TaskFailed."""
    needed = [WITHOUT_FAKES[arm] for arm in (*arms, *(WITHOUT_FAKES[arm].start for arm in arms)) if arm in WITHOUT_FAKES]
    wanted = {one.everybody for one in needed if one.learns == "twins"} | {True}
    redrawers = [(everybody, seed, (name,), steps) for seed in seeds for everybody in wanted for name in REDRAWERS]
    first, later = ([arm for arm in arms if (WITHOUT_FAKES[arm].start == "imagenet") == new] for new in (True, False))
    stages = [("redrawers", run_redrawers, redrawers)]
    for some in (first, later):
        cells = [(arm, seed) for arm in some for seed in WithoutFakesConfig().seeds_of(arm) if seed in seeds]
        stages.append(("arms", run_arm, [(*cell, steps, tuple(splits)) for cell in cells]))
    for title, run, tasks in stages:
        if tasks:
            calls = (joblib.delayed(run_task)("shipped", task, 1, run) for task in tasks)
            with tqdm(total=len(tasks), desc=title, disable=None) as bar:
                in_processes(max(1, min(jobs, len(tasks))), calls, lambda lines, bar=bar: bar.update())


def scores_table(profile: Profile, arms: Sequence[str]) -> pd.DataFrame:
    """Return the scores of all arms, validation and tests, one row a clip, in the columns of `results/without_fakes.py`."""
    pairs = load_faces(profile).index.drop_duplicates(["method", "video_id"]).set_index("video_id")["pair"]
    pairs, tables = pairs[~pairs.index.duplicated()], []
    for arm in arms:
        for seed in WithoutFakesConfig().seeds_of(arm):
            folder = profile.workspace.runs / run_of(profile, arm, seed)
            both = pd.concat([read_scores(folder / file) for file in (VAL_SCORES, TEST_SCORES)], ignore_index=True)
            clips = video_scores(both).rename(columns={"frames": "faces"})
            tables.append(clips.assign(arm=arm, seed=seed, pair=clips["video_id"].map(pairs)))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def gather(profile: Profile, arms: Sequence[str], out: Path, protocol: str) -> None:
    """Write the tables of the comparison, and the record of how they were made."""
    write_scores(out / SCORES, scores_table(profile, arms))
    tables = [
        pd.read_csv(path) for arm in arms for seed in WithoutFakesConfig().seeds_of(arm)
        if (path := profile.workspace.runs / run_of(profile, arm, seed) / TWINS).is_file()
    ]  # fmt: skip
    with atomic(out / TWINS_TABLE) as path:
        pd.concat(tables, ignore_index=True).to_csv(path, index=False, float_format="%.5f", lineterminator="\n")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_kind()
    record = {"protocol": protocol, "on": time.strftime("%Y-%m-%d"), "device": device, "torch": torch.__version__,
              "python": platform.python_version(), "numbers": asdict(WithoutFakesConfig()),
              "sha256": {name: digest(out / name) for name in (SCORES, TWINS_TABLE)}}  # fmt: skip
    write_json(out / RECORD, record)


def main(argv: Sequence[str] | None = None) -> None:
    numbers = WithoutFakesConfig()
    parser = argparse.ArgumentParser(prog="python -m utils.run.without_fakes", description="Learning without fakes, measured.")
    parser.add_argument("--seeds", nargs="+", type=int, default=numbers.seeds)
    parser.add_argument("--arms", nargs="+", choices=tuple(WITHOUT_FAKES), default=tuple(WITHOUT_FAKES))
    parser.add_argument("--steps", type=int, help="another number, for a pilot on validation")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--score", action="store_true", help="score the tests too, once, after the protocol is committed")
    parser.add_argument("--protocol", default="", help="its commit, where git can't be asked")
    parser.add_argument("--out", type=Path, default=FAKELESS, help="where the tables are written")
    arguments = parser.parse_args(argv)
    try:
        if not arguments.score:
            run_all(arguments.seeds, arguments.arms, arguments.steps, arguments.jobs)
            return
        if arguments.steps or set(arguments.arms) != set(WITHOUT_FAKES) or tuple(arguments.seeds) != numbers.seeds:
            raise Refused("the tests are scored once, with all arms and seeds and the committed numbers")
        made = [arguments.out / name for name in (SCORES, TWINS_TABLE)]
        protocol = arguments.protocol or require_protocol([*made, FAKELESS / SCORES], protocol=FAKELESS_PROTOCOL)
        run_all(arguments.seeds, arguments.arms, None, arguments.jobs, TESTS)
        gather(fakeless_profile(), tuple(WITHOUT_FAKES), arguments.out, protocol)
    except (ValueError, OSError, TaskFailed) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()

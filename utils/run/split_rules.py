"""Trains and scores the comparison of ways to set validation aside (`config.SPLIT_RULES`), resumably.

    python -m utils.run.extract --profile shipped      # first: the faces of data/synthff
    python -m utils.run.split_rules [--seeds 0 1] [--jobs 2]
    python -m utils.run.split_rules --score            # after report/protocol_split_rules.md is committed, once

About four minutes a network on one core, three networks a seed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import joblib
import pandas as pd
from tqdm import tqdm

from utils.config import SPLIT_RULES, SplitRulesConfig
from utils.learn.dataset import load_faces
from utils.learn.scores import read_scores, write_scores
from utils.learn.split_rules import rules_profile, run_of, score_under, train_under
from utils.paths import SPLIT_RULES_PROTOCOL, SPLIT_RULES_SCORES
from utils.results.store import seal
from utils.run.arguments import at_least, processes
from utils.run.grid import TaskFailed, in_processes, run_task
from utils.run.study import Refused, require_protocol

SCORES, UNSEEN = "split_rules_scores.csv.gz", "test"  # of a run folder; the split that nobody has seen


def run_rule(profile_name: str, task: tuple[str, int, bool]) -> list[str]:
    """Train under a rule and seed, and score if asked; return a line."""
    rule, seed, score = task
    profile = rules_profile()
    faces = load_faces(profile)
    train_under(profile, rule, faces, seed)
    if score:
        score_under(profile, rule, faces, seed, UNSEEN, SCORES)
    return [f"{rule}, seed {seed}: {'scored' if score else 'trained'}"]


def run_all(seeds: Sequence[int], jobs: int, score: bool = False) -> None:
    """Train, or score, every rule under some seeds; what is there is read. Raises TaskFailed."""
    tasks = [(rule, seed, score) for seed in seeds for rule in SPLIT_RULES]
    calls = (joblib.delayed(run_task)("shipped", task, 1, run_rule) for task in tasks)
    with tqdm(total=len(tasks), desc="split rules", disable=None) as bar:
        in_processes(max(1, min(jobs, len(tasks))), calls, lambda lines: bar.update(len(lines)))


def gather(protocol: str) -> pd.DataFrame:
    """Write the scores of all seeds, after a protocol's commit, into the committed table, and return it."""
    profile = rules_profile()
    cells = [(rule, seed) for seed in SplitRulesConfig().seeds for rule in SPLIT_RULES]
    tables = [read_scores(profile.workspace.runs / run_of(profile, *cell) / SCORES) for cell in cells]
    table = pd.concat(tables, ignore_index=True).assign(protocol=protocol)
    write_scores(SPLIT_RULES_SCORES, table)
    seal(SPLIT_RULES_SCORES)
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.run.split_rules", description="What a split keeps together.")
    parser.add_argument("--seeds", nargs="+", type=at_least(0), help="default: all of the protocol")
    parser.add_argument("--jobs", type=processes, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--score", action="store_true", help="score the unseen people too, once, after the protocol")
    arguments = parser.parse_args(argv)
    try:
        if arguments.score and arguments.seeds:
            raise Refused("all seeds are scored together: no --seeds")
        protocol = require_protocol([SPLIT_RULES_SCORES], protocol=SPLIT_RULES_PROTOCOL) if arguments.score else ""
        run_all(arguments.seeds or SplitRulesConfig().seeds, arguments.jobs)
        if arguments.score:
            run_all(SplitRulesConfig().seeds, arguments.jobs, score=True)
            print(f"{len(gather(protocol))} scores of faces in {SPLIT_RULES_SCORES}")
    except (ValueError, OSError, TaskFailed) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()

"""The original's 18 cases, six networks by three phases, and EfficientNet-Lite0 beside them: hours, so not the main job.

    python -m utils.grid [--profile synthff] [--models xception ...] [--phases trained ...] [--seeds 0 1] [--jobs 2]

Finished runs are skipped, so an interrupted grid goes on where it stopped. On a CPU one single-thread process a core
trains more than one process with all cores; on a GPU use `--jobs 1`.
"""

from __future__ import annotations

import argparse
import os
from itertools import product

import joblib
import torch
from tqdm import tqdm

from utils.config import MODEL_NAMES, PROFILES, get_profile
from utils.dataset import load_faces
from utils.models import WeightsUnavailable
from utils.noisy_student import noisy_trained
from utils.predict import save_predictions
from utils.runs import run_name
from utils.training import post_trained, trained

TRAIN = {"trained": trained, "post_trained": post_trained, "noisy_trained": noisy_trained}


def chains(models: list[str], phases: list[str], seeds: list[int]) -> list[tuple[str, list[str], int]]:
    """Return (model, phases, seed) of what one process does in a row: *post_trained* goes on from *trained*."""
    together = [[phase for phase in ("trained", "post_trained") if phase in phases]]
    together += [["noisy_trained"]] if "noisy_trained" in phases else []
    return [(model, group, seed) for seed, model, group in product(seeds, models, together) if group]


def run_chain(profile_name: str, model: str, phases: list[str], seed: int, threads: int | None = None) -> list[str]:
    """Train and score the phases of one network; return a line for each, done or left out for want of weights."""
    if threads:
        torch.set_num_threads(threads)
        os.environ["TQDM_DISABLE"] = "1"  # several bars at once would overwrite each other
    profile = get_profile(profile_name)
    faces, lines = load_faces(profile), []
    for phase in phases:
        name = run_name(phase, model, seed)
        try:
            TRAIN[phase](profile, model, faces, seed)
            save_predictions(profile, name, faces)
            lines.append(f"{name}: done")
        except WeightsUnavailable as error:
            lines.append(f"{name}: left out, {error}")
    return lines


def run_grid(profile_name: str, models: list[str], phases: list[str], seeds: list[int], jobs: int) -> list[str]:
    """Run all cases in `jobs` processes; return one line a case. A failure in one case stops the grid with its error."""
    tasks = chains(models, phases, seeds)
    threads = 1 if jobs > 1 else None
    pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    done = pool(joblib.delayed(run_chain)(profile_name, *task, threads) for task in tasks)
    lines = []
    for result in tqdm(done, total=len(tasks), desc="grid", disable=bool(os.environ.get("TQDM_DISABLE"))):
        lines += result
        for line in result:
            tqdm.write(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and score the original's 18 cases, resumably.")
    parser.add_argument("--profile", default="synthff", choices=sorted(PROFILES))
    parser.add_argument("--models", nargs="+", choices=MODEL_NAMES, default=list(MODEL_NAMES))
    parser.add_argument("--phases", nargs="+", choices=list(TRAIN), default=list(TRAIN))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=1 if torch.cuda.is_available() else os.cpu_count())
    arguments = parser.parse_args()
    try:
        run_grid(arguments.profile, arguments.models, arguments.phases, arguments.seeds, arguments.jobs)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()

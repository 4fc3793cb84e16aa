"""Is a fit that is killed and goes on equal to one that is not? By hand, with kill -9 at random moments:

    python tests/kill_training.py [--times 20] [--seed 0]

Each time a student in small (twins, H.264 noise by two reading processes, a checkpoint a step) is started, killed at a random
moment of its training, labelling and the writing of checkpoints included, and started again until it ends.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from fake_faces import make_faces, small_network

from utils.config import ModelConfig, NoisyStudentConfig, TrainConfig
from utils.learn.noisy_student import student_objective
from utils.learn.training import fit

CONFIG = ModelConfig(px=32, steps=60, batch_size=4, dropout=0.3, twins=True, clean_first=0.4)
SHARED = TrainConfig(eval_every=10, ema=0.9, checkpoint_minutes=1e-9, workers=2, precision="fp32")
STUDENT = NoisyStudentConfig(
    mu=2, threshold=0.5, balance=False, teacher_view="c23", student_views=("c23", "c40"), degrade="h264"
)  # fmt: skip


def fit_in(folder: Path) -> None:
    """Train the student in this process."""
    torch.set_num_threads(1)
    faces = make_faces(size=32)
    train, val = faces.select(split="train"), faces.select(split="val")
    objective = partial(
        student_objective, teacher=small_network(32, seed=7), inputs_u=train.hide_labels(0), student=STUDENT, seed=1,
        folder=folder, val=val,
    )  # fmt: skip
    fit(small_network(32), train, val, CONFIG, SHARED, folder, seed=1, make_objective=objective)


def start(folder: Path) -> multiprocessing.Process:
    """Start training in a process of its own, a copy of this one, which has everything imported already."""
    process = multiprocessing.get_context("fork").Process(target=fit_in, args=(folder,))
    process.start()
    return process


def ended(folder: Path) -> str:
    """Train to the end; return a hash of the weights."""
    process = start(folder)
    process.join()
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16] if process.exitcode == 0 else "failed"


def stands(folder: Path) -> str:
    """Return how far a killed run was."""
    if not (folder / "config.json").is_file():
        return "before its start"
    return "at its end" if (folder / "result.json").is_file() else f"behind {len(seen(folder))} validations"


def seen(folder: Path) -> list[str]:
    log = folder / "log.jsonl"
    return log.read_text().splitlines() if log.is_file() else []


def main(times: int, seed: int) -> int:
    """Kill so many runs; return how many did not end equal."""
    os.environ["TQDM_DISABLE"] = "1"
    draw, equal = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as space:
        began = time.monotonic()
        whole, lasts = ended(Path(space, "whole")), time.monotonic() - began
        print(f"undisturbed: weights {whole}, {lasts:.1f} s")
        for number in range(1, times + 1):
            folder, moment = Path(space, str(number)), draw.uniform(0, lasts)
            process = start(folder)
            process.join(timeout=moment)
            process.kill()
            process.join()
            killed, same = stands(folder), ended(folder) == whole
            equal += same
            print(f"{number:2d}  killed after {moment:4.1f} s, {killed}: {'equal' if same else 'NOT EQUAL'}", flush=True)
    print(f"{equal} of {times} equal")
    return times - equal


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Kill a fit at random moments, and compare where it ends.")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.exit(main(arguments.times, arguments.seed) > 0)

"""What each of two processes does in test_distributed.py; started by `accelerate launch` or torchrun:

    torchrun --standalone --nproc-per-node 2 tests/two_processes.py FOLDER
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from fake_faces import make_faces, small_network

from utils.config import ModelConfig, NoisyStudentConfig, TrainConfig
from utils.learn import distributed, loop
from utils.learn.models import probabilities
from utils.learn.noisy_student import student_objective
from utils.learn.training import fit

CONFIG = ModelConfig(px=16, steps=6, batch_size=6, twins=True)
SHARED = TrainConfig(eval_every=2, ema=0.5, precision="fp32", workers=0)
STUDENT = NoisyStudentConfig(
    mu=1, threshold=0.5, balance=False, teacher_view="c23", student_views=("c23", "c40"), degrade="jpeg"
)  # fmt: skip


def run_all(folder: Path) -> None:
    """Train from labels, then a student that is stopped half-way and goes on; score an odd number of faces."""
    torch.set_num_threads(1)
    faces = make_faces(train=6)
    train, val = faces.select(split="train"), faces.select(split="val")
    model = partial(small_network, dropout=0.0, normalise=False)  # dropout and statistics would differ between processes
    fit(model(), train, val, CONFIG, SHARED, folder / "labels", seed=1)
    objective = partial(
        student_objective, teacher=model(seed=7), inputs_u=train.hide_labels(0), student=STUDENT, seed=1,
        folder=folder / "student", val=val,
    )  # fmt: skip
    shared, step = replace(SHARED, checkpoint_minutes=1e-9), loop.Fit.step

    def stopping(self, *arguments):
        if self.progress.step == 3:
            raise KeyboardInterrupt
        step(self, *arguments)

    loop.Fit.step = stopping
    try:
        fit(model(), train, val, CONFIG, shared, folder / "student", seed=1, make_objective=objective)
    except KeyboardInterrupt:
        loop.Fit.step = step
    distributed.wait()
    student = fit(model(), train, val, CONFIG, shared, folder / "student", seed=1, make_objective=objective)
    odd = train.select(pairs=sorted(train.pairs)[:3])
    odd.index = odd.index.iloc[:-1]
    odd.labels, odd._rows = odd.labels[:-1], odd._rows[:-1]
    p = distributed.in_shards(partial(probabilities, student, precision="fp32"), odd)
    one = odd.select(pairs=[odd.index["pair"].iloc[0]], every=3)
    few = distributed.in_shards(lambda part: torch.tensor([[float(len(part))]] * len(part)), one)
    said = {"world": distributed.world(), "p": p.tolist(), "count": len(odd), "few": few.flatten().tolist()}
    (folder / f"said{distributed.rank()}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    run_all(Path(sys.argv[1]))

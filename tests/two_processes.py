"""What each of two processes does in test_distributed.py; started by `accelerate launch` or torchrun."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from fake_faces import make_faces, small_network, tiny_profile

from utils.config import ModelConfig, NoisyStudentConfig, TrainConfig
from utils.learn import distributed, loop
from utils.learn.dataset import FaceSet
from utils.learn.inference import probabilities
from utils.learn.noisy_student import self_train, student_objective
from utils.learn.training import fit

CONFIG = ModelConfig(px=16, steps=6, batch_size=6, twins=True)
SHARED = TrainConfig(eval_every=2, ema=0.5, precision="fp32", workers=0)
STUDENT = NoisyStudentConfig(
    mu=1, threshold=0.5, balance=False, teacher_view="c23", student_views=("c23", "c40"), degrade="jpeg"
)  # fmt: skip


class Numbers:
    """Faces whose picture is their number."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def images(self, items) -> torch.Tensor:
        return torch.tensor(list(items))


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
    odd = FaceSet(train.index.iloc[:35], train.pixels)
    p = distributed.in_shards(partial(probabilities, student, precision="fp32"), odd)
    numbers = [distributed.in_shards(lambda part: part.images(range(len(part))), Numbers(count)) for count in (1, 7)]
    self_train(tiny_profile(folder / "phases"), "student_compression", faces)  # with batch statistics
    said = {"world": distributed.world(), "p": p.tolist(), "numbers": [some.tolist() for some in numbers]}
    (folder / f"said{distributed.rank()}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    run_all(Path(sys.argv[1]))

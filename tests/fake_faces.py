"""Fabricated faces for tests: fakes carry a brighter mouth, so that a tiny network can tell them apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from utils.config import SMOKE_MODELS, DataConfig, ModelConfig, Profile, TrainConfig
from utils.learn import loop
from utils.learn.dataset import FaceSet
from utils.learn.models import Detector
from utils.paths import Workspace


def make_faces(train=4, val=2, test=2, frames=3, size=16, seed=0, **others) -> FaceSet:
    """Return faces of so many identity pairs a split, two identities a pair, both labels, c23 and c40."""
    rng, rows, number = np.random.default_rng(seed), [], 0
    for split, pairs in ({"train": train, "val": val, "test": test} | others).items():
        for _ in range(pairs):
            a, b = f"{number:03d}", f"{number + 1:03d}"
            number += 2
            for target, source in ((a, b), (b, a)):
                for label, video_id in ((0, target), (1, f"{target}_{source}")):
                    about = dict(video_id=video_id, method="NeuralTextures" if label else "original", label=label)
                    about |= dict(target=target, source=source if label else "", pair=f"{a}_{b}", split=split)
                    rows += [about | dict(quality=q, frame=5 * i) for q in ("c23", "c40") for i in range(frames)]
    index = pd.DataFrame(rows).assign(status="found", row=range(len(rows)))
    pixels = rng.integers(60, 140, (len(rows), size, size, 3), dtype=np.uint8)
    pixels[index["label"] == 1, size // 2 :] += 80
    return FaceSet(index, pixels)


def small_network(px=16, dropout=0.3, seed=0, normalise=True) -> Detector:
    """Return a detector of two convolutions, for tests of the loop around it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        norms = [nn.BatchNorm2d(8), nn.BatchNorm2d(16)] if normalise else [nn.Identity(), nn.Identity()]
        body = [nn.Conv2d(3, 8, 3, 2), norms[0], nn.ReLU(), nn.Conv2d(8, 16, 3, 2), norms[1], nn.ReLU()]
        network = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(16, 2))
    return Detector("small", network, "9", px, pooled="6")


class TinyProfile(Profile):
    """A profile whose workspace is a temporary folder."""

    @property
    def workspace(self) -> Workspace:
        return Workspace(Path(self.name), self.variant)


def tiny_profile(folder: Path, **student) -> TinyProfile:
    models = {name: replace(config, px=32, steps=2, batch_size=4) for name, config in SMOKE_MODELS.items()}
    models["mobilenet-v2"] = ModelConfig(px=16, steps=3, batch_size=4)
    train = TrainConfig(eval_every=2, ema=0.5)
    profile = TinyProfile(name=str(folder), data=DataConfig(labelled_fraction=0.5), train=train, models=models)
    settings = replace(profile.student, **{"iterations": 2, "mu": 1, "threshold": 0.5} | student)
    return replace(profile, student=settings, student_model="mobilenet-v2")


def watched_starts(monkeypatch) -> dict[str, dict[str, torch.Tensor]]:
    """Return a dictionary that fills with the weights that each fit begins with, by the name of its run folder."""
    starts, run = {}, loop.run

    def watched(model, objective, val, config, shared, folder, *rest, **more):
        starts.setdefault(folder.name, {name: value.clone() for name, value in model.state_dict().items()})
        return run(model, objective, val, config, shared, folder, *rest, **more)

    monkeypatch.setattr(loop, "run", watched)
    return starts

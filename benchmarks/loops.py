"""The two loops that `training.py` compares: the network as its library gives it in float32, and ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from utils.config import FAST, ModelConfig, Profile, TrainConfig
from utils.learn.dataset import FaceSet, load_faces
from utils.learn.fast_depthwise import restore
from utils.learn.loop import Fit, validate
from utils.learn.memory import keep_freed_memory
from utils.learn.models import Detector, create_model, side_at
from utils.learn.plans import Losses, Objective, planned
from utils.learn.precision import pick_device, precision_that_runs
from utils.learn.training import Supervised


def plain(name: str, config: ModelConfig, seed: int = 0) -> Detector:
    """Return the network without any of our changes for speed: NCHW, its library's gradients, memory-efficient swish."""
    model = create_model(name, config, seed)
    restore(model)
    if hasattr(model.network, "set_swish"):
        model.network.set_swish(memory_efficient=True)
    model.layout = torch.contiguous_format
    return model.to(memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Loop:
    """One way to train: which network, in which precision, with which settings."""

    ours: bool
    fast: bool = False  # with the changes of `config.FAST`
    precision: str = "auto"

    def config(self, name: str, config: ModelConfig) -> ModelConfig:
        return replace(config, **FAST.get(name, {})) if self.fast else config

    def fit(self, name: str, config: ModelConfig, shared: TrainConfig, objective: Objective | Held, seed: int = 0) -> Fit:
        """Return all that training changes, for a new network in the precision that this way takes."""
        device = pick_device()
        model = (create_model if self.ours else plain)(name, config, seed).to(device).train()
        precision = precision_that_runs(self.precision, device, model.px, model)
        return Fit(model, objective, config, replace(shared, precision=precision), device)


LOOPS = {
    "plain": Loop(False, precision="fp32"),
    "plain again": Loop(False, precision="fp32"),
    "ours": Loop(True),
    "ours, float32": Loop(True, precision="fp32"),
    "ours, fast": Loop(True, fast=True),
}


class Held:
    """In the place of an objective: one batch that lies on the device, so that nothing is drawn, read or noised."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        self.images, self.labels = images, labels

    def watch(self, *_) -> None:
        """It has nothing to see."""

    def noise(self, *_) -> torch.Tensor:
        return self.images

    def compare(self, _, logits: torch.Tensor) -> Losses:
        return {"loss": F.cross_entropy(logits, self.labels)}


NOTHING = repeat((None, []))  # the plans and pixels of `Held`


def curve(
    loop: Loop, name: str, config: ModelConfig, shared: TrainConfig, train: FaceSet, val: FaceSet, seed: int, every: int
) -> Iterator[tuple[int, float, float]]:
    """Train once; yield (steps done, seconds of training, validation AUC) every `every` steps and at the end.

    The seconds hold batches, augmentation and the average of the weights, as in `fit`, and no validation.
    """
    keep_freed_memory(loop.ours)
    objective = Supervised(train, config, shared, torch.Generator().manual_seed(seed))
    fit, seconds = loop.fit(name, config, shared, objective, seed), 0.0
    torch.manual_seed(seed)
    steps = planned(objective, config.steps, 0, fit.device)
    for step in range(1, config.steps + 1):
        began = time.perf_counter()
        fit.model.px = side_at(step, config)
        fit.step(*next(steps), f"{name}, step {step}")
        finish(fit.device)
        seconds += time.perf_counter() - began
        if step % every == 0 or step == config.steps:
            yield step, seconds, validate(fit.average, val, fit.shared)["val_auc"]


def finish(device: torch.device) -> None:
    """Wait until the GPU has done what it was told, if there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def some_faces(profile: Profile) -> tuple[FaceSet, bool]:
    """Return the profile's faces, or fabricated ones where notebook 02 has not cut any, and whether they are real crops."""
    try:
        return load_faces(profile), True
    except FileNotFoundError:
        return fabricated(profile.faces.size), False


def fabricated(size: int, pairs: int = 8, frames: int = 4) -> FaceSet:
    """Return noise in the shape of faces (so many pairs each of train and val): fakes are brighter below the middle."""
    rng, rows = np.random.default_rng(0), []
    for number in range(2 * pairs):
        a, b = f"{2 * number:03d}", f"{2 * number + 1:03d}"
        about = dict(pair=f"{a}_{b}", split="train" if number < pairs else "val")
        for target, source in ((a, b), (b, a)):
            for label, video, method in ((0, target, "original"), (1, f"{target}_{source}", "NeuralTextures")):
                about |= dict(target=target, source=source if label else "", video_id=video, method=method, label=label)
                rows += [about | dict(quality=quality, frame=frame) for quality in ("c23", "c40") for frame in range(frames)]
    index = pd.DataFrame(rows).assign(status="found", row=range(len(rows)))
    pixels = rng.integers(60, 180, (len(rows), size, size, 3), dtype=np.uint8)
    pixels[index["label"] == 1, size // 2 :] += 20
    return FaceSet(index, pixels)

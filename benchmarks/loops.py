"""The two loops that `training.py` compares: the network as its library gives it in float32, and ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from utils.config import FAST, ModelConfig, Profile, TrainConfig
from utils.learn.dataset import FaceSet, load_faces
from utils.learn.fast_depthwise import restore
from utils.learn.loop import update_average, validate, warmup_cosine
from utils.learn.memory import keep_freed_memory
from utils.learn.models import Detector, create_model, frozen_copy, side_at
from utils.learn.plans import Objective, planned
from utils.learn.precision import autocast, pick_device, precision_that_runs
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

    def config(self, name: str, config: ModelConfig) -> ModelConfig:
        return replace(config, **FAST.get(name, {})) if self.fast else config

    def model(self, name: str, config: ModelConfig, seed: int = 0) -> Detector:
        return (create_model if self.ours else plain)(name, config, seed).to(pick_device()).train()

    def precision(self, model: Detector) -> str:
        return precision_that_runs("auto", model.mean.device, model.px, model) if self.ours else "fp32"


LOOPS = {"plain": Loop(False), "plain again": Loop(False), "ours": Loop(True), "ours, fast": Loop(True, fast=True)}


class Optimiser:
    """AdamW with what `fit` does around it: autocast, a scaler for float16, the clipped gradient, the schedule."""

    def __init__(self, model: Detector, config: ModelConfig, shared: TrainConfig, precision: str):
        self.model, self.config, self.shared, self.precision, self.done = model, config, shared, precision, 0
        device = model.mean.device.type
        decays = [[p for p in model.parameters() if (p.ndim > 1) == decayed] for decayed in (True, False)]
        groups = [{"params": some, "weight_decay": shared.weight_decay * (i == 0)} for i, some in enumerate(decays)]
        self.adamw = torch.optim.AdamW(groups, lr=config.lr, fused=device in ("cpu", "cuda"))
        self.scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")

    def step(self, loss_of: Callable[[Detector], torch.Tensor]) -> None:
        for group in self.adamw.param_groups:
            group["lr"] = self.config.lr * warmup_cosine(self.done, self.config.steps, self.shared.warmup)
        with autocast(self.model.mean.device, self.precision):
            loss = loss_of(self.model)
        self.adamw.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.adamw)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.shared.clip_grad)
        self.scaler.step(self.adamw)
        self.scaler.update()
        self.done += 1


def curve(
    loop: Loop, name: str, config: ModelConfig, shared: TrainConfig, train: FaceSet, val: FaceSet, seed: int, every: int
) -> Iterator[tuple[int, float, float]]:
    """Train once; yield (steps done, seconds of training, validation AUC) every `every` steps and at the end.

    The seconds hold batches, augmentation and the average of the weights, as in `fit`, and no validation.
    """
    keep_freed_memory(loop.ours)
    model = loop.model(name, config, seed)
    precision, seconds = loop.precision(model), 0.0
    torch.manual_seed(seed)
    loss_of = following(Supervised(train, config, shared, torch.Generator().manual_seed(seed)), config.steps)
    optimiser, average = Optimiser(model, config, shared, precision), frozen_copy(model)
    for step in range(1, config.steps + 1):
        began = time.perf_counter()
        model.px = side_at(step, config)
        optimiser.step(loss_of)
        update_average(average, model, min(shared.ema, (1 + step) / (10 + step)))
        finish(model)
        seconds += time.perf_counter() - began
        if step % every == 0 or step == config.steps:
            yield step, seconds, validate(average, val, replace(shared, precision=precision))["val_auc"]


def following(objective: Objective, steps: int, workers: int = 0) -> Callable[[Detector], torch.Tensor]:
    """Return what draws, reads and noises the next batch, and gives a model's loss on it, for so many steps."""
    device = pick_device()
    stream = planned(objective, steps, workers, device)

    def loss_of(model: Detector) -> torch.Tensor:
        plan, pixels = next(stream)
        return objective.compare(plan, model(objective.noise(plan, pixels, model.px, device)))["loss"]

    return loss_of


def finish(model: Detector) -> None:
    """Wait until the GPU has done what it was told, if there is one."""
    if model.mean.device.type == "cuda":
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

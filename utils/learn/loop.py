"""The one training loop: all that it changes as it goes, a step, validation, and checkpoints that a killed run goes on from."""

from __future__ import annotations

import copy
import math
import os
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from utils.config import ModelConfig, TrainConfig
from utils.learn import checkpoints, distributed
from utils.learn.dataset import FaceSet
from utils.learn.inference import probabilities
from utils.learn.models import Detector, frozen_copy, side_at
from utils.learn.plans import Objective, Plan, planned, reading_workers
from utils.learn.precision import autocast

KEEP = ("best", "last")


@dataclass
class Progress:
    """How far a fit is, in plain numbers."""

    step: int = 0
    since: int = 0  # steps behind the last validation, and the sums of their losses
    sums: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # validations without gain
    highest: float = -1.0
    record: dict = field(default_factory=dict)  # the last validation, and that of the weights that are kept
    result: dict = field(default_factory=dict)
    seconds: float = 0.0


class Fit:
    """All that training changes: weights, their average, the average that is kept, optimiser, schedule, streams, progress."""

    def __init__(self, model: Detector, objective: Objective, config: ModelConfig, shared: TrainConfig, device: torch.device):
        self.model, self.objective, self.shared, self.device = model, objective, shared, device
        head = not all(parameter.requires_grad for parameter in model.parameters())
        lr, fused = shared.head_lr if head else config.lr, device.type in ("cpu", "cuda")
        self.optimiser = torch.optim.AdamW(_groups(model, shared.weight_decay), lr=lr, fused=fused)
        factor = partial(warmup_cosine, steps=config.steps, warmup=shared.warmup)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, factor)
        self.scaler = torch.amp.GradScaler(device.type, enabled=shared.precision == "fp16")
        self.average, self.kept, self.progress = frozen_copy(model), None, Progress()
        objective.watch(model, self.average)
        network = distributed.together(model)
        self.network = torch.compile(network) if shared.compile else network

    def step(self, plan: Plan, pixels: list[torch.Tensor], where: str) -> None:
        """Take one step; raise FloatingPointError where the loss is not finite."""
        with autocast(self.device, self.shared.precision):
            inputs = self.objective.noise(plan, pixels, self.model.px, self.device)
            losses = self.objective.compare(plan, self.network(inputs))
        values = distributed.mean(losses)
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(f"the loss is {values['loss']} ({where}): lower the learning rate, or check the faces")
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(losses["loss"]).backward()
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_((p for p in self.model.parameters() if p.requires_grad), self.shared.clip_grad)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.schedule.step()
        progress = self.progress
        progress.step, progress.since = progress.step + 1, progress.since + 1
        progress.sums = {name: progress.sums.get(name, 0.0) + value for name, value in values.items()}
        update_average(self.average, self.model, min(self.shared.ema, (1 + progress.step) / (10 + progress.step)))

    def validate(self, val: FaceSet, seconds: float) -> None:
        """Look at the validation faces with the averaged weights, and keep these if `shared.keep` says so."""
        progress = self.progress
        means = {name: value / progress.since for name, value in progress.sums.items()}
        record = {"step": progress.step, **means, **validate(self.average, val, self.shared), "seconds": round(seconds, 1)}
        progress.record, progress.since, progress.sums, progress.stale = record, 0, {}, progress.stale + 1
        if record["val_auc"] > progress.highest:
            progress.highest, progress.stale = record["val_auc"], 0
            if self.shared.keep == "best":
                self.kept, progress.result = frozen_copy(self.average), record

    def state_dict(self, plan: Plan) -> dict:
        """Return all of it as of the step of `plan`, the last one taken: plans drawn ahead will be drawn again."""
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        kept = self.kept.state_dict() if self.kept else None
        random = distributed.gathered([_random_state(self.device)])
        return {**parts, "kept": kept, "objective": plan.after, "progress": asdict(self.progress), "random": random}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state; raise ValueError, all as it was, where it is none of this fit."""
        before = copy.deepcopy(self.state_dict(Plan(None, after=self.objective.state_dict())))
        try:
            self._load(state)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            self._load(before)
            raise ValueError(f"{type(error).__name__} {error}") from None

    def _load(self, state: dict) -> None:
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.kept = frozen_copy(self.average) if state["kept"] else None
        if state["kept"]:
            self.kept.load_state_dict(state["kept"])
        self.objective.load_state_dict(state["objective"])
        self.progress = Progress(**state["progress"])
        random = state["random"][distributed.rank() % len(state["random"])]
        torch.set_rng_state(random["cpu"])
        if self.device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"])


_PARTS = ("model", "average", "optimiser", "schedule", "scaler")


def _random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return where the streams stand that dropout and stochastic depth draw from."""
    return {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if device.type == "cuda" else {})


def run(
    model: Detector, objective: Objective, val: FaceSet, config: ModelConfig, shared: TrainConfig, folder: Path,
    device: torch.device, request: str = "", saved: dict | None = None,
) -> tuple[Detector, dict]:  # fmt: skip
    """Run the optimiser; return the averaged model that is kept and its validation.

    `request` is the hash that checkpoints carry, `saved` the state of the one to go on from.
    """
    if shared.keep not in KEEP:
        raise ValueError(f"unknown keep {shared.keep!r}: choose one of {', '.join(KEEP)}")
    torch.backends.cudnn.benchmark = device.type == "cuda"  # images of one fit have one size
    fit = Fit(model, objective, config, shared, device)
    if saved:
        try:
            fit.load_state_dict(saved)
        except ValueError as error:
            checkpoints.start_anew(folder / checkpoints.CHECKPOINT, error)
            if distributed.is_main():
                (folder / "log.jsonl").unlink(missing_ok=True)
    progress, since = fit.progress, time.perf_counter()
    began, every = since - progress.seconds, 60 * shared.checkpoint_minutes if shared.checkpoint_minutes else math.inf
    model.train()
    steps = planned(
        objective, config.steps - progress.step, reading_workers(shared.workers, device), device,
        distributed.rank(), distributed.world(),
    )  # fmt: skip
    quiet = bool(os.environ.get("TQDM_DISABLE")) or not distributed.is_main()
    bar = tqdm(steps, desc=folder.name, total=config.steps, initial=progress.step, disable=quiet)
    for plan, pixels in bar:
        model.px = side_at(progress.step + 1, config)
        fit.step(plan, pixels, f"{folder.name}, step {progress.step + 1}")
        if progress.step % shared.eval_every == 0 or progress.step == config.steps:
            fit.validate(val, time.perf_counter() - began)
            if distributed.is_main():
                checkpoints.log(folder, progress.record)
            bar.set_postfix(loss=f"{progress.record['loss']:.3f}", val_auc=f"{progress.record['val_auc']:.3f}")
            if shared.patience and progress.stale >= shared.patience:
                break
        if distributed.agreed(time.perf_counter() - since >= every):
            since = time.perf_counter()
            progress.seconds = since - began
            checkpoints.save(folder, request, fit.state_dict(plan))
    if shared.keep == "last":
        fit.kept, progress.result = fit.average, progress.record
    return fit.kept, {**progress.result, "seconds": progress.record["seconds"], "steps": progress.step}


def _groups(model: Detector, weight_decay: float) -> list[dict]:
    """Return optimiser groups: biases and normalisation are not decayed."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = {"params": [p for p in learned if p.ndim > 1], "weight_decay": weight_decay}
    return [decayed, {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0}]


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Return the learning rate's factor: linear to 1 over the first `warmup` of the steps, then half a cosine to 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


@torch.no_grad()
def update_average(average: Detector, model: Detector, decay: float) -> None:
    """Move averaged weights and batch statistics towards the model's: decay * average + (1 - decay) * model."""
    for target, source in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if target.is_floating_point():
            target.lerp_(source, 1 - decay)
        else:
            target.copy_(source)


def validate(model: Detector, val: FaceSet, shared: TrainConfig) -> dict[str, float]:
    """Return the mean log loss and the frame-level AUC, per quality and as their mean, `val_auc`."""
    distributed.same_statistics(model)
    p = distributed.in_shards(partial(probabilities, model, precision=shared.precision, scorer=shared.scorer), val)
    record = {"val_loss": F.nll_loss(p.clamp_min(1e-7).log(), val.labels).item()}
    for quality in val.qualities:
        rows = (val.index["quality"] == quality).to_numpy()
        record[f"val_auc_{quality}"] = float(roc_auc_score(val.labels.numpy()[rows], p.numpy()[rows, 1]))
    values = [value for name, value in record.items() if name.startswith("val_auc_")]
    return {**record, "val_auc": sum(values) / len(values)}

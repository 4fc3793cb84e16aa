"""The one training loop, and the two phases that learn from labels alone.

Every network of the project, supervised or student, goes through `fit`. It takes training and validation faces and
refuses any other split, so nothing can be chosen on the test set.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from utils.config import ModelConfig, Profile, TrainConfig
from utils.faces.ffpp import labelled_pairs
from utils.learn import checkpoints
from utils.learn.augment import basic, for_twins, to_float
from utils.learn.dataset import FaceSet, balanced_batches, endless_batches, twins
from utils.learn.memory import keep_freed_memory
from utils.learn.models import Detector, create_model, frozen_copy, pick_device, precision_that_runs, probabilities, side_at

Losses = dict[str, torch.Tensor]  # "loss" is what is minimised, other entries are logged
Objective = Callable[[Detector], Losses]  # draws one batch and returns its losses
KEEP = ("best", "last")


def supervised(train: FaceSet, config: ModelConfig, shared: TrainConfig, generator: torch.Generator) -> Objective:
    """Return the usual objective: cross-entropy on class-balanced, lightly augmented batches."""
    batches = clean_first(train, config, generator)

    def losses(model: Detector) -> Losses:
        items = next(batches)
        device = model.mean.device
        images = to_float(train.images(items).to(device))
        inputs_x = for_twins(basic, images, model.px, generator=generator, config=shared.augment, twins=config.twins)
        targets_x = train.labels[items].to(device)
        logits_x = model(inputs_x)  # (B, 3, px, px) -> (B, 2)
        return {"loss": F.cross_entropy(logits_x, targets_x, label_smoothing=shared.label_smoothing)}

    return losses


def clean_first(train: FaceSet, config: ModelConfig, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield class-balanced batches of positions (B,), in the first part of the steps of the best quality alone.

    A network that starts from nothing finds the traces of a fake sooner where compression has not blurred them
    (curriculum learning, Bengio et al. 2009). `config.clean_first` is that part, 0 for none; `config.twins` has each
    fake follow its original.
    """
    clean = np.flatnonzero(train.index["quality"] == train.qualities[0])
    first = round(config.clean_first * config.steps)
    if first:
        yield from islice(_batches(train, clean, config, generator), first)
    yield from _batches(train, np.arange(len(train)), config, generator)


def _batches(train: FaceSet, items: np.ndarray, config: ModelConfig, generator) -> Iterator[torch.Tensor]:
    if not config.twins:
        some = torch.from_numpy(items)
        return (some[drawn] for drawn in balanced_batches(train.labels[some], config.batch_size, generator))
    pairs = twins(train.index.iloc[items])
    halves = endless_batches(len(pairs), config.batch_size // 2, generator)
    return (torch.from_numpy(items[pairs[drawn].ravel()]) for drawn in halves)


def fit(
    model: Detector,
    train: FaceSet,
    val: FaceSet,
    config: ModelConfig,
    shared: TrainConfig,
    folder: Path,
    *,
    seed: int,
    layers: str = "all",
    make_objective=supervised,
    about: dict | None = None,
) -> Detector:
    """Train a detector in the run folder and return it with the averaged weights that `shared.keep` names.

    A finished run of the same request (settings, data, seed, and whatever `about` names: phase, teacher, ...) is loaded
    instead. Raises ValueError where `train` is not purely the split train or `val` not the split val, and
    FloatingPointError where the loss is not finite.
    """
    require_split(train, "train")
    require_split(val, "val")
    device = pick_device()
    shared = replace(shared, precision=precision_that_runs(shared.precision, device, config.px, model))
    data = {"train": train.fingerprint(), "val": val.fingerprint(), "pairs": sorted(train.pairs)}
    request = checkpoints.request_of(model.name, seed, layers, config, shared, data=data, **(about or {}))
    keep_freed_memory()
    model = model.to(device)
    if checkpoints.is_finished(folder, request):
        checkpoints.load_weights(model, folder)
        return model.eval()
    checkpoints.start(folder, request)
    model.head_only() if layers == "head" else model.all_layers()
    torch.manual_seed(seed)  # dropout and stochastic depth; batches and augmentation have their own generator
    objective = make_objective(train, config, shared, torch.Generator().manual_seed(seed))
    kept, result = _loop(model, objective, val, config, shared, folder, device)
    checkpoints.finish(folder, kept, result)
    return kept.eval()


def _loop(model, objective, val, config, shared, folder, device) -> tuple[Detector, dict]:
    """Run the optimiser; return the averaged model that is kept and its validation."""
    if shared.keep not in KEEP:
        raise ValueError(f"unknown keep {shared.keep!r}: choose one of {', '.join(KEEP)}")
    if shared.num_threads:
        torch.set_num_threads(shared.num_threads)
    head = not all(parameter.requires_grad for parameter in model.parameters())
    lr, fused = shared.head_lr if head else config.lr, device.type in ("cpu", "cuda")
    optimiser = torch.optim.AdamW(_groups(model, shared.weight_decay), lr=lr, fused=fused)
    factor = partial(warmup_cosine, steps=config.steps, warmup=shared.warmup)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    bf16 = shared.precision == "bf16"
    average, kept, highest = frozen_copy(model), None, -1.0
    since, sums, began, stale = 0, {}, time.perf_counter(), 0
    model.train()
    bar = tqdm(range(1, config.steps + 1), desc=folder.name, disable=bool(os.environ.get("TQDM_DISABLE")))
    for step in bar:
        model.px = side_at(step, config)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            losses = objective(model)
        _step(losses["loss"], model, optimiser, shared.clip_grad, f"{folder.name}, step {step}")
        schedule.step()
        update_average(average, model, min(shared.ema, (1 + step) / (10 + step)))
        since, sums = since + 1, {name: sums.get(name, 0.0) + value.item() for name, value in losses.items()}
        if step % shared.eval_every and step != config.steps:
            continue
        means = {name: value / since for name, value in sums.items()}
        record = {"step": step, **means, **validate(average, val, shared)}
        record["seconds"] = round(time.perf_counter() - began, 1)
        checkpoints.log(folder, record)
        bar.set_postfix(loss=f"{record['loss']:.3f}", val_auc=f"{record['val_auc']:.3f}")
        since, sums, stale = 0, {}, stale + 1
        if record["val_auc"] > highest:
            highest, stale = record["val_auc"], 0
            if shared.keep == "best":
                kept, result = frozen_copy(average), record
        if shared.patience and stale >= shared.patience:
            break
    if shared.keep == "last":
        kept, result = average, record
    return kept, {**result, "seconds": record["seconds"], "steps": step}


def _step(loss: torch.Tensor, model: Detector, optimiser, clip_grad: float, where: str) -> None:
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss.item()} ({where}): lower the learning rate, or check the faces")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), clip_grad)
    optimiser.step()


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
    p = probabilities(model, val, precision=shared.precision, scorer=shared.scorer)
    record = {"val_loss": F.nll_loss(p.clamp_min(1e-7).log(), val.labels).item()}
    for quality in val.qualities:
        rows = (val.index["quality"] == quality).to_numpy()
        record[f"val_auc_{quality}"] = float(roc_auc_score(val.labels.numpy()[rows], p.numpy()[rows, 1]))
    values = [value for name, value in record.items() if name.startswith("val_auc_")]
    return {**record, "val_auc": sum(values) / len(values)}


def require_split(faces: FaceSet, split: str) -> None:
    """Raise ValueError unless all these faces belong to one split and have labels: `fit` can't be handed test data."""
    splits = sorted(set(faces.index["split"])) if isinstance(faces, FaceSet) else [type(faces).__name__]
    if splits != [split]:
        raise ValueError(f"training takes faces of the split {split!r} here, not {', '.join(splits)}")


def validation_faces(faces: FaceSet, shared: TrainConfig, quality=None) -> FaceSet:
    """Return the validation faces that are looked at during training."""
    return faces.select(split="val", quality=quality, every=shared.val_every)


# The phases of the original project. `faces` may hold all splits: train and val are taken out here.


def trained(profile: Profile, name: str, faces: FaceSet, seed: int = 0) -> Detector:
    """Phase 1: learn the last layer on ImageNet weights; where there are none, every layer."""
    config = profile.model(name)
    layers = phase_layers(profile, name, "trained")
    labelled, _ = draw_part(profile, faces, "trained", seed)
    return learn(profile, create_model(name, config, seed), labelled, faces, "trained", seed, layers=layers)


def post_trained(profile: Profile, name: str, faces: FaceSet, seed: int = 0) -> Detector:
    """Phase 2: go on from phase 1 (trained if need be), all layers, on a newly drawn part of the training pairs."""
    model = trained(profile, name, faces, seed)
    labelled, _ = draw_part(profile, faces, "post_trained", seed)
    about = {"starts_from": checkpoints.run_hash(profile, "trained", name, seed)}
    return learn(profile, model, labelled, faces, "post_trained", seed, about=about)


def phase_layers(profile: Profile, name: str, phase: str) -> str:
    """Return which layers of a network learn in a phase: "all", or the "head" alone where the others have weights to keep."""
    return profile.phases["trained"].layers if phase == "trained" and profile.model(name).weights != "none" else "all"


SUPERVISED = {"trained": trained, "post_trained": post_trained}


def supervised_phases(profile: Profile, name: str) -> tuple[str, ...]:
    """Return phase 1, and phase 2 where phase 1 learns the last layer alone."""
    return ("trained",) if profile.model(name).weights == "none" else ("trained", "post_trained")


def draw_part(profile: Profile, faces: FaceSet, phase: str, seed: int) -> tuple[FaceSet, FaceSet | None]:
    """Return the training faces of a phase's part of the identity pairs, and those of the other pairs (None if all)."""
    train, part = faces.select(split="train"), profile.phases[phase].part
    pairs = labelled_pairs(train.index, part, seed + 1000 * list(profile.phases).index(phase))
    rest = train.pairs - pairs
    return train.select(pairs=pairs), train.select(pairs=rest) if rest else None


def learn(
    profile: Profile, model: Detector, train: FaceSet, faces: FaceSet, phase: str, seed: int, layers="all",
    make_objective=supervised, about=None,
) -> Detector:  # fmt: skip
    """Fit with the profile's settings in the run folder of this phase, validated in the views that were trained on."""
    folder = profile.workspace.runs / checkpoints.run_name(phase, model.name, seed)
    val = validation_faces(faces, profile.train, train.qualities)
    config, about = profile.model(model.name, phase), {"phase": phase, **(about or {})}
    return fit(
        model, train, val, config, profile.train, folder, seed=seed, layers=layers, make_objective=make_objective, about=about
    )

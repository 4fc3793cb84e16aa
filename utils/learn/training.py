"""The one way to train, and the two phases that learn from labels alone.

Every network of the project, supervised or student, goes through `fit`. It takes training and validation faces and
refuses any other split, so nothing can be chosen on the test set.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from utils.config import ModelConfig, Profile, TrainConfig
from utils.faces.ffpp import labelled_pairs
from utils.learn import checkpoints, distributed, loop
from utils.learn.dataset import FaceSet
from utils.learn.memory import keep_freed_memory
from utils.learn.models import Detector, create_model
from utils.learn.plans import Crops, Losses, Objective, Part, Plan
from utils.learn.precision import PRECISIONS, precision_that_runs
from utils.paths import alone

OTHER_RANK = 1_000_003  # between the seeds of two processes, so that dropout differs


class Supervised(Objective):
    """The usual objective: cross-entropy on class-balanced, lightly augmented batches."""

    def draw(self) -> Plan:
        x = next(self.batches_x)
        return Plan(Part(Crops(x.numpy()), self.draw_noise(len(x) // self.together)))

    def compare(self, plan: Plan, logits_x: torch.Tensor) -> Losses:
        targets_x = self.labels(plan, logits_x.device)
        loss = F.cross_entropy(logits_x, targets_x, label_smoothing=self.shared.label_smoothing)
        return {"loss": plan.weight_x * loss}


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
    make_objective: Callable[..., Objective] = Supervised,
    about: dict | None = None,
) -> Detector:
    """Train a detector in the run folder and return it with the averaged weights that `shared.keep` names.

    A finished run of the same request (settings, data, seed, and whatever `about` names: phase, teacher, ...) is loaded
    instead, one that was killed goes on from its checkpoint, and one that another process is at is waited for. Raises
    ValueError where `train` is not purely the split train or `val` not the split val, or lacks a class in a quality, and
    FloatingPointError where the loss is not finite.
    """
    require_split(train, "train")
    require_split(val, "val")
    require_both_classes(val)
    device, asked = distributed.device(), shared.precision
    if shared.num_threads:
        torch.set_num_threads(shared.num_threads)
    shared = replace(shared, precision=precision_that_runs(asked, device, config.px, model))
    data = {"train": train.fingerprint(), "val": val.fingerprint(), "pairs": sorted(train.pairs)}
    request = checkpoints.request_of(model.name, seed, layers, config, shared, data=data, **(about or {}))
    alike = [request]  # where the precision is left to the processor, a run that another kind of it has finished will do
    if asked == "auto":
        alike += [request | {"train_config": request["train_config"] | {"precision": one}} for one in PRECISIONS]
    model = distributed.share_statistics(model.to(device))
    with nullcontext() if distributed.world() > 1 else alone(folder):  # another process may train it
        if any(checkpoints.is_finished(folder, one) for one in alike):
            try:
                checkpoints.load_weights(model, folder)
                return model.eval()
            except checkpoints.Damaged as error:
                warnings.warn(f"{error}, which is done now", stacklevel=2)
        keep_freed_memory()
        hashed = checkpoints.digest(request)
        saved = checkpoints.resume(folder, hashed)
        distributed.wait()  # all have read it
        if distributed.is_main() and not saved:
            checkpoints.start(folder, request)
        model.head_only() if layers == "head" else model.all_layers()
        torch.manual_seed(seed + OTHER_RANK * distributed.rank())  # dropout; batches and augmentation have their own generator
        objective = make_objective(train, config, shared, torch.Generator().manual_seed(seed))
        kept, result = loop.run(model, objective, val, config, shared, folder, device, hashed, saved)
        if distributed.is_main():
            checkpoints.finish(folder, kept, result)
        distributed.wait()
        return kept.eval()


def require_split(faces: FaceSet, split: str) -> None:
    """Raise ValueError unless all these faces belong to one split and have labels: `fit` can't be handed test data."""
    splits = sorted(set(faces.index["split"])) if isinstance(faces, FaceSet) else [type(faces).__name__]
    if splits != [split]:
        raise ValueError(f"training takes faces of the split {split!r} here, not {', '.join(splits)}")


def require_both_classes(val: FaceSet) -> None:
    """Raise ValueError unless there are real and fake faces in each quality: validation is an AUC in each of them."""
    for quality, labels in val.index.groupby("quality")["label"]:
        if labels.nunique() < 2:
            lacks = "real" if labels.iloc[0] else "fake"
            raise ValueError(f"no {lacks} face validates at {quality}: add videos of the split 'val', or extract faces again")


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
    make_objective: Callable[..., Objective] = Supervised, about=None,
) -> Detector:  # fmt: skip
    """Fit with the profile's settings in the run folder of this phase, validated in the views that were trained on."""
    folder = profile.workspace.runs / checkpoints.run_name(phase, model.name, seed)
    val = validation_faces(faces, profile.train, train.qualities)
    config, about = profile.model(model.name, phase), {"phase": phase, **(about or {})}
    return fit(
        model, train, val, config, profile.train, folder, seed=seed, layers=layers, make_objective=make_objective, about=about
    )

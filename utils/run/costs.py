"""What the tasks of the grid cost: the fits behind each of them, their steps and images, and seconds by measured rates.

`benchmarks/rates.csv` has what one core, or one GPU, of a machine does in a second (`benchmarks/rates.py` measures it):
columns machine, device, precision, work (train, infer, extract, index), model, px, per_s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from utils.config import (
    ARMS,
    CONTROL,
    PHASE_TEACHER,
    TEACHERS,
    Experiment,
    ModelConfig,
    NoisyStudentConfig,
    Profile,
    labels_variant,
    methods_profile,
)
from utils.learn.checkpoints import run_name
from utils.learn.models import create_model
from utils.learn.noisy_student import iteration_phases, original_student, student_settings
from utils.learn.training import phase_layers
from utils.paths import RATES
from utils.results.store import read_table

TRAIN, INFER, EXTRACT, INDEX = "train", "infer", "extract", "index"  # kinds of work
CPU, CUDA = "cpu", "cuda"
COLUMNS = ["machine", "device", "precision", "work", "model", "px", "per_s"]
PASSES = 3  # a training step's FLOPs over those of a forward pass: the backward pass has two products for each


@dataclass(frozen=True)
class Fit:
    """One training run: `images` a step of side `px`, validated on `views` qualities, after labelling a pool in `labelled`."""

    experiment: str
    run: str
    model: str
    px: int
    steps: int
    images: int
    layers: str
    views: int
    labelled: int = 0  # views of the pool that its teacher labels first
    pool: float = 0.0  # part of the training people who are that pool


def fits(profile: Profile, task, train_people: int = 0) -> list[Fit]:
    """Return every fit that a task of the grid (`grid.Task`) needs, its teachers' among them, in order, none twice.

    `train_people` turns a number of people with labels into a part; 0: the profile's part is taken.
    """
    if task.experiment:
        return _experiment(profile, task.experiment, task.seed)
    if task.people:
        part = min(1.0, task.people / train_people) if train_people else profile.data.labelled_fraction
        data = replace(profile.data, labelled_fraction=part)
        profile = replace(profile, variant=labels_variant(task.people), data=data)
    if task.method:
        profile = methods_profile(profile, task.method)
    name = task.model or profile.student_model
    found = [fit for phase in task.phases for fit in _of_phase(profile, phase, name, task.seed)]
    if task.people and "student_compression" in task.phases:
        found += _experiment(profile, replace(CONTROL, group=profile.variant), task.seed)
    return list(dict.fromkeys(found))


def _of_phase(profile: Profile, phase: str, name: str, seed: int) -> list[Fit]:
    views, settings = len(profile.data.qualities), profile.model(name, phase)
    if phase == "noisy_trained":
        teacher = _fit(profile, PHASE_TEACHER, name, seed, profile.model(name, PHASE_TEACHER), views)
        pool = 1 - profile.phases[phase].part
        return [teacher, *_students(profile, phase, name, seed, original_student(profile), views, pool)]
    if phase in TEACHERS:
        views = len(ARMS[TEACHERS[phase]].views)
        pool = 1 - profile.data.labelled_fraction
        students = _students(profile, phase, name, seed, profile.student_of(phase), views, pool)
        return [*_of_phase(profile, TEACHERS[phase], name, seed), *students]
    if phase in ARMS:
        return [_fit(profile, phase, name, seed, settings, len(ARMS[phase].views))]
    before = _of_phase(profile, "trained", name, seed) if phase == "post_trained" else []
    return [*before, _fit(profile, phase, name, seed, settings, views, layers=phase_layers(profile, name, phase))]


def _experiment(profile: Profile, experiment: Experiment, seed: int) -> list[Fit]:
    changed, phase, name = experiment.profile(profile), "student_compression", experiment.student_name(profile)
    config = replace(changed.student_of(phase), **(experiment.student | {"iterations": 1}))
    teacher, pool = TEACHERS[phase], 1 - profile.data.labelled_fraction
    students = _students(changed, phase, name, seed, config, len(ARMS[teacher].views), pool)
    return [*_of_phase(profile, teacher, profile.student_model, seed), *students]


def _students(
    profile: Profile, phase: str, name: str, seed: int, config: NoisyStudentConfig, views: int, pool: float
) -> list[Fit]:
    found, start = [], profile.model(name, phase)
    for place, each in enumerate(iteration_phases(phase, config.iterations)):
        factor = config.later_steps_factor if place else config.steps_factor
        settings = student_settings(start, replace(config, steps_factor=factor))
        labelled = 0 if config.mu == 0 else len(config.student_views) if config.teacher_view == "same" else 1
        about = {"mu": config.mu, "labelled": labelled, "pool": pool if labelled else 0.0}
        found.append(_fit(profile, each, name, seed, settings, views, **about))
    return found


def _fit(
    profile: Profile, phase: str, name: str, seed: int, settings: ModelConfig, views: int, mu=0, layers="all", **about
) -> Fit:
    run, images = run_name(phase, name, seed), settings.batch_size * (1 + mu)
    return Fit(profile.variant, run, name, settings.px, settings.steps, images, layers, views, **about)


def folder(profile: Profile, fit: Fit) -> Path:
    """Return the run folder of a fit."""
    return replace(profile, variant=fit.experiment).workspace.runs / fit.run


# ---- Seconds -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """What one core or one GPU of one machine does in a second."""

    table: pd.DataFrame
    machine: str
    device: str

    def per_second(self, work: str, model: str = "", px: int = 0) -> tuple[float, bool] | None:
        """Return images (or frames, or videos) a second and whether that is an estimate; None where nothing is measured.

        An estimate is scaled by FLOPs: from another side of the same network, which go with its square; from training, for
        scoring, a forward pass being a third of a step; or from the other networks' median of FLOPs a second.
        """
        rows = self.table[self.table["work"] == work]
        own = rows[rows["model"] == model]
        if work in (EXTRACT, INDEX):
            return (float(own["per_s"].iloc[0]), False) if len(own) else None
        if len(own):
            nearest = own.loc[(own["px"] - px).abs().idxmin()]
            return float(nearest["per_s"] * (nearest["px"] / px) ** 2), bool(nearest["px"] != px)
        if work == INFER and (trained := self.per_second(TRAIN, model, px)):
            return PASSES * trained[0], True
        if rows.empty:
            return None
        speed = median_speed(tuple(zip(rows["model"], rows["px"], rows["per_s"], strict=True)))
        return speed / flops(model, px), True


def load_rates(device: str = CPU, machine: str = "", path: Path | None = None) -> Rates:
    """Return the rates of a machine, or of the first one of this device where it was not measured; none without a table.

    Raises FileNotFoundError where a file is named that is not there, and ValueError for one that is no table of rates.
    """
    if path and not path.is_file():
        raise FileNotFoundError(f"no table of rates {path}: measure it by `python benchmarks/rates.py --csv {path}`")
    path, table = path or RATES, pd.DataFrame(columns=COLUMNS)
    if path.is_file():
        remedy = f"measure it again, by `python benchmarks/rates.py --csv {path}`"
        table = read_table(path, COLUMNS, COLUMNS[:5], remedy, keep_default_na=False)
        if not (np.isfinite(table["per_s"]) & (table["per_s"] > 0) & (table["px"] >= 0)).all():
            raise ValueError(f"{path}: rates that are none (per_s above 0 is needed, px from 0 on): {remedy}")
    table = table[table["device"] == device]
    names = list(dict.fromkeys(table["machine"]))
    machine = machine if machine in names else names[0] if names else ""
    return Rates(table[table["machine"] == machine], machine, device)


def seconds(fit: Fit, rates: Rates) -> tuple[float, bool] | None:
    """Return how long the steps of a fit take on one core or GPU, and whether that is an estimate; None: not measured.

    Where only the last layer learns, a step is a forward pass.
    """
    rate = rates.per_second(INFER if fit.layers == "head" else TRAIN, fit.model, fit.px)
    return (fit.steps * fit.images / rate[0], rate[1]) if rate else None


def median_speed(rows: tuple[tuple[str, int, float], ...]) -> float:
    """Return the median over (model, px, images a second) of FLOPs of a forward pass a second."""
    return float(pd.Series([per_s * flops(model, px) for model, px, per_s in rows]).median())


@cache
def _forward_flops(model: str, px: int) -> int:
    network = create_model(model, ModelConfig(px=px)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, px, px))
    return counter.get_total_flops()


def flops(model: str, px: int, at: int = 96) -> float:
    """Return the floating-point operations of a network's forward pass of one image; they go with the side's square."""
    return _forward_flops(model, at) * (px / at) ** 2


@cache
def parameters(model: str) -> int:
    """Return how many numbers a checkpoint of a network holds."""
    return sum(value.numel() for value in create_model(model, ModelConfig()).state_dict().values())


def validations(profile: Profile, fit: Fit) -> int:
    """Return how often a fit looks at the validation faces."""
    return math.ceil(fit.steps / profile.train.eval_every)

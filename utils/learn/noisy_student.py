"""Noisy Student training (Xie et al. 2020) for two classes, in the paper's words.

    1  train a teacher on the labelled faces
    2  let the teacher, not noised, infer pseudo-labels of the unlabelled faces (`pseudo_labels.py`)
    3  train a student, noised, on labelled and pseudo-labelled faces together
    4  make the student the teacher; go back to 2

Of the students, the one that validates best is kept. Two settings of the algorithm (`utils/config.py`): the *classic*
student sees the view that its teacher labelled; the *compression* student sees what compression leaves of a clip whose
clean view was labelled, as one more noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from utils.config import (
    ARMS,
    PHASE_TEACHER,
    TEACHERS,
    AugmentConfig,
    ModelConfig,
    NoisyStudentConfig,
    Profile,
    TrainConfig,
)
from utils.faces.ffpp import labelled_pairs
from utils.learn import checkpoints, distributed
from utils.learn.augment import Noise, add_noise, draw_noise
from utils.learn.dataset import FaceSet, UnlabelledFaces, endless_batches, true_labels
from utils.learn.models import Detector, create_model
from utils.learn.plans import Crops, Losses, Objective, Part, Plan
from utils.learn.pseudo_labels import PseudoLabels, label_pool, save_pseudo_labels
from utils.learn.scores import JUDGED, LABELLED, over_clip
from utils.learn.training import Supervised, draw_part, fit, learn, validation_faces
from utils.paths import atomic

# Step 3: the noised student


def student_loss(
    logits_x, targets_x, logits_u, targets_u, lambda_u: float, label_smoothing: float = 0.0, weight_x=1.0, weight_u=1.0
) -> Losses:
    """Return loss = Lx + lambda_u Lu: cross-entropies with labels (B,) and pseudo-labels (mu B, 2), soft or one-hot.

    The weights are 1, unless this is one process of several and has not quite its share of the batch.
    """
    Lx = weight_x * F.cross_entropy(logits_x, targets_x, label_smoothing=label_smoothing)
    Lu = weight_u * F.cross_entropy(logits_u, targets_u)
    return {"loss": Lx + lambda_u * Lu, "Lx": Lx, "Lu": Lu}


class Noised(Objective):
    """An objective under the noise of a student. Of labelled faces a share of those in the view `clean` may be degraded."""

    def __init__(self, *labelled, student: NoisyStudentConfig, clean: str, **pool):
        super().__init__(*labelled, **pool)
        self.student, self.how = student, student.degrade
        self.operations, self.magnitude = student.randaugment_n, student.randaugment_m
        self.is_clean = torch.from_numpy((self.train.index["quality"] == clean).to_numpy(copy=True))

    def draw_degraded(self, x: torch.Tensor) -> Crops:
        """Return labelled faces, and which of the clean ones are degraded how strongly; twins alike."""
        drawn = torch.rand(len(x) // self.together, generator=self.generator) < self.student.degraded_share
        degraded = torch.nonzero(self.is_clean[x] & drawn.repeat_interleave(self.together)).flatten().numpy()
        return Crops(x.numpy(), "", degraded, self.draw_strengths(len(degraded) // self.together).repeat(self.together))


class UnlabelledStep(Noised):
    """A step on labelled faces and on some of the pool: in the order of the paper draw, noise, (the network predicts,) compare.

    `items` (M,) are those of the pool `inputs_u` that are learned from, in each view that the student sees.
    """

    def __init__(self, *labelled, inputs_u: UnlabelledFaces, items: dict[str, torch.Tensor], student: NoisyStudentConfig):
        super().__init__(*labelled, student=student, clean=inputs_u.clean, inputs_u=inputs_u)
        self.items, views = items, zip(items.items(), shares(student, self.config.batch_size), strict=True)
        self.batches_u = {view: endless_batches(len(kept), share, self.generator) for (view, kept), share in views}

    def draw(self) -> Plan:
        x = next(self.batches_x)
        u = self.next_u()
        crops_x = self.draw_degraded(x) if self.student.degrade_labelled else Crops(x.numpy())
        clean = u.get(self.inputs_u.clean, ())
        strengths = self.draw_strengths(len(clean))
        noise_x = self.draw_noise(len(x) // self.together)
        noise_u = self.draw_noise(sum(map(len, u.values())))
        return Plan(Part(crops_x, noise_x), tuple(self.parts_u(u, strengths, noise_u)))

    def next_u(self) -> dict[str, torch.Tensor]:
        """Draw the next items of the pool, view by view."""
        return {view: self.items[view][next(batches)] for view, batches in self.batches_u.items()}

    def parts_u(self, u: dict[str, torch.Tensor], strengths: np.ndarray, noise_u: Noise) -> Iterator[Part]:
        """Yield the unlabelled images of each view; clean ones are all degraded."""
        first = 0
        for view, items in u.items():
            degraded = (np.arange(len(items)), strengths) if view == self.inputs_u.clean else ()
            yield Part(Crops(items.numpy(), view, *degraded), noise_u.rows(slice(first, first + len(items))))
            first += len(items)

    def state_dict(self) -> dict:
        return {**super().state_dict(), "u": {view: batches.state_dict() for view, batches in self.batches_u.items()}}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        for view, batches in self.batches_u.items():
            batches.load_state_dict(state["u"][view])


class StudentStep(UnlabelledStep):
    """A step of a student that learns `pseudo`, the pseudo-labels of the pool, which is seen in one or more views."""

    def __init__(self, *labelled, inputs_u: UnlabelledFaces, pseudo: PseudoLabels, student: NoisyStudentConfig):
        super().__init__(*labelled, inputs_u=inputs_u, items=pseudo.kept, student=student)
        self.pseudo = pseudo

    def compare(self, plan: Plan, logits: torch.Tensor) -> Losses:
        targets_x, targets_u = self.labels(plan, logits.device), self.pseudo_labels(plan).to(logits.device)
        logits_x, logits_u = logits[: len(plan.x)], logits[len(plan.x) :]  # in one batch they shared the batch statistics
        return student_loss(
            logits_x, targets_x, logits_u, targets_u, self.student.lambda_u, label_smoothing=self.shared.label_smoothing,
            weight_x=plan.weight_x, weight_u=plan.weight_u,
        )  # fmt: skip

    def pseudo_labels(self, plan: Plan) -> torch.Tensor:
        """Return the targets (mu B, 2) of unlabelled items: the teacher's probabilities, or one-hot if they are to be hard."""
        targets_u = torch.cat([self.pseudo.p[part.crops.view][part.crops.items] for part in plan.u])
        return targets_u if self.student.soft else F.one_hot(targets_u.argmax(1), 2).float()


class NoisedLabels(Noised, Supervised):
    """Labels alone under the student's noise: the oracle's objective and, with mu = 0, the control's."""

    def draw(self) -> Plan:
        x = next(self.batches_x)
        return Plan(Part(self.draw_degraded(x), self.draw_noise(len(x) // self.together)))


def student_objective(
    train: FaceSet, config: ModelConfig, shared: TrainConfig, generator: torch.Generator, *,
    teacher: Detector, inputs_u: UnlabelledFaces, student: NoisyStudentConfig, seed: int, folder: Path,
    val: FaceSet | None = None,
) -> Objective:  # fmt: skip
    """Let the teacher label the pool (step 2), save what it said in the run folder, and return the student's step (step 3).

    `fit` calls this when training starts or goes on, so never for a run that is finished; the validation faces `val`
    calibrate. With mu = 0 the student learns from labels alone, under the same noise.
    """
    labelled = train, config, shared, generator
    if student.mu == 0:
        return NoisedLabels(*labelled, student=student, clean=inputs_u.clean)

    pseudo = labelled_once(folder, teacher, inputs_u, student, seed, val, shared)
    return StudentStep(*labelled, inputs_u=inputs_u, pseudo=pseudo, student=student)


def labelled_once(
    folder: Path, teacher: Detector, inputs_u: UnlabelledFaces, student: NoisyStudentConfig, seed: int, val: FaceSet | None,
    shared: TrainConfig,
) -> PseudoLabels:  # fmt: skip
    """Return what a teacher says of the pool; what it said is kept in the run folder, for a run that goes on.

    Raises ValueError where what is kept was said of another pool, which such a run can't go on with.
    """
    pool = inputs_u.fingerprint()

    def label() -> dict:
        pseudo = label_pool(teacher, inputs_u, student, seed, val, shared.precision, shared.scorer)
        save_pseudo_labels(folder, pseudo)
        return {"p": pseudo.p, "kept": pseudo.kept, "pool": pool}

    with distributed.main_first():
        said = checkpoints.once(folder, label)
    same = said.pop("pool", pool) == pool  # older versions kept no fingerprint
    if not same or any(len(p) != len(inputs_u) for p in said["p"].values()):
        path = folder / checkpoints.TAUGHT
        raise ValueError(f"{path}: pseudo-labels of another pool than today's: remove the folder {folder}, and train it anew")
    return PseudoLabels(inputs_u.clip, **said)


def noise(
    images: torch.Tensor, px: int, student: NoisyStudentConfig, augment: AugmentConfig, generator: torch.Generator
) -> torch.Tensor:
    """Return float images as the student gets them: moved, re-coloured, under RandAugment; (B, 3, px, px)."""
    drawn = draw_noise(len(images), generator, augment, student.randaugment_n)
    return add_noise(images, drawn, px, student.randaugment_m)


def shares(student: NoisyStudentConfig, batch_size: int) -> list[int]:
    """Return how many of the mu B unlabelled images of a batch come from each view."""
    total, count = student.mu * batch_size, len(student.student_views)
    return [total // count + (i < total % count) for i in range(count)]


# The algorithm


def noisy_student(
    profile: Profile,
    teacher: Detector,
    labelled: FaceSet,
    inputs_u: UnlabelledFaces,
    val: FaceSet,
    *,
    phase: str,
    seed: int = 0,
    name: str | None = None,
    config: NoisyStudentConfig | None = None,
    teacher_run: str = "",
) -> Detector:
    """Run steps 2 to 4, iteration i as run `<phase>_it<i>`, and return the student that validates best, as run `<phase>`.

    `name` is the student's network (default: the teacher's), `teacher_run` the hash of the teacher's run, so that another
    teacher gives other runs. Raises ValueError where the teacher leaves nothing to learn from.
    """
    config, name = config or profile.student, name or teacher.name
    for iteration, run_phase in enumerate(iteration_phases(phase, config.iterations)):
        if iteration == 1:
            config = replace(config, student_init=config.later_init, steps_factor=config.later_steps_factor)
        settings = student_settings(profile.model(name, phase), config)
        folder = profile.workspace.runs / checkpoints.run_name(run_phase, name, seed)
        student = create_model(name, settings, seed)
        if config.student_init == "teacher":
            if name != teacher.name:
                raise ValueError(f"{name} can't start from the weights of {teacher.name}: set student_init='start'")
            student.load_state_dict(teacher.state_dict())
        objective = partial(
            student_objective, teacher=teacher, inputs_u=inputs_u, student=config, seed=seed, folder=folder, val=val
        )
        about = {"phase": run_phase, "student": asdict(config), "teacher": teacher_run, "data_u": inputs_u.fingerprint()}
        student = fit(student, labelled, val, settings, profile.train, folder, seed=seed, make_objective=objective, about=about)
        teacher, teacher_run = student, checkpoints.run_hash(profile, run_phase, name, seed)  # step 4
    return select_best(profile, phase, name, seed, config.iterations)


def iteration_phases(phase: str, iterations: int) -> list[str]:
    """Return the phases of a phase's students, first to last."""
    return [f"{phase}_it{iteration}" for iteration in range(1, iterations + 1)]


def select_best(profile: Profile, phase: str, name: str, seed: int, iterations: int) -> Detector:
    """Return the student of the iteration that validates best, and keep it as the phase's own run."""
    space = profile.workspace.runs
    folders = [space / checkpoints.run_name(each, name, seed) for each in iteration_phases(phase, iterations)]
    best = max(folders, key=lambda folder: checkpoints.read_json(folder / "result.json")["val_auc"])
    with distributed.main_first():
        checkpoints.select(space / checkpoints.run_name(phase, name, seed), best, phase=phase)
    return checkpoints.load_model(best)


def student_settings(start: ModelConfig, config: NoisyStudentConfig) -> ModelConfig:
    """Return a network's settings with the noise and the length of a student's training."""
    return replace(start, dropout=config.dropout, drop_path=config.drop_path, steps=round(config.steps_factor * start.steps))


# What the notebooks call


def split_labels(profile: Profile, faces: FaceSet, seed: int = 0) -> tuple[FaceSet, FaceSet]:
    """Return the training faces as (labelled, pool): a drawn part of the pairs, and the others, to be hidden."""
    train = faces.select(split="train")
    pairs = labelled_pairs(train.index, profile.data.labelled_fraction, seed)
    return train.select(pairs=pairs), train.select(pairs=train.pairs - pairs)


def supervise(profile: Profile, phase: str, faces: FaceSet, seed: int = 0, name: str | None = None) -> Detector:
    """Step 1: train a teacher on the labelled part in the views of ARMS[phase], or the `oracle` on every label.

    The oracle gets the noise of the compression student, for it is to be what that student could become.
    """
    name = name or profile.student_model
    train = faces.select(split="train") if ARMS[phase].all_labels else split_labels(profile, faces, seed)[0]
    train = train.select(quality=ARMS[phase].views)
    start, noised_by = create_model(name, profile.model(name, phase), seed), {}
    if ARMS[phase].all_labels:
        student = profile.student_of("student_compression")
        objective = partial(NoisedLabels, student=student, clean=train.clean)
        noised_by = {"make_objective": objective, "about": {"student": asdict(student)}}
    return learn(profile, start, train, faces, phase, seed, **noised_by)


def self_train(
    profile: Profile, phase: str, faces: FaceSet, seed: int = 0, *,
    name: str | None = None, teachers: Profile | None = None, **changes,
) -> Detector:  # fmt: skip
    """Run a phase of TEACHERS, its teacher first if need be, and return the student that validates best.

    `name` is the students' network (default: the teacher's). `teachers` is the profile whose teachers are used (default:
    this one) and `changes` are fields of NoisyStudentConfig: both for experiments.
    """
    teacher_phase, teachers = TEACHERS[phase], teachers or profile
    teacher = supervise(teachers, teacher_phase, faces, seed)
    labelled, pool = split_labels(profile, faces, seed)
    views = ARMS[teacher_phase].views
    return noisy_student(
        profile, teacher, labelled.select(quality=views), pool.hide_labels(seed), validation_faces(faces, profile.train, views),
        phase=phase, seed=seed, name=name, config=replace(profile.student_of(phase), **changes),
        teacher_run=checkpoints.run_hash(teachers, teacher_phase, teacher.name, seed),
    )  # fmt: skip


def original_student(profile: Profile) -> NoisyStudentConfig:
    """Return the settings of the original's third phase: each view is labelled, and learned, as it is."""
    return replace(profile.student_of("noisy_trained"), teacher_view="same", student_views=profile.data.qualities)


def noisy_trained(profile: Profile, name: str, faces: FaceSet, seed: int = 0) -> Detector:
    """Phase 3 of the original: labels of one part of the pairs, videos of the others, each view as it is."""
    labelled, pool = draw_part(profile, faces, "noisy_trained", seed)
    start = create_model(name, profile.model(name), seed)
    teacher = learn(profile, start, labelled, faces, PHASE_TEACHER, seed)
    return noisy_student(
        profile, teacher, labelled, pool.hide_labels(seed), validation_faces(faces, profile.train),
        phase="noisy_trained", seed=seed, config=original_student(profile),
        teacher_run=checkpoints.run_hash(profile, PHASE_TEACHER, name, seed),
    )  # fmt: skip


# After training: how right the pseudo-labels were


def judge_pseudo_labels(profile: Profile, run: str, faces: FaceSet, seed: int) -> pd.DataFrame:
    """Return a finished student's pseudo-labels beside the truth, one row a clip and view, and save it in the run folder.

    Columns run, model, phase, seed, view, clip (a bare number), label, p_fake (mean over the clip's frames), frames,
    right (of them) and `copies`, `copies_right`: frames that were learned from, after filter and balance, and how many
    of them had the right class.
    """
    return judge(profile.workspace.runs / run, split_labels(profile, faces, seed)[1], seed)


def judge(folder: Path, pool: FaceSet, seed: int) -> pd.DataFrame:
    """Do it for the run in a folder, whose pool was `pool.hide_labels(seed)`. Only here are the labels of a pool read.

    Raises ValueError that names the folder where that pool was another.
    """
    config, table = checkpoints.read_json(folder / "config.json"), pd.read_csv(folder / LABELLED)
    if config.get("data_u", (asked := pool.hide_labels(seed).fingerprint())) != asked:
        raise ValueError(f"{folder}: its pool had other faces than there are today: remove the folder to train it again")
    table["label"] = true_labels(pool, seed)[table["item"].to_numpy()]
    table["right"] = (table["p_fake"] > 0.5) == (table["label"] == 1)  # one half is learned as real
    table["copies_right"] = table["copies"] * table["right"]
    by_clip = table.groupby(["view", "clip", "label"], as_index=False)
    clips = by_clip.agg(
        frames=("item", "size"), right=("right", "sum"), copies=("copies", "sum"), copies_right=("copies_right", "sum")
    )
    clips.insert(3, "p_fake", over_clip(table["p_fake"].to_numpy(), by_clip.ngroup().to_numpy()))
    for place, name in enumerate(("run", "model", "phase", "seed")):
        clips.insert(place, name, config.get(name, folder.name))
    with atomic(folder / JUDGED) as path:
        clips.to_csv(path, index=False, float_format="%.4f", lineterminator="\n")
    return clips

"""Noisy Student training (Xie et al. 2020) for two classes, in the paper's words.

    1  train a teacher on the labelled faces
    2  let the teacher, not noised, infer pseudo-labels of the unlabelled faces (`utils/pseudo_labels.py`)
    3  train a student, noised, on labelled and pseudo-labelled faces together
    4  make the student the teacher; go back to 2

Of the students, the one that validates best is kept. Two settings of the algorithm (`utils/config.py`): the *classic*
student sees the view that its teacher labelled; the *compression* student sees what compression leaves of a clip whose
clean view was labelled, as one more noise.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F

from utils import runs
from utils.augment import LOSSES, basic, for_twins, randaugment, to_float
from utils.config import ModelConfig, NoisyStudentConfig, Profile, TrainConfig
from utils.dataset import FaceSet, UnlabelledFaces, answer_key, endless_batches
from utils.experiments import CASE_TEACHERS, TEACHERS
from utils.ffpp import labelled_pairs
from utils.models import Detector, create_model
from utils.paths import atomic
from utils.pseudo_labels import label_pool, save_pseudo_labels
from utils.training import Losses, Objective, clean_first, draw_part, fit, learn, validation_faces

VIEWS = {"teacher_c40": ("c40",), "teacher_c23": ("c23",), "teacher_both": ("c23", "c40"), "oracle": ("c23", "c40")}


# Step 3: the noised student


def student_loss(logits_x, targets_x, logits_u, targets_u, lambda_u: float, label_smoothing: float = 0.0) -> Losses:
    """Return loss = Lx + lambda_u Lu: cross-entropies with labels (B,) and pseudo-labels (mu B, 2), soft or one-hot."""
    Lx = F.cross_entropy(logits_x, targets_x, label_smoothing=label_smoothing)
    Lu = F.cross_entropy(logits_u, targets_u)
    return {"loss": Lx + lambda_u * Lu, "Lx": Lx, "Lu": Lu}


def noised(
    teacher: Detector, inputs_u: UnlabelledFaces, student: NoisyStudentConfig, seed: int, folder: Path,
    val: FaceSet | None = None,
):  # fmt: skip
    """Return a `make_objective` for `fit`: labelled and pseudo-labelled faces in one batch, both under RandAugment.

    The pool is labelled when training starts (so never for a run that is finished) and the pseudo-labels are saved; the
    validation faces `val` calibrate them.
    """

    def make_objective(train: FaceSet, config: ModelConfig, shared: TrainConfig, generator) -> Objective:
        clean = inputs_u.qualities[0]
        if student.mu == 0:
            return noised_labels(student, clean)(train, config, shared, generator)
        pseudo = label_pool(teacher, inputs_u, student, seed, val)
        save_pseudo_labels(folder, pseudo)
        batches_x = clean_first(train, config, generator)
        batches_u = {
            view: endless_batches(len(kept), share, generator)
            for (view, kept), share in zip(pseudo.kept.items(), shares(student, config.batch_size), strict=True)
        }

        def losses(model: Detector) -> Losses:
            x = next(batches_x)
            u = {view: pseudo.kept[view][next(batches)] for view, batches in batches_u.items()}
            device, px = model.mean.device, model.px
            images_x = to_float(train.images(x).to(device))
            images_u = {view: to_float(inputs_u.images(items, view).to(device)) for view, items in u.items()}
            if clean in images_u:
                images_u[clean] = lossy(images_u[clean], student, generator)
            inputs_x = for_twins(noise, images_x, px, student, generator=generator, twins=config.twins)
            inputs = torch.cat([inputs_x, noise(torch.cat(list(images_u.values())), px, student, generator)])
            logits = model(inputs)  # labelled and unlabelled in one batch: they share the batch statistics
            targets_x = train.labels[x].to(logits.device)
            targets_u = torch.cat([pseudo.p[view][items] for view, items in u.items()]).to(logits.device)
            if not student.soft:
                targets_u = F.one_hot(targets_u.argmax(1), 2).float()
            logits_x, logits_u = logits[: len(x)], logits[len(x) :]
            return student_loss(logits_x, targets_x, logits_u, targets_u, student.lambda_u, shared.label_smoothing)

        return losses

    return make_objective


def noised_labels(student: NoisyStudentConfig, clean: str):
    """Return a `make_objective` for `fit`: labels alone, under the student's noise.

    Half of the faces in the view `clean` lose what the student's would. This is the oracle's training, and with mu = 0 the
    control that tells what noise does without pseudo-labels.
    """

    def make_objective(train: FaceSet, config: ModelConfig, shared: TrainConfig, generator) -> Objective:
        batches = clean_first(train, config, generator)
        is_clean = torch.from_numpy((train.index["quality"] == clean).to_numpy(copy=True))

        def losses(model: Detector) -> Losses:
            items = next(batches)
            lose = is_clean[items] & (torch.rand(len(items), generator=generator) < 0.5)
            images = to_float(train.images(items).to(model.mean.device))
            if lose.any():
                images[lose] = lossy(images[lose], student, generator)
            inputs, targets = noise(images, model.px, student, generator), train.labels[items].to(images.device)
            return {"loss": F.cross_entropy(model(inputs), targets, label_smoothing=shared.label_smoothing)}

        return losses

    return make_objective


def noise(images: torch.Tensor, px: int, student: NoisyStudentConfig, generator: torch.Generator) -> torch.Tensor:
    """Return float images as the student gets them: moved, re-coloured, under RandAugment; (B, 3, px, px)."""
    return randaugment(basic(images, px, generator), student.randaugment_n, student.randaugment_m, generator)


def lossy(images: torch.Tensor, student: NoisyStudentConfig, generator: torch.Generator) -> torch.Tensor:
    """Return clean float images (B, 3, S, S) as compression, or what stands for it, leaves them."""
    if student.loss not in LOSSES:
        raise ValueError(f"unknown loss {student.loss!r}: choose one of {', '.join(LOSSES)}")
    lose = LOSSES[student.loss]
    return images if lose is None else lose(images, generator)


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
    taught_by: str = "",
) -> Detector:
    """Run steps 2 to 4, iteration i as run `<phase>_it<i>`, and return the student that validates best, as run `<phase>`.

    `name` is the student's network (default: the teacher's), `taught_by` the hash of the teacher's run, so that another
    teacher gives other runs. Raises ValueError where the teacher leaves nothing to learn from.
    """
    config, name = config or profile.student, name or teacher.name
    for iteration, run_phase in enumerate(iteration_phases(phase, config.iterations)):
        if iteration == 1:
            config = replace(config, student_init=config.later_init, steps=config.later_steps)
        settings = student_settings(profile.model(name, phase), config)
        folder = profile.workspace.runs / runs.run_name(run_phase, name, seed)
        student = create_model(name, settings, seed)
        if config.student_init == "teacher":
            if name != teacher.name:
                raise ValueError(f"{name} can't start from the weights of {teacher.name}: set student_init='start'")
            student.load_state_dict(teacher.state_dict())
        objective = noised(teacher, inputs_u, config, seed, folder, val)
        about = {"phase": run_phase, "profile": profile.name, "student": asdict(config), "taught_by": taught_by}
        student = fit(
            student, labelled, val, settings, profile.train, folder, seed=seed, make_objective=objective, about=about
        )
        teacher, taught_by = student, runs.run_hash(profile, run_phase, name, seed)  # step 4
    return choose(profile, phase, name, seed, config.iterations)


def iteration_phases(phase: str, iterations: int) -> list[str]:
    """Return the phases of a phase's students, first to last."""
    return [f"{phase}_it{iteration}" for iteration in range(1, iterations + 1)]


def choose(profile: Profile, phase: str, name: str, seed: int, iterations: int) -> Detector:
    """Return the student of the iteration that validates best, and keep it as the phase's own run."""
    space = profile.workspace.runs
    folders = [space / runs.run_name(each, name, seed) for each in iteration_phases(phase, iterations)]
    best = max(folders, key=lambda folder: runs.read_json(folder / "result.json")["val_auc"])
    runs.adopt(space / runs.run_name(phase, name, seed), best, phase=phase)
    return runs.load_model(best)


def student_settings(start: ModelConfig, config: NoisyStudentConfig) -> ModelConfig:
    """Return a network's settings with the noise and the length of a student's training."""
    return replace(start, dropout=config.dropout, drop_path=config.drop_path, steps=round(config.steps * start.steps))


# What the notebooks call


def split_labels(profile: Profile, faces: FaceSet, seed: int = 0) -> tuple[FaceSet, FaceSet]:
    """Return the training faces as (labelled, pool): a drawn part of the pairs, and the others, to be hidden."""
    train = faces.select(split="train")
    pairs = labelled_pairs(train.index, profile.data.labelled_fraction, seed)
    return train.select(pairs=pairs), train.select(pairs=train.pairs - pairs)


def supervise(profile: Profile, phase: str, faces: FaceSet, seed: int = 0, name: str | None = None) -> Detector:
    """Step 1: train a teacher on the labelled part in the views of VIEWS[phase], or the `oracle` on every label.

    The oracle gets the noise of the compression student, for it is to be what that student could become.
    """
    name = name or profile.student_model
    train = faces.select(split="train") if phase == "oracle" else split_labels(profile, faces, seed)[0]
    train = train.select(quality=VIEWS[phase])
    start, noised_by = create_model(name, profile.model(name, phase), seed), {}
    if phase == "oracle":
        config = profile.student_of("student_compression")
        noised_by = {"make_objective": noised_labels(config, train.qualities[0]), "about": {"student": asdict(config)}}
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
    return noisy_student(
        profile, teacher, labelled.select(quality=VIEWS[teacher_phase]), pool.hide_labels(seed),
        validation_faces(faces, profile.train, VIEWS[teacher_phase]),
        phase=phase, seed=seed, name=name, config=replace(profile.student_of(phase), **changes),
        taught_by=runs.run_hash(teachers, teacher_phase, teacher.name, seed),
    )  # fmt: skip


def noisy_trained(profile: Profile, name: str, faces: FaceSet, seed: int = 0) -> Detector:
    """Phase 3 of the original: labels of one part of the pairs, videos of the others, each view as it is."""
    labelled, pool = draw_part(profile, faces, "noisy_trained", seed)
    start = create_model(name, profile.model(name), seed)
    teacher = learn(profile, start, labelled, faces, CASE_TEACHERS["noisy_trained"], seed)
    views = {"teacher_view": "same", "student_views": profile.data.qualities}
    config = replace(profile.student_of("noisy_trained"), **views)
    return noisy_student(
        profile, teacher, labelled, pool.hide_labels(seed), validation_faces(faces, profile.train),
        phase="noisy_trained", seed=seed, config=config,
        taught_by=runs.run_hash(profile, CASE_TEACHERS["noisy_trained"], name, seed),
    )  # fmt: skip


# After training: what the students were taught


def open_key(profile: Profile, run: str, faces: FaceSet, seed: int) -> pd.DataFrame:
    """Return what a finished student was taught beside the truth, one row a clip and view, and save it for the figures.

    Columns run, model, phase, seed, view, clip (a bare number), label, p_fake (mean over the clip's frames), frames,
    right (of them) and `copies`, `copies_right`: frames that were learned from, after filter and balance, and how many
    of them had the right class. Only here are the labels of the pool read.
    """
    pool = split_labels(profile, faces, seed)[1]
    config, folder = runs.read_json(profile.workspace.runs / run / "config.json"), profile.workspace.runs / run
    table = pd.read_csv(folder / "pseudo_labels.csv")
    table["label"] = answer_key(pool, seed)[table["item"].to_numpy()]
    table["right"] = (table["p_fake"] >= 0.5) == (table["label"] == 1)
    table["copies_right"] = table["copies"] * table["right"]
    clips = table.groupby(["view", "clip", "label"], as_index=False).agg(
        p_fake=("p_fake", "mean"), frames=("item", "size"), right=("right", "sum"), copies=("copies", "sum"),
        copies_right=("copies_right", "sum"),
    )  # fmt: skip
    for place, name in enumerate(("run", "model", "phase", "seed")):
        clips.insert(place, name, config.get(name, run))
    with atomic(profile.workspace.pseudo_labels / f"{run}.csv") as path:
        clips.to_csv(path, index=False, float_format="%.4f", lineterminator="\n")
    return clips

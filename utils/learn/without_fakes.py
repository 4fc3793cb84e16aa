"""The comparison of `config.WITHOUT_FAKES`: what is learned from real faces and their twins, beside what labels teach.

All arms have the same network, the same batches of real and other faces, the same steps, augmentation and compression. Those
who see no fake are validated on twins of the validation people; nothing is chosen by it, for the last weights are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from utils.config import (
    MASKS,
    WITHOUT_FAKES,
    FakelessArm,
    ModelConfig,
    NoisyStudentConfig,
    Profile,
    TrainConfig,
    WithoutFakesConfig,
    get_profile,
)
from utils.learn import checkpoints
from utils.learn.checkpoints import run_of
from utils.learn.dataset import FaceSet, UnlabelledFaces
from utils.learn.models import Detector, create_model
from utils.learn.noisy_student import NoisedLabels, labelled_once, split_labels, student_objective, student_settings
from utils.learn.plans import Objective
from utils.learn.precision import pick_device
from utils.learn.predict import predict_faces, save_predictions
from utils.learn.scores import TWINS, over_clip
from utils.learn.self_rendered import (
    PHASE,
    AgainstTwins,
    StudentOfTwins,
    TwinMaker,
    faces_with_twins,
    landmarks_of,
    load_redrawers,
    originals,
    redrawers_digest,
    with_twins,
)
from utils.learn.training import fit, validation_faces
from utils.paths import atomic, read_json, write_json

CLEAN, VARIANT = "c23", "without_fakes"
JUDGES = "judges.json"  # of a run folder: which redrawers its TWINS are by
TOLD = ("label", "stage", "subject")  # of an arm: what changes nothing that it learns


def fakeless_profile(steps: int | None = None, workers: int | None = None) -> Profile:
    """Return the profile of the comparison: `shipped`, the last weights of so many steps kept (None: as in `config.py`).

    `workers` processes read ahead; results don't depend on them.
    """
    base, numbers = get_profile("shipped"), WithoutFakesConfig()
    models = {name: replace(model, steps=steps or numbers.steps) for name, model in base.models.items()}
    variant = VARIANT + (f"/{steps}_steps" if steps and steps != numbers.steps else "")
    return replace(base, variant=variant, models=models, train=replace(base.train, workers=workers))


def people_of(profile: Profile, faces: FaceSet, arm: FakelessArm, seed: int) -> FaceSet:
    """Return the training faces, in all qualities, of those whom an arm learns from."""
    return faces.select(split="train") if arm.everybody else split_labels(profile, faces, seed)[0]


def student_of(profile: Profile) -> NoisyStudentConfig:
    """Return the student's settings: hard labels of all clips of the pool, half of which are called fake."""
    return replace(profile.student_of("student_compression"), align=True, steps_factor=1.0)


def redrawers_of(profile: Profile, faces: FaceSet, everybody: bool, seed: int, names: Sequence[str]) -> TwinMaker:
    """Return redrawers of a seed, trained on the real faces of everybody in train or of the labelled people alone."""
    people = people_of(profile, faces, replace(WITHOUT_FAKES[PHASE], everybody=everybody), seed)
    runs = replace(profile, variant=VARIANT).workspace.runs  # a pilot with other steps has the same
    folder = runs / "redrawers" / ("all" if everybody else "labelled") / f"s{seed}"
    return TwinMaker(load_redrawers(folder, originals(people, "train", CLEAN), profile, names, seed))


def train_arm(profile: Profile, name: str, faces: FaceSet, seed: int) -> Detector:
    """Train an arm, the one it goes on from first if need be, and return its network; a finished one is loaded."""
    arm, numbers = WITHOUT_FAKES[name], WithoutFakesConfig()
    before = train_arm(profile, arm.start, faces, seed) if arm.start != "imagenet" else None
    student, config = student_of(profile), profile.model(profile.student_model)
    if before is not None:
        config = replace(student_settings(config, student), steps=numbers.student_steps)
    people = people_of(profile, faces, arm, seed)
    pool = split_labels(profile, faces, seed)[1].hide_labels(seed) if arm.pool else None
    train, val, twins, about = _given(profile, faces, people, arm, seed)
    folder = profile.workspace.runs / run_of(profile, name, seed)
    taught = {"teacher": before, "inputs_u": pool, "seed": seed, "folder": folder, "val": val}
    if twins:
        noise = student if before is not None else None
        objective = partial(_student_of_twins, **twins, **taught) if pool else partial(AgainstTwins, **twins)
    else:
        noise = student if before is not None else replace(student, randaugment_n=0)
        noise = replace(noise, degraded_share=arm.settings.degraded_share, degrade_labelled=True)
        objective = partial(student_objective, **taught) if pool else partial(NoisedLabels, clean=CLEAN)
    objective = partial(objective, student=noise)
    settings = {key: value for key, value in asdict(arm).items() if key not in TOLD}
    about = {"phase": name, "arm": settings, **about} | ({"student": asdict(noise)} if noise else {})
    about |= {"data_u": pool.fingerprint()} if pool else {}
    model = create_model(profile.student_model, config, seed)
    if before is not None:
        model.load_state_dict(before.state_dict())
        about["starts_from"] = checkpoints.run_hash(profile, arm.start, profile.student_model, seed)
    return fit(model, train, val, config, profile.train, folder, seed=seed, make_objective=objective, about=about)


def _given(
    profile: Profile, faces: FaceSet, people: FaceSet, arm: FakelessArm, seed: int
) -> tuple[FaceSet, FaceSet, dict, dict]:
    """Return what an arm trains and validates on, what makes its twins if it has some, and what the run says of that."""
    if arm.learns == "labels":
        return people.select(quality=arm.qualities), validation_faces(faces, profile.train), {}, {}
    real = originals(people, "train", CLEAN)
    named = arm.settings.redrawers
    make = redrawers_of(profile, faces, arm.everybody, seed, named) if arm.settings.twins == PHASE else TwinMaker()
    val = faces_with_twins(profile, faces.select(every=profile.train.val_every), "val", make, arm.settings, seed)
    twins = {"make": make, "points": landmarks_of(real, profile), "settings": arm.settings}
    return real, val, twins, {"redrawers": redrawers_digest(make.redrawers), "masks": MASKS}


def _student_of_twins(
    train: FaceSet, config: ModelConfig, shared: TrainConfig, generator: torch.Generator, *,
    teacher: Detector, inputs_u: UnlabelledFaces, student: NoisyStudentConfig, seed: int, folder: Path, val: FaceSet,
    **twins,
) -> Objective:  # fmt: skip
    """Let the teacher label the pool, its border moved by validation people and their twins, and return the student's step."""
    pseudo = labelled_once(folder, teacher, inputs_u, student, seed, val, shared)
    return StudentOfTwins(train, config, shared, generator, inputs_u=inputs_u, pseudo=pseudo, student=student, **twins)


def score_arm(profile: Profile, name: str, faces: FaceSet, seed: int, splits: Sequence[str], file: str) -> pd.DataFrame:
    """Score some splits with a finished arm; the table is kept in its run folder."""
    return save_predictions(profile, run_of(profile, name, seed), faces, tuple(splits), file)


def judges_of(profile: Profile, faces: FaceSet, seed: int, names: Sequence[str]) -> dict[str, str]:
    """Return a hash of each redrawer that a network is judged by: of those trained on everybody in train."""
    return {name: redrawers_digest(redrawers_of(profile, faces, True, seed, (name,)).redrawers) for name in names}


def score_twins(profile: Profile, name: str, faces: FaceSet, seed: int, names: Sequence[str]) -> pd.DataFrame:
    """Return the AUC over clips of validation people against their twins by each of some redrawers alone, by quality.

    Columns arm, seed, redrawer, quality, auc; kept in the run folder beside the redrawers' hashes (JUDGES), and read from there
    where these are the same. The redrawers are those trained on everybody in train.
    """
    path, settings = profile.workspace.runs / run_of(profile, name, seed) / TWINS, WITHOUT_FAKES[name].settings
    judges = judges_of(profile, faces, seed, names)
    if path.is_file() and (path.parent / JUDGES).is_file() and read_json(path.parent / JUDGES) == judges:
        return pd.read_csv(path)
    model = checkpoints.load_model(path.parent).to(pick_device())
    real, rows = originals(faces.select(every=profile.train.val_every), "val", CLEAN), []
    for redrawer in names:
        make = redrawers_of(profile, faces, True, seed, (redrawer,))
        judged = with_twins(real, make, landmarks_of(real, profile), settings.val_crf, seed)
        for quality in judged.qualities:
            part = judged.select(quality=quality)
            clips = part.index.groupby(["method", "video_id"])
            p = over_clip(predict_faces(model, part, profile.train.precision, ""), clips.ngroup().to_numpy())
            auc = roc_auc_score(clips["label"].first().to_numpy(), p)
            rows.append({"arm": name, "seed": seed, "redrawer": redrawer, "quality": quality, "auc": auc})
    table = pd.DataFrame(rows)
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.5f", lineterminator="\n")
    write_json(path.parent / JUDGES, judges)
    return table

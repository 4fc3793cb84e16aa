"""One cell of the study (`protocol.py`): who has labels and who is the pool, what is learned from them, and its run folder.

People are drawn by the seed alone, pair by pair, so that both fakes of a pair stay together; the first few of a draw are the
smaller draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from utils.config import NoisyStudentConfig, Profile
from utils.faces.ffpp import shuffled_pairs
from utils.learn import checkpoints
from utils.learn.dataset import FaceSet, UnlabelledFaces, spread
from utils.learn.models import Detector, create_model
from utils.learn.noisy_student import NoisedLabels, judge, student_objective
from utils.learn.online import DistillationStep, MeanTeacherStep
from utils.learn.plans import Objective
from utils.learn.predict import save_predictions
from utils.learn.scores import SCORES
from utils.learn.training import Supervised, fit, validation_faces
from utils.protocol import ARMS, CLEAN, Cell, StudyConfig, model_config, student_config, study_of

# ---- Who ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class People:
    """Identity pairs of a cell, two people each: learned from and validating, both with labels, and those of the pool."""

    train: frozenset[str]
    val: frozenset[str]
    pool: frozenset[str]


def draw_people(study: StudyConfig, cell: Cell, faces: FaceSet) -> People:
    """Draw a cell's people; those who validate are some of the labelled ones.

    The pool is drawn from the other end of its split, so that it shares nobody with the labelled people where both come from
    one split; an arm whose pool are the `first` people takes those of its split who have no label here. Raises ValueError
    where a split has too few people, or the two meet.
    """
    validating = study.validating(cell.labels)
    order = {split: shuffled_pairs(faces.index, split, cell.seed) for split in ("train", "val", study.pool_split)}
    train = _some(order["train"], cell, "train", cell.labels - validating)
    val = _some(order["val"], cell, "val", validating)
    pool = sorted(set(order[study.pool_split]) - train) if ARMS[cell.arm].first else order[study.pool_split][::-1]
    drawn = People(train, val, _some(pool, cell, study.pool_split, cell.pool))
    if drawn.train & drawn.pool:
        raise ValueError(f"{cell}: the split {study.pool_split!r} is too small for both")
    return drawn


def _some(pairs: list[str], cell: Cell, split: str, people: int) -> frozenset[str]:
    if len(pairs) < people // 2:
        raise ValueError(f"{cell}: {people} people are asked of the split {split!r}, it has {2 * len(pairs)}")
    return frozenset(pairs[: people // 2])


def pool_of(study: StudyConfig, cell: Cell, faces: FaceSet, people: People) -> UnlabelledFaces | None:
    """Return a cell's pool, so many frames of each clip, without labels; None for an arm without one."""
    if not people.pool:
        return None
    pool = faces.select(split=study.pool_split, pairs=people.pool)
    return some_frames(pool, cell.frames).hide_labels(cell.seed)


def some_frames(faces: FaceSet, count: int) -> FaceSet:
    """Return so many sampled frames of each clip, spread over it; fewer where a face was missed.

    Raises ValueError where the clips have fewer.
    """
    frames = np.unique(faces.index["frame"])
    if len(frames) < count:
        raise ValueError(f"{count} frames of a clip are asked for, {len(frames)} were sampled: see `FacesConfig`")
    kept = faces.index["frame"].isin(frames[spread(count, len(frames))])
    return FaceSet(faces.index[kept], faces.pixels)


# ---- What -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    """What an arm may learn from, besides the labelled faces; only those who see the pool are given one."""

    student: NoisyStudentConfig
    inputs_u: UnlabelledFaces | None
    teacher: Detector | None
    val: FaceSet
    seed: int
    folder: Path


OBJECTIVES: dict[str, Callable[[Given], Callable[..., Objective]]] = {
    "labels": lambda given: Supervised,
    "noised labels": lambda given: partial(NoisedLabels, student=given.student, clean=CLEAN),
    "pseudo-labels": lambda given: partial(student_objective, **vars(given)),
    "EMA teacher": lambda given: partial(MeanTeacherStep, inputs_u=given.inputs_u, student=given.student),
    "teacher's features": lambda given: partial(
        DistillationStep, inputs_u=given.inputs_u, student=given.student, teacher=given.teacher
    ),
}


def train_cell(profile: Profile, cell: Cell, faces: FaceSet) -> Detector:
    """Train a cell, its teacher first if need be, judge its pseudo-labels and score the people who validate it.

    Returns its network. `faces` may hold all splits. A finished cell is loaded; one that another process is at is waited for.
    """
    study, arm = study_of(profile), ARMS[cell.arm]
    teacher = train_cell(profile, cell.teacher(profile), faces) if arm.taught else None
    people, config, student = draw_people(study, cell, faces), model_config(profile, study, cell), student_config(profile, arm)
    val = faces.select(split="val", pairs=people.val)
    pool, folder = pool_of(study, cell, faces, people), folder_of(profile, cell)
    model = create_model(cell.network, config, cell.seed)
    if arm.start == "teacher":
        model.load_state_dict(teacher.state_dict())
    about = _about(profile, cell)
    about |= {"teacher": _hash(profile, cell.teacher(profile))} if arm.taught else {}
    about |= {"data_u": pool.fingerprint()} if pool else {}
    judging = validation_faces(val, profile.train)
    given = Given(student, pool, teacher, judging, cell.seed, folder)
    model = fit(
        model, faces.select(split="train", pairs=people.train), judging, config, profile.train, folder,
        seed=cell.seed, make_objective=OBJECTIVES[arm.learns](given), about=about,
    )  # fmt: skip
    if arm.learns == "pseudo-labels":
        judge(folder, some_frames(faces.select(split=study.pool_split, pairs=people.pool), cell.frames), cell.seed)
    save_predictions(replace(profile, variant=cell.variant), cell.run, val, splits=("val",))  # last: where they are, all is
    return model


def folder_of(profile: Profile, cell: Cell) -> Path:
    """Return the run folder of a cell."""
    return replace(profile, variant=cell.variant).workspace.runs / cell.run


def is_finished(profile: Profile, cell: Cell) -> bool:
    """Tell whether a cell is trained with today's settings, and its validation scored: by its files, without the faces."""
    folder, study, arm = folder_of(profile, cell), study_of(profile), ARMS[cell.arm]
    config = checkpoints.finished(folder)
    if config is None or not (folder / SCORES).is_file():
        return False
    settings = model_config(profile, study, cell)
    request = checkpoints.request_of(cell.network, cell.seed, "all", settings, profile.train, **_about(profile, cell))
    if config["settings"] != checkpoints.settings_digest(request):
        return False
    if 2 * len(config["data"]["pairs"]) != cell.labels - study.validating(cell.labels):  # other people validate since
        return False
    teacher = cell.teacher(profile)
    return not arm.taught or (is_finished(profile, teacher) and config.get("teacher") == _hash(profile, teacher))


def _about(profile: Profile, cell: Cell) -> dict:
    """Return what the request of a cell's run says besides its network: the settings among it, not the inputs."""
    arm = ARMS[cell.arm]
    student = {} if arm.learns == "labels" else asdict(student_config(profile, arm))
    return {"phase": cell.arm, "cell": asdict(cell), "student": student}


def _hash(profile: Profile, cell: Cell) -> str:
    return checkpoints.read_json(folder_of(profile, cell) / "config.json")["hash"]

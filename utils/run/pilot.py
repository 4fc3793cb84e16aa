"""Pilots of the study: what its numbers were chosen by, on people of the training split whose labels a cell has not.

    python -m utils.run.pilot [--only usual longer ...] [--seeds 0 1] [--arms control student_compression] [--jobs 2]

Each pilot changes some of the study's numbers and trains some of its cells. They are judged by the AUC over the clips of all
people of the training split but those who are labelled or in a pool, six frames each; nobody of the tests is looked at. One
row a cell is added to `data/study/pilots.csv`, and what stands there is not done again. The pilot `small` takes its pool from
the training split: the main job repeats one seed of it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import joblib
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from utils import protocol
from utils.config import NoisyStudentConfig, Profile, get_profile
from utils.learn import noisy_student
from utils.learn.cells import draw_people, folder_of, some_frames, train_cell
from utils.learn.dataset import FaceSet, UnlabelledFaces, load_faces, true_labels
from utils.learn.predict import predict_faces
from utils.learn.pseudo_labels import PseudoLabels
from utils.learn.scores import over_clip
from utils.paths import alone, atomic, read_json
from utils.protocol import ARMS, PRIMARY, Cell, study_of, usual_cell
from utils.results.store import FROM_GIT, read_table
from utils.run.arguments import at_least, processes

FRAMES = 6  # of each clip, that it is judged by
COLUMNS = ["pilot", "arm", "labels", "pool", "frames", "seed", "people", "auc_c23", "auc_c40", "val_auc", "minutes"]


@dataclass(frozen=True)
class Pilot:
    """What differs from the study's own numbers."""

    study: dict = field(default_factory=dict)  # fields of StudyConfig
    model: dict = field(default_factory=dict)  # of every network's ModelConfig
    pseudo: dict = field(default_factory=dict)  # of NoisyStudentConfig: how pseudo-labels are made
    train: dict = field(default_factory=dict)  # of TrainConfig
    faces: str = "study"  # the profile whose faces it reads
    under: dict[str, str] = field(default_factory=dict)  # environment that it is run in, and no other
    truth: bool = False  # the pool's true labels in place of what the teacher says: what right pseudo-labels would give


PILOTS = {
    "small": Pilot({"pool": 100, "pool_split": "train", "student_steps": 150}, pseudo={"align": True}, faces="study-small"),
    "S_300": Pilot({"pool": 134, "student_steps": 300}),
    "half_labelled": Pilot({"all_labels": 110, "student_steps": 300}),  # for an oracle that leaves people to be judged by
    "S_600": Pilot({"pool": 134, "student_steps": 600}),
    "T_300": Pilot({"pool": 134, "teacher_steps": 300, "student_steps": 300}),
    "aligned": Pilot({"pool": 134, "student_steps": 300}, pseudo={"align": True}),
    "aligned_soft": Pilot({"pool": 134, "student_steps": 300}, pseudo={"align": True, "soft": True}),
    "aligned_surer_than_0.8": Pilot({"pool": 134, "student_steps": 300}, pseudo={"align": True, "threshold": 0.8}),
    "80_px": Pilot({"pool": 134, "student_steps": 600}, {"px": 80}, pseudo={"align": True}),
    "pool_1000": Pilot({"student_pool": 1000, "student_steps": 300}, pseudo={"align": True}),
    "pool_1000_lambda_2": Pilot({"student_steps": 300}, pseudo={"align": True, "lambda_u": 2.0}),  # each image weighs the same
    "pool_1000_batches_of_8": Pilot(  # as many images in twice the steps
        {"teacher_steps": 300, "student_steps": 600}, {"batch_size": 8}, pseudo={"align": True, "lambda_u": 2.0}
    ),
    "pool_1000_true_labels": Pilot({"student_steps": 300}, pseudo={"align": True}, truth=True),  # after the protocol
    # What another kind of CPU computes: the same seeds, held to instructions that older ones have.
    "pool_1000_AVX2": Pilot(
        {"student_steps": 300}, pseudo={"align": True}, under={"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    ),
}
_UNDER = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")  # what a pilot may be run under


def pilot_profile(name: str, owner: str = "study") -> Profile:
    """Return the study's profile with a pilot's changes, and register its study; an owner's runs have folders of their own."""
    usual, pilot = get_profile("study"), PILOTS[name]
    models = {network: replace(config, **pilot.model) for network, config in usual.models.items()}
    train = replace(usual.train, **pilot.train)
    profile = replace(usual, name=f"{owner}-pilot-{name}", models=models, train=train)
    study = replace(protocol.STUDIES["study"], **pilot.study, pseudo=pilot.pseudo)
    protocol.STUDIES[profile.name] = study  # by its module: a worker has its own
    return profile


def run_pilot(owner: str, name: str, arm: str, seed: int) -> dict:
    """Train a cell of a pilot; return its row."""
    profile = pilot_profile(name, owner)
    study, faces = study_of(profile), load_faces(get_profile(PILOTS[name].faces))
    cell = usual_cell(study, arm, profile.student_model, seed)
    with told_the_truth(profile, cell, faces) if PILOTS[name].truth and ARMS[arm].pool else nullcontext():
        model = train_cell(profile, cell, faces)
    everybody = faces.select(split="train")
    student = usual_cell(study, PRIMARY[0], profile.student_model, seed)  # all arms are judged by whom its pool has not
    seen = draw_people(study, cell, faces).train | draw_people(study, student, faces).pool
    judged = everybody.select(pairs=everybody.pairs - seen)
    row = {"pilot": name, "arm": arm, "labels": cell.labels, "pool": cell.pool, "frames": cell.frames, "seed": seed}
    row |= {"people": 2 * len(judged.pairs)}
    for quality in profile.data.qualities:
        some = some_frames(judged.select(quality=quality), FRAMES)
        clip, clips = pd.factorize(some.index["video_id"])
        scores = over_clip(predict_faces(model, some, profile.train.precision, ""), clip)
        labels = some.index.drop_duplicates("video_id").set_index("video_id")["label"][clips]
        row[f"auc_{quality}"] = round(float(roc_auc_score(labels, scores)), 4)
    result = read_json(folder_of(profile, cell) / "result.json")
    return row | {"val_auc": round(result["val_auc"], 4), "minutes": round(result["seconds"] / 60, 2)}


@contextmanager
def told_the_truth(profile: Profile, cell: Cell, faces: FaceSet) -> Iterator[None]:
    """Let the teachers of this process give the pool's true labels, while it trains one cell: no student may be told them."""
    study = study_of(profile)
    pool = some_frames(faces.select(split=study.pool_split, pairs=draw_people(study, cell, faces).pool), cell.frames)

    def label_pool(teacher, inputs_u: UnlabelledFaces, student: NoisyStudentConfig, seed: int, *_) -> PseudoLabels:
        p = torch.nn.functional.one_hot(torch.from_numpy(true_labels(pool, seed)).long(), 2).float()
        views = student.student_views
        return PseudoLabels(inputs_u.clip, dict.fromkeys(views, p), dict.fromkeys(views, torch.arange(len(p))))

    with mock.patch.object(noisy_student, "label_pool", label_pool):
        yield


def pilots_of(owner: str) -> Path:
    """Return where the pilots of a profile stand: those of `study` are committed, those of `repeat` are the main job's."""
    return get_profile(owner).workspace.study / "pilots.csv"


def run_pilots(owner: str, names: Sequence[str], arms: Sequence[str], seeds: Sequence[int], jobs: int) -> pd.DataFrame:
    """Run what the owner's table has not, teachers before those whom they teach, and return the table.

    Rows of the study's pilots are history and stay. Those of the main job follow today's settings: a finished run is loaded.
    Raises ValueError where a pilot is asked for in another environment than its own.
    """
    for name in names:
        if (given := {key: os.environ.get(key) for key in _UNDER}) != dict.fromkeys(_UNDER) | PILOTS[name].under:
            said = " ".join(f"{key}={value}" for key, value in PILOTS[name].under.items()) or f"without {' and '.join(_UNDER)}"
            raise ValueError(f"pilot {name} is to be run in the environment {said}, this one has {given}")
    path = pilots_of(owner)
    table = read_pilots(path)
    done = set(table[["pilot", "arm", "seed"]].itertuples(index=False, name=None)) if owner != "repeat" else set()
    asked = [(name, arm, seed) for arm in arms for name in names for seed in seeds]
    calls = (joblib.delayed(run_pilot)(owner, *each) for each in asked if each not in done)
    for row in joblib.Parallel(jobs, return_as="generator_unordered")(calls):
        print(row, flush=True)
        with alone(path.parent):  # another call may have added to it
            table = read_pilots(path)
            table = pd.concat([table, pd.DataFrame([row])], ignore_index=True) if len(table) else pd.DataFrame([row])
            table = table.drop_duplicates(["pilot", "arm", "seed"], keep="last" if owner == "repeat" else "first")
            with atomic(path) as temporary:
                table[COLUMNS].sort_values(["pilot", "arm", "seed"]).to_csv(temporary, index=False)
    return table


def read_pilots(path: Path) -> pd.DataFrame:
    """Return the rows of a table of pilots, none where there is none; raise ValueError for a damaged one."""
    return read_table(path, COLUMNS, COLUMNS[:2], FROM_GIT) if path.is_file() else pd.DataFrame(columns=COLUMNS)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.run.pilot", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=tuple(PILOTS), help="default: all of the usual environment")
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=("teacher", *PRIMARY))
    parser.add_argument("--seeds", nargs="+", type=at_least(0), default=(0, 1))
    parser.add_argument("--jobs", type=processes, default=os.cpu_count(), help="processes; default: one a core")
    parser.add_argument("--owner", default="study", choices=("study", "repeat"), help="whose table gets the rows")
    arguments = parser.parse_args(argv)
    try:
        names = arguments.only or [name for name, pilot in PILOTS.items() if not pilot.under]
        run_pilots(arguments.owner, names, arguments.arms, arguments.seeds, arguments.jobs)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()

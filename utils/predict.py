"""Scores, P(fake) per face: of the faces of the held-out splits for the results, and of anybody's own video.

On the command line: `python -m utils.predict VIDEO --run trained-xception-s0`.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import pandas as pd

from utils import runs
from utils.config import PROFILES, Profile, get_profile
from utils.dataset import FaceSet
from utils.faces import extract_faces
from utils.ffpp import HELD_OUT, PREDICTION_COLUMNS, read_predictions
from utils.models import Detector, pick_device, probabilities
from utils.paths import atomic
from utils.training import SUPERVISED, supervised_phases


def predict_faces(model: Detector, faces, precision: str = "auto", progress: str = "scores") -> np.ndarray:
    """Return P(fake) (N,) of all faces, in order, without noise or augmentation."""
    return probabilities(model, faces, precision=precision, progress=progress)[:, 1].numpy()


def prediction_table(name: str, config: dict, faces: FaceSet, scores: np.ndarray) -> pd.DataFrame:
    """Return one row a face in the columns that metrics.py reads; `config` is the run's config.json."""
    about = {"run": name, "model": config["model"], "phase": config["phase"], "seed": config["seed"]}
    table = faces.index[["split", "quality", "video_id", "frame", "label"]].assign(**about, score=scores)
    return table[list(PREDICTION_COLUMNS)].sort_values(["split", "quality", "video_id", "frame"], ignore_index=True)


def save_predictions(profile: Profile, name: str, faces: FaceSet) -> pd.DataFrame:
    """Score the faces of val, test and (where there are some) test_hard with a finished run; return the table.

    It is written to `<predictions>/<run>.csv.gz`. Predictions that are newer than the run and hold exactly these faces are
    read instead of being made again.
    """
    folder, path = profile.workspace.runs / name, profile.workspace.predictions / f"{name}.csv.gz"
    result = folder / "result.json"
    held_out = faces.select(split=HELD_OUT)
    if path.is_file() and result.is_file() and path.stat().st_mtime >= result.stat().st_mtime:
        table = read_predictions(path)
        if _scored(table) == _scored(held_out.index):  # the tree may have got test_hard since
            return table
    model = runs.load_model(folder).to(pick_device())
    scores = predict_faces(model, held_out, profile.train.precision, progress=f"scores of {name}")
    table = prediction_table(name, runs.read_json(folder / "config.json"), held_out, scores)
    text = table.to_csv(index=False, float_format="%.5g", lineterminator="\n")
    with atomic(path) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))  # no name, no time: equal tables give equal files
    return read_predictions(path)  # what later notebooks will read, rounding included


def train_and_score(profile: Profile, name: str, faces: FaceSet, seed: int = 0) -> pd.DataFrame:
    """Return the predictions of a network that learns from labels alone, trained if need be.

    Of a network in `profile.left_to_grid`, predictions on disk are read, so that a notebook need not train it.
    """
    tables = []
    for phase in supervised_phases(profile, name):
        run = runs.run_name(phase, name, seed)
        path = profile.workspace.predictions / f"{run}.csv.gz"
        if name in profile.left_to_grid and path.is_file():
            tables.append(read_predictions(path))
            continue
        SUPERVISED[phase](profile, name, faces, seed)
        tables.append(save_predictions(profile, run, faces))
    return pd.concat(tables, ignore_index=True)


def _scored(table: pd.DataFrame) -> list[tuple]:
    """Return which faces a table is about, in sorted order."""
    return sorted(table[["split", "quality", "video_id", "frame"]].itertuples(index=False, name=None))


def score_video(path: Path | str, run: str, profile: Profile) -> pd.DataFrame:
    """Return frame numbers and P(fake) of the faces of one video; raise ValueError where no face is found."""
    model = runs.load_model(profile.workspace.runs / run).to(pick_device())
    table, crops = extract_faces(path, profile.faces)
    if len(crops) == 0:
        raise ValueError(f"no face found in {path}: none of its {len(table)} sampled frames shows a frontal face")
    frames = table.loc[table["status"] == "found", "frame"].to_numpy()
    faces = FaceSet(pd.DataFrame({"row": range(len(crops)), "label": 0}), crops)  # nobody reads this label
    return pd.DataFrame({"frame": frames, "score": predict_faces(model, faces)})


def main() -> None:
    parser = argparse.ArgumentParser(description="Score one video: P(fake), the mean over its sampled frames.")
    parser.add_argument("video", type=Path)
    parser.add_argument("--run", required=True, help="name of a finished run in data/runs")
    parser.add_argument("--profile", default="synthff", choices=sorted(PROFILES))
    arguments = parser.parse_args()
    try:
        scores = score_video(arguments.video, arguments.run, get_profile(arguments.profile))
    except (ValueError, FileNotFoundError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{arguments.video}: P(fake) {scores['score'].mean():.3f} over {len(scores)} faces")


if __name__ == "__main__":
    main()

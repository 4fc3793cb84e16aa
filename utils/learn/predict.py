"""Scores, P(fake) per face: of the faces of the held-out splits for the results, and of anybody's own video.

On the command line: `python -m utils.learn.predict VIDEO --run post_trained-efficientnet-lite0-s0`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from utils.config import PROFILES, Profile, get_profile
from utils.faces.crops import extract_faces
from utils.faces.ffpp import HELD_OUT
from utils.learn import checkpoints
from utils.learn.dataset import FaceSet
from utils.learn.inference import probabilities
from utils.learn.models import Detector
from utils.learn.precision import pick_device
from utils.learn.scores import COLUMNS, FACE, SCORES, over_clip, read_scores, write_scores


def predict_faces(
    model: Detector, faces, precision: str = "auto", progress: str = "scores", scorer: str = "auto"
) -> np.ndarray:
    """Return P(fake) (N,) of all faces, in order, without noise or augmentation."""
    return probabilities(model, faces, precision=precision, progress=progress, scorer=scorer)[:, 1].numpy()


def prediction_table(name: str, config: dict, faces: FaceSet, scores: np.ndarray) -> pd.DataFrame:
    """Return one row a face in the columns of `scores.COLUMNS`; `config` is the run's config.json."""
    about = {"run": name, "model": config["model"], "phase": config["phase"], "seed": config["seed"]}
    table = faces.index[[*FACE, "label"]].assign(**about, score=scores)
    return table[list(COLUMNS)].sort_values(["split", "quality", "video_id", "frame", "method"], ignore_index=True)


def save_predictions(
    profile: Profile, name: str, faces: FaceSet, splits: tuple[str, ...] = HELD_OUT, file: str = SCORES
) -> pd.DataFrame:
    """Score the faces of some splits, as far as there are any, with a finished run; return the table.

    It is written into the run folder. Scores that are newer than the run and hold exactly these faces are read instead of
    being made again.
    """
    folder = profile.workspace.runs / name
    path, result = folder / file, folder / "result.json"
    held_out = faces.select(split=splits)
    if path.is_file() and result.is_file() and path.stat().st_mtime >= result.stat().st_mtime:
        table = read_scores(path)
        if _scored(table) == _scored(held_out.index):  # the tree may have got test_hard since
            return table
    model = checkpoints.load_model(folder).to(pick_device())
    config = checkpoints.read_json(folder / "config.json")
    scores = predict_faces(model, held_out, profile.train.precision, f"scores of {name}", profile.train.scorer)
    write_scores(path, prediction_table(name, config, held_out, scores))
    return read_scores(path)  # what notebooks will read, rounding included


def _scored(table: pd.DataFrame) -> list[tuple]:
    """Return which faces a table is about, in sorted order."""
    return sorted(table[FACE].itertuples(index=False, name=None))


def score_video(path: Path | str, run: str, profile: Profile) -> pd.DataFrame:
    """Return frame numbers and P(fake) of the faces of one video; raise ValueError where no face is found."""
    model = checkpoints.load_model(profile.workspace.runs / run).to(pick_device())
    table, crops = extract_faces(path, profile.faces, threads=0)
    if len(crops) == 0:
        raise ValueError(f"no face found in {path}: none of its {len(table)} sampled frames shows a frontal face")
    frames = table.loc[table["status"] == "found", "frame"].to_numpy()
    faces = FaceSet(pd.DataFrame({"row": range(len(crops)), "label": 0}), crops)  # nobody reads this label
    return pd.DataFrame({"frame": frames, "score": predict_faces(model, faces)})


def main() -> None:
    parser = argparse.ArgumentParser(description="Score one video: P(fake), the mean over its sampled frames.")
    parser.add_argument("video", type=Path)
    parser.add_argument("--run", required=True, help="name of a finished run below data/work")
    parser.add_argument("--profile", default="synthff", choices=sorted(PROFILES))
    arguments = parser.parse_args()
    try:
        scores = score_video(arguments.video, arguments.run, get_profile(arguments.profile))
    except (ValueError, FileNotFoundError) as error:
        parser.exit(2, f"error: {error}\n")
    score = over_clip(scores["score"].to_numpy(), np.zeros(len(scores), dtype=int))[0]
    print(f"{arguments.video}: P(fake) {score:.3f} over {len(scores)} faces")


if __name__ == "__main__":
    main()

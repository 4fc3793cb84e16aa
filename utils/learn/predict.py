"""Scores, P(fake) per face, of the faces of the held-out splits (anybody's own video is `verdicts.py`'s)."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from utils.config import Profile
from utils.faces.ffpp import HELD_OUT
from utils.learn import checkpoints
from utils.learn.dataset import FaceSet
from utils.learn.inference import probabilities
from utils.learn.models import Detector
from utils.learn.precision import pick_device
from utils.learn.scores import COLUMNS, FACE, SCORES, read_scores, write_scores
from utils.paths import atomic


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
    being made again. A file beside them has a checksum of the faces; scores without one are believed.
    """
    folder = profile.workspace.runs / name
    path, seen = folder / file, folder / f"{file}.faces"
    held_out = faces.select(split=splits)
    pixels, table = held_out.fingerprint(), kept_scores(folder, file)
    same = not seen.is_file() or seen.read_text(errors="replace").strip() == pixels
    if table is not None and same and _scored(table) == _scored(held_out.index):  # the tree may have got test_hard since
        return table
    model = checkpoints.load_model(folder).to(pick_device())
    config = checkpoints.read_json(folder / "config.json")
    scores = predict_faces(model, held_out, profile.train.precision, f"scores of {name}", profile.train.scorer)
    write_scores(path, prediction_table(name, config, held_out, scores))
    with atomic(seen) as temporary:
        temporary.write_text(pixels + "\n")
    return read_scores(path)  # what notebooks will read, rounding included


def kept_scores(folder: Path, file: str) -> pd.DataFrame | None:
    """Return the scores in a run folder; None where there are none, the run is newer, or, with a warning, they are damaged."""
    path, result = folder / file, folder / "result.json"
    if not (path.is_file() and result.is_file() and path.stat().st_mtime >= result.stat().st_mtime):
        return None
    try:
        return read_scores(path)
    except ValueError as error:
        warnings.warn(f"{error}, which is done now", stacklevel=3)
        return None


def _scored(table: pd.DataFrame) -> list[tuple]:
    """Return which faces a table is about, in sorted order."""
    return sorted(table[FACE].itertuples(index=False, name=None))

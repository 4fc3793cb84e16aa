from __future__ import annotations

import dataclasses
import gzip
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from fake_faces import make_faces, tiny_profile

from utils import predict, runs
from utils.dataset import FaceSet
from utils.ffpp import PREDICTION_COLUMNS, read_predictions
from utils.models import probabilities
from utils.predict import save_predictions, score_video, train_and_score
from utils.training import trained


@pytest.fixture
def profile(tmp_path):
    profile = tiny_profile(tmp_path)
    trained(profile, "resnet18", make_faces())
    return profile


def test_predictions_have_the_agreed_columns_and_the_models_scores(profile, monkeypatch):
    faces = make_faces()
    table = save_predictions(profile, "trained-resnet18-s0", faces)
    path = profile.workspace.predictions / "trained-resnet18-s0.csv.gz"
    saved = pd.read_csv(path, dtype={"video_id": str})
    assert ",".join(saved.columns) == "run,model,phase,seed,split,quality,video_id,frame,label,score"
    assert tuple(saved.columns) == PREDICTION_COLUMNS
    assert set(saved["split"]) == {"val", "test"} and len(saved) == len(faces.select(split=("val", "test")))
    assert set(saved["run"]) == {"trained-resnet18-s0"} and set(saved["phase"]) == {"trained"}
    assert np.allclose(saved["score"], table["score"], atol=1e-5)
    model = runs.load_model(profile.workspace.runs / "trained-resnet18-s0")
    one = faces.select(split="test", quality="c40")
    rows = saved.merge(one.index, on=["split", "quality", "video_id", "frame"], how="right")
    assert np.allclose(rows["score"], probabilities(model, one)[:, 1], atol=1e-4)
    plain = gzip.decompress(path.read_bytes())
    assert path.read_bytes() == gzip.compress(plain, mtime=0)  # equal scores, equal files: nothing else is in them
    monkeypatch.setattr(predict, "predict_faces", None)  # a second call reads the file
    assert save_predictions(profile, "trained-resnet18-s0", faces).equals(saved)


def test_harder_videos_are_scored_where_there_are_some(profile):
    faces, name = make_faces(), "trained-resnet18-s0"
    before = save_predictions(profile, name, faces)
    hard = faces.index["pair"] == max(faces.pairs)
    faces = FaceSet(faces.index.assign(split=faces.index["split"].mask(hard, "test_hard")), faces.pixels)
    table = save_predictions(profile, name, faces)  # the same run, but the file on disk lacks the new split
    assert set(table["split"]) == {"val", "test", "test_hard"} and (table["split"] == "test_hard").sum() == hard.sum()
    key = ["quality", "video_id", "frame"]
    same = before.merge(table, on=key, suffixes=("", "_now"))
    assert len(same) == len(before) and np.allclose(same["score"], same["score_now"], atol=1e-5)
    assert len(read_predictions(profile.workspace.predictions / f"{name}.csv.gz")) == len(table)


def test_networks_left_to_the_grid_are_read_where_they_were_scored_and_trained_elsewhere(profile, monkeypatch):
    faces, read = make_faces(), []
    table = train_and_score(profile, "resnet18", faces)
    assert table.equals(save_predictions(profile, "trained-resnet18-s0", faces))
    profile = dataclasses.replace(profile, left_to_grid=("resnet18",))
    (profile.workspace.runs / "trained-resnet18-s0" / "model.safetensors").unlink()
    monkeypatch.setitem(predict.SUPERVISED, "trained", lambda profile, name, faces, seed: read.append((name, seed)))
    assert train_and_score(profile, "resnet18", faces).equals(table) and not read
    with pytest.raises(FileNotFoundError, match="no finished run"):  # the stand-in for training leaves nothing behind
        train_and_score(profile, "resnet18", faces, seed=1)
    assert read == [("resnet18", 1)]


def test_missing_runs_and_videos_without_faces_are_one_clear_line(profile, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no finished run at .*nothing"):
        runs.load_model(profile.workspace.runs / "nothing")
    empty = pd.DataFrame({"frame": [0, 5], "status": "missed"}), np.empty((0, 16, 16, 3), np.uint8)
    monkeypatch.setattr(predict, "extract_faces", lambda path, config: empty)
    with pytest.raises(ValueError, match="no face found in clip.mp4: none of its 2"):
        score_video("clip.mp4", "trained-resnet18-s0", profile)


def test_scores_of_ones_own_video(profile, monkeypatch):
    faces = make_faces().select(split="test", quality="c23")
    crops = faces.pixels[faces.index["row"]][:3]
    table = pd.DataFrame({"frame": [0, 5, 10, 15], "status": ["found", "missed", "found", "found"]})
    monkeypatch.setattr(predict, "extract_faces", lambda path, config: (table, crops))
    scores = score_video("clip.mp4", "trained-resnet18-s0", profile)
    assert scores["frame"].tolist() == [0, 10, 15]
    model = runs.load_model(profile.workspace.runs / "trained-resnet18-s0")
    assert np.allclose(scores["score"], probabilities(model, faces)[:3, 1], atol=1e-5)


def test_command_line_fails_with_one_line():
    command = [sys.executable, "-m", "utils.predict", "none.mp4", "--run", "no-such-run"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "no finished run" in done.stderr and "Traceback" not in done.stderr

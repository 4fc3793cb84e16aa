from __future__ import annotations

import gzip
import os

import numpy as np
import pandas as pd
import pytest
from fake_faces import make_faces, tiny_profile

from utils.learn import checkpoints, predict
from utils.learn.dataset import FaceSet
from utils.learn.inference import probabilities
from utils.learn.predict import save_predictions
from utils.learn.scores import COLUMNS, FACE, SCORES, equal_scores, over_clip, read_scores, write_scores
from utils.learn.training import trained


@pytest.fixture
def profile(tmp_path):
    profile = tiny_profile(tmp_path)
    trained(profile, "mobilenet-v2", make_faces())
    return profile


def test_predictions_have_the_agreed_columns_and_the_models_scores(profile, monkeypatch):
    faces = make_faces()
    table = save_predictions(profile, "trained-mobilenet-v2-s0", faces)
    path = profile.workspace.runs / "trained-mobilenet-v2-s0" / SCORES
    saved = pd.read_csv(path, dtype={"video_id": str})
    assert ",".join(saved.columns) == "run,model,phase,seed,method,split,quality,video_id,frame,label,score"
    assert tuple(saved.columns) == COLUMNS
    assert set(saved["split"]) == {"val", "test"} and len(saved) == len(faces.select(split=("val", "test")))
    assert set(saved["run"]) == {"trained-mobilenet-v2-s0"} and set(saved["phase"]) == {"trained"}
    assert np.allclose(saved["score"], table["score"], atol=1e-5)
    model = checkpoints.load_model(profile.workspace.runs / "trained-mobilenet-v2-s0")
    one = faces.select(split="test", quality="c40")
    rows = saved.merge(one.index, on=["split", "quality", "video_id", "frame"], how="right")
    assert np.allclose(rows["score"], probabilities(model, one)[:, 1], atol=1e-4)
    plain = gzip.decompress(path.read_bytes())
    assert path.read_bytes() == gzip.compress(plain, mtime=0)  # equal scores, equal files: nothing else is in them
    monkeypatch.setattr(predict, "predict_faces", None)  # a second call reads the file
    assert save_predictions(profile, "trained-mobilenet-v2-s0", faces).equals(saved)


@pytest.mark.parametrize("damage", ["cut", "bytes", "text"])
def test_damaged_scores_are_made_again(profile, damage):
    faces, name = make_faces(), "trained-mobilenet-v2-s0"
    table = save_predictions(profile, name, faces)
    path = profile.workspace.runs / name / SCORES
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {"cut": whole[:middle], "bytes": whole[:middle] + bytes(9) + whole[middle + 9 :], "text": b"nothing\n"}[damage]
    )
    with pytest.warns(UserWarning, match="score the run again, which is done now"):
        assert save_predictions(profile, name, faces).equals(table)
    assert path.read_bytes() == whole


def test_scores_of_other_pixels_are_made_again(profile, monkeypatch):
    faces, name, scored = make_faces(), "trained-mobilenet-v2-s0", []
    changed = FaceSet(faces.index, 255 - faces.pixels)  # the same faces by name
    monkeypatch.setattr(predict, "predict_faces", lambda model, some, *_: scored.append(some) or np.full(len(some), 0.5))
    for some in (faces, changed, changed):
        save_predictions(profile, name, some)
    assert len(scored) == 2
    (profile.workspace.runs / name / f"{SCORES}.faces").unlink()  # of an older version
    save_predictions(profile, name, faces)
    assert len(scored) == 2


@pytest.mark.parametrize("file", [SCORES, "test_scores.csv.gz"])
def test_scores_that_are_older_than_the_run_are_made_again(profile, monkeypatch, file):
    faces, name, scored = make_faces(), "trained-mobilenet-v2-s0", []
    monkeypatch.setattr(predict, "predict_faces", lambda model, some, *_: scored.append(some) or np.full(len(some), 0.5))
    for _ in range(2):
        save_predictions(profile, name, faces, file=file)
    assert len(scored) == 1
    folder = profile.workspace.runs / name
    later = (folder / file).stat().st_mtime + 10
    os.utime(folder / "result.json", (later, later))  # trained anew since
    save_predictions(profile, name, faces, file=file)
    assert len(scored) == 2


def test_scores_of_fewer_faces_are_not_equal():
    usual = dict.fromkeys(FACE, "x") | {"model": "m", "seed": [0, 0, 1], "frame": [0, 5, 0], "score": [0.1, 0.2, 0.3]}
    usual = pd.DataFrame(usual)
    same, fewer, other = usual.iloc[:2], usual.iloc[:1], usual.iloc[:2].assign(score=[0.1, 0.3])
    changed = pd.concat([part.assign(experiment=name) for name, part in zip("sfo", (same, fewer, other), strict=True)])
    found = equal_scores(changed, usual, ["model", "seed", *FACE], ["experiment"])
    assert found.to_dict() == {"s": True, "f": False, "o": False}


def test_harder_videos_are_scored_where_there_are_some(profile):
    faces, name = make_faces(), "trained-mobilenet-v2-s0"
    before = save_predictions(profile, name, faces)
    hard = faces.index["pair"] == max(faces.pairs)
    faces = FaceSet(faces.index.assign(split=faces.index["split"].mask(hard, "test_hard")), faces.pixels)
    table = save_predictions(profile, name, faces)  # the same run, but the file on disk lacks the new split
    assert set(table["split"]) == {"val", "test", "test_hard"} and (table["split"] == "test_hard").sum() == hard.sum()
    key = ["quality", "video_id", "frame"]
    same = before.merge(table, on=key, suffixes=("", "_now"))
    assert len(same) == len(before) and np.allclose(same["score"], same["score_now"], atol=1e-5)
    assert len(read_scores(profile.workspace.runs / name / SCORES)) == len(table)


def test_missing_runs_are_one_clear_line(profile):
    with pytest.raises(FileNotFoundError, match="no finished run at .*nothing"):
        checkpoints.load_model(profile.workspace.runs / "nothing")


def test_a_second_method_stands_beside_the_first(profile):
    faces = make_faces()
    fakes = faces.index[faces.index["label"] == 1].assign(method="Deepfakes")
    both = FaceSet(pd.concat([faces.index, fakes], ignore_index=True), faces.pixels)
    table = save_predictions(profile, "trained-mobilenet-v2-s0", both)
    counts = table[table["label"] == 1].groupby("method").size()
    assert counts["Deepfakes"] == counts["NeuralTextures"] > 0  # the same video_id, and no key collides


def test_the_score_of_a_clip_is_the_mean_of_its_faces():
    scores, clip = np.array([0.2, 0.9, 0.4]), np.array([1, 0, 1])
    assert over_clip(scores, clip) == pytest.approx([0.9, 0.3])
    assert over_clip(np.stack([scores, 1 - scores], axis=1), clip)[:, 1] == pytest.approx([0.1, 0.7])
    assert over_clip(scores.astype(np.float32), clip).dtype == np.float32


GOOD = {"run": "r", "model": "m", "phase": "p", "seed": 0, "method": "original", "split": "test", "quality": "c40"}
GOOD |= {"video_id": "007", "frame": 0, "label": 0, "score": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 2}, "labels other than 0 and 1"),
        ({"score": 1.5}, r"scores outside \[0, 1\]"),
        ({"score": float("nan")}, "empty cells"),
        ({"seed": "x"}, "seeds or frames that are no whole numbers from 0 on"),
        ({"frame": -3}, "seeds or frames that are no whole numbers from 0 on"),
        ({"frame": 0.5}, "seeds or frames that are no whole numbers from 0 on"),
        ({"split": "train"}, "splits other than val, test, test_hard, test2, test2_unseen"),
        ({"label": 1, "frame": 5}, "a video with two labels"),
        ({}, "a face that is scored twice"),
    ],
)
def test_scores_are_checked_as_they_are_read(change, message, tmp_path):
    table = pd.DataFrame([GOOD, GOOD | change])[list(COLUMNS)]
    write_scores(tmp_path / SCORES, table)
    with pytest.raises(ValueError, match=rf"scores.csv.gz: {message}: score the run again"):
        read_scores(tmp_path / SCORES)


def test_files_that_are_no_scores_are_one_clear_line(tmp_path):
    (tmp_path / SCORES).write_bytes(b"not gzipped")
    with pytest.raises(ValueError, match="no gzipped CSV"):
        read_scores(tmp_path / SCORES)
    write_scores(tmp_path / SCORES, pd.DataFrame([GOOD]).drop(columns="method"))
    with pytest.raises(ValueError, match="expected run, model, phase, seed, method"):
        read_scores(tmp_path / SCORES)

"""Squares on another face than the one that was drawn on: told by the mask, counted by clip, and what is left without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clips import encode
from mock_predictions import make_run

from utils.checks import wrong_faces as check
from utils.config import get_profile
from utils.faces import ffpp
from utils.faces.crops import extract_faces
from utils.results import tables

SYNTHFF = get_profile("synthff")
BYSTANDER = "301"  # of test_hard: another person stands beside


def faces_of(index, video_id, config):
    (clip,) = index[(index["video_id"] == video_id) & (index["quality"] == "c23")].to_dict("records")
    found, _ = extract_faces(clip["path"], config, clip["mask"])
    about = {name: clip[name] for name in (*check.CLIP, "split", "label")}
    return found[found["status"] == "found"].assign(**about).reset_index(drop=True)


def test_a_bystander_is_told_by_the_mask_and_is_not_followed_where_masks_are_asked():
    index, few = ffpp.load_index(SYNTHFF), replace(SYNTHFF.faces, max_frames=2)
    plain, right, alone = (
        faces_of(index, video_id, config)
        for video_id, config in ((BYSTANDER, few), (BYSTANDER, replace(few, masks=True)), ("000", few))
    )
    everything = pd.concat([plain, right.assign(quality="c40"), alone], ignore_index=True)
    share = check.shares(everything.sample(frac=1, random_state=0), index).sort_index()  # whatever the order of rows
    assert share.loc[:1].tolist() == [0, 0] and (share.loc[2:] > 0.8).all() and len(share) == 6
    found = check.wrong_faces(everything, share).set_index(["split", "quality"])
    assert found.loc[("test_hard", "c23"), ["faces", "wrong", "clips", "wholly"]].tolist() == [2, 2, 1, 1]
    assert found.loc[("test_hard", "c23"), "names"] == f"original/{BYSTANDER}"
    assert found.loc[("test_hard", "c40"), ["faces", "wrong", "wholly", "names"]].tolist() == [2, 0, 0, ""]
    assert found.loc[("train", "c23"), "wrong"] == 0


def test_a_clip_is_wholly_wrong_only_where_every_square_is():
    about = {"method": "original", "quality": "c40", "split": "test"}
    faces = pd.DataFrame({**about, "video_id": ["000", "000", "001", "001", "002"]})
    found = check.wrong_faces(faces, pd.Series([0.0, 0.05, 0.0, 0.9, np.nan])).iloc[0]
    assert found[["faces", "wrong", "clips", "wholly", "names"]].tolist() == [4, 3, 2, 1, "original/000"]


@pytest.mark.parametrize("mask", ["", "gone", "damaged", "black", "short"])
def test_what_no_mask_tells_is_not_known(mask, tmp_path):
    path = tmp_path / "mask.mp4"
    if mask == "damaged":
        path.write_bytes(b"no video")
    elif mask in ("black", "short"):
        encode(path, np.full((2 if mask == "short" else 8, 64, 64, 3), 0 if mask == "black" else 255, np.uint8))
    faces = pd.DataFrame([{"method": "original", "quality": "c23", "video_id": "000", "split": "test", "frame": 5,
                           "x0": 0, "y0": 0, "x1": 64, "y1": 64}])  # fmt: skip
    index = faces[check.CLIP].assign(mask=str(path) if mask else "")
    share = check.shares(faces, index)
    assert share.isna().all() and len(share) == 1
    assert check.wrong_faces(faces, share).empty


def test_the_loss_on_harder_videos_is_measured_without_clips_that_show_another():
    runs = pd.concat([make_run("xception", "trained", seed, n_pairs=6, hard_pairs=6) for seed in (0, 1)], ignore_index=True)
    hard = runs["split"] == "test_hard"
    target = runs.loc[hard, "video_id"].min()
    lost = hard & (runs["video_id"] == target) & (runs["quality"] == "c40")
    runs.loc[lost, "score"] = 1.0  # a real one that looks more fake than every fake
    wrong = pd.DataFrame([("test_hard", "c23", 9, 0, 9, 0, ""), ("test_hard", "c40", 9, 4, 9, 1, f"original/{target}")],
                         columns=["split", "quality", "faces", "wrong", "clips", "wholly", "names"])  # fmt: skip
    made = tables.right_tables(runs, wrong, 50)
    kept = tables.right_tables(runs[~lost], wrong.assign(names=["", "original/nobody"]), 50)  # nothing more is left out
    pd.testing.assert_frame_equal(made["right_robustness"], kept["right_robustness"])
    averages = made["right_averages"].set_index("quality")
    assert averages["left_out"].to_dict() == {"c23": 0, "c40": 1} and (averages["count"] == 1).all()
    cells = made["right_robustness"].set_index("quality")
    assert averages.loc["c40", "value"] == pytest.approx(cells.loc["c40", "change"])
    assert cells.loc["c40", "n_real"] == cells.loc["c23", "n_real"] - 1
    assert tables.right_tables(runs, wrong.assign(wholly=0), 50) == {}
    assert tables.right_tables(runs[~hard], wrong, 50) == {}
    of_one = runs[~hard | (runs["video_id"] == target) | (runs["label"] == 1)]  # whose only real clip shows another
    assert tables.right_tables(of_one, wrong, 50) == {}


def test_a_damaged_table_of_wrong_faces_is_named(tmp_path):
    path = tmp_path / "wrong_faces.csv"
    path.write_text("split,quality\ntest,c23\n")
    with pytest.raises(ValueError, match=r"wrong_faces.csv: no column faces, .*: run notebook 02 again"):
        tables.read_wrong_faces(path)

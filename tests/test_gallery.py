"""The gallery of best, worst and most uncertain clips: which are chosen, which face is shown, equal bytes for equal data."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from utils.learn.dataset import FaceSet
from utils.results import pictures

SCORES = {  # clip -> its scores by seed; a fake has "_" in its name
    "001_002": (0.9, 1.0), "003_004": (0.6, 0.7), "005_006": (0.2, 0.2), "007_008": (0.45, 0.51), "009_010": (0.3, 0.3),
    "011_012": (0.3, 0.3), "001": (0.1, 0.1), "003": (0.8, 0.9), "005": (0.5, 0.5), "007": (0.0, 0.1), "009": (0.4, 0.2),
}  # fmt: skip


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def predictions() -> pd.DataFrame:
    rows = []
    for video, by_seed in SCORES.items():
        about = {"model": "efficientnet-lite0", "method": "NeuralTextures" if "_" in video else "original", "video_id": video,
                 "label": int("_" in video)}  # fmt: skip
        for seed, score in enumerate(by_seed):
            for frame, off in ((0, -0.05), (5, 0.05)):  # faces of a clip, whose mean counts
                key = {"run": f"s{seed}", "phase": "student_compression", "seed": seed, "split": "test", "frame": frame}
                rows.append(about | key | {"quality": "c40", "score": score + off})
                rows.append(about | key | {"quality": "c23", "score": 1 - score})  # chooses nothing,
                rows.append(about | key | {"quality": "c40", "phase": "oracle", "run": f"o{seed}", "score": 1 - score})
                rows.append(about | key | {"quality": "c40", "split": "val", "video_id": "9" + video[1:], "score": score})
    return pd.DataFrame(rows)


def faces(size=8) -> FaceSet:
    rows = [
        {"method": "NeuralTextures" if "_" in video else "original", "video_id": video, "label": int("_" in video),
         "quality": quality, "frame": frame, "split": "test", "pair": "x"}
        for video in SCORES for quality in ("c23", "c40") for frame in (0, 5, 10, 15)
        if (video, quality) != ("009", "c23") and (video, quality, frame) != ("001", "c23", 10)
    ]  # fmt: skip
    index = pd.DataFrame(rows).assign(row=range(len(rows)))
    return FaceSet(index, np.arange(len(rows) * size * size * 3, dtype=np.uint64).astype(np.uint8).reshape(-1, size, size, 3))


def test_each_row_has_its_clips_in_order():
    found = pictures.gallery_clips(predictions(), "c40", each=3)
    assert {title: list(clips["video_id"]) for title, clips in found.items()} == {
        "fakes found most surely": ["001_002", "003_004"],
        "fakes missed worst": ["005_006", "009_010", "011_012"],  # of equal scores the first by name
        "reals passed most surely": ["007", "001", "009"],
        "reals taken for fakes worst": ["003", "005"],  # from one half upwards
        "most uncertain": ["005", "007_008", "003_004"],
    }
    assert found["fakes found most surely"]["score"].to_list() == pytest.approx([0.95, 0.65])
    assert list(found["most uncertain"]["label"]) == [0, 1, 1]
    with pytest.raises(ValueError, match="no scores of test at c99 by the student, compression noise: run notebook 05"):
        pictures.gallery_clips(predictions(), "c99")


def test_the_order_of_the_predictions_changes_nothing():
    shuffled = predictions().sample(frac=1, random_state=1)
    one, other = (pictures.gallery_clips(table, "c40", each=4) for table in (predictions(), shuffled))
    assert {title: list(clips["video_id"]) for title, clips in one.items()} == {
        title: list(clips["video_id"]) for title, clips in other.items()
    }


def test_the_middle_frame_that_every_quality_shows():
    all_faces = faces()

    def row(video, quality, frame):
        at = all_faces.index.query("video_id == @video and quality == @quality and frame == @frame")["row"].item()
        return all_faces.pixels[at]

    high, low = pictures.face_of(all_faces, "NeuralTextures", "001_002", ["c40", "c23"])
    assert np.array_equal(high, row("001_002", "c40", 10)) and np.array_equal(low, row("001_002", "c23", 10))
    high, low = pictures.face_of(all_faces, "original", "001", ["c40", "c23"])
    assert np.array_equal(high, row("001", "c40", 5)) and np.array_equal(low, row("001", "c23", 5))
    high, low = pictures.face_of(all_faces, "original", "009", ["c40", "c23"])
    assert np.array_equal(high, row("009", "c40", 10)) and low is None
    assert pictures.face_of(all_faces, "original", "999", ["c40", "c23"]) == [None, None]


def test_the_same_data_give_the_same_picture(tmp_path):
    paths = []
    for number in (0, 1):
        fig = pictures.gallery(predictions(), faces(), "made up", each=3)
        paths.append(pictures.save_picture(fig, tmp_path / f"{number}.jpg"))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    shown = [ax.get_xlabel() for part in fig.subfigs for ax in part.axes[3:]]
    assert shown[:3] == ["001_002  0.95", "003_004  0.65", ""] and len(fig.subfigs) == 5
    assert fig.get_suptitle().startswith("made up, test at c40, below at c23")
    assert [len(ax.images) for ax in fig.subfigs[2].axes] == [1, 1, 1, 1, 1, 0]  # the last was not found at c23


def test_a_row_without_clips_says_so():
    table = predictions()
    table = table[table["label"] == 0]
    fig = pictures.gallery(table, faces(), "made up", each=3)
    assert fig.subfigs[0].get_suptitle() == "fakes found most surely: none" and not fig.subfigs[0].axes[0].images

"""Pictures of frames and faces: what they measure, what they draw, and that they are byte-stable."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from utils.results import pictures


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_difference_by_hand():
    a, b = np.zeros((2, 1, 2, 3), np.uint8)
    a[0, 0] = (3, 0, 6)
    b[0, 1] = (255, 255, 255)
    assert pictures.difference(a, b).tolist() == [[3 * pictures.GAIN, 255]]


def test_thumbnail_keeps_the_aspect_and_small_pictures():
    picture = np.zeros((90, 160, 3), np.uint8)
    assert pictures.thumbnail(picture, 45).shape == (45, 80, 3)
    assert pictures.thumbnail(picture, 128) is picture


def test_grid_leaves_gaps_and_names_rows_and_columns():
    picture = np.zeros((8, 8, 3), np.uint8)
    fig = pictures.picture_grid([[picture, None], [picture[..., 0]]], columns=["a", "b"], names=["x", "y"])
    assert [len(ax.images) for ax in fig.axes] == [1, 0, 1, 0]
    assert [ax.get_title() for ax in fig.axes[:2]] == ["a", "b"]
    assert [fig.axes[i].get_ylabel() for i in (0, 2)] == ["x", "y"]


def test_every_video_is_in_the_histogram():
    rng = np.random.default_rng(0)
    rates = rng.uniform(1e4, 1e5, 40)
    videos = pd.DataFrame({"quality": ["c23", "c40"] * 20, "label": [0, 0, 1, 1] * 10, "bitrate": rates})
    fig = pictures.bitrates(videos, "SynthFF")
    assert [round(sum(bar.get_height() for bar in ax.patches)) for ax in fig.axes] == [20, 20]


def test_missed_frames_are_marked():
    table = pd.DataFrame({
        "frame": [0, 5], "status": ["found", "missed"], "x0": [2, -1], "y0": [2, -1], "x1": [9, -1], "y1": [9, -1],
    })
    fig = pictures.track(np.zeros((2, 16, 16, 3), np.uint8), table)
    assert [len(ax.patches) for ax in fig.axes] == [1, 0]
    assert fig.axes[1].get_title() == "frame 5: missed"


def test_same_picture_gives_the_same_bytes(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    paths = [pictures.save_picture(pictures.picture_grid([[picture]]), tmp_path / f"{i}.jpg") for i in (0, 1)]
    assert paths[0].read_bytes() == paths[1].read_bytes()

"""Extraction on real clips of SynthFF, the track, the crop, and a cache that resumes and refuses to be misread."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clips import encode, ramps

from utils.config import FacesConfig, Profile, get_profile
from utils.faces import crops, ffpp
from utils.faces.video import read_frames
from utils.paths import Workspace

CONFIG = FacesConfig(frame_step=10, size=48)


@pytest.fixture(scope="module")
def index():
    """Return the eight videos of one test pair of SynthFF: two people, real and fake, c23 and c40."""
    whole = ffpp.load_index(get_profile("synthff"))
    return whole[whole["pair"] == whole.query("split == 'test'")["pair"].iloc[0]]


@pytest.fixture(scope="module")
def cache(index, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    return folder, crops.extract_all(index, CONFIG, folder, n_jobs=1)


@pytest.fixture
def profile(cache, monkeypatch, tmp_path):
    """Return a profile whose workspace holds the cache."""
    (tmp_path / "data").mkdir()
    (tmp_path / "faces").symlink_to(cache[0])
    monkeypatch.setattr(Profile, "workspace", property(lambda _: Workspace(tmp_path)))
    return replace(get_profile("synthff"), faces=CONFIG)


def test_iou_agrees_with_counting_pixels():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 15, (20, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 15, (20, 2))], axis=1)
    masks = np.zeros((20, 32, 32), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    expected = [(masks[0] & mask).sum() / (masks[0] | mask).sum() for mask in masks]
    assert crops.iou(boxes[0], boxes) == pytest.approx(expected)


def test_track_stays_with_its_face():
    def box(x, side):
        return [x, 0, x + side, side]

    small, large = 200, 0  # two people, left corner of their boxes
    frames = [
        [box(large, 100), box(small, 80)],
        [box(small, 120), box(large + 5, 100)],  # the second face comes nearer: it must not take over
        [box(small, 120)],  # the first is lost
        [],
        [box(large + 9, 100)],
    ]
    track = crops.FaceTrack()
    chosen = [track.choose(np.array(boxes, float).reshape(-1, 4)) for boxes in frames]
    assert [None if c is None else int(c[0]) for c in chosen] == [0, 5, None, None, 9]


def test_lost_track_starts_again():
    track = crops.FaceTrack()
    there, gone = np.array([[0.0, 0, 50, 50]]), np.array([[300.0, 0, 350, 50]])
    assert track.choose(there) is not None
    assert [track.choose(gone) is None for _ in range(track.patience + 1)] == [True] * track.patience + [False]


def test_square_is_centred_and_scaled():
    assert crops.square_box(np.array([10, 20, 110, 100]), 1.3) == (-5, -5, 125, 125)


def test_crop_mirrors_at_the_border():
    frame = np.arange(10 * 8 * 3, dtype=np.uint8).reshape(10, 8, 3)
    assert np.array_equal(crops.crop_face(frame, (1, 2, 6, 7), 5), frame[2:7, 1:6])
    crop = crops.crop_face(frame, (-2, -2, 4, 4), 6)
    assert np.array_equal(crop[2:, 2:], frame[:4, :4])
    assert np.array_equal(crop[2:, 0], frame[:4, 2]) and np.array_equal(crop[2:, 1], frame[:4, 1])
    crop = crops.crop_face(frame, (4, 6, 10, 12), 6)
    assert np.array_equal(crop[:4, :4], frame[6:, 4:]) and np.array_equal(crop[:4, 4], frame[6:, 6])
    assert crops.crop_face(frame, (0, 0, 8, 8), 4).shape == (4, 4, 3)


def test_faces_are_found_on_real_clips(cache, index):
    _, table = cache
    assert list(table.columns) == crops.COLUMNS
    expected = [len(read_frames(path, CONFIG.frame_step)[0]) for path in index["path"]]
    assert table.groupby(["method", "quality", "video_id"]).ngroups == len(index)
    assert len(table) == sum(expected)  # a row a sampled frame, found or not
    assert (table["status"] == "found").mean() >= 0.9
    found = table[table["status"] == "found"]
    assert (found["x1"] - found["x0"] == found["y1"] - found["y0"]).all()
    assert list(found["row"]) == list(range(len(found)))
    assert (table.loc[table["status"] == "missed", ["row", *crops.BOX]] == -1).all(axis=None)


def test_cached_crop_is_the_crop_of_its_frame(cache, profile, index):
    found, images = crops.load_crops(profile)
    assert isinstance(images, np.memmap) and images.shape == (len(found), 48, 48, 3) and images.dtype == np.uint8
    paths = index.set_index(["method", "quality", "video_id"])["path"]
    for face in found.iloc[:: len(found) // 5].itertuples():
        indices, frames = read_frames(paths[face.method, face.quality, face.video_id])
        frame = frames[indices.index(face.frame)]
        expected = crops.crop_face(frame, (face.x0, face.y0, face.x1, face.y1), 48)
        assert np.array_equal(images[face.row], expected)


def test_detector_is_free_to_choose(profile):
    found, _ = crops.load_crops(replace(profile, faces=replace(CONFIG, detector="mmod")))
    assert len(found)


def test_table_survives_the_file(cache):
    folder, table = cache
    pd.testing.assert_frame_equal(crops.read_table(folder), table, check_dtype=False)
    assert set(crops.read_table(folder)["target"]) == set(table["target"])  # "007" stays text


def test_frames_without_a_face_are_recorded_as_missed(tmp_path):
    encode(tmp_path / "clip.mp4", ramps(12, 128, 128))
    table, images = crops.extract_faces(tmp_path / "clip.mp4", FacesConfig(size=32))
    assert list(table["status"]) == ["missed"] * 3 and list(table["frame"]) == [0, 5, 10]
    assert images.shape == (0, 32, 32, 3)


def test_cache_resumes_and_does_nothing_twice(index, tmp_path, monkeypatch):
    two, calls, extract = index.iloc[:2], [], crops.extract_faces

    def fail_on_the_second(path, config):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return extract(path, config)

    monkeypatch.setattr(crops, "extract_faces", fail_on_the_second)
    with pytest.raises(KeyboardInterrupt):
        crops.extract_all(two, CONFIG, tmp_path, n_jobs=1)
    assert not (tmp_path / "faces.json").exists()
    table = crops.extract_all(two, CONFIG, tmp_path, n_jobs=1)
    assert calls == [two["path"].iloc[0], *[two["path"].iloc[1]] * 2]  # the first video is not done again
    again = crops.extract_all(two, CONFIG, tmp_path, n_jobs=1)
    assert len(calls) == 3
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["faces.csv", "faces.json", "faces.npy"]
    crops.extract_all(two, replace(CONFIG, size=32), tmp_path, n_jobs=1)
    assert len(calls) == 5 and np.load(tmp_path / "faces.npy").shape[1] == 32  # other settings: all again


def test_workers_give_the_same_cache(cache, index, tmp_path):
    table = crops.extract_all(index, CONFIG, tmp_path, n_jobs=2)
    pd.testing.assert_frame_equal(table, cache[1])
    assert (tmp_path / "faces.npy").read_bytes() == (cache[0] / "faces.npy").read_bytes()


def test_cnn_detector_agrees_with_hog(index):
    frame = read_frames(index["path"].iloc[0], max_frames=1)[1][0]
    hog, mmod = (crops.detect_faces(frame, name, upsample=1)[0] for name in ("hog", "mmod"))
    assert crops.iou(hog, mmod[None])[0] > 0.5


def test_bad_caches_fail_with_one_clear_line(cache, profile, tmp_path):
    with pytest.raises(FileNotFoundError, match="run notebook 02"):
        crops.read_table(tmp_path / "nothing")
    with pytest.raises(ValueError, match="other settings: run notebook 02_face_extraction with profile synthff"):
        crops.load_crops(replace(profile, faces=replace(CONFIG, size=96)))
    with pytest.raises(ValueError, match="choose hog or mmod"):
        crops.load_detector("haar")
    assert json.loads((cache[0] / "faces.json").read_text())["config"]["size"] == 48

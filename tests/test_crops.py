"""Extraction on real clips of SynthFF, the crop, and a cache that resumes, names what fails and refuses to be misread."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import joblib
import kill_extraction
import numpy as np
import pandas as pd
import pytest
from clips import encode, ramps

from utils.config import PLAIN_FACES, FacesConfig, Profile, get_profile
from utils.faces import cache as files
from utils.faces import crops, decode, detect, ffpp
from utils.faces.video import read_frames
from utils.paths import Workspace
from utils.run import extract

CONFIG = FacesConfig(frame_step=10, size=48, **PLAIN_FACES)
QUICK = FacesConfig(frame_step=10, size=48)


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
    assert found["row"].is_unique and found["row"].is_monotonic_increasing and found["row"].iloc[-1] < len(table)
    assert (table.loc[table["status"] == "missed", ["row", *files.BOX]] == -1).all(axis=None)


def test_cached_crop_is_the_crop_of_its_frame(cache, profile, index):
    found, images = crops.load_crops(profile)
    assert isinstance(images, np.memmap) and images.shape[1:] == (48, 48, 3) and images.dtype == np.uint8
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


def counted(monkeypatch, fail_on=()):
    """Count the videos that are extracted from here on, and let some calls fail as if somebody had stopped the run."""
    calls, plain = [], crops.faces_of

    def faces_of(path, *rest):
        calls.append(path)
        if len(calls) in fail_on:
            raise KeyboardInterrupt
        return plain(path, *rest)

    monkeypatch.setattr(crops, "faces_of", faces_of)
    return calls


def test_cache_resumes_and_does_nothing_twice(index, tmp_path, monkeypatch):
    two, calls = index.iloc[:2], counted(monkeypatch, fail_on=(2,))
    with pytest.raises(KeyboardInterrupt):
        crops.extract_all(two, CONFIG, tmp_path, n_jobs=1)
    assert not (tmp_path / "faces.json").exists()
    table = crops.extract_all(two, CONFIG, tmp_path, n_jobs=1)
    assert calls == [two["path"].iloc[0], *[two["path"].iloc[1]] * 2]  # the first video is not done again
    again = crops.extract_all(two, CONFIG, tmp_path, n_jobs=1)
    assert len(calls) == 3
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    names = {"faces.csv", "faces.json", "faces.npy", "plan.json", "videos", ".lock"}
    assert {p.name for p in tmp_path.iterdir()} == names
    crops.extract_all(two, replace(CONFIG, size=32), tmp_path, n_jobs=1)
    assert len(calls) == 5 and np.load(tmp_path / "faces.npy").shape[1] == 32  # other settings: all again


def test_new_and_changed_videos_alone_are_extracted(index, tmp_path, monkeypatch):
    some = index.iloc[:3].copy()
    for place in (0, 1):
        shutil.copy(some["path"].iloc[place], tmp_path / f"{place}.mp4")
        some.iloc[place, some.columns.get_loc("path")] = str(tmp_path / f"{place}.mp4")
    folder, calls = tmp_path / "faces", counted(monkeypatch)
    crops.extract_all(some.iloc[:2], CONFIG, folder, n_jobs=1)
    crops.extract_all(some, CONFIG, folder, n_jobs=1)
    assert calls == list(some["path"])  # the array has grown by the third
    encode(tmp_path / "1.mp4", np.concatenate([read_frames(some["path"].iloc[2])[1]] * 2))  # more frames than there were
    table = crops.extract_all(some, CONFIG, folder, n_jobs=1)
    assert calls[3:] == [some["path"].iloc[1]]
    fresh = crops.extract_all(some, CONFIG, tmp_path / "fresh", n_jobs=1)
    pd.testing.assert_frame_equal(table.drop(columns="row"), fresh.drop(columns="row"))
    rows = [part.loc[part["status"] == "found", "row"] for part in (table, fresh)]
    arrays = [np.load(place / "faces.npy", mmap_mode="r") for place in (folder, tmp_path / "fresh")]
    assert np.array_equal(arrays[0][rows[0]], arrays[1][rows[1]])


def test_settings_that_change_no_crop_leave_a_cache_alone(index, tmp_path, monkeypatch):
    calls = counted(monkeypatch)
    crops.extract_all(index.iloc[:1], CONFIG, tmp_path, n_jobs=1)
    crops.extract_all(index.iloc[:1], replace(CONFIG, sampling="spread", least_match=0.5), tmp_path, n_jobs=1)
    assert len(calls) == 1  # all frames are sampled, none is followed
    old = {
        "frame_step": 10,
        "max_frames": None,
        "detector": "hog",
        "upsample": 1,
        "scale": 1.3,
        "size": 48,
        "track_patience": 3,
    }
    assert json.loads((tmp_path / "faces.json").read_text())["config"] == old  # caches of before these settings stay valid


def test_crops_of_the_plain_settings_are_those_of_a_plain_loop(cache, index):
    """A literal loop: every frame decoded, the sampled ones to RGB, dlib on each, the same face, Pillow."""
    folder, table = cache
    array, step = np.load(folder / "faces.npy"), CONFIG.frame_step
    for video in index.iloc[::3].itertuples():
        track, rows, squares, faces = detect.FaceTrack(3), [], [], []
        with av.open(video.path) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number % step == 0:
                    rgb = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
                    box = track.choose(detect.detect_faces(rgb, "hog", 1))
                    if box is not None:
                        rows.append(number)
                        squares.append(crops.square_box(box, 1.3))
                        faces.append(crops.crop_face(rgb, squares[-1], 48))
        of = table[(table["video_id"] == video.video_id) & (table["quality"] == video.quality) & (table["status"] == "found")]
        assert list(of["frame"]) == rows and of[files.BOX].to_numpy().tolist() == [list(square) for square in squares]
        assert np.array_equal(array[of["row"]], faces)


def test_quick_settings_cut_nearly_the_same(index):
    path = index["path"].iloc[0]
    (plain, slow), (quick, fast) = (crops.extract_faces(path, replace(config, frame_step=4)) for config in (CONFIG, QUICK))
    assert (
        list(plain["frame"]) == list(quick["frame"])
        and (quick["status"] == "found").sum() >= (plain["status"] == "found").sum()
    )
    pairs = zip(plain[files.BOX].to_numpy(float), quick[files.BOX].to_numpy(float), strict=True)
    assert np.mean([detect.iou(a, b[None])[0] for a, b in pairs if a[0] >= 0]) > 0.7
    assert fast.shape[1:] == slow.shape[1:]


@pytest.mark.parametrize("square", [(40, 30, 160, 150), (-30, -20, 90, 100), (200, 180, 300, 280), (-9, 100, 251, 360)])
def test_quick_crop_is_the_crop_of_the_whole_frame(index, square):
    ((_, picture),) = decode.sample(index["path"].iloc[0], max_frames=1)
    quick, plain = crops.crop_picture(picture, square, 64), crops.crop_face(picture.rgb, square, 64)
    assert np.abs(quick.astype(int) - crops.crop_face(picture.rgb, square, 64, quick=True)).max() <= 1
    assert np.abs(quick.astype(int) - plain).mean() < 1


def test_the_mask_video_tells_which_of_two_faces(index, tmp_path):
    faces = read_frames(index.query("label == 0")["path"].iloc[0])[1][:12]
    height, width = faces.shape[1:3]
    two = np.concatenate([faces, faces[:, :, ::-1]], axis=2)
    left, right = np.zeros_like(two), np.zeros_like(two)
    left[:, height // 4 : -height // 4, width // 4 : -width // 4 - width] = 255
    right[:, :, width:] = left[:, :, :width]
    paths = [
        str(encode(tmp_path / f"{name}.mp4", frames, 18)) for name, frames in (("two", two), ("left", left), ("right", right))
    ]
    centre = {}
    for mask in ("", *paths[1:]):
        table, _ = crops.extract_faces(paths[0], replace(QUICK, frame_step=3), mask)
        assert (table["status"] == "found").all() and len(table) == 4
        centre[mask] = (table["x0"] + table["x1"]) / 2
    assert (centre[paths[1]] < width).all() and (centre[paths[2]] > width).all()
    table, _ = crops.extract_faces(paths[0], replace(QUICK, frame_step=3, masks=False), paths[2])
    assert np.array_equal((table["x0"] + table["x1"]) / 2, centre[""])
    index = pd.DataFrame([dict.fromkeys(crops.VIDEO_COLUMNS, "x") | {"path": paths[0], "mask": paths[2]}])
    assert (crops.extract_all(index, QUICK, tmp_path / "faces", n_jobs=1)["x0"] > width // 2).all()


def broken(index, folder, **paths):
    """Return the first videos of an index, some of them replaced by bad files."""
    some = index.iloc[:4].copy()
    for place, name in enumerate(("good", "damaged", "empty", "gone")):
        some.iloc[place, some.columns.get_loc("path")] = str(folder / f"{name}.mp4")
    whole = Path(index["path"].iloc[0]).read_bytes()
    for name, data in (("good", whole), ("damaged", whole[:2000]), ("empty", b"")):
        (folder / f"{name}.mp4").write_bytes(data)
    return some


def test_bad_videos_are_named_the_rest_goes_on_and_they_are_tried_again(index, tmp_path, monkeypatch):
    some, folder = broken(index, tmp_path), tmp_path / "faces"
    table = crops.extract_all(some, CONFIG, folder, n_jobs=1)
    failures = crops.read_failures(folder)
    assert list(failures.columns) == [*crops.VIDEO_COLUMNS, "path", "error"]
    assert list(failures["path"]) == list(some["path"][1:])
    told = zip(failures["error"], ("damaged.mp4", "empty.mp4", "no video .*gone.mp4"), strict=True)
    assert all(pd.Series(error).str.contains(words).all() for error, words in told)
    assert set(table["video_id"]) == {some["video_id"].iloc[0]} and len(table) == 5
    for name in ("damaged", "gone"):
        shutil.copy(tmp_path / "good.mp4", tmp_path / f"{name}.mp4")
    calls = counted(monkeypatch)
    table = crops.extract_all(some, CONFIG, folder, n_jobs=1)
    assert calls == list(some["path"][1:])  # those that failed, and no other
    assert list(crops.read_failures(folder)["path"]) == [some["path"].iloc[2]] and len(table) == 15
    crops.extract_all(some.drop(index=some.index[2]), CONFIG, folder, n_jobs=1)
    assert len(calls) == 3 and crops.read_failures(folder).empty and not (folder / "failures.csv").exists()
    with pytest.raises(ValueError, match="none of 1 videos can be read: see .*failures.csv"):
        crops.extract_all(some.iloc[2:3], CONFIG, tmp_path / "nothing", n_jobs=1)


def test_the_command_tells_totals_failures_and_its_exit_code(index, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Profile, "workspace", property(lambda _: Workspace(tmp_path)))
    some = broken(index, tmp_path)
    monkeypatch.setattr(ffpp, "load_index", lambda profile: some)
    assert extract.main(["--jobs", "1"]) == 1
    out, err = capsys.readouterr()
    assert out == f"1 of 4 videos read, 6 frames sampled, 6 faces in {tmp_path / 'faces'}\n"
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 3 and "damaged.mp4" in failed[0] and some["video_id"].iloc[1] in failed[0]
    monkeypatch.setattr(ffpp, "load_index", lambda profile: some.iloc[:1])
    assert extract.main(["--jobs", "1"]) == 0 and "1 of 1 videos read" in capsys.readouterr().out
    assert extract.main(["--profile", "nothing"]) == 2
    with pytest.raises(SystemExit) as ended:
        extract.main(["--jobs", "0"])
    assert ended.value.code == 2 and capsys.readouterr().err.count("error: ") == 2


def test_damaged_files_of_a_cache_are_made_again(index, tmp_path, monkeypatch):
    two, calls = index.iloc[:2], counted(monkeypatch)
    table = crops.extract_all(two, CONFIG, tmp_path, n_jobs=1)
    done, text = sorted((tmp_path / "videos").iterdir())[0], (tmp_path / "faces.csv").read_text()
    damaged = {"faces.json": "{", "plan.json": "{}", done.relative_to(tmp_path): "[]", "faces.csv": text[: len(text) // 2]}
    extracted = {"faces.json": 0, "plan.json": 2, done.relative_to(tmp_path): 1, "faces.csv": 0}
    for name, content in damaged.items():
        calls.clear()
        (tmp_path / name).write_text(content)
        if name not in ("faces.json", "faces.csv"):
            (tmp_path / "faces.json").unlink()  # as if the run had not ended
        again = crops.extract_all(two, CONFIG, tmp_path, n_jobs=1)
        pd.testing.assert_frame_equal(again, table)
        assert len(calls) == extracted[name] and (tmp_path / "faces.csv").read_text() == text


def test_what_is_no_whole_cache_is_not_read(cache, profile, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(cache[0], folder)
    (tmp_path / "faces").unlink()
    (tmp_path / "faces").symlink_to(folder)
    text, told = (folder / "faces.csv").read_text(), json.loads((folder / "faces.json").read_text())
    lines, count = text.splitlines(keepends=True), len(crops.load_crops(profile)[0])
    (folder / "faces.csv").write_text("".join(lines[: len(lines) // 2]))
    with pytest.raises(ValueError, match="faces.csv is not what was written: run notebook 02"):
        crops.load_crops(profile)
    del told["table"]  # of an older version, that kept no checksum
    (folder / "faces.json").write_text(json.dumps(told))
    (folder / "faces.csv").write_text(text)
    assert len(crops.load_crops(profile)[0]) == count
    (folder / "faces.csv").write_text(text + lines[-1].rsplit(",", 1)[0] + ",999\n")
    with pytest.raises(ValueError, match="faces.npy does not hold the faces of faces.csv beside it: remove "):
        crops.load_crops(profile)
    (folder / "faces.npy").unlink()
    with pytest.raises(FileNotFoundError, match="no .*faces.npy: run notebook 02"):
        crops.load_crops(profile)
    (folder / "faces.json").write_text("{")
    with pytest.raises(ValueError, match="unfinished"):
        crops.load_crops(profile)


def test_two_processes_do_not_fill_one_cache(index, tmp_path):
    with files.locked(tmp_path):
        code = f"from utils.faces import cache; from pathlib import Path\nwith cache.locked(Path({str(tmp_path)!r})): pass"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert other.returncode == 1 and f"another process extracts faces to {tmp_path}: wait" in other.stderr
    crops.extract_all(index.iloc[:1], CONFIG, tmp_path, n_jobs=1)  # it is free again


def test_a_full_disk_is_told_beforehand_and_stops_the_run(index, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match="faces take up to .* GB .* free some"):
        crops.extract_all(index.iloc[:1], CONFIG, tmp_path, n_jobs=1)
    monkeypatch.undo()
    monkeypatch.setattr(files.os, "pwrite", lambda *_: 7)
    with pytest.raises(OSError, match="no space left for .*faces.npy"):
        crops.extract_all(index.iloc[:1], CONFIG, tmp_path, n_jobs=1)
    assert not (tmp_path / "faces.json").exists()


def test_the_array_takes_no_room_for_faces_that_are_not_there(index, tmp_path):
    crops.extract_all(index.iloc[:1], replace(QUICK, size=128, max_frames=200), tmp_path, n_jobs=1)
    array = tmp_path / "faces.npy"
    assert np.load(array, mmap_mode="r").shape[0] == 200
    assert os.stat(array).st_blocks * 512 < array.stat().st_size / 10


@pytest.mark.slow
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path):
    count, rng = 12, np.random.default_rng(0)
    kill_extraction.finish(kill_extraction.begin(tmp_path / "undisturbed", count, jobs=1))
    told = kill_extraction.round_of(tmp_path / "killed", rng, count, jobs=1, again=3)
    assert told.endswith(f"of {count} videos done")
    assert kill_extraction.fingerprint(tmp_path / "killed") == kill_extraction.fingerprint(tmp_path / "undisturbed")


def test_another_backend_of_joblib_does_the_work(index, cache, tmp_path):
    with joblib.parallel_config(backend="threading"):
        table = crops.extract_all(index.iloc[:4], CONFIG, tmp_path, n_jobs=2)
    pd.testing.assert_frame_equal(table, cache[1].iloc[: len(table)])


def test_workers_give_the_same_cache(cache, index, tmp_path):
    table = crops.extract_all(index, CONFIG, tmp_path, n_jobs=2)
    pd.testing.assert_frame_equal(table, cache[1])
    assert (tmp_path / "faces.npy").read_bytes() == (cache[0] / "faces.npy").read_bytes()


@pytest.mark.parametrize("damage", ["empty", "short", "shorter than its header says", "slots", "rows"])
def test_a_cache_whose_parts_do_not_fit_is_filled_anew(index, tmp_path, damage):
    two, array, plan = index.iloc[:2], tmp_path / files.ARRAY, tmp_path / files.PLAN
    table, whole = crops.extract_all(two, CONFIG, tmp_path, n_jobs=1), array.read_bytes()
    done = sorted((tmp_path / files.VIDEOS).iterdir())[0]
    if damage == "empty":
        array.write_bytes(b"")
    elif damage == "short":
        np.save(array, np.load(array)[:2])
    elif damage == "shorter than its header says":
        array.write_bytes(whole[: len(whole) // 2])
    elif damage == "slots":
        plan.write_text(plan.read_text().replace('": [0, ', '": ["0", '))
    else:
        done.write_text(json.dumps(json.loads(done.read_text()) | {"rows": 5}))
    (tmp_path / files.RECIPE).unlink()  # as if the run had not ended
    more = crops.extract_all(index.iloc[:3], CONFIG, tmp_path, n_jobs=1)
    assert not (tmp_path / files.FAILURES).exists() and len(more) == 3 * len(table) // 2
    pd.testing.assert_frame_equal(crops.extract_all(two, CONFIG, tmp_path, n_jobs=1)[["video_id", "frame", "x0"]],
                                  table[["video_id", "frame", "x0"]])  # fmt: skip


def test_bad_caches_fail_with_one_clear_line(cache, profile, tmp_path):
    with pytest.raises(FileNotFoundError, match="run notebook 02"):
        crops.read_table(tmp_path / "nothing")
    with pytest.raises(ValueError, match="other settings: run notebook 02_face_extraction.* with profile synthff"):
        crops.load_crops(replace(profile, faces=replace(CONFIG, size=96)))
    assert json.loads((cache[0] / "faces.json").read_text())["config"]["size"] == 48


def test_crops_of_blazeface_depend_on_how_its_boxes_were_fitted(monkeypatch):
    usual, other = FacesConfig(**PLAIN_FACES), FacesConfig(detector="blazeface")
    before = [crops.settings_of(config) for config in (usual, other)]
    monkeypatch.setattr(crops, "BLAZEFACE", replace(crops.BLAZEFACE, scale=1.0))
    assert crops.settings_of(usual) == before[0] and crops.settings_of(other) != before[1]


def test_crops_depend_on_how_a_face_is_followed_where_that_is_not_the_usual(monkeypatch):
    usual = crops.settings_of(FacesConfig())
    monkeypatch.setattr(crops, "FOLLOW", replace(crops.FOLLOW, around=1.0))
    assert "follow" not in usual and crops.settings_of(FacesConfig())["follow"]["around"] == 1.0

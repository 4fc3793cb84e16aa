"""Decoding of sampled frames alone, and odd videos: padded rows, turned phones, odd sizes, 10 bit, other containers."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import encode, ramps
from PIL import Image

from utils.faces import decode, video


def noisy(count: int = 40, height: int = 64, width: int = 96) -> np.ndarray:
    """Return moving texture, so that an encoder finds work for B pictures."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (height, width + count, 3), dtype=np.uint8), (0, 0), 2)
    return np.stack([wide[:, n : n + width] for n in range(count)])


def write(path, frames, codec="libx264", pix_fmt="yuv420p", options=None, times=None, degrees=0, flip=False):
    movie = path.suffix in (".mp4", ".mov")
    with av.open(str(path), "w", options={"movflags": "faststart"} if movie else {}) as container:  # the header comes first
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        if degrees or flip:
            stream.set_display_rotation(degrees, hflip=flip)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times:
                picture.pts = times[number]
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def literal(path) -> list[np.ndarray]:
    """Return every frame in RGB, by the simplest loop there is."""
    with av.open(str(path)) as container:
        return [np.ascontiguousarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


GROUPS = {
    "short": "keyint=10:min-keyint=10",
    "long": "keyint=250",
    "open": "keyint=10:open-gop=1",
    "pyramid": "b-pyramid=strict:bframes=4",
}


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("container", ["mp4", "mkv", "h264"])
def test_leaving_pictures_out_changes_no_pixel(tmp_path, groups, container):
    path = write(tmp_path / f"clip.{container}", noisy(), options={"x264-params": GROUPS[groups]})
    every = literal(path)
    assert len(every) == 40
    for how in ({"step": 1}, {"step": 5}, {"step": 7, "max_frames": 2}, {"step": 3, "max_frames": 3, "sampling": "spread"}):
        sampled = list(decode.sample(path, **how))
        assert [number for number, _ in sampled] == decode.choose(40, **how)
        assert all(np.array_equal(picture.rgb, every[number]) for number, picture in sampled)


def test_fewer_pictures_are_decoded_than_there_are(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mp4", noisy(), options={"x264-params": "keyint=10:min-keyint=10:scenecut=0"})
    packets = decode.scan(path)
    assert packets.quick and sum(packets.refresh) == 4
    stamps = packets.shown
    needed = decode._needed(packets, {stamps[0], stamps[32]})
    assert sum(needed[:10]) == 1 and not any(needed[10:30]) and 1 <= sum(needed[30:]) <= 10
    monkeypatch.setattr(decode, "_decode_all", lambda *_: pytest.fail("everything was decoded"))
    assert [number for number, _ in decode.pictures_at(path, [0, 32])] == [0, 32]


def test_packets_without_a_picture_are_noticed(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mp4", noisy(12))
    packets = decode.scan(path)
    lying = packets._replace(stamps=[*packets.stamps, 10**9], refresh=[*packets.refresh, False])  # as a header may
    assert [number for number, _ in decode.pictures_at(path, [0, 5, 12], lying)] == [0, 5]
    gap = decode._decode_needed  # a decoder that loses the second wanted picture
    monkeypatch.setattr(decode, "_decode_needed", lambda *a: (pair for pair in gap(*a) if pair[0] != 5))
    every = literal(path)
    found = list(decode.pictures_at(path, [0, 5, 9], packets))
    assert [number for number, _ in found] == [0, 5, 9] and all(np.array_equal(p.rgb, every[n]) for n, p in found)


def test_spread_frames_lie_over_the_whole_clip():
    assert decode.choose(100, 5, 4, "spread") == [0, 30, 65, 95]
    assert decode.choose(100, 5, 4, "first") == [0, 5, 10, 15]
    assert decode.choose(12, 5, 32, "spread") == decode.choose(12, 5) == [0, 5, 10]
    assert decode.choose(7, 5, 1, "spread") == [0] and decode.choose(0, 5) == []
    for bad, words in (((9, 0), "at least 1"), ((9, 1, 0), "at least 1"), ((9, 1, 1, "last"), "choose first or spread")):
        with pytest.raises(ValueError, match=words):
            decode.choose(*bad)


@pytest.mark.parametrize("width", [426, 96])
def test_rows_are_contiguous_whatever_the_padding(tmp_path, width):
    path = encode(tmp_path / "clip.mp4", noisy(3, 240, width), crf=10)
    with av.open(str(path)) as container:
        padded = next(container.decode(video=0)).planes[0].line_size > width
    assert padded or width == 96
    ((_, picture),) = decode.sample(path, max_frames=1)
    for array in (picture.rgb, picture.luma, video.read_frames(path)[1][0], next(iter(video.frames_at(path, [0]).values()))):
        assert array.flags["C_CONTIGUOUS"] and array.shape[:2] == (240, width)
    assert np.abs(picture.rgb.astype(int) - noisy(3, 240, width)[0]).mean() < 8
    grey = picture.rgb @ np.array([0.299, 0.587, 0.114]) * 219 / 255 + 16  # BT.601, limited range
    assert np.abs(picture.luma - grey).mean() < 2


@pytest.mark.parametrize(("degrees", "flip"), [(90, False), (-90, False), (180, False), (0, True), (90, True), (-90, True)])
def test_pictures_are_turned_upright(tmp_path, degrees, flip):
    corner = np.zeros((4, 64, 96, 3), np.uint8)
    corner[:, :16, :32] = 255  # top left, longer than high
    path = write(tmp_path / "clip.mp4", corner, degrees=degrees, flip=flip)
    expected = np.rot90(literal(path)[0], degrees // 90)  # counterclockwise
    expected = expected[:, ::-1] if flip else expected
    ((_, picture),) = decode.sample(path, max_frames=1)
    assert picture.frame.side_data.get("DISPLAYMATRIX") is not None
    assert picture.shape == expected.shape[:2] == picture.luma.shape
    assert np.array_equal(picture.rgb, expected)
    assert np.array_equal(picture.cut(1, 2, 40, 50), expected[2:50, 1:40])
    assert np.abs(picture.reduced(*(side // 2 for side in picture.shape)) - expected[::2, ::2].astype(int)).mean() < 4


ODD = {
    "odd.mkv": ("ffv1", "yuv420p", (63, 95)),
    "ten_bit.mp4": ("libx264", "yuv420p10le", (64, 96)),
    "chroma.mp4": ("libx264", "yuv444p", (63, 95)),
    "clip.avi": ("mpeg4", "yuv420p", (64, 96)),
    "clip.mpg": ("mpeg1video", "yuv420p", (64, 96)),
    "clip.mov": ("libx264", "yuv422p", (64, 96)),
    "clip.mkv": ("libx265", "yuv420p", (64, 96)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_videos_are_read(tmp_path, name):
    codec, pix_fmt, (height, width) = ODD[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {codec}")
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {"b": "2M"}
    path = write(tmp_path / name, ramps(12, height, width), codec, pix_fmt, options)
    every = literal(path)
    indices, frames = video.read_frames(path, 5)
    assert indices == [0, 5, 10] and frames.shape == (3, height, width, 3)
    assert np.array_equal(frames, np.stack(every)[[0, 5, 10]])
    ((_, picture),) = decode.sample(path, max_frames=1)
    assert picture.luma.shape == (height, width) and picture.luma.dtype == np.uint8
    assert np.array_equal(picture.cut(3, 5, 40, 50), every[0][5:50, 3:40])
    assert picture.reduced(20, 30).shape == (20, 30, 3)


def test_variable_frame_rates_are_numbered_as_shown(tmp_path):
    times = [0, 1, 2, 7, 8, 20, 21, 22, 40, 41, 55, 90]
    path = write(tmp_path / "clip.mkv", ramps(), times=times)
    indices, frames = video.read_frames(path, 5)
    assert indices == [0, 5, 10] and np.array_equal(frames, np.stack(literal(path))[indices])


def test_cut_is_the_part_of_the_whole_frame(tmp_path):
    path = encode(tmp_path / "clip.mp4", noisy(2, 120, 160))
    ((_, picture),) = decode.sample(path, max_frames=1)
    for region in ((0, 0, 160, 120), (31, 17, 98, 90), (0, 60, 33, 120), (151, 3, 160, 7)):
        x0, y0, x1, y1 = region
        part = decode.Picture(picture.frame).cut(*region)
        assert np.abs(part.astype(int) - picture.rgb[y0:y1, x0:x1]).max() <= 1


def test_several_threads_give_the_same_pictures(tmp_path):
    path = write(tmp_path / "clip.mp4", noisy())
    for (a, one), (b, two) in zip(decode.sample(path, 5), decode.sample(path, 5, threads=2), strict=True):
        assert a == b and np.array_equal(one.rgb, two.rgb)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    refused = {tmp_path / "pipe.mp4": "pipe", tmp_path: "folder", tmp_path / "loop.mp4": "cannot read"}
    refused |= {Path("/dev/zero"): "device", tmp_path / ("x" * 300): "too long", "a\0b.mp4": "null"}
    for path, reason in refused.items():
        with pytest.raises(ValueError, match=f"{reason}.*: give a video file"):
            decode.scan(path)
    with pytest.raises(FileNotFoundError, match="no video .*gone.mp4"):
        decode.scan(tmp_path / "gone.mp4")


def test_a_file_that_may_not_be_read_is_one_clear_line(tmp_path, monkeypatch):
    clip = write(tmp_path / "clip.mp4", noisy())

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(decode, "open", refuse, raising=False)  # root may read everything
    with pytest.raises(ValueError, match=r"cannot read .*clip.mp4 \(Permission denied\): see who may read it"):
        decode.scan(clip)


@pytest.mark.parametrize(("codec", "box"), [("libx264", b"avcC"), ("libx265", b"hvcC")])
def test_a_header_that_is_too_short_is_no_header(tmp_path, codec, box):
    options = {"x265-params": "log-level=error"} if codec == "libx265" else {}
    whole = bytearray(write(tmp_path / "clip.mp4", noisy(), codec, options=options).read_bytes())
    start = whole.find(box) - 4
    size = int.from_bytes(whole[start : start + 4], "big")
    for kept in (1, 4, 21):
        if kept + 16 < size:
            cut = whole.copy()
            cut[start : start + 4] = (8 + kept).to_bytes(4, "big")
            cut[start + 8 + kept : start + 16 + kept] = (size - 8 - kept).to_bytes(4, "big") + b"free"
            (tmp_path / "cut.mp4").write_bytes(cut)
            with contextlib.suppress(ValueError):  # what FFmpeg refuses is one line, too
                decode.scan(tmp_path / "cut.mp4")
    assert not decode._is_refresh(b"\0\0\0\1\x65", "h264", b"\1\0\0\0") and not decode._is_refresh(b"", "hevc", b"\1" * 21)


def test_names_are_no_addresses_and_lists_of_files_are_not_followed(tmp_path, monkeypatch):
    clip = write(tmp_path / "clip.mp4", noisy())
    odd = tmp_path / "concat:a|b %03d.mp4"
    shutil.copy(clip, odd)
    monkeypatch.chdir(tmp_path)
    assert len(decode.scan(odd.name).stamps) == len(decode.scan(clip).stamps)
    playlist = "#EXTM3U\n#EXTINF:9,\nclip.mp4\n#EXT-X-ENDLIST\n"
    lists = {"list.mp4": "ffconcat version 1.0\nfile clip.mp4\n", "list.m3u8": playlist}
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=f"cannot read {name}"):
            decode.scan(name)


def test_pictures_that_are_too_large_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MOST_PIXELS", 64 * 64)
    for side, fits in ((64, True), (80, False)):
        path = tmp_path / f"{side}.png"
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(path)
        if fits:
            assert [picture.shape for _, picture in decode.sample(path)] == [(side, side)]
            continue
        with pytest.raises(ValueError, match="80.png has no pictures, or some of more than 4,096 pixels"):
            list(decode.sample(path))


def test_a_cut_off_video_is_refused_and_its_header_not_believed(tmp_path):
    whole, part = write(tmp_path / "whole.mp4", noisy()), tmp_path / "part.mp4"
    part.write_bytes(whole.read_bytes()[: round(0.8 * whole.stat().st_size)])
    assert video.probe(part)["frames"] == 40 > len(decode.scan(part).stamps) > 1
    with pytest.raises(ValueError, match="cannot read .*part.mp4.*again"):
        video.read_frames(part)

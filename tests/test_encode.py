"""Qualities that a tree lacks: written by FFmpeg's encoders, the same bytes each time, damage told."""

from __future__ import annotations

import resource
import shutil
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import encode, ramps

from utils.config import CRF, ENCODINGS, UNSEEN, DataConfig, Encoding, get_profile
from utils.faces import ffpp
from utils.faces.encode import encode_all, reencode
from utils.faces.layout import video_path
from utils.faces.video import read_frames
from utils.paths import SYNTHFF


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A clip of moving noise over ramps, 96x64, nearly lossless."""
    rng = np.random.default_rng(0)
    frames = np.clip(ramps(8, 64, 96).astype(int) + rng.integers(-30, 30, (8, 64, 96, 3)), 0, 255).astype(np.uint8)
    return encode(tmp_path_factory.mktemp("clips") / "clip.mp4", frames, crf=4)


@pytest.mark.parametrize("quality", ENCODINGS)
def test_every_encoding_keeps_the_frames_and_gives_the_same_bytes_again(clip, tmp_path, quality):
    how = ENCODINGS[quality]
    for name in ("one.mp4", "two.mp4"):
        reencode(clip, tmp_path / name, how)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mp4", "two.mp4"]  # nothing temporary is left
    with av.open(str(tmp_path / "one.mp4")) as container:
        stream = container.streams.video[0]
        codec = {"libx264": "h264", "libx265": "hevc", "libvpx-vp9": "vp9"}[how.codec]
        assert stream.codec_context.name in (codec, f"lib{codec}", "libvpx-vp9")
        assert (stream.width, stream.height) == (int(96 * how.scale), int(64 * how.scale))
        assert sum(1 for _ in container.decode(stream)) == 8


@pytest.mark.parametrize("codec", sorted({how.codec for how in ENCODINGS.values()}))
@pytest.mark.parametrize("scale", [0.44, 0.59])  # 112 and 150 px
def test_a_video_gives_the_same_bytes_whatever_the_memory_held(codec, scale, tmp_path):
    rng, found = np.random.default_rng(0), set()
    for _ in range(6):
        rubbish = [rng.integers(0, 256, int(size), dtype=np.uint8) for size in rng.integers(1000, 3_000_000, 20)]
        del rubbish  # the encoder gets this memory next
        reencode(video_path(SYNTHFF[1], "original", "c23", "000"), tmp_path / "out.mp4", Encoding(codec, 29, scale))
        found.add((tmp_path / "out.mp4").read_bytes())
    assert len(found) == 1


def test_odd_sides_lose_a_row_and_a_column_and_nothing_is_resampled(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(60, 200, (3, 33, 47, 1), dtype=np.uint8).repeat(3, axis=3)
    with av.open(str(tmp_path / "odd.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 47, 33, "yuv444p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv444p")))
        container.mux(stream.encode())
    reencode(tmp_path / "odd.mkv", tmp_path / "even.mp4", Encoding("libx264", 2))
    written = read_frames(tmp_path / "even.mp4")[1]
    assert written.shape == (3, 32, 46, 3)
    assert np.abs(written.astype(int) - frames[:, :32, :46]).mean() < 3  # of noise that a resampled picture would blur


def test_what_is_called_unseen_is_no_quality_of_the_training_and_loses_more_than_c23(clip, tmp_path):
    assert not set(UNSEEN) & set(CRF) and not set(UNSEEN.values()) & {ENCODINGS[quality] for quality in CRF}
    sizes = {}
    for quality, how in ENCODINGS.items():
        reencode(clip, tmp_path / f"{quality}.mp4", how)
        sizes[quality] = (tmp_path / f"{quality}.mp4").stat().st_size
    assert max(sizes[quality] for quality in UNSEEN) < sizes["c23"] and sizes["crf46"] < sizes["crf33"]


def test_twice_is_the_second_time_through_the_first_ones_file(clip, tmp_path):
    reencode(clip, tmp_path / "twice.mp4", Encoding(crf=36, times=2))
    reencode(clip, tmp_path / "once.mp4", Encoding(crf=36))
    reencode(tmp_path / "once.mp4", tmp_path / "again.mp4", Encoding(crf=36))
    pixels = [read_frames(tmp_path / name)[1] for name in ("twice.mp4", "again.mp4", "once.mp4")]
    assert np.array_equal(pixels[0], pixels[1]) and not np.array_equal(pixels[0], pixels[2])


def test_damage_and_unknown_encoders_are_told(clip, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="cannot read .*bad.mp4.*download or build it again"):
        reencode(tmp_path / "bad.mp4", tmp_path / "out.mp4", ENCODINGS["c40"])
    with pytest.raises(ValueError, match="unknown encoder 'mpeg1': choose one of libx264"):
        reencode(clip, tmp_path / "out.mp4", Encoding("mpeg1"))
    failed = encode_all([(tmp_path / "none.mp4", tmp_path / "out.mp4", "vp9"), (clip, tmp_path / "fine.mp4", "vp9")], n_jobs=1)
    assert list(failed) == [str(tmp_path / "none.mp4")] and (tmp_path / "fine.mp4").is_file()
    assert not (tmp_path / "out.mp4").exists()


def test_pictures_close_to_each_other_keep_their_times(clip, tmp_path):
    """A variable frame rate: on a steady clock of the mean rate two pictures would have one time."""
    times, source = [0, 33, 67, 100, 110, 167], tmp_path / "source.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for frame, time in zip(ramps(len(times)), times, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    for how in (Encoding(crf=30), Encoding("libvpx-vp9", crf=40), Encoding("libx265", crf=30)):
        reencode(source, tmp_path / "out.mp4", how)
        with av.open(str(tmp_path / "out.mp4")) as container:
            assert [round(1000 * frame.time) for frame in container.decode(video=0)] == times


@pytest.mark.parametrize("wide", [1, 2])
@pytest.mark.parametrize(("degrees", "flip"), [(90, False), (-90, True), (0, True), (0, False)])
def test_what_is_turned_or_stretched_is_written_as_it_is_shown(tmp_path, degrees, flip, wide):
    source, corner = tmp_path / "source.mp4", ramps(6)
    corner[:, :16, :32] = 255  # top left, longer than high
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt, stream.sample_aspect_ratio = 96, 64, "yuv420p", Fraction(wide)
        if degrees or flip:
            stream.set_display_rotation(degrees, hflip=flip)
        for frame in corner:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    numbers, shown = read_frames(source)
    assert shown.shape[1:3] == ((96 * wide, 64) if degrees else (64, 96 * wide))
    for how in (Encoding(crf=10), Encoding(crf=10, scale=0.5), Encoding("libvpx-vp9", crf=10), Encoding(crf=10, times=2)):
        reencode(source, tmp_path / "out.mp4", how)
        again, written = read_frames(tmp_path / "out.mp4")
        assert again == numbers and written.shape[1:3] == tuple(int(how.scale * side) for side in shown.shape[1:3])
        step = round(1 / how.scale)
        assert np.abs(written - shown[:, ::step, ::step].astype(int)).mean() < 5
        with av.open(str(tmp_path / "out.mp4")) as container:
            assert container.streams.video[0].sample_aspect_ratio in (None, 0, 1)
            assert [frame.rotation for frame in container.decode(video=0)] == [0] * 6


def test_what_cannot_be_written_is_no_fault_of_the_source(clip, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(OSError, match="cannot write .*out.mp4 .*make room there") as told:
            encode_all([(clip, tmp_path / "out.mp4", "c23")], n_jobs=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "clip.mp4" not in str(told.value) and not isinstance(told.value, ValueError) and not list(tmp_path.iterdir())


def test_a_video_is_made_anew_where_its_source_or_the_encoding_has_changed(clip, tmp_path, monkeypatch):
    source, made = tmp_path / "source.mp4", tmp_path / "made" / "one.mp4"
    shutil.copy(clip, source)

    def encoded() -> bool:
        before = made.stat().st_mtime_ns if made.is_file() else 0
        assert encode_all([(source, made, "c40")], n_jobs=1) == {}
        return made.stat().st_mtime_ns != before

    assert encoded() and not encoded()
    made.with_suffix(".json").unlink()  # from before there were such files
    assert not encoded() and made.with_suffix(".json").is_file()
    source.touch()
    assert encoded() and not encoded()
    made.with_suffix(".json").write_text("{")
    assert encoded() and not encoded()
    monkeypatch.setitem(ENCODINGS, "c40", Encoding(crf=41))
    assert encoded()
    source.write_bytes(b"no video")
    assert list(encode_all([(source, made, "c40")], n_jobs=1)) == [str(source)] and not made.exists()


def test_unseen_qualities_are_made_of_the_best_that_is_there_and_do_not_rename_the_data(tmp_path):
    root = DataConfig().root
    index = ffpp.build_index(root, ["NeuralTextures"], ["c23", *UNSEEN], pairs_per_split=1, made=tmp_path)
    made = index[index["quality"].isin(list(UNSEEN))]
    assert set(made["made"]) == {"c23"} and (made["path"].str.startswith(str(tmp_path))).all()
    assert len(made) == len(UNSEEN) * (index["quality"] == "c23").sum()
    profile = replace(get_profile("synthff"), data=DataConfig(qualities=("c23", *UNSEEN), pairs_per_split=1))
    assert ffpp.notes(index, profile) == []

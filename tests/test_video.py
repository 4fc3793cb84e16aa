"""Decoding and the two measures of fidelity."""

import av
import numpy as np
import pytest
from clips import encode, ramps

from utils.faces import video


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("video") / "clip.mp4", ramps(), crf=10)


def test_probe_tells_what_was_written(clip):
    facts = video.probe(clip)
    assert (facts["width"], facts["height"], facts["frames"], facts["fps"]) == (96, 64, 12, 25.0)
    assert (facts["codec"], facts["pix_fmt"]) == ("h264", "yuv420p")
    assert facts["seconds"] == pytest.approx(12 / 25)
    assert facts["bytes"] == clip.stat().st_size
    with av.open(str(clip)) as container:
        size = sum(packet.size for packet in container.demux(video=0))
    assert facts["bitrate"] == pytest.approx(8 * size / facts["seconds"], rel=0.01)


def test_probe_counts_where_the_header_does_not(clip, tmp_path):
    with av.open(str(clip)) as source, av.open(str(tmp_path / "clip.h264"), "w") as raw:  # a bare stream has no header
        stream = raw.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                raw.mux(packet)
    facts = video.probe(tmp_path / "clip.h264")
    assert facts["frames"] == 12 and facts["bitrate"] > 0


@pytest.mark.parametrize(("step", "most", "expected"), [(1, None, range(12)), (5, None, [0, 5, 10]), (5, 2, [0, 5])])
def test_kept_frames_are_the_right_ones(clip, step, most, expected):
    indices, frames = video.read_frames(clip, step, most)
    assert indices == list(expected)
    assert frames.shape == (len(indices), 64, 96, 3) and frames.dtype == np.uint8
    assert np.abs(frames.astype(int) - ramps()[indices]).mean() < 2  # brightness tells the frame's number
    assert np.array_equal(frames, video.read_frames(clip)[1][indices])


def test_bad_videos_fail_with_one_clear_line(tmp_path, clip):
    with pytest.raises(FileNotFoundError, match="no video .*gone.mp4"):
        video.read_frames(tmp_path / "gone.mp4")
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(clip.read_bytes()[:500])
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path in (damaged, empty):
        for read in (video.read_frames, video.probe):
            with pytest.raises(ValueError, match=rf"(cannot read .*)?{path.name}.*again"):
                read(path)
    with pytest.raises(ValueError, match="at least 1"):
        video.read_frames(clip, step=0)


def test_psnr_by_hand():
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    reference = frames.copy()
    reference[0] += 10
    reference[1] += 1
    expected = np.mean([10 * np.log10(255**2 / 100), 10 * np.log10(255**2)])
    assert video.psnr(frames, reference) == pytest.approx(expected)
    assert video.psnr(frames, frames) == np.inf
    with pytest.raises(ValueError, match="differ in shape"):
        video.psnr(frames, reference[:1])


def slow_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return SSIM of two channels by the definition: a flat 7x7 window, moved pixel by pixel."""
    c1, c2, values = (0.01 * 255) ** 2, (0.03 * 255) ** 2, []
    for i in range(3, a.shape[0] - 3):
        for j in range(3, a.shape[1] - 3):
            p, q = (picture[i - 3 : i + 4, j - 3 : j + 4].astype(float).ravel() for picture in (a, b))
            mp, mq = p.mean(), q.mean()
            (vp, cov), (_, vq) = np.cov(p, q)
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(values))


def test_ssim_agrees_with_its_definition():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 24, 28, 3), dtype=np.uint8)
    reference = np.clip(frames + rng.normal(0, 40, frames.shape), 0, 255).astype(np.uint8)
    expected = np.mean([slow_ssim(frames[n, ..., c], reference[n, ..., c]) for n in range(2) for c in range(3)])
    assert video.ssim(frames, reference) == pytest.approx(expected)
    assert video.ssim(frames, frames) == pytest.approx(1)


def test_stronger_compression_is_measured(tmp_path):
    rng = np.random.default_rng(1)
    frames = np.clip(ramps() + rng.normal(0, 15, ramps().shape), 0, 255).astype(np.uint8)
    c23, c40 = (encode(tmp_path / f"c{crf}.mp4", frames, crf) for crf in (23, 40))
    assert video.probe(c40)["bitrate"] < video.probe(c23)["bitrate"]
    for measure in (video.psnr, video.ssim):
        assert measure(video.read_frames(c40)[1], frames) < measure(video.read_frames(c23)[1], frames)

"""A quality that a tree lacks, made by FFmpeg's encoders: c23 and c40 as FaceForensics++ made them, and others."""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
import joblib
from tqdm import tqdm

from utils.config import ENCODINGS, Encoding
from utils.faces.decode import open_video
from utils.paths import atomic

BEST_FIRST = ("raw", "c0", "c23", "c40")  # from the best that is there


OPTIONS = {  # of the encoders; one thread each, so that the same video gives the same bytes
    "libx264": {"preset": "medium", "threads": "1"},
    "libx265": {"preset": "medium", "x265-params": "log-level=error:pools=none:frame-threads=1"},
    "libvpx-vp9": {"b": "0", "deadline": "good", "cpu-used": "3", "threads": "1"},
}


def reencode(source: Path | str, path: Path, how: Encoding) -> None:
    """Write a video again (yuv420p) by an encoder of FFmpeg at a constant rate factor, with its own times and no sound.

    The same video gives the same bytes. Odd sides lose a row or column, which these codecs can't hold. Raises
    FileNotFoundError, and ValueError for a video that does not decode or an encoder that we have no options for.
    """
    if how.codec not in OPTIONS:
        raise ValueError(f"unknown encoder {how.codec!r}: choose one of {', '.join(OPTIONS)}")
    with atomic(path) as last, tempfile.TemporaryDirectory() as folder:
        for time in range(how.times):
            written = last if time == how.times - 1 else Path(folder) / f"{time}.mp4"
            _encode_once(source, written, how, how.scale if time == 0 else 1.0)
            source = written


def _encode_once(source: Path | str, path: Path, how: Encoding, scale: float) -> None:
    with open_video(source) as (read, video), av.open(str(path), "w", format="mp4") as written:
        options = OPTIONS[how.codec] | {"crf": str(how.crf)}
        stream = written.add_stream(how.codec, rate=video.average_rate or 25, options=options)
        sides = video.codec_context.width, video.codec_context.height
        stream.width, stream.height = (int(scale * side) // 2 * 2 for side in sides)
        stream.pix_fmt, count = "yuv420p", 0
        for frame in read.decode(video):
            written.mux(stream.encode(frame.reformat(stream.width, stream.height, "yuv420p")))
            count += 1
        if not count:
            raise ValueError(f"{source} has no frames: download it again")
        written.mux(stream.encode())


def encode_all(todo: list[tuple[Path, Path, str]], n_jobs: int = -1) -> dict[str, str]:
    """Write (source, path, quality) for each, in parallel; those that are there already are left alone.

    Returns what failed: path of the source -> error. The others are made all the same.
    """
    todo = [one for one in todo if not one[1].is_file()]
    jobs = (joblib.delayed(_try)(*one) for one in todo)
    done = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)
    bar = tqdm(done, total=len(todo), desc="encoding", unit="video", disable=not todo)
    return {source: error for source, error in bar if error}


def _try(source: Path, path: Path, quality: str) -> tuple[str, str]:
    try:
        reencode(source, path, ENCODINGS[quality])
    except (FileNotFoundError, ValueError) as error:
        return str(source), str(error)
    return str(source), ""

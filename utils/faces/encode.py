"""A quality that a tree lacks, made by FFmpeg's encoders: c23 and c40 as FaceForensics++ made them, and others."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import av
import cv2
import joblib
import numpy as np
from tqdm import tqdm

from utils.config import ENCODINGS, Encoding
from utils.faces import cache
from utils.faces.decode import Picture, View, open_video, scan
from utils.paths import atomic, write_json

BEST_FIRST = ("raw", "c0", "c23", "c40")  # from the best that is there


def best(qualities: Iterable[str]) -> str:
    """Return the least compressed of some qualities; those that FaceForensics++ has not come last, by name."""
    return min(qualities, key=lambda name: (BEST_FIRST.index(name) if name in BEST_FIRST else len(BEST_FIRST), name))


# x264's look-ahead reads memory that nobody wrote where it runs on AVX-512 and a picture's width in blocks of 16 px is no
# multiple of 8 (found with the x264 of PyAV 18.1): other bytes at every call. Held to AVX2 it repeats.
UNSTEADY_BLOCKS = 8
AVX512 = 256  # OpenCV's number of it: F, CD, BW, DQ and VL
STEADY = {"x264-params": "asm=avx2"} if cv2.checkHardwareSupport(AVX512) else {}
OPTIONS = {  # of the encoders; one thread each, so that the same video gives the same bytes
    "libx264": {"preset": "medium", "threads": "1"} | STEADY,
    "libx265": {"preset": "medium", "x265-params": "log-level=error:pools=none:frame-threads=1"},
    "libvpx-vp9": {"b": "0", "deadline": "good", "cpu-used": "3", "threads": "1"},
}


def reencode(source: Path | str, path: Path, how: Encoding) -> None:
    """Write a video again (yuv420p) by an encoder of FFmpeg at a constant rate factor, with its own times and no sound.

    The same video gives the same bytes. What is turned or stretched to be shown is written as it is shown. Odd sides lose a
    row or column, which these codecs can't hold. Raises FileNotFoundError, ValueError for a video that does not decode or an
    encoder that we have no options for, and OSError for what can't be written.
    """
    if how.codec not in OPTIONS:
        raise ValueError(f"unknown encoder {how.codec!r}: choose one of {', '.join(OPTIONS)}")
    with atomic(path) as last, tempfile.TemporaryDirectory() as folder:
        for time in range(how.times):
            written = last if time == how.times - 1 else Path(folder) / f"{time}.mp4"
            _encode_once(source, written, how, how.scale if time == 0 else 1.0, path if written == last else written)
            source = written


def _encode_once(source: Path | str, path: Path, how: Encoding, scale: float, named: Path) -> None:
    with open_video(source) as (read, video), _open_to_write(path, named) as written:
        options, rate = OPTIONS[how.codec] | {"crf": str(how.crf)}, video.average_rate or Fraction(25)
        stream = written.add_stream(how.codec, rate=rate, options=options)
        if _meet(scan(source).stamps, video.time_base * rate):
            stream.codec_context.time_base = video.time_base
        view, sides = View.of(source, video), (video.codec_context.width, video.codec_context.height)
        frames = read.decode(video)
        first = next(frames, None)
        if first is None:
            raise ValueError(f"{source} has no frames: download it again")
        if not (picture := Picture(first, view)).is_upright:
            sides = picture.shape[::-1]
        stream.width, stream.height = (int(scale * side) // 2 * 2 for side in sides)
        stream.pix_fmt = "yuv420p"
        for frame in itertools.chain([first], frames):
            shown = _shown(frame, view, stream if scale == 1 else None)
            packets = stream.encode(shown.reformat(stream.width, stream.height, "yuv420p"))
            with _blaming(named):
                written.mux(packets)
        packets = stream.encode()
        with _blaming(named):
            written.mux(packets)


def _shown(frame: av.VideoFrame, view: View, cut_to: av.VideoStream | None = None) -> av.VideoFrame:
    """Return a frame as it is shown, turned upright and with square pixels, at its own time.

    With `cut_to` it loses the row or column by which it is larger than that stream.
    """
    picture = Picture(frame, view)
    height, width = (cut_to.height, cut_to.width) if cut_to else picture.shape
    if picture.is_upright and (height, width) == picture.shape:
        return frame
    shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture.rgb[:height, :width]), format="rgb24")
    shown.pts, shown.time_base = frame.pts, frame.time_base
    return shown


def _meet(stamps: list[int | None], ticks: Fraction) -> bool:
    """Tell whether two pictures of a variable frame rate fall on one tick of a steady clock, of `ticks` a unit of `stamps`."""
    if None in stamps:
        return False
    places = {(2 * stamp * ticks.numerator + ticks.denominator) // (2 * ticks.denominator) for stamp in stamps}
    return len(places) < len(set(stamps))


@contextmanager
def _open_to_write(path: Path, named: Path) -> Iterator[av.container.OutputContainer]:
    with _blaming(named):
        written = av.open(str(path), "w", format="mp4")
    try:
        yield written
    except BaseException:
        with suppress(av.error.FFmpegError):  # what came first is told
            written.close()
        raise
    with _blaming(named):
        written.close()


@contextmanager
def _blaming(named: Path) -> Iterator[None]:
    """Raise a plain OSError that names the file to be written: FFmpeg's own would be taken for a damaged source."""
    try:
        yield
    except av.error.FFmpegError as error:
        if not isinstance(error, OSError):
            raise
        remedy = "make room there, or let this user write"
        raise OSError(error.errno, f"cannot write {named} ({error.strerror}): {remedy}") from None


def encode_all(todo: list[tuple[Path, Path, str]], n_jobs: int = -1) -> dict[str, str]:
    """Write (source, path, quality) for each, in parallel; what was made of the same source in the same way is left alone.

    A small JSON file beside each video says what it was made of; a video without one is believed. Returns what failed: path
    of the source -> error. The others are made all the same. Raises OSError for what can't be written.
    """
    todo = [one for one in todo if not _is_made(*one)]
    jobs = (joblib.delayed(_try)(*one) for one in todo)
    done = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)
    bar = tqdm(done, total=len(todo), desc="encoding", unit="video", disable=not todo)
    return {source: error for source, error in bar if error}


def record_of(path: Path) -> Path:
    """Return the file that says what a made video was made of, and how."""
    return path.with_suffix(".json")


def _about(source: Path, quality: str) -> dict:
    return {"source": cache.stamp([str(source)]), "encoding": asdict(ENCODINGS[quality])}


def _is_made(source: Path, path: Path, quality: str) -> bool:
    about = _about(source, quality)
    if path.is_file() and not record_of(path).is_file():  # made before there were records
        write_json(record_of(path), about)
    return path.is_file() and cache.load(record_of(path)) == about


def _try(source: Path, path: Path, quality: str) -> tuple[str, str]:
    about = _about(source, quality)
    try:
        reencode(source, path, ENCODINGS[quality])
    except (FileNotFoundError, ValueError) as error:
        path.unlink(missing_ok=True)  # it was made of another source
        return str(source), str(error)
    write_json(record_of(path), about)
    return str(source), ""

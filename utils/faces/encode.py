"""A quality that a tree lacks, made as FaceForensics++ made it: H.264 by libx264 at a constant rate factor."""

from __future__ import annotations

from pathlib import Path

import av
import joblib
from tqdm import tqdm

from utils.config import CRF
from utils.paths import atomic

BEST_FIRST = ("raw", "c0", "c23", "c40")  # from the best that is there


def reencode(source: Path | str, path: Path, crf: int) -> None:
    """Write a video again as H.264 (yuv420p, preset medium) at a constant rate factor, with its own times and no sound.

    One thread, so that the same video gives the same bytes. Odd sides lose a row or column, which H.264 can't hold. Raises
    FileNotFoundError, and ValueError for a video that does not decode.
    """
    if not Path(source).is_file():
        raise FileNotFoundError(f"no video {source}")
    try:
        with atomic(path) as temporary, av.open(str(source)) as read, av.open(str(temporary), "w", format="mp4") as written:
            video = read.streams.video[0]
            video.codec_context.thread_count = 1
            stream = written.add_stream("libx264", rate=video.average_rate or 25, options={"preset": "medium", "threads": "1"})
            stream.options |= {"crf": str(crf)}
            stream.width, stream.height = (side // 2 * 2 for side in (video.codec_context.width, video.codec_context.height))
            stream.pix_fmt, count = "yuv420p", 0
            for frame in read.decode(video):
                written.mux(stream.encode(frame.reformat(stream.width, stream.height, "yuv420p")))
                count += 1
            if not count:
                raise ValueError(f"{source} has no frames: download it again")
            written.mux(stream.encode())
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"cannot read {source} ({error}): download it again") from None


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
        reencode(source, path, CRF[quality])
    except (FileNotFoundError, ValueError) as error:
        return str(source), str(error)
    return str(source), ""

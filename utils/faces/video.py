"""Reading videos with PyAV (H.264 above all), and measuring what compression took from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
from av.video.frame import PictureType
from skimage.metrics import structural_similarity

from utils.faces.decode import codec_of, open_video, pictures_at, sample


def probe(path: Path | str) -> dict:
    """Return width, height (px), fps, frames, seconds, bitrate (bit/s of the stream), codec, pix_fmt and bytes (file).

    Width and height are those of the coded picture, before it is turned upright. Nothing is decoded; where the header does
    not count the frames, packets are read. Raises FileNotFoundError or ValueError, naming the file.
    """
    with open_video(path) as (container, stream):
        frames, bitrate, fps = stream.frames, stream.bit_rate, float(stream.average_rate or 25)
        if not (frames and bitrate):
            sizes = [packet.size for packet in container.demux(stream) if packet.size]
            frames, bitrate = len(sizes), 8 * fps * sum(sizes) / max(1, len(sizes))
        if not frames:
            raise ValueError(f"{path} has no frames: download or build it again")
        return {
            "width": stream.codec_context.width,
            "height": stream.codec_context.height,
            "fps": fps,
            "frames": frames,
            "seconds": frames / fps,
            "bitrate": bitrate,
            "codec": codec_of(stream),
            "pix_fmt": stream.codec_context.pix_fmt,
            "bytes": Path(path).stat().st_size,
        }


def codecs_of(paths: Iterable[Path | str]) -> list[str]:
    """Return the codecs of some videos, each once, by name. Raises what `probe` raises."""
    return sorted({probe(path)["codec"] for path in paths})


def gop(path: Path | str, max_frames: int | None = None) -> dict:
    """Return how a stream groups its pictures (GOP), of its first `max_frames` frames or all.

    `frames`, `key_frames`, `key_distance` (mean frames a key frame serves), and of each picture type t = i, p, b the share
    of frames `share_t` and the mean packet `bytes_t` (0 where there is none). Raises FileNotFoundError, and ValueError for
    a video without frames or time stamps.
    """
    sizes, types, keys = {}, {}, 0
    with open_video(path) as (container, stream):
        for packet in container.demux(stream):
            sizes[packet.pts] = packet.size
            for frame in packet.decode():  # only decoded pictures know their type
                if len(types) != max_frames:
                    types[frame.pts] = PictureType(frame.pict_type).name
                    keys += frame.key_frame
            if len(types) == max_frames:
                break
    if not types or None in types:
        raise ValueError(f"{path} has no frames or no time stamps: download or build it again")
    facts = {"frames": len(types), "key_frames": int(keys), "key_distance": len(types) / max(1, keys)}
    for kind in "IPB":
        packets = [sizes[pts] for pts, found in types.items() if found == kind]
        facts[f"share_{kind.lower()}"] = len(packets) / len(types)
        facts[f"bytes_{kind.lower()}"] = sum(packets) / max(1, len(packets))
    return facts


def iter_frames(
    path: Path | str, step: int = 1, max_frames: int | None = None, sampling: str = "first"
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, uint8 RGB frame (H, W, 3)) for every `step`-th frame, at most `max_frames` of them.

    The first ones, or with the sampling "spread" as many over the whole clip. Frames are upright and contiguous. Raises
    FileNotFoundError, and ValueError for a damaged or empty video, a step below 1 or an unknown sampling.
    """
    kept = False
    for number, picture in sample(path, step, max_frames, sampling):
        yield number, picture.rgb
        kept = True
    if not kept:
        raise ValueError(f"{path} has no frames: download or build it again")


def read_frames(
    path: Path | str, step: int = 1, max_frames: int | None = None, sampling: str = "first"
) -> tuple[list[int], np.ndarray]:
    """Return what `iter_frames` yields, at once: the indices and the frames, uint8 RGB (n, H, W, 3)."""
    indices, frames = zip(*iter_frames(path, step, max_frames, sampling), strict=True)
    return list(indices), np.stack(frames)


def frames_at(path: Path | str, numbers: Collection[int]) -> dict[int, np.ndarray]:
    """Return some frames by number, uint8 RGB (H, W, 3), those that the clip has; reading stops after the last.

    Raises FileNotFoundError, and ValueError for a damaged video.
    """
    return {number: picture.rgb for number, picture in pictures_at(path, numbers)}


def psnr(frames: np.ndarray, reference: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of uint8 frames (n, H, W, 3) in dB, mean over frames: 10 log10(255^2/MSE).

    Identical frames give infinity. Raises ValueError for unequal shapes.
    """
    _same_shape(frames, reference)
    error = (frames.astype(np.float32) - reference) ** 2
    mse = error.reshape(len(error), -1).mean(axis=1, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return float(np.mean(10 * np.log10(255**2 / mse)))


def ssim(frames: np.ndarray, reference: np.ndarray) -> float:
    """Return the structural similarity of uint8 frames (n, H, W, 3), mean over channels and frames.

    Wang et al. 2004, with the flat window of 7 px that scikit-image and SynthFF's metadata use. Raises ValueError for
    unequal shapes.
    """
    _same_shape(frames, reference)
    pairs = zip(frames, reference, strict=True)
    return float(np.mean([structural_similarity(a, b, channel_axis=2, data_range=255) for a, b in pairs]))


def _same_shape(frames: np.ndarray, reference: np.ndarray) -> None:
    if frames.shape != reference.shape:
        raise ValueError(f"frames {frames.shape} and reference {reference.shape} differ in shape")

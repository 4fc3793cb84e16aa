"""H.264 as FaceForensics++ has it: libx264, yuv420p, constant rate factor; what the encoder lost; and what a clip has
been through before it came to FaceForensics++."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import av
import cv2
import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from utils.config import PlatformConfig
from utils.faces.encode import OPTIONS


def encode(frames: np.ndarray, path: Path | BinaryIO, crf: int, fps: int) -> None:
    """Write RGB frames (n, H, W, 3) uint8 as H.264; one thread, so that the same frames give the same bytes."""
    with av.open(str(path) if isinstance(path, Path) else path, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = OPTIONS["libx264"] | {"crf": str(crf)}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def loss(path: Path, frames: np.ndarray, masks: np.ndarray, step: int = 8) -> tuple[float, float, float]:
    """Compare an encoded clip with its frames (n, H, W, 3) uint8, every `step`th one.

    Returns the mean PSNR in dB, SSIM, and PSNR where `masks` (n, H, W) is False.
    """
    psnr, ssim, outside = [], [], []
    with av.open(str(path)) as container:
        for index, decoded in enumerate(container.decode(video=0)):
            if index % step == 0:
                picture, kept = decoded.to_ndarray(format="rgb24"), ~masks[index]
                psnr.append(peak_signal_noise_ratio(frames[index], picture))
                ssim.append(structural_similarity(frames[index], picture, channel_axis=2))
                outside.append(peak_signal_noise_ratio(frames[index][kept], picture[kept]))
    return float(np.mean(psnr)), float(np.mean(ssim)), float(np.mean(outside))


def through_platform(
    frames: np.ndarray, config: PlatformConfig, rng: np.random.Generator, fps: int
) -> tuple[np.ndarray, dict[str, float]]:
    """Return frames (n, H, W, 3) uint8 as a camera and a platform hand them on, and what they have been through.

    Each time they are made smaller, go through H.264, and are enlarged again: the sources of FaceForensics++ are videos that
    YouTube had compressed. Height and width are even.
    """
    times = 1 + int(rng.random() < config.twice)
    least = float(rng.uniform(*config.scale))
    rates = [int(rng.integers(config.crf[0], config.crf[1] + 1)) for _ in range(times)]
    height, width = frames.shape[1:3]
    size = 2 * round(least * width / 2), 2 * round(least * height / 2)
    for crf in rates:
        smaller = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
        file = BytesIO()
        encode(np.stack(smaller), file, crf, fps)
        file.seek(0)
        with av.open(file) as container:
            decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        frames = np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) for frame in decoded])
    return frames, dict(source_scale=round(least, 3), source_crf=max(rates), source_times=times)

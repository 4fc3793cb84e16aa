"""H.264 as FaceForensics++ has it: libx264, yuv420p, constant rate factor; and what the encoder lost."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def encode(frames: np.ndarray, path: Path, crf: int, fps: int) -> None:
    """Write RGB frames (n, H, W, 3) uint8 as H.264; one thread, so that the same frames give the same bytes."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "medium", "threads": "1"}
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

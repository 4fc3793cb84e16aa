"""Small videos and trees in the layout of FaceForensics++, made on the spot for the tests."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np


def encode(path: Path, frames: np.ndarray, crf: int = 23, fps: int = 25, codec="libx264", pix_fmt="yuv420p") -> Path:
    """Write uint8 RGB frames (n, H, W, 3) as H.264, or by another codec."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={"crf": str(crf)} if codec == "libx264" else {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def ramps(count: int = 12, height: int = 64, width: int = 96) -> np.ndarray:
    """Return smooth pictures (count, height, width, 3) whose brightness tells their number: 10, 20, 30, ..."""
    x = np.linspace(0, 40, width)
    frames = 10 * np.arange(1, count + 1)[:, None, None] + x[None, None, :] + np.zeros((1, height, 1))
    return np.repeat(frames[..., None], 3, axis=3).round().astype(np.uint8)


def empty_tree(root: Path, splits: dict[str, list], methods=("NeuralTextures",), qualities=("c23", "c40")) -> Path:
    """Write the split files and an empty file for each video that they promise."""
    (root / "splits").mkdir(parents=True)
    for name, pairs in splits.items():
        (root / "splits" / f"{name}.json").write_text(json.dumps(pairs))
        for a, b in pairs:
            for quality in qualities:
                for video in (a, b):
                    _touch(root / "original_sequences" / "youtube" / quality / "videos" / f"{video}.mp4")
                for method in methods:
                    for video in (f"{a}_{b}", f"{b}_{a}"):
                        _touch(root / "manipulated_sequences" / method / quality / "videos" / f"{video}.mp4")
    return root


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()

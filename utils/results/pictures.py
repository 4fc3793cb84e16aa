"""Figures made of video frames and faces (notebooks 01 and 02): they need the data, those of `plots` predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib_inline.backend_inline import set_matplotlib_formats
from PIL import Image

from utils.paths import atomic
from utils.results.style import CLASS_COLORS, PAGE, REFERENCE_LINE, outside_legend

GAIN = 4  # differences are shown this much stronger
JPEG = {"pil_kwargs": {"quality": 92, "subsampling": 0}}  # photographs as PNG would be ten times as large


def use_jpeg() -> None:
    """Let a notebook keep its pictures as JPEG, which holds it below one megabyte."""
    set_matplotlib_formats("jpeg", **JPEG)


def save_picture(fig: Figure, path: Path | str) -> Path:
    """Write a figure made of photographs as JPEG; the same data give the same bytes."""
    with atomic(path) as temporary:
        fig.savefig(temporary, **JPEG)
    return Path(path)


def thumbnail(picture: np.ndarray, height: int) -> np.ndarray:
    """Shrink an RGB or grey uint8 picture to a height in px, the aspect kept; a smaller one stays as it is."""
    if picture.shape[0] <= height:
        return picture
    width = round(picture.shape[1] * height / picture.shape[0])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return |a - b| of two uint8 RGB pictures (..., 3) as uint8 grey: channel mean, `GAIN` times stronger."""
    return (GAIN * np.abs(a.astype(float) - b).mean(axis=-1)).clip(0, 255).astype(np.uint8)


def picture_grid(
    rows: Sequence[Sequence[np.ndarray | None]],
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
    height: int = 128,
) -> Figure:
    """Show pictures (H, W, 3) or (H, W) row by row, with names of columns and rows; None leaves a gap."""
    count = max(len(row) for row in rows)
    shape = next(picture for row in rows for picture in row if picture is not None).shape
    cell = PAGE / max(count, 4)
    size = (cell * count + 0.3, cell * len(rows) * shape[0] / shape[1] + 0.3)
    fig, axes = plt.subplots(len(rows), count, figsize=size, squeeze=False)
    fig.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for line, row in zip(axes, rows, strict=True):
        for ax, picture in zip(line, row, strict=False):
            if picture is not None:
                ax.imshow(thumbnail(picture, height), cmap="gray", vmin=0, vmax=255)
    for ax, name in zip(axes[0], columns, strict=False):
        ax.set_title(name, fontsize="small")
    for ax, name in zip(axes[:, 0], names, strict=False):
        ax.set_ylabel(name, fontsize="small")
    return fig


def samples(rows: list[dict[str, np.ndarray]]) -> Figure:
    """Show one clip a row: real, fake, their difference at each quality, and the mask; the keys name the columns."""
    return picture_grid([list(row.values()) for row in rows], columns=list(rows[0]))


def bitrates(videos: pd.DataFrame, name: str) -> Figure:
    """Bit rates of real and fake videos at each quality; `videos` has columns quality, label and bitrate (bit/s)."""
    qualities = sorted(videos["quality"].unique())
    fig, axes = plt.subplots(1, len(qualities), figsize=(PAGE, 2.2), squeeze=False)
    for ax, quality in zip(axes[0], qualities, strict=True):
        rates = videos.loc[videos["quality"] == quality, ["label", "bitrate"]]
        bins = np.geomspace(rates["bitrate"].min() / 1e3, rates["bitrate"].max() / 1e3 * 1.001, 21)
        for label, (kind, color) in enumerate(CLASS_COLORS.items()):
            ax.hist(rates.loc[rates["label"] == label, "bitrate"] / 1e3, bins, color=color, alpha=0.6, label=kind)
        ax.set(title=f"{name}, {quality}", xlabel="bit rate (kbit/s)", ylabel="videos")
    outside_legend(fig, axes[0, 0])
    return fig


def draw_box(ax: Axes, box: Sequence[float], color: str, **style) -> None:
    """Draw a box (x0, y0, x1, y1), px, over a picture."""
    ax.add_patch(Rectangle(box[:2], box[2] - box[0], box[3] - box[1], fill=False, edgecolor=color, **style))


def detection(frame: np.ndarray, box: np.ndarray, square: Sequence[int], crop: np.ndarray) -> Figure:
    """Show a frame with the detector's box (dashed) and the square that is cut out, and the crop beside it."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, PAGE / 2))
    left.imshow(frame)
    draw_box(left, box, CLASS_COLORS["fake"], linestyle="--", label="detector")
    draw_box(left, square, CLASS_COLORS["real"], label="crop")
    left.set_title("frame, detector's box (dashed), square crop")
    right.imshow(crop)
    right.set_title(f"stored face, {crop.shape[1]} px")
    for ax in (left, right):
        ax.set_axis_off()
    return fig


def track(frames: np.ndarray, table: pd.DataFrame, most: int = 6) -> Figure:
    """Show the first sampled frames (n, H, W, 3) of one clip with their squares, or that the face was missed."""
    most = min(most, len(table))
    fig, axes = plt.subplots(1, most, figsize=(PAGE, PAGE / most + 0.2), squeeze=False)
    for ax, frame, row in zip(axes[0], frames, table.itertuples(), strict=False):
        ax.imshow(frame)
        if row.status == "found":
            draw_box(ax, (row.x0, row.y0, row.x1, row.y1), CLASS_COLORS["real"])
        ax.set_title(f"frame {row.frame}" + ("" if row.status == "found" else ": missed"), fontsize="small")
        ax.set_axis_off()
    return fig


def box_sizes(found: pd.DataFrame, stored: int, name: str) -> Figure:
    """Side of the square crops at each quality, beside the side they are stored with (dotted)."""
    fig, ax = plt.subplots(figsize=(PAGE / 2, 2.2))
    sides = found["x1"] - found["x0"]
    bins = np.linspace(sides.min(), sides.max() + 1, 31)
    for quality, side in sides.groupby(found["quality"]):
        ax.hist(side, bins, histtype="step", label=quality)
    ax.axvline(stored, **REFERENCE_LINE)
    ax.set(title=name, xlabel="side of the square crop (px)", ylabel="faces")
    ax.legend()
    return fig

"""Figures made of video frames and faces (notebooks 01, 02 and 06): they need the data, those of `plots` predictions alone."""

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

from utils.learn.dataset import FaceSet
from utils.paths import atomic
from utils.results.metrics import video_scores
from utils.results.style import CLASS_COLORS, LABELS, PAGE, REFERENCE_LINE, outside_legend

GAIN = 4  # differences are shown this much stronger
FACE = 0.9  # inches, side of a face in the gallery
GALLERY_PHASE, GALLERY_SPLIT = "student_compression", "test"  # whose scores choose the clips of the gallery, and from where
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


# ---- best, worst and most uncertain ---------------------------------------------------------------------------------------


def gallery_clips(predictions: pd.DataFrame, quality: str, each: int = 6) -> dict[str, pd.DataFrame]:
    """Return the clips of the gallery, row by row: columns method, video_id, label and score, a test clip's mean over seeds.

    `predictions` are those of the comparison. A fake is found and a real taken for one from one half upwards; a row has `each`
    clips, or as many as there are, and among equal scores the first by name. Raises ValueError where nothing was scored.
    """
    key = (predictions["phase"] == GALLERY_PHASE) & (predictions["split"] == GALLERY_SPLIT)
    scored = predictions[key & (predictions["quality"] == quality)]
    if scored.empty:
        raise ValueError(f"no scores of {GALLERY_SPLIT} at {quality} by the {LABELS[GALLERY_PHASE]}: run notebook 05")
    clips = video_scores(scored).groupby(["method", "video_id", "label"], as_index=False)["score"].mean()
    fake, called, score = clips["label"] == 1, clips["score"] >= 0.5, clips["score"]
    rows = {  # which clips, and by what: the lowest are taken
        "fakes found most surely": (fake & called, -score),
        "fakes missed worst": (fake & ~called, score),
        "reals passed most surely": (~fake & ~called, score),
        "reals taken for fakes worst": (~fake & called, -score),
        "most uncertain": (score.notna(), (score - 0.5).abs()),
    }
    return {
        name: clips.assign(by=by)[some].sort_values(["by", "method", "video_id"], ignore_index=True).head(each)[list(clips)]
        for name, (some, by) in rows.items()
    }


def face_of(faces: FaceSet, method: str, video_id: str, qualities: Sequence[str]) -> list[np.ndarray | None]:
    """Return one face of a clip, uint8 RGB (S, S, 3), at each quality, None where it was not found there.

    It is the middle one of the frames that show it at every quality, or of all where none does.
    """
    clip = faces.index[(faces.index["method"] == method) & (faces.index["video_id"] == video_id)]
    rows = clip.pivot(index="frame", columns="quality", values="row").reindex(columns=qualities)
    whole = rows.dropna()
    rows = whole if len(whole) else rows
    if rows.empty:
        return [None] * len(qualities)
    return [None if np.isnan(row) else np.asarray(faces.pixels[int(row)]) for row in rows.iloc[len(rows) // 2]]


def gallery(predictions: pd.DataFrame, faces: FaceSet, name: str, each: int = 6) -> Figure:
    """Show what the student was surest of and right, surest of and wrong, and least sure of: a row each, one face a clip.

    The face is shown at the worst quality, whose scores choose, and below it at the others; under it the clip's name, in its
    true class's colour, and its score. Raises what `gallery_clips` raises.
    """
    qualities = faces.qualities[::-1]  # the worst first
    chosen = gallery_clips(predictions, qualities[0], each)
    fig = plt.figure(figsize=(each * FACE, 0.3 + len(chosen) * (0.4 + FACE * len(qualities))))
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    below = f", below at {' and '.join(qualities[1:])}" if qualities[1:] else ""
    scored = f"{LABELS[GALLERY_PHASE]}, mean score over seeds"
    fig.suptitle(f"{name}, {GALLERY_SPLIT} at {qualities[0]}{below}; {scored}", fontsize="medium")
    for part, (title, clips) in zip(fig.subfigures(len(chosen), 1), chosen.items(), strict=True):
        part.suptitle(title if len(clips) else f"{title}: none", x=0.01, ha="left", fontsize="medium")
        axes = part.subplots(len(qualities), each, squeeze=False)
        for ax in axes.flat:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for column, clip in zip(axes.T, clips.itertuples(), strict=False):
            for ax, face in zip(column, face_of(faces, clip.method, clip.video_id, qualities), strict=True):
                if face is not None:
                    ax.imshow(face)
            color = CLASS_COLORS["fake" if clip.label else "real"]
            column[-1].set_xlabel(f"{clip.video_id}  {clip.score:.2f}", color=color, fontsize="small")
    return fig

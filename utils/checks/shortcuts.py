"""Shortcuts: what but the re-rendered mouth could tell fakes from reals?

Every fake is measured together with the original of its target, at each quality: clip statistics, motion, and what a
frozen network sees with and without the mask. Only `train` and `test` are looked at. `shortcut_verdicts` judges.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import joblib
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from utils.config import ModelConfig
from utils.faces.crops import crop_face, square_box
from utils.faces.ffpp import mask_path
from utils.faces.video import frames_at, gop, probe
from utils.learn.models import create_model
from utils.synthff.motion import draw_track

LOOKED_AT = (6, 22, 38)  # frames of a clip, each with its successor, that are looked at
SAMPLED = tuple(n + i for n in LOOKED_AT for i in (0, 1))
GOP_FRAMES = 250  # x264's longest distance of key frames
DILATION = 12  # px: encoders work in blocks of up to 16 px and smooth across their borders
CROP, PX = 1.6, 128  # square around the mask over the mask's own side; px it is scaled to
CLOSED = 0.05  # jawOpen below which a mouth counts as closed
RINGS = {"in the mask": (-1, 0), "0-8 px": (0, 8), "8-16 px": (8, 16), "16-32 px": (16, 32), "over 32 px": (32, np.inf)}
VARIANTS = ("all pixels", "mask blanked", f"mask and {DILATION} px blanked")

COLOUR = [f"{what}_{channel}" for what in ("mean", "variance") for channel in "rgb"]
GOP = ["key_frames", "key_distance", "share_i", "share_p", "share_b"]
PACKETS = ["bytes_i", "bytes_p", "bytes_b"]
STREAM = ["bitrate", *GOP, *PACKETS]
OUTSIDE = ["laplacian", "blockiness", "change_outside"]
STATISTICS = {
    "colour": COLOUR,
    "bit rate": ["bitrate"],
    "GOP": GOP,
    "packet sizes": PACKETS,
    "sharpness and noise outside": OUTSIDE,
    "PSNR and SSIM": ["psnr", "ssim"],
    "PSNR outside": ["psnr_outside"],
}
STATISTICS["colour, bit rate, GOP and PSNR outside"] = [*COLOUR, "bitrate", *GOP, "psnr_outside"]
TRACK = ["closed", *(f"{unit}_{what}" for unit in ("jaw", "smile", "funnel") for what in ("mean", "std", "speed"))]
MOTION = {
    "mouth tracks": TRACK,
    "motion outside the mask": ["change_outside"],
    "motion in the mask": ["change_inside"],
}


class Region(NamedTuple):
    """Where one frame (H, W) was changed: in it, in it or its successor, and what is further than `DILATION` from both."""

    mask: np.ndarray
    both: np.ndarray
    far: np.ndarray


@dataclass(frozen=True)
class Measured:
    """All clips measured.

    `clips`: two rows a fake and quality, the target's original (label 0) and the fake (1), columns fake, method, quality,
    pair, split, label and the statistics. `looks`: variant -> features (rows of `clips`, d), NaN where a fake has no mask,
    empty where none has. `rings`: one row a fake and quality, mean |real - fake| in grey levels for each of `RINGS`.
    """

    clips: pd.DataFrame
    looks: dict[str, np.ndarray]
    rings: pd.DataFrame


# ---- measuring ----------------------------------------------------------------------------------------------------


def couples(index: pd.DataFrame) -> pd.DataFrame:
    """Return one row a fake and quality of train and test: video_id, method, quality, pair, split, fake and real (paths)."""
    part = index[index["split"].isin(("train", "test"))]
    fakes = part[part["label"] == 1].rename(columns={"path": "fake"})
    reals = part.loc[part["label"] == 0, ["target", "quality", "path"]].rename(columns={"path": "real"})
    both = fakes.merge(reals, on=["target", "quality"])
    return both[["video_id", "method", "quality", "pair", "split", "fake", "real"]]


def measure(index: pd.DataFrame, root: Path | str, n_jobs: int = -1) -> Measured:
    """Measure every fake of train and test beside the original of its target, in parallel over fakes.

    `index` comes from `ffpp.build_index`; its table is empty where no fake has its original. A fake that can't be read, or
    is too short, is left out with a warning.
    """
    both = couples(index)
    parts = [(mask_path(root, *key), views.to_dict("records")) for key, views in both.groupby(["method", "video_id"])]
    jobs = (joblib.delayed(_try_fake)(views, mask) for mask, views in parts)
    done = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
    rows, looks, rings = [], [], []
    for found in tqdm(done, total=len(parts), desc="shortcuts", unit="fake"):
        if isinstance(found, str):
            warnings.warn(f"left out: {found}", stacklevel=2)
            continue
        for whole, part in zip((rows, looks, rings), found, strict=True):
            whole.extend(part)
    columns = ["fake", "method", "quality", "pair", "split", "label", *COLOUR, *STREAM, *OUTSIDE, "change_inside"]
    return Measured(pd.DataFrame(rows, columns=None if rows else columns), _stack(looks), pd.DataFrame(rings))


def _try_fake(views: list[dict], mask_file: Path) -> tuple | str:
    """Return `measure_fake`, or what went wrong."""
    try:
        return measure_fake(views, mask_file)
    except (FileNotFoundError, ValueError) as error:
        return str(error)


def _stack(looks: list[np.ndarray | None]) -> dict[str, np.ndarray]:
    shape = next((look.shape for look in looks if look is not None), None)
    if shape is None:
        return {}
    table = np.stack([np.full(shape, np.nan, np.float32) if look is None else look for look in looks], axis=1)
    return dict(zip(VARIANTS, table, strict=True))


def measure_fake(views: list[dict], mask_file: Path) -> tuple[list[dict], list[np.ndarray | None], list[dict]]:
    """Measure one fake at each quality; `views` are rows of `couples`. Returns rows of clips, their looks and rings."""
    masks = frames_at(mask_file, SAMPLED) if mask_file.is_file() else {}
    rows, looks, rings = [], [], []
    for view in views:
        names = {"fake": view["video_id"]} | {name: view[name] for name in ("method", "quality", "pair", "split")}
        clips = [frames_at(view[kind], SAMPLED) for kind in ("real", "fake")]
        if len({frame.shape for frames in clips for frame in frames.values()}) > 1:
            raise ValueError(f"{view['fake']} and its original differ in size")
        areas = regions(masks, clips)
        for label, (kind, frames) in enumerate(zip(("real", "fake"), clips, strict=True)):
            rows.append(names | {"label": label} | statistics(view[kind], frames, areas))
            looks.append(appearance(frames, areas) if areas else None)
        if areas:
            rings.append(names | ring_differences(*clips, areas))
    return rows, looks, rings


def regions(masks: dict[int, np.ndarray], clips: Sequence[dict[int, np.ndarray]]) -> dict[int, Region]:
    """Return the regions of the sampled frames that both clips show; frames without any changed pixel are left out."""
    found = {}
    for n in LOOKED_AT:
        if not all(n + i in frames for frames in (masks, *clips) for i in (0, 1)):
            continue
        size = clips[0][n].shape[1::-1]
        mask, after = (cv2.resize(masks[n + i][..., 0], size, interpolation=cv2.INTER_NEAREST) > 127 for i in (0, 1))
        region = Region(mask, mask | after, ~dilate(mask | after, DILATION))
        if mask.any() and region.far.any():
            found[n] = region
    return found


def dilate(mask: np.ndarray, px: int) -> np.ndarray:
    """Return a bool mask (H, W) widened by `px` in every direction."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * px + 1, 2 * px + 1))
    return cv2.dilate(mask.astype(np.uint8), disc) > 0


def statistics(path: Path | str, frames: dict[int, np.ndarray], areas: dict[int, Region]) -> dict[str, float]:
    """Return the statistics of one clip that need no other clip; those of regions only where there are masks.

    Colours in grey levels, bit rate in bit/s, packets in bytes, changes in grey levels from a frame to the next.
    """
    if not frames:
        raise ValueError(f"{path} has no frame {SAMPLED[0]}: too short to be looked at")
    mean, deviation = cv2.meanStdDev(np.concatenate(list(frames.values())))
    colours = np.concatenate([mean, deviation**2]).ravel().tolist()
    facts = dict(zip(COLOUR, colours, strict=True)) | {"bitrate": probe(path)["bitrate"]} | gop(path, GOP_FRAMES)
    found = []
    for n, area in areas.items():
        grey, after = (cv2.cvtColor(frames[n + i], cv2.COLOR_RGB2GRAY).astype(np.float32) for i in (0, 1))
        edges, change = cv2.Laplacian(grey, cv2.CV_32F), np.abs(after - grey)
        found.append((edges[area.far].var(), blockiness(grey, area.far), change[area.far].mean(), change[area.both].mean()))
    values = np.mean(found, axis=0).tolist() if found else [np.nan] * 4
    return facts | dict(zip([*OUTSIDE, "change_inside"], values, strict=True))


def blockiness(grey: np.ndarray, keep: np.ndarray) -> float:
    """Return the mean step across the borders of 8 px blocks over the mean step elsewhere, of pixels (H, W) in `keep`.

    1 is a picture without blocks; NaN where no border or nothing but borders is kept.
    """
    border, other = [], []
    for values, kept in ((grey, keep), (grey.T, keep.T)):
        steps, valid = np.abs(np.diff(values, axis=1)), kept[:, 1:] & kept[:, :-1]
        at_border = np.zeros_like(valid)
        at_border[:, 7::8] = True
        border.append(steps[valid & at_border])
        other.append(steps[valid & ~at_border])
    border, other = np.concatenate(border), np.concatenate(other)
    return float(border.mean() / max(other.mean(), 1e-6)) if len(border) and len(other) else np.nan


def ring_differences(real: dict, fake: dict, areas: dict[int, Region]) -> dict[str, float]:
    """Return the mean |real - fake| in grey levels by distance from the frame's mask, one number for each of `RINGS`."""
    total, count = dict.fromkeys(RINGS, 0.0), dict.fromkeys(RINGS, 0)
    for n, area in areas.items():
        gap = np.abs(real[n].astype(np.float32) - fake[n]).mean(axis=-1)
        away = cv2.distanceTransform((~area.mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for name, (low, high) in RINGS.items():
            ring = (away > low) & (away <= high)
            total[name] += float(gap[ring].sum())
            count[name] += int(ring.sum())
    return {name: total[name] / count[name] if count[name] else np.nan for name in RINGS}


# ---- pictures with and without the mask ------------------------------------------------------------------------------


def blank(frame: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Return a frame (H, W, 3) with the mean colour of its other pixels where `hidden` (H, W): nothing of them is left."""
    blanked = frame.copy()
    blanked[hidden] = np.round(cv2.mean(frame, (~hidden).astype(np.uint8))[:3])
    return blanked


def appearance(frames: dict[int, np.ndarray], areas: dict[int, Region]) -> np.ndarray:
    """Return what the frozen network sees of a clip around its mask: (variants, d), mean over the sampled frames."""
    crops: list[list[np.ndarray]] = [[] for _ in VARIANTS]
    for n, area in areas.items():
        rows, columns = (np.flatnonzero(area.mask.any(axis=axis)) for axis in (1, 0))
        square = square_box(np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]), CROP)
        seen = (frames[n], blank(frames[n], area.mask), blank(frames[n], ~area.far))
        for views, frame in zip(crops, seen, strict=True):
            views.append(crop_face(frame, square, PX))
    looks = layer_statistics(np.concatenate(crops))  # (variants * frames, d)
    return looks.reshape(len(VARIANTS), len(areas), -1).mean(axis=1)


@cache
def _backbone() -> torch.nn.Module:
    return create_model("efficientnet-lite0", ModelConfig(px=PX, weights="package")).eval()


@torch.inference_mode()
def layer_statistics(crops: np.ndarray) -> np.ndarray:
    """Return mean and deviation of all channels after each stage of EfficientNet-Lite0 (ImageNet weights).

    uint8 crops (n, S, S, 3) give (n, d). Traces of rendering lie in early layers; the pooled last one knows objects.
    """
    model = _backbone()
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255  # (n, 3, S, S)
    x = model.network.bn1(model.network.conv_stem((images - model.mean) / model.deviation))
    parts = []
    for stage in model.network.blocks:
        x = stage(x)
        parts += [x.mean(dim=(2, 3)), x.std(dim=(2, 3))]
    return torch.cat(parts, dim=1).numpy()


# ---- mouth tracks ------------------------------------------------------------------------------------------------------


def add_metadata(clips: pd.DataFrame, metadata: pd.DataFrame) -> pd.DataFrame:
    """Return `clips` with the columns psnr, ssim, psnr_outside and those of `TRACK`, as far as `metadata` knows them.

    `metadata` has one row a clip and quality, columns video_id and quality at least. The statistics of mouth tracks are
    drawn again from mouth_seed, frames and fps.
    """
    known = [name for name in ("psnr", "ssim", "psnr_outside") if name in metadata]
    facts = metadata[["video_id", "quality", *known]]
    if "mouth_seed" in metadata:
        motion = ["mouth_seed", "frames", "fps"]
        rows = metadata[metadata["video_id"].isin(_names(clips))].drop_duplicates("video_id")
        tracks = [track_statistics(*row) for row in rows[motion].itertuples(index=False)]
        tracks = pd.DataFrame(tracks, columns=TRACK).assign(video_id=rows["video_id"].to_numpy())
        facts = facts.merge(tracks, on="video_id", how="left")
    named = clips.assign(video_id=_names(clips))
    return named.merge(facts, on=["video_id", "quality"], how="left", validate="many_to_one").drop(columns="video_id")


def _names(clips: pd.DataFrame) -> pd.Series:
    """Return each clip's own video id: that of the fake, or of its target."""
    return clips["fake"].where(clips["label"] == 1, clips["fake"].str.split("_").str[0])


def track_statistics(seed: int, frames: int, fps: float) -> list[float]:
    """Return the statistics `TRACK` of a mouth track: share of closed frames; mean, deviation and speed (1/s) of units."""
    mouth = draw_track(int(seed), int(frames), fps).mouth
    both = ("mouthSmileLeft", "mouthSmileRight")
    jaw, funnel = (np.array([frame[unit] for frame in mouth]) for unit in ("jawOpen", "mouthFunnel"))
    smile = np.array([np.mean([frame[side] for side in both]) for frame in mouth])
    values = [float((jaw < CLOSED).mean())]
    for unit in (jaw, smile, funnel):
        values += [float(unit.mean()), float(unit.std()), float(np.abs(np.diff(unit)).mean() * fps)]
    return values

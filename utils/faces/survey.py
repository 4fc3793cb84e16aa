"""What a tree holds, what it lacks and what a run over it takes: the tables behind `python -m utils.faces.ffpp check`."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import joblib
import pandas as pd
from tqdm import tqdm

from utils.config import FacesConfig
from utils.faces.crops import extract_faces
from utils.faces.video import probe

TIMED, TRIED = 3, 30  # videos that are extracted to learn how long all of them take, and at most tried for that
ENCODED = 30  # frames/s and core that libx264 (medium) writes at 1280x720, a low estimate


def counts(found: pd.DataFrame, promised: pd.DataFrame) -> pd.DataFrame:
    """Return videos found of those that the splits promise, "358 of 360", one row a method and quality, one column a split.

    Both tables have the columns method, quality and split; a last column `mask` counts fakes with a mask.
    """
    key = ["method", "quality"]
    there, all_of = (
        table.groupby([*key, "split"], sort=False).size().unstack("split", fill_value=0) for table in (found, promised)
    )
    there = there.reindex(all_of.index, fill_value=0).reindex(columns=all_of.columns, fill_value=0)
    shown = there.astype(str) + " of " + all_of.astype(str)
    masks = (found["mask"] != "").groupby([found[name] for name in key]).sum()
    fakes = promised.groupby(key)["label"].max() == 1
    shown["mask"] = masks.reindex(shown.index, fill_value=0).astype(str).where(fakes.reindex(shown.index), "")
    return shown.reset_index().rename_axis(columns=None)


def complete_pairs(found: pd.DataFrame, promised: pd.DataFrame) -> dict[str, str]:
    """Return by split how many pairs have every promised video: both originals and both fakes, at each quality."""
    have, want = (table.groupby(["split", "pair"], sort=False).size() for table in (found, promised))
    whole = have.reindex(want.index, fill_value=0) == want
    return {split: f"{part.sum()} of {len(part)}" for split, part in whole.groupby("split", sort=False)}


def probe_all(paths: list[str], n_jobs: int = -1) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return what `video.probe` says of each readable video, one row each with its path, and the others: path -> error.

    Only headers are read, in threads: a file that is cut inside is found by the extraction.
    """
    done = joblib.Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
        joblib.delayed(_probe)(path) for path in paths
    )
    found = list(tqdm(done, total=len(paths), desc="headers", unit="video", leave=False))
    facts = [{"path": path, **facts} for path, facts, error in found if not error]
    columns = ["path", "width", "height", "fps", "frames", "seconds", "bitrate", "codec", "pix_fmt", "bytes"]
    return pd.DataFrame(facts, columns=columns), {path: error for path, _, error in found if error}


def _probe(path: str) -> tuple[str, dict, str]:
    try:
        return path, probe(path), ""
    except (FileNotFoundError, ValueError) as error:
        return path, {}, str(error)


def shapes(facts: pd.DataFrame) -> str:
    """Return the sizes of the frames in words, most frequent first: "1280x720 (310), 640x480 (90)"."""
    sizes = (facts["width"].astype(str) + "x" + facts["height"].astype(str)).value_counts()
    more = f" and {len(sizes) - 4} more" if len(sizes) > 4 else ""
    return ", ".join(f"{size} ({count})" for size, count in sizes.head(4).items()) + more


def cost(facts: pd.DataFrame, to_make: int, config: FacesConfig, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return what a run over readable videos takes, as lines: hours of encoding and extraction on these cores, disk for crops.

    A few videos of median length are extracted to measure it; those of them that turn out to be damaged inside come second:
    path -> error. `to_make` is the number of videos to be encoded.
    """
    if facts.empty:
        return [], {}
    cores, frames = os.cpu_count() or 1, facts["frames"].sum()
    middle = facts.iloc[(facts["frames"] - facts["frames"].median()).abs().argsort(kind="stable")]["path"].head(TRIED)
    seconds, sampled, broken = [], 0, {}
    for path in middle:
        began = time.perf_counter()
        try:
            sampled += len(extract_faces(path, config)[0])
        except (FileNotFoundError, ValueError) as error:
            broken[path] = str(error)
            continue
        seconds.append(time.perf_counter() - began)
        if len(seconds) == TIMED:
            break
    if not seconds:
        return [f"extraction: not one of {len(middle)} videos that were tried can be read to the end"], broken
    each, videos = sum(seconds) / len(seconds), len(facts) + to_make
    gigabytes = videos * sampled / len(seconds) * config.size**2 * 3 / 1e9
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free / 1e9
    disk = f"{gigabytes:.1f} GB of crops ({free:.0f} GB are free)"
    lines = [f"extraction: about {duration(each * videos / cores)} for {videos} videos on {cores} cores, {disk}"]
    if to_make:
        pixels = (facts["width"] * facts["height"]).mean() / (1280 * 720)
        encoding = to_make * frames / len(facts) * pixels / ENCODED / cores
        lines.insert(0, f"encoding: about {duration(encoding)} for {to_make} videos on {cores} cores (a rough estimate)")
    return lines, broken


def duration(seconds: float) -> str:
    """Return a duration for people: "40 s", "12 min", "3.1 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def unlisted(root: Path, known: set[str], folders: list[Path]) -> list[str]:
    """Return the files of some folders that no split knows, by path from the root."""
    files = (path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()))
    return [str(path.relative_to(root)) for path in files if path.stem not in known]

"""Scores networks at the qualities of `config.CURVE`, which none of them was trained on, and writes the committed tables.

    python -m utils.run.grid --profile repeat --groups notebooks    # networks, where `make reproduce` has not trained them
    python -m utils.run.extract --profile curve                     # encodes 1,820 clips, cuts out their faces: half an hour
    python -m utils.run.quality_curve [--profile repeat] [--out FOLDER]

Without --out they take the place of the committed ones. Only test clips are scored, and with them, at c23 and c40,
validation's, from whose real clips thresholds are taken. Finished work is not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import joblib
import pandas as pd
from tqdm import tqdm

from utils.config import CRF, CURVE, Profile, get_profile
from utils.faces import ffpp
from utils.faces.crops import FOUND, read_table
from utils.faces.video import probe
from utils.learn.dataset import load_faces
from utils.learn.predict import save_predictions
from utils.learn.scores import read_scores, write_scores
from utils.paths import QUALITY_CURVE, atomic
from utils.results import store
from utils.results.metrics import identity_pairs, video_scores
from utils.results.quality_curve import COLUMNS, PHASES, SCORES, VIDEOS
from utils.results.store import seal
from utils.run.arguments import processes
from utils.run.grid import TaskFailed, in_processes, run_task

FILE, SPLIT = "curve_scores.csv.gz", "test"  # of a run folder; of the clips


def runs_of(profile: Profile) -> pd.DataFrame:
    """Return the finished runs of this machine that are shown; raise FileNotFoundError where there is none."""
    runs = store.load_own(profile, "runs")
    runs = runs[(runs["experiment"] == "") & runs["phase"].isin(PHASES)]
    if runs.empty:
        raise FileNotFoundError(f"no finished run of {profile.name}: run `python -m utils.run.grid --profile {profile.name}`")
    return runs


def score_run(profile_name: str, run: str, own: str) -> list[str]:
    """Score the faces of the quality curve with one finished run of the profile `own`, in its precision; return a line."""
    save_predictions(get_profile(own), run, load_faces(get_profile(profile_name)), (SPLIT,), FILE)
    return [f"{run}: scored"]


def scores_table(profile: Profile, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of some runs in COLUMNS, one row a clip: validation and test as they are, test along the curve."""
    tables = []
    for run in runs["run"]:
        folder = profile.workspace.runs / run
        given = read_scores(folder / "scores.csv.gz")
        both = pd.concat([given[given["split"].isin(("val", SPLIT))], read_scores(folder / FILE)], ignore_index=True)
        tables.append(video_scores(both).rename(columns={"frames": "faces"}))
    table = pd.concat(tables, ignore_index=True)
    pairs = identity_pairs(table["video_id"].unique().tolist())
    return table.assign(pair=table["video_id"].map(pairs))[list(COLUMNS)]


def videos_table(profiles: Sequence[Profile], jobs: int = 1) -> pd.DataFrame:
    """Return one row a quality, from the highest rate to the lowest: test clips, kbit/s, and the share of faces found."""
    rows = []
    for profile in profiles:
        index = ffpp.load_index(profile)
        index = index[index["split"] == SPLIT]
        faces = read_table(profile.workspace.faces)
        faces = faces[faces["split"] == SPLIT]
        found = (faces["status"] == FOUND).groupby(faces["quality"]).mean()
        for quality, part in index.groupby("quality"):
            rates = joblib.Parallel(jobs)(joblib.delayed(probe)(path) for path in part["path"])
            kbits = sum(one["bitrate"] for one in rates) / len(rates) / 1e3
            rows.append({"quality": quality, "clips": len(part), "kbits": kbits, "found": found[quality]})
    return pd.DataFrame(rows).sort_values("kbits", ascending=False, ignore_index=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.run.quality_curve", description="AUC against bit rate.")
    parser.add_argument("--profile", default="repeat", help="whose networks are scored (default: repeat)")
    parser.add_argument("--jobs", type=processes, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=QUALITY_CURVE, help="folder of the tables (default: the committed ones)")
    arguments = parser.parse_args(argv)
    try:
        profile, curve = get_profile(arguments.profile), get_profile("curve")
        runs = runs_of(profile)
        task = partial(score_run, own=profile.name)
        with tqdm(total=len(runs), desc="quality curve", disable=None) as bar:
            calls = (joblib.delayed(run_task)(curve.name, run, 1, task) for run in runs["run"])
            in_processes(max(1, min(arguments.jobs, len(runs))), calls, lambda lines: bar.update(len(lines)))
        scores = scores_table(profile, runs)
        videos = videos_table((profile, curve), arguments.jobs)  # before either is written
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_scores(arguments.out / SCORES, scores)
        with atomic(arguments.out / VIDEOS) as path:
            videos.to_csv(path, index=False, float_format="%.4f", lineterminator="\n")
        seal(arguments.out / SCORES, arguments.out / VIDEOS)
    except (ValueError, OSError, TaskFailed) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{len(runs)} networks at {len(CRF) + len(CURVE)} qualities: {arguments.out}")


if __name__ == "__main__":
    main()

"""The format of scores: one row a face of a held-out split, P(fake) by one run. Reading them needs no torch."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from utils.faces.ffpp import HELD_OUT, SEALED
from utils.paths import atomic

# Of a run folder: scores, what a teacher said of the pool, how right that was, how well twins are told from originals.
SCORES, LABELLED, JUDGED, TWINS = "scores.csv.gz", "pseudo_labels.csv", "pseudo_labels_judged.csv", "twins.csv"
COLUMNS = ("run", "model", "phase", "seed", "method", "split", "quality", "video_id", "frame", "label", "score")
FACE = ["method", "split", "quality", "video_id", "frame"]  # names one face; fakes of two methods share their video_id
SCORED = (*HELD_OUT, *SEALED)
TEXT = dict.fromkeys(("experiment", "run", "model", "phase", "method", "split", "quality", "video_id"), "str")  # "007" is not 7


def over_clip(scores: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """Return the score of each clip (C,) or (C, K): the mean of its faces' scores (N,) or (N, K).

    The one place that decides how faces make a clip. `clip` (N,) numbers the clips from 0, none left out.
    """
    total, count = np.zeros((clip.max() + 1, *scores.shape[1:]), scores.dtype), np.bincount(clip)
    np.add.at(total, clip, scores)
    return (total / count.reshape(-1, *[1] * (scores.ndim - 1))).astype(scores.dtype)


def _mean_log_odds(scores: np.ndarray) -> float:
    kept = np.clip(scores, 1e-6, 1 - 1e-6)
    return float(1 / (1 + np.exp(-np.log(kept / (1 - kept)).mean())))


# Other ways for faces to make a clip's score, which are measured beside that one (`results/practice.py`).
AGGREGATIONS: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "median": np.median,
    "highest": np.max,
    "mean of the three highest": lambda scores: np.sort(scores)[-3:].mean(),
    "mean of log odds": _mean_log_odds,
}


def equal_scores(these: pd.DataFrame, those: pd.DataFrame, key: list[str], by: list[str]) -> pd.Series:
    """Tell, for each group `by` of `these`, whether every face has exactly the score that it has in `those`.

    `key` names a face in both; one that only one of them has makes its group unequal: the faces of `those` that count are of
    the same runs, and of the same `by` as far as that is in `key`.
    """
    both = these.merge(those[[*key, "score"]], on=key, how="left", suffixes=("", "_there"))
    equal = both["score"].eq(both["score_there"]).groupby([both[name] for name in by]).all()
    shared = [name for name in key if name in by or name not in FACE]
    counts = these.groupby(list(dict.fromkeys([*by, *shared])), as_index=False).size()
    counts = counts.merge(those.groupby(shared, as_index=False).size(), on=shared, how="left", suffixes=("", "_there"))
    return equal & counts["size"].eq(counts["size_there"]).groupby([counts[name] for name in by]).all()


def checksums(table: pd.DataFrame, by: list[str]) -> pd.Series:
    """Return a checksum of the scores of each group, `by` in its index: of all columns of all rows, in whatever order.

    It tells scores that were lost or edited from those that a run has given; it keeps out nobody who means harm.
    """
    text = table[list(COLUMNS)].astype(object).assign(score=table["score"].map("{:.5g}".format))
    rows = pd.util.hash_pandas_object(text, index=False) % 2**40  # so that a sum of many fits
    return rows.groupby([table[name] for name in by]).sum().map("{:013x}".format)


def write_scores(path: Path, table: pd.DataFrame) -> None:
    """Write a table as gzipped CSV, scores to five digits; equal tables give equal files."""
    text = table.to_csv(index=False, float_format="%.5g", lineterminator="\n")
    with atomic(path) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))  # no name, no time


def _counts(column: pd.Series) -> bool:
    return pd.api.types.is_integer_dtype(column) and bool((column >= 0).all())


def read_scores(file: Path | str, columns: tuple[str, ...] = COLUMNS, remedy: str = "score the run again") -> pd.DataFrame:
    """Read and check a file of scores; raise ValueError that names the file, what is wrong and the `remedy`."""
    try:
        table = pd.read_csv(file, dtype=TEXT)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{file}: no gzipped CSV ({error}): {remedy}") from None
    if tuple(table.columns) != columns:
        found = ", ".join(map(str, table.columns))[:200]
        raise ValueError(f"{file}: columns {found}; expected {', '.join(columns)}: {remedy}")
    where = [name for name in ("experiment", "run") if name in columns]
    clips = table.groupby([*where, "method", "video_id"], dropna=False)
    problems = {
        "no rows": table.empty,
        "empty cells": bool(table.drop(columns=where[:-1]).isna().any().any()),
        "seeds or frames that are no whole numbers from 0 on": not all(_counts(table[name]) for name in ("seed", "frame")),
        "labels other than 0 and 1": not table["label"].isin([0, 1]).all(),
        "scores outside [0, 1]": not pd.to_numeric(table["score"], errors="coerce").between(0, 1).all(),
        f"splits other than {', '.join(SCORED)}": not table["split"].isin(SCORED).all(),
        "a video with two labels": bool((clips["label"].nunique() > 1).any()),
        "a face that is scored twice": bool(table.duplicated([*where, *FACE]).any()),
    }  # fmt: skip
    for problem, is_there in problems.items():
        if is_there:
            raise ValueError(f"{file}: {problem}: {remedy}")
    return table

"""Which of the measured shortcuts tell fakes from reals?

A logistic regression learns from each measure of `shortcuts` on the training people, and its AUC on test people should be
one half wherever the mouth is hidden. Notebook 01 shows the search step by step; the study's data are searched by

    python -m utils.checks.shortcut_verdicts    # SynthFF 2: its training people, and its first test
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from utils.checks.shortcuts import MOTION, RINGS, STATISTICS, VARIANTS, Measured, add_metadata
from utils.checks.shortcuts import measure as measure_clips
from utils.config import Profile, get_profile, require_data
from utils.faces.ffpp import load_index
from utils.paths import atomic
from utils.protocol import STUDIES, study_of
from utils.results.metrics import interval, measure, resample_pairs, summarise
from utils.results.style import (
    BAND_COLOR,
    COLUMN,
    HOLLOW,
    QUALITY_COLORS,
    dots_with_intervals,
    outside_legend,
    quality_panels,
)
from utils.results.unlabelled import SHORTCUT_COLUMNS, SHORTCUTS

BAND = (0.43, 0.57)  # AUCs that count as chance here
COSTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # inverse strengths of regularisation tried on the training pairs
SIZES = ["bitrate", "bytes_i", "bytes_p", "bytes_b"]  # compared by ratio
SEES_MOUTH = (
    "colour", "bit rate", "packet sizes", "PSNR and SSIM", "colour, bit rate, GOP and PSNR outside", "motion in the mask",
    VARIANTS[0],
)  # fmt: skip
_TABLE = list(SHORTCUT_COLUMNS)


def fitted_scores(x: np.ndarray, train: pd.DataFrame, x_test: np.ndarray, costs: Sequence[float] = (1.0,)) -> np.ndarray:
    """Return the test scores (m,) of a logistic regression of `train`'s labels on standardised columns x (n, d).

    Of several costs the one with the best AUC in a cross-validation grouped by `train`'s pairs is taken.
    """
    # scikit-learn's own tolerance calls a weak column hopeless and gives it a weight of exactly zero.
    model = make_pipeline(StandardScaler(), LogisticRegression(C=costs[0], max_iter=2000, tol=1e-6))
    folds = min(5, train["pair"].nunique())
    if len(costs) > 1 and folds > 1:
        # One process a core: for so small problems, threads inside of one lose more than they win.
        search = GridSearchCV(model, {"logisticregression__C": costs}, scoring="roc_auc", cv=GroupKFold(folds), n_jobs=-1)
        return search.fit(x, train["label"], groups=train["pair"]).decision_function(x_test)
    return model.fit(x, train["label"]).decision_function(x_test)


def judge(test: pd.DataFrame, scores: np.ndarray, resamples: int, seed: int = 0) -> dict[str, float]:
    """Return AUC of `scores` with its 95 % interval over identity pairs, and `paired`, the share of couples in the right order.

    A couple is a fake and its target's original, half for ties: it needs both at hand, which no detector has, but does
    not drown in the differences between people.
    """
    names, groups = np.unique(test["pair"].to_numpy(dtype=str), return_inverse=True)
    weights = np.vstack([np.ones((1, len(names))), resample_pairs(len(names), resamples, seed)])
    auc = measure(test["label"].to_numpy(), scores, 0.0, groups, weights, ("auc",))["auc"]
    wide = (
        test.assign(score=scores, group=groups)
        .pivot(index=["method", "fake", "group"], columns="label", values="score")
        .dropna()
    )
    won = (np.sign(wide[1] - wide[0]).to_numpy() + 1) / 2
    group = wide.index.get_level_values("group").to_numpy()
    right, count = (np.bincount(group, values, len(names)) for values in (won, np.ones(len(won))))
    return {"pairs": len(names)} | summarise({"auc": auc, "paired": (weights @ right) / (weights @ count)})


def judge_columns(clips: pd.DataFrame, groups: dict[str, list[str]], resamples: int) -> pd.DataFrame:
    """Judge each group of columns at each quality; columns that were not measured, and groups without any, are left out.

    Returns columns check, sees_mouth, quality, pairs, auc, auc_lo, auc_hi, paired, paired_lo, paired_hi.
    """
    rows = []
    for check, columns in groups.items():
        columns = [name for name in columns if name in clips and clips[name].notna().any()]
        if columns:
            x = clips[columns].assign(**{name: np.log1p(clips[name]) for name in SIZES if name in columns})
            rows += _judge_qualities(check, clips, x.to_numpy(float), resamples)
    return pd.DataFrame(rows, columns=_TABLE)


def judge_pictures(measured: Measured, resamples: int) -> pd.DataFrame:
    """Judge what the frozen network sees of each of `VARIANTS`; columns as in `judge_columns`."""
    rows = [_judge_qualities(check, measured.clips, x, resamples, COSTS) for check, x in measured.looks.items()]
    return pd.DataFrame(sum(rows, []), columns=_TABLE)


def _judge_qualities(check: str, clips: pd.DataFrame, x: np.ndarray, resamples: int, costs=(1.0,)) -> list[dict]:
    rows, whole = [], np.isfinite(x).all(axis=1)
    for quality in sorted(clips["quality"].unique()):
        here = whole & (clips["quality"] == quality).to_numpy()
        train, test = (here & (clips["split"] == split).to_numpy() for split in ("train", "test"))
        if min(clips.loc[part, "label"].nunique() for part in (train, test)) < 2:
            continue
        scores = fitted_scores(x[train], clips[train], x[test], costs)
        about = {"check": check, "sees_mouth": check in SEES_MOUTH, "quality": quality}
        rows.append(about | judge(clips[test], scores, resamples))
    return rows


def ring_table(rings: pd.DataFrame, resamples: int, seed: int = 0) -> pd.DataFrame:
    """Return the mean difference real/fake of each quality and ring with its 95 % interval over identity pairs.

    Columns quality, ring, value, lo, hi, in grey levels.
    """
    rows = []
    for quality, part in rings.groupby("quality") if len(rings) else ():
        by_pair = part.groupby("pair")[list(RINGS)].mean().to_numpy()  # each pair has two fakes
        weights = resample_pairs(len(by_pair), resamples, seed)
        draws = weights @ by_pair / weights.sum(axis=1, keepdims=True)
        for ring, value, values in zip(RINGS, by_pair.mean(axis=0), draws.T, strict=True):
            rows.append((quality, ring, float(value), *interval(values)))
    return pd.DataFrame(rows, columns=["quality", "ring", "value", "lo", "hi"])


def auc_figure(table: pd.DataFrame, name: str) -> Figure:
    """AUC of every check with its 95 % interval beside the band of chance; hollow where the mouth is seen."""
    order = list(dict.fromkeys(table["check"]))
    table = table.assign(row=table["check"], value=table["auc"], lo=table["auc_lo"], hi=table["auc_hi"])
    qualities = sorted(table["quality"].unique())
    fig, axes = quality_panels(qualities, name, 0.9 + 0.2 * len(order), sharex=True)
    for ax, quality in zip(axes, qualities, strict=True):
        ax.axvspan(*BAND, color=BAND_COLOR, linewidth=0)
        part = table[table["quality"] == quality]
        dots_with_intervals(ax, part, order, color=QUALITY_COLORS.get(quality))
        seeing = part[part["row"].isin(SEES_MOUTH)]
        y = [len(order) - 1 - order.index(row) for row in seeing["row"]]
        ax.plot(seeing["value"], y, "o", markersize=3.5, markerfacecolor=HOLLOW, color=QUALITY_COLORS.get(quality))
        ax.set(xlabel="AUC, 95 % intervals (grey: chance)")
    return fig


def ring_figure(table: pd.DataFrame, name: str) -> Figure:
    """Mean difference of real and fake by distance from the mask, one line a quality, with 95 % intervals."""
    fig, ax = plt.subplots(figsize=(COLUMN + 0.6, 2.4))
    for quality, part in table.groupby("quality"):
        x = [list(RINGS).index(ring) for ring in part["ring"]]
        error = np.abs(part[["lo", "hi"]].to_numpy().T - part["value"].to_numpy())
        ax.errorbar(x, part["value"], error, color=QUALITY_COLORS.get(quality), marker="o", markersize=3.5, label=quality)
    ax.set_xticks(range(len(RINGS)), [ring.removesuffix(" px") for ring in RINGS])
    ax.set(xlabel="distance from the mask (px)", ylabel="|real - fake| (grey levels)", ylim=(0, None))
    outside_legend(fig, ax, name)
    return fig


def search_study(profile: Profile, n_jobs: int = -1) -> pd.DataFrame:
    """Judge every measure on a study's data: learned from its training people, asked of its first test (`judge_columns`)."""
    test = study_of(profile).tests[0]
    profile = replace(profile, data=replace(profile.data, splits=("train", test)))
    root, index = require_data(profile), load_index(profile)
    found = measure_clips(index.assign(split=index["split"].replace(test, "test")), root, n_jobs)
    metadata = pd.read_csv(root / "metadata.csv", dtype={"video_id": str})
    clips, count = add_metadata(found.clips, metadata), profile.bootstrap
    parts = [judge_columns(clips, STATISTICS, count), judge_columns(clips, MOTION, count), judge_pictures(found, count)]
    return pd.concat(parts, ignore_index=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.checks.shortcut_verdicts", description="A study's shortcuts.")
    parser.add_argument("--profile", default="study", choices=tuple(STUDIES))
    parser.add_argument("--out", type=Path, help="default: beside the study's scores")
    parser.add_argument("--jobs", type=int, default=-1, help="processes, default: one a core")
    arguments = parser.parse_args(argv)
    try:
        profile = get_profile(arguments.profile)
        table = search_study(profile, arguments.jobs)
        with atomic(arguments.out or profile.workspace.study / SHORTCUTS) as temporary:
            table.to_csv(temporary, index=False, float_format="%.4f", lineterminator="\n")
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()

"""Figures: one function makes one figure, which becomes one file in figures/ and one label in the report.

Result figures take the predictions, their evaluation and the data set's name, show whatever runs are there, and
return None where there is nothing to show. All but `robustness` are about the split test.
"""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from utils.config import PHASES
from utils.results.metrics import (
    Evaluation,
    hard_against_test,
    video_scores,
)
from utils.results.style import (
    ARM_COLORS,
    AUC_COLORS,
    COLORS,
    COLUMN,
    HOLLOW,
    LABELS,
    MODELS,
    ORIGINAL_COLOR,
    PAGE,
    QUALITY_COLORS,
    REFERENCE_LINE,
    dots_with_intervals,
    known_methods,
    method_label,
    outside_legend,
    quality_panels,
)
from utils.results.tables import accuracy_gaps, one_run_a_model


def roc_by_quality(predictions: pd.DataFrame, evaluation: Evaluation, name: str) -> Figure | None:
    """ROC curves of the models at each quality, per video."""
    table = one_run_a_model(evaluation).query("level == 'video'")
    if table.empty:
        return None
    videos = video_scores(predictions.query("split == 'test'"))
    qualities = sorted(table["quality"].unique())
    fig, axes = quality_panels(qualities, name, 3.2)
    for ax, quality in zip(axes, qualities, strict=True):
        for row in table[table["quality"] == quality].itertuples():
            part = videos[(videos["run"] == row.run) & (videos["quality"] == quality)]
            fpr, tpr, _ = roc_curve(part["label"], part["score"], drop_intermediate=False)
            ax.plot(fpr, tpr, color=COLORS[row.model], label=method_label(row))
        ax.plot([0, 1], [0, 1], **REFERENCE_LINE)
        ax.set(xlabel="false alarms on real videos")
    axes[0].set_ylabel("fake videos found")
    outside_legend(fig, axes[0])
    return fig


def frame_to_video(predictions: pd.DataFrame, evaluation: Evaluation, name: str) -> Figure | None:
    """AUC per frame (hollow) and per video (full): what averaging a video's frames is worth."""
    table = one_run_a_model(evaluation)
    if table.empty:
        return None
    rows = list(dict.fromkeys(table["model"]))
    fig, ax = plt.subplots(figsize=(COLUMN + 0.6, 0.9 + 0.32 * len(rows)))
    for index, (quality, part) in enumerate(table.groupby("quality")):
        wide = part.pivot(index="model", columns="level", values="auc").loc[rows]
        y, color = np.arange(len(rows))[::-1] - 0.24 * (index - 0.5), QUALITY_COLORS.get(quality)
        ax.hlines(y, wide["frame"], wide["video"], color=color)
        ax.plot(wide["frame"], y, "o", color=color, markerfacecolor=HOLLOW, markersize=4)
        ax.plot(wide["video"], y, "o", color=color, markersize=4, label=quality)
    ax.set_yticks(range(len(rows)), [MODELS[model] for model in rows[::-1]])
    ax.set(xlabel="AUC per frame (hollow) and per video (full)", ylim=(-0.6, len(rows) - 0.4))
    outside_legend(fig, ax, f"{name}, test")
    return fig


def validation_minus_test(predictions: pd.DataFrame, evaluation: Evaluation, name: str) -> Figure | None:
    """Accuracy lost from validation to test: the original's 18 cases, and ours with 95 % intervals (two data sets)."""
    table = accuracy_gaps(evaluation, name)
    table = table.assign(row=[method_label(row) for row in table.itertuples()], value=table["gap"])
    rows = [f"{model}, {LABELS[phase]}" for phase in PHASES for model in MODELS.values()]
    rows = [row for row in rows if row in set(table["row"])]
    groups = list(dict.fromkeys(table["group"]))
    fig, axes = plt.subplots(1, max(1, len(groups) - 1), figsize=(PAGE, 1 + 0.17 * len(rows)), sharey=True, squeeze=False)
    for ax, group in zip(axes[0], groups[1:] or groups, strict=True):
        dots_with_intervals(ax, table[table["group"] == groups[0]], rows, 0.12, color=ORIGINAL_COLOR, label=groups[0])
        if group != groups[0]:
            color = QUALITY_COLORS.get(group.split(", ")[-1])
            dots_with_intervals(ax, table[table["group"] == group], rows, -0.12, color=color, label=group)
        ax.axvline(0, **REFERENCE_LINE)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    fig.supxlabel("points of accuracy over faces lost, validation to test", fontsize="small")
    return fig


def robustness(predictions: pd.DataFrame, evaluation: Evaluation, name: str) -> Figure | None:
    """AUC of each method on the test videos (full) and on the harder ones of test_hard (hollow), with 95 % intervals."""
    table = known_methods(hard_against_test(evaluation)).rename(columns={"method": "row"})
    if table.empty:
        return None
    rows = list(dict.fromkeys(table["row"]))
    qualities = sorted(table["quality"].unique())
    fig, axes = quality_panels(qualities, name, 0.9 + 0.22 * len(rows), "videos", sharex=True)
    for ax, quality in zip(axes, qualities, strict=True):
        part, color = table[table["quality"] == quality], QUALITY_COLORS.get(quality)
        for split, shift, face in (("test", -0.13, color), ("hard", 0.13, HOLLOW)):
            names = {split: "value", f"{split}_lo": "lo", f"{split}_hi": "hi"}
            style = {"color": color, "markerfacecolor": face}
            dots_with_intervals(ax, part[["row", *names]].rename(columns=names), rows, shift, **style)
        ax.axvline(0.5, **REFERENCE_LINE)
    fig.supxlabel("AUC of the videos of test (full) and test_hard (hollow), 95 % intervals", fontsize="small")
    return fig


def transfer(table: pd.DataFrame, name: str) -> Figure | None:
    """AUC of a network that learned one manipulation method (rows) on the fakes of another (columns), one panel a quality.

    `table` comes from `tables.transfer_table`; means over seeds.
    """
    if table.empty:
        return None
    qualities, rows = sorted(table["quality"].unique()), list(dict.fromkeys(table["trained_on"]))
    fig, axes = quality_panels(qualities, name, 1.0 + 0.3 * len(rows), sharex=True)
    for ax, quality in zip(axes, qualities, strict=True):
        part = table[table["quality"] == quality]
        grid = part.pivot_table(index="trained_on", columns="tested_on", values="value").loc[rows]
        sns.heatmap(grid, ax=ax, vmin=0.5, vmax=1, annot=True, fmt=".3f", cmap=AUC_COLORS, cbar=False)
        ax.set(xlabel="tested on the fakes of", ylabel="trained on" if ax is axes[0] else "")
        ax.tick_params(axis="both", rotation=0, labelsize="small")
    return fig


def learning_curves(logs: dict[str, pd.DataFrame], runs: pd.DataFrame, name: str) -> Figure:
    """Loss and validation AUC over optimiser steps, one line a run; `logs` holds the tables of runs' log.jsonl by run.

    Reads the columns step, loss and val_auc; `runs` has run, phase and model of each, in any number of rows. Networks have
    their colour, and arms theirs; of a network's two phases the later is dashed. `name` is that of the data.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.6))
    about = runs.drop_duplicates("run").set_index("run")
    for run, log in logs.items():
        phase = about.loc[run, "phase"].partition("_it")[0]
        line = {"color": ARM_COLORS.get(phase, COLORS[about.loc[run, "model"]]), "label": method_label(about.loc[run]),
                "linestyle": "--" if phase == "post_trained" else "-"}  # fmt: skip
        left.plot(log["step"], log["loss"], **line)
        right.plot(log["step"], log["val_auc"], marker=".", **line)
    right.axhline(0.5, **REFERENCE_LINE)
    left.set(xlabel="optimiser steps", ylabel="training loss")
    right.set(xlabel="optimiser steps", ylabel="validation AUC")
    right.set_ylim(bottom=min(0.45, right.get_ylim()[0]))  # the line of chance stands off the axis
    outside_legend(fig, left, name)
    return fig


RESULT_FIGURES: dict[str, Callable[[pd.DataFrame, Evaluation, str], Figure | None]] = {
    function.__name__: function
    for function in (
        roc_by_quality,
        frame_to_video,
        validation_minus_test,
        robustness,
    )
}

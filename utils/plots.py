"""Figures: one function makes one figure, which becomes one file in figures/ and one label in the report.

Result figures take the predictions, their evaluation and the data set's name, show whatever runs are there, and
return None where there is nothing to show. All but `robustness` are about the split test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, roc_curve

from utils.metrics import (
    Evaluation,
    by_method,
    hard_against_test,
    unpaired_difference,
    validation_auc,
    video_scores,
)
from utils.paths import REFERENCE
from utils.style import (
    CLASS_COLORS,
    COLORS,
    COLUMN,
    COMPARISON,
    MODELS,
    PAGE,
    PHASES,
    QUALITY_COLORS,
    dots_by_quality,
    dots_with_intervals,
    known_methods,
    method_label,
    outside_legend,
    quality_panels,
    write_figures,
)


def one_run_a_model(evaluation: Evaluation) -> pd.DataFrame:
    """Return the test rows of one run a model: of its runs in `PHASES`, the one with the best validation AUC.

    Validation AUC is that of frames, averaged over the qualities; models come in the order of `MODELS`.
    """
    table = evaluation.table[evaluation.table["phase"].isin(PHASES)]
    valid = validation_auc(evaluation).mean(axis=1)
    runs = table.drop_duplicates("run").sort_values("run", key=lambda names: names.map(valid), kind="stable")
    table = table[(table["split"] == "test") & table["run"].isin(runs.groupby("model")["run"].last())]
    order = {model: index for index, model in enumerate(MODELS)}
    return table.sort_values("model", key=lambda names: names.map(order), kind="stable")


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
            ax.plot(fpr, tpr, color=COLORS[row.model], label=f"{method_label(row)}: {row.auc:.3f}")
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
        ax.set(xlabel="false alarms on real videos", aspect="equal")
        ax.legend(title="AUC", loc="lower right")
    axes[0].set_ylabel("fake videos found")
    return fig


def auc_intervals(predictions: pd.DataFrame, evaluation: Evaluation, name: str) -> Figure | None:
    """AUC of each model and phase at each quality, with 95 % intervals."""
    table = by_method(evaluation).query("phase in @PHASES")
    if table.empty:
        return None
    table = table.assign(row=[method_label(row) for row in table.itertuples()])
    known = [f"{model}, {phase}" for model in MODELS.values() for phase in PHASES.values()]
    rows = [row for row in known if row in set(table["row"])]
    return dots_by_quality(table, rows, (COLUMN + 0.6, 0.9 + 0.19 * len(rows)), 0.5, "AUC, 95 % intervals", name)


def accuracy_bars(predictions: pd.DataFrame, evaluation: Evaluation, name: str) -> Figure | None:
    """Accuracy over all, real and fake videos at the threshold chosen on validation."""
    table = one_run_a_model(evaluation).query("level == 'video'")
    if table.empty:
        return None
    kinds = {
        "accuracy": ("all", "0.55"),
        "accuracy_real": ("real", CLASS_COLORS["real"]),
        "accuracy_fake": ("fake", CLASS_COLORS["fake"]),
    }
    qualities = sorted(table["quality"].unique())
    fig, axes = quality_panels(qualities, name, 2.6)
    for ax, quality in zip(axes, qualities, strict=True):
        part = table[table["quality"] == quality]
        x = np.arange(len(part))
        for index, (metric, (label, color)) in enumerate(kinds.items()):
            error = [part[metric] - part[f"{metric}_lo"], part[f"{metric}_hi"] - part[metric]]
            ax.bar(
                x + 0.27 * (index - 1),
                part[metric],
                0.25,
                color=color,
                label=label,
                yerr=np.clip(error, 0, None),
                error_kw={"linewidth": 0.7},
            )
        ax.set_xticks(x, [MODELS[model] for model in part["model"]], rotation=25, ha="right")
    axes[0].set(ylabel="accuracy", ylim=(0, 1.02))
    outside_legend(fig, axes[0])
    return fig


def _videos_by_model(predictions: pd.DataFrame, evaluation: Evaluation) -> tuple:
    """Return the video rows of `one_run_a_model`, the test videos' scores, and the models and qualities of the panels."""
    table = one_run_a_model(evaluation).query("level == 'video'")
    videos = video_scores(predictions.query("split == 'test'"))
    return table, videos, list(dict.fromkeys(table["model"])), sorted(table["quality"].unique())


def confusion(predictions: pd.DataFrame, evaluation: Evaluation, name: str) -> Figure | None:
    """Confusion matrices of test videos at the threshold chosen on validation."""
    table, videos, models, qualities = _videos_by_model(predictions, evaluation)
    if table.empty:
        return None
    size = (1.25 * len(models) + 0.5, 1.25 * len(qualities) + 0.4)
    fig, axes = plt.subplots(len(qualities), len(models), figsize=size, squeeze=False, sharex=True, sharey=True)
    for row in table.itertuples():
        ax = axes[qualities.index(row.quality), models.index(row.model)]
        part = videos[(videos["run"] == row.run) & (videos["quality"] == row.quality)]
        counts = confusion_matrix(part["label"], part["score"] >= row.threshold, labels=[0, 1])
        sns.heatmap(
            counts,
            ax=ax,
            annot=True,
            fmt="d",
            cbar=False,
            vmin=0,
            vmax=counts.sum(axis=1).max(),
            cmap="Blues",
            xticklabels=["real", "fake"],
            yticklabels=["real", "fake"],
            square=True,
        )
        if row.quality == qualities[0]:
            ax.set_title(MODELS[row.model])
    for ax, quality in zip(axes[:, 0], qualities, strict=True):
        ax.set_ylabel(f"{quality}: true class")
    fig.supxlabel(f"predicted class, {name} test videos", fontsize="small")
    return fig


def score_histograms(predictions: pd.DataFrame, evaluation: Evaluation, name: str) -> Figure | None:
    """Scores of real and fake test videos, with the threshold chosen on validation."""
    table, videos, models, qualities = _videos_by_model(predictions, evaluation)
    if table.empty:
        return None
    fig, axes = plt.subplots(
        len(models), len(qualities), figsize=(PAGE, 0.6 + 0.8 * len(models)), squeeze=False, sharex=True, sharey="row"
    )
    for row in table.itertuples():
        ax = axes[models.index(row.model), qualities.index(row.quality)]
        part = videos[(videos["run"] == row.run) & (videos["quality"] == row.quality)]
        for label, (kind, color) in enumerate(CLASS_COLORS.items()):
            ax.hist(part.loc[part["label"] == label, "score"], bins=np.linspace(0, 1, 21), color=color, alpha=0.6, label=kind)
        ax.axvline(row.threshold, color="0.2", linewidth=1, linestyle="--", label="threshold")
        ax.set_title(f"{MODELS[row.model]}, {row.quality}")
    outside_legend(fig, axes[0, 0])
    fig.supxlabel(f"score (probability of fake), {name} test videos", fontsize="small")
    fig.supylabel("videos", fontsize="small")
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
        ax.plot(wide["frame"], y, "o", color=color, markerfacecolor="white", markersize=4)
        ax.plot(wide["video"], y, "o", color=color, markersize=4, label=quality)
    ax.set_yticks(range(len(rows)), [MODELS[model] for model in rows[::-1]])
    ax.set(xlabel="AUC per frame (hollow) and per video (full)", ylim=(-0.6, len(rows) - 0.4))
    outside_legend(fig, ax, f"{name}, test")
    return fig


def original_results(*_) -> Figure:
    """The original project's 18 cases: accuracy on its validation and on unseen test videos."""
    table = load_original()
    rows = [method_label(row) for row in table.itertuples()]
    fig, ax = plt.subplots(figsize=(COLUMN + 0.6, 4.4))
    y = np.arange(len(rows))[::-1]
    ax.hlines(y, table["test_acc_all"], table["val_acc_all"], color="0.75")
    ax.plot(table["val_acc_all"], y, "o", color="#0173b2", markersize=4, label="validation")
    ax.plot(table["test_acc_all"], y, "o", color="#d55e00", markersize=4, label="unseen test")
    ax.set_yticks(y, rows)
    ax.set(xlabel="accuracy over faces (%)")
    outside_legend(fig, ax, "original project, FaceForensics++")
    return fig


def load_original() -> pd.DataFrame:
    """Return the original project's 18 cases: phase, model, accuracies in % on validation and unseen test faces."""
    return pd.read_csv(REFERENCE / "original_results.csv")


def accuracy_gaps(evaluation: Evaluation, name: str) -> pd.DataFrame:
    """Return points of accuracy lost from validation to test, over faces at a threshold of one half.

    Columns group, phase, model, gap, lo, hi, holds_zero (does the interval?). Ours are means over seeds; validation and
    test share nobody, so the interval is unpaired. The original gave none, and holds_zero is False there.
    """
    original = load_original()
    gaps = original["val_acc_all"] - original["test_acc_all"]
    parts = [original[["phase", "model"]].assign(group="original, FF++", gap=gaps)]
    ours = evaluation.table.query("level == 'frame' and phase in @PHASES and split == 'val'")
    rows = []
    for (quality, phase, model), part in ours.groupby(["quality", "phase", "model"], sort=True):
        val, test = ([(run, split, quality, "frame") for run in part["run"]] for split in ("val", "test"))
        if all(key in evaluation.values for key in test):
            found = unpaired_difference(evaluation, val, test, "accuracy_half")
            rows.append((f"{name}, {quality}", phase, model, *(100 * value for value in found.values())))
    parts.append(pd.DataFrame(rows, columns=["group", "phase", "model", "gap", "lo", "hi"]))
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    table = table.reindex(columns=["group", "phase", "model", "gap", "lo", "hi"])
    return table.assign(holds_zero=(table["lo"] <= 0) & (table["hi"] >= 0))


def validation_minus_test(predictions: pd.DataFrame, evaluation: Evaluation, name: str) -> Figure | None:
    """Accuracy lost from validation to test: the original's 18 cases, and ours with 95 % intervals (two data sets)."""
    table = accuracy_gaps(evaluation, name)
    table = table.assign(row=[method_label(row) for row in table.itertuples()], value=table["gap"])
    rows = [f"{model}, {phase}" for phase in PHASES.values() for model in MODELS.values()]
    rows = [row for row in rows if row in set(table["row"])]
    groups = list(dict.fromkeys(table["group"]))
    fig, axes = plt.subplots(1, max(1, len(groups) - 1), figsize=(PAGE, 1 + 0.17 * len(rows)), sharey=True, squeeze=False)
    for ax, group in zip(axes[0], groups[1:] or groups, strict=True):
        dots_with_intervals(ax, table[table["group"] == groups[0]], rows, 0.12, color="0.4", label=groups[0])
        if group != groups[0]:
            color = QUALITY_COLORS.get(group.split(", ")[-1])
            dots_with_intervals(ax, table[table["group"] == group], rows, -0.12, color=color, label=group)
        ax.axvline(0, color="0.6", linewidth=0.8, linestyle=":")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    fig.supxlabel("points of accuracy over faces lost, validation to test", fontsize="small")
    return fig


def noisy_student(predictions: pd.DataFrame, evaluation: Evaluation, name: str) -> Figure | None:
    """AUC of teachers, students and oracle of the Noisy Student comparison, with 95 % intervals."""
    table = by_method(evaluation).query("phase in @COMPARISON")
    if table.empty:
        return None
    table = table.assign(row=table["phase"].map(COMPARISON))
    rows = [label for label in COMPARISON.values() if label in set(table["row"])]
    qualities = sorted(table["quality"].unique())
    fig, axes = quality_panels(qualities, name, 0.9 + 0.25 * len(rows), sharex=True)
    for ax, quality in zip(axes, qualities, strict=True):
        dots_with_intervals(ax, table[table["quality"] == quality], rows, color=QUALITY_COLORS.get(quality))
        ax.set(xlabel="AUC, 95 % intervals")
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
        for split, shift, face in (("test", -0.13, color), ("hard", 0.13, "white")):
            names = {split: "value", f"{split}_lo": "lo", f"{split}_hi": "hi"}
            style = {"color": color, "markerfacecolor": face}
            dots_with_intervals(ax, part[["row", *names]].rename(columns=names), rows, shift, **style)
        ax.axvline(0.5, color="0.6", linewidth=0.8, linestyle=":")
    fig.supxlabel("AUC of the videos of test (full) and test_hard (hollow), 95 % intervals", fontsize="small")
    return fig


def learning_curves(logs: dict[str, pd.DataFrame]) -> Figure:
    """Loss and validation AUC over optimiser steps, one line a run; `logs` holds the tables of runs' log.jsonl.

    Reads the columns step, loss and val_auc.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.6))
    for color, (run, log) in zip(sns.color_palette("colorblind", max(len(logs), 1)), logs.items(), strict=True):
        left.plot(log["step"], log["loss"], color=color, label=run)
        right.plot(log["step"], log["val_auc"], color=color, marker=".", label=run)
    left.set(xlabel="optimiser steps", ylabel="training loss")
    right.set(xlabel="optimiser steps", ylabel="validation AUC")
    outside_legend(fig, left)
    return fig


RESULT_FIGURES: dict[str, Callable[[pd.DataFrame, Evaluation, str], Figure | None]] = {
    function.__name__: function
    for function in (
        roc_by_quality,
        auc_intervals,
        accuracy_bars,
        confusion,
        score_histograms,
        frame_to_video,
        original_results,
        validation_minus_test,
        noisy_student,
        robustness,
    )
}


def draw_results(
    predictions: pd.DataFrame, evaluation: Evaluation, name: str, folder: Path, only: Sequence[str] = (), close: bool = True
) -> dict[str, Path]:
    """Write the result figures (or `only` some) that have something to show into `folder`; return name -> file.

    A notebook passes `close=False` and so shows them as well. Raises KeyError for an unknown name.
    """
    draws = {key: partial(RESULT_FIGURES[key], predictions, evaluation, name) for key in only or RESULT_FIGURES}
    return write_figures(draws, folder, close)

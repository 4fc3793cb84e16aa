"""Figures of what unlabelled video is worth: one function makes one figure, None where it has nothing to show."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.config import UNSEEN
from utils.protocol import ARMS, PRIMARY, StudyConfig
from utils.results import unlabelled
from utils.results.style import (
    ARM_COLORS,
    COLUMN,
    MODELS,
    PAGE,
    QUALITY_COLORS,
    REFERENCE_LINE,
    band,
    dots_with_intervals,
    outside_legend,
    quality_panels,
    shade,
)
from utils.results.unlabelled import SEEN, Unlabelled

COLORS = ARM_COLORS | {"teacher": ARM_COLORS["teacher_both"]}
SHOWN_ALARMS = ("control", "student_compression", "oracle")


def seeds(found: Unlabelled, name: str) -> Figure | None:
    """Each seed's AUC at c40 as its teacher, its control and its student reach it, and the means with intervals of 95 %."""
    arms_shown, splits = ("teacher", *reversed(PRIMARY)), unlabelled.study_splits(found)
    keys = {split: [found.keys(found.usual(arm), "c40", split) for arm in arms_shown] for split in splits}
    if not splits or len({len(each) for found_keys in keys.values() for each in found_keys} - {0}) != 1:
        return None
    fig, axes = plt.subplots(1, len(splits), figsize=(PAGE, 2.6), sharey=True, squeeze=False)
    places = range(len(arms_shown))
    for ax, split in zip(axes[0], splits, strict=True):
        values = [[found.evaluation.values[key]["auc"][0] for key in each] for each in keys[split]]
        ax.plot(places, values, color=REFERENCE_LINE["color"], linewidth=0.8, marker=".", markersize=3)
        for place, arm, mean in zip(places, arms_shown, map(found.mean, keys[split]), strict=True):
            ax.vlines(place, mean["lo"], mean["hi"], color=COLORS[arm], linewidth=2)
            ax.plot(place, mean["value"], "o", color=COLORS[arm], markersize=6)
        ax.set_xticks(places, [ARMS[arm].label.replace(", ", ",\n") for arm in arms_shown])
        ax.set(title=f"{name}, {split}, c40")
    axes[0, 0].set_ylabel("AUC of clips")
    return fig


def curves(found: Unlabelled, name: str) -> Figure | None:
    """AUC at c40 against the people of the pool and against those with labels, as far as scored, with bands of 95 %."""
    table = unlabelled.curve_table(found)
    panels = [draw for draw, counted in ((_over_pool, "pool"), (_over_labels, "labels")) if table[counted].nunique() > 2]
    if not panels:
        return None
    fig, axes = plt.subplots(1, len(panels), figsize=(PAGE if len(panels) > 1 else COLUMN, 2.6), sharey=True, squeeze=False)
    for ax, draw in zip(axes[0], panels, strict=True):
        draw(ax, table, found.study)
        ax.legend(fontsize="small", loc="lower right")
    axes[0, 0].set_ylabel(f"AUC, {name}, c40,\n{found.study.tests[0]}, {table['seeds'].iloc[0]} seeds")
    return fig


def _over_pool(ax: Axes, table: pd.DataFrame, study: StudyConfig) -> None:
    (student, control), here = PRIMARY, table[table["labels"] == study.labels]
    none, sizes = here[here["arm"] == control], [0, *sorted(study.pool_sizes)]
    for place, frames in enumerate(sorted(study.frame_counts)):
        line = pd.concat([none, here[(here["arm"] == student) & (here["frames"] == frames)].sort_values("pool")])
        line = line.assign(place=line["pool"].map(sizes.index))
        band(ax, line, shade(place, len(study.frame_counts)), f"{ARMS[student].label}, {frames} frames a clip")
    for level in (here[here["arm"] == "teacher"], table[table["arm"] == "oracle"]):
        for row in level.itertuples():
            ax.axhline(row.value, color=COLORS[row.arm], linestyle="--", label=ARMS[row.arm].label)
    ax.set_xticks(range(len(sizes)), sizes)
    ax.set(xlabel="people without labels (0: the control)")


def _over_labels(ax: Axes, table: pd.DataFrame, study: StudyConfig) -> None:
    counts = [*study.label_counts, study.all_labels]
    usual = table[table["pool"].isin([0, study.pool]) & table["frames"].isin([0, study.frames])].sort_values("labels")
    for arm in ("teacher", *PRIMARY[::-1], "oracle"):
        line = usual[usual["arm"] == arm]
        band(ax, line.assign(place=line["labels"].map(counts.index)), COLORS[arm], ARMS[arm].label)
    ax.set_xticks(range(len(counts)), [f"{count:,}\n{count - study.validating(count)}" for count in counts])
    ax.set(xlabel="people with labels, and learned from")


def arms(found: Unlabelled, name: str) -> Figure | None:
    """AUC of every arm with the usual labels and pool, at both qualities, with 95 % intervals.

    Students of other networks have a pool of their own, and a figure: `networks`.
    """
    table = unlabelled.cells_table(found).query("split == @found.study.tests[0] and network == @found.network")
    usual = {found.usual(arm) for arm, one in ARMS.items() if not one.first}
    cells = table[[(r.arm, r.labels, r.pool, r.frames) in {(c.arm, c.labels, c.pool, c.frames) for c in usual}
                   for r in table.itertuples()]]  # fmt: skip
    rows = [one.label for arm, one in ARMS.items() if arm in set(cells["arm"])]
    if len(rows) < 2:
        return None
    cells = cells.assign(row=cells["arm"].map(lambda arm: ARMS[arm].label))
    fig, axes = quality_panels(list(SEEN), name, 0.9 + 0.25 * len(rows), found.study.tests[0])
    for ax, quality in zip(axes, SEEN, strict=True):
        dots_with_intervals(ax, cells[cells["quality"] == quality], rows, color=QUALITY_COLORS[quality])
        ax.set(xlabel="AUC, 95 % intervals")
    return fig


def alarms(found: Unlabelled, name: str) -> Figure | None:
    """Fakes found, and reals accused, by one fixed threshold at compressions that no training knows."""
    table = unlabelled.alarms_table(found)
    table = table[table["arm"].isin(SHOWN_ALARMS)] if len(table) else table
    if table.empty or set(UNSEEN).isdisjoint(table["quality"]):
        return None
    fig, axes = plt.subplots(2, 2, figsize=(PAGE, 4.2), sharex=True, sharey="row")
    rows = [quality for quality in (*SEEN, *UNSEEN) if quality in set(table["quality"])]
    arms_shown = [arm for arm in SHOWN_ALARMS if arm in set(table["arm"])]
    for column, (share, part) in enumerate(table.groupby("alarms")):
        axes[0, column].set_title(f"threshold for {share:.0%} false alarms, {name}")
        for shift, arm in enumerate(arms_shown):
            one = part[part["arm"] == arm].set_index("quality").loc[rows]
            at = [place + 0.2 * (shift - (len(arms_shown) - 1) / 2) for place in range(len(rows))]
            for ax, rate in ((axes[0, column], "tpr"), (axes[1, column], "fpr")):
                ax.vlines(at, one[f"{rate}_lo"], one[f"{rate}_hi"], color=COLORS[arm], linewidth=1.2)
                ax.plot(at, one[rate], "o", color=COLORS[arm], markersize=3.5, label=ARMS[arm].label)
        axes[1, column].axhline(share, **REFERENCE_LINE)
        axes[1, column].set_xticks(range(len(rows)), rows, rotation=30)
    axes[0, 0].set_ylabel("fakes found")
    axes[1, 0].set_ylabel("reals accused")
    outside_legend(fig, axes[0, 0])
    return fig


def networks(found: Unlabelled, name: str) -> Figure | None:
    """Networks with the labels alone and, where they were run, their students from ImageNet weights, by network."""
    table = unlabelled.cells_table(found).query("split == @found.study.tests[0] and arm in ('student_imagenet', 'recipe')")
    rows = [MODELS[one] for one in (*found.study.larger, *found.study.others) if one in set(table["network"])]
    if len(rows) < 2:
        return None
    table = table.assign(row=table["network"].map(MODELS))
    fig, axes = quality_panels(list(SEEN), name, 1.1 + 0.3 * len(rows), found.study.tests[0])
    colors = {"recipe": COLORS["control"], "student_imagenet": COLORS["student_compression"]}
    shown = [arm for arm in colors if arm in set(table["arm"])]  # students are a later stage
    for ax, quality in zip(axes, SEEN, strict=True):
        for place, arm in enumerate(shown):
            part = table[(table["quality"] == quality) & (table["arm"] == arm)]
            shift = 0.24 * (place - (len(shown) - 1) / 2)
            dots_with_intervals(ax, part, rows, shift, color=colors[arm], label=ARMS[arm].label)
        ax.set(xlabel="AUC, 95 % intervals")
    outside_legend(fig, axes[0])
    return fig


UNLABELLED_FIGURES = {
    "unlabelled_seeds": seeds, "unlabelled_curves": curves, "unlabelled_arms": arms, "unlabelled_alarms": alarms,
    "unlabelled_networks": networks,
}  # fmt: skip

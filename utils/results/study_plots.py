"""Figures of the Noisy Student study: one function makes one figure from a `Study`, None where it has nothing to show."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from utils.config import ARMS, TEACHERS
from utils.results import study as tables
from utils.results.study import Study
from utils.results.style import (
    ARM_COLORS,
    LABELS,
    PAGE,
    QUALITY_COLORS,
    REFERENCE_LINE,
    band,
    dots_by_quality,
    dots_with_intervals,
    outside_legend,
    quality_panels,
    setting_label,
)

FAR = 0.15  # of AUC lost: off the scale of the ablation figure


def noisy_student(study: Study, name: str) -> Figure | None:
    """AUC of teachers, control, students and oracle with the labels of the comparison's people, with 95 % intervals."""
    table = tables.labels_table(study).query("people == @study.people")
    rows = [LABELS[arm] for arm in ARM_COLORS if arm in set(table["phase"])]
    table = table.assign(row=table["phase"].map(LABELS)).dropna(subset="row")
    if not rows:
        return None
    qualities = sorted(table["quality"].unique())
    fig, axes = quality_panels(qualities, name, 0.9 + 0.25 * len(rows))  # each quality on its own scale
    for ax, quality in zip(axes, qualities, strict=True):
        dots_with_intervals(ax, table[table["quality"] == quality], rows, color=QUALITY_COLORS.get(quality))
        ax.locator_params(axis="x", nbins=5)
        ax.set(xlabel="AUC, 95 % intervals")
    return fig


def contrasts(study: Study, name: str) -> Figure | None:
    """Who beats whom: paired differences in AUC on test videos."""
    table = tables.contrasts_table(study).query("split == 'test'")
    table = table[table["phase"].isin(ARMS)]
    if table.empty:
        return None
    table = table.assign(row=[f"{LABELS[row.phase]} − {LABELS[row.versus]}" for row in table.itertuples()])
    rows = list(dict.fromkeys(table["row"]))
    xlabel = f"difference in AUC, {table['seeds'].max()} seeds, 95 % intervals"
    return dots_by_quality(table, rows, (PAGE, 0.9 + 0.28 * len(rows)), 0, xlabel, name)


def labels(study: Study, name: str) -> Figure | None:
    """What labels are worth at c40, and what is added to them by noise and longer training, and by pseudo-labels, in bands."""
    table = tables.labels_table(study).query("quality == 'c40'")
    if table["people"].nunique() < 2:
        return None
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.8))
    order = {people: place for place, people in enumerate(sorted(table["people"].unique()))}
    table = table.assign(place=table["people"].map(order)).sort_values("place")
    for phase in ("teacher_both", "control", "student_compression", "oracle"):
        band(left, table[table["phase"] == phase], ARM_COLORS[phase], LABELS[phase])
    gains = {"gain_control": ("control", "noise and longer training: control − teacher"),
             "over_control": ("student_compression", "pseudo-labels: first student − control")}  # fmt: skip
    for phase, (arm, text) in gains.items():
        band(right, table[table["phase"] == phase], ARM_COLORS[arm], text)
    right.axhline(0, **REFERENCE_LINE)
    for ax, what in ((left, f"AUC, {name}, c40, test videos"), (right, "what is added to the AUC")):
        ax.set_xticks(range(len(order)), list(order))
        ax.set(xlabel="people with labels", ylabel=what)
        ax.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2 if ax is left else 1)
    return fig


def iterations(study: Study, name: str) -> Figure | None:
    """Teacher, student 1, 2, 3: AUC at c40, and how right and how calibrated the pseudo-labels were."""
    table, pseudo = tables.iterations_table(study).query("quality == 'c40'"), tables.pseudo_labels_table(study)
    if table.empty or pseudo.empty:
        return None
    fig, axes = plt.subplots(1, 3, figsize=(PAGE, 2.6))
    for index, student in enumerate(TEACHERS):
        part, shift = table[table["student"] == student], 0.06 * (2 * index - 1)
        _line(axes[0], part.assign(place=part["iteration"]), shift, ARM_COLORS[student], LABELS[student])
        seeds = pseudo[pseudo["student"] == student]
        for ax, column in ((axes[1], "right"), (axes[2], "ece")):
            ax.plot(seeds["iteration"] + shift, seeds[column], "o", color=ARM_COLORS[student], markersize=3, alpha=0.4)
            means = seeds.groupby("iteration")[column].mean()
            ax.plot(means.index + shift, means, color=ARM_COLORS[student])
    oracle = study.keys("oracle", "c40")
    if oracle:
        axes[0].axhline(study.mean(oracle)["value"], color=ARM_COLORS["oracle"], linestyle="--", label=LABELS["oracle"])
    last = int(table["iteration"].max())
    axes[0].set(title=f"AUC, {name}, c40", xlabel="student (0: its teacher)")
    axes[0].set_xticks(range(last + 1))
    for ax, what in ((axes[1], "right pseudo-labels"), (axes[2], "their calibration error")):
        ax.set(title=what, xlabel="labels of student")
        ax.set_xticks(range(1, last + 1))
    outside_legend(fig, axes[0])
    return fig


def ablation(study: Study, name: str) -> Figure | None:
    """One setting changed at a time: the change in AUC of the first compression student, at both qualities.

    A loss of more than `FAR` would press all others together: it stands as a number at the left border.
    """
    table = tables.ablation_table(study)
    if table.empty:
        return None
    table = table.assign(row=[setting_label(*row) for row in zip(table["factor"], table["setting"], strict=True)])
    table = table.assign(value=table["change"])
    rows = list(dict.fromkeys(table["row"]))
    near, xlabel = table["value"] > -FAR, "change in AUC, 95 % intervals"
    fig = dots_by_quality(table[near], rows, (PAGE * 0.75, 0.9 + 0.22 * len(rows)), 0, xlabel, name)
    for row, part in table[~near].groupby("row"):
        losses = ", ".join(f"{one.value:.2f} at {one.quality}" for one in part.sort_values("quality").itertuples())
        text = f"\N{LEFTWARDS ARROW} {losses}".replace("-", "\N{MINUS SIGN}")
        place = (0.01, len(rows) - 1 - rows.index(row))
        fig.axes[0].annotate(text, place, xycoords=("axes fraction", "data"), va="center", fontsize="small")
    return fig


def _line(ax: plt.Axes, part: pd.DataFrame, shift: float, color: str, label: str) -> None:
    """Draw values over `place` with their intervals, if there are any."""
    if part.empty:
        return
    part = part.sort_values("place")
    x = part["place"] + shift
    ax.vlines(x, part["lo"], part["hi"], color=color, linewidth=1, alpha=0.6)
    ax.plot(x, part["value"], "o-", color=color, markersize=3.5, label=label)


STUDY_FIGURES: dict[str, Callable[[Study, str], Figure | None]] = {
    function.__name__: function for function in (noisy_student, contrasts, labels, iterations, ablation)
}

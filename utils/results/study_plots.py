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
    dots_by_quality,
    dots_with_intervals,
    outside_legend,
    quality_panels,
    shade,
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
    fig, axes = quality_panels(qualities, name, 0.9 + 0.25 * len(rows), sharex=True)
    for ax, quality in zip(axes, qualities, strict=True):
        dots_with_intervals(ax, table[table["quality"] == quality], rows, color=QUALITY_COLORS.get(quality))
        ax.locator_params(axis="x", nbins=5)
        ax.set(xlabel="AUC, 95 % intervals")
    return fig


def contrasts(study: Study, name: str) -> Figure | None:
    """Who beats whom: paired differences in AUC on test videos."""
    table = tables.contrasts_table(study).query("split == 'test' and phase in @ARMS")
    if table.empty:
        return None
    table = table.assign(row=[f"{LABELS[row.phase]} − {LABELS[row.versus]}" for row in table.itertuples()])
    rows = list(dict.fromkeys(table["row"]))
    xlabel = f"difference in AUC, {table['seeds'].max()} seeds, 95 % intervals"
    return dots_by_quality(table, rows, (PAGE, 0.9 + 0.28 * len(rows)), 0, xlabel, name)


def labels(study: Study, name: str) -> Figure | None:
    """What labels are worth, and what self-training adds to them, at c40."""
    table = tables.labels_table(study).query("quality == 'c40'")
    if table["people"].nunique() < 2:
        return None
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.9))
    order = {people: place for place, people in enumerate(sorted(table["people"].unique()))}
    table = table.assign(place=table["people"].map(order))
    shown = [phase for phase in ARMS if phase in set(table["phase"])]
    for index, phase in enumerate(shown):
        _line(left, table[table["phase"] == phase], 0.05 * (index - len(shown) / 2), ARM_COLORS[phase], LABELS[phase])
    for index, student in enumerate(TEACHERS):
        label = f"{LABELS[student]} − {LABELS[TEACHERS[student]]}"
        _line(right, table[table["phase"] == f"gain_{student}"], 0.08 * (index - 0.5), ARM_COLORS[student], label)
    _line(left, table[table["phase"] == "control"], 0.2, ARM_COLORS["control"], LABELS["control"])
    _line(right, table[table["phase"] == "over_control"], 0.12, ARM_COLORS["control"], "compression student 1 − control")
    right.axhline(0, **REFERENCE_LINE)
    for ax, what in ((left, f"AUC, {name}, c40, test videos"), (right, "gain in AUC over the teacher")):
        ax.set_xticks(range(len(order)), list(order))
        ax.set(xlabel="people with labels", ylabel=what)
    left.legend(fontsize="x-small", loc="lower right")
    right.legend(fontsize="x-small", loc="upper right")
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
    axes[0].set(ylabel=f"AUC, {name}, c40, test videos")
    axes[0].set_xticks(range(last + 1), ["teacher", *(f"student {i}" for i in range(1, last + 1))], rotation=30)
    for ax, what in ((axes[1], "pseudo-labels that are right"), (axes[2], "calibration error of pseudo-labels")):
        ax.set(ylabel=what, xlabel="labels of student")
        ax.set_xticks(range(1, last + 1))
    outside_legend(fig, axes[0])
    return fig


def reliability(study: Study, name: str) -> Figure | None:
    """How often clips that were called fake with some probability were fake, by student and iteration."""
    if study.pseudo_labels.empty:
        return None
    fig, axes = plt.subplots(1, 2, figsize=(PAGE, 2.9), sharey=True)
    for ax, student in zip(axes, TEACHERS, strict=True):
        phases = tables.iteration_phases(study, student)
        for iteration, phase in enumerate(phases, start=1):
            part = study.pseudo_labels[study.pseudo_labels["phase"] == phase]
            if len(part):
                bins = tables.reliability(part)
                color = shade(iteration - 1, len(phases))
                ax.plot(bins["p_fake"], bins["fakes"], "o-", color=color, markersize=3.5, label=f"for student {iteration}")
        ax.plot([0, 1], [0, 1], **REFERENCE_LINE)
        ax.set(title=LABELS[student], xlabel="P(fake) of clips of the pool")
    axes[0].set_ylabel(f"share of fakes, {name}")
    outside_legend(fig, axes[0])
    return fig


def ablation(study: Study, name: str) -> Figure | None:
    """One setting changed at a time: the change in AUC of the first compression student, at both qualities.

    A loss of more than `FAR` would press all others together: it stands as a number at the left border.
    """
    table = tables.ablation_table(study)
    if table.empty:
        return None
    text = table["factor"].str.replace("_", " ") + ": " + table["setting"].str.replace("_", " ")
    table = table.assign(row=text, value=table["change"])
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
    function.__name__: function for function in (noisy_student, contrasts, labels, iterations, reliability, ablation)
}

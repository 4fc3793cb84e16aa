"""Figures of the Noisy Student study: one function makes one figure from a `Study`, None where it has nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from utils import study as tables
from utils.experiments import TEACHERS
from utils.study import Study
from utils.style import COMPARISON, PAGE, dots_by_quality, outside_legend, write_figures

COLORS = {
    "teacher_c40": "#de8f05",
    "teacher_c23": "#56b4e9",
    "teacher_both": "#949494",
    "student_classic": "#d55e00",
    "student_compression": "#0173b2",
    "oracle": "#029e73",
    "control": "#cc78bc",
}
FAR = 0.15  # of AUC lost: off the scale of the ablation figure


def contrasts(study: Study, name: str) -> Figure | None:
    """Who beats whom: paired differences in AUC on test videos."""
    table = tables.contrasts_table(study).query("split == 'test'")
    if table.empty:
        return None
    table = table.assign(row=[f"{COMPARISON[row.phase]} − {COMPARISON[row.versus]}" for row in table.itertuples()])
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
    shown = [phase for phase in COMPARISON if phase in set(table["phase"])]
    for index, phase in enumerate(shown):
        _line(left, table[table["phase"] == phase], 0.05 * (index - len(shown) / 2), COLORS[phase], COMPARISON[phase])
    for index, student in enumerate(TEACHERS):
        label = f"{COMPARISON[student]} − {COMPARISON[TEACHERS[student]]}"
        _line(right, table[table["phase"] == f"gain_{student}"], 0.08 * (index - 0.5), COLORS[student], label)
    _line(left, table[table["phase"] == "control"], 0.2, COLORS["control"], "control: labels alone, student's noise")
    _line(right, table[table["phase"] == "over_control"], 0.12, COLORS["control"], "compression student 1 − control")
    right.axhline(0, color="0.6", linewidth=0.8, linestyle=":")
    for ax, what in ((left, f"AUC, {name}, c40, test videos"), (right, "gain in AUC over the teacher")):
        ax.set_xticks(range(len(order)), list(order))
        ax.set(xlabel="people with labels", ylabel=what)
    left.legend(fontsize="x-small", loc="lower right")
    right.legend(fontsize="x-small", loc="upper right")
    return fig


def iterations(study: Study, name: str) -> Figure | None:
    """Teacher, student 1, 2, 3: AUC at c40, and how right and how calibrated the pseudo-labels were."""
    table, taught = tables.iterations_table(study).query("quality == 'c40'"), tables.taught_table(study)
    if table.empty or taught.empty:
        return None
    fig, axes = plt.subplots(1, 3, figsize=(PAGE, 2.6))
    for index, student in enumerate(TEACHERS):
        part, shift = table[table["student"] == student], 0.06 * (2 * index - 1)
        _line(axes[0], part.assign(place=part["iteration"]), shift, COLORS[student], COMPARISON[student])
        seeds = taught[taught["student"] == student]
        for ax, column in ((axes[1], "right"), (axes[2], "ece")):
            ax.plot(seeds["iteration"] + shift, seeds[column], "o", color=COLORS[student], markersize=3, alpha=0.4)
            means = seeds.groupby("iteration")[column].mean()
            ax.plot(means.index + shift, means, color=COLORS[student])
    oracle = study.keys("oracle", "c40")
    if oracle:
        axes[0].axhline(study.mean(oracle)["value"], color=COLORS["oracle"], linestyle="--", label=COMPARISON["oracle"])
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
    if study.taught.empty:
        return None
    fig, axes = plt.subplots(1, 2, figsize=(PAGE, 2.9), sharey=True)
    for ax, student in zip(axes, TEACHERS, strict=True):
        phases = tables.iteration_phases(study, student)
        for iteration, phase in enumerate(phases, start=1):
            part = study.taught[study.taught["phase"] == phase]
            if len(part):
                bins = tables.reliability(part)
                shade = plt.get_cmap("viridis")(0.8 * (iteration - 1) / max(1, len(phases) - 1))
                ax.plot(bins["p_fake"], bins["fakes"], "o-", color=shade, markersize=3.5, label=f"for student {iteration}")
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
        ax.set(title=COMPARISON[student], xlabel="P(fake) of clips of the pool")
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
    function.__name__: function for function in (contrasts, labels, iterations, reliability, ablation)
}


def draw_study(study: Study | None, name: str, folder: Path, only: Sequence[str] = (), close: bool = True) -> dict[str, Path]:
    """Write the study's figures (or `only` some) that have something to show; return name -> file."""
    draws = {key: partial(draw, study, name) for key, draw in STUDY_FIGURES.items() if key in (only or STUDY_FIGURES)}
    if study is None:
        draws = dict.fromkeys(draws, lambda: None)
    return write_figures(draws, folder, close)

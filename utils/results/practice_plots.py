"""Figures of what whoever uses a detector asks of it: one function makes one figure, None where it has nothing to show."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from utils.results.style import (
    ERROR_COLORS,
    HOLLOW,
    LABELS,
    PAGE,
    QUALITY_COLORS,
    REFERENCE_LINE,
    dots_with_intervals,
    outside_legend,
    quality_panels,
)

PHASE = "student_compression"
ERRORS = {"accused": "reals called fake", "missed": "fakes called real"}


def calibration(tables: dict[str, pd.DataFrame], name: str) -> Figure | None:
    """How often clips with some score are fake, as scored (hollow) and at validation's temperature (full), with counts."""
    table = tables.get("reliability")
    if table is None or table.empty:
        return None
    table = table[table["phase"] == PHASE]
    qualities = sorted(table["quality"].unique())
    fig, axes = quality_panels(qualities, name, 3.3, LABELS[PHASE])
    for ax, quality in zip(axes, qualities, strict=True):
        for scores, label in (("score", "as scored"), ("cooled", "at validation's temperature")):
            part, color = table[(table["quality"] == quality) & (table["scores"] == scores)], QUALITY_COLORS[quality]
            fill = HOLLOW if scores == "score" else color
            ax.plot(part["p"], part["fakes"], "o-", color=color, markerfacecolor=fill, markersize=4, label=label)
            if scores == "cooled":
                for row in part.itertuples():
                    ax.annotate(row.clips, (row.p, row.fakes), (5, -9), textcoords="offset points", fontsize="x-small")
        ax.plot([0, 1], [0, 1], **REFERENCE_LINE)
        ax.set(xlabel="score of the clips", aspect="equal", xlim=(-0.03, 1.08), ylim=(-0.06, 1.05))
        ax.legend(fontsize="x-small", loc="lower right")
    axes[0].set_ylabel("share of fakes; numbers: clips, all seeds")
    return fig


def groups(tables: dict[str, pd.DataFrame], name: str) -> Figure | None:
    """Error rates of the student by group of people at c40, with 95 % intervals."""
    table = tables.get("groups")
    if table is None or table.empty:
        return None
    table = table[table["quality"] == "c40"]
    table = table.assign(row=[f"{row.factor}: {row.group} ({row.people})" for row in table.itertuples()])
    rows = list(dict.fromkeys(table["row"]))
    fig, ax = plt.subplots(figsize=(PAGE * 0.7, 0.9 + 0.25 * len(rows)))
    for shift, (error, text) in zip((-0.12, 0.12), ERRORS.items(), strict=True):
        dots_with_intervals(ax, table[table["error"] == error], rows, shift, color=ERROR_COLORS[error], label=text)
    ax.set(xlabel="share of clips, 95 % intervals")
    outside_legend(fig, ax, f"{name}, c40, test, {LABELS[PHASE]}; in brackets: people")
    return fig


PRACTICE_FIGURES = {"calibration": calibration, "groups": groups}

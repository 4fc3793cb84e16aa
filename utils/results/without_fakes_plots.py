"""Figures of what is learned without fakes: one function makes one figure, None where it has nothing to show."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from utils.config import REDRAWERS, WITHOUT_FAKES
from utils.results.style import (
    COLUMN,
    FAKELESS_COLORS,
    HOLLOW,
    QUALITY_COLORS,
    REFERENCE_LINE,
    dots_with_intervals,
    outside_legend,
    quality_panels,
)
from utils.results.without_fakes import arms_of

STARTS = ("labels_200", "labels_66", "labels_66_c40", "self_rendered", "self_rendered_66", "self_blended", "self_blended_66")
GOES_ON = ("labels_66", "labels_66_longer", "labels_66_student",
           "self_rendered_66", "self_rendered_66_longer", "self_rendered_66_student")  # fmt: skip
KINDS = ("self_rendered", *arms_of("kinds"))


def color_of(arm: str) -> str:
    """Return the colour of what an arm learns from."""
    return FAKELESS_COLORS["labels" if WITHOUT_FAKES[arm].learns == "labels" else WITHOUT_FAKES[arm].settings.twins]


def arms(tables: dict[str, pd.DataFrame], name: str) -> Figure | None:
    """AUC of the arms that start from ImageNet's weights, on test people (full) and on harder videos (hollow)."""
    return _arms(tables, name, STARTS)


def students(tables: dict[str, pd.DataFrame], name: str) -> Figure | None:
    """AUC before and after going on, with the videos of other people and without them."""
    return _arms(tables, name, GOES_ON)


def kinds(tables: dict[str, pd.DataFrame], name: str) -> Figure | None:
    """AUC of who learned from all redrawers, and of those who learned from one kind of them alone."""
    return _arms(tables, name, KINDS)


def _arms(tables: dict[str, pd.DataFrame], name: str, shown: tuple[str, ...]) -> Figure | None:
    table = tables.get("fakeless_arms", pd.DataFrame(columns=["arm"]))
    arms_shown = [arm for arm in shown if arm in set(table["arm"])]
    if len(arms_shown) < 2:
        return None
    rows = [WITHOUT_FAKES[arm].label for arm in arms_shown]
    table = table.assign(row=table["label"])
    fig, axes = quality_panels(["c23", "c40"], name, 0.9 + 0.3 * len(rows), "full: test, hollow: test_hard", sharex=True)
    for ax, quality in zip(axes, ("c23", "c40"), strict=True):
        for shift, split in ((-0.13, "test"), (0.13, "test_hard")):
            for arm in arms_shown:
                part = table[(table["arm"] == arm) & (table["quality"] == quality) & (table["split"] == split)]
                fill = {"markerfacecolor": HOLLOW} if split == "test_hard" else {}
                dots_with_intervals(ax, part, rows, shift, color=color_of(arm), **fill)
        ax.set(xlabel="AUC of clips, 95 % intervals")
    return fig


def redrawers(tables: dict[str, pd.DataFrame], name: str) -> Figure | None:
    """What AUC on NeuralTextures loses where one redrawer is left out."""
    table = tables.get("fakeless_redrawers", pd.DataFrame())
    if table.empty:
        return None
    rows, table = [one for one in REDRAWERS if one in set(table["redrawer"])], table.assign(row=table["redrawer"])
    fig, ax = plt.subplots(figsize=(COLUMN * 1.3, 0.9 + 0.3 * len(rows)))
    for shift, (quality, part) in zip((-0.12, 0.12), table.groupby("quality"), strict=True):
        values = part.rename(columns={"without": "value", "without_lo": "lo", "without_hi": "hi"})
        dots_with_intervals(ax, values, rows, shift, color=QUALITY_COLORS[quality], label=quality)
    ax.axvline(0, **REFERENCE_LINE)
    ax.set(xlabel=f"change in AUC where it is left out, {name}, test")
    outside_legend(fig, ax)
    return fig


FAKELESS_FIGURES = {
    "without_fakes": arms, "without_fakes_students": students, "without_fakes_kinds": kinds, "redrawers": redrawers,
}  # fmt: skip

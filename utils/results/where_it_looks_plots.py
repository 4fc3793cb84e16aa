"""The figure of where the packaged network looks: one function, None where it has nothing to show."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from utils.results.style import (
    ARM_COLORS,
    HOLLOW,
    ORIGINAL_COLOR,
    REFERENCE_LINE,
    dots_with_intervals,
    outside_legend,
    quality_panels,
)
from utils.results.where_it_looks import GROUPS, RANDOM, SPLIT, TRAINED

STYLES = {  # of a network's dots: how far below the row's middle, and in which colour
    TRAINED: (-0.13, {"color": ARM_COLORS["oracle"]}),  # what is packaged is an oracle
    RANDOM: (0.13, {"color": ORIGINAL_COLOR, "markerfacecolor": HOLLOW}),
}


def where_it_looks(tables: dict[str, pd.DataFrame], name: str) -> Figure | None:
    """How many times its share of the picture the changed region has of Grad-CAM's energy, by verdict; numbers count clips.

    Full dots: the packaged network, hollow ones: random weights; in reals nothing was changed. Ticks: the most that so coarse
    a map could reach. Lines: 95 % intervals over pairs, none for groups of few pairs.
    """
    table = tables.get("where_it_looks")
    if table is None or table.empty:
        return None
    qualities, rows = sorted(table["quality"].unique()), list(GROUPS.values())
    fig, axes = quality_panels(qualities, name, 2.8, SPLIT, sharex=True)
    for ax, quality in zip(axes, qualities, strict=True):
        both = table[table["quality"] == quality].rename(columns={"group": "row"})
        for network, (shift, about) in STYLES.items():
            dots_with_intervals(ax, both[both["network"] == network], rows, shift, label=network, **about)
        part = both[both["network"] == TRAINED]
        y = [len(rows) - 1 - rows.index(row) for row in part["row"]]
        ax.plot(part["most"] / part["area"], y, "|", color=ORIGINAL_COLOR, markersize=9, label="most that a map can have")
        for place, clips in zip(y, part["clips"], strict=True):
            ax.annotate(f"{clips}", (0.02, place), xycoords=("axes fraction", "data"), va="center", fontsize="small")
        ax.axvline(1, **REFERENCE_LINE)
        ax.set_xlim(left=0)
        ax.set_xlabel("energy inside the mask / its share of area")
    outside_legend(fig, axes[0], "Grad-CAM of the packaged network; at the left: clips; lines: 95 % intervals")
    return fig


WHERE_FIGURES = {"where_it_looks": where_it_looks}

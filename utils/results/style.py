"""How every figure looks: names, colours and order of networks and phases, panels, dots with intervals, stable files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from utils.config import ARMS, NETWORKS, PHASES
from utils.paths import atomic

MODELS = {name: network.label for name, network in NETWORKS.items()}
LABELS = {name: one.label for name, one in (PHASES | ARMS).items()} | {"control": "control: labels alone, student's noise"}
_TEN = sns.color_palette("colorblind")
_TEN[6], _TEN[9] = _TEN[9], _TEN[6]  # two pinks apart: EfficientNet-B4 has the first
COLORS = dict(zip(MODELS, [*_TEN, *sns.color_palette("dark")], strict=False))  # ten, and ten more
ARM_COLORS = {  # in the order of figures: who has least to learn from first, and the control beside its student
    "teacher_c40": "#de8f05",
    "teacher_c23": "#56b4e9",
    "teacher_both": "#949494",
    "student_classic": "#d55e00",
    "control": "#cc78bc",
    "student_compression": "#0173b2",
    "oracle": "#029e73",
}
FACTORS = {  # of the ablation: what is changed, in words
    "pseudo_labels": "pseudo-labels",
    "teacher_looks_at": "the teacher looks at",
    "student_sees": "the student sees",
    "calibrate": "the teacher is calibrated",
    "soft": "pseudo-labels are",
    "clip_level": "one pseudo-label a",
    "threshold": "pseudo-labels surer than",
    "balance": "pseudo-labelled classes",
    "mu": "unlabelled images a labelled one",
    "randaugment": "RandAugment",
    "network_noise": "dropout, stochastic depth",
    "ema": "average of the weights",
    "start": "the student starts from",
    "student_network": "the student's network",
}
SETTINGS = {
    "none_but_all_the_noise": "none, all the noise",
    "1_of_3": "1 operation, magnitude 3",
    "2_of_9": "2 operations, magnitude 9",
    "c23_through_h264": "c23 through H.264",
    "c23_through_jpeg": "c23 through JPEG",
}
REFERENCE_LINE = {"color": "0.6", "linewidth": 0.8, "linestyle": ":"}  # chance, zero, equality
THRESHOLD_LINE = {"color": "0.2", "linewidth": 1, "linestyle": "--"}
ORIGINAL_COLOR, BAND_COLOR, HOLLOW = "0.4", "0.9", "white"  # the original project; what counts as chance; hollow dots
BASELINE_COLOR = "black"  # networks of the original's kind beside arms, whose colours are taken; one line style each
QUALITY_COLORS = {"c23": "#0173b2", "c40": "#de8f05"}
AUC_COLORS = "Blues"  # from chance to one, in tables drawn as figures
FAKELESS_COLORS = {"labels": "#949494", "self_rendered": "#0173b2", "self_blended": "#cc78bc"}  # what is learned from
CLASS_COLORS = {"real": "#029e73", "fake": "#d55e00"}
ERROR_COLORS = {"accused": CLASS_COLORS["real"], "missed": CLASS_COLORS["fake"]}  # by the class that is judged wrongly
VERDICT_COLORS = CLASS_COLORS | {"abstains": "#8c8c8c"}
ON_PICTURE = {"color": "white", "bbox": {"facecolor": "black", "alpha": 0.5, "pad": 1.5, "edgecolor": "none"}}  # text
UNDER_TEXT = {"facecolor": "white", "alpha": 0.8, "pad": 0.5, "edgecolor": "none"}  # numbers that lines would cross
ON_BOX = "white"  # text on a box in the colour of a verdict
TIME_LINE = {  # below a video, in RGB; who is abstained from gets a grey: of score 0, and so much more of score 1
    "ground": (24, 24, 24), "text": (235, 235, 235), "mark": (255, 255, 255), "greys": (70, 120),
}  # fmt: skip
HEAT = {"cmap": "inferno", "alpha": 0.55, "vmin": 0, "vmax": 1}  # over a picture
COLUMN, PAGE = 3.4, 7.0  # inches: width of a column and of a page of the report


def use_house_style() -> None:
    """Set fonts, lines and the byte-stable file options of every figure."""
    sns.set_theme(context="paper", style="ticks", font="DejaVu Sans", font_scale=0.9)
    plt.rcParams.update(
        {
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 85,  # a notebook of many figures stays below one megabyte
            "savefig.dpi": 200,
            "svg.fonttype": "path",
            "svg.hashsalt": "figures",
            "lines.linewidth": 1.3,
        }
    )


use_house_style()


def shade(place: int, count: int) -> tuple[float, ...]:
    """Return the colour of one of several steps in order, dark to light."""
    return plt.get_cmap("viridis")(0.8 * place / max(1, count - 1))


def save_figure(fig: Figure, path: Path | str) -> Path:
    """Write a figure (SVG, PDF or PNG by suffix) without dates, so that the same data give the same bytes."""
    path = Path(path)
    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {"Software": None}}
    with atomic(path) as temporary:
        fig.savefig(temporary, metadata=dates.get(path.suffix))
    return path


def method_label(row) -> str:
    """Return "network, phase" of a table's row, with the iteration of a student that is not the one that was kept."""
    phase, _, iteration = row.phase.partition("_it")
    label = LABELS.get(phase, phase) + (f", iteration {iteration}" if iteration else "")
    return f"{MODELS[row.model]}, {label}"


def setting_label(factor: str, setting: str) -> str:
    """Return an ablation's change in words."""
    return f"{FACTORS.get(factor, factor)}: {SETTINGS.get(setting, setting.replace('_', ' '))}"


def known_methods(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table's rows of `PHASES` and `ARMS`, in their order and that of `NETWORKS`, labels first as `method`."""
    order = {name: index for index, name in enumerate([*PHASES, *ARMS, *MODELS])}
    table = table[table["phase"].isin(order)].sort_values(
        ["phase", "model", "quality"], key=lambda names: names.map(order).fillna(0), kind="stable", ignore_index=True
    )
    table.insert(0, "method", [method_label(row) for row in table.itertuples()])
    return table


def quality_panels(
    qualities: list[str], name: str, height: float, what: str = "test videos", **options
) -> tuple[Figure, np.ndarray]:
    """Return a page-wide figure with one titled panel a quality, on the same y axis."""
    fig, axes = plt.subplots(1, len(qualities), figsize=(PAGE, height), sharey=True, squeeze=False, **options)
    for ax, quality in zip(axes[0], qualities, strict=True):
        ax.set_title(f"{name}, {quality}, {what}")
    return fig, axes[0]


def outside_legend(fig: Figure, ax: plt.Axes, title: str | None = None) -> None:
    """Put the legend of `ax` above the figure, in up to three columns."""
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)), title=title)


def dots_with_intervals(ax: plt.Axes, table: pd.DataFrame, rows: list, shift: float = 0, **style) -> None:
    """Draw one dot and one line a row: `table` holds columns row, value, lo, hi; `rows` gives the order from above."""
    y = np.array([len(rows) - 1 - rows.index(row) for row in table["row"]]) - shift
    ax.hlines(y, table["lo"], table["hi"], color=style.get("color"), linewidth=1.2)
    ax.plot(table["value"], y, "o", markersize=3.5, **style)
    ax.set_yticks(range(len(rows)), rows[::-1])
    ax.set_ylim(-0.6, len(rows) - 0.4)


def band(ax: plt.Axes, line: pd.DataFrame, color: str, label: str) -> None:
    """Draw a line through `value` at `place` and shade `lo` to `hi`; one point alone gets an interval."""
    if len(line) == 1:
        ax.vlines(line["place"], line["lo"], line["hi"], color=color, linewidth=1.2)
    ax.fill_between(line["place"], line["lo"], line["hi"], color=color, alpha=0.15, linewidth=0)
    ax.plot(line["place"], line["value"], "o-", color=color, markersize=3.5, label=label)


def dots_by_quality(table: pd.DataFrame, rows: list, size: tuple[float, float], line: float, xlabel: str, name: str) -> Figure:
    """Return a figure of test videos with a dot and an interval a row and quality, and a dotted `line` to compare with."""
    fig, ax = plt.subplots(figsize=size)
    for index, (quality, part) in enumerate(table.groupby("quality")):
        dots_with_intervals(ax, part, rows, 0.24 * (index - 0.5), color=QUALITY_COLORS.get(quality), label=quality)
    ax.axvline(line, **REFERENCE_LINE)
    ax.set(xlabel=xlabel)
    outside_legend(fig, ax, f"{name}, test videos")
    return fig


def write_figures(draws: dict[str, Callable[[], Figure | None]], folder: Path) -> dict[str, Path]:
    """Write each figure as <name>.svg; return name -> file. One that has nothing to show loses its older file."""
    written = {}
    for key, draw in draws.items():
        path, fig = folder / f"{key}.svg", draw()
        if fig is None:
            path.unlink(missing_ok=True)
            continue
        written[key] = save_figure(fig, path)
        plt.close(fig)
    return written

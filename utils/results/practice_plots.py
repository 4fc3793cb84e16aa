"""Figures of what whoever uses a detector asks of it: one function makes one figure, None where it has nothing to show."""

from __future__ import annotations

from itertools import cycle

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.config import ENCODINGS
from utils.results.quality_curve import kind_of
from utils.results.style import (
    ARM_COLORS,
    BASELINE_COLOR,
    COLUMN,
    ERROR_COLORS,
    HOLLOW,
    LABELS,
    MODELS,
    ORIGINAL_COLOR,
    PAGE,
    QUALITY_COLORS,
    REFERENCE_LINE,
    UNDER_TEXT,
    dots_with_intervals,
    outside_legend,
    quality_panels,
)
from utils.results.tables import load_original

PHASE = "student_compression"
RATES = (10, 20, 40, 80)  # kbit/s that an axis names
ERRORS = {"accused": "reals called fake", "missed": "fakes called real"}


def calibration(tables: dict[str, pd.DataFrame], name: str) -> Figure | None:
    """How often clips with some score are fake, as scored (hollow) and at validation's temperature (full), with counts."""
    table = tables.get("reliability")
    if table is None or table.empty:
        return None
    table = table[table["phase"] == PHASE]
    qualities = sorted(table["quality"].unique())
    fig, axes = quality_panels(qualities, name, 2.7, LABELS[PHASE])
    for ax, quality in zip(axes, qualities, strict=True):
        for scores, label in (("score", "as scored"), ("cooled", "at validation's temperature")):
            part, color = table[(table["quality"] == quality) & (table["scores"] == scores)], QUALITY_COLORS[quality]
            fill = HOLLOW if scores == "score" else color
            ax.plot(part["p"], part["fakes"], "o-", color=color, markerfacecolor=fill, markersize=4, label=label)
            if scores == "cooled":
                for row in part.itertuples():
                    below = row.fakes > 0.5  # away from the line
                    ax.annotate(row.clips, (row.p, row.fakes), (0, -11 if below else 5), textcoords="offset points",
                                ha="center", fontsize="small", bbox=UNDER_TEXT)  # fmt: skip
        ax.plot([0, 1], [0, 1], **REFERENCE_LINE)
        ax.set(xlabel="score of the clips", xlim=(-0.04, 1.04), ylim=(-0.08, 1.12))
        ax.legend(fontsize="small", loc="lower right")
    axes[0].set_ylabel("share of fakes; numbers: clips")
    return fig


def groups(tables: dict[str, pd.DataFrame], name: str) -> Figure | None:
    """Error rates of the student by group of people at c40, with 95 % intervals."""
    table = tables.get("groups")
    if table is None or table.empty:
        return None
    table = table[table["quality"] == "c40"]
    table = table.assign(row=[f"{row.factor}: {row.group} ({row.people})" for row in table.itertuples()])
    rows = list(dict.fromkeys(table["row"]))
    fig, ax = plt.subplots(figsize=(COLUMN, 0.9 + 0.24 * len(rows)))
    for shift, (error, text) in zip((-0.12, 0.12), ERRORS.items(), strict=True):
        dots_with_intervals(ax, table[table["error"] == error], rows, shift, color=ERROR_COLORS[error], label=text)
    ax.set(xlabel="share of clips, 95 % intervals")
    outside_legend(fig, ax, f"{name}, c40, test; in brackets: people")
    return fig


def split_rules(tables: dict[str, pd.DataFrame], name: str) -> Figure | None:
    """Accuracy that validation promised (hollow) and that unseen people gave (full), by what the split keeps together."""
    table = tables.get("split_rules")
    if table is None or table.empty:
        return None
    rows = [f"{rule} set aside" for rule in dict.fromkeys(table["rule"])]
    table = table[table["metric"] == "accuracy"].assign(row=table["rule"] + " set aside")
    fig, ax = plt.subplots(figsize=(PAGE, 2.0))
    original = load_original()
    for place, column in ((0.13, "val_acc_all"), (-0.13, "test_acc_all")):  # the 18 cases, no mean of them
        about = {"color": ORIGINAL_COLOR, "markerfacecolor": HOLLOW if column.startswith("val") else ORIGINAL_COLOR}
        ax.plot(original[column] / 100, [len(rows) + place] * len(original), "o", markersize=3.5, alpha=0.7, **about)
    for shift, measure, fill in ((-0.13, "validation", HOLLOW), (0.13, "unseen", QUALITY_COLORS["c40"])):
        part = table[table["measure"] == measure]
        dots_with_intervals(ax, part, rows, shift, color=QUALITY_COLORS["c40"], markerfacecolor=fill, label=measure)
    ax.set_yticks(range(len(rows) + 1), [*rows[::-1], "original project, FF++"])
    ax.set_ylim(-0.6, len(rows) + 0.6)
    ax.set(xlabel="accuracy over faces at one half, c40, 95 % intervals")
    outside_legend(fig, ax, f"{name}; hollow: validation, full: people whom nobody learned from")
    return fig


def quality_curve(tables: dict[str, pd.DataFrame], name: str) -> Figure | None:
    """AUC against measured bit rate: H.264 of the whole picture joined by a line, other codecs and sizes marked."""
    table = tables.get("quality_curve")
    if table is None or table.empty:
        return None
    markers = _markers(table["codec"])
    fig, ax = plt.subplots(figsize=(PAGE, 3.6))
    styles = cycle([":", "--", "-."])
    for (phase, model), part in table.groupby(["phase", "model"], sort=False):
        arm = phase in ARM_COLORS
        color, style = (ARM_COLORS[phase], "-") if arm else (BASELINE_COLOR, next(styles))
        line = part[part["codec"] == "H.264"]
        if phase == PHASE:
            ax.fill_between(line["kbits"], line["lo"], line["hi"], color=color, alpha=0.15, linewidth=0)
        label = LABELS[phase] if arm else f"{MODELS[model]}, {LABELS[phase]}"
        ax.plot(line["kbits"], line["value"], style, marker="o", color=color, markersize=3.5, label=label)
        _mark(ax, part, "value", markers, color)
    _name_markers(ax, markers)
    rates = table[table["codec"] == "H.264"].drop_duplicates("quality")
    for row in rates.itertuples():
        ax.annotate(f"CRF {ENCODINGS[row.quality].crf}", (row.kbits, 0.35), rotation=90, fontsize="small", ha="center")
    ax.axhline(0.5, **REFERENCE_LINE)
    _rates(ax)
    ax.set(ylabel="AUC over clips, test", ylim=(0.33, 1.01))
    outside_legend(fig, ax, f"{name}, test; lines: H.264; band: the student's 95 % interval")
    return fig


def quality_alarms(tables: dict[str, pd.DataFrame], name: str) -> Figure | None:
    """Fakes found and reals accused by one threshold for 5 % false alarms on validation; H.264 joined by a line."""
    table = tables.get("quality_alarms")
    if table is None or table.empty:
        return None
    table = table[(table["alarms"] == 0.05) & (table["phase"].isin(ARM_COLORS))]
    table = table.assign(codec=table["quality"].map(kind_of))
    markers = _markers(table["codec"])
    fig, axes = plt.subplots(1, 2, figsize=(PAGE, 3.2), sharex=True)
    for phase, part in table.groupby("phase", sort=False):
        line = part[part["codec"] == "H.264"]
        for ax, rate in zip(axes, ("tpr", "fpr"), strict=True):
            if phase == PHASE:
                low, high = line[f"{rate}_lo"], line[f"{rate}_hi"]
                ax.fill_between(line["kbits"], low, high, color=ARM_COLORS[phase], alpha=0.15, linewidth=0)
            ax.plot(line["kbits"], line[rate], "o-", color=ARM_COLORS[phase], markersize=3.5, label=LABELS[phase])
            _mark(ax, part, rate, markers, ARM_COLORS[phase])
    _name_markers(axes[0], markers)
    axes[1].axhline(0.05, **REFERENCE_LINE)
    for ax, label in zip(axes, ("fakes found", "reals accused"), strict=True):
        _rates(ax)
        ax.set(ylabel=label)
    text = "one threshold for 5 % false alarms on validation; lines: H.264; band: the student's 95 % interval"
    outside_legend(fig, axes[0], f"{name}, test, {text}")
    return fig


def _markers(codecs: pd.Series) -> dict[str, str]:
    """Return a marker for each kind of encoding but H.264 of whole pictures, which is a line."""
    return dict(zip([kind for kind in dict.fromkeys(codecs) if kind != "H.264"], "svD^P*X", strict=False))


def _mark(ax: Axes, part: pd.DataFrame, column: str, markers: dict[str, str], color: str) -> None:
    for kind, marker in markers.items():
        other = part[part["codec"] == kind]
        ax.plot(other["kbits"], other[column], marker, color=color, markersize=5, markerfacecolor=HOLLOW)


def _name_markers(ax: Axes, markers: dict[str, str]) -> None:
    for kind, marker in markers.items():
        ax.plot([], [], marker, color=ORIGINAL_COLOR, markersize=5, markerfacecolor=HOLLOW, label=kind)


def _rates(ax: Axes) -> None:
    """Put bit rates on the x axis: a logarithmic one, with plain numbers."""
    ax.set(xscale="log", xlabel="measured bit rate, kbit/s")
    ax.set_xticks(RATES, [str(rate) for rate in RATES])
    ax.minorticks_off()


PRACTICE_FIGURES = {
    "calibration": calibration, "groups": groups, "split_rules": split_rules, "quality_curve": quality_curve,
    "quality_alarms": quality_alarms,
}  # fmt: skip

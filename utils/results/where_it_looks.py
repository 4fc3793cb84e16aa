"""Where the packaged network looks, in tables: what of its Grad-CAM lies where fakes were changed, by quality and by verdict.

From the committed measurements of `checks/where_it_looks.py`. The share of a map's energy inside the mask is set against the
mask's share of the picture: 1 is a map that does not care where the mask is. A clip is called fake above a calibrated
probability of one half, as the instrument calls it where it does not abstain; random weights are asked about the same clips.
Intervals are over identity pairs, with the same resamples for all groups, and over the networks with random weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from utils.paths import WHERE_IT_LOOKS
from utils.results.metrics import estimate, resample_pairs, resample_seeds
from utils.results.store import FROM_GIT

COLUMNS = (  # of the measurements, one row a clip and network; `draw` numbers those with random weights
    "network", "draw", "quality", "split", "pair", "video_id", "label", "frames", "maps", "score", "probability", "energy",
    "area", "most",
)  # fmt: skip
TEXT = dict.fromkeys(("network", "quality", "split", "pair", "video_id"), str)  # "007" is not 7
SHARES = ["score", "probability", "energy", "area", "most"]
SPLIT, TRAINED, RANDOM = "test", "trained", "random weights"
CLIP = ["quality", "video_id"]
HALF = 0.5  # probability above which the instrument calls a clip fake
GROUPS = {  # (label, called fake) -> what it is
    (1, True): "fakes found", (1, False): "fakes missed", (0, False): "reals passed", (0, True): "reals taken for fakes",
}  # fmt: skip
GAPS = (  # differences of ratios, these minus those, each a network and a group
    ((TRAINED, "fakes found"), (RANDOM, "fakes found")),
    ((TRAINED, "fakes found"), (TRAINED, "fakes missed")),
    ((TRAINED, "fakes found"), (TRAINED, "reals passed")),
    ((TRAINED, "fakes found"), (TRAINED, "reals taken for fakes")),
    ((TRAINED, "reals passed"), (RANDOM, "reals passed")),
)
LEAST = 5  # identity pairs; of fewer no interval is given


def load_measured(path: Path = WHERE_IT_LOOKS) -> pd.DataFrame | None:
    """Read the committed measurements, columns `COLUMNS`; None where there are none.

    Raises ValueError, naming the file and the remedy, where it is damaged.
    """
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path, dtype=TEXT)
        problem = _problem(table)
    except (OSError, ValueError) as error:
        problem = f"no CSV ({error})"
    if problem:
        raise ValueError(f"{path}: {problem}: {FROM_GIT}, or run `python -m utils.checks.where_it_looks`")
    return table


def _problem(table: pd.DataFrame) -> str:
    """Return what is wrong with measurements, "" if nothing is."""
    if tuple(table.columns) != COLUMNS:
        return "other columns"
    shares = table[SHARES].apply(pd.to_numeric, errors="coerce")
    shares.loc[table["maps"] == 0, "energy"] = 0.0  # a clip of whose faces no map has any heat has none,
    shares.loc[table["network"] == RANDOM, "probability"] = 0.0  # and only the packaged network is calibrated
    problems = {
        "no rows": table.empty,
        f"networks other than {TRAINED} and {RANDOM}": set(table["network"]) != {TRAINED, RANDOM},
        "labels other than 0 and 1": not table["label"].isin([0, 1]).all(),
        "empty cells, or shares outside [0, 1]": not shares.apply(lambda column: column.between(0, 1)).all(axis=None)
                                                 or bool(table[[*TEXT, "draw", "frames", "maps"]].isna().any(axis=None)),
        "a clip that is measured twice": bool(table.duplicated(["network", "draw", *CLIP]).any()),
        "a clip that some network was not asked about": table.groupby(CLIP).size().nunique() > 1,
    }  # fmt: skip
    return next((problem for problem, is_there in problems.items() if is_there), "")


def grouped(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the measurements with the column `group`: what the packaged network's verdict on each clip was, of `GROUPS`."""
    trained = measured[measured["network"] == TRAINED].set_index(CLIP)["probability"]
    called = measured[CLIP].join(trained, on=CLIP)["probability"] > HALF
    return measured.assign(group=[GROUPS[key] for key in zip(measured["label"], called, strict=True)])


def tables(resamples: int, path: Path = WHERE_IT_LOOKS) -> dict[str, pd.DataFrame]:
    """Return the two tables by name; none where nothing was measured. Raises what `load_measured` raises."""
    measured = load_measured(path)
    if measured is None:
        return {}
    clips = grouped(measured)
    return {"where_it_looks": looks_table(clips, resamples), "where_it_looks_gaps": gaps_table(clips, resamples)}


def looks_table(clips: pd.DataFrame, resamples: int) -> pd.DataFrame:
    """Return one row a network, quality and group of `grouped` clips.

    Columns network, quality, group, clips, pairs, `no_map` (share of the faces whose map has no heat at all), and of the clips
    with a map mean `energy`, `area` and `most` (the greatest energy that the few cells of a map allow), and energy over area as
    `value`, with `lo` and `hi`, which are empty for fewer than `LEAST` pairs.
    """
    rows, everyone = [], sorted(clips["pair"].unique())
    for (network, quality), part in clips.groupby(["network", "quality"], sort=False):
        for group in GROUPS.values():
            some = part[part["group"] == group]
            if some.empty:
                continue
            seen = some.dropna(subset=["energy"])
            about = {"network": network, "quality": quality, "group": group, "clips": some["video_id"].nunique()}
            about |= {"pairs": some["pair"].nunique(), "no_map": 1 - some["maps"].sum() / some["frames"].sum()}
            about |= seen[["energy", "area", "most"]].mean().to_dict()
            rows.append(about | _estimate(ratio(seen, everyone, resamples), seen))
    return pd.DataFrame(rows)


def ratio(clips: pd.DataFrame, pairs: list[str], resamples: int) -> np.ndarray:
    """Return mean energy over mean area of a network's clips, then its bootstrap values (1 + R,) over `pairs`.

    Of several networks with random weights it is the mean, and they are resampled as well, crossed with pairs. NaN in a
    resample that draws no pair that has a clip here.
    """
    weights, values = np.vstack([np.ones(len(pairs)), resample_pairs(len(pairs), resamples)]), []
    for _, part in clips.groupby("draw"):
        sums = part.groupby("pair")[["energy", "area"]].sum().reindex(pairs, fill_value=0.0)
        with np.errstate(invalid="ignore"):
            values.append((weights @ sums["energy"].to_numpy()) / (weights @ sums["area"].to_numpy()))
    values = np.stack(values)  # (networks, 1 + R)
    return np.append(values[:, 0].mean(), np.einsum("rs,sr->r", resample_seeds(len(values), resamples), values[:, 1:]))


def _estimate(values: np.ndarray, *groups: pd.DataFrame) -> dict[str, float]:
    """Return a value and its interval, which is empty where a group has few pairs."""
    if min(group["pair"].nunique() for group in groups) < LEAST:
        return {"value": values[0], "lo": np.nan, "hi": np.nan}
    return estimate(values[0], values[1:])


def gaps_table(clips: pd.DataFrame, resamples: int) -> pd.DataFrame:
    """Return one row a quality and difference of `GAPS` whose groups have clips: ratio of these minus that of those, paired.

    Columns quality, these, those ("network, group"), value, lo, hi; lo and hi are empty where a group has few pairs.
    """
    rows, everyone, seen = [], sorted(clips["pair"].unique()), clips.dropna(subset=["energy"])
    for quality, part in seen.groupby("quality"):
        for sides in GAPS:
            both = [part[(part["network"] == network) & (part["group"] == group)] for network, group in sides]
            if all(map(len, both)):
                these, those = (ratio(side, everyone, resamples) for side in both)
                names = dict(zip(("these", "those"), (", ".join(side) for side in sides), strict=True))
                rows.append({"quality": quality} | names | _estimate(these - those, *both))
    return pd.DataFrame(rows, columns=["quality", "these", "those", "value", "lo", "hi"])

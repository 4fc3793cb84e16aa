"""Where the noise of a difference comes from, and what a study of other size would see.

The AUC is a mean over videos: of each fake, the share of reals that score below it, and of each real, the share of fakes
above it (*placement values*, Hanley & Hajian-Tilaki 1997). What an identity pair's videos add to both means is the pair's
part of the AUC (DeLong et al. 1988; for videos that belong together, Obuchowski 1997). So the difference of two methods is a
mean over identity pairs and seeds, and a mixed model with both as crossed random effects says how much of its noise is
people, how much is seeds, and how much is neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests

LEVEL = 0.05  # of significance, both sides


def placements(videos: pd.DataFrame) -> pd.DataFrame:
    """Return one row a seed and identity pair, columns seed, pair, value, whose mean over pairs is a seed's AUC.

    `videos` holds one method on one split and quality: columns seed, pair, label (1 fake), score. A pair's value is the AUC
    plus what its fakes and its reals lie above it, so the values vary over pairs as DeLong's variance says; pairs may have
    unequal numbers of videos.
    """
    parts = []
    for seed, part in videos.groupby("seed"):
        fake, score = part["label"].to_numpy() == 1, part["score"].to_numpy(dtype=float)
        below, above = _share_below(score[fake], score[~fake]), 1 - _share_below(score[~fake], score[fake])
        auc, gap = below.mean(), np.empty(len(part))
        gap[fake], gap[~fake] = (below - auc) / len(below), (above - auc) / len(above)
        by_pair = pd.Series(gap).groupby(part["pair"].to_numpy()).sum()
        parts.append(pd.DataFrame({"seed": seed, "pair": by_pair.index, "value": auc + len(by_pair) * by_pair.to_numpy()}))
    return pd.concat(parts, ignore_index=True)


def _share_below(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """Return for each of `these` the share of `those` that lies below it, half for ties."""
    ordered = np.sort(those)
    return (np.searchsorted(ordered, these, "left") + np.searchsorted(ordered, these, "right")) / 2 / len(those)


@dataclass(frozen=True)
class Components:
    """A difference of AUC and the variances of its parts: of identity pairs, of seeds, and of a pair under one seed."""

    value: float
    pairs: int
    seeds: int
    of_pairs: float
    of_seeds: float
    of_both: float

    def error(self, pairs: int | None = None, seeds: int | None = None) -> float:
        """Return the standard error of the difference in a study of so many pairs and seeds (default: this one)."""
        p, s = pairs or self.pairs, seeds or self.seeds
        return float(np.sqrt(self.of_pairs / p + self.of_seeds / s + self.of_both / (p * s)))

    @property
    def p_value(self) -> float:
        """Of both sides, against no difference (Wald)."""
        return float(2 * norm.sf(abs(self.value) / self.error())) if self.error() else float(self.value == 0)

    def power(self, effect: float, pairs: int | None = None, seeds: int | None = None) -> float:
        """Return the chance that the interval of such a study excludes zero on the right side, were `effect` the truth."""
        return float(norm.cdf(effect / self.error(pairs, seeds) - norm.ppf(1 - LEVEL / 2)))

    def detectable(self, power: float = 0.8, pairs: int | None = None, seeds: int | None = None) -> float:
        """Return the least true difference that such a study shows with this chance."""
        return float((norm.ppf(1 - LEVEL / 2) + norm.ppf(power)) * self.error(pairs, seeds))


def components(these: pd.DataFrame, those: pd.DataFrame) -> Components:
    """Return the difference of two methods' `placements` and its variance components, by REML.

    Each pair has one value under each seed, and for such data REML has a closed form: the mean squares of the analysis of
    variance, pooled where one lies below that of the rest (Thompson 1962). Raises ValueError where the two do not hold the
    same seeds and pairs, each once, or fewer than two of either.
    """
    key = ["seed", "pair"]
    merged = these.merge(those, on=key, suffixes=("", "_other"))
    seeds, pairs = merged["seed"].nunique(), merged["pair"].nunique()
    if not len(merged) == len(these) == len(those) == seeds * pairs:
        raise ValueError("the two methods were not measured with the same seeds on the same identity pairs")
    if min(seeds, pairs) < 2:
        raise ValueError(f"{pairs} pairs and {seeds} seeds: variance components need two of each")
    gaps = (merged["value"] - merged["value_other"]).set_axis(pd.MultiIndex.from_frame(merged[key])).unstack("seed").to_numpy()
    by_pair, by_seed, mean = gaps.mean(1), gaps.mean(0), gaps.mean()
    squares = {
        "pair": (seeds * ((by_pair - mean) ** 2).sum(), pairs - 1, seeds),
        "seed": (pairs * ((by_seed - mean) ** 2).sum(), seeds - 1, pairs),
    }
    rest, freedom = ((gaps - by_pair[:, None] - by_seed + mean) ** 2).sum(), (pairs - 1) * (seeds - 1)
    found = dict.fromkeys(squares, 0.0)
    for name, (total, own, times) in sorted(squares.items(), key=lambda item: item[1][0] / item[1][1]):
        if total / own <= rest / freedom:  # no more than the rest alone would give: it is part of the rest
            rest, freedom = rest + total, freedom + own
        else:
            found[name] = (total / own - rest / freedom) / times
    return Components(float(mean), pairs, seeds, float(found["pair"]), float(found["seed"]), float(rest / freedom))


def holm(p_values: list[float]) -> list[float]:
    """Return p values corrected for how many there are (Holm 1979)."""
    return multipletests(p_values, alpha=LEVEL, method="holm")[1].tolist()

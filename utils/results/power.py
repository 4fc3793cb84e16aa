"""Where the noise of a difference comes from, and what a study of other size would see.

The AUC is a mean over videos: of each fake, the share of reals that score below it, and of each real, the share of fakes
above it (*placement values*, Hanley & Hajian-Tilaki 1997). So the difference of two methods is a mean over identity pairs
and seeds, and a mixed model with both as crossed random effects says how much of its noise is people, how much is seeds,
and how much is neither.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.multitest import multipletests

from utils.results.metrics import identity_pairs

LEVEL = 0.05  # of significance, both sides


def placements(videos: pd.DataFrame) -> pd.DataFrame:
    """Return one row a seed and identity pair, columns seed, pair, value, whose mean over pairs is a seed's AUC.

    `videos` holds one method on one split and quality: columns seed, video_id, label (1 fake), score. Raises ValueError
    where the pairs have unequal numbers of reals or fakes, for then no mean of theirs is the AUC.
    """
    pair_of, parts = identity_pairs(videos["video_id"].unique().tolist()), []
    for seed, part in videos.groupby("seed"):
        fake, score = part["label"].to_numpy() == 1, part["score"].to_numpy(dtype=float)
        value = np.empty(len(part))
        value[fake] = _share_below(score[fake], score[~fake])
        value[~fake] = 1 - _share_below(score[~fake], score[fake])
        parts.append(pd.DataFrame({"seed": seed, "pair": part["video_id"].map(pair_of), "label": fake, "value": value}))
    table = pd.concat(parts)
    if table.groupby(["seed", "pair", "label"]).size().groupby("label").nunique().max() > 1:
        raise ValueError("identity pairs have unequal numbers of videos: placements need the same of each")
    by_class = table.groupby(["seed", "pair", "label"])["value"].mean()
    return by_class.groupby(["seed", "pair"]).mean().reset_index()


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

    Raises ValueError where the two do not hold the same seeds and pairs, or fewer than two of either.
    """
    key = ["seed", "pair"]
    merged = these.merge(those, on=key, suffixes=("", "_other"))
    if not len(merged) == len(these) == len(those):
        raise ValueError("the two methods were not measured with the same seeds on the same identity pairs")
    seeds, pairs = merged["seed"].nunique(), merged["pair"].nunique()
    if min(seeds, pairs) < 2:
        raise ValueError(f"{pairs} pairs and {seeds} seeds: variance components need two of each")
    gap = merged["value"] - merged["value_other"]
    scale = float(gap.std()) or 1.0  # the optimiser likes numbers around one
    table = merged[key].assign(gap=gap / scale, all=1)
    model = MixedLM.from_formula(
        "gap ~ 1", table, groups="all", re_formula="0", vc_formula={"pair": "0 + C(pair)", "seed": "0 + C(seed)"}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a component of zero lies on the boundary, which is no fault
        fitted = model.fit(reml=True, method=["lbfgs", "powell"])
    found = dict(zip(model.exog_vc.names, fitted.vcomp, strict=True))
    parts = (found["pair"], found["seed"], fitted.scale)
    return Components(float(gap.mean()), pairs, seeds, *(float(max(part, 0)) * scale**2 for part in parts))


def holm(p_values: list[float]) -> list[float]:
    """Return p values corrected for how many there are (Holm 1979)."""
    return multipletests(p_values, alpha=LEVEL, method="holm")[1].tolist()

"""Variance components against the table of a balanced analysis of variance, and power against simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from utils.results import power


def videos_of(rng, seeds: int, pairs: int, shift: float = 1.0) -> pd.DataFrame:
    rows = []
    for seed in range(seeds):
        for k in range(pairs):
            a, b = f"{2 * k:03d}", f"{2 * k + 1:03d}"
            rows += [(seed, name, 0, rng.normal()) for name in (a, b)]
            rows += [(seed, name, 1, rng.normal(shift)) for name in (f"{a}_{b}", f"{b}_{a}")]
    table = pd.DataFrame(rows, columns=["seed", "video_id", "label", "score"])
    return table.assign(score=table["score"].round(1))  # with ties


def test_placements_of_pairs_have_the_auc_as_their_mean():
    videos = videos_of(np.random.default_rng(0), 3, 12)
    placed = power.placements(videos)
    assert len(placed) == 3 * 12 and set(placed.columns) == {"seed", "pair", "value"}
    for seed, part in videos.groupby("seed"):
        auc = roc_auc_score(part["label"], part["score"])
        assert placed.loc[placed["seed"] == seed, "value"].mean() == pytest.approx(auc, abs=1e-12)
    with pytest.raises(ValueError, match="unequal numbers of videos"):
        power.placements(videos.drop(index=videos.index[2]))


def effects(rng, pairs: int, seeds: int, mean: float, sd: tuple[float, float, float]) -> np.ndarray:
    of_pairs, of_seeds = rng.normal(0, sd[0], (pairs, 1)), rng.normal(0, sd[1], (1, seeds))
    return mean + of_pairs + of_seeds + rng.normal(0, sd[2], (pairs, seeds))


def as_tables(gaps: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    pairs, seeds = gaps.shape
    key = pd.MultiIndex.from_product([range(pairs), range(seeds)], names=["pair", "seed"]).to_frame(index=False)
    return key.assign(value=0.5 + gaps.ravel()), key.assign(value=0.5)


def anova(gaps: np.ndarray) -> tuple[float, float, float]:
    """Return the variances of pairs, seeds and the rest by expected mean squares: for balanced data what REML gives."""
    pairs, seeds = gaps.shape
    rows, columns, grand = gaps.mean(1), gaps.mean(0), gaps.mean()
    rest = gaps - rows[:, None] - columns[None] + grand
    ms_rest = (rest**2).sum() / ((pairs - 1) * (seeds - 1))
    ms_pairs, ms_seeds = seeds * rows.var(ddof=1), pairs * columns.var(ddof=1)
    return (ms_pairs - ms_rest) / seeds, (ms_seeds - ms_rest) / pairs, ms_rest


@pytest.mark.parametrize("seed", range(3))
def test_components_equal_those_of_a_balanced_analysis_of_variance(seed):
    gaps = effects(np.random.default_rng(seed), 30, 8, 0.02, (0.05, 0.02, 0.04))
    found = power.components(*as_tables(gaps))
    assert found.value == pytest.approx(gaps.mean()) and (found.pairs, found.seeds) == (30, 8)
    assert (found.of_pairs, found.of_seeds, found.of_both) == pytest.approx(anova(gaps), rel=0.02)


def test_error_and_power_are_those_of_repeated_studies():
    sd, rng = (0.05, 0.02, 0.04), np.random.default_rng(5)
    means = np.array([effects(rng, 20, 5, 0.03, sd).mean() for _ in range(4000)])
    truth = power.Components(0.03, 20, 5, *(s**2 for s in sd))
    assert truth.error() == pytest.approx(means.std(), rel=0.05)
    assert truth.power(0.03) == pytest.approx((means > 1.96 * truth.error()).mean(), abs=0.03)
    assert truth.power(truth.detectable(0.8)) == pytest.approx(0.8, abs=1e-6)
    assert truth.error(200, 5) < truth.error() and truth.error(20, 50) < truth.error()


def test_tables_that_do_not_match_and_too_few_are_refused():
    these, those = as_tables(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="same seeds on the same identity pairs"):
        power.components(these, those.iloc[1:])
    with pytest.raises(ValueError, match="need two of each"):
        power.components(these.query("seed == 0"), those.query("seed == 0"))


def test_holm_against_the_literal_procedure():
    p_values = [0.01, 0.04, 0.03, 0.2]
    order, literal, most = np.argsort(p_values), [0.0] * 4, 0.0
    for rank, place in enumerate(order):
        most = max(most, min(1.0, (4 - rank) * p_values[place]))
        literal[place] = most
    assert power.holm(p_values) == pytest.approx(literal)

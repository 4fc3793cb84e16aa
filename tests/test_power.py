"""Variance components against DeLong's formula and statsmodels' mixed model, and power against simulation."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.regression.mixed_linear_model import MixedLM

from utils.results import power


def videos_of(rng, seeds: int, pairs: int, shift: float = 1.0) -> pd.DataFrame:
    rows = []
    for seed in range(seeds):
        for pair in range(pairs):
            rows += [(seed, f"{pair:03d}", label, rng.normal(shift * label)) for label in (0, 0, 1, 1)]
    table = pd.DataFrame(rows, columns=["seed", "pair", "label", "score"])
    return table.assign(score=table["score"].round(1))  # with ties


def test_placements_of_pairs_have_the_auc_as_their_mean():
    videos = videos_of(np.random.default_rng(0), 3, 12)
    for some in (videos, videos.drop(index=[2, 5, 15, 16])):  # clips that show no face
        placed = power.placements(some)
        assert len(placed) == 3 * 12 and set(placed.columns) == {"seed", "pair", "value"}
        for seed, part in some.groupby("seed"):
            auc = roc_auc_score(part["label"], part["score"])
            assert placed.loc[placed["seed"] == seed, "value"].mean() == pytest.approx(auc, abs=1e-12)


def delong(real: np.ndarray, fake: np.ndarray) -> float:
    """Return the variance of an AUC as DeLong et al. (1988) write it down, each video on its own."""
    above = (fake[:, None] > real).astype(float) + (fake[:, None] == real) / 2
    return above.mean(1).var(ddof=1) / len(fake) + above.mean(0).var(ddof=1) / len(real)


def test_placements_vary_over_pairs_as_delong_says():
    rng = np.random.default_rng(1)
    real, fake = rng.normal(0, 1, 200).round(1), rng.normal(0.8, 1, 200).round(1)
    pair, label = np.tile(range(200), 2), np.repeat([0, 1], 200)
    videos = pd.DataFrame({"seed": 0, "pair": pair, "label": label, "score": np.append(real, fake)})
    assert power.placements(videos)["value"].var() / 200 == pytest.approx(delong(real, fake), rel=0.15)  # but for chance ties
    studies = [power.placements(videos_of(rng, 1, 40, 0.8))["value"] for _ in range(400)]
    aucs, said = np.array([(study.mean(), study.var() / 40) for study in studies]).T
    assert said.mean() == pytest.approx(aucs.var(), rel=0.15)  # what repeated studies vary by


def effects(rng, pairs: int, seeds: int, mean: float, sd: tuple[float, float, float]) -> np.ndarray:
    of_pairs, of_seeds = rng.normal(0, sd[0], (pairs, 1)), rng.normal(0, sd[1], (1, seeds))
    return mean + of_pairs + of_seeds + rng.normal(0, sd[2], (pairs, seeds))


def as_tables(gaps: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    pairs, seeds = gaps.shape
    key = pd.MultiIndex.from_product([range(pairs), range(seeds)], names=["pair", "seed"]).to_frame(index=False)
    return key.assign(value=0.5 + gaps.ravel()), key.assign(value=0.5)


def mixed_model(gaps: np.ndarray) -> tuple[float, float, float]:
    """Return the variances of pairs, seeds and the rest by statsmodels' REML."""
    pairs, seeds = gaps.shape
    key = pd.MultiIndex.from_product([range(pairs), range(seeds)], names=["pair", "seed"]).to_frame(index=False)
    scale = gaps.std()  # the optimiser likes numbers around one
    model = MixedLM.from_formula(
        "gap ~ 1", key.assign(gap=gaps.ravel() / scale, all=1), groups="all", re_formula="0",
        vc_formula={"pair": "0 + C(pair)", "seed": "0 + C(seed)"},
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a component of zero lies on the boundary, which is no fault
        fitted = model.fit(reml=True, method=["lbfgs", "powell"])
    found = dict(zip(model.exog_vc.names, fitted.vcomp, strict=True))
    return found["pair"] * scale**2, found["seed"] * scale**2, fitted.scale * scale**2


def restricted_likelihood(gaps: np.ndarray, parts: tuple[float, float, float]) -> float:
    """Return the logarithm of what REML makes greatest, but for a constant, written down as it is defined."""
    of_pairs, of_seeds, of_both = parts
    pairs, seeds = gaps.shape
    v = of_pairs * np.kron(np.eye(pairs), np.ones((seeds, seeds))) + of_seeds * np.kron(np.ones((pairs, pairs)), np.eye(seeds))
    inverse = np.linalg.inv(v + of_both * np.eye(gaps.size))
    gap = gaps.ravel() - inverse.sum(0) @ gaps.ravel() / inverse.sum()
    return (np.linalg.slogdet(inverse)[1] - np.log(inverse.sum()) - gap @ inverse @ gap) / 2


@pytest.mark.parametrize("sd", [(0.05, 0.02, 0.04), (0.0, 0.02, 0.04), (0.05, 0.0, 0.06), (0.0, 0.0, 0.05)])
@pytest.mark.parametrize("seed", range(3))
def test_components_are_those_of_a_mixed_model(seed, sd):
    gaps = effects(np.random.default_rng(seed), 24, 6, 0.02, sd)
    found = power.components(*as_tables(gaps))
    assert found.value == pytest.approx(gaps.mean()) and (found.pairs, found.seeds) == (24, 6)
    parts, fitted = (found.of_pairs, found.of_seeds, found.of_both), mixed_model(gaps)
    best = restricted_likelihood(gaps, parts)
    assert best > restricted_likelihood(gaps, fitted) - 1e-9  # statsmodels stops a little short of it
    assert np.sqrt(parts) == pytest.approx(np.sqrt(fitted), abs=0.015)
    for k, step in itertools.product(range(3), (-1e-5, 1e-5)):  # nothing beside it is likelier
        beside = np.maximum(np.array(parts) + step * np.eye(3)[k], 0)
        assert best >= restricted_likelihood(gaps, tuple(beside))


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

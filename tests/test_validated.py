"""Calibration, gauge and domain against distributions that are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import log_loss

from utils.config import SHIPPED, Encoding
from utils.faces.encode import reencode
from utils.faces.layout import video_path
from utils.faces.video import read_frames
from utils.learn.packaged import load_packaged, packaged_folder
from utils.learn.validated import Calibration, Domain, Gauge, traces
from utils.paths import SYNTHFF
from utils.run.score import score


def scored(rng, pairs=60, shift=1.0, slope=2.0):
    """Return scores, CRF, labels and pairs whose true log odds are `slope` times those of the score, `shift` less at c40."""
    labels, crf = np.tile([0, 1, 0, 1], pairs), np.tile([23, 23, 40, 40], pairs).astype(float)
    odds = rng.normal(0, 1.5, len(labels)) + np.where(labels == 1, 1.0, -1.0)
    names = np.repeat([f"{k:03d}" for k in range(pairs)], 4)
    return expit(odds / slope + shift * (crf > 30)), crf, labels, names


def test_calibration_moves_the_border_by_quality_and_better_than_scores_do():
    rng = np.random.default_rng(0)
    scores, crf, labels, pairs = scored(rng)
    found = Calibration.fit(scores, crf, labels, pairs, 2 * len(set(pairs)))
    assert found.weights.shape[1] == 4 and len(found.weights) > 150
    others, crf_of, truth, _ = scored(np.random.default_rng(1), 400)
    p = np.array([found(np.array([score]), quality)[0] for score, quality in zip(others, crf_of, strict=True)])
    assert log_loss(truth, p) < log_loss(truth, others) - 0.05
    for place in (0.2, 0.5, 0.8):
        near = np.abs(p - place) < 0.1
        assert truth[near].mean() == pytest.approx(place, abs=0.09)


def test_nobody_is_surer_than_the_people_who_calibrated_can_vouch_for():
    scores, crf, labels, pairs = scored(np.random.default_rng(2), 20)
    found = Calibration.fit(scores, crf, labels, pairs, 2 * len(set(pairs)))
    assert found(np.array([1.0]), 23.0)[0] == pytest.approx(41 / 42)
    assert found(np.array([0.0]), 23.0)[0] == pytest.approx(1 / 42)


def test_prior_shifts_the_log_odds_and_draws_give_an_interval():
    scores, crf, labels, pairs = scored(np.random.default_rng(2))
    found = Calibration.fit(scores, crf, labels, pairs, 2 * len(set(pairs)))
    even, rare = (found(np.full(201, 0.7), 23.0, prior) for prior in (0.5, 0.01))
    assert logit(even[0]) - logit(rare[0]) == pytest.approx(logit(0.5) - logit(0.01))
    assert np.quantile(even[1:], 0.025) < even[0] < np.quantile(even[1:], 0.975)
    few = Calibration.fit(scores[:40], crf[:40], labels[:40], pairs[:40], 20)(np.full(201, 0.7), 23.0)
    assert np.ptp(np.quantile(few[1:], [0.025, 0.975])) > np.ptp(np.quantile(even[1:], [0.025, 0.975]))


def test_classes_weigh_the_same_however_many_there_are_of_each():
    scores, crf, labels, pairs = scored(np.random.default_rng(3), 200)
    keep = (labels == 0) | (np.arange(len(labels)) // 4 % 4 == 0)  # few fakes
    even, uneven = (Calibration.fit(scores[part], crf[part], labels[part], pairs[part], 400) for part in (labels >= 0, keep))
    assert uneven(np.array([0.5]), 23.0)[0] == pytest.approx(even(np.array([0.5]), 23.0)[0], abs=0.12)


def test_traces_tell_smooth_from_sharp_and_c40_from_c23():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (60, 64, 64, 3), dtype=np.uint8)
    smooth = noise.reshape(60, 32, 2, 32, 2, 3).mean((2, 4)).repeat(2, 1).repeat(2, 2).astype(np.uint8)
    sides, nothing = np.full(60, 64), np.zeros((60, 0))
    found = np.concatenate([traces(each, sides) for each in (noise, smooth)])
    gauge = Gauge.fit(found, np.zeros((120, 0)), np.repeat([20.0, 45.0], 60))
    assert gauge(noise, sides, nothing).mean() < 25 < 40 < gauge(smooth, sides, nothing).mean()
    clean, coarse = (read_frames(video_path(SYNTHFF[1], "original", q, "000"))[1][::12, 60:188, 60:188] for q in ("c23", "c40"))
    found = [traces(each, np.full(len(each), 128)) for each in (clean, coarse)]
    assert found[0].shape == found[1].shape and np.isfinite(found).all()
    assert (found[0][:, 10:16].mean() > found[1][:, 10:16].mean()) and (found[0][:, -1] == 0).all()  # quick waves are lost


def test_a_gauge_reads_traces_as_it_reads_the_crops_that_left_them():
    rng = np.random.default_rng(0)
    crops, sides = rng.integers(0, 255, (9, 40, 40, 3), dtype=np.uint8), rng.integers(40, 90, 9)
    found, styles = traces(crops, sides), rng.normal(size=(9, 4))
    gauge = Gauge.fit(found, styles, np.arange(20.0, 29))
    assert np.array_equal(gauge.read(found, styles), gauge(crops, sides, styles))


def test_the_gauge_of_the_model_that_comes_along_reads_what_an_encoder_was_told(tmp_path):
    """On people of the test split, which it was not fitted to; means over four clips."""
    model = load_packaged(packaged_folder(SHIPPED))
    read = {crf: [] for crf in (23, 33, 43)}
    for name, crf in itertools.product(("270", "271", "272", "273"), read):
        path = video_path(SYNTHFF[1], "original", "c23", name)
        if crf != 23:
            reencode(path, path := tmp_path / f"{name}_{crf}.mp4", Encoding(crf=crf))
        read[crf].append(score(path, model)[1][0].opinion.crf)
    means = {crf: np.mean(values) for crf, values in read.items()}
    assert means == pytest.approx({crf: crf for crf in read}, abs=3.5)


def test_domain_tells_what_lies_elsewhere_and_lets_most_of_its_own_in():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(20, 20))
    train, held, other = (rng.normal(size=(count, 20)) @ mix for count in (2000, 500, 500))
    found = Domain.fit(train, held, held.reshape(100, 5, 20).mean(1))
    assert 0.8 < found(train).mean() < 1.05  # shrunk
    assert (found(other) > found.limits[0]).mean() < 0.03 < 0.9 < (found(other + 8 * mix[0]) > found.limits[0]).mean()
    assert found.limits[1] < found.limits[0]  # means of five vary less


def test_arrays_that_are_missing_or_no_numbers_are_refused():
    gauge = Gauge(np.zeros(3), np.ones(3), np.asarray(1.0))
    assert Gauge.of(gauge.arrays()).weights.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="gauge lacks bias"):
        Gauge.of({"mean": np.zeros(3), "weights": np.zeros(3)})
    with pytest.raises(ValueError, match="gauge has weights that are no numbers"):
        Gauge.of(gauge.arrays() | {"weights": np.array([1, np.nan, 1])})
    for name, value in (("weights", np.ones(2)), ("mean", np.ones((3, 1))), ("bias", np.ones(2)), ("mean", np.ones(0))):
        with pytest.raises(ValueError, match="gauge has (mean|weights|bias) of shape"):
            Gauge.of(gauge.arrays() | {name: value})
    assert Gauge.of(gauge.arrays() | {"bias": np.ones(1)}).bias.shape == ()  # as a file has it

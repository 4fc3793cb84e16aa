"""What a network was validated on, and where a face lies beside it: what makes a probability of a score, or forbids one.

A score of a network is no probability, least of all for faces unlike those that it was validated on. `Calibration` makes a
probability with an interval of it, `Gauge` measures how strongly a face was compressed, `Domain` how unlike it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from scipy.special import expit, logit
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression, Ridge

from utils.config import INSTRUMENT
from utils.learn.augment import GREY

BANDS = 16  # of a crop's spectrum, from its slowest waves to its quickest
EDGES, BLOCKS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.98), (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)  # quantiles of a crop's flatness
CRF = (30.0, 10.0)  # what a constant rate factor is centred on and divided by
EPS = 1e-6  # scores are kept so far from 0 and 1


class Arrays:
    """Plain arrays with names, that can be written beside weights and read again.

    `SHAPES` names the sides of each: equal letters are equal sides. A file has single numbers as arrays of one.
    """

    SHAPES: ClassVar[dict[str, tuple[int | str, ...]]]

    def arrays(self) -> dict[str, np.ndarray]:
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]):
        """Raise ValueError where arrays are missing, have other sides than `SHAPES` says, or hold what is no number."""
        missing = [field.name for field in fields(cls) if field.name not in arrays]
        if missing:
            raise ValueError(f"{cls.__name__.lower()} lacks {', '.join(missing)}")
        found = {field.name: np.asarray(arrays[field.name]) for field in fields(cls)}
        sides: dict[int | str, int] = {}
        for name, value in found.items():
            if value.dtype.kind not in "fiu" or not np.isfinite(value).all():
                raise ValueError(f"{cls.__name__.lower()} has {name} that are no numbers")
            if not cls.SHAPES[name] and value.size == 1:
                found[name] = value = value.reshape(())
            wanted = [sides.setdefault(side, length) if isinstance(side, str) else side
                      for side, length in zip(cls.SHAPES[name], value.shape, strict=False)]  # fmt: skip
            if value.ndim != len(cls.SHAPES[name]) or list(value.shape) != wanted or 0 in wanted:
                raise ValueError(f"{cls.__name__.lower()} has {name} of shape {value.shape}")
        return cls(**found)


# ---- probability ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibration(Arrays):
    """P(fake) of a score and the measured quality, where half of all clips are fake: a logistic regression (Platt 1999).

    `weights` (1 + R, 4) are those of the fit, then those of its bootstrap over identity pairs: of the log odds, the quality,
    their product, and 1. No probability is surer than the validated people can vouch for: of so many, one more may be the
    first that is otherwise (Laplace's rule of succession).
    """

    weights: np.ndarray
    people: np.ndarray  # ()
    SHAPES = {"weights": ("R", 4), "people": ()}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> Calibration:
        found = super().of(arrays)
        if found.people < 1:
            raise ValueError(f"calibration by {found.people} people")
        return found

    @classmethod
    def fit(
        cls, scores: np.ndarray, crf: np.ndarray, labels: np.ndarray, pairs: Sequence[str], people: int, seed: int = 0
    ) -> Calibration:
        """Fit scores (N,) of clips or faces of so many people, their CRF and labels; `pairs` (N,) are drawn together."""
        x, (_, pair) = cls._inputs(scores, crf), np.unique(pairs, return_inverse=True)
        rng, count = np.random.default_rng(seed), pair.max() + 1
        weights = rng.multinomial(count, np.full(count, 1 / count), INSTRUMENT.draws)
        rows = [np.ones(len(pair)), *(weight[pair] for weight in weights)]
        found = []
        for weight in rows:
            if np.unique(labels[weight > 0]).size == 2:
                fitted = LogisticRegression(max_iter=1000).fit(x, labels, sample_weight=weight * _even(labels, weight))
                found.append([*fitted.coef_[0], *fitted.intercept_])
        return cls(np.array(found), np.asarray(people))

    @staticmethod
    def _inputs(scores: np.ndarray, crf: np.ndarray) -> np.ndarray:
        odds, quality = logit(np.clip(scores, EPS, 1 - EPS)), (np.asarray(crf) - CRF[0]) / CRF[1]
        return np.stack([odds, quality, odds * quality], axis=-1)

    def __call__(self, scores: np.ndarray, crf: float, prior: float = 0.5) -> np.ndarray:
        """Return P(fake) for scores (1 + R,), the estimate and draws of it: row by row with the draws of the fit."""
        x = self._inputs(scores, np.full(len(scores), crf))
        weights = self.weights[np.arange(len(scores)) % len(self.weights)]
        surest = logit(1 - 1 / (self.people + 2))
        return expit(np.clip((x * weights[:, :3]).sum(1) + weights[:, 3], -surest, surest) + logit(prior))


def _even(labels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return a factor (N,) that makes both classes weigh the same."""
    total = {label: weight[labels == label].sum() for label in (0, 1)}
    return np.where(labels == 1, weight.sum() / 2 / total[1], weight.sum() / 2 / total[0])


# ---- quality --------------------------------------------------------------------------------------------------------------


def traces(crops: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return what compression leaves of crops, uint8 RGB (N, S, S, 3), cut out of squares of so many px (N,): (N, T).

    Of the luma: log energies of `BANDS` rings of its spectrum, relative to the slow ones, so that contrast plays no part;
    quantiles of what its edges, its curvature and its 4x4 blocks hold, which compression empties; last, how much the crop
    was enlarged.
    """
    luma = crops.astype(np.float32) @ np.array(GREY, np.float32)
    edges = np.abs(np.diff(luma, axis=2))[:, :-1] + np.abs(np.diff(luma, axis=1))[:, :, :-1]
    curved = np.abs(4 * luma[:, 1:-1, 1:-1] - luma[:, :-2, 1:-1] - luma[:, 2:, 1:-1] - luma[:, 1:-1, :-2] - luma[:, 1:-1, 2:])
    side = crops.shape[1] // 4 * 4
    blocks = luma[:, :side, :side].reshape(len(luma), side // 4, 4, side // 4, 4).std(axis=(2, 4))
    flat = [
        np.log(np.quantile(each.reshape(len(luma), -1), part, axis=1) + 0.1)
        for each, parts in ((curved, EDGES), (edges, EDGES), (blocks, BLOCKS)) for part in parts
    ]  # fmt: skip
    return np.column_stack([_rings(luma), *flat, np.log2(crops.shape[1] / np.asarray(sides, float))])


def _rings(luma: np.ndarray) -> np.ndarray:
    """Return log energies of the rings of a spectrum (N, BANDS), relative to the three slowest."""
    size = luma.shape[1]
    window = np.hanning(size).astype(np.float32)
    energy = np.abs(np.fft.rfft2((luma - luma.mean(axis=(1, 2), keepdims=True)) * window[:, None] * window)) ** 2
    wave = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    ring = np.minimum((wave * 2 * BANDS).astype(int), BANDS)  # what lies beyond half a wave a px, in the corners, is left out
    logs = np.log(np.stack([energy[:, ring == k].mean(axis=1) for k in range(BANDS)], axis=1) + 1e-3)
    return logs - logs[:, :3].mean(axis=1, keepdims=True)


@dataclass(frozen=True)
class Gauge(Arrays):
    """Reads off a face how strongly it was compressed, as the H.264 CRF that leaves as much.

    Ridge regression on its `traces` and on its style (`inference.looks`): traces alone take a smooth face for a compressed one.
    On SynthFF's validation people a clip's mean errs by 1.6.
    """

    mean: np.ndarray  # (T + F,)
    weights: np.ndarray  # (T + F,)
    bias: np.ndarray  # ()
    SHAPES = {"mean": ("M",), "weights": ("M",), "bias": ()}

    @classmethod
    def fit(cls, found: np.ndarray, styles: np.ndarray, crf: np.ndarray) -> Gauge:
        """Fit the traces (N, T) and styles (N, F) of faces to the CRF (N,) that they were encoded at."""
        measured = np.hstack([found, styles])
        mean, scale = measured.mean(axis=0), measured.std(axis=0) + EPS
        fitted = Ridge(alpha=INSTRUMENT.gauge_penalty).fit((measured - mean) / scale, crf)
        return cls(mean, fitted.coef_ / scale, np.asarray(fitted.intercept_))

    def __call__(self, crops: np.ndarray, sides: np.ndarray, styles: np.ndarray) -> np.ndarray:
        """Return the CRF (N,) of crops (N, S, S, 3) of these styles (N, F), from squares of so many px (N,)."""
        return self.read(traces(crops, sides), styles)

    def read(self, found: np.ndarray, styles: np.ndarray) -> np.ndarray:
        """Return the CRF (N,) of faces with these traces (N, T) and styles (N, F)."""
        return (np.hstack([found, styles]) - self.mean) @ self.weights + self.bias


# ---- domain ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Domain(Arrays):
    """How unlike the training faces a face is, by its style (`inference.looks`): Mahalanobis distance over the root of F.

    Lee et al. 2018 measure it in a network's last features; those of a detector have forgotten what is no trace of a fake, and
    filmed faces lie among rendered ones there. The covariance is shrunk (Ledoit & Wolf 2004).
    """

    mean: np.ndarray  # (F,)
    precision: np.ndarray  # (F, F), inverse covariance
    limits: np.ndarray  # (2,): beyond which a face, and a clip, is unlike those that were validated
    SHAPES = {"mean": ("F",), "precision": ("F", "F"), "limits": (2,)}

    @classmethod
    def fit(cls, styles: np.ndarray, faces: np.ndarray, clips: np.ndarray) -> Domain:
        """Describe the styles of training faces (N, F); the limits are those of validated `faces` (M, F) and `clips` (C, F)."""
        fitted = LedoitWolf().fit(styles)
        parts = fitted.location_.astype(np.float32), fitted.precision_.astype(np.float32)
        found = cls(*parts, np.zeros(2))
        return cls(*parts, np.array([np.quantile(found(each), INSTRUMENT.within) for each in (faces, clips)]))

    def __call__(self, styles: np.ndarray) -> np.ndarray:
        """Return the distance (N,) of styles (N, F)."""
        centred = (styles - self.mean).astype(float)
        return np.sqrt(np.maximum(((centred @ self.precision) * centred).sum(axis=1), 0) / centred.shape[1])

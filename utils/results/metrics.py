"""Predictions in, figures of merit out: accuracy, AUC, EER, log loss, and bootstrap intervals over identity pairs.

Label 1 is fake, 0 real; a score is the probability of fake; a face or video counts as fake from the threshold upwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps

import numpy as np
import pandas as pd

from utils.faces.splits import HARD
from utils.learn.scores import over_clip

METRICS = (
    "accuracy",
    "accuracy_real",
    "accuracy_fake",
    "balanced_accuracy",
    "accuracy_half",
    "accuracy_half_real",
    "accuracy_half_fake",
    "auc",
    "eer",
    "log_loss",
)  # `accuracy_half` is the accuracy at a threshold of one half, as in the original project; the others use validation's
ALARMS = (0.05, 0.01)  # shares of false alarms at which found fakes are counted
LEVELS = ("frame", "video")
VIDEO = ["run", "model", "phase", "seed", "method", "split", "quality", "video_id", "label"]  # names one video of one run
SMALLEST = 1e-6  # scores are kept this far from 0 and 1 in the log loss
SEED_STREAM = 4040  # of the draws of seeds, apart from those of identity pairs
CHUNK = 4_000_000  # entries of the largest temporary array of a bootstrap


def identity_pairs(video_ids: Sequence[str]) -> dict[str, str]:
    """Map each video to its identity pair: a fake `TTT_SSS` to the sorted two, an original to the pair it is target of.

    An original that no fake shows is a pair of its own. Raises ValueError for an original in two pairs, because the
    resampled units would not be independent.
    """
    fakes = {video: tuple(video.split("_")) for video in set(video_ids) if "_" in video}
    pairs = {video: "_".join(sorted(ids)) for video, ids in fakes.items()}
    members: dict[str, str] = {}
    for video, ids in sorted(fakes.items()):
        for identity in ids:
            if members.setdefault(identity, pairs[video]) != pairs[video]:
                raise ValueError(f"identity {identity} is in pairs {members[identity]} and {pairs[video]}")
    return pairs | {video: members.get(video, video) for video in set(video_ids) if "_" not in video}


def video_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return one row a video: `frames` is the number of its faces, and the score what `over_clip` makes of theirs."""
    videos = predictions.groupby(VIDEO, as_index=False)
    return videos.agg(frames=("frame", "size")).assign(
        score=over_clip(predictions["score"].to_numpy(dtype=float), videos.ngroup().to_numpy())
    )


def at_level(predictions: pd.DataFrame, level: str) -> pd.DataFrame:
    """Return predictions per "frame" or per "video"; raise ValueError for another level."""
    if level not in LEVELS:
        raise ValueError(f"unknown level {level!r}: choose one of {', '.join(LEVELS)}")
    return predictions if level == "frame" else video_scores(predictions)


def choose_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the threshold of greatest balanced accuracy (Youden 1950); among equals, the one nearest to one half.

    Candidates lie midway between neighbouring scores. For validation scores only. Raises ValueError where a class is missing.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError("a threshold needs real and fake scores")
    values = np.unique(scores)
    if len(values) < 2:
        return 0.5
    candidates = (values[:-1] + values[1:]) / 2
    real, fake = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    balanced = np.searchsorted(real, candidates) / len(real) + 1 - np.searchsorted(fake, candidates) / len(fake)
    best = candidates[balanced >= balanced.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


def _auc(reals: np.ndarray, fakes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the AUC (R,) as the share of (real, fake) pairs in the right order, half for ties (Mann & Whitney 1947).

    `reals`, `fakes` (T, G) count the videos at each distinct score of each group, `weights` (R, G) weigh the groups.
    """
    below = np.cumsum(reals, axis=0) - reals / 2
    wins = fakes.T @ below  # (G, G): fakes of a row's group above reals of a column's group
    return np.einsum("rg,rg->r", weights @ wins, weights)


def _eer(reals: np.ndarray, fakes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the equal error rate (R,): where the ROC curve, joined by straight lines, crosses the falling diagonal."""
    below = [np.cumsum(counts, axis=0).T for counts in (fakes, reals)]  # (G, T): at or below each score
    rates = []
    for rows in np.array_split(weights, max(1, len(weights) * (len(reals) + 1) // CHUNK)):
        fnr, fpr = (np.zeros((len(rows), len(reals) + 1)) for _ in below)  # before the first score all count as fake
        with np.errstate(invalid="ignore", divide="ignore"):
            for rate, counted in zip((fnr, fpr), (rows @ each for each in below), strict=True):
                np.divide(counted, counted[:, -1:], out=rate[:, 1:])  # rises from 0 to 1 with the threshold
        gap = fnr - np.subtract(1, fpr, out=fpr)
        after = np.clip((gap < 0).sum(axis=1), 1, gap.shape[1] - 1)  # first point where misses outnumber alarms
        row = np.arange(len(rows))
        low, high = gap[row, after - 1], gap[row, after]
        share = -low / (high - low)
        rates.append(fnr[row, after - 1] + share * (fnr[row, after] - fnr[row, after - 1]))
    return np.concatenate(rates)


def measure(
    labels: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    wanted: Sequence[str] = METRICS,
) -> dict[str, np.ndarray]:
    """Return the wanted metrics of `METRICS` as arrays (R,), one value for each row of weights.

    `labels`, `scores`, `groups` (n,): groups number the identity pairs 0..G-1. `weights` (R, G): how often a resample
    drew each group; None is the data as they are (R = 1). A resample that lacks a class gives NaN.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    groups = np.zeros(len(labels), dtype=int) if groups is None else np.asarray(groups)
    weights = np.ones((1, groups.max() + 1)) if weights is None else np.asarray(weights, dtype=float)
    values, rank = np.unique(scores, return_inverse=True)
    counts = np.zeros((2, len(values), weights.shape[1]))
    np.add.at(counts, (labels, rank, groups), 1)
    clipped = np.clip(scores, SMALLEST, 1 - SMALLEST)
    loss = np.bincount(groups, -np.log(np.where(labels == 1, clipped, 1 - clipped)), weights.shape[1])

    def count(chosen: np.ndarray) -> np.ndarray:
        return weights @ np.bincount(groups[chosen], minlength=weights.shape[1])  # (R,)

    real, fake = count(labels == 0), count(labels == 1)
    right_real, right_fake = count((labels == 0) & (scores < threshold)), count((labels == 1) & (scores >= threshold))
    half_real, half_fake = count((labels == 0) & (scores < 0.5)), count((labels == 1) & (scores >= 0.5))
    formulas = {
        "accuracy": lambda: (right_real + right_fake) / (real + fake),
        "accuracy_real": lambda: right_real / real,
        "accuracy_fake": lambda: right_fake / fake,
        "balanced_accuracy": lambda: (right_real / real + right_fake / fake) / 2,
        "accuracy_half": lambda: (half_real + half_fake) / (real + fake),
        "accuracy_half_real": lambda: half_real / real,
        "accuracy_half_fake": lambda: half_fake / fake,
        "auc": lambda: _auc(counts[0], counts[1], weights) / (real * fake),
        "eer": lambda: _eer(counts[0], counts[1], weights),
        "log_loss": lambda: weights @ loss / (real + fake),
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        return {name: formulas[name]() for name in wanted}


def made_once(make: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """Let a function that makes a table keep its last one, and give a copy of it: who changes that, changes no other's."""
    kept = lru_cache(maxsize=1)(make)

    @wraps(make)
    def copied(*given, **options) -> pd.DataFrame:
        return kept(*given, **options).copy()

    return copied


@lru_cache(maxsize=8)  # hundreds of runs are measured on the same pairs
def resample_pairs(n_pairs: int, resamples: int, seed: int = 0) -> np.ndarray:
    """Return how often each of `resamples` bootstrap draws takes each pair (R, G), read-only; each row sums to `n_pairs`."""
    rng = np.random.default_rng([seed, n_pairs])
    drawn = rng.multinomial(n_pairs, np.full(n_pairs, 1 / n_pairs), size=resamples).astype(float)
    drawn.flags.writeable = False
    return drawn


@lru_cache(maxsize=32)
def resample_seeds(seeds: int, resamples: int) -> np.ndarray:
    """Return the share that each of `resamples` bootstrap draws gives each seed (R, S), read-only; each row sums to one."""
    rng = np.random.default_rng([SEED_STREAM, seeds])
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    drawn.flags.writeable = False
    return drawn


def calibration_error(labels: np.ndarray, scores: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error of scores (n,) in [0, 1] over bins of equal width (Guo et al. 2017)."""
    labels, scores = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
    place = np.minimum((scores * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, scores - labels, bins)).sum() / len(scores))


def crossed_share(clips: pd.DataFrame, column: str, group: str, resamples: int) -> dict[str, float]:
    """Return the share of clips that have a `column`, with its interval over seeds and groups (pairs, people), drawn crossed.

    `clips` has a row a seed and clip, with columns seed, `group` and `column` (true or false, or a difference of two such);
    every seed has the same clips, but one group may have more of them than another.
    """
    (seed, seeds), (place, groups) = (np.unique(clips[name], return_inverse=True)[::-1] for name in ("seed", group))
    shape, cell = (len(seeds), len(groups)), seed * len(groups) + place
    sums = (np.bincount(cell, weights, np.prod(shape)).reshape(shape) for weights in (clips[column].astype(float), None))
    some, others = resample_seeds(shape[0], resamples), resample_pairs(shape[1], resamples)
    (hits, drawn_hits), (counts, drawn_counts) = ((part.sum(), ((some @ part) * others).sum(axis=1)) for part in sums)
    return estimate(hits / counts, drawn_hits / drawn_counts)


def alarm_thresholds(reals: pd.DataFrame, alarms: float) -> pd.Series:
    """Return, seed by seed, the lowest score of real clips that no more than a share `alarms` of them lies above."""

    def lowest(scores: pd.Series) -> float:
        return np.sort(scores)[len(scores) - 1 - int(alarms * len(scores) + 1e-9)]

    return reals.groupby("seed")["score"].agg(lowest)


def rates(flagged: pd.DataFrame, resamples: int) -> dict[str, float]:
    """Return `tpr`, `fpr`, each with `_lo` and `_hi`, of clips that are `flagged` or not: intervals over pairs and seeds.

    `flagged` has columns seed, pair, label (1 fake, 0 real) and flagged, and every seed the same clips.
    """
    out = {"seeds": flagged["seed"].nunique()}
    for name, label in (("tpr", 1), ("fpr", 0)):
        found = crossed_share(flagged[flagged["label"] == label], "flagged", "pair", resamples)
        out |= {name: found["value"], f"{name}_lo": found["lo"], f"{name}_hi": found["hi"]}
    return out


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrap values (Efron & Tibshirani 1993, chapter 13)."""
    quantile = np.nanquantile if np.isnan(values).any() else np.quantile  # the second is quicker
    low, high = quantile(values, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True, eq=False)  # one is itself: what tables and figures both show of it is made once
class Evaluation:
    """All runs measured.

    `table`: one row a run, split, quality and level: class balance, threshold, each metric with `_lo` and `_hi`.
    `values`: (run, split, quality, level) -> metric -> (1 + R,): the estimate, then its bootstrap values. The draws
    are the same for every run on the same pairs, so that values subtracted from each other are paired.
    `pairs`: (run, split, quality, level) -> the identity pairs drawn from.
    """

    table: pd.DataFrame
    values: dict[tuple[str, str, str, str], dict[str, np.ndarray]]
    pairs: dict[tuple[str, str, str, str], tuple[str, ...]]


def evaluate(
    predictions: pd.DataFrame,
    resamples: int = 2000,
    seed: int = 0,
    levels: Sequence[str] = LEVELS,
    wanted: Sequence[str] = METRICS,
    threshold: float | None = None,
    pair_of: dict[str, str] | None = None,
) -> Evaluation:
    """Measure every run at frame and video level (or one of them) with 95 % intervals over identity pairs.

    `wanted` are the metrics, all of them unless less is asked for. `pair_of` maps each video to what is resampled as a whole;
    without it that is the pair of identities which its name tells.

    The threshold of each run, quality and level is chosen on validation and held fixed in the resamples, unless one
    `threshold` is given for all. Raises ValueError for a part that has no validation scores and needs them, or lacks a class.
    """
    pair_of = pair_of or identity_pairs(predictions["video_id"].unique().tolist())
    rows, values, pairs = [], {}, {}
    for level in levels:
        scored = at_level(predictions, level)
        scored = scored.assign(pair=pd.Categorical(scored["video_id"].map(pair_of)))  # its categories are sorted
        parts = dict(list(scored.groupby(["run", "split", "quality"])))
        for (run, split, quality), part in parts.items():
            valid = parts.get((run, "val", quality))
            if valid is None and threshold is None:
                raise ValueError(f"run {run} has no validation predictions at {quality}: predict split `val` too")
            for name, some in ({split: part} | ({"val": valid} if threshold is None else {})).items():
                if some["label"].nunique() < 2:
                    raise ValueError(f"run {run}, {name} at {quality}: needs real and fake videos")
            key = (run, split, quality, level)
            at = threshold
            if at is None:
                at = choose_threshold(valid["label"].to_numpy(), valid["score"].to_numpy())
            values[key], pairs[key] = _bootstrap(part, at, resamples, seed, wanted)
            rows.append(_describe(part, key, at, len(pairs[key])) | summarise(values[key]))
    return Evaluation(pd.DataFrame(rows), values, pairs)


def _bootstrap(
    part: pd.DataFrame, threshold: float, resamples: int, seed: int, wanted: Sequence[str]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    present, groups = np.unique(part["pair"].cat.codes, return_inverse=True)
    weights = np.vstack([np.ones((1, len(present))), resample_pairs(len(present), resamples, seed)])
    names = part["pair"].cat.categories[present]
    return measure(part["label"], part["score"], threshold, groups, weights, wanted), tuple(names.tolist())


def _describe(part: pd.DataFrame, key: tuple[str, str, str, str], threshold: float, n_pairs: int) -> dict:
    run, split, quality, level = key
    fakes = int(part["label"].sum())
    return {
        "run": run,
        "model": part["model"].iloc[0],
        "phase": part["phase"].iloc[0],
        "seed": int(part["seed"].iloc[0]),
        "split": split,
        "quality": quality,
        "level": level,
        "n_pairs": n_pairs,
        "n_real": len(part) - fakes,
        "n_fake": fakes,
        "threshold": threshold,
    }


def summarise(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Return each metric's estimate and interval from its values (1 + R,)."""
    summary = {}
    for name, draws in values.items():
        summary[name] = float(draws[0])
        summary[f"{name}_lo"], summary[f"{name}_hi"] = interval(draws[1:])
    return summary


def difference(evaluation: Evaluation, these: Sequence[tuple], those: Sequence[tuple], metric: str = "auc") -> dict:
    """Return mean metric of `these` minus that of `those` with its paired 95 % interval: value, lo, hi.

    Both are sequences of (run, split, quality, level), several, in the order of the seeds, where a method was run with
    several seeds: then the interval holds the spread of seeds as well. Raises ValueError where they were not measured on
    the same identity pairs.
    """
    if _pairs(evaluation, these) != _pairs(evaluation, those):
        raise ValueError(f"not measured on the same identity pairs: {these[0]} and {those[0]}")
    gaps = draws(evaluation, these, metric) - draws(evaluation, those, metric)
    return estimate(gaps[0], gaps[1:])


def unpaired_difference(
    evaluation: Evaluation, these: Sequence[tuple], those: Sequence[tuple], metric: str = "auc"
) -> dict[str, float]:
    """Return mean metric of `these` minus that of `those`, measured on other people, with its 95 % interval.

    Keys and result are those of `difference`; where both sides are the same runs, their seeds are drawn together. Raises
    ValueError where an identity pair is on both sides: then the difference is paired.
    """
    _require_apart(evaluation, these, those, "use `difference`")
    return _unpaired(evaluation, [(these, those)], metric)


def mean_difference(
    evaluation: Evaluation, asked: Sequence[tuple[Sequence[tuple], Sequence[tuple]]], metric: str = "auc"
) -> dict[str, float]:
    """Return the mean over several methods of the difference between two sides, with its 95 % interval: value, lo, hi.

    `asked` has both sides of each method, keys as of `difference`. Methods are resampled together, pairs and seeds; they are
    not drawn themselves, for they are no sample of methods. Paired where both sides were measured on the same identity pairs.
    Raises ValueError where the methods were not measured on the same pairs, or the two sides share some of theirs.
    """
    this, that = ([key for sides in asked for key in sides[side]] for side in (0, 1))
    if _pairs(evaluation, this) == _pairs(evaluation, that):
        gaps = np.mean([draws(evaluation, these, metric) - draws(evaluation, those, metric) for these, those in asked], axis=0)
        return estimate(gaps[0], gaps[1:])
    _require_apart(evaluation, this, that, "measure both sides on the same")
    return _unpaired(evaluation, asked, metric)


def _require_apart(evaluation: Evaluation, these: Sequence[tuple], those: Sequence[tuple], remedy: str) -> None:
    if shared := set(_pairs(evaluation, these)) & set(_pairs(evaluation, those)):
        raise ValueError(f"{these[0]} and {those[0]} share identity pairs ({min(shared)}): {remedy}")


def _unpaired(evaluation: Evaluation, asked: Sequence[tuple[Sequence[tuple], Sequence[tuple]]], metric: str) -> dict:
    """Return the mean of differences whose sides were measured on other people, with its interval."""
    # Of the same runs the n-th draws of both sides take the same seeds, and other pairs: these are drawn by their number, so
    # that equally many are taken from the next draw.
    same = all([key[0] for key in these] == [key[0] for key in those] for these, those in asked)
    numbers = {len(_pairs(evaluation, keys)) for sides in asked for keys in sides}
    shift = int(same and len(numbers) == 1)
    this = np.mean([draws(evaluation, these, metric) for these, _ in asked], axis=0)
    that = np.mean([draws(evaluation, those, metric, shift) for _, those in asked], axis=0)
    if same and max(len(these) for these, _ in asked) > 1:
        return estimate(this[0] - that[0], this[1:] - that[1:])
    # Else they must not be matched: from equally many pairs both would draw the same positions. Independent draws may meet in
    # any combination, so all are taken.
    most = math.isqrt(CHUNK) + 1
    return estimate(this[0] - that[0], np.subtract.outer(this[1:most], that[1:most]))


def same_pairs(evaluation: Evaluation, these: Sequence[tuple], those: Sequence[tuple]) -> bool:
    """Tell whether both sides, keys as of `difference`, were measured on the same identity pairs."""
    return len({evaluation.pairs[key] for key in (*these, *those)}) == 1


def _pairs(evaluation: Evaluation, keys: Sequence[tuple]) -> tuple[str, ...]:
    """Return the identity pairs that `keys`, the runs of one method, were all measured on; ValueError if they differ."""
    found = {evaluation.pairs[key] for key in keys}
    if len(found) > 1:
        raise ValueError(f"not measured on the same identity pairs: {', '.join(key[0] for key in keys)}")
    return found.pop()


def draws(evaluation: Evaluation, keys: Sequence[tuple], metric: str, shift: int = 0) -> np.ndarray:
    """Return the metric's mean over `keys`, one a seed, the estimate first, then its bootstrap values (1 + R,).

    Each resample draws identity pairs and, where there are several, seeds: both are crossed, for every seed scored the
    same people. Two methods that were run with equally many seeds get the same draws, so that they stay paired. With a `shift`
    the pairs of each resample are those of one so many before, and the seeds its own.
    """
    values = np.stack([evaluation.values[key][metric] for key in keys])  # (S, 1 + R)
    values[:, 1:] = np.roll(values[:, 1:], shift, axis=1)
    seeds, resamples = len(values), values.shape[1] - 1
    if seeds == 1:
        return values[0]
    drawn = resample_seeds(seeds, resamples)
    return np.append(values[:, 0].mean(), np.einsum("rs,sr->r", drawn, values[:, 1:]))


def estimate(value: float, draws: np.ndarray) -> dict[str, float]:
    """Return a value and the interval of its bootstrap values."""
    low, high = interval(draws)
    return {"value": float(value), "lo": low, "hi": high}


def validation_auc(evaluation: Evaluation, level: str = "frame") -> pd.DataFrame:
    """Return each run's AUC on validation, one row a run, one column a quality; its row mean is what runs are chosen by."""
    part = evaluation.table[(evaluation.table["split"] == "val") & (evaluation.table["level"] == level)]
    return part.pivot(index="run", columns="quality", values="auc")


def by_method(evaluation: Evaluation, metric: str = "auc", split: str = "test", level: str = "video") -> pd.DataFrame:
    """Return one row a phase, model and quality: the mean over seeds with its 95 % interval over identity pairs and seeds.

    Columns phase, model, quality, seeds, value, lo, hi. No rows where no run has the split.
    """
    table = evaluation.table[(evaluation.table["split"] == split) & (evaluation.table["level"] == level)]
    rows = []
    for (phase, model, quality), part in table.groupby(["phase", "model", "quality"], sort=False):
        found = draws(evaluation, [(run, split, quality, level) for run in part["run"]], metric)
        rows.append((phase, model, quality, len(part), *estimate(found[0], found[1:]).values()))
    return pd.DataFrame(rows, columns=["phase", "model", "quality", "seeds", "value", "lo", "hi"])


@made_once
def hard_against_test(evaluation: Evaluation, metric: str = "auc", level: str = "video") -> pd.DataFrame:
    """Return what each method loses on `test_hard`: one row a phase, model and quality, none where no run has the split.

    Columns phase, model, quality, n_pairs, n_real, n_fake (of test_hard), `test` and `hard` (means over the seeds that
    have both) and `change`, hard minus test, unpaired; each of the three with `_lo` and `_hi`.
    """
    counts, names = ["n_pairs", "n_real", "n_fake"], ["test", "hard", "change"]
    table, rows = evaluation.table.query("split == @HARD and level == @level"), []
    for (phase, model, quality), part in table.groupby(["phase", "model", "quality"], sort=False):
        runs = [run for run in part["run"] if (run, "test", quality, level) in evaluation.values]
        if not runs:
            continue
        hard, test = ([(run, split, quality, level) for run in runs] for split in (HARD, "test"))
        change = unpaired_difference(evaluation, hard, test, metric)
        triples = [estimate(found[0], found[1:]) for found in (draws(evaluation, keys, metric) for keys in (test, hard))]
        numbers = [number for triple in (*triples, change) for number in triple.values()]
        rows.append((phase, model, quality, *part.iloc[0][counts], *numbers))
    columns = ["phase", "model", "quality", *counts, *(name + end for name in names for end in ("", "_lo", "_hi"))]
    return pd.DataFrame(rows, columns=columns)

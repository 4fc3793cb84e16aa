"""What whoever uses a detector asks of it: is a score a chance, how should faces make a clip, and whom does it fail.

All from the committed scores of the comparison: choices on validation, what they are worth on unseen people, means over seeds,
intervals over identity pairs and seeds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from utils.learn.scores import AGGREGATIONS, FACE
from utils.results.metrics import (
    SMALLEST,
    VIDEO,
    calibration_error,
    choose_threshold,
    crossed_share,
    estimate,
    identity_pairs,
    measure,
    resample_pairs,
    resample_seeds,
    video_scores,
)
from utils.results.store import read_metadata

GROUPED_BY = ("target", "caucasian", "african", "asian", "age", "hair", "sex", "camera_exposure")  # of metadata.csv
SHOWN = ("teacher_both", "student_classic", "student_compression", "oracle")  # phases of the comparison
BINS = 10  # of equal width
DRAWS = 400  # of labels that scores are the chances of
TEMPERATURES = (0.05, 20.0)  # what is searched
OLD, YOUNG = 2 / 3, 1 / 3  # of the model's age, from 0 to 1


def clips_of(predictions: pd.DataFrame, network: str, phases: tuple[str, ...] = SHOWN) -> pd.DataFrame:
    """Return one row a clip of some phases of one network: the columns `VIDEO`, score, and its identity pair."""
    clips = video_scores(predictions[(predictions["model"] == network) & predictions["phase"].isin(phases)])
    return clips.assign(pair=clips["video_id"].map(identity_pairs(clips["video_id"].unique().tolist())))


# ---- is a score a chance? -------------------------------------------------------------------------------------------------


def temperature(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the temperature that minimises the log loss of scores (n,) in [0, 1] (Guo et al. 2017)."""

    def loss(log_t: float) -> float:
        p = cooled(scores, np.exp(log_t))
        return -np.log(np.where(labels == 1, p, 1 - p)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def cooled(scores: np.ndarray, t: float) -> np.ndarray:
    """Return scores whose log odds were divided by a temperature, kept off 0 and 1."""
    p = np.clip(scores, SMALLEST, 1 - SMALLEST)
    return np.clip(1 / (1 + np.exp(-np.log(p / (1 - p)) / t)), SMALLEST, 1 - SMALLEST)


def calibrated(clips: pd.DataFrame) -> pd.DataFrame:
    """Return the clips of unseen people with `cooled`, their score at the temperature that validation gives, and it as `t`.

    A temperature is chosen for each run and quality.
    """
    parts = []
    for _, run in clips.groupby(["run", "quality"]):
        val, test = (run[run["split"] == split] for split in ("val", "test"))
        t = temperature(val["label"].to_numpy(), val["score"].to_numpy())
        parts.append(test.assign(cooled=cooled(test["score"].to_numpy(), t), t=t))
    return pd.concat(parts, ignore_index=True)


def calibration_table(clips: pd.DataFrame) -> pd.DataFrame:
    """Return one row a phase and quality: expected calibration error and log loss before and after, means over seeds.

    With so few clips perfect probabilities would have an error, too: `by_chance` is its mean for labels that are drawn from the
    scores themselves, and in one draw of twenty it is above `by_chance_hi`; so for the cooled scores. A clip has the same luck
    in all seeds. `just_above` is the share of fakes among the clips that are scored from one half to .6.
    """
    rows, rng = [], np.random.default_rng(0)
    for (phase, quality), part in calibrated(clips).groupby(["phase", "quality"], sort=False):
        runs = [run.sort_values("video_id") for _, run in part.groupby("run")]
        row = {"phase": phase, "quality": quality, "seeds": len(runs), "t": np.mean([run["t"].iloc[0] for run in runs])}
        for name, column in (("", "score"), ("_cooled", "cooled")):
            p = [run[column].clip(SMALLEST, 1 - SMALLEST).to_numpy() for run in runs]
            row[f"ece{name}"] = np.mean([calibration_error(run["label"], one) for run, one in zip(runs, p, strict=True)])
            row[f"log_loss{name}"] = np.mean([
                -np.log(np.where(run["label"] == 1, one, 1 - one)).mean() for run, one in zip(runs, p, strict=True)
            ])  # fmt: skip
            luck = rng.random((DRAWS, max(map(len, p))))
            drawn = [np.mean([calibration_error(clip[: len(one)] < one, one) for one in p]) for clip in luck]
            row |= {f"by_chance{name}": np.mean(drawn), f"by_chance_hi{name}": np.quantile(drawn, 0.95)}
        above = part[(part["score"] > 0.5) & (part["score"] <= 0.6)]
        rows.append(row | {"just_above": above["label"].mean() if len(above) else np.nan})
    return _in_order(pd.DataFrame(rows))


def reliability_table(clips: pd.DataFrame) -> pd.DataFrame:
    """Return one row a phase, quality and bin of P(fake), all seeds together: its mean, the share of fakes, and clips."""
    rows = []
    for (phase, quality), part in calibrated(clips).groupby(["phase", "quality"], sort=False):
        for column in ("score", "cooled"):
            bins = np.minimum((part[column] * BINS).astype(int), BINS - 1)
            for place, some in part.groupby(bins):
                row = {"phase": phase, "quality": quality, "scores": column, "bin": int(place), "clips": len(some)}
                rows.append(row | {"p": some[column].mean(), "fakes": some["label"].mean()})
    return _in_order(pd.DataFrame(rows))


# ---- how should faces make a clip? ----------------------------------------------------------------------------------------


def aggregation_table(predictions: pd.DataFrame, network: str, phase: str, resamples: int) -> pd.DataFrame:
    """Return one row a way and quality: validation AUC, test AUC, and its difference from the mean of faces, with interval."""
    faces = predictions[(predictions["model"] == network) & (predictions["phase"] == phase)]
    faces = faces[faces["split"].isin(["val", "test"])]
    faces = faces.sort_values([*VIDEO, *FACE[-1:]], ignore_index=True)
    first = np.flatnonzero(~faces.duplicated(VIDEO))
    parts = np.split(faces["score"].to_numpy(), first[1:])
    made = {way: [make(part) for part in parts] for way, make in AGGREGATIONS.items()}
    clips = faces.loc[first, VIDEO].reset_index(drop=True).assign(**made)
    clips["pair"] = clips["video_id"].map(identity_pairs(clips["video_id"].unique().tolist()))
    rows = []
    for quality, part in clips.groupby("quality"):
        val, test = (part[part["split"] == split] for split in ("val", "test"))
        usual = _auc_draws(test, "mean", resamples)
        for way in AGGREGATIONS:
            found = _auc_draws(test, way, resamples)
            row = {"way": way, "quality": quality, "val_auc": _auc_draws(val, way, 1)[0], "auc": found[0]}
            rows.append(row | estimate(found[0] - usual[0], found[1:] - usual[1:]))
    return pd.DataFrame(rows)


def _auc_draws(clips: pd.DataFrame, column: str, resamples: int) -> np.ndarray:
    """Return the mean AUC over seeds of scores in a column, and its bootstrap values (1 + R,) over pairs and seeds."""
    values = []
    for _, run in clips.groupby("seed"):
        pairs, place = np.unique(run["pair"].to_numpy(), return_inverse=True)
        weights = np.vstack([np.ones(len(pairs)), resample_pairs(len(pairs), resamples)])
        values.append(measure(run["label"], run[column], 0.5, place, weights, ("auc",))["auc"])
    values = np.stack(values)
    drawn = resample_seeds(len(values), resamples)
    return np.append(values[:, 0].mean(), np.einsum("rs,sr->r", drawn, values[:, 1:]))


# ---- whom does it fail? ---------------------------------------------------------------------------------------------------


def groups_of(metadata: pd.DataFrame) -> pd.DataFrame:
    """Return what groups each person of a data set is in: columns target, factor, group."""
    people = metadata.drop_duplicates("target").set_index("target")
    looks = people[["caucasian", "african", "asian"]]
    age = pd.cut(people["age"], [-np.inf, YOUNG, OLD, np.inf], labels=["younger", "middle", "older"]).astype(str)
    hair = people["hair"].eq("none").map({True: "none", False: "some"})
    light = (people["camera_exposure"] < people["camera_exposure"].median()).map({True: "darker", False: "brighter"})
    factors = {"sex": people["sex"], "looks": looks.idxmax(axis=1), "age": age, "hair": hair, "picture": light}
    parts = [pd.DataFrame({"target": one.index, "factor": name, "group": one.to_numpy()}) for name, one in factors.items()]
    return pd.concat(parts, ignore_index=True)


def groups_table(clips: pd.DataFrame, groups: pd.DataFrame, phase: str, resamples: int) -> pd.DataFrame:
    """Return one row a group, quality and kind of error: its share of the clips, with interval, and the group's people.

    `accused` are reals called fake, `missed` fakes called real, at each run's threshold from validation; a fake counts for
    the person whom it shows.
    """
    rows, clips = [], clips[clips["phase"] == phase]
    for quality, part in clips.groupby("quality"):
        tests = []
        for _, run in part.groupby("run"):
            val, test = (run[run["split"] == split] for split in ("val", "test"))
            threshold = choose_threshold(val["label"].to_numpy(), val["score"].to_numpy())
            tests.append(test.assign(wrong=(test["score"] >= threshold) != (test["label"] == 1)))
        found = pd.concat(tests).assign(target=lambda table: table["video_id"].str[:3])
        for (factor, group), people in groups.groupby(["factor", "group"], sort=False):
            some = found[found["target"].isin(people["target"])]
            for error, label in (("accused", 0), ("missed", 1)):
                of = some[some["label"] == label]
                if len(of):
                    about = {"factor": factor, "group": group, "quality": quality, "error": error}
                    about |= {"people": of["target"].nunique()}
                    rows.append(about | crossed_share(of, "wrong", "pair", resamples))
    return pd.DataFrame(rows)


# ---- all of it ------------------------------------------------------------------------------------------------------------


def tables(predictions: pd.DataFrame, network: str, tree: Path, resamples: int) -> dict[str, pd.DataFrame]:
    """Return every table by name, from the comparison's scores; none where it was not run. Groups need the tree's metadata."""
    ran = predictions[(predictions["model"] == network) & (predictions["phase"] == "student_compression")]
    if not {"val", "test"} <= set(ran["split"]) or ran.groupby(["run", "split", "quality"])["label"].nunique().min() < 2:
        return {}
    clips = clips_of(predictions, network)
    made = {
        "calibration": calibration_table(clips), "reliability": reliability_table(clips),
        "aggregation": aggregation_table(predictions, network, "student_compression", resamples),
    }  # fmt: skip
    metadata = read_metadata(tree, GROUPED_BY)
    if metadata is not None:
        made["groups"] = groups_table(clips, groups_of(metadata), "student_compression", resamples)
    return made


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table's rows in the order of `SHOWN`."""
    place = table["phase"].map({phase: number for number, phase in enumerate(SHOWN)})
    return table.iloc[place.to_numpy().argsort(kind="stable")].reset_index(drop=True)

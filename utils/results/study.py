"""The Noisy Student study in tables: who beats whom, what labels are worth, what iterations and single settings do.

Everything comes from committed predictions and pseudo-labels: AUC over the videos of unseen people, means over seeds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import pandas as pd

from utils.config import ABLATIONS, ARMS, COMPARED, CONTROL, LABELLED_PEOPLE, TEACHERS, Profile, labels_variant
from utils.learn.scores import FACE, equal_scores
from utils.results import store
from utils.results.metrics import Evaluation, calibration_error, difference, draws, estimate, evaluate, made_once
from utils.results.prose import interval_text
from utils.results.style import LABELS

CONTRASTS = (  # who against whom
    ("student_compression", "student_classic"),
    ("student_compression", "teacher_c40"),
    ("student_compression", "teacher_c23"),
    ("student_compression", "teacher_both"),
    ("student_compression_it1", "teacher_both"),
    ("student_compression_it2", "teacher_both"),
    ("student_compression_it3", "teacher_both"),
    ("student_classic", "teacher_c40"),
    ("teacher_both", "teacher_c40"),
    ("teacher_both", "teacher_c23"),
    ("teacher_c23", "teacher_c40"),
    ("oracle", "teacher_c40"),
    ("oracle", "teacher_c23"),
    ("oracle", "teacher_both"),
    ("oracle", "student_compression"),
)
TARGETS = (  # of the compression student: against whom, where, least difference in AUC, must the interval lie above zero?
    ("student_classic", "c40", 0.05, True),
    ("teacher_c40", "c40", 0.05, True),
    ("teacher_c23", "c40", 0.05, True),
    ("teacher_both", "c40", 0.0, True),
    ("teacher_c23", "c23", -0.01, False),
)
GAP_TARGET = 0.8  # of the way from its teacher to the oracle, at c40
LEVEL = "video"


@dataclass(frozen=True, eq=False)  # a study is itself: tables that figures show, too, are made of it once
class Study:
    """The comparison and its experiments, measured.

    `pseudo_labels` are those of the comparison, judged; `people` have labels in it; `identical` are the experiments whose
    scores are those of the unchanged student, bit for bit.
    """

    network: str
    evaluation: Evaluation
    pseudo_labels: pd.DataFrame
    people: int
    identical: frozenset[str] = frozenset()

    def keys(self, phase: str, quality: str, experiment: str = "", split: str = "test", network: str = "", seeds=None):
        """Return the keys of a phase's results, one a seed, in their order; `experiment` is "" for the comparison."""
        runs = self._runs.get((experiment, phase, quality, split, network or self.network), ())
        return [(run, split, quality, LEVEL) for run in runs if seeds is None or self._seed[run] in seeds]

    @cached_property
    def _runs(self) -> dict[tuple, list[str]]:
        """The runs of each experiment, phase, quality, split and network, in the order of their seeds."""
        by = ["experiment", "phase", "quality", "split", "model"]
        return {key: part.sort_values("seed")["run"].tolist() for key, part in self.evaluation.table.groupby(by, sort=False)}

    @cached_property
    def _seed(self) -> dict[str, int]:
        return dict(zip(self.evaluation.table["run"], map(int, self.evaluation.table["seed"]), strict=True))

    def seeds(self, keys: Sequence[tuple]) -> list[int]:
        """Return the seeds of some results."""
        return [self._seed[key[0]] for key in keys]

    def contrast(self, these: Sequence[tuple], those: Sequence[tuple]) -> dict[str, float]:
        """Return the difference over the seeds that both have: value, lo, hi, seeds; ValueError where there are none."""
        shared = sorted(set(self.seeds(these)) & set(self.seeds(those)))
        if not shared:
            raise ValueError(f"no seed in common: {these[:1]} and {those[:1]}")
        pick = [[key for key, seed in zip(keys, self.seeds(keys), strict=True) if seed in shared] for keys in (these, those)]
        return difference(self.evaluation, *pick) | {"seeds": len(shared)}

    def mean(self, keys: Sequence[tuple]) -> dict[str, float]:
        """Return the mean over seeds: value, lo, hi, seeds."""
        values = draws(self.evaluation, keys, "auc")
        return estimate(values[0], values[1:]) | {"seeds": len(keys)}


def load_study(profile: Profile, predictions: pd.DataFrame | None = None) -> Study | None:
    """Read and measure what is there; None where the comparison was not run."""
    network = profile.student_model
    predictions = store.load_predictions(profile) if predictions is None else predictions
    arms = [phase for phase in predictions["phase"].unique() if re.sub(r"_it\d+$", "", phase) in ARMS]
    is_arm = predictions["phase"].isin(arms) & (predictions["model"] == network)
    studied = predictions[(predictions["experiment"] != "") | is_arm]
    runs = store.load_runs(profile).query("experiment == '' and phase == 'teacher_both' and model == @network")
    if not is_arm.any() or runs.empty:
        return None
    experiment = studied["experiment"]
    named = studied.assign(run=(experiment + "/").where(experiment != "", "") + studied["run"]).drop(columns="experiment")
    evaluation = evaluate(named, profile.bootstrap, levels=(LEVEL,), wanted=("auc",))
    evaluation.table.insert(0, "experiment", evaluation.table["run"].str.rpartition("/")[0])
    people = int(runs["labelled_people"].iloc[0])
    judged = store.load_pseudo_labels(profile).query("experiment == ''")
    return Study(network, evaluation, judged, people, _identical(studied))


def _identical(predictions: pd.DataFrame) -> frozenset[str]:
    """Return the ablations that scored every face exactly as the unchanged first student with the same seed did."""
    key = ["model", "seed", *FACE]
    usual = predictions[(predictions["experiment"] == "") & (predictions["phase"] == "student_compression_it1")]
    ablations = [name for name in predictions["experiment"].unique() if name.startswith("ablation/")]
    changed = predictions[predictions["experiment"].isin(ablations)]
    equal = equal_scores(changed, usual, key, ["experiment"])
    return frozenset(equal.index[equal])


@made_once
def contrasts_table(study: Study) -> pd.DataFrame:
    """Return every difference of CONTRASTS per split and quality.

    Columns split, quality, phase, versus, value, lo, hi, seeds.
    """
    rows = [row for split in ("test", "test_hard") for quality in ("c23", "c40") for row in _contrasts(study, quality, split)]
    return pd.DataFrame(rows, columns=["split", "quality", "phase", "versus", "value", "lo", "hi", "seeds"])


def rivals_text(study: Study, phase: str, quality: str, split: str) -> pd.DataFrame:
    """Return a method's contrasts to be read: a row a rival, by its label, with the difference in AUC and its interval."""
    rows = contrasts_table(study).query("phase == @phase and quality == @quality and split == @split")
    said = interval_text(rows, "value", "+")
    return pd.DataFrame({f"{LABELS[phase]} minus": rows["versus"].map(LABELS), "difference in AUC": said}).set_index(
        f"{LABELS[phase]} minus"
    )


def _contrasts(study: Study, quality: str, split: str = "test", experiment: str = "") -> list[dict]:
    """Return the differences of CONTRASTS whose runs are there; the oracle is always that of the comparison."""
    rows = []
    for names in CONTRASTS:
        these, those = (study.keys(name, quality, "" if name == "oracle" else experiment, split) for name in names)
        if these and those:
            about = dict(split=split, quality=quality, phase=names[0], versus=names[1])
            rows.append(about | study.contrast(these, those))
    return rows


def few_labels_table(study: Study) -> pd.DataFrame:
    """Return every difference of CONTRASTS on test for each number of labelled people that was run.

    Columns people, quality, phase, versus, value, lo, hi, seeds.
    """
    rows = [
        row | {"people": people}
        for people, folder in _label_counts(study).items() for quality in ("c23", "c40")
        for row in _contrasts(study, quality, experiment=folder)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["people", "quality", "phase", "versus", "value", "lo", "hi", "seeds"])


def _label_counts(study: Study) -> dict[int, str]:
    """Return the numbers of labelled people that were run -> the experiment's name."""
    counts = {people: labels_variant(people) for people in LABELLED_PEOPLE} | {study.people: ""}
    run = set(study.evaluation.table["experiment"])
    return {people: experiment for people, experiment in counts.items() if experiment in run}


def gap_closed(study: Study, experiment: str = "", quality: str = "c40") -> dict[str, float] | None:
    """Return the share of the way from `teacher_both` to `oracle` that `student_compression` goes: value, lo, hi.

    A resample in which the oracle is not above the teacher has no such share and is left out. None where a run is missing.
    """
    teacher, student = (study.keys(phase, quality, experiment) for phase in ("teacher_both", "student_compression"))
    if not (teacher and student):
        return None
    oracle = study.keys("oracle", quality, seeds=study.seeds(student))
    if not oracle:
        return None
    values = [draws(study.evaluation, keys, "auc") for keys in (teacher, student, oracle)]
    gap = values[2] - values[0]
    share = np.where(gap > 0, (values[1] - values[0]) / np.where(gap > 0, gap, 1), np.nan)
    return estimate(share[0], share[1:])


def _control(study: Study, quality: str, folder: str = "", split: str = "test") -> tuple[list[tuple], list[tuple]]:
    """Return the keys of a control and of the first compression student, whose control it is, in one experiment's folder."""
    variant = (replace(CONTROL, group=folder) if folder else CONTROL).variant
    first = study.keys("student_compression_it1", quality, folder, split)
    return study.keys("student_compression", quality, variant, split), first


def control_table(study: Study) -> pd.DataFrame:
    """Return how the control does on every split, beside what it is the control of: a row a split, quality and phase.

    `phase` is "control", its AUC; "over_control", what the first compression student leads it by; or "gain_<teacher>", what it
    leads a teacher by. Columns split, quality, phase, value, lo, hi, seeds; no rows where it was not run.
    """
    rows = []
    for split, quality in product(("test", "test_hard"), ("c23", "c40")):
        control, first = _control(study, quality, split=split)
        if not (control and first):
            continue
        teachers = {name: study.keys(name, quality, split=split) for name in ("teacher_both", "teacher_c23", "teacher_c40")}
        found = {"control": study.mean(control), "over_control": study.contrast(first, control)}
        found |= {f"gain_{name}": study.contrast(control, keys) for name, keys in teachers.items() if keys}
        rows += [{"split": split, "quality": quality, "phase": phase} | one for phase, one in found.items()]
    return pd.DataFrame(rows, columns=["split", "quality", "phase", "value", "lo", "hi", "seeds"])


@made_once
def labels_table(study: Study) -> pd.DataFrame:
    """Return AUC against the number of labelled people: columns people, quality, phase, value, lo, hi, seeds.

    `phase` is one of those compared, "gain_<phase>", a student minus its teacher, or "gap_closed", the compression
    student's share of the way from its teacher to the oracle. The oracle stands at every number. "control" learned from
    labels alone, in the steps and the noise of the first compression student, which leads it by "over_control"; "gain_control"
    is what it leads the same teacher by.
    """
    rows = []
    for people, folder in _label_counts(study).items():
        for quality in ("c23", "c40"):
            keys = {phase: study.keys(phase, quality, folder) for phase in COMPARED} | {"oracle": study.keys("oracle", quality)}
            about = dict(people=people, quality=quality)
            rows += [about | {"phase": phase} | study.mean(found) for phase, found in keys.items() if found]
            for student, teacher in TEACHERS.items():
                if keys[student] and keys[teacher]:
                    rows.append(about | {"phase": f"gain_{student}"} | study.contrast(keys[student], keys[teacher]))
            control, first = _control(study, quality, folder)
            if control and first and keys["teacher_both"]:
                rows.append(about | {"phase": "control"} | study.mean(control))
                rows.append(about | {"phase": "gain_control"} | study.contrast(control, keys["teacher_both"]))
                rows.append(about | {"phase": "over_control"} | study.contrast(first, control))
            share = gap_closed(study, folder, quality)
            if share:
                rows.append(about | {"phase": "gap_closed", "seeds": len(keys["student_compression"])} | share)
    return pd.DataFrame(rows, columns=["people", "quality", "phase", "value", "lo", "hi", "seeds"])


def targets_table(few_labels: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return what the study set out to show, for each number of labelled people, from the two tables about them.

    Columns people, what ("difference" in AUC or "share" of the way to the oracle), versus, quality, least, value, lo, hi,
    seeds, met.
    """
    few, rows = few_labels.query("phase == 'student_compression'"), []
    for versus, quality, least, above_zero in TARGETS:
        for row in few[(few["versus"] == versus) & (few["quality"] == quality)].to_dict("records"):
            met = row["value"] >= least and (row["lo"] > 0 or not above_zero)
            rows.append(row | {"what": "difference", "least": least, "met": met})
    for row in labels.query("phase == 'gap_closed' and quality == 'c40'").to_dict("records"):
        rows.append(row | {"what": "share", "versus": "oracle", "least": GAP_TARGET, "met": row["value"] >= GAP_TARGET})
    columns = ["people", "what", "versus", "quality", "least", "value", "lo", "hi", "seeds", "met"]
    return pd.DataFrame(rows, columns=columns).sort_values("people", kind="stable", ignore_index=True)


@made_once
def ablation_table(study: Study) -> pd.DataFrame:
    """Return what each single change does to the first compression student: one row a factor, value and quality.

    Columns factor, setting, network, quality, auc, seeds, and `change` against the unchanged student of the same seeds, with
    lo and hi; `change_val` is the same on validation. `identical`: every score is the unchanged student's, so the setting
    had no effect.
    """
    rows = []
    for quality, one in product(("c40", "c23"), ABLATIONS):
        network = one.network or study.network
        keys, reference = {}, {}
        for split in ("test", "val"):
            keys[split] = study.keys("student_compression", quality, one.variant, split, network)
            reference[split] = study.keys("student_compression_it1", quality, split=split)
        if not (keys["test"] and reference["test"]):
            continue
        about = dict(factor=one.factor, setting=one.value, network=network, quality=quality)
        about["identical"] = one.variant in study.identical
        about |= {"auc": study.mean(keys["test"])["value"]} | study.contrast(keys["test"], reference["test"])
        rows.append(about | {"change_val": study.contrast(keys["val"], reference["val"])["value"]})
    columns = ["factor", "setting", "network", "quality", "auc", "value", "lo", "hi", "seeds", "change_val", "identical"]
    return pd.DataFrame(rows, columns=columns).rename(columns={"value": "change"})


@made_once
def iterations_table(study: Study) -> pd.DataFrame:
    """Return AUC by iteration, 0 for the teacher: columns student, iteration, quality, value, lo, hi, seeds."""
    rows = []
    for student, teacher in TEACHERS.items():
        steps = [teacher, *iteration_phases(study, student)]
        for iteration, phase in enumerate(steps):
            for quality in ("c23", "c40"):
                keys = study.keys(phase, quality)
                if keys:
                    rows.append(dict(student=student, iteration=iteration, quality=quality) | study.mean(keys))
    return pd.DataFrame(rows, columns=["student", "iteration", "quality", "value", "lo", "hi", "seeds"])


def iteration_phases(study: Study, student: str) -> list[str]:
    """Return the phases of a student that were run, first iteration to last."""
    phases = study.evaluation.table["phase"].unique()
    return sorted((phase for phase in phases if phase.startswith(f"{student}_it")), key=lambda name: int(name.split("_it")[1]))


@made_once
def pseudo_labels_table(study: Study) -> pd.DataFrame:
    """Return the worth of the pseudo-labels of each run: columns student, iteration, seed and, as shares of one,

    `right` of all frames, `kept` of the clips, `right_learned` of the copies that were learned from; `ece`, the expected
    calibration error over clips in ten bins of P(fake) (Guo et al. 2017), and `log_loss` over clips.
    """
    rows = []
    for student in TEACHERS:
        for iteration, phase in enumerate(iteration_phases(study, student), start=1):
            for seed, part in study.pseudo_labels[study.pseudo_labels["phase"] == phase].groupby("seed"):
                p, label = part["p_fake"].clip(1e-4, 1 - 1e-4), part["label"]
                rows.append(dict(
                    student=student, iteration=iteration, seed=seed, right=part["right"].sum() / part["frames"].sum(),
                    kept=(part["copies"] > 0).mean(), right_learned=part["copies_right"].sum() / part["copies"].sum(),
                    ece=calibration_error(label, part["p_fake"]), log_loss=-np.log(np.where(label == 1, p, 1 - p)).mean(),
                ))  # fmt: skip
    return pd.DataFrame(rows, columns=["student", "iteration", "seed", "right", "kept", "right_learned", "ece", "log_loss"])


def tables(study: Study | None) -> dict[str, pd.DataFrame]:
    """Return all tables of the study by name; nothing without a study."""
    if study is None:
        return {}
    makers: dict[str, Callable[[Study], pd.DataFrame]] = {
        "contrasts": contrasts_table, "labels": labels_table, "few_labels": few_labels_table, "ablation": ablation_table,
        "control": control_table, "iterations": iterations_table, "pseudo_labels": pseudo_labels_table,
    }  # fmt: skip
    made = {name: make(study) for name, make in makers.items()}
    return made | {"targets": targets_table(made["few_labels"], made["labels"])}

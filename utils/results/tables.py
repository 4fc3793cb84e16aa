"""The report's tables of all runs: results, differences, cases, robustness, data and settings (`study` has the study's)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd

from utils.config import ARMS, METHODS_GROUP, PHASE_TEACHER, PHASES, SHIPPED, Profile
from utils.faces.splits import HARD, SPLITS
from utils.paths import PACKAGED, REFERENCE, read_json
from utils.results.metrics import (
    Evaluation,
    by_method,
    difference,
    evaluate,
    hard_against_test,
    made_once,
    mean_difference,
    same_pairs,
    unpaired_difference,
    validation_auc,
)
from utils.results.prose import interval_text
from utils.results.store import read_metadata, read_table
from utils.results.style import MODELS, known_methods, method_label

SHOWN = ("auc", "balanced_accuracy", "accuracy", "accuracy_real", "accuracy_fake", "eer", "log_loss")
WRONG_FACES = ("split", "quality", "faces", "wrong", "clips", "wholly", "names")  # columns, by `checks/wrong_faces.py`
CLIPS_HAVE = ("quality", "split", "target", "label", "frames", "fps", "bytes", "psnr", "ssim")  # in metadata.csv
TRANSFER = ["model", "seed", "trained_on", "tested_on", "quality", "value", "lo", "hi"]


def results_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return one row a phase, model, quality and level on test: metrics with intervals, and the class balance."""
    key = ["phase", "model", "quality"]
    table, parts = evaluation.table, []
    for level in ("video", "frame"):
        part = table[(table["split"] == "test") & (table["level"] == level)]
        part = part.groupby(key, sort=False, as_index=False)[["n_pairs", "n_real", "n_fake"]].first()
        for metric in SHOWN:
            values = by_method(evaluation, metric, level=level)
            names = {"value": metric, "lo": f"{metric}_lo", "hi": f"{metric}_hi"}
            part = part.merge(values.rename(columns=names).drop(columns="seeds" if metric != "auc" else []), on=key)
        parts.append(known_methods(part).assign(level=level))
    return pd.concat(parts, ignore_index=True)


def robustness_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return video AUC on `test` and on `test_hard`, one row a method and quality; no row where no run has `test_hard`.

    Columns as in `hard_against_test`.
    """
    return known_methods(hard_against_test(evaluation))


def cases_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return the original's 18 cases beside ours, and Lite0's: accuracy over faces in % at one half, and AUC in %.

    Ours are means over seeds: `<quality>_val`, `_test`, `_test_real`, `_test_fake` and, at c40, AUC of faces (`_val_auc`,
    `_test_auc`). Two data sets: original and ours are not to be subtracted. Empty where a case was not run.
    """
    original = load_original()
    own = pd.DataFrame({"phase": list(PHASES), "model": "efficientnet-lite0"})  # no case of the original
    table = pd.concat([original, own], ignore_index=True)
    ours = evaluation.table.query("level == 'frame' and split in ('val', 'test')").copy()
    columns = {"": "accuracy_half", "_real": "accuracy_half_real", "_fake": "accuracy_half_fake", "_auc": "auc"}
    for ending, metric in columns.items():
        ours["column"] = ours["quality"] + "_" + ours["split"] + ending
        ours["percent"] = 100 * ours[metric]
        wide = ours.pivot_table(index=["phase", "model"], columns="column", values="percent").reset_index()
        table = table.merge(wide, on=["phase", "model"], how="left")
    table.insert(0, "method", [method_label(row) for row in table.itertuples()])
    return table


def keys(
    evaluation: Evaluation, phase: str, model: str, quality: str, level: str = "video", split: str = "test"
) -> list[tuple]:
    """Return the keys of a method's results on a split, one a seed."""
    wanted = [(run, split, quality, level) for run in _runs(evaluation).get((phase, model, split), ())]
    return [key for key in wanted if key in evaluation.values]


@lru_cache(maxsize=1)
def _runs(evaluation: Evaluation) -> dict[tuple[str, str, str], list[str]]:
    """Return the runs of each phase, model and split, in the order of their rows."""
    parts = evaluation.table.groupby(["phase", "model", "split"], sort=False)["run"]
    return {key: part.unique().tolist() for key, part in parts}


RIVALS = {"efficientnet-lite0": ("xception", "resnet18", "resnet50"), "xception": ("resnet18", "resnet50")}


def differences_table(evaluation: Evaluation, split: str = "test") -> pd.DataFrame:
    """Return paired differences in AUC on a split, with intervals; none whose two sides have other pairs of people.

    `question`: "compression" (c23 minus c40), "averaging" (video minus frame), "phase" (against the phase before),
    "own_teacher" (phase 3 against its teacher) and "rival" (against another network in the same phase, which is `versus`).
    Those between the arms of the comparison are in `study.contrasts_table`.
    """
    rows = [(*about, *difference(evaluation, *sides).values()) for about, sides in _asked(evaluation, split)]
    columns = ["question", "phase", "versus", "model", "quality", "value", "lo", "hi"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(1, "method", [method_label(row) for row in table.itertuples()])
    return table


def _asked(evaluation: Evaluation, split: str) -> Iterator[tuple[tuple, tuple[list[tuple], list[tuple]]]]:
    """Yield what `differences_table` says of each difference (question, phase, versus, model, quality), and its two sides."""
    run = set(zip(evaluation.table["phase"], evaluation.table["model"], strict=True))
    methods = [(phase, model) for phase in [*PHASES, *ARMS] for model in MODELS if (phase, model) in run]
    qualities = sorted(evaluation.table["quality"].unique())
    before = dict(zip(list(PHASES)[1:], list(PHASES), strict=False))
    asked = []
    for phase, model in methods:
        asked.append(("compression", phase, phase, model, "c40", ("c23", "video"), ("c40", "video")))
        for quality in qualities:
            asked.append(("averaging", phase, phase, model, quality, (quality, "video"), (quality, "frame")))
            for question, contrasts in (("phase", before), ("own_teacher", {"noisy_trained": PHASE_TEACHER})):
                if phase in contrasts:
                    same = (quality, "video")
                    asked.append((question, phase, contrasts[phase], model, quality, same, same))
            for rival in RIVALS.get(model, ()):
                if phase in PHASES:
                    asked.append(("rival", phase, rival, model, quality, (quality, "video"), (quality, "video")))
    for question, phase, versus, model, quality, this, that in asked:
        other = (phase, versus) if question == "rival" else (versus, model)
        these, those = keys(evaluation, phase, model, *this, split), keys(evaluation, *other, *that, split)
        if len(these) == len(those) > 0 and same_pairs(evaluation, these, those):
            yield (question, phase, versus, model, quality), (these, those)


def averages_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return means over methods, resampled together: what the prose says "on average", a row a question and quality.

    `question`: "compression" and "averaging" over the cases of the original's phases, "phase" and "own_teacher" over those of
    the last, "hard" (`test_hard` minus test) over all methods, and "gap", points of accuracy over faces that the cases lose
    from validation to test. Columns question, quality, count (methods), value, lo, hi.
    """
    asked: dict[tuple[str, str], list] = {}
    for (question, phase, _, _, quality), sides in _asked(evaluation, "test"):
        if phase in PHASES and (question in ("compression", "averaging") or phase == list(PHASES)[-1] and question != "rival"):
            asked.setdefault((question, quality), []).append(sides)
    for phase, model, quality in robustness_table(evaluation)[["phase", "model", "quality"]].itertuples(index=False):
        sides = tuple(keys(evaluation, phase, model, quality, split=split) for split in (HARD, "test"))
        asked.setdefault(("hard", quality), []).append(sides)
    ours = evaluation.table.query("level == 'frame' and phase in @PHASES and split == 'val'")
    for phase, model, quality in ours[["phase", "model", "quality"]].drop_duplicates().itertuples(index=False):
        sides = tuple(keys(evaluation, phase, model, quality, "frame", split) for split in ("val", "test"))
        if all(sides):
            asked.setdefault(("gap", quality), []).append(sides)
    rows = []
    for (question, quality), some in asked.items():
        found = mean_difference(evaluation, some, "accuracy_half" if question == "gap" else "auc")
        scale = 100 if question == "gap" else 1
        rows.append((question, quality, len(some), *(scale * value for value in found.values())))
    return pd.DataFrame(rows, columns=["question", "quality", "count", "value", "lo", "hi"])


def read_wrong_faces(path: Path) -> pd.DataFrame:
    """Read the table that notebook 02 writes of squares on another person's face; raise ValueError for a damaged one."""
    found = read_table(path, WRONG_FACES, ("split", "quality", "names"), "run notebook 02 again")
    return found.assign(names=found["names"].fillna("").astype(str))


def right_tables(predictions: pd.DataFrame, wrong: pd.DataFrame, resamples: int) -> dict[str, pd.DataFrame]:
    """Return what is lost on `test_hard` without the clips of which every face is another person's.

    Nothing where there is no such clip, or where without them no real or no fake is left.

    `wrong` is the table of notebook 02 (`wrong_faces`). `right_robustness` has the columns of `robustness_table`,
    `right_averages` the mean over methods, resampled together: quality, left_out (clips), count (methods), value, lo, hi.
    """
    wrong = wrong[(wrong["split"] == HARD) & (wrong["wholly"] > 0)]
    names = [f"{row.quality}/{name}" for row in wrong.itertuples() for name in row.names.split()]
    clip = predictions["quality"] + "/" + predictions["method"] + "/" + predictions["video_id"]
    is_hard = predictions["split"] == HARD
    kept = ~(is_hard & clip.isin(names))
    left = predictions[is_hard & kept].groupby(["run", "quality"])["label"].nunique()
    if not names or left.empty or left.min() < 2:
        return {}
    evaluation = evaluate(predictions[kept], resamples, levels=("video",), wanted=("auc",))
    averages = averages_table(evaluation).query("question == 'hard'").drop(columns="question")
    averages.insert(1, "left_out", averages["quality"].map(wrong.set_index("quality")["wholly"]).fillna(0).astype(int))
    return {"right_robustness": robustness_table(evaluation), "right_averages": averages}


def robustness_text(evaluation: Evaluation) -> pd.DataFrame:
    """Return `robustness_table` to be read: a row a method and quality; test, hard and change with their intervals."""
    table = robustness_table(evaluation).set_index(["method", "quality"])
    forms = {"test": "", "hard": "", "change": "+"}
    return pd.DataFrame({column: interval_text(table, column, form) for column, form in forms.items()}, table.index)


def budget_table(profile: Profile, networks: Sequence[str], faces: int) -> pd.DataFrame:
    """Return how long some networks learn, a row each: settings, faces seen, and epochs of so many `faces`."""
    table = pd.DataFrame({network: vars(profile.model(network)) for network in networks}).T
    table["faces seen"] = table["steps"] * table["batch_size"]
    table["epochs"] = (table["faces seen"] / faces).astype(float).round(1)
    return table.drop(columns=["drop_path", "progressive"])


def data_tables(profile: Profile) -> dict[str, pd.DataFrame]:
    """Return what metadata.csv tells per split (`data`) and per quality (`compression`); empty where there is none."""
    clips = read_metadata(Path(profile.data.root), CLIPS_HAVE)
    if clips is None:
        return {"data": pd.DataFrame(columns=["split"]), "compression": pd.DataFrame(columns=["quality"])}
    clips["seconds"] = clips["frames"] / clips["fps"]
    clips["kbits"] = clips["bytes"] * 8 / clips["seconds"] / 1000
    one = clips[clips["quality"] == clips["quality"].min()]
    splits = one.groupby("split").agg(
        identities=("target", "nunique"),
        real=("label", lambda label: (label == 0).sum()),
        fake=("label", "sum"),
        frames=("frames", "sum"),
    )
    order = [name for name in (*SPLITS, HARD) if name in splits.index]
    usual = clips[clips["split"] != HARD]  # its frames have other sizes
    means = usual.groupby("quality", as_index=False)[["kbits", "psnr", "ssim"]].mean()
    return {"data": splits.loc[order].reset_index(), "compression": means}


def settings_table(profile: Profile) -> pd.DataFrame:
    """Return the settings of each network of the profile."""
    rows = [(MODELS[name], c.px, c.weights, c.steps, c.batch_size, f"{c.lr:g}") for name, c in profile.models.items()]
    return pd.DataFrame(rows, columns=["network", "px", "weights", "steps", "batch", "lr"])


def one_run_a_model(evaluation: Evaluation) -> pd.DataFrame:
    """Return the test rows of one run a model: of its runs in `PHASES`, the one with the best validation AUC.

    Validation AUC is that of frames, averaged over the qualities; models come in the order of `MODELS`.
    """
    table = evaluation.table[evaluation.table["phase"].isin(PHASES)]
    valid = validation_auc(evaluation).mean(axis=1)
    runs = table.drop_duplicates("run").sort_values("run", key=lambda names: names.map(valid), kind="stable")
    table = table[(table["split"] == "test") & table["run"].isin(runs.groupby("model")["run"].last())]
    order = {model: index for index, model in enumerate(MODELS)}
    return table.sort_values("model", key=lambda names: names.map(order), kind="stable")


def validation_text(evaluation: Evaluation, titles: dict[str, str]) -> tuple[pd.DataFrame, str]:
    """Return the validation AUC of some runs to be read, by their titles, and a sentence on the one that validates best."""
    valid = validation_auc(evaluation).loc[list(titles)]
    best = valid.mean(axis=1).idxmax()
    at = " and ".join(f"{valid.loc[best, quality]:.3f} at {quality}" for quality in valid)
    shown = valid.rename(index=titles).round(3).rename_axis(index=None, columns="validation AUC, faces")
    return shown, f"{titles[best]} validates best: its AUC of single faces is {at}."


def auc_text(evaluation: Evaluation) -> pd.DataFrame:
    """Return the test AUC of videos with intervals, to be read: a row a run, a column a quality."""
    videos = evaluation.table.query("split == 'test' and level == 'video'").set_index(["run", "quality"])
    return interval_text(videos, "auc").unstack("quality").rename_axis(index=None, columns="test AUC, videos")


def load_original() -> pd.DataFrame:
    """Return the original project's 18 cases: phase, model, accuracies in % on validation and unseen test faces."""
    return pd.read_csv(REFERENCE / "original_results.csv")


@made_once
def accuracy_gaps(evaluation: Evaluation, name: str) -> pd.DataFrame:
    """Return points of accuracy lost from validation to test, over faces at a threshold of one half.

    Columns group, phase, model, gap, lo, hi, holds_zero (does the interval?). Ours are means over seeds; validation and
    test share nobody, so the interval is unpaired. The original gave none, and holds_zero is False there.
    """
    original = load_original()
    gaps = original["val_acc_all"] - original["test_acc_all"]
    parts = [original[["phase", "model"]].assign(group="original, FF++", gap=gaps)]
    ours = evaluation.table.query("level == 'frame' and phase in @PHASES and split == 'val'")
    rows = []
    for (quality, phase, model), part in ours.groupby(["quality", "phase", "model"], sort=True):
        val, test = ([(run, split, quality, "frame") for run in part["run"]] for split in ("val", "test"))
        if all(key in evaluation.values for key in test):
            found = unpaired_difference(evaluation, val, test, "accuracy_half")
            rows.append((f"{name}, {quality}", phase, model, *(100 * value for value in found.values())))
    parts.append(pd.DataFrame(rows, columns=["group", "phase", "model", "gap", "lo", "hi"]))
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    table = table.reindex(columns=["group", "phase", "model", "gap", "lo", "hi"])
    return table.assign(holds_zero=(table["lo"] <= 0) & (table["hi"] >= 0))


def networks_table(evaluation: Evaluation) -> pd.DataFrame:
    """Return one row a network and quality, in the phase of `PHASES` that validates best: AUC of test videos.

    Columns method, model, phase, quality, val_auc (frames, mean over qualities: what the phase is chosen by), and AUC and
    accuracies of videos.
    """
    table = one_run_a_model(evaluation).query("level == 'video'")
    table = table.assign(val_auc=table["run"].map(validation_auc(evaluation).mean(axis=1)))
    columns = [
        "model",
        "phase",
        "quality",
        "val_auc",
        "auc",
        "auc_lo",
        "auc_hi",
        "balanced_accuracy",
        "accuracy_real",
        "accuracy_fake",
    ]
    return known_methods(table[columns])


def transfer_table(predictions: pd.DataFrame, resamples: int) -> pd.DataFrame:
    """Return how a network that learned one manipulation method finds another: columns `TRANSFER`, no rows for one method.

    AUC of test videos, the fakes of one method (`tested_on`) against all originals. `predictions` come from
    `store.load_predictions`; those of the experiments `methods/NAME` learned from the fakes of NAME alone, and are compared
    with the same network that learned them all.
    """
    methods = sorted(predictions.loc[predictions["label"] == 1, "method"].unique())
    each = [name for name in predictions["experiment"].unique() if name.startswith(METHODS_GROUP)]
    alone = predictions[predictions["experiment"].isin(each)]
    if len(methods) < 2 or alone.empty:
        return pd.DataFrame(columns=TRANSFER)
    of_all = (predictions["experiment"] == "") & predictions["run"].isin(alone["run"])
    compared = pd.concat([alone, predictions[of_all]])
    named = compared["run"] + " " + compared["experiment"]  # a run of each method has the same name
    learned = compared.assign(run=named).drop_duplicates("run").set_index("run")["experiment"].str.removeprefix(METHODS_GROUP)
    parts = []
    for tested in methods:
        seen = compared.assign(run=named)[(compared["label"] == 0) | (compared["method"] == tested)]
        table = evaluate(seen.drop(columns="experiment"), resamples).table.query("split == 'test' and level == 'video'")
        table = table.assign(trained_on=table["run"].map(learned).replace("", "all"), tested_on=tested)
        parts.append(table.rename(columns={"auc": "value", "auc_lo": "lo", "auc_hi": "hi"})[TRANSFER])
    return pd.concat(parts, ignore_index=True)


def field_table() -> pd.DataFrame:
    """Return published figures on FaceForensics++ itself, as printed there; `key` names the work in the report's references."""
    return pd.read_csv(REFERENCE / "field.csv", dtype=str).fillna("")


def instrument_table() -> pd.DataFrame:
    """Return what the model that comes with the repository was measured to do, a row a split and quality; from its card."""
    rows = read_json(PACKAGED / SHIPPED / "card.json")["measured"]
    table, names = pd.DataFrame(rows), ["auc", "auc_lo", "auc_hi"]
    return table.drop(columns="auc").join(pd.DataFrame(table["auc"].tolist(), columns=names))

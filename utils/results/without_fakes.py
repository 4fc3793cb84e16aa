"""What is learned without fakes, in tables: the comparison of `config.WITHOUT_FAKES`, from its committed scores.

AUC over clips of people whom nobody learned from, means over seeds, intervals over identity pairs and seeds.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from utils.config import WITHOUT_FAKES, FakelessArm
from utils.paths import FAKELESS, sha256
from utils.results.metrics import VIDEO, Evaluation, difference, draws, estimate, evaluate
from utils.results.prose import interval_text
from utils.results.store import FROM_GIT, read_record, read_table
from utils.results.unlabelled import CLIP

COLUMNS = ("arm", "seed", *CLIP, "label", "faces", "score")  # of the scores, one row a clip and network
TEXT = dict.fromkeys(("arm", *CLIP), str)
RECORD = "record.json"  # of how each stage was scored, and the hashes of its tables
TWIN_COLUMNS = ("arm", "seed", "redrawer", "quality", "auc")  # of the AUCs of validation people against twins by one redrawer
PILOTS, PILOT_COLUMNS = "pilots.csv", ("arm", "seed", "steps", "device", "auc_c23", "auc_c40", "twins_c40")  # validation alone
PILOT_TEXT = ("arm", "device")
LEVEL = "video"
CONTRASTS = (  # a difference that the protocol names: these minus those; the first is the primary one
    ("self_rendered", "labels_66"),
    ("self_rendered", "self_blended"),
    ("self_rendered_66", "self_blended_66"),
    ("self_rendered_66", "labels_66"),
    ("self_rendered", "labels_66_c40"),
    ("self_rendered_66_student", "self_rendered_66_longer"),
    ("self_rendered_66_student", "labels_66_longer"),
    ("self_rendered_66_student", "labels_66_student"),
    ("labels_66_student", "labels_66_longer"),
)


def scores_file(stage: str) -> str:
    return f"{stage}.csv.gz"


def twins_file(stage: str) -> str:
    return f"{stage}_twins.csv"


def arms_of(stage: str) -> dict[str, FakelessArm]:
    """Return the arms of a stage by name."""
    return {arm: about for arm, about in WITHOUT_FAKES.items() if about.stage == stage}


def load_scores(folder: Path = FAKELESS) -> pd.DataFrame:
    """Read the committed scores of all stages; no rows where there are none.

    Raises ValueError, naming the file, where they are not what was written, or have other columns, arms or scores than can be.
    """
    found = [pd.DataFrame(columns=list(COLUMNS))]
    for stage, record in read_record(folder / RECORD).items():
        path = folder / scores_file(stage)
        table = _whole(path, record)
        key = [name for name in COLUMNS[:7] if name in table]
        problems = {
            "other columns": tuple(table.columns) != COLUMNS,
            "an unknown arm": "arm" in table and not table["arm"].isin(WITHOUT_FAKES).all(),
            "scores outside [0, 1]": "score" in table and not table["score"].between(0, 1).all(),
            "a clip that is scored twice": bool(table.duplicated(key).any()),
        }
        for problem, is_there in problems.items():
            if is_there:
                raise ValueError(f"{path}: {problem}: {FROM_GIT}")
        found.append(table)
    return pd.concat(found[1:] or found, ignore_index=True)


def load_twins(folder: Path = FAKELESS) -> pd.DataFrame:
    """Read the committed AUCs of twins by each redrawer, all stages; raise ValueError where they are not what was written."""
    found = [_whole(folder / twins_file(stage), record) for stage, record in read_record(folder / RECORD).items()]
    return pd.concat([table for table in found if len(table)] or found[:1], ignore_index=True)


def _whole(path: Path, record: dict) -> pd.DataFrame:
    hashes = record.get("sha256")
    if not path.is_file() or not isinstance(hashes, dict) or hashes.get(path.name) != sha256(path):
        raise ValueError(f"{path}: not what was written when it was scored: {FROM_GIT}")
    return pd.read_csv(path, dtype=TEXT)


def measured(scores: pd.DataFrame, resamples: int) -> Evaluation:
    """Measure every run on every split and quality."""
    named = scores.assign(run=_run(scores["arm"], scores["seed"]), model="", phase=scores["arm"], frame=0)
    return evaluate(named[[*VIDEO, "frame", "score"]], resamples, levels=(LEVEL,), wanted=("auc",), threshold=0.5)


def _run(arm, seed):
    return arm + " s" + seed.astype(str)


def keys(evaluation: Evaluation, arm: str, split: str, quality: str) -> dict[int, tuple]:
    """Return the keys of an arm's measurements by seed."""
    rows = evaluation.table[(evaluation.table["phase"] == arm) & (evaluation.table["split"] == split)]
    rows = rows[rows["quality"] == quality].sort_values("seed")
    return {seed: (run, split, quality, LEVEL) for seed, run in zip(rows["seed"], rows["run"], strict=True)}


def paired(evaluation: Evaluation, this: str, that: str, split: str, quality: str) -> tuple[list[tuple], list[tuple]]:
    """Return the keys of two arms' measurements, of the seeds that both have: one stage has fewer than the other."""
    these, those = (keys(evaluation, arm, split, quality) for arm in (this, that))
    both = [seed for seed in these if seed in those]
    return [these[seed] for seed in both], [those[seed] for seed in both]


def tables(resamples: int, folder: Path = FAKELESS) -> dict[str, pd.DataFrame]:
    """Return every table of the comparison that has rows, by name: where it was not scored, its pilots on validation alone."""
    scores = load_scores(folder)
    known = (folder / PILOTS).is_file()
    pilots = {"fakeless_pilots": read_table(folder / PILOTS, PILOT_COLUMNS, PILOT_TEXT, FROM_GIT)} if known else {}
    if scores.empty:
        return pilots
    found = measured(scores, resamples)
    made = pilots | {
        "fakeless_arms": arms_table(found),
        "fakeless_contrasts": contrasts_table(found),
        "fakeless_twins": twins_table(load_twins(folder)),
        "fakeless_kinds": kinds_table(found),
        "fakeless_redrawers": redrawers_table(found, load_twins(folder)),
    }
    return {name: table for name, table in made.items() if not table.empty}


def arms_table(found: Evaluation) -> pd.DataFrame:
    """Return one row an arm, split and quality: the mean AUC over seeds, with its interval."""
    rows = []
    for arm, about in WITHOUT_FAKES.items():
        for split in ("val", "test", "test_hard"):
            for quality in ("c23", "c40"):
                if some := list(keys(found, arm, split, quality).values()):
                    values = draws(found, some, "auc")
                    row = {"arm": arm, "label": about.label, "split": split, "quality": quality, "seeds": len(some)}
                    rows.append(row | estimate(values[0], values[1:]))
    return pd.DataFrame(rows)


def arms_text(arms: pd.DataFrame) -> pd.DataFrame:
    """Return a row an arm and a column a test and quality, "0.905 [0.867, 0.941]", from `fakeless_arms`."""
    return _side_by_side(arms[arms["split"] != "val"], "label")


def contrasts_text(contrasts: pd.DataFrame) -> pd.DataFrame:
    """Return a row a contrast and a column a test and quality, "+0.047 [+0.012, +0.082]", from `fakeless_contrasts`."""
    names = {arm: about.label for arm, about in WITHOUT_FAKES.items()}
    who = contrasts["these"].map(names) + " minus " + contrasts["those"].map(names)
    return _side_by_side(contrasts.assign(contrast=who), "contrast", "+")


def _side_by_side(table: pd.DataFrame, row: str, form: str = "") -> pd.DataFrame:
    """Return estimates in words, a column a test and quality, rows in the order of the table."""
    shown = table.assign(text=interval_text(table, "value", form))
    return shown.pivot(index=row, columns=["split", "quality"], values="text").reindex(table[row].unique())


def contrasts_table(found: Evaluation) -> pd.DataFrame:
    """Return one row a contrast, split and quality: the difference of mean AUCs, paired by people and seeds."""
    rows = []
    for place, (this, that) in enumerate(CONTRASTS):
        for split in ("test", "test_hard"):
            for quality in ("c23", "c40"):
                these, those = paired(found, this, that, split, quality)
                if these:
                    row = {"these": this, "those": that, "split": split, "quality": quality, "primary": place == 0}
                    rows.append(row | {"seeds": len(these)} | difference(found, these, those))
    return pd.DataFrame(rows)


def twins_table(twins: pd.DataFrame) -> pd.DataFrame:
    """Return one row a redrawer and quality: AUC of validation people against its twins, by who learned from all redrawers."""
    known = twins[twins["arm"] == "self_rendered"]
    by = known.groupby(["redrawer", "quality"], sort=False)["auc"]
    return by.agg(seeds="size", auc="mean", least="min", most="max").reset_index()


def kinds_table(found: Evaluation) -> pd.DataFrame:
    """Return one row a kind of redrawer, split and quality: AUC of whoever had that kind alone, minus that of all kinds."""
    rows = []
    for arm, about in arms_of("kinds").items():
        for split in ("test", "test_hard"):
            for quality in ("c23", "c40"):
                these, those = paired(found, arm, "self_rendered", split, quality)
                if these:
                    row = {"kind": about.subject, "label": about.label}
                    row |= {"split": split, "quality": quality}
                    rows.append(row | {"seeds": len(these)} | difference(found, these, those))
    return pd.DataFrame(rows)


def redrawers_table(found: Evaluation, twins: pd.DataFrame) -> pd.DataFrame:
    """Return one row a redrawer and quality: what twins by it are worth, and whether one who never saw them finds them.

    `without`: what `self_rendered` loses on NeuralTextures (test) where it is left out, with interval; `left_out`, `known`:
    mean AUC of validation people against its twins, by networks that did not, and that did, learn from them.
    """
    rows = []
    for lacking, about in arms_of("redrawers").items():
        name = about.subject
        for quality in ("c23", "c40"):
            these, those = paired(found, lacking, "self_rendered", "test", quality)
            if not these:
                continue
            part = twins[(twins["redrawer"] == name) & (twins["quality"] == quality)]
            known, left = (part.loc[part["arm"] == arm, "auc"].mean() for arm in ("self_rendered", lacking))
            change = {f"without{end}": value for end, value in zip(("", "_lo", "_hi"), difference(found, these, those).values(),
                                                                 strict=True)}  # fmt: skip
            rows.append({"redrawer": name, "quality": quality, "known": known, "left_out": left} | change)
    return pd.DataFrame(rows)

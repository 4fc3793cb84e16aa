"""What unlabelled video is worth, in tables: the study of `protocol.py`, from the scores of its tests.

Everything comes from the committed `data/study/<stage>.csv.gz`: AUC over clips of unseen people, means over seeds, intervals
over identity pairs and seeds, and the variance components of every contrast that the protocol names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pandas as pd

from utils.config import UNSEEN, Profile
from utils.paths import sha256
from utils.protocol import ARMS, CONTRASTS, PRIMARY, Cell, StudyConfig, stages, study_of, usual_cell
from utils.results import power
from utils.results.metrics import (
    ALARMS,
    VIDEO,
    Evaluation,
    alarm_thresholds,
    difference,
    draws,
    estimate,
    evaluate,
    made_once,
    rates,
)
from utils.results.store import FROM_GIT, read_record, read_table

CELL = ["arm", "labels", "pool", "frames", "network"]  # but its seed
CLIP = ["split", "quality", "method", "video_id", "pair"]
COLUMNS = (*CELL, "seed", *CLIP, "label", "faces", "score", "protocol")  # of the scores, one row a clip and cell
TEXT = dict.fromkeys(("arm", "network", "split", "quality", "method", "video_id", "pair", "protocol"), str)
LEVEL = "video"
RECORD = "opened.json"  # beside the scores: after which protocol, when and by which code each stage was scored, and its hash
STAGES = "stages"  # the key that these stand under
SHORTCUTS = "shortcuts.csv"  # and what but the mouth could tell the classes apart (`checks/shortcut_verdicts.py`)
SHORTCUT_COLUMNS = ("check", "sees_mouth", "quality", "pairs", "auc", "auc_lo", "auc_hi", "paired", "paired_lo", "paired_hi")
RIGHT = "pseudo_labels.csv"  # beside them: how many of the faces that each student learned from had the right label
RIGHT_COLUMNS = (*CELL, "seed", "faces", "right")
SEEN = ("c23", "c40")  # that training knows, and a threshold is set on


@dataclass(frozen=True, eq=False)  # a study is itself: tables that figures show, too, are made of it once
class Unlabelled:
    """The study's scores, one row a clip and cell (`run` names it), and every cell measured on every split and quality."""

    study: StudyConfig
    network: str
    scores: pd.DataFrame
    evaluation: Evaluation
    resamples: int  # of a bootstrap
    folder: Path  # of its tables, the pilots among them
    made_by: dict[str, str] = field(default_factory=dict)  # fake -> its renderer, of those of the second test that are told

    def cells(self) -> list[Cell]:
        """Return the cells that were scored, seed 0 standing for all, in the order of the protocol."""
        scored = set(self.scores[CELL].drop_duplicates().itertuples(index=False, name=None))
        order = [cell for found in stages(self.study, self.network).values() for cell in found]
        return [cell for cell in order if (cell.arm, cell.labels, cell.pool, cell.frames, cell.network) in scored]

    def keys(self, cell: Cell, quality: str, split: str) -> list[tuple]:
        """Return the keys of a cell's measurements, one a seed, in their order; none where it was not scored there."""
        keys = [(run, split, quality, LEVEL) for run in self.runs(cell)]
        return [key for key in keys if key in self.evaluation.values]

    def runs(self, cell: Cell) -> list[str]:
        """Return the runs of a cell, in the order of their seeds."""
        return self._runs.get(name_of(cell), [])

    @cached_property
    def _runs(self) -> dict[str, list[str]]:
        """The runs of each cell by its name, in the order of their seeds."""
        runs: dict[str, list[str]] = {}
        for run in self.evaluation.table.drop_duplicates("run").sort_values("seed", kind="stable")["run"]:
            runs.setdefault(run.rpartition(" s")[0], []).append(run)
        return runs

    def clips(self, keys: list[tuple]) -> pd.DataFrame:
        """Return the scores behind some measurements, a row a clip."""
        rows = np.sort(np.concatenate([self._rows[key[:3]] for key in keys]))
        return self.scores.iloc[rows]

    @cached_property
    def _rows(self) -> dict[tuple[str, str, str], np.ndarray]:
        return self.scores.groupby(["run", "split", "quality"]).indices

    def mean(self, keys: list[tuple]) -> dict[str, float]:
        """Return the mean AUC over a cell's seeds, with its interval."""
        values = draws(self.evaluation, keys, "auc")
        return estimate(values[0], values[1:])

    def usual(self, arm: str) -> Cell:
        """Return an arm's cell with the labels and the pool of the primary contrast."""
        return usual_cell(self.study, arm, self.network)


def name_of(cell: Cell) -> str:
    return f"{cell.arm} {cell.labels} {cell.pool}x{cell.frames} {cell.network}"


def read_study(folder: Path) -> pd.DataFrame:
    """Return the scores of all stages that were scored, checked; no rows where none was.

    Raises ValueError that names the file for a table of other columns, scores outside [0, 1], a clip scored twice, or one that
    is not what was written when its stage was scored.
    """
    tables, opened = [], read_record(folder / RECORD, STAGES)
    for path in sorted(folder.glob("*.csv.gz")):
        stage = path.name.removesuffix(".csv.gz")
        table = read_table(path, (), (), FROM_GIT, dtype=TEXT | {"score": float})
        problems = {
            "changed since it was scored": opened.get(stage, {}).get("sha256") not in (None, sha256(path)),
            "other columns": tuple(table.columns) != COLUMNS,
            "scores outside [0, 1]": "score" in table and not table["score"].between(0, 1).all(),
            "an unknown arm": "arm" in table and not table["arm"].isin(ARMS).all(),
            "a clip that is scored twice": not table.columns.empty and table.duplicated(list(table.columns[:10])).any(),
        }
        for problem, is_there in problems.items():
            if is_there:
                raise ValueError(f"{path}: {problem}: {FROM_GIT}")
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))


def load_unlabelled(profile: Profile, folder: Path | None = None) -> Unlabelled | None:
    """Read and measure the study of a profile, the committed one or that of a folder; None where no stage was scored."""
    folder = folder or profile.workspace.study
    scores = read_study(folder)
    if scores.empty:
        return None
    run = [f"{name_of(Cell(*row[:5]))} s{row[5]}" for row in scores[[*CELL, "seed"]].itertuples(index=False, name=None)]
    scores = scores.assign(run=run, model=scores["network"], phase=scores["arm"], frame=0)
    measured = evaluate(scores[[*VIDEO, "frame", "score"]], profile.bootstrap, levels=(LEVEL,), wanted=("auc",), threshold=0.5)
    study = study_of(profile)
    return Unlabelled(
        study, profile.student_model, scores, measured, profile.bootstrap, folder,
        _renderers(Path(profile.data.root) / "metadata.csv", study.tests[1]),
    )  # fmt: skip


def _renderers(metadata: Path, split: str) -> dict[str, str]:
    """Return which renderer made each fake of a split, as far as the tree's metadata tells it."""
    if not metadata.is_file() or "renderer" not in pd.read_csv(metadata, nrows=0):
        return {}
    clips = read_table(metadata, ("video_id", "label", "renderer", "split"), ("video_id", "renderer", "split"), FROM_GIT)
    fakes = clips[(clips["split"] == split) & (clips["label"] == 1)]
    return dict(zip(fakes["video_id"], fakes["renderer"], strict=True))


def _pilots(folder: Path) -> pd.DataFrame:
    columns = ("pilot", "arm", "pool", "people", "seed", "auc_c23", "auc_c40")
    return read_table(folder / "pilots.csv", columns, columns[:2], FROM_GIT)


def pilots_table(folder: Path) -> pd.DataFrame:
    """Return the pilots of a study, the mean over seeds: one row a pilot and arm, AUC at both qualities and people judged."""
    grouped = _pilots(folder).groupby(["pilot", "arm"], sort=False)
    shown = grouped.agg({"pool": "first", "people": "first", "auc_c23": "mean", "auc_c40": "mean", "seed": "nunique"})
    return shown.rename(columns={"seed": "seeds"}).reset_index()


def pilot_gains(folder: Path, usual: str = "S_300") -> pd.DataFrame:
    """Return what the student of each pilot adds to its control at c40, seed by seed: the mean, the least and the greatest.

    Pilots of how pseudo-labels are made have no control of their own, for it sees none: theirs is that of `usual`.
    """
    table = _pilots(folder).set_index(["pilot", "seed"])
    students, control = (table[table["arm"] == arm] for arm in PRIMARY)
    rivals = [key if key in control.index else (usual, key[1]) for key in students.index]
    gain = students["auc_c40"] - control["auc_c40"].reindex(rivals).to_numpy()
    about = students.groupby("pilot", sort=False)[["pool", "people"]].first()
    return about.join(gain.groupby("pilot").agg(seeds="size", gain_at_c40="mean", least="min", greatest="max"))


def processors_table(folder: Path, here: str = "pool_1000", there: str = "pool_1000_AVX2") -> pd.DataFrame:
    """Return what another kind of processor makes of one pilot: a row an arm, seed and quality, AUC on both, `moved`.

    The arm `gain` is the student minus its control. No rows where the pilot was not run there.
    """
    pilots = _pilots(folder)
    values = pilots.melt(["pilot", "arm", "seed"], ["auc_c23", "auc_c40"], "quality", "auc")
    student, control = (values[values["arm"] == arm].set_index(["pilot", "seed", "quality"])["auc"] for arm in PRIMARY)
    gain = (student - control).dropna().rename("auc").reset_index().assign(arm="gain")
    wide = pd.concat([values, gain]).pivot_table("auc", ["arm", "seed", "quality"], "pilot", sort=False)
    both = wide.reindex(columns=[here, there]).dropna().set_axis(["here", "there"], axis=1).reset_index()
    return both.assign(quality=both["quality"].str.removeprefix("auc_"), moved=both["there"] - both["here"])


def tables(found: Unlabelled | None) -> dict[str, pd.DataFrame]:
    """Return every table of the study by name; none where it was not scored."""
    if found is None:
        return {}
    return {
        "unlabelled_stages": stages_table(found),
        "unlabelled_clips": clips_table(found),
        "unlabelled_cells": cells_table(found),
        "unlabelled_contrasts": contrasts_table(found),
        "unlabelled_gains": gains_table(found),
        "unlabelled_pool": pool_table(found),
        "unlabelled_worth": worth_table(found),
        "unlabelled_beside": beside_table(found),
        "unlabelled_networks": networks_table(found),
        "unlabelled_renderers": renderers_table(found),
        "unlabelled_alarms": alarms_table(found),
        "unlabelled_alarm_gaps": alarm_gaps_table(found),
        "unlabelled_right": right_table(found.folder),
        "unlabelled_shortcuts": shortcuts_table(found.folder),
        "unlabelled_pilots": pilots_table(found.folder),
        "unlabelled_processors": processors_table(found.folder),
    }


def stages_table(found: Unlabelled) -> pd.DataFrame:
    """Return one row a stage of the protocol: how many cells a seed it has, how many seeds, and whether it was scored."""
    scored, planned = set(found.cells()), stages(found.study, found.network)
    rows = [
        {"stage": stage, "cells a seed": len(some), "seeds": len(found.study.seeds_of(stage)), "scored": set(some) <= scored}
        for stage, some in planned.items()
    ]
    return pd.DataFrame(rows)


def clips_table(found: Unlabelled) -> pd.DataFrame:
    """Return how many clips of each test have a face, and are scored: a row a split, quality and label, with its pairs."""
    one = found.scores[found.scores["run"] == found.scores["run"].iloc[0]]
    by = one[one["quality"].isin(SEEN)].groupby(["split", "quality", "label"])
    return by.agg(clips=("video_id", "nunique"), pairs=("pair", "nunique")).reset_index()


@made_once
def cells_table(found: Unlabelled) -> pd.DataFrame:
    """Return one row a cell, split and quality: its AUC over clips, the mean over seeds.

    `learned` is how many of the people with labels are learned from; the others validate.
    """
    rows = []
    splits = sorted(found.scores["split"].unique())
    for cell in found.cells():
        for split in splits:
            for quality in (*SEEN, *UNSEEN):
                if keys := found.keys(cell, quality, split):
                    learned = cell.labels - found.study.validating(cell.labels)
                    about = {**_about(cell), "learned": learned, "split": split, "quality": quality, "seeds": len(keys)}
                    rows.append(about | found.mean(keys))
    return pd.DataFrame(rows)


def curve_table(found: Unlabelled) -> pd.DataFrame:
    """Return the AUC at c40 on the first test of teacher, control, student and oracle, whatever their labels and pool.

    One row a cell, the mean over the seeds that all of them were run with: points of a curve have the same luck.
    """
    drawn = ("teacher", *PRIMARY, "oracle")
    cells = [cell for cell in found.cells() if cell.arm in drawn and cell.network == found.network]
    keys = {cell: found.keys(cell, "c40", found.study.tests[0]) for cell in cells}
    seeds = min(map(len, keys.values()), default=0)
    return pd.DataFrame([_about(cell) | {"seeds": seeds} | found.mean(keys[cell][:seeds]) for cell in cells])


def _about(cell: Cell) -> dict:
    return {name: getattr(cell, name) for name in CELL}


def _components(found: Unlabelled, these: list[tuple], those: list[tuple]) -> power.Components:
    def placed(keys: list[tuple]) -> pd.DataFrame:
        return power.placements(found.clips(keys)[["seed", "pair", "label", "score"]])

    return power.components(placed(these), placed(those))


def contrasts_table(found: Unlabelled) -> pd.DataFrame:
    """Return one row a contrast of the protocol that was scored, the primary one first.

    Columns: `value`, `lo`, `hi` (bootstrap over pairs and seeds); `p` of the mixed model, `p_holm` corrected over the
    secondary ones; the standard deviations of pairs, seeds and both; what the study would have shown with 80 % power.
    """
    rows = []
    for place, one in enumerate(CONTRASTS):
        these, those = (found.keys(found.usual(arm), one.quality, one.split) for arm in (one.these, one.those))
        if not these or len(these) != len(those):
            continue
        row = {"these": one.these, "those": one.those, "split": one.split, "quality": one.quality, "primary": place == 0}
        row |= {"seeds": len(these)} | difference(found.evaluation, these, those)
        if len(these) > 1:
            parts = _components(found, these, those)
            row |= {"pairs": parts.pairs, "p": parts.p_value, "error": parts.error(), "detectable": parts.detectable()}
            row |= {"sd_pairs": parts.of_pairs**0.5, "sd_seeds": parts.of_seeds**0.5, "sd_both": parts.of_both**0.5}
        rows.append(row)
    table = pd.DataFrame(rows)
    if "p" in table:
        secondary = table["p"].notna() & ~table["primary"]
        table["p_holm"] = table["p"]
        table.loc[secondary, "p_holm"] = power.holm(table.loc[secondary, "p"].tolist()) if secondary.any() else []
    return table


def gains_table(found: Unlabelled) -> pd.DataFrame:
    """Return one row a student, split and quality: what it adds to its control, that of its labels and its network.

    So for each size of the pool, each number of labels, and each larger network, whose control is the recipe on it.
    """
    rows, everything = [], found.cells()
    for cell in everything:
        if not ARMS[cell.arm].pool:
            continue
        rival = "recipe" if cell.arm == "student_imagenet" else "control"
        control = next((c for c in everything if (c.arm, c.labels, c.network) == (rival, cell.labels, cell.network)), None)
        for split in study_splits(found):
            for quality in SEEN:
                these = found.keys(cell, quality, split)
                those = found.keys(control, quality, split)[: len(these)] if control else []
                if these and len(these) == len(those):
                    about = {**_about(cell), "split": split, "quality": quality, "seeds": len(these), "versus": rival}
                    rows.append(about | difference(found.evaluation, these, those))
    return pd.DataFrame(rows)


def _differences(found: Unlabelled, asked: Iterable[tuple[dict, Cell, Cell]], most: int | None = None) -> pd.DataFrame:
    """Return the differences between pairs of cells, a row a pair, test and quality, over the seeds that both were run with.

    `asked` has what is said of a pair, and its two cells; of the seeds, the first `most` alone where that is given.
    Columns: that, split, quality, seeds and `value`, `lo`, `hi`.
    """
    rows = []
    for (about, this, that), split, quality in product(asked, study_splits(found), SEEN):
        these, those = (found.keys(cell, quality, split)[:most] for cell in (this, that))
        if seeds := min(len(these), len(those)):
            measured = difference(found.evaluation, these[:seeds], those[:seeds])
            rows.append(about | {"split": split, "quality": quality, "seeds": seeds} | measured)
    return pd.DataFrame(rows)


def worth_table(found: Unlabelled) -> pd.DataFrame:
    """Return one row a number of labels, test and quality: the student with the whole pool minus one that has more labels.

    Rivals are the control with the next greater number of labels, and at last the oracle. Columns labels, more, versus, split,
    quality, seeds and `value`, `lo`, `hi`.
    """
    student, control, oracle = (found.usual(arm) for arm in (*PRIMARY, "oracle"))
    counts, asked = (*found.study.label_counts, found.study.all_labels), []
    for labels, more in pairwise(counts):
        rival = oracle if more == counts[-1] else replace(control, labels=more)
        asked.append(({"labels": labels, "more": more, "versus": rival.arm}, replace(student, labels=labels), rival))
    return _differences(found, asked)


def pool_table(found: Unlabelled) -> pd.DataFrame:
    """Return what more of a pool gives a student, people or frames a clip: differences, one row a test and quality.

    `more` is "people" (the largest pool minus the smallest, for each number of frames) or "frames" (many minus few, for each
    size). Columns more, people, frames (the common one; 0 where it differs), split, quality, seeds and `value`, `lo`, `hi`.
    """
    study, student = found.study, found.usual(PRIMARY[0])
    (few, many), sizes = (min(study.frame_counts), max(study.frame_counts)), sorted(study.pool_sizes)

    def given(people: int, frames: int) -> Cell:
        return replace(student, pool=people, frames=frames)

    asked = [({"more": "people", "people": 0, "frames": count}, given(sizes[-1], count), given(sizes[0], count))
             for count in (few, many)]  # fmt: skip
    asked += [({"more": "frames", "people": size, "frames": 0}, given(size, many), given(size, few)) for size in sizes]
    return _differences(found, asked)


def beside_table(found: Unlabelled) -> pd.DataFrame:
    """Return differences that the protocol doesn't name, but that say what a gain is made of: described, without a verdict.

    Control and student against the teacher that both start from; an oracle that is shown as many images a step against the
    students with the usual labels and with the most; distillation against a control that is, and the student against it; and
    student against control over no more seeds than every number of labels has. Columns these, labels, those, split, quality,
    seeds and `value`, `lo`, `hi`.
    """
    teacher, (student, control) = found.usual("teacher"), (found.usual(arm) for arm in PRIMARY)
    most, oracle = replace(student, labels=max(found.study.label_counts)), found.usual("oracle_images")
    both = ((control, teacher), (student, teacher), (most, oracle), (oracle, student),
            (found.usual("distill"), found.usual("control_images")), (student, found.usual("distill")))  # fmt: skip

    def asked(pairs: Iterable[tuple[Cell, Cell]]) -> list[tuple[dict, Cell, Cell]]:
        return [({"these": this.arm, "labels": this.labels, "those": that.arm}, this, that) for this, that in pairs]

    counts = (replace(student, labels=labels) for labels in found.study.label_counts)
    fewest = min(len(found.keys(cell, SEEN[-1], found.study.tests[0])) for cell in counts)
    parts = [_differences(found, asked(both)), _differences(found, asked([(student, control)]), fewest)]
    return pd.concat(parts, ignore_index=True)


def networks_table(found: Unlabelled) -> pd.DataFrame:
    """Return what another network makes of the same: it minus the teacher's network in the same arm, described, no verdict.

    One row an arm (the recipe, and the student that starts from ImageNet's weights), network, test and quality, over the first
    seeds, which both were run with. Columns arm, network, versus, split, quality, seeds and `value`, `lo`, `hi`.
    """
    study, asked = found.study, []
    for arm, networks in (("recipe", (*study.larger, *study.others)), ("student_imagenet", study.larger)):
        rival = usual_cell(study, arm, found.network)
        for network in networks:
            if network != found.network:
                about = {"arm": arm, "network": network, "versus": found.network}
                asked.append((about, usual_cell(study, arm, network), rival))
    columns = ["arm", "network", "versus", "split", "quality", "seeds", "value", "lo", "hi"]
    return _differences(found, asked).reindex(columns=columns)


def renderers_table(found: Unlabelled) -> pd.DataFrame:
    """Return the student minus its control on fakes of each renderer of the second test, which no labelled fake was made by.

    One row a renderer and quality, over the pairs of which it made a fake: these fakes, and both reals of the pair. Columns
    renderer, pairs, fakes, split, quality, seeds and `value`, `lo`, `hi`; no rows where it is not told who made a fake.
    """
    rows, split = [], found.study.tests[1]
    cells = [found.usual(arm) for arm in PRIMARY]
    for renderer, quality in product(sorted(set(found.made_by.values())), SEEN):
        these, those = (found.keys(cell, quality, split) for cell in cells)
        if not these or len(these) != len(those):
            continue
        clips = found.clips(these + those)
        theirs = clips[clips["video_id"].map(found.made_by) == renderer]
        if theirs.empty:
            continue
        clips = pd.concat([theirs, clips[(clips["label"] == 0) & clips["pair"].isin(theirs["pair"])]])
        measured = evaluate(clips[[*VIDEO, "frame", "score"]], found.resamples, levels=(LEVEL,), wanted=("auc",), threshold=0.5)
        about = {"renderer": renderer, "pairs": theirs["pair"].nunique(), "fakes": theirs["video_id"].nunique()}
        rows.append(about | {"split": split, "quality": quality, "seeds": len(these)} | difference(measured, these, those))
    return pd.DataFrame(rows)


def right_table(folder: Path) -> pd.DataFrame:
    """Return how many of the pseudo-labels were right, a row a student: `right` is a share, the mean over its seeds.

    Weighted by the faces that were learned from; no rows where no student was judged. Raises ValueError that names the file
    for other columns or more right faces than there are.
    """
    path = folder / RIGHT
    if not path.is_file():
        return pd.DataFrame(columns=[*CELL, "seeds", "right", "least", "most"])
    table = read_table(path, (), (), FROM_GIT)
    if tuple(table.columns) != RIGHT_COLUMNS or not table["right"].between(0, table["faces"]).all():
        raise ValueError(f"{path}: not what was judged: {FROM_GIT}")
    by_cell = (table["right"] / table["faces"]).groupby([table[name] for name in CELL], sort=False)
    return by_cell.agg(seeds="size", right="mean", least="min", most="max").reset_index()


def shortcuts_table(folder: Path) -> pd.DataFrame:
    """Return the AUC on the first test of each measure that a shortcut could be, as it was searched; no rows where it was not.

    Raises ValueError that names the file for other columns.
    """
    path = folder / SHORTCUTS
    if not path.is_file():
        return pd.DataFrame(columns=list(SHORTCUT_COLUMNS))
    return read_table(path, SHORTCUT_COLUMNS, ("check", "quality"), FROM_GIT)


def study_splits(found: Unlabelled) -> list[str]:
    """Return the tests that were scored, the usual one first."""
    scored = set(found.scores["split"].unique())
    return [split for split in found.study.tests if split in scored]


@made_once
def alarms_table(found: Unlabelled) -> pd.DataFrame:
    """Return one row an arm, quality and share of false alarms: what one fixed threshold finds on the first test.

    The threshold of each network is the score that this share of the real clips of the *other* test, whose people are others,
    reach at c23 and c40; it is held for every quality. `tpr` and `fpr` are means over seeds, with intervals over pairs and
    seeds. No rows where only one test was scored.
    """
    rows = [
        {"arm": arm, "quality": quality, "alarms": alarms} | rates(clips, found.resamples)
        for arm in dict.fromkeys(cell.arm for cell in found.cells() if cell == found.usual(cell.arm))
        for alarms in ALARMS
        for quality, clips in _flagged(found, arm, alarms)
    ]
    return pd.DataFrame(rows)


def alarm_gaps_table(found: Unlabelled) -> pd.DataFrame:
    """Return the same of the student minus its control, clip by clip: `tpr` and `fpr` are paired differences."""
    rows, clip = [], ["seed", "video_id"]
    for alarms in ALARMS:
        (ours, theirs) = (dict(_flagged(found, arm, alarms)) for arm in PRIMARY)
        for quality in ours.keys() & theirs.keys():
            both = ours[quality].merge(theirs[quality][[*clip, "flagged"]], on=clip, suffixes=("", "_theirs"))
            gap = both.assign(flagged=both["flagged"].astype(float) - both["flagged_theirs"])
            rows.append({"quality": quality, "alarms": alarms} | rates(gap, found.resamples))
    return pd.DataFrame(rows).sort_values(["alarms", "quality"], ignore_index=True) if rows else pd.DataFrame()


def _flagged(found: Unlabelled, arm: str, alarms: float) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each quality with the first test's clips of it, `flagged` where an arm's fixed threshold says fake."""
    splits, cell = study_splits(found), found.usual(arm)
    elsewhere = [key for quality in SEEN for split in splits[1:2] for key in found.keys(cell, quality, split)]
    if not elsewhere:
        return
    threshold = alarm_thresholds(found.clips(elsewhere).query("label == 0"), alarms)
    for quality in (*SEEN, *UNSEEN):
        if keys := found.keys(cell, quality, splits[0]):
            clips = found.clips(keys)
            yield quality, clips.assign(flagged=clips["score"] > clips["seed"].map(threshold))

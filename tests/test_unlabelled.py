"""The tables of what unlabelled video is worth, from made-up scores whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from utils.config import get_profile
from utils.learn.scores import write_scores
from utils.paths import Workspace, sha256, write_json
from utils.protocol import CONTRASTS, PRIMARY, STUDIES, cells
from utils.results import unlabelled
from utils.results.unlabelled_plots import UNLABELLED_FIGURES

REAL = get_profile("study")
STRENGTH = {"teacher": 0.8, "control": 1.0, "student_compression": 2.6, "student_classic": 1.1, "oracle": 2.2}
PAIRS = {"test2": 12, "test2_unseen": 8}
QUALITIES = {"c23": 2.0, "c40": 1.0, "crf46": 0.6}


def made_up(stage: str, seeds: int = 3) -> pd.DataFrame:
    """Return scores of a stage's cells: people are easy or hard for every cell alike, seeds differ a little."""
    rows = []
    for cell in cells(REAL, seeds=range(seeds), only=[stage]):
        rng = np.random.default_rng([cell.seed, sum(map(ord, str(replace(cell, seed=0))))])
        strength = STRENGTH.get(cell.arm, 1.2) + 0.1 * rng.normal()
        for split, pairs in PAIRS.items():
            for quality, distance in QUALITIES.items():
                if quality not in ("c23", "c40") and split != "test2":
                    continue
                for k in range(pairs):
                    a, b = (f"{2 * k + i + 500 * (split != 'test2'):03d}" for i in (0, 1))
                    person = np.random.default_rng([k, len(split)]).normal()
                    for video, label in ((a, 0), (b, 0), (f"{a}_{b}", 1), (f"{b}_{a}", 1)):
                        logit = distance * strength * (label - 0.5) + 0.4 * person + 0.6 * rng.normal()
                        rows.append({
                            "arm": cell.arm, "labels": cell.labels, "pool": cell.pool, "frames": cell.frames,
                            "network": cell.network, "seed": cell.seed, "split": split, "quality": quality,
                            "method": "NeuralTextures" if label else "original", "video_id": video, "pair": f"{a}_{b}",
                            "label": label, "faces": 12, "score": 1 / (1 + np.exp(-logit)), "protocol": "a" * 40,
                        })  # fmt: skip
    return pd.DataFrame(rows)[list(unlabelled.COLUMNS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unlabelled") / "data" / "study"
    for stage in ("primary", "arms", "pool", "labels", "networks", "students"):
        write_scores(folder / f"{stage}.csv.gz", made_up(stage))
    made_up_pilots().to_csv(folder / "pilots.csv", index=False)
    return folder


def made_up_pilots() -> pd.DataFrame:
    """Return pilots of two seeds, here and on another processor: there the student is worse, the control is not."""
    rows = [
        (pilot, arm, 0, 190, seed, 0.9 + 0.01 * seed, 0.7 + 0.01 * seed + 0.05 * (arm == PRIMARY[0]) * (pilot == "pool_1000"))
        for pilot in ("pool_1000", "pool_1000_AVX2") for arm in PRIMARY for seed in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["pilot", "arm", "pool", "people", "seed", "auc_c23", "auc_c40"])


def profile_at(folder):
    class Here(type(REAL)):
        workspace = Workspace(folder.parents[1])

    return Here(**{name: getattr(REAL, name) for name in REAL.__dataclass_fields__} | {"bootstrap": 200})


@pytest.fixture(scope="module")
def found(folder):
    return unlabelled.load_unlabelled(profile_at(folder))


@pytest.fixture(scope="module")
def made(found):
    return unlabelled.tables(found)


def auc_of(folder, arm, seed, split="test2", quality="c40", **cell):
    table = unlabelled.read_study(folder).query("arm == @arm and seed == @seed and split == @split and quality == @quality")
    for name, value in cell.items():
        table = table[table[name] == value]
    return roc_auc_score(table["label"], table["score"])


def test_a_study_that_was_not_scored_has_no_tables(tmp_path):
    assert unlabelled.load_unlabelled(profile_at(tmp_path / "data" / "study")) is None
    assert unlabelled.tables(None) == {}


def test_every_cell_is_measured_over_its_seeds(found, made, folder):
    table = made["unlabelled_cells"]
    assert len(found.cells()) == len(table.drop_duplicates(unlabelled.CELL)) == len(cells(REAL, seeds=[0]))
    row = table.query("arm == 'control' and labels == 20 and split == 'test2' and quality == 'c40'").squeeze()
    expected = np.mean([auc_of(folder, "control", seed, labels=20) for seed in range(3)])
    assert row["learned"] == 10 and set(table.loc[table["labels"] == 210, "learned"]) == {200}
    assert row["value"] == pytest.approx(expected) and row["lo"] < expected < row["hi"] and row["seeds"] == 3
    assert set(table["quality"]) == set(QUALITIES) and set(table.query("quality == 'crf46'")["split"]) == {"test2"}


def test_the_primary_contrast_comes_first_and_the_others_are_corrected(made, folder):
    table = made["unlabelled_contrasts"]
    assert len(table) == len(CONTRASTS) and table["primary"].tolist() == [True] + [False] * (len(CONTRASTS) - 1)
    first = table.iloc[0]
    gaps = [auc_of(folder, PRIMARY[0], s, pool=1000, frames=24, labels=20) - auc_of(folder, PRIMARY[1], s, labels=20)
            for s in range(3)]  # fmt: skip
    assert first["value"] == pytest.approx(np.mean(gaps)) and first["lo"] > 0 and first["p_holm"] == first["p"] < 0.05
    assert (table["p_holm"] >= table["p"]).all() and (table["p_holm"][1:] > table["p"][1:]).any()
    assert (table["pairs"] == table["split"].map(PAIRS)).all()
    power = 2.8 * table["error"]  # of 80 %, two-sided at 5 %
    assert table["detectable"].to_numpy() == pytest.approx(power.to_numpy(), rel=0.01)


def test_a_student_is_measured_against_the_control_of_its_labels_and_network(made, folder):
    table = made["unlabelled_gains"].query("split == 'test2' and quality == 'c40'")
    few = table.query("labels == 4 and arm == 'student_compression'").squeeze()
    gaps = [auc_of(folder, "student_compression", s, labels=4) - auc_of(folder, "control", s, labels=4) for s in range(3)]
    assert few["value"] == pytest.approx(np.mean(gaps)) and few["versus"] == "control"
    larger = table.query("arm == 'student_imagenet' and network == 'efficientnet-lite2'").squeeze()
    gaps = [auc_of(folder, arm, s, network="efficientnet-lite2") for arm in ("student_imagenet", "recipe") for s in range(3)]
    assert larger["value"] == pytest.approx(np.mean(gaps[:3]) - np.mean(gaps[3:])) and larger["versus"] == "recipe"
    sizes = table.query("arm == 'student_compression' and labels == 20")
    assert set(zip(sizes["pool"], sizes["frames"], strict=True)) == {
        (pool, frames) for pool in STUDIES["study"].pool_sizes for frames in STUDIES["study"].frame_counts
    }


def test_whoever_changes_a_table_changes_no_other_ones(found):
    table = unlabelled.cells_table(found)
    before = table.copy()
    table["arm"] = "mine"
    pd.testing.assert_frame_equal(unlabelled.cells_table(found), before)


def test_other_networks_are_held_against_the_teachers_own_in_the_same_arm(made, folder, tmp_path):
    table = made["unlabelled_networks"].query("split == 'test2' and quality == 'c40'").set_index(["arm", "network"])
    others, larger = {"efficientnet-lite1", "efficientnet-lite2", "mobilenet-v2"}, {"efficientnet-lite1", "efficientnet-lite2"}
    assert set(table.loc["recipe"].index) == others and set(table.loc["student_imagenet"].index) == larger
    for arm in ("recipe", "student_imagenet"):
        gaps = [auc_of(folder, arm, s, network="efficientnet-lite2") - auc_of(folder, arm, s, network="efficientnet-lite0")
                for s in range(3)]  # fmt: skip
        assert table.loc[(arm, "efficientnet-lite2"), "value"] == pytest.approx(np.mean(gaps))
    here = tmp_path / "data" / "study"
    write_scores(here / "primary.csv.gz", made_up("primary", seeds=2))
    none = unlabelled.networks_table(unlabelled.load_unlabelled(profile_at(here)))
    assert none.empty and list(none) == list(made["unlabelled_networks"])


def test_the_pool_is_held_against_more_labels(made, folder):
    table = made["unlabelled_worth"].query("split == 'test2' and quality == 'c40'").set_index("labels")
    assert table["more"].to_dict() == {4: 10, 10: 20, 20: 66, 66: 210} and set(table["versus"]) == {"control", "oracle"}
    student = [auc_of(folder, PRIMARY[0], seed, pool=1000, frames=24, labels=20) for seed in range(3)]
    control = [auc_of(folder, PRIMARY[1], seed, labels=66) for seed in range(3)]
    row = table.loc[20]
    assert row["value"] == pytest.approx(np.mean(student) - np.mean(control)) and row["lo"] <= row["value"] <= row["hi"]
    assert row["seeds"] == 3


def test_more_people_and_more_frames_are_told_apart(made, folder):
    table = made["unlabelled_pool"].query("split == 'test2' and quality == 'c40'").set_index(["more", "people", "frames"])
    assert len(table) == 2 + 4 and (table["seeds"] == 3).all()

    def mean(**where):
        return np.mean([auc_of(folder, PRIMARY[0], seed, labels=20, **where) for seed in range(3)])

    more = mean(pool=1000, frames=6) - mean(pool=50, frames=6)
    assert table.loc[("people", 0, 6), "value"] == pytest.approx(more)
    assert table.loc[("frames", 400, 0), "value"] == pytest.approx(mean(pool=400, frames=24) - mean(pool=400, frames=6))


def test_a_gain_is_held_against_the_teacher_and_an_oracle_that_sees_as_many_images(made, folder):
    table = made["unlabelled_beside"].query("split == 'test2' and quality == 'c40'").set_index(["these", "labels", "those"])
    teacher = [auc_of(folder, "teacher", seed, labels=20) for seed in range(3)]
    for arm, where in (("control", {}), ("student_compression", {"pool": 1000, "frames": 24})):
        mine = [auc_of(folder, arm, seed, labels=20, **where) for seed in range(3)]
        assert table.loc[(arm, 20, "teacher"), "value"] == pytest.approx(np.mean(mine) - np.mean(teacher))
    most = [auc_of(folder, "student_compression", seed, labels=66) for seed in range(3)]
    oracle = [auc_of(folder, "oracle_images", seed) for seed in range(3)]
    row = table.loc[("student_compression", 66, "oracle_images")]
    assert row["value"] == pytest.approx(np.mean(most) - np.mean(oracle)) and row["lo"] <= row["value"] <= row["hi"]
    mine = [auc_of(folder, "student_compression", seed, labels=20, pool=1000, frames=24) for seed in range(3)]
    assert table.loc[("oracle_images", 210, "student_compression"), "value"] == pytest.approx(np.mean(oracle) - np.mean(mine))


def test_renderers_are_told_apart_with_the_reals_of_their_pairs_alone(found, folder):
    """Of eight pairs two have a fake each by `y`: its difference is that of these fakes and of these four reals."""
    fakes = sorted(set(found.scores.query("split == 'test2_unseen' and label == 1")["video_id"]))
    theirs = {"500_501", "505_504"}
    other = replace(found, made_by={fake: "y" if fake in theirs else "x" for fake in fakes})
    rows = unlabelled.renderers_table(other).set_index(["renderer", "quality"])
    assert rows.loc[("y", "c40"), ["pairs", "fakes"]].tolist() == [2, 2]
    assert rows.loc[("x", "c40"), ["pairs", "fakes"]].tolist() == [8, 14]
    table = unlabelled.read_study(folder).query("labels == 20 and split == 'test2_unseen' and quality == 'c40'")
    table = table[table["video_id"].isin(theirs | {"500", "501", "504", "505"}) & table["pool"].isin([0, 1000])]
    means = [
        np.mean([roc_auc_score(part["label"], part["score"]) for _, part in some.groupby("seed")])
        for arm in PRIMARY for some in [table[(table["arm"] == arm) & table["frames"].isin([0, 24])]]
    ]  # fmt: skip
    assert rows.loc[("y", "c40"), "value"] == pytest.approx(means[0] - means[1])
    assert unlabelled.renderers_table(replace(found, made_by={})).empty


def test_alarms_are_compared_clip_by_clip(made):
    gaps, alarms = made["unlabelled_alarm_gaps"], made["unlabelled_alarms"].set_index(["arm", "quality", "alarms"])
    assert set(gaps["quality"]) == {"c23", "c40", "crf46"} and len(gaps) == 6
    for row in gaps.itertuples():
        ours, theirs = (alarms.loc[(arm, row.quality, row.alarms)] for arm in PRIMARY)
        assert row.tpr == pytest.approx(ours["tpr"] - theirs["tpr"]) and row.fpr == pytest.approx(ours["fpr"] - theirs["fpr"])
        assert row.tpr_lo <= row.tpr <= row.tpr_hi


def test_right_pseudo_labels_are_counted_student_by_student(tmp_path):
    assert unlabelled.right_table(tmp_path).empty
    cell = ("student_compression", 20, 1000, 24, "efficientnet-lite0")
    rows = [(*cell, 0, 100, 80), (*cell, 1, 200, 180), ("student_classic", *cell[1:], 0, 100, 60)]
    judged = pd.DataFrame(rows, columns=unlabelled.RIGHT_COLUMNS)
    judged.to_csv(tmp_path / unlabelled.RIGHT, index=False)
    table = unlabelled.right_table(tmp_path).set_index("arm")
    assert table.loc["student_compression", ["seeds", "right", "least", "most"]].tolist() == pytest.approx([2, 0.85, 0.8, 0.9])
    judged.assign(right=1000).to_csv(tmp_path / unlabelled.RIGHT, index=False)
    with pytest.raises(ValueError, match="pseudo_labels.csv: not what was judged: take it from git"):
        unlabelled.right_table(tmp_path)


def test_one_threshold_is_set_on_other_people_and_held_for_every_quality(made, folder):
    table = made["unlabelled_alarms"]
    scores = unlabelled.read_study(folder).query("arm == 'control' and labels == 20")
    rates = []
    for seed in range(3):
        part = scores[scores["seed"] == seed]
        reals = part.query("split == 'test2_unseen' and label == 0 and quality in ('c23', 'c40')")["score"]
        threshold = min(score for score in reals if (reals > score).mean() <= 0.05)
        rates.append((part.query("split == 'test2' and quality == 'crf46' and label == 1")["score"] > threshold).mean())
    row = table.query("arm == 'control' and quality == 'crf46' and alarms == 0.05").squeeze()
    assert row["tpr"] == pytest.approx(np.mean(rates)) and row["tpr_lo"] <= row["tpr"] <= row["tpr_hi"]
    found = table.pivot(index=["arm", "quality"], columns="alarms", values="tpr")
    assert (found[0.05] >= found[0.01]).all() and (found[0.05] > found[0.01]).any()
    assert set(table["alarms"]) == {0.01, 0.05} and table["fpr"].between(0, 1).all()


def test_every_figure_is_drawn_and_none_without_its_stage(found, tmp_path):
    for name, draw in UNLABELLED_FIGURES.items():
        figure = draw(found, "SynthFF 2")
        assert figure is not None and any(ax.has_data() for ax in figure.axes), name
    folder = tmp_path / "data" / "study"
    write_scores(folder / "primary.csv.gz", made_up("primary", seeds=2))
    few = unlabelled.load_unlabelled(profile_at(folder))
    assert [UNLABELLED_FIGURES[f"unlabelled_{name}"](few, "") for name in ("networks", "curves")] == [None, None]
    assert len(unlabelled.contrasts_table(few)) == 3  # those of control and student


def test_points_of_a_curve_are_means_over_the_same_seeds(tmp_path):
    folder = tmp_path / "data" / "study"
    for stage, seeds in (("primary", 3), ("pool", 2)):
        write_scores(folder / f"{stage}.csv.gz", made_up(stage, seeds))
    table = unlabelled.curve_table(unlabelled.load_unlabelled(profile_at(folder))).set_index(["arm", "pool", "frames"])
    assert set(table["seeds"]) == {2} and len(table) == 3 + 7
    for arm, where in (("control", {"pool": 0, "frames": 0}), ("student_compression", {"pool": 1000, "frames": 24})):
        mine = [auc_of(folder, arm, seed, labels=20, **where) for seed in range(2)]
        assert table.loc[(arm, *where.values()), "value"] == pytest.approx(np.mean(mine))


def test_hostile_tables_are_named(folder, tmp_path):
    good = pd.read_csv(folder / "primary.csv.gz", dtype=unlabelled.TEXT)
    for what, change in {
        "other columns": lambda t: t.drop(columns="faces"),
        "outside": lambda t: t.assign(score=2.0),
        "unknown arm": lambda t: t.assign(arm="magic"),
        "scored twice": lambda t: pd.concat([t, t.head(1)]),
    }.items():
        write_scores(tmp_path / "primary.csv.gz", change(good))
        with pytest.raises(ValueError, match=f"primary.csv.gz: .*{what}"):
            unlabelled.read_study(tmp_path)
    write_scores(tmp_path / "primary.csv.gz", good)
    written = sha256(tmp_path / "primary.csv.gz")
    write_json(tmp_path / unlabelled.RECORD, {"stages": {"primary": {"protocol": "a" * 40, "sha256": written}}})
    assert len(unlabelled.read_study(tmp_path)) == len(good)
    write_scores(tmp_path / "primary.csv.gz", good[good["video_id"] != good["video_id"].iloc[0]])
    with pytest.raises(ValueError, match="primary.csv.gz: changed since it was scored: take it from git"):
        unlabelled.read_study(tmp_path)


def test_what_another_processor_computes_stands_beside_the_same_seeds(made):
    table = made["unlabelled_processors"].set_index(["arm", "seed", "quality"])
    assert len(table) == 3 * 2 * 2 and table.xs("control", level="arm")["moved"].abs().max() == 0
    assert table.xs("c40", level="quality").loc["gain"].to_numpy() == pytest.approx(np.array([[0.05, 0.0, -0.05]] * 2))
    assert table.loc[("student_compression", 1, "c40")].tolist() == pytest.approx([0.76, 0.71, -0.05])
    assert table.xs("c23", level="quality")["moved"].abs().max() == 0


def test_a_pilot_without_a_control_is_measured_against_the_usual_one_seed_by_seed(tmp_path):
    rows = [("S_300", "control", 0, 0.70), ("S_300", "control", 1, 0.75), ("S_300", "student_compression", 0, 0.71),
            ("aligned", "student_compression", 0, 0.73), ("aligned", "student_compression", 1, 0.74),
            ("S_600", "control", 0, 0.72), ("S_600", "student_compression", 0, 0.70)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["pilot", "arm", "seed", "auc_c40"]).assign(pool=134, people=190, auc_c23=0.9)
    table.to_csv(tmp_path / "pilots.csv", index=False)
    gains = unlabelled.pilot_gains(tmp_path)
    assert gains["gain_at_c40"].to_dict() == pytest.approx({"S_300": 0.01, "aligned": 0.01, "S_600": -0.02})
    assert gains.loc["aligned", ["seeds", "least", "greatest"]].tolist() == pytest.approx([2, -0.01, 0.03])

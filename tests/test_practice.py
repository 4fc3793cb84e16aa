"""What a detector's user asks: temperatures, ways to join faces, and errors by group, on made-up scores with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from utils.config import get_profile
from utils.learn.scores import AGGREGATIONS, over_clip
from utils.results import practice, practice_plots
from utils.results.metrics import calibration_error
from utils.results.tables import data_tables

LITE0, SYNTHFF = "efficientnet-lite0", get_profile("synthff")


def scores(people=12, seeds=2, frames=3, sharpness=1.0, seed=0) -> pd.DataFrame:
    """Return face scores whose clips' log odds are right, then multiplied by `sharpness`."""
    rng, rows = np.random.default_rng(seed), []
    for split, first in (("val", 0), ("test", 200)):
        for number in range(first, first + people, 2):
            for a, b in ((number, number + 1), (number + 1, number)):
                for label, video in ((0, f"{a:03d}"), (1, f"{a:03d}_{b:03d}")):
                    for run_seed in range(seeds):
                        for quality in ("c23", "c40"):
                            odds = rng.normal((2 * label - 1) * 1.0, 1.4)
                            for frame in range(frames):
                                p = 1 / (1 + np.exp(-sharpness * (odds + rng.normal(0, 0.05))))
                                rows.append(dict(run=f"s{run_seed}", model=LITE0, phase="student_compression", seed=run_seed,
                                                 method="NeuralTextures" if label else "original", split=split, quality=quality,
                                                 video_id=video, frame=frame, label=label, score=p))  # fmt: skip
    return pd.DataFrame(rows)


def metadata(people=12) -> pd.DataFrame:
    targets = [f"{number:03d}" for first in (0, 200) for number in range(first, first + people)]
    about = {"age": 0.5, "caucasian": 0.1, "african": 0.7, "asian": 0.2, "hair": "afro01"}
    return pd.DataFrame({"target": targets, **about, "sex": ["male", "female"] * people,
                         "camera_exposure": np.tile([0.2, 0.8], people)})  # fmt: skip


def test_the_error_of_calibration_is_that_of_its_definition():
    assert calibration_error([0, 0, 1, 1], [0.05, 0.45, 0.55, 0.95]) == pytest.approx((0.05 + 0.45 + 0.45 + 0.05) / 4)
    assert calibration_error([0, 1] * 50, [0.5] * 100) == pytest.approx(0)
    assert calibration_error([1] * 4, [1.0] * 4) == 0  # the last bin holds one


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_a_temperature_undoes_what_sharpened_the_scores(sharpness):
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 2, 4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-odds))).astype(int)
    sharp = 1 / (1 + np.exp(-sharpness * odds))
    t = practice.temperature(labels, sharp)
    assert t == pytest.approx(sharpness, rel=0.1)
    mended = practice.cooled(sharp, t)
    assert calibration_error(labels, mended) < 0.03
    assert roc_auc_score(labels, mended) == pytest.approx(roc_auc_score(labels, sharp))


def test_a_temperature_is_chosen_on_validation_alone():
    faces = scores(people=40, sharpness=3)
    clips = practice.clips_of(faces, LITE0)
    before = practice.calibrated(clips)
    changed = clips.assign(score=clips["score"].where(clips["split"] == "val", 1 - clips["score"]))
    assert np.allclose(before["t"], practice.calibrated(changed)["t"]) and set(before["split"]) == {"test"}
    table = practice.calibration_table(clips)
    assert (table["ece_cooled"] < table["ece"]).all() and (table["log_loss_cooled"] < table["log_loss"]).all()
    assert (table["t"] > 1.3).all() and set(table["seeds"]) == {2}
    assert (table["ece"] > table["by_chance_hi"]).all() and (table["by_chance"] < table["by_chance_hi"]).all()  # too sure
    assert (table["ece_cooled"] / table["by_chance_cooled"] < table["ece"] / table["by_chance"]).all()
    c40 = clips[(clips["split"] == "test") & (clips["quality"] == "c40") & (clips["score"] - 0.55).abs().le(0.05)]
    assert table.set_index("quality").loc["c40", "just_above"] == pytest.approx(c40["label"].mean())


def test_ways_to_join_faces_are_compared_with_their_mean():
    faces = scores()
    table = practice.aggregation_table(faces, LITE0, "student_compression", 50).set_index(["quality", "way"])
    assert set(table.index.get_level_values("way")) == set(AGGREGATIONS)
    assert (table.xs("mean", level="way")[["value", "lo", "hi"]] == 0).all().all()
    for quality in ("c23", "c40"):
        part = faces[(faces["quality"] == quality) & (faces["split"] == "test")]
        by = part.groupby(["seed", "video_id", "label"])["score"]
        aucs = by.max().reset_index().groupby("seed").apply(lambda run: roc_auc_score(run["label"], run["score"]))
        assert table.loc[(quality, "highest"), "auc"] == pytest.approx(aucs.mean())
        assert table.loc[(quality, "highest"), "val_auc"] != table.loc[(quality, "highest"), "auc"]


def test_the_ways_are_what_they_are_called():
    some = np.array([0.1, 0.2, 0.6, 0.9])
    found = {way: float(make(some)) for way, make in AGGREGATIONS.items()}
    assert found["mean"] == pytest.approx(float(over_clip(some, np.zeros(4, int))[0])) == pytest.approx(0.45)
    assert found["median"] == pytest.approx(0.4) and found["highest"] == 0.9
    assert found["mean of the three highest"] == pytest.approx(1.7 / 3)
    assert found["mean of log odds"] == pytest.approx(1 / (1 + np.exp(-np.log(some / (1 - some)).mean())))
    assert 0 < AGGREGATIONS["mean of log odds"](np.array([0.0, 1.0])) < 1


def test_errors_are_counted_for_the_person_who_is_shown():
    faces = scores(people=12)
    target = faces["video_id"].str[:3]
    faces["score"] = np.where(faces["label"] == 1, 0.9, 0.1)
    wrong = (target == "201") & (faces["label"] == 0)  # the real clips of one person are called fake
    faces.loc[wrong, "score"] = 0.95
    clips = practice.clips_of(faces, LITE0)
    table = practice.groups_table(clips, practice.groups_of(metadata()), "student_compression", 100)
    found = table[table["quality"] == "c40"].set_index(["factor", "group", "error"])
    assert found.loc[("sex", "female", "accused"), "value"] == pytest.approx(1 / 6)
    assert found.loc[("sex", "male", "accused"), "value"] == found.loc[("sex", "female", "missed"), "value"] == 0
    assert found.loc[("sex", "female", "accused"), "people"] == 6 and found.loc[("sex", "female", "accused"), "hi"] > 1 / 6
    assert set(table["group"]) >= {"female", "male", "african", "middle", "some", "darker", "brighter"}


def test_figures_are_drawn_of_the_tables_and_none_without_them(tmp_path):
    metadata().to_csv(tmp_path / "metadata.csv", index=False)
    made = practice.tables(scores(), LITE0, tmp_path, 50)
    assert set(made) == {"calibration", "reliability", "aggregation", "groups"}
    for name, draw in practice_plots.PRACTICE_FIGURES.items():  # the others have tables of their own
        fig = draw(made, "SynthFF")
        assert (fig is not None) == (name in ("calibration", "groups")) and draw({}, "SynthFF") is None
    assert made["reliability"].groupby(["quality", "scores"])["clips"].sum().eq(12 * 2 * 2).all()
    assert "groups" not in practice.tables(scores(), LITE0, tmp_path / "nowhere", 50)
    (tmp_path / "metadata.csv").write_text("filename,label\n000.mp4,REAL\n")  # of another data set
    assert "groups" not in practice.tables(scores(), LITE0, tmp_path, 50)
    assert data_tables(replace(SYNTHFF, data=replace(SYNTHFF.data, root=str(tmp_path))))["data"].empty
    assert practice.tables(scores().assign(phase="trained"), LITE0, tmp_path, 50) == {}

"""The study's tables against hand-made ones, from made-up predictions and pseudo-labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from mock_predictions import make_run, write_predictions
from test_report import profile_in

from utils.config import ABLATIONS, CONTROL, TEACHERS, labels_profile
from utils.results import claims, store, study, study_plots
from utils.results.report import Results
from utils.results.style import write_figures

LITE0 = "efficientnet-lite0"
STRENGTH = {"teacher_c40": 0.4, "teacher_c23": 0.5, "teacher_both": 0.8, "student_classic_it1": 0.5,
            "student_classic_it2": 0.4, "student_classic": 0.5, "student_compression_it1": 1.4,
            "student_compression_it2": 1.5, "student_compression": 1.6, "oracle": 2.0}  # fmt: skip
CLIPS = pd.DataFrame({"clip": range(4), "label": [0, 0, 1, 1], "p_fake": [0.05, 0.45, 0.55, 0.95], "frames": 3,
                      "right": [3, 2, 1, 3], "copies": [3, 0, 2, 3], "copies_right": [3, 0, 1, 3]})  # fmt: skip


def runs_of(phases, seeds, **options):
    options = {"n_pairs": 8, "hard_pairs": 4} | options
    return pd.concat([make_run(LITE0, phase, seed, strength=STRENGTH[phase], **options) for phase in phases for seed in seeds])


def of(experiment, predictions):
    return predictions.assign(experiment=experiment)


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    profile = profile_in(tmp_path_factory.mktemp("study"))
    few = ("teacher_c40", "teacher_c23", "teacher_both", "student_classic", "student_compression")
    control = replace(CONTROL, group="labels/people/10").variant
    parts = [of("", runs_of(STRENGTH, (0, 1, 2)))]
    parts += [of(f"labels/people/{people}", runs_of(few, (0, 1), rng_seed=people)) for people in (10, 20)]
    parts.append(of(control, runs_of(["student_compression"], (0, 1), rng_seed=7)))
    parts.append(of("labels/people/10", runs_of(["student_compression_it1"], (0, 1), rng_seed=8)))
    for one in (ABLATIONS[0], ABLATIONS[-1]):
        name = one.network or LITE0  # the last is another network, and at chance
        scored = make_run(LITE0, "student_compression", strength=0 if one.network else 1.6, hard_pairs=4, rng_seed=5)
        parts.append(of(one.variant, scored.assign(model=name, run=scored["run"].str.replace(LITE0, name))))
    write_predictions(profile.workspace.results, pd.concat(parts))
    runs = store.load_runs(profile)
    runs = runs.assign(labelled_people=runs["labelled_people"].where(runs["experiment"] != "", 66))
    phases = [f"{student}_it{iteration}" for student in TEACHERS for iteration in (1, 2)]
    taught = [CLIPS.assign(run=f"{phase}-{LITE0}-s{seed}", phase=phase, seed=seed) for phase in phases for seed in (0, 1)]
    judged = pd.concat(taught).assign(experiment="", model=LITE0, view="c40")[store.JUDGED_COLUMNS]
    store.write_results(profile.workspace.results, {"runs": runs, "pseudo_labels": judged})
    return profile


@pytest.fixture(scope="module")
def found(profile):
    return study.load_study(profile)


def auc(found, phase, seed, experiment="", quality="c40"):
    table = found.evaluation.table
    rows = table.query("phase == @phase and seed == @seed and quality == @quality and split == 'test'")
    return rows[rows["experiment"] == experiment]["auc"].item()


def test_contrasts_are_means_over_seeds_of_paired_differences(found):
    table = study.contrasts_table(found)
    ran = [pair for pair in study.CONTRASTS if "student_compression_it3" not in pair]  # two iterations were run
    assert len(table) == 2 * 2 * len(ran) and (table["seeds"] == 3).all()
    assert list(table[["phase", "versus"]].itertuples(index=False, name=None))[: len(ran)] == ran
    row = table.query("split == 'test' and quality == 'c40' and phase == 'student_compression' and versus == 'teacher_both'")
    expected = np.mean([auc(found, "student_compression", s) - auc(found, "teacher_both", s) for s in (0, 1, 2)])
    assert row["value"].item() == pytest.approx(expected) and row["lo"].item() < expected < row["hi"].item()


def test_the_gap_closed_is_the_share_of_the_way_to_the_oracle(found):
    student, teacher, oracle = (
        np.mean([auc(found, phase, seed) for seed in (0, 1, 2)]) for phase in ("student_compression", "teacher_both", "oracle")
    )
    share = study.gap_closed(found)
    assert share["value"] == pytest.approx((student - teacher) / (oracle - teacher))
    assert share["lo"] < share["value"] < share["hi"]
    assert study.gap_closed(found, "labels/people/40") is None  # was not run


def test_labels_are_compared_over_the_seeds_that_both_sides_have(found):
    table = study.labels_table(found)
    assert sorted(table["people"].unique()) == [10, 20, 66]
    gain = table.query("people == 10 and quality == 'c40' and phase == 'gain_student_compression'").iloc[0]
    folder = "labels/people/10"
    expected = [auc(found, "student_compression", s, folder) - auc(found, "teacher_both", s, folder) for s in (0, 1)]
    assert gain["value"] == pytest.approx(np.mean(expected)) and gain["seeds"] == 2
    oracle = table.query("phase == 'oracle' and quality == 'c40'")["value"]
    assert len(oracle) == 3 and oracle.nunique() == 1


def test_the_control_learned_from_labels_alone_beside_the_first_student(found):
    labels = study.labels_table(found).query("quality == 'c40'")
    table = labels.query("phase == 'over_control'").set_index("people")
    assert list(table.index) == [10, 66] and table["seeds"].tolist() == [2, 1]
    folder, phase = "labels/people/10", "student_compression"
    gains = [
        auc(found, f"{phase}_it1", seed, folder) - auc(found, phase, seed, replace(CONTROL, group=folder).variant)
        for seed in (0, 1)
    ]
    assert table.loc[10, "value"] == pytest.approx(np.mean(gains))
    gain = auc(found, f"{phase}_it1", 0) - auc(found, phase, 0, CONTROL.variant)
    assert table.loc[66, "value"] == pytest.approx(gain)
    gains = labels.query("phase == 'gain_control'").set_index("people")["value"]
    assert gains[66] == pytest.approx(auc(found, phase, 0, CONTROL.variant) - auc(found, "teacher_both", 0))
    assert list(gains.index) == [10, 66] and set(labels.query("phase == 'control'")["people"]) == {10, 66}


def test_every_contrast_is_drawn_at_every_number_of_labels(found):
    table = study.few_labels_table(found)
    iterations = {10: ["it1"], 20: [], 66: ["it1", "it2"]}  # that were run
    for people, part in table.groupby("people"):
        missing = [f"student_compression_{name}" for name in ("it1", "it2", "it3") if name not in iterations[people]]
        ran = [pair for pair in study.CONTRASTS if pair[0] not in missing]
        assert list(part[["phase", "versus"]].itertuples(index=False, name=None)) == 2 * ran
    assert set(table["people"]) == {10, 20, 66}
    row = table.query("people == 20 and quality == 'c40' and phase == 'oracle' and versus == 'teacher_both'").iloc[0]
    expected = [auc(found, "oracle", s) - auc(found, "teacher_both", s, "labels/people/20") for s in (0, 1)]
    assert row["value"] == pytest.approx(np.mean(expected)) and row["seeds"] == 2
    share = study.labels_table(found).query("people == 20 and quality == 'c40' and phase == 'gap_closed'")["value"].item()
    student = [auc(found, "student_compression", s, "labels/people/20") for s in (0, 1)]
    teacher = [auc(found, "teacher_both", s, "labels/people/20") for s in (0, 1)]
    assert share == pytest.approx((np.mean(student) - np.mean(teacher)) / np.mean(expected))


def test_targets_are_met_where_difference_and_interval_are_large_enough(found):
    table = study.targets_table(study.few_labels_table(found), study.labels_table(found))
    table = table.set_index(["people", "versus", "quality"])
    assert len(table) == 3 * (len(study.TARGETS) + 1)
    few = study.few_labels_table(found).query("phase == 'student_compression'").set_index(["people", "versus", "quality"])
    for key, row in table[table["what"] == "difference"].iterrows():
        gap = few.loc[key]
        assert row["value"] == gap["value"]
        assert row["met"] == (gap["value"] >= row["least"] and (gap["lo"] > 0 or key[2] == "c23"))
    share = study.gap_closed(found)["value"]
    assert table.loc[(66, "oracle", "c40"), "value"] == share and table.loc[(66, "oracle", "c40"), "met"] == (share >= 0.8)
    assert set(table["met"]) == {True, False}


def test_ablations_are_measured_against_the_first_student_of_the_same_seeds(found):
    table = study.ablation_table(found).query("quality == 'c40'")
    assert list(table["factor"]) == [ABLATIONS[0].factor, ABLATIONS[-1].factor]
    changed = auc(found, "student_compression", 0, ABLATIONS[0].variant)
    row = table.iloc[0]
    assert row["auc"] == pytest.approx(changed) and row["seeds"] == 1
    assert row["change"] == pytest.approx(changed - auc(found, "student_compression_it1", 0))
    (of_change,) = found.keys("student_compression", "c40", ABLATIONS[0].variant, "val")
    (unchanged,) = found.keys("student_compression_it1", "c40", split="val", seeds=[0])
    values = [found.evaluation.values[key]["auc"][0] for key in (of_change, unchanged)]
    assert row["change_val"] == pytest.approx(values[0] - values[1])
    assert table.iloc[1]["network"] == ABLATIONS[-1].network and not table["identical"].any()


def test_a_change_that_changes_no_score_is_called_identical(tmp_path):
    profile = profile_in(tmp_path)
    usual = runs_of(["student_compression_it1"], (0, 1))
    names = {"phase": "student_compression", "run": usual["run"].str.replace("_it1", "")}
    same, other = (of(one.variant, usual.assign(**names)) for one in ABLATIONS[:2])
    other = other.assign(score=other["score"].where(other.index != other.index[-1], 0.5))  # one face a seed
    runs = [of("", usual), of("", runs_of(["teacher_both"], (0, 1))), same, other]
    write_predictions(profile.workspace.results, pd.concat(runs))
    table = study.ablation_table(study.load_study(profile)).query("quality == 'c40'")
    assert table["identical"].tolist() == [True, False] and table["change"].iloc[0] == 0


def test_iterations_begin_with_the_teacher(found):
    table = study.iterations_table(found).query("student == 'student_compression' and quality == 'c40'")
    assert table["iteration"].tolist() == [0, 1, 2]
    phases = ["teacher_both", "student_compression_it1", "student_compression_it2"]
    assert table["value"].tolist() == pytest.approx([np.mean([auc(found, p, s) for s in (0, 1, 2)]) for p in phases])


def test_pseudo_labels_are_judged_by_hand(found):
    table = study.pseudo_labels_table(found)
    assert len(table) == 2 * 2 * 2
    row = table.iloc[0]
    assert row["right"] == pytest.approx(9 / 12) and row["kept"] == 0.75 and row["right_learned"] == pytest.approx(7 / 8)
    assert row["ece"] == pytest.approx((0.05 + 0.45 + 0.45 + 0.05) / 4)
    assert row["log_loss"] == pytest.approx(-np.log([0.95, 0.55, 0.55, 0.95]).mean())


def test_claims_say_what_the_tables_say(found):
    made = study.tables(found) | {"data": pd.DataFrame({"split": ["val"], "identities": [30]})}
    assert claims.near_chance(made)["settings"] == {"student_network: B4"}
    assert found.people == 66 and made["contrasts"]["seeds"].max() == 3
    told = claims.ablation(made)
    rows = made["ablation"].query("quality == 'c40'")
    assert told["count"] == 2 and told["validation"] == 30 and told["worse"] == (rows["hi"] < 0).sum() == 1
    assert (told["above"], told["above_val"]) == ((rows["change"] > 0).sum(), (rows["change_val"] > 0).sum())
    contrasts = made["contrasts"].query("split == 'test' and quality == 'c40' and phase == 'student_compression'")
    contrasts = contrasts.set_index("versus")[["value", "lo", "hi"]]
    assert claims.student_leads(made)["both"] == tuple(contrasts.loc["teacher_both"])
    assert claims.student_leads(made)["classic"] == tuple(contrasts.loc["student_classic"])
    fewest = made["labels"].query("people == 10 and quality == 'c40'").set_index("phase")[["value", "lo", "hi"]]
    few = claims.few_labels(made)
    assert few["people"] == 10 and few["lead"] == tuple(fewest.loc["gain_student_compression"])
    assert few["over"] == tuple(fewest.loc["over_control"])
    assert claims.control_gains(made)["gain"].keys() == {10, 66} and claims.labels_right(made)["classic"] == 0.75
    met = made["targets"].groupby("people")["met"].sum()
    assert claims.targets_written(made)["met"] == f"{met[10]}, {met[20]} and {met[66]}"
    assert study.tables(None) == {}


def draws_of(profile, found):
    drawn = Results(profile, pd.DataFrame(), found.evaluation if found else None, found, pd.DataFrame()).figures()
    return {name: draw for name, draw in drawn.items() if name in study_plots.STUDY_FIGURES}


def test_every_figure_of_the_study_is_drawn(profile, found, tmp_path):
    written = write_figures(draws_of(profile, found), tmp_path)
    assert set(written) == set(study_plots.STUDY_FIGURES) and all(path.stat().st_size > 5000 for path in written.values())
    (axes, _) = study_plots.noisy_student(found, "SynthFF").axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[0] == "oracle: all labels" and len(names) == 7 and names[2].startswith("control")  # beside its student
    fig = study_plots.labels(found, "SynthFF")
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()] == ["10", "20", "66"]
    (ax,) = study_plots.ablation(found, "SynthFF").axes
    lost = study.ablation_table(found).query("factor == @ABLATIONS[-1].factor and quality == 'c40'")["change"].item()
    (text,) = ax.texts  # off the scale, so told in numbers
    assert f"{abs(lost):.2f} at c40" in text.get_text() and ax.get_xlim()[0] > lost
    fig = study_plots.iterations(found, "SynthFF")
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()] == ["0", "1", "2"]


def test_figures_of_an_older_study_are_not_left_over(profile, tmp_path):
    for name in study_plots.STUDY_FIGURES:
        (tmp_path / f"{name}.svg").touch()
    assert write_figures(draws_of(profile, None), tmp_path) == {} and not list(tmp_path.iterdir())


def test_without_the_comparison_there_is_no_study(tmp_path):
    profile = profile_in(tmp_path)
    write_predictions(profile.workspace.results, make_run("xception"))
    assert study.load_study(profile) is None
    assert store.load_pseudo_labels(profile).empty and store.load_curves(profile).empty  # without their files


def test_numbers_of_labelled_people_are_whole_pairs():
    profile = profile_in("anywhere")
    assert labels_profile(profile, 10, 100).data.labelled_fraction == pytest.approx(0.05)
    assert labels_profile(profile, 10, 100).variant == "labels/people/10"
    for people in (3, 0, 202):
        with pytest.raises(ValueError, match="labelled people"):
            labels_profile(profile, people, 100)

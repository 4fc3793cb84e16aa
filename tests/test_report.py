"""The report: its tables against hand-made ones, its claims, and the PDF itself, set from made-up predictions."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pymupdf
import pytest
from mock_predictions import make_predictions, make_run, write_predictions
from PIL import Image

from utils.config import PHASES, Profile, get_profile
from utils.paths import REPORT, ROOT, Workspace
from utils.results import claims, metrics, prose, report, store, study, tables
from utils.results.prose import Estimate


def profile_in(folder, base="smoke", **changes):
    """Return a profile, `base` with some changes, whose workspace is another folder."""

    class Elsewhere(Profile):
        workspace = Workspace(Path(folder))

    changed = dataclasses.replace(get_profile(base), **changes)
    return Elsewhere(**{field.name: getattr(changed, field.name) for field in dataclasses.fields(changed)})


@pytest.fixture(scope="module")
def predictions():
    weak = make_predictions(models=("xception",), teachers=False, n_pairs=6, hard_pairs=5, strength=0.8)
    strong = make_predictions(models=("efficientnet-lite0",), n_pairs=6, hard_pairs=5, strength=1.2)
    return pd.concat([weak, strong], ignore_index=True)


@pytest.fixture(scope="module")
def evaluation(predictions):
    return metrics.evaluate(predictions, resamples=100)


@pytest.fixture(scope="module")
def built(tmp_path_factory, predictions):
    profile = profile_in(tmp_path_factory.mktemp("workspace"))
    write_predictions(profile.workspace.results, predictions)
    report.build(profile)
    return profile


def pdf_of(profile):
    return text_of(profile.workspace.report / "report.pdf")


def built_from(profile, predictions):
    write_predictions(profile.workspace.results, predictions)
    report.build(profile)
    return pdf_of(profile)


def text_of(pdf):
    text = "\n".join(page.get_text() for page in pymupdf.open(pdf))
    return re.sub(r"\s+", " ", text.replace("-\n", ""))


def printed(sentence, text):
    """Tell whether a text holds a sentence, hyphenated or not, and in one or two pieces: a page may end within it."""
    sentence, text = (re.sub(r"[\s`*\N{SOFT HYPHEN}-]", "", one) for one in (sentence, text))
    return any(sentence[:cut] in text and sentence[cut:] in text for cut in range(len(sentence)))


def test_the_report_prints_the_numbers_of_the_tables(built):
    text = pdf_of(built)
    facts = json.loads((built.workspace.tables / "facts.json").read_text())
    assert "All results of this report are on SynthFF" in text and "not on FaceForensics++ itself" in text
    read = prose.read_tables(built.workspace.tables)
    xception = read["networks"].query("model == 'xception' and quality == 'c40'").iloc[0]
    assert f"{xception.auc:.3f} [{xception.auc_lo:.3f}, {xception.auc_hi:.3f}]" in facts["claims"]["best_network"]
    assert printed(facts["claims"]["best_network"], text)
    gain = read["contrasts"].query("phase == 'student_classic' and quality == 'c40' and split == 'test'").iloc[0]
    said = f"does not lead its teacher: {gain.value:+.3f} [{gain.lo:+.3f}, {gain.hi:+.3f}]".replace("-", "\N{MINUS SIGN}")
    assert gain.lo < 0 < gain.hi and said in facts["claims"]["classic_student"] and printed(said, text)
    cases = pd.read_csv(built.workspace.tables / "cases.csv", dtype=str)
    assert len(cases) == 18 + 3 and all(row.test_acc_all in text for row in cases[:18].itertuples())
    results = pd.read_csv(built.workspace.tables / "results.csv", dtype=str)
    assert "noisy_trained_teacher" not in set(results["phase"])  # it is no case of its own
    assert all(row.auc in text for row in results[results["level"] == "video"].itertuples())
    for author in ("Rössler", "Thies", "Xie", "Tan", "Chollet", "King", "Cubuk", "Huang", "He,"):
        assert author in text, author


def named_in_the_report():
    source = (REPORT / "report.typ").read_text(encoding="utf-8")
    return re.findall(r'"(\w+)"', " ".join(re.findall(r"#said\(([^)]*)\)", source)))


def test_the_report_prints_every_claim_that_it_names(built):
    beside = ("unlabelled_", "fakeless_", "split_rules")  # told beside the committed results alone
    names = [name for name in named_in_the_report() if not name.startswith(beside)]
    told = json.loads((built.workspace.tables / "facts.json").read_text())["claims"]
    read, text = prose.read_tables(built.workspace.tables), pdf_of(built)
    assert len(names) > 25 and told == {name: prose.say(name, read) for name in prose.CLAIMS}
    assert [name for name in names if not printed(told[name], text)] == []
    assert {told[name].startswith("[") for name in names} == {True, False}
    assert "What unlabelled video is worth" not in text


def test_claims_about_the_originals_cases_hold_the_numbers_of_their_tables(built):
    read = prose.read_tables(built.workspace.tables)
    gaps = claims.validation_to_test(read)
    assert gaps["original"] == pytest.approx(read["gaps"]["gap"][:18].mean())
    assert gaps["held"] == read["gaps"]["holds_zero"].sum()
    assert 0 <= gaps["held"] <= 2 * gaps["count"] == 2 * read["cases"]["c40_val"].notna().sum() > 0
    own = read["differences"].query("question == 'own_teacher' and quality == 'c40'")
    told = claims.third_phase(read)
    assert told["count"] == len(own) == 2 and told["teacher"].value == pytest.approx(own["value"].mean(), abs=1e-3)
    assert (told["up"], told["down"]) == ((own["lo"] > 0).sum(), (own["hi"] < 0).sum())
    one_each = own.assign(value=[0.05, -0.01], lo=[0.02, -0.03], hi=[0.08, -0.005])
    before = read["differences"].query("question == 'phase'").assign(value=-0.03)
    means = [("own_teacher", "c40", 0.02, -0.1, 0.1), ("phase", "c40", -0.03, -0.05, -0.01)]
    averages = pd.DataFrame(means, columns=["question", "quality", "value", "lo", "hi"])
    sentence = prose.say("third_phase", {"differences": pd.concat([one_each, before]), "averages": averages})
    assert "networks differs from their own teachers' by +0.020 [\N{MINUS SIGN}0.100, +0.100] on average" in sentence
    assert "(1 shown to be higher, 1 lower)" in sentence and "by \N{MINUS SIGN}0.030 [" in sentence
    nothing = {"differences": pd.concat([one_each.assign(lo=-0.1, hi=0.1), before]), "averages": averages}
    gained = {"differences": pd.concat([one_each, before]), "averages": averages.assign(hi=0.1)}
    assert all("does not hold" in prose.say("third_phase", read) for read in (nothing, gained))


def test_the_report_is_byte_stable_and_needs_no_fonts_of_the_machine(built):
    pdf = built.workspace.report / "report.pdf"
    before = pdf.read_bytes()
    report.compile_report(built)
    assert pdf.read_bytes() == before
    fonts = {font[3].split("+")[-1] for page in pymupdf.open(pdf) for font in page.get_fonts()}
    assert fonts and all(name.startswith(("Libertinus", "NewCM", "DejaVu")) for name in fonts)


def test_one_run_is_enough_for_a_report(tmp_path):
    profile = profile_in(tmp_path)
    left = profile.workspace.tables  # an older build left two tables, and the notebooks theirs
    left.mkdir(parents=True)
    for name in ("labels", *report.FROM_NOTEBOOKS):
        shutil.copy(ROOT / "report" / "tables" / f"{name}.csv", left)
    shutil.copy(left / "labels.csv", left / "renamed_since.csv")
    text = built_from(profile, make_run("resnet18", n_pairs=3))
    assert "[pseudo labels add: not run here.]" in text and "ResNet-18" in text
    found = {path.stem for path in left.glob("*.csv")}
    assert not found & {"labels", "renamed_since"} and found >= {"results", *report.FROM_NOTEBOOKS}


def test_a_changed_score_reaches_the_page_and_a_claim_that_rests_on_it_fails(tmp_path):
    """One cell of the predictions is changed: the number in the PDF is another one, and a sentence is no longer told."""
    profile, run = profile_in(tmp_path), make_run("resnet18", n_pairs=3)

    def number() -> str:
        results = pd.read_csv(profile.workspace.tables / "results.csv", dtype=str)
        return results.query("level == 'video' and quality == 'c40'")["auc"].iloc[0]

    before = built_from(profile, run)
    old = number()
    told = prose.say("above_chance", prose.read_tables(profile.workspace.tables))
    cell = run.index[(run["split"] == "test") & (run["quality"] == "c40") & (run["label"] == 1)][0]
    run.loc[cell, "score"] = 0.0 if run.loc[cell, "score"] > 0.01 else 1.0
    after = built_from(profile, run)
    assert number() != old and old in before and number() in after
    broken = run.assign(score=1 - run["score"])  # and if all of them are turned round, no case is above chance
    text = built_from(profile, broken)
    assert not told.startswith("[") and "[above chance: does not hold on these results.]" in text


def test_harder_videos_are_reported_where_there_are_some(built, tmp_path):
    text = pdf_of(built)
    robustness = pd.read_csv(built.workspace.tables / "robustness.csv", dtype=str)
    assert len(robustness) == 24 and "5 pairs of yet other people" in text
    assert "test_hard (10 real and 10 fake at c23, 10 real and 10 fake at c40)" in text
    for row in robustness.itertuples():
        change = f"{row.change} [{row.change_lo}, {row.change_hi}]".replace("-", "\N{MINUS SIGN}")
        assert f"{row.hard} [{row.hard_lo}, {row.hard_hi}] {change}" in text
    read = prose.read_tables(built.workspace.tables)
    c40 = robustness[robustness["quality"] == "c40"].astype({"change": float, "change_hi": float})
    told = claims.hard_videos(read)
    assert told["lower"] == (c40["change_hi"] < 0).sum() and told["count"] == 12
    assert told["change"].value == pytest.approx(c40["change"].mean(), abs=1e-3)
    contrasts = read["contrasts"].query("split == 'test_hard' and quality == 'c40' and phase == 'student_compression'")
    contrasts = contrasts.set_index("versus")[["value", "lo", "hi"]]
    assert prose.say("student_on_hard", read) == "[student on hard: not run here.]"  # without a control
    rows = [("gain_teacher_c23", 0.1, 0.05, 0.2), ("over_control", 0.001, -0.1, 0.1)]
    control = pd.DataFrame(rows, columns=["phase", "value", "lo", "hi"]).assign(split="test_hard", quality="c40")
    told = claims.student_on_hard(read | {"control": control})
    assert (told["over"], told["control"]) == ((0.001, -0.1, 0.1), (0.1, 0.05, 0.2))
    assert told["both"] == tuple(contrasts.loc["teacher_both"])
    assert "AUC on SynthFF test videos (full) and on the harder videos" in text  # the figure's caption

    data = dataclasses.replace(get_profile("smoke").data, root=str(tmp_path / "none"))
    profile = profile_in(tmp_path, data=data)
    text = built_from(profile, make_run("resnet18", n_pairs=3))
    text = text.replace("On the harder videos of test_hard", "")  # what the packaged model's card says
    assert "test_hard" not in text and "Harder videos" not in text and "Noisy Student" in text
    assert pd.read_csv(profile.workspace.tables / "robustness.csv").empty


def test_losses_on_harder_videos_in_words(evaluation):
    table = tables.robustness_table(evaluation)
    assert list(table["method"].iloc[[0, -1]]) == ["Xception, trained", "EfficientNet-Lite0, oracle: all labels"]
    averages = tables.averages_table(evaluation)
    told = claims.hard_videos({"robustness": table, "averages": averages})
    part = table[table["quality"] == "c40"]
    lower, higher = (part["change_hi"] < 0).sum(), (part["change_lo"] > 0).sum()
    assert (told["count"], told["lower"], told["higher"], told["pairs"]) == (12, lower, higher, 5)
    missed = {"n_real": table["n_real"] - (table["quality"] == "c40"), "change_lo": -0.3, "change_hi": -0.1}
    clear = table.assign(**missed)  # no face found in one video at c40, and every loss shown
    lost = averages.assign(value=-0.2, lo=-0.3, hi=-0.1)
    text = prose.say("hard_videos", {"robustness": clear, "averages": lost})
    assert "has 5 pairs, 10 real and 10 fake videos at c23; at c40 they are 9 and 10" in text
    assert "Between `test` and it, AUC at c40 changes by \N{MINUS SIGN}0.200 [" in text
    assert text.endswith("lower for 12 of 12 methods, higher for none.")
    one_gains = clear.assign(change_lo=clear["change_lo"].where(clear.index != clear.index[-1], 0.01))
    others = [(other, lost) for other in (one_gains, clear.assign(change_hi=0.1), clear.assign(n_real=10))]
    for other, means in [*others, (clear, lost.assign(hi=0.1))]:
        said = prose.say("hard_videos", {"robustness": other, "averages": means})
        assert said == "[hard videos: does not hold on these results.]"
    without = tables.robustness_table(metrics.evaluate(make_run(n_pairs=3), 20))
    assert prose.say("hard_videos", {"robustness": without}) == "[hard videos: not run here.]"


def test_tables_of_the_test_split_do_not_hold_the_harder_videos(built, predictions, evaluation):
    without = metrics.evaluate(predictions[predictions["split"] != "test_hard"], resamples=100)
    for table in (tables.results_table, tables.cases_table, tables.differences_table, tables.networks_table):
        pd.testing.assert_frame_equal(table(evaluation), table(without))
    every = store.load_predictions(built)
    found, easy = (study.load_study(built, part) for part in (every, every[every["split"] != "test_hard"]))
    contrasts = study.contrasts_table(found)
    hard = contrasts.query("split == 'test_hard' and quality == 'c40'")
    auc = metrics.by_method(found.evaluation, split="test_hard").query("quality == 'c40'").set_index("phase")["value"]
    for row in hard.itertuples():
        assert row.value == pytest.approx(auc[row.phase] - auc[row.versus])
    assert len(hard) == len(study.CONTRASTS) - 2  # the second and the third iteration were not run
    assert tables.differences_table(without, "test_hard").empty
    pd.testing.assert_frame_equal(study.contrasts_table(easy), contrasts[contrasts["split"] == "test"])


def test_averages_are_means_over_methods_with_their_own_intervals(evaluation):
    averages = tables.averages_table(evaluation).set_index(["question", "quality"])
    differences = tables.differences_table(evaluation)
    cases = differences[differences["phase"].isin(PHASES)].groupby(["question", "quality"])["value"]
    for key in (("compression", "c40"), ("averaging", "c23"), ("own_teacher", "c40")):
        assert averages.loc[key, ["value", "count"]].tolist() == pytest.approx([cases.mean()[key], cases.size()[key]])
        assert averages.loc[key, "lo"] < averages.loc[key, "value"] < averages.loc[key, "hi"]
    change = tables.robustness_table(evaluation).query("quality == 'c40'")["change"]
    assert averages.loc[("hard", "c40"), ["value", "count"]].tolist() == pytest.approx([change.mean(), len(change)])
    gaps = tables.accuracy_gaps(evaluation, "SynthFF").query("group == 'SynthFF, c23'")["gap"]
    assert averages.loc[("gap", "c23"), "value"] == pytest.approx(gaps.mean())


def test_a_pair_without_a_clip_at_one_quality_costs_its_comparison_alone(predictions):
    fake = predictions.loc[(predictions["split"] == "test") & (predictions["label"] == 1), "video_id"].iloc[0]
    clips = [fake, *fake.split("_"), "_".join(reversed(fake.split("_")))]
    gone = (predictions["quality"] == "c40") & predictions["video_id"].isin(clips)
    partial = metrics.evaluate(predictions[~gone], resamples=40)
    assert set(tables.differences_table(partial)["question"]) == {"averaging", "phase", "own_teacher", "rival"}
    assert "compression" not in set(tables.averages_table(partial)["question"])


def test_what_the_data_notebooks_left_is_shown(tmp_path):
    profile = profile_in(tmp_path)
    assert "faces found" not in built_from(profile, make_run("resnet18", n_pairs=3))
    (profile.workspace.tables / "extraction.csv").write_text("quality,class,sampled,found,rate\nc40,fake,768,761,0.9909\n")
    Image.new("RGB", (40, 10)).save(profile.workspace.figures / "samples.jpg")
    text = text_of(report.compile_report(profile))
    assert "faces found" in text and "0.9909" in text and "their difference (amplified)" in text


def said_of_the_oracle(lead, hard):
    columns = ["split", "quality", "phase", "versus", "value", "lo", "hi", "seeds"]
    rows = [(split, "c40", "oracle", "student_compression", *one, 5) for split, one in (("test", lead), ("test_hard", hard))]
    people = pd.DataFrame({"people": [10, 66], "phase": "control", "quality": "c40", "value": 0.9, "lo": 0.8, "hi": 1.0})
    return prose.say("headroom", {"contrasts": pd.DataFrame(rows, columns=columns), "labels": people})


def test_the_prose_adapts_to_sign_and_size():
    ahead, shown, behind = (0.011, -0.012, 0.035), (0.05, 0.01, 0.09), (-0.011, -0.035, 0.012)
    assert "the student with those of 66 people by +0.011" in said_of_the_oracle(ahead, shown)
    for lead, hard in ((behind, shown), (shown, shown), (ahead, ahead), (ahead, behind)):
        assert said_of_the_oracle(lead, hard) == "[headroom: does not hold on these results.]"


def gain_of_the_classic_student(low, high):
    row = ("test", "c40", "student_classic", "teacher_c40", (low + high) / 2, low, high, 1)
    columns = ["split", "quality", "phase", "versus", "value", "lo", "hi", "seeds"]
    return prose.say("classic_student", {"contrasts": pd.DataFrame([row], columns=columns)})


def test_claims_follow_the_interval():
    assert gain_of_the_classic_student(-0.1, 0.2).endswith("does not lead its teacher: +0.050 [\N{MINUS SIGN}0.100, +0.200].")
    for low, high in ((0.01, 0.2), (-0.2, -0.01)):
        assert gain_of_the_classic_student(low, high) == "[classic student: does not hold on these results.]"
    intervals = [(0.01, 0.2), (-0.2, -0.01), (-0.1, 0.1), (0, 0.1), (-0.1, 0)]
    assert [Estimate(0, *ends).holds_zero for ends in intervals] == [False, False, True, True, True]


def test_a_claim_is_printed_where_it_holds_and_else_says_that_it_does_not_or_was_not_run(monkeypatch):
    monkeypatch.setattr(prose, "CLAIMS", {})

    @prose.claim(
        """The gain of {who}
        is {gain:+}, of {share:.0%}.""",
        holds=lambda n: n.gain.lo > 0,
    )
    def some_gain(made):
        row = made["gains"].iloc[0]
        return {"gain": Estimate(row["value"], row["lo"], row["hi"]), "who": row["who"], "share": 0.5}

    def say(*rows):
        return prose.say("some_gain", {"gains": pd.DataFrame(rows, columns=["who", "value", "lo", "hi"])})

    assert say(("A", 0.1, 0.01, 0.2)) == "The gain of A is +0.100 [+0.010, +0.200], of 50%."
    assert say(("A", 0.1, -0.01, 0.2)) == "[some gain: does not hold on these results.]"
    assert say() == prose.say("some_gain", {}) == "[some gain: not run here.]"
    assert prose.say("some_gain", {"gains": pd.DataFrame({"who": ["A"]})}) == "[some gain: not run here.]"
    with pytest.raises(prose.NotRun, match="some_gain: 'gains'"):
        prose.CLAIMS["some_gain"].numbers({})


def register(name, sentence, true=True):
    def numbers(made):
        return {"is": made["is"]}

    numbers.__name__ = name
    prose.claim(sentence, holds=lambda n: true)(numbers)


def test_a_paragraph_ends_with_a_note_on_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr(prose, "CLAIMS", {})
    register("first", "It {is} so.")
    register("second", "It is not.", true=False)
    register("third", f"It {{is}} so{' and so' * 40}.")
    made, third = {"is": "was"}, f"It was so{' and so' * 40}."
    assert prose.filled(["first", "third"], made) == f"It was so. {third}"
    assert prose.filled(["second", "first"], made) == "It was so. *[second: does not hold on these results.]*"
    assert prose.filled(["first"], {}) == "*[first: not run here.]*"
    first, *lines = prose.block([["first"], ["third"]], made).splitlines()
    assert first == "It was so." and lines[0] == "" and " ".join(lines[1:]) == third
    assert prose.WIDTH - len("so and ") < len(lines[1]) <= prose.WIDTH and max(map(len, lines)) <= prose.WIDTH


def test_estimates_print_with_their_interval():
    value, change = Estimate(0.9049, 0.8666, 0.9412), Estimate(-0.0051, -0.0271, 0.0229)
    assert f"{value}" == "0.905 [0.867, 0.941]" and f"{value:%}" == "90% [87%, 94%]"
    assert f"{change:+}" == "-0.005 [-0.027, +0.023]".replace("-", "\N{MINUS SIGN}")
    with pytest.raises(KeyError):
        f"{value:.2f}"


def test_cases_stand_beside_the_originals(evaluation):
    cases = tables.cases_table(evaluation)
    assert list(cases["method"][:2]) == ["Xception, trained", "ResNet-18, trained"]
    row = cases.query("phase == 'trained' and model == 'xception'").iloc[0]
    ours = evaluation.table.query("run == 'trained-xception-s0' and level == 'frame' and quality == 'c40'")
    ours = ours.set_index("split")["accuracy_half"]
    assert (row["c40_val"], row["c40_test"]) == pytest.approx((100 * ours["val"], 100 * ours["test"]))
    assert row["test_acc_all"] == 64.034 and cases.query("model == 'resnet50'")["c40_test"].isna().all()


def test_differences_name_who_was_compared(built, evaluation):
    contrasts = study.contrasts_table(study.load_study(built)).query("split == 'test' and quality == 'c40'")
    row = contrasts.query("phase == 'student_compression' and versus == 'teacher_both'").iloc[0]
    auc = evaluation.table.query("split == 'test' and level == 'video' and quality == 'c40'").set_index("phase")["auc"]
    assert row["value"] == pytest.approx(auc["student_compression"] - auc["teacher_both"])
    table = tables.differences_table(evaluation)
    compression = table.query("question == 'compression'")
    assert len(compression) == 12 and (compression["value"] > 0).mean() > 0.8  # made-up scores are better at c23
    assert set(table["question"]) == {"compression", "averaging", "phase", "own_teacher", "rival"}
    rival = table.query("question == 'rival' and phase == 'trained' and versus == 'xception' and quality == 'c40'").iloc[0]
    videos = evaluation.table.query("split == 'test' and level == 'video' and quality == 'c40' and phase == 'trained'")
    auc = videos.set_index("model")["auc"]
    assert rival["model"] == "efficientnet-lite0"
    assert rival["value"] == pytest.approx(auc["efficientnet-lite0"] - auc["xception"])
    assert set(table.query("question == 'phase'")["versus"]) == {"trained", "post_trained"}
    own = table.query("question == 'own_teacher' and model == 'xception' and quality == 'c23'").iloc[0]
    videos = evaluation.table.query("split == 'test' and level == 'video' and quality == 'c23' and model == 'xception'")
    auc = videos.set_index("phase")["auc"]
    assert own["versus"] == "noisy_trained_teacher"
    assert own["value"] == pytest.approx(auc["noisy_trained"] - auc["noisy_trained_teacher"])


def test_data_tables_come_from_the_metadata(tmp_path):
    rows = [
        (video, quality, label, video[:3], split, 50, 25, size, 40.0, 0.9)
        for split, ids in (("train", "01"), ("test", "23"))
        for video, label in [(f"00{ids[0]}", 0), (f"00{ids[1]}", 0), (f"00{ids[0]}_00{ids[1]}", 1)]
        for quality, size in (("c23", 20_000), ("c40", 5_000))
    ]
    columns = ["video_id", "quality", "label", "target", "split", "frames", "fps", "bytes", "psnr", "ssim"]
    pd.DataFrame(rows, columns=columns).assign(source="").to_csv(tmp_path / "metadata.csv", index=False)
    data = dataclasses.replace(get_profile("smoke").data, root=str(tmp_path))
    made = tables.data_tables(profile_in(tmp_path, data=data))
    assert made["data"].to_dict("records")[0] == {"split": "train", "identities": 2, "real": 2, "fake": 1, "frames": 150}
    assert made["compression"]["kbits"].tolist() == pytest.approx([80, 20])
    nothing = tables.data_tables(profile_in(tmp_path, data=dataclasses.replace(data, root=str(tmp_path / "none"))))
    assert all(table.empty for table in nothing.values())


def test_every_decimal_and_percentage_of_the_report_comes_from_its_tables(built):
    text = pdf_of(built)
    references, appendix = text.index("References"), text.index("A Tables and figures")
    text = (text[:references] + text[appendix:]).replace("95 %", "")  # the level of all intervals
    printed = set(re.findall(r"(?<![\w.])\d+\.\d+|\d+(?= ?%)", text))
    facts = json.loads((built.workspace.tables / "facts.json").read_text(encoding="utf-8"))
    facts.pop("claims")  # these are printed: they must have their numbers from the tables, too
    files = [path.read_text(encoding="utf-8") for path in built.workspace.tables.glob("*.csv")]
    known = set(re.findall(r"\d+\.\d+|\d+", " ".join([json.dumps(facts), *files])))
    assert len(printed) > 100 and printed <= known


def test_missing_input_fails_with_one_line(tmp_path, capsys, monkeypatch):
    with pytest.raises(FileNotFoundError, match="make figures"):
        report.compile_report(profile_in(tmp_path))
    monkeypatch.setattr(report, "get_profile", lambda name: profile_in(tmp_path))
    assert report.main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no predictions in") and error.count("\n") == 1


def test_the_report_needs_no_torch():
    code = "import sys, utils.results.report; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_numbers_are_finite(evaluation):
    table = tables.results_table(evaluation)
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    assert (table["n_real"] > 0).all() and set(table["level"]) == {"video", "frame"}

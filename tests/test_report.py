"""The report: its tables against hand-made ones, its verdicts, and the PDF itself, set from made-up predictions."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pymupdf
import pytest
from mock_predictions import make_predictions, make_run, write_predictions
from PIL import Image

from utils import metrics, report
from utils.config import Profile, get_profile
from utils.paths import ROOT, Workspace


def profile_in(folder, **changes):
    class Elsewhere(Profile):
        workspace = Workspace(Path(folder))

    smoke = dataclasses.replace(get_profile("smoke"), **changes)
    return Elsewhere(**{field.name: getattr(smoke, field.name) for field in dataclasses.fields(smoke)})


@pytest.fixture(scope="module")
def predictions():
    return make_predictions(models=("xception", "efficientnet-lite0"), n_pairs=6, hard_pairs=5)


@pytest.fixture(scope="module")
def evaluation(predictions):
    return metrics.evaluate(predictions, resamples=100)


@pytest.fixture(scope="module")
def built(tmp_path_factory, predictions):
    profile = profile_in(tmp_path_factory.mktemp("workspace"))
    write_predictions(profile.workspace.predictions, predictions)
    report.build(profile)
    return profile


def text_of(pdf):
    text = "\n".join(page.get_text() for page in pymupdf.open(pdf))
    return re.sub(r"\s+", " ", text.replace("-\n", ""))


def test_the_report_prints_the_numbers_of_the_tables(built):
    text = text_of(built.workspace.report / "report.pdf")
    facts = json.loads((built.workspace.tables / "facts.json").read_text())
    assert "All results of this report are on SynthFF" in text and "not on FaceForensics++ itself" in text
    assert facts["networks"]["xception"]["c40"] in text
    assert facts["student"]["student_compression_c40"]["verdict"] in text
    cases = pd.read_csv(built.workspace.tables / "cases.csv", dtype=str)
    assert len(cases) == 18 + 3 and all(row.test_acc_all in text for row in cases[:18].itertuples())
    zero = facts["original"]["zero"]["c40"]
    assert 0 <= zero["held"] <= zero["cases"] == cases["c40_val"].notna().sum() > 0
    assert f"the interval holds zero in {zero['held']} of {zero['cases']}" in text
    taught = facts["results"]["noisy_taught_c40"]
    assert taught["methods"] == 2 and f"s by {taught['mean']} on average, shown to be higher for {taught['higher']}" in text
    results = pd.read_csv(built.workspace.tables / "results.csv", dtype=str)
    assert "noisy_trained_teacher" not in set(results["phase"])  # it is no case of its own
    assert all(row.auc in text for row in results[results["level"] == "video"].itertuples())
    for author in ("Rössler", "Thies", "Xie", "Tan", "Chollet", "King", "Cubuk", "Huang", "He,"):
        assert author in text, author


def test_the_report_is_byte_stable_and_needs_no_fonts_of_the_machine(built):
    pdf = built.workspace.report / "report.pdf"
    before = pdf.read_bytes()
    report.compile_report(built)
    assert pdf.read_bytes() == before
    fonts = {font[3].split("+")[-1] for page in pymupdf.open(pdf) for font in page.get_fonts()}
    assert fonts and all(name.startswith(("Libertinus", "NewCM", "DejaVu")) for name in fonts)


def test_one_run_is_enough_for_a_report(tmp_path):
    profile = profile_in(tmp_path)
    write_predictions(profile.workspace.predictions, make_run("resnet18", n_pairs=3))
    text = text_of(report.build(profile))
    assert "The comparison was not run" in text and "ResNet-18" in text


def test_harder_videos_are_reported_where_there_are_some(built, tmp_path):
    text = text_of(built.workspace.report / "report.pdf")
    robustness = pd.read_csv(built.workspace.tables / "robustness.csv", dtype=str)
    assert len(robustness) == 24 and "5 pairs of yet other people, 10 real and 10 fake videos" in text
    for row in robustness.itertuples():
        change = f"{row.change} [{row.change_lo}, {row.change_hi}]".replace("-", "\N{MINUS SIGN}")
        assert f"{row.hard} [{row.hard_lo}, {row.hard_hi}] {change}" in text
    facts = json.loads((built.workspace.tables / "facts.json").read_text())
    c40 = robustness[robustness["quality"] == "c40"].astype({"change": float, "change_hi": float})
    assert facts["robustness"]["c40"]["lower"] == (c40["change_hi"] < 0).sum()
    mean = float(facts["robustness"]["c40"]["mean"].replace("\N{MINUS SIGN}", "-"))
    assert mean == pytest.approx(c40["change"].mean(), abs=1e-3)
    assert f"the compression student’s AUC at c40 is {facts['student_hard']['student_compression_c40']['verdict']}" in text
    assert "AUC on SynthFF test videos (full) and on the harder videos" in text  # the figure's caption

    data = dataclasses.replace(get_profile("smoke").data, root=str(tmp_path / "none"))
    profile = profile_in(tmp_path, data=data)
    write_predictions(profile.workspace.predictions, make_run("resnet18", n_pairs=3))
    text = text_of(report.build(profile))
    assert "test_hard" not in text and "Harder videos" not in text and "Noisy Student" in text
    assert pd.read_csv(profile.workspace.tables / "robustness.csv").empty


def test_losses_on_harder_videos_in_words(evaluation):
    table = report.robustness_table(evaluation)
    assert list(table["method"].iloc[[0, -1]]) == ["Xception, trained", "EfficientNet-Lite0, oracle: all labels"]
    assert (table["verdict"] == [report.verdict(row.change_lo, row.change_hi) for row in table.itertuples()]).all()
    words = report.robustness_words(table)
    for quality, part in table.groupby("quality"):
        lower, higher = (part["verdict"] == "lower than").sum(), (part["verdict"] == "higher than").sum()
        assert f"At {quality}, AUC changes by {part['change'].mean():+.3f} against `test` on average over 12 methods" in words
        assert f"lower for {lower} of them, higher for {higher}; the highest is {part['hard'].max():.3f} [" in words
    assert "no split `test_hard`" in report.robustness_words(report.robustness_table(metrics.evaluate(make_run(n_pairs=3), 20)))


def test_tables_of_the_test_split_do_not_hold_the_harder_videos(predictions, evaluation):
    without = metrics.evaluate(predictions[predictions["split"] != "test_hard"], resamples=100)
    for table in (report.results_table, report.cases_table, report.differences_table):
        pd.testing.assert_frame_equal(table(evaluation), table(without))
    hard = report.differences_table(evaluation, "test_hard").query("question == 'student' and quality == 'c40'")
    auc = metrics.by_method(evaluation, split="test_hard").query("quality == 'c40'").set_index("phase")["value"]
    for row in hard.itertuples():
        assert row.value == pytest.approx(auc[row.phase] - auc[row.versus])
    assert len(hard) == 4 and report.differences_table(without, "test_hard").empty


def test_what_the_data_notebooks_left_is_shown(tmp_path):
    profile = profile_in(tmp_path)
    write_predictions(profile.workspace.predictions, make_run("resnet18", n_pairs=3))
    assert "faces found" not in text_of(report.build(profile))
    (profile.workspace.tables / "extraction.csv").write_text("quality,class,sampled,found,rate\nc40,fake,768,761,0.9909\n")
    Image.new("RGB", (40, 10)).save(profile.workspace.figures / "samples.jpg")
    text = text_of(report.compile_report(profile))
    assert "faces found" in text and "0.9909" in text and "their difference (amplified)" in text


def test_the_prose_adapts_to_the_sign(built, tmp_path):
    profile = profile_in(tmp_path)
    weak = make_run("efficientnet-lite0", "teacher_both", strength=0.0, n_pairs=20)
    strong = make_run("efficientnet-lite0", "student_compression", strength=3.0, n_pairs=20)
    swapped = {"teacher_both": "student_compression", "student_compression": "teacher_both"}
    phrases = []
    for phases in ({phase: phase for phase in swapped}, swapped):
        runs = [run.assign(phase=run["phase"].map(phases)) for run in (weak, strong)]
        runs = [run.assign(run=run["phase"] + "-efficientnet-lite0-s0") for run in runs]
        evaluation = metrics.evaluate(pd.concat(runs), 100)
        report.write_tables(profile, evaluation, profile.workspace.tables)
        phrases.append(text_of(report.compile_report(profile)))
    assert "AUC at c40 is higher than its teacher’s" in phrases[0]
    assert "AUC at c40 is lower than its teacher’s" in phrases[1]


def test_verdicts_follow_the_interval():
    assert report.verdict(0.01, 0.2) == "higher than" and report.verdict(-0.2, -0.01) == "lower than"
    assert report.verdict(-0.1, 0.1) == "not distinguishable from" and report.verdict(0.45, 0.6, chance=0.5).startswith("not")


def test_cases_stand_beside_the_originals(evaluation):
    cases = report.cases_table(evaluation)
    assert list(cases["method"][:2]) == ["Xception, trained", "ResNet-18, trained"]
    row = cases.query("phase == 'trained' and model == 'xception'").iloc[0]
    ours = evaluation.table.query("run == 'trained-xception-s0' and level == 'frame' and quality == 'c40'")
    ours = ours.set_index("split")["accuracy_half"]
    assert (row["c40_val"], row["c40_test"]) == pytest.approx((100 * ours["val"], 100 * ours["test"]))
    assert row["test_acc_all"] == 64.034 and cases.query("model == 'resnet50'")["c40_test"].isna().all()


def test_differences_name_who_was_compared(evaluation):
    table = report.differences_table(evaluation)
    row = table.query("question == 'student' and phase == 'student_compression' and quality == 'c40'").iloc[0]
    auc = evaluation.table.query("split == 'test' and level == 'video' and quality == 'c40'").set_index("phase")["auc"]
    assert row["versus"] == "teacher_both"
    assert row["value"] == pytest.approx(auc["student_compression"] - auc["teacher_both"])
    compression = table.query("question == 'compression'")
    assert len(compression) == 12 and (compression["value"] > 0).mean() > 0.8  # made-up scores are better at c23
    assert set(table.query("question == 'phase'")["versus"]) == {"trained", "post_trained"}
    taught = table.query("question == 'taught' and model == 'xception' and quality == 'c23'").iloc[0]
    videos = evaluation.table.query("split == 'test' and level == 'video' and quality == 'c23' and model == 'xception'")
    auc = videos.set_index("phase")["auc"]
    assert taught["value"] == pytest.approx(auc["noisy_trained"] - auc["noisy_trained_teacher"])


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
    tables = report.data_tables(profile_in(tmp_path, data=data))
    assert tables["data"].to_dict("records")[0] == {"split": "train", "identities": 2, "real": 2, "fake": 1, "frames": 150}
    assert tables["compression"]["kbits"].tolist() == pytest.approx([80, 20])
    nothing = report.data_tables(profile_in(tmp_path, data=dataclasses.replace(data, root=str(tmp_path / "none"))))
    assert all(table.empty for table in nothing.values())


def test_every_decimal_and_percentage_of_the_report_comes_from_its_tables(built):
    text = text_of(built.workspace.report / "report.pdf")
    text = text[: text.index("References")].replace("95 %", "")  # the level of all intervals
    printed = set(re.findall(r"(?<![\w.])\d+\.\d+|\d+(?= ?%)", text))
    tables = built.workspace.tables.iterdir()
    known = set(re.findall(r"\d+\.\d+|\d+", " ".join(path.read_text(encoding="utf-8") for path in tables)))
    assert len(printed) > 100 and printed <= known


def test_missing_input_fails_with_one_line(tmp_path, capsys, monkeypatch):
    with pytest.raises(FileNotFoundError, match="make figures"):
        report.compile_report(profile_in(tmp_path))
    monkeypatch.setattr(report, "get_profile", lambda name: profile_in(tmp_path))
    assert report.main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no predictions in") and error.count("\n") == 1


def test_the_report_needs_no_torch():
    code = "import sys, utils.report; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_numbers_are_finite(evaluation):
    table = report.results_table(evaluation)
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    assert (table["n_real"] > 0).all() and set(table["level"]) == {"video", "frame"}

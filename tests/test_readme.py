"""The README: its commands exist, its links lead somewhere, and its numbers are those of the predictions."""

from __future__ import annotations

import re
import shlex
import subprocess

import pandas as pd
import pytest
from mock_predictions import make_predictions, make_run

from utils.config import PROFILES
from utils.paths import ROOT
from utils.results import prose, report
from utils.results.metrics import evaluate
from utils.results.tables import results_table, robustness_table
from utils.run import notebooks

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_make_target_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make (?!a )([a-z-]+)", TEXT))  # faces make a clip's score
    assert {"reproduce", "test"} <= named <= targets


def test_packages_that_the_readme_names_are_those_of_the_requirements():
    pins = (ROOT / "requirements.txt").read_text().splitlines()
    named = re.findall(r"\b[a-z-]+==[\d.]+", TEXT)
    assert named and set(named) <= set(pins)


def test_every_relative_link_leads_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if not link.startswith("http")]
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_for_one_notebook_and_one_video_are_understood():
    command = shlex.split(next(line for line in TEXT.splitlines() if "utils.run.notebooks" in line and "-p" in line))
    number, name, value = command[command.index("--only") + 1], *command[command.index("-p") + 1 :][:2]
    (step,) = notebooks.plan(notebooks.find_notebooks(only=[number]), "synthff", {name: value})
    assert step[1] == {name: int(value)}
    assert "make score VIDEO=clip.mp4 OUT=build/clip" in TEXT and "utils.run.score --schema" in TEXT
    done = subprocess.run(["make", "-n", "score", "VIDEO=clip.mp4", "OUT=build/clip"], cwd=ROOT, capture_output=True, text=True)
    assert '-m utils.run.score --out "build/clip"  -- "clip.mp4"' in done.stdout


def test_profiles_named_in_the_readme_are_those_of_the_config():
    assert all(f"`{name}`" in TEXT for name in PROFILES)


def read_of(evaluation):
    return {"results": results_table(evaluation), "robustness": robustness_table(evaluation)}


def ranked(*phases):
    """Return predictions of Lite0 in phases that get better from first to last."""
    return [make_run("efficientnet-lite0", phase, strength=0.1 + 0.35 * place) for place, phase in enumerate(phases)]


def test_blocks_hold_the_numbers_of_the_predictions(tmp_path):
    runs = ranked("trained", "teacher_c40", "teacher_c23", "teacher_both", "student_compression", "oracle", "post_trained")
    others = make_predictions(models=("xception", "resnet18"), teachers=False)
    evaluation = evaluate(pd.concat([*runs, others]), resamples=100)
    path = tmp_path / "README.md"
    path.write_text(TEXT, encoding="utf-8")
    read = read_of(evaluation)
    report.update_readme(read, path)
    once = path.read_text(encoding="utf-8")
    row = evaluation.table.query(
        "phase == 'student_compression' and quality == 'c40' and level == 'video' and split == 'test'"
    ).iloc[0]
    student = f"{row.auc:.3f} [{row.auc_lo:.3f}, {row.auc_hi:.3f}]"
    assert f"{student} |\n" in once and "[pseudo labels add: not run here.]" in once
    assert once.count("| trained |") == 3 and "| oracle: all labels |" in once
    report.update_readme(read, path)
    assert path.read_text(encoding="utf-8") == once
    rows = [(people, phase, "c40", people / 1000, -0.1, 1, 3) for people in (10, 66) for phase in ("over_control", "control")]
    read["labels"] = pd.DataFrame(rows, columns=["people", "phase", "quality", "value", "lo", "hi", "seeds"])
    read["data"] = pd.DataFrame({"split": ["train", "val"], "identities": [200, 30]})
    leads = [("student_compression", f"teacher_{view}", 0.05, low, 0.1) for view, low in
             (("c40", 0.01), ("c23", -0.01), ("both", -0.01))]  # fmt: skip
    leads += [("oracle", "student_compression", 0.01, -0.02, 0.04)]
    columns = ["phase", "versus", "value", "lo", "hi"]
    read["contrasts"] = pd.DataFrame(leads, columns=columns).assign(quality="c40", split="test")
    report.update_readme(read, path)
    text = " ".join(path.read_text(encoding="utf-8").split())
    assert "by +0.010 and +0.066 of AUC with the labels of 10 and 66 people (3 seeds)" in text
    assert "([\N{MINUS SIGN}0.100, +1.000]; [\N{MINUS SIGN}0.100, +1.000])" in text
    assert f"With the labels of 66 people, the student has an AUC of {student} at c40" in text
    assert "Add 30 people who validate to each of these counts" in text
    assert "[control gains: not run here.]" in text


def test_a_block_leaves_out_what_does_not_hold_and_says_so(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(TEXT, encoding="utf-8")
    rows = [(people, "over_control", "c40", 0.1, 0.01, 0.2) for people in (10, 66)]
    read = read_of(evaluate(make_run(), resamples=20))
    read["labels"] = pd.DataFrame(rows, columns=["people", "phase", "quality", "value", "lo", "hi"])
    report.update_readme(read, path)
    text = " ".join(path.read_text(encoding="utf-8").split())
    words = prose.CLAIMS["pseudo_labels_add"].sentence.split("{")[0]
    assert words in " ".join(TEXT.split()) and words not in text
    assert f"*{prose.say('pseudo_labels_add', read)} [control gains" in text


def test_harder_videos_get_columns_where_there_are_some():
    easy = report.results_markdown(**read_of(evaluate(make_predictions(), resamples=100))).splitlines()
    evaluation = evaluate(make_predictions(hard_pairs=4), resamples=100)
    lines = report.results_markdown(**read_of(evaluation)).splitlines()
    assert easy[0] == "| phase | network | seeds | c23 | c40 |"
    assert lines[0] == "| phase | network | seeds | c23 | c40 | c23, `test_hard` | c40, `test_hard` |"
    assert [line.count("|") for line in lines] == [8] * len(easy)
    assert all(line.startswith(before) for line, before in zip(lines[2:], easy[2:], strict=True))
    row = evaluation.table.query("phase == 'oracle' and quality == 'c40' and level == 'video' and split == 'test_hard'").iloc[0]
    assert lines[-1].endswith(f"| {row.auc:.3f} [{row.auc_lo:.3f}, {row.auc_hi:.3f}] |")
    where = [(split, quality) for split in ("test", "test_hard") for quality in ("c23", "c40")]
    rows = [(*each, "control", 0.1 * place, 0.0, 1.0, 5) for place, each in enumerate(where)]
    control = pd.DataFrame(rows, columns=["split", "quality", "phase", "value", "lo", "hi", "seeds"])
    last = report.results_markdown(**read_of(evaluation), control=control).splitlines()[len(lines) :]
    values = " | ".join(f"{0.1 * place:.3f} [0.000, 1.000]" for place in range(4))
    assert last == [f"| control: labels alone | EfficientNet-Lite0 | 5 | {values} |"]


def test_a_readme_without_its_blocks_is_refused(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("nothing here")
    with pytest.raises(ValueError, match="has no block <!-- answer -->"):
        report.update_readme(read_of(evaluate(make_predictions(), resamples=20)), path)
    assert path.read_text() == "nothing here"

"""The README: its commands exist, its links lead somewhere, and its numbers are those of the predictions."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pandas as pd
import pytest
from mock_predictions import make_predictions

from utils import readme, report, runner
from utils.config import PROFILES, get_profile
from utils.metrics import evaluate
from utils.paths import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_make_target_named_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+)", TEXT))
    assert {"reproduce", "test"} <= named <= targets


def test_every_relative_link_leads_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if not link.startswith("http")]
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_for_one_notebook_and_one_video_are_understood():
    command = shlex.split(next(line for line in TEXT.splitlines() if "utils.runner" in line and "-p" in line))
    number, name, value = command[command.index("--only") + 1], *command[command.index("-p") + 1 :][:2]
    (step,) = runner.plan(runner.find_notebooks(only=[number]), "synthff", {name: value})
    assert step[1] == {name: int(value)}
    done = subprocess.run([sys.executable, "-m", "utils.predict", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--run" in done.stdout


def test_profiles_named_in_the_readme_are_those_of_the_config():
    assert all(f"`{name}`" in TEXT for name in PROFILES)


def test_blocks_hold_the_numbers_of_the_predictions(tmp_path):
    evaluation = evaluate(make_predictions(), resamples=100)
    path = tmp_path / "README.md"
    path.write_text(TEXT, encoding="utf-8")
    profile = get_profile("synthff")
    tables = {"differences": report.differences_table(evaluation)}
    readme.update(profile, evaluation, tables, path)
    once = path.read_text(encoding="utf-8")
    row = evaluation.table.query(
        "phase == 'student_compression' and quality == 'c40' and level == 'video' and split == 'test'"
    ).iloc[0]
    assert f"**{row.auc:.3f} [{row.auc_lo:.3f}, {row.auc_hi:.3f}]**" in once
    assert once.count("| trained |") == 3 and "| oracle: all labels |" in once
    readme.update(profile, evaluation, tables, path)
    assert path.read_text(encoding="utf-8") == once
    rows = [(people, "c40", "student_compression", "teacher_both", people / 100, 0, 1, 3) for people in (10, 66)]
    tables["few_labels"] = pd.DataFrame(rows, columns=["people", "quality", "phase", "versus", "value", "lo", "hi", "seeds"])
    readme.update(profile, evaluation, tables, path)
    text = path.read_text(encoding="utf-8")
    assert "labels of 10 people (seeds: 3)" in text and "+0.100 [+0.000, +1.000] over the teacher, c23 and c40" in text


def test_harder_videos_get_columns_where_there_are_some():
    easy = readme.results(evaluate(make_predictions(), resamples=100)).splitlines()
    evaluation = evaluate(make_predictions(hard_pairs=4), resamples=100)
    lines = readme.results(evaluation).splitlines()
    assert easy[0] == "| phase | network | c23 | c40 |"
    assert lines[0] == "| phase | network | c23 | c40 | c23, `test_hard` | c40, `test_hard` |"
    assert [line.count("|") for line in lines] == [7] * len(easy)
    assert all(line.startswith(before) for line, before in zip(lines[2:], easy[2:], strict=True))
    row = evaluation.table.query("phase == 'oracle' and quality == 'c40' and level == 'video' and split == 'test_hard'").iloc[0]
    assert lines[-1].endswith(f"| {row.auc:.3f} [{row.auc_lo:.3f}, {row.auc_hi:.3f}] |")


def test_a_readme_without_its_blocks_is_refused(tmp_path):
    evaluation = evaluate(make_predictions(), resamples=20)
    path = tmp_path / "README.md"
    path.write_text("nothing here")
    with pytest.raises(ValueError, match="has no block <!-- claim -->"):
        readme.update(get_profile("synthff"), evaluation, {"differences": report.differences_table(evaluation)}, path)

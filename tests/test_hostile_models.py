"""Packaged models that anybody may hand to the instrument: one line each that names the file and the remedy, and no crash."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile_models import CASES, MEGABYTES, REMEDY, SECONDS

from utils.learn.packaged import load_packaged, packaged_folder
from utils.learn.verdicts import opinion
from utils.run import score

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return what became of each model; they are tried one after another by one script."""
    folder = tmp_path_factory.mktemp("models")
    environment = os.environ | {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "hostile_models.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


def test_there_are_many_and_none_is_lost(results):
    assert len(CASES) == len(results) > 300


@pytest.mark.parametrize("name", CASES)
def test_a_model_gets_its_line_in_time(name, results):
    row, says = results[name], CASES[name].says
    assert row["seconds"] < SECONDS and row["megabytes"] < MEGABYTES and not row["hacked"]
    if not says:
        assert row["code"] in (0, 1, 3) and "face 1," in row["text"]
        return
    assert row["code"] == score.UNREADABLE and row["text"].startswith("error: ") and row["text"].count("\n") == 1
    assert re.search(says, row["text"]) and re.search(REMEDY, row["text"]) and len(row["text"]) < 700, row["text"]


def test_scores_that_are_no_numbers_get_no_verdict():
    """Of a network that gave numbers when it was tried out, and gives none of somebody's face."""
    model, crops = load_packaged(packaged_folder(score.SHIPPED)), np.zeros((4, 128, 128, 3), np.uint8)
    model.model.head.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="scores that are no numbers: package"):
        opinion(crops, np.full(4, 100), model)

"""What anybody may hand to the instrument: one line each, in bounded time and memory, and no crash."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hostile_models
import pandas as pd
import pytest
from hostile_files import CASES, MEGABYTES, SECONDS

from utils.paths import BENCHMARKS

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return what became of each file; they are scored one after another by one script."""
    folder = tmp_path_factory.mktemp("files")
    environment = os.environ | {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "hostile_files.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


def test_there_are_many_and_none_is_lost(results):
    assert len(CASES) == len(results) > 100


@pytest.mark.parametrize("name", CASES)
def test_a_file_gets_its_line_in_time(name, results):
    row = results[name]
    assert re.search(CASES[name].says, row["text"]), row["text"]
    assert row["code"] in (0, 1, 2, 3) and (row["code"] == 2) == ("error: " in row["text"])
    assert "Traceback" not in row["text"] and row["seconds"] < SECONDS and row["megabytes"] < MEGABYTES
    errors = [line for line in row["text"].splitlines() if line.startswith("error: ")]
    assert len(errors) <= 1 and all(len(line) < 700 for line in errors)


def test_nothing_but_the_file_is_read(results):
    """Playlists that name another file, which shows a face, find none."""
    for name in ("ffconcat", "m3u8", "m3u8_named_mp4"):
        assert "face 1" not in results[name]["text"]


def test_the_committed_table_has_every_file_and_model_and_no_place_of_this_machine():
    """`benchmarks/hostile.py` makes it; what is said today is held to its pattern above."""
    table = pd.read_csv(BENCHMARKS / "hostile.csv")
    for kind, cases in (("file", CASES), ("model", hostile_models.CASES)):
        names = table.loc[table["kind"] == kind, "name"].tolist()
        assert names == list(cases), set(names) ^ set(cases)
    assert set(table["outcome"]) == {"error", "abstains", "real"} and table["said"].notna().all()  # the face is a real one's
    assert not table["said"].str.contains(r"(?:^|[ (])/(?!dev|proc|etc)", regex=True).any()

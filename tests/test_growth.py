"""The benchmark of growth, and the trees that it grows."""

from __future__ import annotations

import importlib

import pandas as pd
import pytest

from utils.faces.ffpp import build_index, missing_counterparts
from utils.paths import ROOT


@pytest.fixture
def growth(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("growth")


def test_a_tree_of_any_size_is_complete_and_its_videos_are_real(growth, tmp_path):
    trees = importlib.import_module("trees")
    root = trees.make_tree(tmp_path / "tree", 1000)
    index = build_index(root, ("NeuralTextures",), ("c23", "c40"))
    assert len(index) == 1000 and missing_counterparts(index).empty
    people = index.groupby("split")["target"].nunique()
    assert people.to_dict() == {"train": 178, "val": 36, "test": 36}
    assert all(open(path, "rb").read(12)[4:8] == b"ftyp" for path in index["path"][:20])
    assert trees.make_tree(root, 1000) == root
    for videos in (16, 50):
        with pytest.raises(ValueError, match=f"{videos} videos: a multiple of 8 from 24"):
            trees.make_tree(tmp_path / "other", videos)


def test_the_fit_finds_slope_and_interval(growth):
    videos = [100, 200, 400, 800]
    rows = [{"videos": n, "stage": "index", "seconds": 2 + 0.003 * n, "own_mb": 90 + (-1) ** i} for i, n in enumerate(videos)]
    lines = growth.fitted(pd.DataFrame(rows)).set_index("measure")
    assert lines.loc["seconds", ["at_0", "a_1000", "lo", "hi"]].tolist() == pytest.approx([2, 3, 3, 3])
    assert lines.loc["own_mb", "lo"] < 0 < lines.loc["own_mb", "hi"]


@pytest.mark.slow
def test_points_are_measured_in_fresh_processes_and_once(growth, tmp_path, monkeypatch, capsys):
    path, figure = tmp_path / "growth.csv", tmp_path / "growth.svg"
    monkeypatch.setattr("sys.argv", ["growth", "--videos", "24", "--jobs", "1", "--csv", str(path), "--figure", str(figure)])
    growth.main()
    table = pd.read_csv(path)
    assert list(table) == growth.COLUMNS and set(table["stage"]) == set(growth.STAGES) and figure.is_file()
    memory = table.set_index("stage")["own_mb"]
    assert (table["seconds"] > 0).all() and memory["training"] > memory["index"] > 20
    asked = []
    monkeypatch.setattr(growth, "measure", lambda videos, todo, jobs: asked.append((videos, todo)) or [])
    table[table["stage"] != "training"].to_csv(path, index=False)
    growth.fill([24], path, jobs=1)
    assert asked == [(24, ["training"])]


def test_rows_of_another_machine_are_not_added_to(growth, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "measure", lambda *given: pytest.fail("something was measured"))
    path = tmp_path / "growth.csv"
    row = dict.fromkeys(growth.COLUMNS, 1) | {"videos": 24, "stage": "index", "cores": 2, "machine": "an older one"}
    pd.DataFrame([row]).to_csv(path, index=False)
    before = path.read_bytes()
    for jobs, named in ((1, "cores 2, and this is 1"), (2, "machine an older one, and this is ")):
        with pytest.raises(SystemExit, match=f"growth.csv has rows of {named}.*: name another --csv"):
            growth.fill([24], path, jobs)
    assert path.read_bytes() == before

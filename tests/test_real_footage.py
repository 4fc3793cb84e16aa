"""The smoke test on filmed people: every face gets a row, and counts are said as counts."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
from PIL import Image

from utils.checks import real_footage
from utils.config import SHIPPED
from utils.faces.layout import video_path
from utils.learn.packaged import load_packaged, packaged_folder
from utils.paths import REAL_FOOTAGE, SYNTHFF


def test_every_face_of_every_file_gets_a_row(tmp_path, monkeypatch, capsys):
    shutil.copy(video_path(SYNTHFF[1], "NeuralTextures", "c23", "270_271"), tmp_path / "fake.mp4")
    Image.new("RGB", (200, 100), "gray").save(tmp_path / "nobody.png")
    (tmp_path / "notes.txt").write_text("no picture")
    monkeypatch.setattr(real_footage.assets, "fetch_real", lambda: tmp_path)
    real_footage.main(["--out", str(tmp_path / "out.csv")])
    table = pd.read_csv(tmp_path / "out.csv")
    assert list(table.columns) == real_footage.COLUMNS and list(table["file"]) == ["fake.mp4", "nobody.png"]
    assert list(table["face"]) == [1, 0] and list(table["verdict"]) == ["fake", "abstains"] and table["score"].iloc[0] > 0.5
    assert "1 faces in 1 of 2 files: abstains of 0 of 1, calls 1 of 1 fake; if it did not abstain, it would call 1 of 1" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("where", ["empty", "folder", "file"])
def test_nothing_is_written_over_the_table_where_nothing_was_seen(where, tmp_path, monkeypatch, capsys):
    clips, out = tmp_path / "clips", tmp_path / "out.csv"
    clips.mkdir()
    out.write_text("before")
    monkeypatch.setattr(real_footage.assets, "fetch_real", lambda: clips)
    if where != "empty":
        Image.new("RGB", (64, 64), "gray").save(clips / "nobody.png")
    wanted = {"empty": out, "folder": clips, "file": out / "below.csv"}[where]
    with pytest.raises(SystemExit) as ended:
        real_footage.main(["--out", str(wanted)])
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("error: ") and out.read_text() == "before"


def test_the_committed_table_is_of_the_model_that_is_shipped():
    table = pd.read_csv(REAL_FOOTAGE)
    limits = load_packaged(packaged_folder(SHIPPED)).domain.limits
    assert set(table["model"]) == {SHIPPED} and set(table["verdict"]) <= {"fake", "real", "abstains"}
    faces = table[table["face"] > 0]
    assert len(faces) > 10 and all(min(abs(one - limit) for limit in limits) < 1e-3 for one in faces["limit"])

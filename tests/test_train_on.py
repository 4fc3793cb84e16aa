"""From a folder of somebody's real videos to a model that the instrument takes, without any fake."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from utils.config import REDRAWERS, InstrumentConfig, SelfRenderedConfig
from utils.faces.layout import video_path
from utils.learn import self_rendered as learning
from utils.learn.packaged import load_packaged
from utils.paths import SYNTHFF
from utils.run import score, train_on


def test_people_are_folders_or_files_and_too_few_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        train_on.find_people(tmp_path / "none")
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").touch()
    with pytest.raises(ValueError, match="videos of 3 people .files with.*at least 6"):
        train_on.find_people(tmp_path)
    for person in range(6):
        (tmp_path / "sub" / f"p{person}" / "deep").mkdir(parents=True)
        for clip in ("one.mp4", "deep/two.MOV", "notes.txt"):
            (tmp_path / "sub" / f"p{person}" / clip).write_text("x")
    people = train_on.find_people(tmp_path / "sub")
    assert list(people) == [f"p{k}" for k in range(6)] and {len(paths) for paths in people.values()} == {2}


def test_people_are_split_by_seed_and_nobody_is_in_two():
    names = [f"p{k}" for k in range(20)]
    one, two, other = (train_on.split_people(names, seed) for seed in (0, 0, 1))
    assert one == two != other and set(one) == set(names)
    assert sorted(one.values()) == ["test"] * 3 + ["train"] * 14 + ["val"] * 3
    assert set(train_on.split_people(names[:6], 0).values()) == {"train", "val", "test"}
    path = video_path(SYNTHFF[1], "original", "c23", "000")
    index = train_on.index_of({"a": [path] * 2, "b": []}, {"a": "val", "b": "train"})
    assert index["video_id"].is_unique and set(index["pair"]) == {"000000"} and set(index["label"]) == {0}


def test_two_folders_have_workspaces_of_their_own(tmp_path):
    one, two = (train_on.own_profile(tmp_path / name).workspace.work for name in "ab")
    assert one != two and one.parent == two.parent and one.parent.name == "own"


@pytest.mark.slow
def test_a_folder_of_real_videos_becomes_a_model(tmp_path, monkeypatch, capsys):
    torch.set_num_threads(1)
    monkeypatch.setattr(train_on, "WORK", tmp_path / "work")
    monkeypatch.setattr(train_on, "INSTRUMENT", InstrumentConfig(gauge_videos=2))
    monkeypatch.setattr(learning, "REDRAWERS", {"code_nearest": replace(REDRAWERS["code_nearest"], steps=8, batch=4)})
    for number in range(7):
        folder = tmp_path / "clips" / f"person {number}"
        folder.mkdir(parents=True)
        shutil.copy(video_path(SYNTHFF[1], "original", "c23", f"{number:03d}"), folder / "a.mp4")
    (tmp_path / "clips" / "person 0" / "broken.mp4").write_bytes(b"no video")
    settings = SelfRenderedConfig(redrawers=("code_nearest",))
    made = train_on.train_on(tmp_path / "clips", tmp_path / "model", "mine", steps=2, jobs=1, settings=settings)
    said = capsys.readouterr().err
    assert "left out: " in said and "broken.mp4" in said
    assert made.card["trained_on"] == "7 real people in 7 videos of clips, and no fake"
    assert made.card["validated"]["people"] == 1
    assert "a score is evidence" in (tmp_path / "model" / "README.md").read_text()
    assert load_packaged(tmp_path / "model").card == made.card
    assert {row["split"] for row in made.card["measured"]} == {"test"}
    assert score.main([str(tmp_path / "clips" / "person 1" / "a.mp4"), "--model", str(tmp_path / "model")]) in (0, 1, 3)

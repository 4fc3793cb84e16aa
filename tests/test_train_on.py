"""From a folder of somebody's real videos to a model that the instrument takes, without any fake."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from utils.config import REDRAWERS, SHIPPED, InstrumentConfig, SelfRenderedConfig
from utils.faces.layout import video_path
from utils.learn import packaged
from utils.learn import self_rendered as learning
from utils.learn.packaged import load_packaged, packaged_folder
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
    with pytest.raises(ValueError, match="holds folders and 'a.mp4' beside them: move each file"):
        train_on.find_people(tmp_path)


@pytest.mark.parametrize(
    ("name", "plain"), [("Meine\u00a0Videos", "Meine Videos"), ("3.04.05\u202fPM", "3.04.05 PM"), ("caf\udce9", "caf"),
                        ("two\nlines", "two lines"), ("x" * 300, "x" * 100), ("\x1b", "videos")]
)  # fmt: skip
def test_a_folders_name_is_made_one_that_a_card_takes(name, plain, tmp_path):
    assert train_on.plain(name) == plain and packaged._is_line(f"6 real people in 9 videos of {plain}, and no fake")
    assert train_on.own_profile(tmp_path / name[:50]).data.name == plain[:50]


@pytest.mark.parametrize("wrong", [["--steps", "0"], ["--steps", "-1"], ["--seed", "-1"], ["--jobs", "0"]])
def test_numbers_are_checked_before_the_work_begins(wrong, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        train_on.main([str(tmp_path), *wrong])
    assert ended.value.code == 2 and f"argument {wrong[0]}: " in capsys.readouterr().err


def test_names_that_begin_with_a_dot_are_no_videos(tmp_path):
    for number in range(6):
        (tmp_path / f"p{number}").mkdir()
        for name in ("one.mp4", "._one.mp4"):
            (tmp_path / f"p{number}" / name).touch()
    (tmp_path / ".Trashes" / "deep").mkdir(parents=True)
    (tmp_path / ".Trashes" / "deep" / "gone.mp4").touch()
    (tmp_path / "._loose.mp4").touch()
    people = train_on.find_people(tmp_path)
    assert {name: [path.name for path in paths] for name, paths in people.items()} == {f"p{k}": ["one.mp4"] for k in range(6)}


def test_people_are_split_by_seed_and_nobody_is_in_two():
    names = [f"p{k}" for k in range(20)]
    one, two, other = (train_on.split_people(names, seed) for seed in (0, 0, 1))
    assert one == two != other and set(one) == set(names)
    assert sorted(one.values()) == ["test"] * 3 + ["train"] * 14 + ["val"] * 3
    assert set(train_on.split_people(names[:6], 0).values()) == {"train", "val", "test"}
    path = video_path(SYNTHFF[1], "original", "c23", "000")
    index = train_on.index_of({"a": [path] * 2, "b": []})
    assert index["video_id"].is_unique and set(index["pair"]) == {"000000"} and set(index["label"]) == {0}


class Begun(Exception):
    """The training has begun, with these faces."""


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Return what goes on to the training with so many people, some of whom show no face, and gives the faces' table."""
    made = []

    def load(profile, faceless):
        found = made[-1][~made[-1]["target"].isin(faceless)].reset_index(drop=True)
        return found.assign(frame=0, row=range(len(found)), status="found"), np.zeros((len(found), 8, 8, 3), np.uint8)

    def trains(profile, faces, *others):
        raise Begun(faces.index)

    def begin(people: int, *faceless: int) -> pd.DataFrame:
        for number in range(people):
            (tmp_path / "clips" / f"p{number}").mkdir(parents=True)
            (tmp_path / "clips" / f"p{number}" / "a.mp4").touch()
        monkeypatch.setattr(train_on.crops, "load_crops", lambda profile: load(profile, [f"{each:06d}" for each in faceless]))
        with pytest.raises(Begun) as begun:
            train_on.train_on(tmp_path / "clips", tmp_path / "model", "mine")
        return begun.value.args[0]

    monkeypatch.setattr(train_on, "WORK", tmp_path / "work")
    monkeypatch.setattr(train_on, "self_rendered", trains)
    monkeypatch.setattr(train_on.crops, "extract_all", lambda index, *others: made.append(index))
    return begin


@pytest.mark.parametrize("faceless", range(7))
def test_people_without_a_face_are_left_out_before_people_are_split(begin, capsys, faceless):
    index = begin(7, faceless)
    assert f"left out: p{faceless}, of whom no video shows a face" in capsys.readouterr().err
    assert index.groupby("split")["target"].nunique().to_dict() == {"test": 1, "train": 4, "val": 1}
    wanted = train_on.split_people([f"p{k}" for k in range(7) if k != faceless], 0)
    assert {f"p{int(row.target)}": row.split for row in index.itertuples()} == wanted


def test_too_few_people_with_a_face_end_before_the_training(begin, capsys):
    with pytest.raises(ValueError, match="faces were found of 5 of 7 people: at least 6"):
        begin(7, 0, 3)
    said = capsys.readouterr().err
    assert "left out: p0," in said and "left out: p3," in said


def test_a_folder_of_videos_is_no_place_for_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_on, "find_people", lambda folder: pytest.fail("work has begun"))
    (tmp_path / "clips" / "p0").mkdir(parents=True)
    with pytest.raises(SystemExit) as left:
        train_on.main([str(tmp_path / "clips"), "--out", str(tmp_path / "clips")])
    said = capsys.readouterr().err
    assert left.value.code == 2 and "clips holds 'p0'" in said and said.count("\n") == 1
    assert (tmp_path / "clips" / "p0").is_dir()


def test_a_model_of_another_folder_is_replaced_only_where_that_is_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_on, "PACKAGED", tmp_path / "models")
    monkeypatch.setattr(train_on, "find_people", lambda folder: pytest.fail("work has begun"))
    shutil.copytree(packaged_folder(SHIPPED), tmp_path / "models" / "clips")
    (tmp_path / "clips").mkdir()
    with pytest.raises(SystemExit) as left:
        train_on.main([str(tmp_path / "clips")])
    said = capsys.readouterr().err
    assert left.value.code == 2 and said.count("\n") == 1
    assert "there is a model at " in said and "another --name, or --out" in said


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
    (tmp_path / "clips" / "nobody").mkdir()
    (tmp_path / "clips" / "nobody" / "broken.mp4").write_bytes(b"no video")
    settings = SelfRenderedConfig(redrawers=("code_nearest",))
    made = train_on.train_on(tmp_path / "clips", tmp_path / "model", "mine", steps=2, jobs=1, settings=settings)
    said = capsys.readouterr().err
    assert "left out: " in said and "broken.mp4" in said and "left out: nobody, of whom no video shows a face" in said
    assert made.card["trained_on"] == "5 real people in 5 videos of clips, and no fake"
    assert made.card["validated"]["people"] == 1
    assert "a score is evidence" in (tmp_path / "model" / "README.md").read_text()
    assert load_packaged(tmp_path / "model").card == made.card
    assert {row["split"] for row in made.card["measured"]} == {"test"}
    assert score.main([str(tmp_path / "clips" / "person 1" / "a.mp4"), "--model", str(tmp_path / "model")]) in (0, 1, 3)

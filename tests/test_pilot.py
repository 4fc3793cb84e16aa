"""Pilots: judged on training people who are neither labelled nor in the pool, and never done twice."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pandas as pd
import pytest
from test_study_cells import STUDY, one_thread, study_faces, tiny_study  # noqa: F401 - a fixture

from utils.config import get_profile
from utils.learn.cells import draw_people, folder_of, some_frames
from utils.learn.noisy_student import judge
from utils.paths import ROOT, WORK
from utils.protocol import STUDIES, usual_cell
from utils.run import pilot


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    usual, faces = tiny_study(tmp_path / "study", monkeypatch), study_faces(train=8)
    monkeypatch.setattr(pilot, "get_profile", lambda name: usual)
    monkeypatch.setattr(pilot, "load_faces", lambda profile: faces)
    monkeypatch.setattr(pilot, "FRAMES", 2)
    monkeypatch.setitem(STUDIES, "study", replace(STUDY, all_labels=12))
    pilots = {"own": pilot.Pilot({"pool": 4, "pool_split": "train"}), "other": pilot.Pilot({"student_steps": 4}, {"lr": 2e-3})}
    monkeypatch.setattr(pilot, "PILOTS", pilots)
    real = pilot.pilot_profile

    def below(name, owner):
        profile = real(name, owner)
        STUDIES[str(tmp_path / name)] = STUDIES.pop(profile.name)
        return replace(profile, name=str(tmp_path / name))

    monkeypatch.setattr(pilot, "pilot_profile", below)
    monkeypatch.setattr(pilot, "pilots_of", lambda owner: tmp_path / f"{owner}.csv")
    return tmp_path


def test_a_pilot_judges_people_whom_its_cell_has_not_seen(tiny):
    path = tiny / "me.csv"
    table = pilot.run_pilots("me", ["own", "other"], ["teacher", "student_compression"], [0], 1)
    assert list(pd.read_csv(path)) == pilot.COLUMNS and len(table) == 4
    people = table.set_index(["pilot", "arm"])["people"]
    assert people["other", "teacher"] == people["other", "student_compression"] == 16 - 2  # two of four with labels validate
    assert people["own", "teacher"] == people["own", "student_compression"] == 16 - 2 - 4  # the pool is of the same split
    assert table[["auc_c23", "auc_c40"]].stack().between(0, 1).all() and (table["minutes"] >= 0).all()


def test_what_stands_in_the_table_is_not_done_again(tiny, monkeypatch):
    first = pilot.run_pilots("me", ["own"], ["teacher"], [0], 1)
    monkeypatch.setattr(pilot, "run_pilot", None)
    pd.testing.assert_frame_equal(pilot.run_pilots("me", ["own"], ["teacher"], [0], 1), first, check_dtype=False)


def test_pilots_of_the_main_job_follow_todays_settings(tiny, monkeypatch):
    numbers = iter((1, 2))
    monkeypatch.setattr(pilot, "run_pilot", lambda owner, name, arm, seed: dict.fromkeys(pilot.COLUMNS, next(numbers)) | {
        "pilot": name, "arm": arm, "seed": seed})  # fmt: skip
    for expected in (1, 2):  # the run itself is loaded where nothing has changed
        pilot.run_pilots("repeat", ["own"], ["teacher"], [0], 1)
        assert pd.read_csv(pilot.pilots_of("repeat"))["auc_c40"].tolist() == [expected]


def test_two_calls_at_once_keep_each_others_rows(tiny, monkeypatch):
    def row(owner, name, arm, seed):
        return dict.fromkeys(pilot.COLUMNS, 0) | {"pilot": name, "arm": arm, "seed": seed}

    def slowly(path, read=pilot.read_pilots):
        table = read(path)
        time.sleep(0.02)  # the other call would write meanwhile
        return table

    monkeypatch.setattr(pilot, "run_pilot", row)
    monkeypatch.setattr(pilot, "read_pilots", slowly)
    with ThreadPoolExecutor(2) as calls:
        list(calls.map(lambda name: pilot.run_pilots("me", [name], ["teacher"], range(5), 1), ("own", "other")))
    table = pd.read_csv(tiny / "me.csv")
    assert len(table) == 10 and not table.duplicated(["pilot", "seed"]).any()
    assert sorted(path.name for path in tiny.glob("*.csv*")) == ["me.csv"]  # and no lock is left beside it
    (tiny / "me.csv").write_text("pilot,arm\nown,teacher\n")
    with pytest.raises(ValueError, match="me.csv: no column labels, pool, .*git checkout"):
        pilot.run_pilots("me", ["own"], ["teacher"], [0], 1)


def test_a_pilot_of_another_environment_is_refused(tiny, monkeypatch):
    elsewhere = replace(pilot.PILOTS["own"], under={"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"})
    monkeypatch.setitem(pilot.PILOTS, "elsewhere", elsewhere)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    with pytest.raises(ValueError, match="elsewhere is to be run in the environment ONEDNN_MAX_CPU_ISA=AVX2"):
        pilot.run_pilots("me", ["elsewhere"], ["teacher"], [0], 1)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    with pytest.raises(ValueError, match="own is to be run in the environment without ATEN_CPU_CAPABILITY and ONEDNN"):
        pilot.run_pilots("me", ["own"], ["teacher"], [0], 1)
    assert not (tiny / "me.csv").exists()


def test_pilots_change_the_study_alone_and_the_small_one_needs_no_pool():
    small = pilot.PILOTS["small"]
    assert small.faces == "study-small" and set(get_profile(small.faces).data.splits) == {"train", "val"}
    profile = pilot.pilot_profile("small")
    assert STUDIES[profile.name].pool_split == "train" and profile.data == get_profile("study").data
    assert STUDIES["study"].pool_split == "pool"
    assert pilot.pilots_of("study").is_relative_to(ROOT / "data" / "study") and pilot.pilots_of("repeat").is_relative_to(WORK)


def test_a_pilot_can_tell_a_student_the_truth_and_only_there(tiny, monkeypatch):
    monkeypatch.setitem(pilot.PILOTS, "truth", replace(pilot.PILOTS["own"], truth=True))
    pilot.run_pilots("me", ["truth", "own"], ["student_compression"], [0], 1)
    right = {}
    for name in ("truth", "own"):
        profile, faces = pilot.pilot_profile(name, "me"), pilot.load_faces(None)
        cell = usual_cell(STUDIES[profile.name], "student_compression", profile.student_model, 0)
        people = draw_people(STUDIES[profile.name], cell, faces).pool
        pool = some_frames(faces.select(split="train", pairs=people), cell.frames)
        judged = judge(folder_of(profile, cell), pool, 0)
        right[name] = judged["right"].sum() / judged["frames"].sum()
    assert right["truth"] == 1 and right["own"] < 1  # an untrained teacher guesses

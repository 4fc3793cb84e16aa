"""The user study: a fair draw, sheets that agree with the key and tell nothing else, scores as computed by hand."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from fake_faces import make_faces, tiny_profile
from mock_predictions import write_predictions
from PIL import Image

from utils.checks import user_study
from utils.paths import Workspace

KEY = pd.DataFrame(
    {
        "number": [1, 2, 3, 4, 5, 6],
        "quality": ["c23", "c23", "c23", "c40", "c40", "c40"],
        "method": ["original", "NeuralTextures"] * 3,
        "video_id": ["000", "001_002", "002", "003_004", "004", "005_006"],
        "frame": 0,
        "label": [0, 1, 0, 1, 0, 1],
    }
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def faces():
    """512 crops of 16 px, each in one colour that spells its row in base 8."""
    index = make_faces(train=1, val=1, test=30, frames=2).index
    digits = np.stack([index["row"] // 8**place % 8 for place in range(3)], axis=1)
    colours = (digits * 32 + 16).astype(np.uint8)
    return index, np.tile(colours[:, None, None], (1, 16, 16, 1))


def form(folder, *lines, header="number,answer"):
    path = folder / "answers.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_draw_is_balanced_and_shows_a_person_once(faces):
    found, _ = faces
    drawn = user_study.draw_faces(found, seed=0)
    assert drawn["number"].tolist() == list(range(1, 61))
    assert drawn["quality"].tolist() == ["c23"] * 30 + ["c40"] * 30
    assert drawn.groupby(["quality", "label"]).size().tolist() == [15] * 4
    people = drawn["video_id"].str[:3]
    assert people.is_unique and set(people) == set(found.query("split == 'test'")["target"])
    columns = ["quality", "method", "video_id", "frame", "label"]
    rows = found.set_index("row").loc[drawn["row"], [*columns, "split"]].reset_index(drop=True)
    assert rows[columns].equals(drawn[columns]) and set(rows["split"]) == {"test"}
    assert drawn["frame"].nunique() == 2
    for _, half in drawn.groupby("quality"):
        assert 5 < half["label"].diff().abs().sum() < 25  # neither sorted by class nor alternating


def test_draw_depends_on_the_seed_alone(faces):
    found, _ = faces
    first = user_study.draw_faces(found, seed=3)
    shuffled = found.sample(frac=1, random_state=1)
    assert first.equals(user_study.draw_faces(found, seed=3)) and first.equals(user_study.draw_faces(shuffled, seed=3))
    assert not first["video_id"].equals(user_study.draw_faces(found, seed=4)["video_id"])


def test_few_people_give_a_small_study_and_too_few_none():
    found = make_faces(train=1, val=1, test=3).index
    assert user_study.draw_faces(found).groupby(["quality", "label"]).size().tolist() == [1] * 4
    with pytest.raises(ValueError, match="too few test people for a user study: 2"):
        user_study.draw_faces(make_faces(test=1).index)
    with pytest.raises(ValueError, match="too few test people for a user study: 0"):
        user_study.draw_faces(found[found["split"] != "test"])


def test_nobody_is_drawn_who_was_missed_in_one_view():
    found = make_faces(train=1, val=1, test=4).index
    person = found.query("split == 'test'")["target"].iloc[0]
    found = found[~((found["target"] == person) & (found["quality"] == "c40") & (found["label"] == 1))]
    drawn = [user_study.draw_faces(found, seed) for seed in range(8)]
    assert all(len(table) == 4 for table in drawn)
    assert len({name for table in drawn for name in table["video_id"].str[:3]} | {person}) == 8
    assert not any((table["video_id"].str[:3] == person).any() for table in drawn)


def test_saved_sheets_show_the_faces_of_the_key_under_its_numbers(faces, tmp_path):
    found, crops = faces
    space = Workspace(tmp_path)
    key = user_study.write_study(found, crops, space, seed=5, close=False)
    assert key.equals(user_study.read_key(space)) and list(key) == user_study.KEY_COLUMNS
    places = found.set_index(["quality", "video_id", "frame"])["row"]
    figures = [plt.figure(number) for number in plt.get_fignums()]
    for fig, (quality, part) in zip(figures, key.groupby("quality"), strict=True):
        picture = np.asarray(Image.open(user_study.sheet_path(space, quality)))
        height, width = picture.shape[:2]
        assert [ax.get_title() for ax in fig.axes] == [str(number) for number in part["number"]]
        for ax, row in zip(fig.axes, part.itertuples(), strict=True):
            box = ax.get_position()
            assert min(box.width * width, box.height * height) >= 120
            x, y = round((box.x0 + box.x1) / 2 * width), round((1 - (box.y0 + box.y1) / 2) * height)
            crop = crops[places[row.quality, row.video_id, row.frame], 0, 0]
            assert np.abs(picture[y, x].astype(int) - crop).max() < 12  # colours are 32 apart


def test_a_sheet_is_told_numbers_only_and_its_file_says_nothing_else(faces, tmp_path):
    assert list(inspect.signature(user_study.contact_sheet).parameters) == ["crops", "numbers"]
    found, crops = faces
    user_study.write_study(found, crops, Workspace(tmp_path), close=False)
    shown = [text.get_text() for number in plt.get_fignums() for text in plt.figure(number).findobj(plt.Text)]
    assert sorted(filter(None, shown), key=int) == [str(number) for number in range(1, 61)]
    for path in tmp_path.rglob("*.jpg"):
        picture = Image.open(path)
        assert not picture.getexif() and set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}


def test_incomplete_last_row_keeps_its_order():
    crops = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.full((1, 4, 4, 3), 30, np.uint8)
    fig = user_study.contact_sheet(crops, list(range(31, 39)))
    shown = {ax.get_title(): int(ax.images[0].get_array()[0, 0, 0]) for ax in fig.axes if ax.images}
    assert shown == {str(31 + index): 30 * index for index in range(8)}


def test_the_same_study_has_the_same_bytes(faces, tmp_path):
    found, crops = faces
    for name in ("a", "b"):
        user_study.write_study(found, crops, Workspace(tmp_path / name))
    assert plt.get_fignums() == []
    files = [sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("a", "b")]
    assert [path.name for path in files[0]] == ["answers_template.csv", "key.csv", "user_study_c23.jpg", "user_study_c40.jpg"]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_template_filled_in_is_read_back(faces, tmp_path):
    found, crops = faces
    space = Workspace(tmp_path)
    key = user_study.write_study(found, crops, space)
    text = (space.user_study / user_study.TEMPLATE).read_text()
    lines = text.splitlines()
    assert lines[0] == "number,answer" and lines[1:] == [f"{number}," for number in range(1, 61)]
    words = key["label"].map({0: "real", 1: "F"})
    path = tmp_path / "answers.csv"
    filled = [lines[0], *(line + word for line, word in zip(lines[1:], words, strict=True))]
    path.write_text("\r\n".join(filled), encoding="utf-8-sig")  # as spreadsheets write it
    answers = user_study.read_answers(path, key)
    assert answers.to_dict() == dict(zip(key["number"], key["label"], strict=True))


def test_words_are_understood_and_gaps_left_out(tmp_path):
    path = form(tmp_path, "3, Real ", "1,f", "2,", "", "4,r", "6,FAKE")
    assert user_study.read_answers(path, KEY).to_dict() == {3: 0, 1: 1, 4: 0, 6: 1}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,real", "2,maybe"], r"answers.csv, line 3: answer 'maybe': write real or fake \(r or f\)"),
        (["1,real", "7,fake"], "answers.csv, line 3: number '7' is not in the key: use 1 to 6"),
        (["x,real"], "answers.csv, line 2: number 'x' is not in the key"),
        (["1,real", "2,", "1,real"], "answers.csv, line 4: number 1 comes twice"),
        (["1,", "2"], "answers.csv: no face is answered"),
    ],
)
def test_bad_answers_are_refused(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        user_study.read_answers(form(tmp_path, *lines), KEY)


def test_files_that_are_no_answer_form_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no answers at .*: copy answers_template.csv there"):
        user_study.read_answers(tmp_path / "missing.csv", KEY)
    with pytest.raises(ValueError, match="answers.csv, line 1: expected `number,answer`"):
        user_study.read_answers(form(tmp_path, "1;real", header="number;answer"), KEY)
    path = tmp_path / "answers.csv"
    path.write_bytes(b"number,answer\n1,\xff\xfe\n")
    with pytest.raises(ValueError, match="is no text"):
        user_study.read_answers(path, KEY)
    with pytest.raises(FileNotFoundError, match="no key at .*: run notebook 02"):
        user_study.read_key(Workspace(tmp_path))


def test_scores_by_hand():
    answers = pd.Series({1: 0, 2: 0, 3: 1, 4: 1, 6: 1})  # right: 1, 4, 6; 5 is not answered
    table = user_study.score(answers, KEY).set_index(["quality", "faces"])
    counts = {key: tuple(row) for key, row in table[["shown", "answered", "right"]].iterrows()}
    assert counts == {
        ("all", "all"): (6, 5, 3), ("all", "real"): (3, 2, 1), ("all", "fake"): (3, 3, 2),
        ("c23", "all"): (3, 3, 1), ("c23", "real"): (2, 2, 1), ("c23", "fake"): (1, 1, 0),
        ("c40", "all"): (3, 2, 2), ("c40", "real"): (1, 0, 0), ("c40", "fake"): (2, 2, 2),
    }  # fmt: skip
    assert table.loc[("all", "all"), "accuracy"] == pytest.approx(3 / 5)
    assert table.loc[("c40", "real"), ["accuracy", "lo", "hi"]].isna().all()


@pytest.mark.parametrize(("right", "answered"), [(7, 10), (0, 5), (30, 30), (41, 60)])
def test_wilson_interval_against_its_formula(right, answered):
    z, p = 1.959963984540054, right / answered
    middle = (p + z**2 / (2 * answered)) / (1 + z**2 / answered)
    half = z / (1 + z**2 / answered) * np.sqrt(p * (1 - p) / answered + z**2 / (4 * answered**2))
    assert user_study.wilson(right, answered) == pytest.approx((p, middle - half, middle + half), abs=1e-9)


def predictions():
    """Two runs: `sharp` separates validation between .7 and .9, so its threshold is .8; `blunt` is at chance there."""
    rows = []
    for run in ("blunt", "sharp"):
        for quality in ("c23", "c40"):
            valid = [("100", 0, 0.7), ("101", 0, 0.6), ("100_101", 1, 0.9), ("101_100", 1, 0.95)]
            if run == "blunt":
                valid = [(video, label, 0.5) for video, label, _ in valid]
            test = {"000": 0.75, "001_002": 0.79, "002": 0.1, "003_004": 0.81, "004": 0.85, "005_006": 0.99}
            rows += [(run, "val", quality, video, label, value) for video, label, value in valid]
            rows += [(run, "test", quality, video, int("_" in video), value) for video, value in test.items()]
    table = pd.DataFrame(rows, columns=["run", "split", "quality", "video_id", "label", "score"])
    method = table["label"].map({0: "original", 1: "NeuralTextures"})
    return table.assign(model="xception", phase="trained", seed=0, method=method, frame=0)


def test_network_is_chosen_and_cut_on_validation():
    run, answers = user_study.network_answers(predictions(), KEY)
    assert run == "sharp"
    assert answers.to_dict() == {1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 1}  # at one half, 1 and 2 would be fake


def test_predictions_of_other_faces_are_not_used():
    assert user_study.network_answers(predictions().query("video_id != '004'"), KEY) is None
    moved = predictions().assign(frame=lambda table: 5 * (table["split"] == "test"))
    assert user_study.network_answers(moved, KEY) is None
    other = predictions().assign(method=lambda table: table["method"].replace("NeuralTextures", "Face2Face"))
    assert user_study.network_answers(other, KEY) is None


@pytest.fixture
def home(tmp_path, monkeypatch):
    profile = tiny_profile(tmp_path)
    profile.workspace.user_study.mkdir(parents=True)
    KEY.to_csv(profile.workspace.user_study / "key.csv", index=False)
    monkeypatch.setattr(user_study, "get_profile", lambda name: profile)
    return profile


def test_command_line_without_predictions(home, tmp_path, capsys):
    user_study.main([str(form(tmp_path, "1,real", "2,fake", "3,fake", "4,fake", "6,r"))])
    printed = capsys.readouterr().out
    assert "Of 6 faces 5 were answered, 3 of them rightly: 60 % [23 %, 88 %]" in printed.replace("%", " %")
    assert "within this interval" in printed and "sharp" not in printed
    humans = next(line for line in printed.splitlines() if "Roessler" in line)
    assert all(value in humans for value in ("68.69%", "66.57%", "58.73%"))


def test_network_stands_beside_the_reader(home, tmp_path):
    write_predictions(home.workspace.results, predictions())
    answers = user_study.read_answers(form(tmp_path, "1,real", "5,fake"), KEY)
    table = user_study.compare(answers, KEY, home)
    right = table.query("quality == 'all' and faces == 'all'").set_index("who")["right"]
    assert right.to_dict() == {"you": 1, "sharp": 4}
    text = user_study.readable(table)
    assert list(text) == ["all", "c23", "c40", "raw"]
    assert text.loc[("sharp", "all"), "all"].startswith("67% [") and text.loc[("you", "fake"), "c23"] == "none answered"


@pytest.mark.parametrize("name", ["answers", "key"])
def test_command_line_stops_with_one_line(home, tmp_path, capsys, name):
    path = tmp_path / "missing.csv"
    if name == "key":
        path = form(tmp_path, "1,real")
        (home.workspace.user_study / "key.csv").unlink()
    with pytest.raises(SystemExit) as stopped:
        user_study.main([str(path)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith(f"error: no {name} at ") and error.count("\n") == 1

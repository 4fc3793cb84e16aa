"""Where the packaged network looks: shares that are known, masks cut out as faces are, groups, ratios, and damaged files."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from utils.checks import where_it_looks as check
from utils.config import SHIPPED, get_profile
from utils.faces.layout import mask_path, video_path
from utils.faces.video import frames_at
from utils.learn.dataset import FaceSet
from utils.learn.packaged import load_packaged, packaged_folder
from utils.paths import SYNTHFF, WHERE_IT_LOOKS
from utils.results import where_it_looks as results
from utils.results.footage import attention
from utils.results.where_it_looks import RANDOM, TRAINED
from utils.results.where_it_looks_plots import WHERE_FIGURES

# ---- shares ---------------------------------------------------------------------------------------------------------------


def test_shares_of_known_maps():
    masks = np.zeros((4, 8, 8), bool)
    masks[:, 2:4, 2:6] = True  # an eighth of the picture
    inner, flat, half, cold = masks[0] * 1.0, np.ones((8, 8)), np.zeros((8, 8)), np.zeros((8, 8))
    half[3, 3] = half[7, 7] = 0.5
    shares = check.inside(np.stack([inner, flat, half, cold]), masks)
    assert shares[:3].tolist() == [1, masks[0].mean(), 0.5] and np.isnan(shares[3])
    assert shares[1] / masks[1].mean() == 1  # a map that does not care
    with pytest.raises(ValueError, match="differ in shape"):
        check.inside(np.ones((1, 8, 8)), np.ones((1, 4, 4), bool))


@pytest.fixture(scope="module")
def model():
    return load_packaged(packaged_folder(SHIPPED))


def test_no_map_of_the_network_has_more_inside_than_its_cells_allow(model):
    size = model.faces.size
    cells = check.cells_of(model.model, size)
    assert cells.shape == (16, size, size) and np.allclose(cells.sum(axis=0), 1, atol=1e-5)  # together they are flat
    masks = np.zeros((3, size, size), bool)
    masks[0, 70:100, 40:90] = masks[1, :10, :10] = masks[2] = True
    most = check.most_inside(cells, masks)
    slow = [max((cell * mask).sum() / cell.sum() for cell in cells) for mask in masks]
    assert np.allclose(most, slow) and most[2] == pytest.approx(1)
    crops = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    shares = check.inside(attention(check.drawn_anew(model.model, 0), crops), masks)
    assert (shares[np.isfinite(shares)] <= most[np.isfinite(shares)] + 1e-6).all()


def test_random_weights_are_another_network_of_the_same_kind(model):
    one, again, other = (check.drawn_anew(model.model, seed).state_dict() for seed in (0, 0, 1))
    assert {key: value.shape for key, value in one.items()} == {k: v.shape for k, v in model.model.state_dict().items()}
    weights = [key for key, value in one.items() if key.endswith("weight") and value.ndim == 4]
    assert len(weights) > 40
    for key in weights:
        assert one[key].equal(again[key]) and not one[key].equal(other[key])
        assert not one[key].equal(model.model.state_dict()[key])


# ---- clips ----------------------------------------------------------------------------------------------------------------


def face_table(method, video, label, squares, quality="c23") -> pd.DataFrame:
    frames = [5 * place for place in range(len(squares))]
    about = {"method": method, "video_id": video, "quality": quality, "split": "test", "pair": "270_271", "label": label}
    boxes = pd.DataFrame(squares, columns=["x0", "y0", "x1", "y1"])
    return boxes.assign(**about, target=video[:3], frame=frames)


def test_masks_are_cut_out_as_their_faces_are():
    path = mask_path(SYNTHFF[1], "NeuralTextures", "270_271")
    whole = frames_at(path, {0, 5})
    height, width = whole[0].shape[:2]
    squares = [(0, 0, height, height), (-20, 40, 108, 168)]  # the second leaves the picture
    masks = check.masks_of(str(path), face_table("NeuralTextures", "270_271", 1, squares), height)
    assert masks.shape == (2, height, height) and masks.dtype == bool
    white = whole[0][..., 0] > 127
    assert width == height and np.array_equal(masks[0], white) and masks[0].mean() == pytest.approx(white.mean())
    rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    assert 0.01 < white.mean() < 0.3 and rows.mean() > height / 2 and abs(columns.mean() - width / 2) < width / 4  # a mouth
    assert 0 < masks[1].mean() < 1
    with pytest.raises(ValueError, match="no mask for 270_271.*make synthff"):
        check.masks_of("", face_table("NeuralTextures", "270_271", 1, squares), 64)
    with pytest.raises(ValueError, match=r"270_271\.mp4 has no frame 999"):
        check.masks_of(str(path), face_table("NeuralTextures", "270_271", 1, squares).assign(frame=[0, 999]), 64)


def test_reals_get_the_mask_of_the_fake_that_shows_the_same_person():
    profile = get_profile("shipped")
    some = dataclasses.replace(profile, data=dataclasses.replace(profile.data, splits=("test",), pairs_per_split=2))
    paths = check.mask_paths(some)
    assert len(paths) == 16 and paths.map(bool).all()
    for (_, method, video_id), path in paths.items():
        assert path.split("/")[-1].split("_")[0] == video_id[:3]
        assert method == "original" or path.endswith(f"NeuralTextures/masks/videos/{video_id}.mp4")


def test_a_clip_gets_a_row_a_network(model, monkeypatch):
    monkeypatch.setattr(check, "DRAWS", 2)
    squares = [(60, 50, 200, 190)] * 7
    parts, pixels = [], []
    for method, video, label in (("original", "270", 0), ("NeuralTextures", "270_271", 1)):
        parts.append(face_table(method, video, label, squares))
        frames = frames_at(video_path(SYNTHFF[1], method, "c23", video), set(parts[-1]["frame"]))
        pixels += [check.crop_face(frames[number], squares[0], model.faces.size) for number in sorted(frames)]
    faces = FaceSet(pd.concat(parts, ignore_index=True).assign(row=range(14)), np.stack(pixels))
    mask = str(mask_path(SYNTHFF[1], "NeuralTextures", "270_271"))
    paths = pd.Series({("c23", "original", "270"): mask, ("c23", "NeuralTextures", "270_271"): mask})
    table = check.look_at_all(model, faces, paths)
    assert tuple(table.columns) == results.COLUMNS and list(table["network"]) == [TRAINED] * 2 + [RANDOM] * 4
    assert list(table["draw"]) == [0, 0, 0, 0, 1, 1] and list(table["video_id"]) == ["270", "270_271"] * 3
    assert set(table["frames"]) == {check.FRAMES} and results._problem(table) == ""
    assert (table["energy"].dropna() <= table["most"][table["energy"].notna()] + 1e-6).all()
    trained = table[table["network"] == TRAINED].set_index("label")
    assert trained.loc[1, "probability"] > 0.5 > trained.loc[0, "probability"] and trained.loc[1, "score"] > 0.5
    assert table.loc[table["network"] == RANDOM, "probability"].isna().all() and results._problem(table) == ""


# ---- tables ---------------------------------------------------------------------------------------------------------------


def measured(pairs=12) -> pd.DataFrame:
    """Return measurements of known ratios: 3 in fakes found, 2 in missed ones, 1.5 in reals passed, 1 by random weights."""
    rows = []
    for number in range(0, 2 * pairs, 2):
        a, b = f"{number:03d}", f"{number + 1:03d}"
        for label, video in ((0, a), (0, b), (1, f"{a}_{b}"), (1, f"{b}_{a}")):
            for quality in ("c23", "c40"):
                area = 0.1 + 0.001 * number
                wrong = quality == "c40" and ((label == 1 and number % 4 == 0) or (label == 0 and number == 2 and video == a))
                called = bool(label) != wrong
                times = (3 if called else 2) if label else (2.5 if called else 1.5)
                shared = {"quality": quality, "split": "test", "pair": f"{a}_{b}", "video_id": video, "label": label}
                shared |= {"frames": 5, "maps": 5, "area": area, "most": 4 * area}
                own = {"network": TRAINED, "draw": 0, "score": 0.4, "probability": 0.9 if called else 0.1}
                rows.append(own | {"energy": times * area} | shared)
                for draw, times in enumerate((0.8, 1.2)):
                    other = {"network": RANDOM, "draw": draw, "score": 0.5, "probability": np.nan}
                    rows.append(other | {"energy": times * area} | shared)
    return pd.DataFrame(rows)[list(results.COLUMNS)]


@pytest.fixture
def file(tmp_path):
    measured().to_csv(tmp_path / "where_it_looks.csv", index=False)
    return tmp_path / "where_it_looks.csv"


def test_ratios_by_quality_and_verdict(file):
    found = results.tables(200, file)
    table = found["where_it_looks"].set_index(["network", "quality", "group"]).sort_index()
    values = table.loc[(TRAINED, "c40"), "value"].round(6).to_dict()
    assert values == {"fakes found": 3, "fakes missed": 2, "reals passed": 1.5, "reals taken for fakes": 2.5}
    assert set(table.loc[(TRAINED, "c23")].index) == {"fakes found", "reals passed"}  # a group without clips has no row
    random = table.loc[(RANDOM, "c40")]
    assert random["value"].round(6).tolist() == [1] * 4
    assert random.loc["fakes found", ["lo", "hi"]].round(6).tolist() == [0.8, 1.2]  # networks are resampled, too
    assert table.loc[(TRAINED, "c40"), "clips"].to_dict() == random["clips"].to_dict()
    assert table.loc[(TRAINED, "c40"), ["clips", "pairs"]].sum().tolist() == [48, 6 + 6 + 12 + 1]
    assert table.loc[(TRAINED, "c40", "reals taken for fakes"), ["lo", "hi"]].isna().all()  # one pair
    row = table.loc[(TRAINED, "c40", "fakes found")]
    assert row["lo"] == pytest.approx(3) == row["hi"] and row["most"] == pytest.approx(4 * row["area"]) and row["no_map"] == 0
    gaps = found["where_it_looks_gaps"].set_index(["quality", "these", "those"])["value"]
    assert gaps["c40", "trained, fakes found", "trained, fakes missed"] == pytest.approx(1)
    assert gaps["c23", "trained, fakes found", "random weights, fakes found"] == pytest.approx(2)
    assert ("c23", "trained, fakes found", "trained, fakes missed") not in gaps


def test_the_interval_is_that_of_pairs_drawn_one_by_one():
    clips = results.grouped(measured()).query("network == @TRAINED and quality == 'c40' and label == 0")
    clips = clips.assign(energy=np.random.default_rng(0).uniform(0.1, 0.6, len(clips)))
    pairs = sorted(clips["pair"].unique())
    values = results.ratio(clips, pairs, 300)
    counts = results.resample_pairs(len(pairs), 300)
    by_pair = dict(list(clips.groupby("pair")))
    for draw in (0, 17, 299):
        drawn = pd.concat([by_pair[pair] for pair, times in zip(pairs, counts[draw], strict=True) for _ in range(int(times))])
        assert values[1 + draw] == pytest.approx(drawn["energy"].mean() / drawn["area"].mean())


def test_clips_without_a_map_are_counted_and_left_out_of_the_ratio(file):
    table = measured()
    cold = (table["network"] == TRAINED) & (table["label"] == 0) & table["video_id"].isin(["000", "001", "004"])
    table.loc[cold, ["energy", "maps"]] = np.nan, 0
    table.to_csv(file, index=False)
    found = results.tables(50, file)["where_it_looks"].set_index(["network", "quality", "group"])
    row = found.loc[(TRAINED, "c23", "reals passed")]
    assert row["clips"] == 24 and row["no_map"] == pytest.approx(3 / 24) and row["value"] == pytest.approx(1.5)


def test_the_figure_is_drawn_and_left_out_where_there_is_nothing(file):
    (draw,) = WHERE_FIGURES.values()
    fig = draw(results.tables(50, file), "made up")
    assert [ax.get_title() for ax in fig.axes] == ["made up, c23, test", "made up, c40, test"]
    assert draw({}, "none") is None and results.tables(50, file.parent / "nowhere.csv") == {}


@pytest.mark.parametrize(("change", "message"), [
    (lambda table: table.drop(columns="pair"), "other columns"),
    (lambda table: table.iloc[:0], "no rows"),
    (lambda table: table.assign(network="xception"), "networks other than trained and random weights"),
    (lambda table: table.assign(label=2), "labels other than 0 and 1"),
    (lambda table: table.assign(area=2.0), r"empty cells, or shares outside \[0, 1\]"),
    (lambda table: table.assign(energy="much"), r"empty cells, or shares outside \[0, 1\]"),
    (lambda table: table.assign(probability=np.nan), r"empty cells, or shares outside \[0, 1\]"),
    (lambda table: table.assign(pair=np.nan), r"empty cells, or shares outside \[0, 1\]"),
    (lambda table: pd.concat([table, table.iloc[:1]]), "a clip that is measured twice"),
    (lambda table: table.iloc[1:], "a clip that some network was not asked about"),
])  # fmt: skip
def test_damaged_measurements_are_named(file, change, message):
    change(measured(pairs=2)).to_csv(file, index=False)
    with pytest.raises(ValueError, match=f"where_it_looks.csv: {message}: take it from git again") as raised:
        results.load_measured(file)
    assert "\n" not in str(raised.value) and "python -m utils.checks.where_it_looks" in str(raised.value)
    for content in (b"", b"\xff\xfe\x00nothing", b'network,quality\n"x'):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="where_it_looks.csv: .*: take it from git again"):
            results.load_measured(file)


def test_without_faces_one_line_says_what_to_run(tmp_path, monkeypatch, capsys):
    def nothing(profile):
        raise FileNotFoundError("no faces at nowhere: run the extraction")

    monkeypatch.setattr(check, "load_faces", nothing)
    with pytest.raises(SystemExit) as ended:
        check.main(["--out", str(tmp_path / "out.csv")])
    assert ended.value.code == 2 and capsys.readouterr().err == "error: no faces at nowhere: run the extraction\n"
    assert not (tmp_path / "out.csv").exists()


def test_the_committed_measurements_are_of_every_test_clip():
    table = results.load_measured(WHERE_IT_LOOKS)
    assert len(table) == (1 + check.DRAWS) * 2 * 140 and set(table["split"]) == {"test"} and table["pair"].nunique() == 35
    assert set(table["video_id"].str.len()) == {3, 7}  # ids stay text
    assert (table["energy"].dropna() <= table["most"][table["energy"].notna()] + 1e-3).all()

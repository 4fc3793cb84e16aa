"""The index: layout, labels, pair-closed splits, missing videos, the labelled part."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clips import empty_tree

from utils.config import DataConfig, Profile, get_profile, require_data
from utils.faces import ffpp
from utils.paths import ROOT, Workspace

SPLITS = {
    "train": [["003", "001"], ["002", "007"], ["010", "011"]],
    "val": [["004", "006"]],
    "test": [["005", "000"]],
}


@pytest.fixture
def tree(tmp_path):
    return empty_tree(tmp_path / "tree", SPLITS)


def official_shape() -> dict[str, list]:
    """Return 360/70/70 pairs of the identities 000..999, as FaceForensics++ has them."""
    order = [f"{i:03d}" for i in np.random.default_rng(0).permutation(1000)]
    pairs = [order[i : i + 2] for i in range(0, 1000, 2)]
    return {"train": pairs[:360], "val": pairs[360:430], "test": pairs[430:]}


def test_index_has_one_row_a_video(tree):
    index = ffpp.build_index(tree, ["NeuralTextures"], ["c23", "c40"])
    assert list(index.columns) == ffpp.COLUMNS
    assert len(index) == 5 * 2 * 2 * 2  # pairs, identities, qualities, real and fake
    assert not index.duplicated(["method", "quality", "video_id"]).any()
    fake = index.set_index(["video_id", "quality"]).loc[("003_001", "c40")]
    assert (fake["method"], fake["label"], fake["target"], fake["source"]) == ("NeuralTextures", 1, "003", "001")
    assert (fake["pair"], fake["split"]) == ("001_003", "train")
    assert fake["path"].endswith("manipulated_sequences/NeuralTextures/c40/videos/003_001.mp4")
    real = index.set_index(["video_id", "quality"]).loc[("000", "c23")]
    assert (real["method"], real["label"], real["target"], real["source"]) == ("original", 0, "000", "")
    assert (real["pair"], real["split"]) == ("000_005", "test")
    assert ffpp.missing_counterparts(index).empty


def test_official_shape_is_closed_over_pairs_and_identities(tmp_path):
    index = ffpp.build_index(empty_tree(tmp_path, official_shape(), qualities=["c23"]), ["NeuralTextures"], ["c23"])
    assert len(index) == 2000 and index["label"].mean() == 0.5
    assert index.query("label == 0")["split"].value_counts().to_dict() == {"train": 720, "val": 140, "test": 140}
    people = pd.concat([index[["target", "split"]], index[["source", "split"]].rename(columns={"source": "target"})])
    assert (people[people["target"] != ""].groupby("target")["split"].nunique() == 1).all()
    assert (index.groupby("pair")["split"].nunique() == 1).all()
    assert (index.groupby("pair").size() == 4).all()  # two originals, two fakes


def test_any_subset_of_methods_and_qualities(tmp_path):
    tree = empty_tree(tmp_path / "tree", SPLITS, methods=["NeuralTextures", "Face2Face"], qualities=["c23", "c40"])
    index = ffpp.build_index(tree, ["Face2Face"], ["c40"])
    assert set(index["method"]) == {"original", "Face2Face"} and set(index["quality"]) == {"c40"}
    assert len(ffpp.build_index(tree, [], ["c23"])) == 10
    first = ffpp.build_index(tree, ["NeuralTextures"], ["c23"], pairs_per_split=1)
    assert set(first["pair"]) == {"001_003", "004_006", "000_005"}


def test_lossless_videos_are_found_under_both_names(tmp_path):
    tree = empty_tree(tmp_path / "tree", SPLITS, qualities=["c0"])
    index = ffpp.build_index(tree, ["NeuralTextures"], ["raw"])
    assert len(index) == 20 and set(index["quality"]) == {"raw"}


def test_missing_counterparts_are_listed_and_not_fatal(tree):
    lost = [ffpp.video_path(tree, "NeuralTextures", "c40", "003_001"), ffpp.video_path(tree, "original", "c23", "000")]
    for path in lost:
        path.unlink()
    index = ffpp.build_index(tree, ["NeuralTextures"], ["c23", "c40"])
    missing = ffpp.missing_counterparts(index)
    assert len(index) == 38
    assert list(missing["path"]) == [str(path) for path in lost]
    assert list(missing["split"]) == ["train", "test"]
    originals = index[index["label"] == 0]  # a part of the table remembers what was asked for
    assert len(ffpp.missing_counterparts(originals)) == 1 + 20
    unknown = ffpp.build_index(tree, ["NeuralTextures", "FaceSwap"], ["c23"])
    assert (ffpp.missing_counterparts(unknown)["method"] == "FaceSwap").sum() == 10
    with pytest.raises(ValueError, match="build_index"):
        ffpp.missing_counterparts(pd.DataFrame({"video_id": []}))


def test_bad_trees_fail_with_one_clear_line(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match="no video of original, FaceSwap at c0 below"):
        ffpp.build_index(tree, ["FaceSwap"], ["c0"])
    (tmp_path / "other" / "splits").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="train.json: copy"):
        ffpp.load_splits(tmp_path / "other")
    path = tree / "splits" / "val.json"
    for text, message in [
        ("[[", "not JSON"),
        ("[" * 200_000, "not JSON"),
        ('["004"]', "list of pairs"),
        ("[[4, 6]]", "list of pairs"),
        ('[["004", "../../006"]]', "list of pairs"),  # ids become names of files
        ('[["004", "001"]]', "identity 001 is in train and again in val"),
        ('[["004", "004"]]', "identity 004"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            ffpp.load_splits(tree)


def test_profile_without_data_names_the_remedy(tmp_path):
    profile = Profile(name="synthff", data=DataConfig(root=str(tmp_path / "nothing")))
    with pytest.raises(FileNotFoundError, match="make synthff"):
        ffpp.load_index(profile)
    study = get_profile("study")
    study = replace(study, data=replace(study.data, root=str(tmp_path / "nothing")))
    with pytest.raises(FileNotFoundError, match="python -m utils.synthff --release 2.*make pool"):
        require_data(study)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"FFPP_METHODS": " NeuralTextures, Deepfakes,"}, "('NeuralTextures', 'Deepfakes') 3"),
        ({"FFPP_METHODS": "NeuralTextures,NeuralTextures"}, "('NeuralTextures',) 3"),
        ({"FFPP_METHODS": "", "FFPP_PAIRS": "0"}, "('NeuralTextures',) None"),
        ({"FFPP_METHODS": "DeepFakes"}, "FFPP_METHODS has DeepFakes: choose from Deepfakes, "),
        ({"FFPP_PAIRS": "abc"}, "FFPP_PAIRS is 'abc': give the number of pairs"),
    ],
)
def test_what_the_environment_asks_for_is_checked(asked, says):
    code = """
from utils.config import get_profile
try:
    data = get_profile("ffpp-smoke").data
    print(data.methods, data.pairs_per_split)
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | asked, cwd=ROOT, capture_output=True, text=True)
    assert says in done.stdout and done.returncode == 0, done.stderr


def test_methods_that_are_missing_are_named(tmp_path):
    tree = empty_tree(tmp_path, SPLITS, methods=["NeuralTextures"])
    profile = replace(get_profile("ffpp"), data=DataConfig(root=str(tree), methods=("NeuralTextures", "Deepfakes")))
    (note,) = ffpp.notes(ffpp.plan_index(profile), profile)
    assert note.startswith("The tree has no Deepfakes: what is read is NeuralTextures")


@pytest.mark.parametrize("text", ["{", "[]", '{"c40": 1}', "[" * 200_000])
def test_a_damaged_list_of_made_qualities_is_told(tmp_path, text):
    space = Workspace(tmp_path)
    space.made.mkdir()
    (space.made / "made.json").write_text(text)
    with pytest.raises(ValueError, match="made.json is damaged: remove it"):
        space.made_from()


def test_labelled_pairs_are_whole_seeded_and_of_the_training_part(tmp_path):
    index = ffpp.build_index(empty_tree(tmp_path, official_shape(), qualities=["c23"]), ["NeuralTextures"], ["c23"])
    drawn = ffpp.labelled_pairs(index, 1 / 3, seed=0)
    train = set(index.query("split == 'train'")["pair"])
    assert len(drawn) == 120 and drawn < train
    assert drawn == ffpp.labelled_pairs(index.sample(frac=1, random_state=1), 1 / 3, seed=0)
    assert drawn != ffpp.labelled_pairs(index, 1 / 3, seed=1)
    assert index[index["pair"].isin(drawn)]["label"].mean() == 0.5
    assert len(ffpp.labelled_pairs(index, 1e-9, seed=0)) == 1
    assert ffpp.labelled_pairs(index, 1.0, seed=0) == train
    for fraction in (0, 1.5):
        with pytest.raises(ValueError, match="fraction"):
            ffpp.labelled_pairs(index, fraction, seed=0)
    with pytest.raises(ValueError, match="no training videos"):
        ffpp.labelled_pairs(index.query("split == 'val'"), 0.5, seed=0)


def test_sources_that_straddle_splits_are_listed(tree, tmp_path):
    conversion = {f"{i:03d}": f"video-{i} 0" for i in range(12)}
    conversion |= {"003": "same_source-x 0", "005": "same_source-x 1", "010": "twice 0", "011": "twice 1"}
    path = tmp_path / "conversion_dict.json"
    path.write_text(json.dumps(conversion))
    table = ffpp.straddling_sources(ffpp.load_splits(tree), path)
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(ValueError, match="deep.json must be a JSON object"):
        ffpp.straddling_sources({}, tmp_path / "deep.json")
    assert table.to_dict("list") == {
        "source": ["same_source-x"] * 2,
        "sequence": ["003", "005"],
        "split": ["train", "test"],
    }


def test_a_tree_may_hold_back_harder_videos(tmp_path):
    hard = [["020", "021"], ["022", "023"]]
    tree = empty_tree(tmp_path / "tree", {**SPLITS, "test_hard": hard})
    assert list(ffpp.load_splits(tree)) == ["train", "val", "test", "test_hard"]
    index = ffpp.build_index(tree, ["NeuralTextures"], ["c23", "c40"])
    part = index[index["split"] == "test_hard"]
    assert set(part["pair"]) == {"020_021", "022_023"} and len(part) == 2 * 2 * 2 * 2
    without = ffpp.build_index(empty_tree(tmp_path / "without", SPLITS), ["NeuralTextures"], ["c23", "c40"])
    names = [name for name in ffpp.COLUMNS if name != "path"]
    assert index.loc[index["split"] != "test_hard", names].equals(without[names])
    assert ffpp.labelled_pairs(index, 1.0, seed=0) == ffpp.labelled_pairs(without, 1.0, seed=0)
    first = ffpp.build_index(tree, ["NeuralTextures"], ["c23"], pairs_per_split=1)
    assert first.groupby("split")["pair"].unique().map(list)["test_hard"] == ["020_021"]
    lost = ffpp.video_path(tree, "NeuralTextures", "c40", "023_022")
    lost.unlink()
    assert list(ffpp.missing_counterparts(ffpp.build_index(tree, ["NeuralTextures"], ["c40"]))["path"]) == [str(lost)]


def test_harder_videos_show_nobody_of_the_other_splits(tmp_path):
    tree = empty_tree(tmp_path / "tree", SPLITS)
    for pairs, message in [
        ('[["030", "001"]]', "identity 001 is in train and again in test_hard"),
        ('[["030", "031"], ["005", "032"]]', "identity 005 is in test and again in test_hard"),
        ('["030"]', "test_hard.json must be a list of pairs"),
    ]:
        (tree / "splits" / "test_hard.json").write_text(pairs)
        with pytest.raises(ValueError, match=message):
            ffpp.load_splits(tree)


def test_the_second_release_has_a_pool_and_two_sealed_tests_in_the_place_of_test(tmp_path):
    pairs = {name: [[f"{100 + 2 * i}", f"{101 + 2 * i}"]] for i, name in enumerate(("train", "val", "pool", *ffpp.SEALED))}
    tree = empty_tree(tmp_path / "tree", pairs)
    assert list(ffpp.load_splits(tree)) == list(pairs)
    index = ffpp.build_index(tree, ["NeuralTextures"], ["c23", "c40"])
    assert index.groupby("split").size().to_dict() == dict.fromkeys(pairs, 8)
    (tree / "splits" / "test2.json").unlink()
    with pytest.raises(FileNotFoundError, match="test.json"):
        ffpp.load_splits(tree)


def test_some_splits_can_be_read_alone(tree):
    every = ffpp.build_index(tree, ["NeuralTextures"], ["c23", "c40"])
    some = ffpp.build_index(tree, ["NeuralTextures"], ["c23", "c40"], only=["val"])
    assert set(some["split"]) == {"val"} and len(some) == (every["split"] == "val").sum()
    assert ffpp.missing_counterparts(some).empty  # what was not asked for is not missing
    with pytest.raises(ValueError, match="has no split test9: it has train, val, test"):
        ffpp.build_index(tree, ["NeuralTextures"], ["c23"], only=["val", "test9"])


def test_default_profile_reads_the_committed_tree():
    profile = Profile(name="synthff")
    root = require_data(profile)
    index = ffpp.load_index(profile)
    assert ffpp.missing_counterparts(index).empty
    assert set(index["split"]) == set(ffpp.load_splits(root)) >= {"train", "val", "test"} and index["label"].mean() == 0.5
    fakes = index[index["label"] == 1]
    assert all(ffpp.mask_path(root, m, v).is_file() for m, v in zip(fakes["method"], fakes["video_id"], strict=True))

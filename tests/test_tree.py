"""Trees as people have them: partial, large, with damaged and odd files; what the check says and what the notebooks do."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import av
import nbformat
import pytest
from partial_trees import ffpp_tree, large_tree, spoil

from utils.config import METHODS, Profile, get_profile
from utils.faces import ffpp, splits
from utils.faces.video import probe
from utils.paths import FFPP_SPLITS, NOTEBOOKS, ROOT, Workspace
from utils.run import notebooks


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """Return what gives the profile ffpp another tree, and a workspace of its own."""
    monkeypatch.setattr(Profile, "workspace", property(lambda _: Workspace(tmp_path / "work")))

    def on(root, **changes):
        usual = get_profile("ffpp")
        return replace(usual, data=replace(usual.data, root=str(root), **changes))

    return on


def run_check(capsys, *arguments):
    code = ffpp.main(["check", *map(str, arguments)])
    return code, capsys.readouterr()


# ---- splits and sources ---------------------------------------------------------------------------------------------------


def test_a_tree_without_splits_has_the_official_ones(tmp_path):
    official = splits.load_splits(tmp_path)
    assert {name: len(pairs) for name, pairs in official.items()} == {"train": 360, "val": 70, "test": 70}
    assert len({i for pairs in official.values() for pair in pairs for i in pair}) == 1000
    assert splits.conversion_of(tmp_path, official).parent == FFPP_SPLITS
    other = official | {"test": official["test"][1:]}
    assert splits.conversion_of(tmp_path, other) is None  # other splits number other people


def test_sources_that_straddle_splits_leave_the_training_part(tmp_path, profile):
    root = ffpp_tree(tmp_path, {"train": 360, "val": 70, "test": 70}, qualities=("c23",), masks=False)
    official = splits.load_splits(root)
    straddling = splits.straddling_sources(official, splits.conversion_of(root, official))
    assert sorted(straddling["sequence"]) == "605 606 639 640 755 756 837 838 875 876 954 955 982 983".split()
    index = ffpp.build_index(root, ["NeuralTextures"], ["c23"], exclude_straddling=True)
    pairs = index.drop_duplicates("pair")["split"].value_counts().to_dict()
    assert pairs == {"train": 353, "val": 70, "test": 70}
    left = splits.straddling_sources(splits.without_straddling(official, straddling), splits.conversion_of(root, official))
    assert left.empty
    assert ffpp.build_index(root, ["NeuralTextures"], ["c23"])["pair"].nunique() == 500
    ours = ffpp.plan_index(profile(root, qualities=("c23",)))  # the profile `ffpp` leaves them out
    assert ours.drop_duplicates("pair")["split"].value_counts().to_dict() == pairs


# ---- what is missing and can be made ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "lacking", "limit"), [("c23", "c40", "as FaceForensics++"), ("c40", "c23", "no more than c40")]
)
def test_a_quality_that_the_tree_lacks_is_made_and_marked(tmp_path, profile, there, lacking, limit):
    root = ffpp_tree(tmp_path / "tree", {"train": 1}, qualities=(there,), masks=False)
    ours = profile(root)
    index = ffpp.load_index(ours, n_jobs=1)
    assert len(index) == 8 and index.groupby("quality")["made"].first().to_dict() == {there: "", lacking: there}
    made, own = (index[index["quality"] == quality].reset_index(drop=True) for quality in (lacking, there))
    for one, other in zip(made["path"], own["path"], strict=True):
        assert probe(one)["frames"] == probe(other)["frames"] == 48
        assert (probe(one)["bytes"] < probe(other)["bytes"]) == (lacking == "c40")
    assert any(limit in note and f"no {lacking}" in note for note in ffpp.notes(index, ours))
    before = {path: os.stat(path).st_mtime_ns for path in made["path"]}
    assert ffpp.load_index(ours).equals(index) and before == {path: os.stat(path).st_mtime_ns for path in before}
    assert get_profile("ffpp").data.name == f"FaceForensics++ ({lacking} made of {there})"  # beside every result
    ffpp_tree(root, {"train": 1}, qualities=(lacking,), masks=False)  # they have been downloaded since
    assert (ffpp.load_index(ours)["made"] == "").all() and get_profile("ffpp").data.name == "FaceForensics++"


def test_both_qualities_are_made_of_lossless_videos(tmp_path, profile):
    ours = profile(ffpp_tree(tmp_path, {"train": 1}, qualities={"raw": "c23"}, masks=False))
    index = ffpp.load_index(ours, n_jobs=1)
    assert set(index["quality"]) == {"c23", "c40"} and set(index["made"]) == {"raw"}
    with av.open(index["path"].iloc[0]) as video:
        assert video.streams.video[0].codec_context.name == "h264"


def test_a_damaged_video_is_left_out_of_what_is_made(tmp_path, profile):
    root = ffpp_tree(tmp_path / "tree", {"train": 1}, qualities=("c23",), masks=False)
    video = next((root / "original_sequences/youtube/c23/videos").iterdir())
    video.unlink()
    video.write_bytes(b"no video")
    with pytest.warns(UserWarning, match=f"left out of what is made: cannot read .*{video.name}"):
        index = ffpp.load_index(profile(root), n_jobs=1)
    assert index["quality"].value_counts().to_dict() == {"c23": 4, "c40": 3}


def test_what_was_made_of_another_quality_is_made_anew(tmp_path, profile):
    ours = profile(ffpp_tree(tmp_path / "tree", {"train": 1}, qualities=("c23",), masks=False))
    ffpp.load_index(ours, n_jobs=1)
    made = sorted((tmp_path / "work" / "made").rglob("*.mp4"))
    before = {path: path.stat().st_mtime_ns for path in made}
    made[0].with_suffix(".json").unlink()  # from before there were records
    ffpp_tree(tmp_path / "tree", {"train": 1}, qualities={"raw": "c40"}, masks=False)  # they have been downloaded since
    index = ffpp.load_index(ours, n_jobs=1)
    assert set(index[index["quality"] == "c40"]["made"]) == {"raw"}
    assert len(made) == 4 and all(path.stat().st_mtime_ns != before[path] for path in made)


def test_methods_that_are_there_stand_in_for_those_asked_for(tmp_path, profile):
    ours = profile(ffpp_tree(tmp_path, {"train": 1}, methods=("Deepfakes", "FaceSwap")))
    index = ffpp.load_index(ours)
    assert set(index["method"]) == {"original", "Deepfakes", "FaceSwap"}
    assert "no NeuralTextures: what is read is Deepfakes, FaceSwap" in ffpp.notes(index, ours)[0]


def test_all_five_methods_and_their_masks_are_read(tmp_path, profile):
    root = ffpp_tree(tmp_path, {"train": 1, "test": 1}, methods=METHODS)
    index = ffpp.load_index(profile(root, methods=METHODS))
    assert index["method"].value_counts().to_dict() == dict.fromkeys(("original", *METHODS), 8)
    fakes = index[index["label"] == 1]
    assert all(f"/{row.method}/masks/videos/{row.video_id}.mp4" in row.mask for row in fakes.itertuples())
    reals = index[index["label"] == 0]  # an original's face lies where its target's fakes were changed
    assert all(f"masks/videos/{row.target}_" in row.mask for row in reals.itertuples())


# ---- the check --------------------------------------------------------------------------------------------------------------


def test_the_check_tells_what_a_partial_tree_holds_lacks_and_takes(tmp_path, profile, capsys):
    root = ffpp_tree(tmp_path / "tree", {"train": 2, "val": 1}, qualities=("c23",))
    (root / "original_sequences/youtube/c23/videos/notes.txt").write_text("mine")
    code, said = run_check(capsys, root)
    table = said.out
    assert code == 1 and "12 of the 2000 videos that its splits promise (the official ones" in table
    assert "NeuralTextures     c23 4 of 720 2 of 140 0 of 140    6" in table
    assert "train 2 of 360, val 1 of 70, test 0 of 70" in table
    assert "7 are in two splits" in table and "7 pairs of train are left out" in table
    assert "The tree has no c40: it is made here from c23" in table and "encoding: about" in table
    assert "in no split, left alone: 1 files; the first: original_sequences/youtube/c23/videos/notes.txt" in table
    assert "readable: 12 videos" in table and "256x256 (12)" in table and "GB of crops" in table
    assert "test has no original; test has no fake" in table
    assert not (tmp_path / "work").exists()  # it only looks
    ffpp_tree(root, {"test": 1}, qualities=("c23",))
    code, said = run_check(capsys, root)
    assert code == 0 and "test: all there" in said.out


def test_the_check_names_what_is_damaged_inside(tmp_path, profile, capsys):
    root = ffpp_tree(tmp_path / "tree", {"train": 1}, qualities=("c23",), masks=False)
    damaged = sorted((root / "original_sequences/youtube/c23/videos").iterdir())
    for path in damaged:
        data = bytearray(path.read_bytes())
        pictures, end = data.find(b"mdat") + 40, max(data.find(b"moov") - 4, 0)
        pictures, end = (pictures, end) if pictures < end else (pictures, len(data))
        data[pictures:end] = bytes(end - pictures)
        path.unlink()
        path.write_bytes(data)
    code, said = run_check(capsys, root)
    assert code == 1 and "readable: 4 videos" in said.out and "extraction: about" in said.out  # headers are whole
    assert all(f"unreadable: cannot read {path}" in said.out or f"unreadable: {path}" in said.out for path in damaged)


def test_the_check_of_what_is_no_tree_is_one_line(tmp_path, capsys):
    code, said = run_check(capsys, tmp_path)
    assert (
        code == 2 and said.err == f"error: no FaceForensics++ tree at {tmp_path}: set FFPP_ROOT to the FaceForensics++ folder\n"
    )
    (tmp_path / "original_sequences").mkdir()
    code, said = run_check(capsys, tmp_path)
    assert code == 2 and said.err.startswith("error: no video of original, NeuralTextures at c23, c40 below")
    assert said.err.count("\n") == 1


# ---- large, and through the notebooks ----------------------------------------------------------------------------------------


def spoiled_tree(folders, name, train):
    """Return a tree of small videos by two methods, of which some are gone, damaged or odd, and which."""
    root = large_tree(folders.mktemp(name), {"train": train, "val": 3, "test": 3}, folders.getbasetemp() / "clips")
    return root, spoil(root)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Return a spoiled tree of 1,080 videos."""
    return spoiled_tree(tmp_path_factory, "large", train=84)


def test_a_thousand_videos_are_indexed_in_seconds(large):
    root, spoiled = large
    began = time.process_time()
    index = ffpp.build_index(root, ("Deepfakes", "NeuralTextures"), ("c23", "c40"))
    assert time.process_time() - began < 5
    assert len(index) == 1080 - len(spoiled["lost"])
    assert {path.stem for path in spoiled["odd"]} <= set(index["video_id"])  # whatever their suffix
    missing = set(ffpp.missing_counterparts(index)["path"])
    assert {str(path) for path in spoiled["lost"]} <= missing


def test_the_check_names_what_cannot_be_read(large, profile, capsys):
    root, spoiled = large
    code, said = run_check(capsys, root)
    unreadable = [line for line in said.out.splitlines() if line.startswith("unreadable: ")]
    assert code == 1 and len(unreadable) == len(spoiled["broken"])
    assert all(any(str(path) in line for line in unreadable) for path in spoiled["broken"])


def tracked_changes():
    done = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout


def run(tree, work, *arguments, module="utils.run.reproduce", **environment):
    command = [sys.executable, "-m", module, "--profile", "ffpp-smoke", *arguments]
    environment = os.environ | {"FFPP_ROOT": str(tree), "DEEPFAKE_WORK": str(work)} | environment
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_few_videos_go_as_far_as_they_can(tmp_path):
    root = ffpp_tree(tmp_path / "tree", {"train": 1, "val": 1, "test": 1}, qualities=("c23",), masks=False)
    for video in (root / "manipulated_sequences/NeuralTextures/c23/videos").iterdir():
        if video.stem not in ("071_054", "953_974"):
            video.unlink()
    done = run(root, tmp_path / "work", "--only", "02", "03", "04", "05", "07", module="utils.run.notebooks")
    assert done.returncode == notebooks.PARTIAL, done.stdout + done.stderr
    needs = "left out, it needs real and fake faces in train, val and test: "
    for name in ("03_baseline_xception", "04_efficientnet_teacher", "05_noisy_student"):
        assert f"{name}: {needs}" in done.stdout
    assert "07_report_figures: left out, it needs the predictions of notebooks 03 to 05" in done.stdout
    assert len(list((tmp_path / "work/ffpp-smoke/notebooks").glob("*.ipynb"))) == 1
    assert json.loads((tmp_path / "work/ffpp-smoke/made/made.json").read_text()) == {"c40": "c23"}


@pytest.mark.slow
def test_hundreds_of_videos_of_two_methods_go_through_all_notebooks(tmp_path, tmp_path_factory):
    (root, spoiled), before = spoiled_tree(tmp_path_factory, "some", train=14), tracked_changes()
    done = run(root, tmp_path, "--solutions", FFPP_PAIRS="0", FFPP_METHODS="Deepfakes,NeuralTextures")
    assert done.returncode == notebooks.PARTIAL, done.stdout + done.stderr
    space = Workspace(tmp_path / "ffpp-smoke")
    executed = sorted(space.notebooks.glob("*.ipynb"))
    assert [path.name for path in executed] == [path.name for path in notebooks.find_notebooks()]
    for notebook in executed:
        cells = nbformat.read(notebook, as_version=4).cells
        assert all(cell.execution_count for cell in cells if cell.cell_type == "code")
        committed = nbformat.read(NOTEBOOKS / notebook.name, as_version=4).cells
        exercises = sum(cell.source.count("```python") for cell in committed if "Solution" in cell.source)
        assert len(cells) == len(committed) + exercises + 1  # and a cell of parameters
        assert f"{notebook.stem}: " in done.stdout  # minutes of each
    assert list(space.runs.rglob("scores.csv.gz")) and list(space.figures.glob("*.svg"))
    assert tracked_changes() == before  # the committed results stay untouched
    for path in spoiled["broken"]:
        assert path.stem in done.stdout + done.stderr  # named, and no reason to stop
    assert (space.report / "report.pdf").read_bytes().startswith(b"%PDF")
    transfer = (space.tables / "transfer.csv").read_text()
    assert all(f"{a},{b}" in transfer for a in ("Deepfakes", "NeuralTextures", "all") for b in ("Deepfakes", "NeuralTextures"))

"""Packaged models: what is written is read again, and what is damaged is named in one line."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from fake_faces import make_faces
from safetensors.torch import load_file, save_file

from utils.config import FacesConfig, get_profile
from utils.faces.layout import video_path
from utils.learn import packaged
from utils.learn.checkpoints import Damaged
from utils.learn.dataset import FaceSet
from utils.learn.inference import looks, probabilities
from utils.learn.models import create_model
from utils.learn.validated import Gauge, traces
from utils.paths import PACKAGED, SYNTHFF
from utils.results.model_card import write_card
from utils.run import score

NAME = "efficientnet-lite0"
PROFILE = dataclasses.replace(get_profile("smoke"), faces=FacesConfig(size=32, max_frames=3))


def faces_with_squares() -> FaceSet:
    faces = make_faces(train=4, val=3, test=2, size=32)
    return FaceSet(faces.index.assign(x0=10, x1=74), faces.pixels)


def some_gauge(model) -> Gauge:
    crops = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
    styles = looks(model, torch.from_numpy(crops).permute(0, 3, 1, 2))[1]
    return Gauge.fit(traces(crops, np.full(8, 64)), styles, np.arange(20.0, 28))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = create_model(NAME, dataclasses.replace(PROFILE.model(NAME), px=32, weights="none"), 0)
    packaged.package(model, faces_with_squares(), some_gauge(model), PROFILE, folder, "tiny", "noise", licence="MIT")
    return folder


def test_a_packaged_model_gives_the_scores_of_the_one_that_it_was_made_of(folder):
    found, faces = packaged.load_packaged(folder), faces_with_squares().select(split="test")
    model = create_model(NAME, dataclasses.replace(PROFILE.model(NAME), px=32, weights="none"), 0).eval()
    seen = packaged.look_at(found.model, found.gauge, faces)
    assert np.allclose(seen.scores, probabilities(model, faces, precision="fp32")[:, 1], atol=1e-6)
    assert found.faces == PROFILE.faces and found.card["licence"] == "MIT" and found.range("side") == (64.0, 64.0)
    assert found.card["validated"]["people"] == 6 and found.card["validated"]["clips"] == 24
    clips = seen.clips()
    assert len(clips["scores"]) == len(clips["label"]) == 16 and clips["styles"].shape == (16, seen.styles.shape[1])
    place = seen.index.groupby(["method", "video_id", "quality"]).ngroup().to_numpy() == 3
    assert clips["scores"][3] == pytest.approx(seen.scores[place].mean(), abs=1e-6)
    assert set(seen.index["label"][place]) == {clips["label"][3]} and set(seen.index["pair"][place]) == {clips["pair"][3]}


def edit_card(folder, **changes):
    path = folder / packaged.CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rehash(folder):
    edit_card(folder, sha256={name: packaged._sha256(folder / name) for name in (packaged.WEIGHTS, packaged.VALIDATED)})


def spoil(folder, kind):
    """Damage a packaged model in a way of some kind; whoever does it may mend the checksums, too."""
    weights, validated = folder / packaged.WEIGHTS, folder / packaged.VALIDATED
    tensors = load_file(weights)
    if kind == "cut":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif kind == "pickle":
        weights.write_bytes(pickle.dumps({"cos": "system"}))
    elif kind == "NaN":
        save_file(tensors | {"network.conv_stem.weight": tensors["network.conv_stem.weight"] * float("nan")}, weights)
    elif kind == "other network":
        save_file({"weight": torch.zeros(2)}, weights)
    elif kind == "no calibration":
        save_file({"gauge/mean": torch.zeros(2)}, validated)
    elif kind == "another gauge":
        arrays = load_file(validated)
        save_file(arrays | {"gauge/weights": arrays["gauge/weights"][:-1]}, validated)
    elif kind == "endless":
        arrays = load_file(validated)
        save_file(arrays | {"gauge/weights": arrays["gauge/weights"] * float("inf")}, validated)


@pytest.mark.parametrize("mended", [False, True])
@pytest.mark.parametrize("kind", ["cut", "pickle", "NaN", "other network", "no calibration", "endless", "another gauge"])
def test_damaged_files_are_one_line(folder, tmp_path, kind, mended, capsys):
    copy = shutil.copytree(folder, tmp_path / "model")
    spoil(copy, kind)
    if mended:
        rehash(copy)
    match = r"is not the file that card.json names \(SHA-256\)"
    if mended:
        match = r"can't be read|no numbers|another network|does not fit"
    with pytest.raises(Damaged, match=match):
        packaged.load_packaged(copy)
    with pytest.raises(SystemExit) as stopped:
        score.main(["--model", str(copy), str(video_path(SYNTHFF[2], "original", "c23", "000"))])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 2}, "format 2, not 1"), ({"network": "../../etc/passwd"}, "unknown network"), ({"px": 10**6}, "a side"),
        ({"px": "112"}, "a side"), ({"sha256": {}}, "is no card"), ({"validated": []}, "is no card"),
        ({"validated": {"crf": [40, 20], "side": [1, 2]}}, "ranges"),
        ({"validated": {"crf": ["a", 2], "side": [1, 2]}}, "ranges"),
        ({"faces": {"size": 32, "shell": "rm"}}, "package the run again"), ({"faces": 3}, "package the run again"),
        ({"trained_on": None}, "no text"),
    ],
)  # fmt: skip
def test_cards_that_are_none_are_one_line(folder, tmp_path, changes, says):
    copy = shutil.copytree(folder, tmp_path / "model")
    edit_card(copy, **changes)
    with pytest.raises(Damaged, match=says):
        packaged.load_packaged(copy)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "{}" + " " * 2_000_000, "\x00\xff"])
def test_cards_that_are_no_json_are_one_line(folder, tmp_path, text):
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / packaged.CARD).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError) as error:
        packaged.load_packaged(copy)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_name_that_a_fresh_clone_lacks_gets_the_remedy(capsys):
    with pytest.raises(SystemExit):
        score.main(["--model", "trained-efficientnet-lite0-s0", "clip.mp4"])
    said = capsys.readouterr().err
    assert "there is synthff-lite0" in said and "utils.run.package RUN" in said and "leave --model out" in said


def test_the_model_that_comes_with_the_repository_is_whole_and_its_card_up_to_date(tmp_path):
    found = packaged.load_packaged(PACKAGED / score.SHIPPED)
    assert (PACKAGED / score.SHIPPED / packaged.WEIGHTS).stat().st_size < 15e6
    assert "rendered people" in found.card["trained_on"] and found.card["measured"][0]["auc"][0] > 0.9
    committed = (PACKAGED / score.SHIPPED / "README.md").read_text(encoding="utf-8")
    assert write_card(found, tmp_path).read_text(encoding="utf-8") == committed

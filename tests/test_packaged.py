"""Packaged models: what is written is read again (`test_hostile_models.py` has what is damaged)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from fake_faces import make_faces

from utils.config import FacesConfig, get_profile
from utils.learn import packaged
from utils.learn.dataset import FaceSet
from utils.learn.inference import looks, probabilities
from utils.learn.models import create_model
from utils.learn.validated import Calibration, Gauge, traces
from utils.paths import PACKAGED
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
    held = faces_with_squares().select(split="val")
    val, people, pairs = packaged.look_at(found.model, found.gauge, held), held.index["target"].nunique(), held.index["pair"]
    of_clips, labels = val.clips(), held.labels.numpy()
    by_face = Calibration.fit(val.scores, val.crf, labels, pairs, people)
    assert np.array_equal(found.calibration["face"].weights, by_face.weights)
    by_clip = Calibration.fit(of_clips["scores"], of_clips["crf"], of_clips["label"], of_clips["pair"], people)
    assert np.array_equal(found.calibration["clip"].weights, by_clip.weights)
    clips = seen.clips()
    assert len(clips["scores"]) == len(clips["label"]) == 16 and clips["styles"].shape == (16, seen.styles.shape[1])
    place = seen.index.groupby(["method", "video_id", "quality"]).ngroup().to_numpy() == 3
    assert clips["scores"][3] == pytest.approx(seen.scores[place].mean(), abs=1e-6)
    assert set(seen.index["label"][place]) == {clips["label"][3]} and set(seen.index["pair"][place]) == {clips["pair"][3]}


@pytest.mark.parametrize("count", [1, 64, 65, 129, 131])
def test_faces_are_looked_at_in_batches_and_no_bit_changes(folder, monkeypatch, count):
    found, rng, shown = packaged.load_packaged(folder), np.random.default_rng(count), []
    table = make_faces(train=9, size=32).index[:count].assign(x0=10, x1=rng.integers(40, 300, count))
    faces = FaceSet(table, rng.integers(0, 256, (len(table), 32, 32, 3), dtype=np.uint8))
    images = faces.images(range(count))
    scores, styles = looks(found.model, images)
    crf = found.gauge(images.permute(0, 2, 3, 1).numpy(), packaged.sides(faces), styles)
    monkeypatch.setattr(packaged, "BATCH", 64)
    monkeypatch.setattr(faces, "images", lambda items: shown.append(len(items)) or FaceSet.images(faces, items))
    seen = packaged.look_at(found.model, found.gauge, faces)
    assert sum(shown) == count and max(shown) <= 65
    alone = packaged.styles_of(found.model, faces)
    for old, new in ((scores, seen.scores), (styles, seen.styles), (styles, alone), (crf, seen.crf)):
        assert old.dtype == new.dtype and np.array_equal(old, new)


def test_traces_are_the_same_in_batches_of_any_size(monkeypatch):
    rng = np.random.default_rng(0)
    crops, sides = rng.integers(0, 256, (61, 40, 40, 3), dtype=np.uint8), rng.integers(40, 300, 61)
    whole = traces(crops, sides)
    for size in (2, 3, 7, 256):
        monkeypatch.setattr(packaged, "BATCH", size)
        parts = packaged.batches(61)
        assert np.concatenate(parts).tolist() == list(range(61)) and {len(part) for part in parts[:-1]} <= {size}
        assert np.array_equal(np.concatenate([traces(crops[items], sides[items]) for items in parts]), whole)


def test_only_the_faces_that_it_is_calibrated_on_are_gauged(tmp_path, monkeypatch):
    gauged, faces = [], faces_with_squares()
    model = create_model(NAME, dataclasses.replace(PROFILE.model(NAME), px=32, weights="none"), 0)
    gauge = some_gauge(model)
    monkeypatch.setattr(packaged, "_try_out", lambda *parts: None)
    monkeypatch.setattr(packaged, "traces", lambda crops, sides: gauged.append(len(crops)) or traces(crops, sides))
    packaged.package(model, faces, gauge, PROFILE, tmp_path, "tiny", "noise")
    assert sum(gauged) == len(faces.select(split="val"))


def test_a_gauge_is_fitted_in_batches_and_no_bit_changes(monkeypatch):
    rng = np.random.default_rng(0)
    model = create_model(NAME, dataclasses.replace(PROFILE.model(NAME), px=32, weights="none"), 0)
    parts = [(rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8), rng.integers(40, 300, 5), np.full(5, crf))
             for crf in (18.0, 33.0, 51.0)]  # fmt: skip
    monkeypatch.setattr(packaged, "_at_rates", lambda path, *others: parts)
    crops, sides, crf = (np.concatenate(each) for each in zip(*parts, strict=True))
    whole = Gauge.fit(traces(crops, sides), looks(model, torch.from_numpy(crops).permute(0, 3, 1, 2))[1], crf)
    most = []
    monkeypatch.setattr(packaged, "traces", lambda crops, sides: most.append(len(crops)) or traces(crops, sides))
    monkeypatch.setattr(packaged, "BATCH", 4)
    found = packaged.fit_gauge(model, ["video"], PROFILE.faces, own=None, jobs=1)
    assert most == [4, 4, 4, 3] and all(np.array_equal(found.arrays()[name], value) for name, value in whole.arrays().items())


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

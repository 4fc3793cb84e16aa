from __future__ import annotations

import pytest
from fake_faces import make_faces, tiny_profile

from utils import grid
from utils.config import MODEL_NAMES, get_profile
from utils.models import WeightsUnavailable


def test_the_grid_is_every_network_in_every_phase_once():
    tasks = grid.chains(list(MODEL_NAMES), list(grid.TRAIN), [0, 1])
    cases = [(model, phase, seed) for model, phases, seed in tasks for phase in phases]
    assert len(cases) == len(set(cases)) == 2 * 3 * len(MODEL_NAMES)
    assert all(phases in (["trained", "post_trained"], ["noisy_trained"]) for _, phases, _ in tasks)
    assert all(set(MODEL_NAMES) == set(get_profile(name).models) for name in ("synthff", "ffpp"))
    assert grid.chains(["xception"], ["post_trained"], [0]) == [("xception", ["post_trained"], 0)]


@pytest.mark.slow
def test_a_grid_trains_scores_and_resumes(tmp_path, monkeypatch):
    profile = tiny_profile(tmp_path, iterations=1)
    monkeypatch.setattr(grid, "get_profile", lambda name: profile)
    monkeypatch.setattr(grid, "load_faces", lambda profile: make_faces())
    lines = grid.run_grid("tiny", ["resnet18"], list(grid.TRAIN), [0], jobs=1)
    assert sorted(lines) == [f"{phase}-resnet18-s0: done" for phase in sorted(grid.TRAIN)]
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.suffix in (".csv", ".safetensors")}
    assert len([path for path in files if path.parent == profile.workspace.predictions]) == 3
    assert grid.run_grid("tiny", ["resnet18"], list(grid.TRAIN), [0], jobs=1) == lines
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())


def test_networks_without_weights_are_left_out_with_the_reason(tmp_path, monkeypatch):
    def unavailable(*arguments):
        raise WeightsUnavailable("no network")

    monkeypatch.setattr(grid, "get_profile", lambda name: tiny_profile(tmp_path))
    monkeypatch.setattr(grid, "load_faces", lambda profile: None)
    monkeypatch.setitem(grid.TRAIN, "trained", unavailable)
    assert grid.run_chain("tiny", "efficientnet-b4-noisy", ["trained"], 0) == [
        "trained-efficientnet-b4-noisy-s0: left out, no network"
    ]

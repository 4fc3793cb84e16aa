from __future__ import annotations

import itertools
import json
import math
import os
import pickle
import platform
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_faces import make_faces, tiny_profile
from safetensors.torch import load_file, save_file

from utils.config import ModelConfig, TrainConfig
from utils.learn import checkpoints, loop, training
from utils.learn.augment import add_noise, draw_noise, for_twins
from utils.learn.dataset import CleanFirst, FaceSet, balanced_batches
from utils.learn.inference import probabilities
from utils.learn.loop import update_average, validate, warmup_cosine
from utils.learn.models import create_model, frozen_copy
from utils.learn.training import Supervised, fit, post_trained, trained

CONFIG = ModelConfig(px=16, steps=3, batch_size=4)
SHARED = TrainConfig(eval_every=2, ema=0.5)


@pytest.fixture
def faces():
    return make_faces()


def fit_tiny(faces, folder, seed=0, **changes):
    train, val = faces.select(split="train"), faces.select(split="val")
    config, shared = changes.pop("config", CONFIG), changes.pop("shared", SHARED)
    return fit(create_model("resnet18", config, seed), train, val, config, shared, folder, seed=seed, **changes)


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """Return the folder of a finished run, to be copied."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    fit_tiny(make_faces(), folder)
    return folder


def test_a_run_saves_what_is_needed_to_load_it_again(faces, tmp_path):
    model = fit_tiny(faces, tmp_path / "run", about={"phase": "trained"})
    loaded = checkpoints.load_model(tmp_path / "run")
    val = faces.select(split="val")
    assert torch.equal(probabilities(loaded, val), probabilities(model, val))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["seed"] == 0 and config["phase"] == "trained"
    assert torch.__version__.startswith(config["versions"]["torch"])
    assert {"git_commit", "hash", "model_config", "train_config"} <= set(config)
    log = checkpoints.read_log(tmp_path / "run")
    assert [line["step"] for line in log] == [2, 3]
    assert {"loss", "val_loss", "val_auc", "val_auc_c23", "val_auc_c40", "seconds"} <= set(log[0])
    result = checkpoints.read_json(tmp_path / "run" / "result.json")
    assert result["val_auc"] == max(line["val_auc"] for line in log)


def test_where_the_head_alone_learns_nothing_else_changes_and_its_rate_is_its_own(faces, tmp_path):
    start = create_model("resnet18", CONFIG, 0).state_dict()
    model = fit_tiny(faces, tmp_path / "run", layers="head", shared=replace(SHARED, ema=0.0, head_lr=0.01))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, start[name])}
    assert changed == {"network.fc.1.weight", "network.fc.1.bias"}
    for layers, rate in (("head", 0.01), ("all", CONFIG.lr)):
        network, train = create_model("resnet18", CONFIG, 0), faces.select(split="train")
        network.head_only() if layers == "head" else network.all_layers()
        objective = Supervised(train, CONFIG, SHARED, torch.Generator())
        began = loop.Fit(network, objective, CONFIG, replace(SHARED, head_lr=0.01, precision="fp32"), torch.device("cpu"))
        assert {group["initial_lr"] for group in began.optimiser.param_groups} == {rate}


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_another_network(path):
    save_file({f"other.{name}": value for name, value in load_file(path).items()}, path)


def without_numbers(path):
    weights = load_file(path)
    save_file({name: value * float("nan") if value.is_floating_point() else value for name, value in weights.items()}, path)


def pickled(path):
    path.write_bytes(pickle.dumps({"model": 1}))


SPOILT = [
    ("model.safetensors", cut, "can't be read"),
    ("model.safetensors", pickled, "can't be read"),
    ("model.safetensors", of_another_network, "the weights of another network than resnet18"),
    ("model.safetensors", without_numbers, "weights that are no numbers"),
    ("config.json", cut, "is no run's"),
    ("config.json", pickled, "is no run's"),
]


@pytest.mark.parametrize(("file", "spoil", "message"), SPOILT)
@pytest.mark.filterwarnings("ignore:.*train it again, which is done now")
def test_a_damaged_run_is_one_clear_line_and_is_trained_again(file, spoil, message, faces, a_run, tmp_path):
    folder, whole = shutil.copytree(a_run, tmp_path / "run"), checkpoints.load_model(a_run).state_dict()
    spoil(folder / file)
    with pytest.raises(checkpoints.Damaged, match=f"{file} .*{message}.*: train it again") as told:
        checkpoints.load_model(folder)
    assert str(folder) in str(told.value) and "\n" not in str(told.value)
    again = fit_tiny(faces, folder).state_dict()
    assert all(torch.equal(again[key], whole[key]) for key in whole)
    assert checkpoints.load_model(folder).name == "resnet18"


def text(value):
    return lambda path: path.write_text(value)


def otherwise(path):
    """Say in what a run was asked for that it was another network, under the old hash."""
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"model_config": {"px": "none"}}))


BROKEN = [
    *(("result.json", spoil) for spoil in (cut, text("[]"), text('{"val_auc": NaN}'))),
    *(("config.json", spoil) for spoil in (text("[]"), text("[" * 100_000), otherwise)),
    *(("log.jsonl", spoil) for spoil in (cut, Path.unlink)),
    ("model.safetensors", text("")),
]


@pytest.mark.parametrize(("file", "spoil"), BROKEN)
@pytest.mark.filterwarnings("ignore:.*train it again, which is done now")
def test_a_run_of_which_a_file_is_broken_is_trained_again(file, spoil, faces, a_run, tmp_path):
    folder, whole = shutil.copytree(a_run, tmp_path / "run"), checkpoints.load_model(a_run).state_dict()
    spoil(folder / file)
    again = fit_tiny(faces, folder).state_dict()
    assert all(torch.equal(again[key], whole[key]) for key in whole)
    assert checkpoints.load_model(folder).name == "resnet18" and checkpoints.read_log(folder)[-1]["step"] == 3
    assert checkpoints.finished(folder)["hash"] == checkpoints.finished(a_run)["hash"]


def test_a_broken_copy_of_the_chosen_run_is_copied_again(a_run, tmp_path):
    best, chosen = a_run, tmp_path / "chosen"
    checkpoints.select(chosen, best, phase="student")
    whole = {path.name: path.read_bytes() for path in chosen.iterdir()}
    assert set(whole) == {"config.json", "log.jsonl", "model.safetensors", "result.json"}
    for name in whole:
        for spoil in (cut, Path.unlink):
            spoil(chosen / name)
            checkpoints.select(chosen, best, phase="student")
            assert {path.name: path.read_bytes() for path in chosen.iterdir()} == whole
    before = (chosen / "result.json").stat().st_mtime_ns
    checkpoints.select(chosen, best, phase="student")
    assert (chosen / "result.json").stat().st_mtime_ns == before  # what was made from it stays newer


def test_a_run_of_another_kind_of_processor_is_kept_where_precision_is_left_to_it(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "precision_that_runs", lambda asked, *about: "fp32")
    whole = fit_tiny(faces, tmp_path / "run").state_dict()
    monkeypatch.setattr(training, "precision_that_runs", lambda asked, *about: "bf16" if asked == "auto" else asked)
    monkeypatch.setattr(loop, "run", lambda *given: pytest.fail("it was trained again"))
    again = fit_tiny(faces, tmp_path / "run").state_dict()
    assert all(torch.equal(again[key], whole[key]) for key in whole)
    with pytest.raises(pytest.fail.Exception):
        fit_tiny(faces, tmp_path / "run", shared=replace(SHARED, precision="bf16"))  # asked for by name


def test_threads_are_noted_as_they_were_used(faces, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fit_tiny(faces, tmp_path / "run", shared=replace(SHARED, num_threads=1))
    finally:
        torch.set_num_threads(before)
    assert json.loads((tmp_path / "run/config.json").read_text())["machine"]["threads"] == 1


def test_the_same_seed_gives_the_same_run(faces, tmp_path):
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(7)  # the global stream may stand anywhere
        fit_tiny(faces, tmp_path / name, seed=seed)
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    key = "network.layer1.0.conv1.weight"
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0][key], weights[2][key])


def test_a_finished_run_is_loaded_and_another_request_trains_again(faces, tmp_path, monkeypatch):
    fit_tiny(faces, tmp_path / "run")
    run, calls = loop.run, []
    monkeypatch.setattr(loop, "run", lambda *arguments: calls.append(1) or run(*arguments))
    again = fit_tiny(faces, tmp_path / "run")
    assert not calls and not again.training
    fit_tiny(faces, tmp_path / "run", shared=replace(SHARED, num_threads=1, workers=1, checkpoint_minutes=1, compile=True))
    assert not calls  # what is for speed alone does not change what is learned
    fit_tiny(faces, tmp_path / "run", config=replace(CONFIG, lr=2e-3))
    assert len(calls) == 1
    (tmp_path / "run" / "result.json").unlink()
    fit_tiny(faces, tmp_path / "run", config=replace(CONFIG, lr=2e-3))
    assert len(calls) == 2


def test_only_what_nobody_writes_any_more_is_swept_away(faces, tmp_path):
    folder, here = tmp_path / "run", platform.node()
    folder.mkdir()
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True, text=True)
    left, alive, elsewhere = (
        folder / f".scores.{machine}.{pid}.tmp.gz"
        for machine, pid in ((here, int(gone.stdout)), (here, os.getppid()), (f"{here}-2", int(gone.stdout)))
    )
    for path in (left, alive, elsewhere):
        path.touch()
    fit_tiny(faces, folder)
    assert not left.exists() and alive.exists() and elsewhere.exists()


def test_two_fits_of_one_folder_train_it_once(faces, tmp_path, monkeypatch):
    trained, real = [], training.loop.run
    monkeypatch.setattr(training.loop, "run", lambda *given, **more: trained.append(1) or real(*given, **more))
    threads = [threading.Thread(target=fit_tiny, args=(faces, tmp_path / "run")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trained == [1]


def test_fit_refuses_every_face_outside_train_and_val(faces, tmp_path):
    model = create_model("resnet18", CONFIG)
    train, val, test = (faces.select(split=split) for split in ("train", "val", "test"))
    wrong = [(train, test), (test, val), (train, train), (val, val), (faces, val), (train, faces)]
    wrong.append((train.hide_labels(0), val))
    for first, second in wrong:
        with pytest.raises(ValueError, match="training takes faces of the split"):
            fit(model, first, second, CONFIG, SHARED, tmp_path / "run", seed=0)
    assert not (tmp_path / "run").exists()


def test_validation_faces_of_one_class_are_refused_before_the_first_step(faces, tmp_path):
    val = faces.select(split="val")
    some = FaceSet(val.index[(val.index["quality"] == "c23") | (val.index["label"] == 0)], val.pixels)
    with pytest.raises(ValueError, match="no fake face validates at c40: add videos"):
        fit(create_model("resnet18", CONFIG), faces.select(split="train"), some, CONFIG, SHARED, tmp_path / "run", seed=0)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(faces, tmp_path):
    class Broken(Supervised):
        def compare(self, plan, logits):
            return {"loss": logits.sum() * float("nan")}

    with pytest.raises(FloatingPointError, match="run, step 1.*lower the learning rate"):
        fit_tiny(faces, tmp_path / "run", make_objective=Broken)
    assert not (tmp_path / "run" / "result.json").exists()


def test_patience_ends_a_run_that_gains_nothing(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "validate", lambda *arguments: {"val_auc": 0.5})
    shared = replace(SHARED, eval_every=1, patience=2)
    fit_tiny(faces, tmp_path / "run", config=replace(CONFIG, steps=10), shared=shared)
    assert [line["step"] for line in checkpoints.read_log(tmp_path / "run")] == [1, 2, 3]


@pytest.mark.slow
def test_the_last_weights_or_the_best_are_kept(faces, tmp_path, monkeypatch):
    scores = iter([0.9, 0.4] * 3)
    monkeypatch.setattr(loop, "validate", lambda *a: {"val_auc": next(scores)})
    steps = itertools.count(1)
    monkeypatch.setattr(loop, "update_average", lambda average, model, decay: average.mean.fill_(next(steps)))
    config = replace(CONFIG, steps=4)
    best = fit_tiny(faces, tmp_path / "best", config=config, shared=SHARED)
    assert best.mean.flatten()[0] == 2 and checkpoints.read_json(tmp_path / "best" / "result.json")["val_auc"] == 0.9
    last = fit_tiny(faces, tmp_path / "last", config=config, shared=replace(SHARED, keep="last"))
    assert last.mean.flatten()[0] == 8 and checkpoints.read_json(tmp_path / "last" / "result.json")["val_auc"] == 0.4
    with pytest.raises(ValueError, match="unknown keep"):
        fit_tiny(faces, tmp_path / "typo", config=config, shared=replace(SHARED, keep="lst"))


def test_a_small_network_learns_the_bright_mouth(tmp_path):
    config = ModelConfig(px=16, steps=30, batch_size=16)
    model = fit_tiny(make_faces(train=6), tmp_path / "run", config=config, shared=replace(SHARED, eval_every=10))
    test = make_faces(train=6).select(split="test")
    assert validate(model, test, SHARED)["val_auc"] > 0.95


def test_learning_rate_rises_and_falls():
    factors = [warmup_cosine(step, 100, 0.1) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == factors[10] == 1
    assert np.all(np.diff(factors[10:]) < 0) and factors[55] == pytest.approx(0.5) and factors[100] == pytest.approx(0)
    assert warmup_cosine(0, 1, 0.0) == 1


def test_average_of_the_weights_by_hand():
    model = create_model("resnet18", CONFIG)
    average = frozen_copy(model)
    with torch.no_grad():
        model.head[-1].bias.fill_(1.0)
        model.network.bn1.running_mean.fill_(3.0)
    update_average(average, model, 0.9)
    update_average(average, model, 0.9)
    assert torch.allclose(average.head[-1].bias, torch.full((2,), 0.19))
    assert torch.allclose(average.network.bn1.running_mean, torch.full((64,), 3 * 0.19))


def test_validation_against_a_loop_over_pairs_of_faces(faces):
    val = faces.select(split="val")
    model = create_model("resnet18", CONFIG).eval()
    record, p = validate(model, val, SHARED), probabilities(model, val)
    for quality in ("c23", "c40"):
        rows = np.flatnonzero(val.index["quality"] == quality)
        real = [p[i, 1].item() for i in rows if val.labels[i] == 0]
        fake = [p[i, 1].item() for i in rows if val.labels[i] == 1]
        wins = np.mean([(f > r) + 0.5 * (f == r) for f in fake for r in real])
        assert record[f"val_auc_{quality}"] == pytest.approx(wins)
    assert record["val_auc"] == pytest.approx((record["val_auc_c23"] + record["val_auc_c40"]) / 2)
    loss = -np.mean([math.log(p[i, label].item()) for i, label in enumerate(val.labels)])
    assert record["val_loss"] == pytest.approx(loss, rel=1e-5)


def test_phases_one_and_two(faces, tmp_path, monkeypatch):
    profile = tiny_profile(tmp_path)
    post_trained(profile, "resnet18", faces, seed=3)
    configs = {
        phase: checkpoints.read_json(profile.workspace.runs / f"{phase}-resnet18-s3" / "config.json")
        for phase in ("trained", "post_trained")
    }
    assert configs["trained"]["layers"] == configs["post_trained"]["layers"] == "all"  # no ImageNet weights here
    assert configs["post_trained"]["starts_from"] == configs["trained"]["hash"]
    assert len(configs["trained"]["data"]["pairs"]) == 4 and len(configs["post_trained"]["data"]["pairs"]) == 3
    # With ImageNet weights phase 1 learns the last layer alone.
    asked = {}
    monkeypatch.setattr(training, "fit", lambda *arguments, **options: asked.update(options))
    monkeypatch.setattr(training, "create_model", lambda *arguments: create_model("resnet18", CONFIG))
    profile.models["resnet18"] = replace(CONFIG, weights="imagenet")
    trained(profile, "resnet18", faces)
    assert asked["layers"] == "head"


def test_clean_first_shows_the_best_quality_alone_and_then_all():
    train = make_faces(train=4).select(split="train")
    config = replace(CONFIG, steps=10, batch_size=4, clean_first=0.6)
    batches = CleanFirst(train, config, torch.Generator().manual_seed(0))
    quality, labels = train.index["quality"].to_numpy(), train.labels
    drawn = [next(batches) for _ in range(40)]
    assert {name for items in drawn[:6] for name in quality[items]} == {"c23"}
    assert {name for items in drawn[6:] for name in quality[items]} == {"c23", "c40"}
    assert all(labels[items].float().mean() == 0.5 for items in drawn)
    usual = CleanFirst(train, CONFIG, torch.Generator().manual_seed(3))
    same = balanced_batches(labels, CONFIG.batch_size, torch.Generator().manual_seed(3))
    assert all(torch.equal(next(usual), next(same)) for _ in range(5))


def test_twins_are_the_same_frame_of_a_person_real_and_fake_under_the_same_augmentation():
    train = make_faces(train=4).select(split="train")
    config = replace(CONFIG, steps=10, batch_size=6, clean_first=0.5, twins=True)
    batches = CleanFirst(train, config, torch.Generator().manual_seed(0))
    for step in range(12):
        drawn = train.index.iloc[next(batches).numpy()]
        assert drawn["label"].tolist() == [0, 1] * 3
        for column in ("target", "frame", "quality"):
            assert (drawn[column].to_numpy()[0::2] == drawn[column].to_numpy()[1::2]).all()
        assert step >= 5 or set(drawn["quality"]) == {"c23"}
    images = torch.rand(3, 3, 8, 8).repeat_interleave(2, dim=0)
    out = for_twins(partial(add_noise, px=8), images, draw_noise(3, torch.Generator().manual_seed(1)))
    assert torch.equal(out[0::2], out[1::2]) and not torch.equal(out[0], out[2])
    alone = train.select(quality="c23", pairs=train.pairs)
    only_real = FaceSet(alone.index[alone.index["label"] == 0], alone.pixels)
    with pytest.raises(ValueError, match="no fake has its original"):
        next(CleanFirst(only_real, config, torch.Generator()))

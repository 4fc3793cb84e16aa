"""What needs a GPU: run by `make test` wherever there is one, skipped elsewhere. No GPU has run these yet."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from fake_faces import make_faces
from safetensors.torch import load_file

from utils.config import ModelConfig, NoisyStudentConfig, TrainConfig
from utils.learn import checkpoints, loop
from utils.learn.models import create_model
from utils.learn.noisy_student import student_objective
from utils.learn.training import fit

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine"),
]
CONFIG = ModelConfig(px=32, steps=30, batch_size=16)
SHARED = TrainConfig(eval_every=10, ema=0.5)


def fit_on_gpu(folder, shared, name="resnet18", config=CONFIG, **options):
    faces = make_faces(train=6, size=32)
    train, val = faces.select(split="train"), faces.select(split="val")
    model = fit(create_model(name, config, 1), train, val, config, shared, folder, seed=1, **options)
    assert next(model.parameters()).is_cuda and all(value.isfinite().all() for value in model.state_dict().values())
    return checkpoints.read_log(folder)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_fit_learns_on_a_gpu_in_each_precision(tmp_path, precision):
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU does not multiply bfloat16")
    log = fit_on_gpu(tmp_path / "run", replace(SHARED, precision=precision))
    assert log[-1]["val_auc"] > 0.9 and log[-1]["loss"] < log[0]["loss"]


@pytest.mark.parametrize("workers", [0, 3])
def test_crops_are_read_ahead_and_pinned_through_h264(tmp_path, workers):
    faces = make_faces(train=6, size=32)
    student = NoisyStudentConfig(
        mu=2, threshold=0.5, balance=False, teacher_view="c23", student_views=("c23", "c40"), degrade="h264"
    )  # fmt: skip
    objective = partial(
        student_objective, teacher=create_model("resnet18", CONFIG, 3).cuda(), seed=1, folder=tmp_path / "run", student=student,
        inputs_u=faces.select(split="train").hide_labels(0),
    )  # fmt: skip
    log = fit_on_gpu(tmp_path / "run", replace(SHARED, workers=workers), make_objective=objective)
    assert [line["step"] for line in log] == [10, 20, 30] and {"Lx", "Lu"} <= set(log[0])


def test_a_compiled_network_learns_and_saves_the_usual_names(tmp_path):
    log = fit_on_gpu(tmp_path / "run", replace(SHARED, compile=True))
    assert log[-1]["val_auc"] > 0.9
    assert load_file(tmp_path / "run" / "model.safetensors").keys() == create_model("resnet18", CONFIG).state_dict().keys()


def test_a_fit_in_fp16_goes_on_with_its_scaler_and_dropout(tmp_path, monkeypatch):
    shared, step = replace(SHARED, precision="fp16", checkpoint_minutes=1e-9), loop.Fit.step

    def stopping(self, *arguments):
        if self.progress.step == 15:
            raise KeyboardInterrupt
        step(self, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop.Fit, "step", stopping)
        fit_on_gpu(tmp_path / "run", shared)
    saved = torch.load(tmp_path / "run" / checkpoints.CHECKPOINT, weights_only=True)["state"]
    assert saved["scaler"]["scale"] > 0 and "cuda" in saved["random"][0] and saved["progress"]["step"] == 15
    log = fit_on_gpu(tmp_path / "run", shared)
    assert [line["step"] for line in log] == [10, 20, 30] and log[-1]["val_auc"] > 0.9

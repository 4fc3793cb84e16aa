"""In which precision a network computes: by hardware, and after the probe of bfloat16."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from fake_faces import make_faces, small_network

from utils.config import ModelConfig, TrainConfig
from utils.learn import loop, precision
from utils.learn.inference import probabilities
from utils.learn.models import create_model
from utils.learn.precision import precision_that_runs, why_not_bf16
from utils.learn.training import Supervised

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def units(monkeypatch):
    """A processor that multiplies bfloat16, and no verdict of earlier probes."""
    monkeypatch.setattr(precision, "cpu_bf16_units", lambda: ["avx512_bf16"])
    monkeypatch.setattr(precision, "_probed", {})


def fake_steps(monkeypatch, low: list, seconds=(1.0, 0.5)):
    """Let bfloat16's calls give, one after the other, these (loss, gradient); float32's gives (.7, (1, 0, 0))."""
    calls = iter(low)

    def step(model, images, labels, name):
        if name == "fp32":
            return 0.7, torch.tensor([1.0, 0.0, 0.0]), seconds[0]
        loss, gradient = next(calls, low[-1])
        return loss, torch.tensor(gradient), seconds[1]

    monkeypatch.setattr(precision, "_step", step)


def test_bf16_is_chosen_by_hardware(monkeypatch):
    for found in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda found=found: found, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        assert precision_that_runs("auto", CPU, 96) == ("bf16" if found else "fp32")
        assert precision_that_runs("auto", CPU, 32) == "fp32"
        assert precision_that_runs("bf16", CPU, 32) == "bf16" and precision_that_runs("fp32", CPU, 96) == "fp32"
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")  # by ATEN_CPU_CAPABILITY=avx2
        assert precision_that_runs("auto", CPU, 96) == "fp32"
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, found=found: found)
        assert precision_that_runs("auto", CUDA, 96) == ("bf16" if found else "fp16")  # never float32 on a GPU
    assert precision_that_runs("fp16", CUDA, 96) == "fp16"
    with pytest.raises(ValueError, match="unknown precision"):
        precision_that_runs("fp8", CPU, 96)
    with pytest.raises(ValueError, match="needs a CUDA device"):
        precision_that_runs("fp16", CPU, 96)


def test_kernels_that_are_wrong_or_unsteady_or_slow_are_found(monkeypatch):
    model, right, other = torch.nn.Linear(2, 2), (0.7, (1.0, 0.1, 0.0)), (0.7, (0.0, 1.0, 0.0))
    for low, seconds, reason in (
        ([right], (1.0, 0.5), "^$"),
        ([right], (1.0, 1.2), "^$"),  # within the margin: hardware units stay trusted on a busy machine
        ([(float("nan"), (1.0, 0.0, 0.0))], (1.0, 0.5), "the loss was nan"),
        ([(0.7, (float("nan"), 0.0, 0.0))], (1.0, 0.5), "norm nan"),
        ([(2.0, (1.0, 0.0, 0.0))], (1.0, 0.5), r"the loss was 2 \(float32: 0.7\)"),
        ([other], (1.0, 0.5), "cosine of 0.00 with float32's"),
        ([right, (0.7, (-0.1, 1.0, 0.0))], (1.0, 0.5), "cosine of 0.00 with those of a second call"),
        ([right], (1.0, 20.0), "20.0 times as long"),
    ):
        fake_steps(monkeypatch, low, seconds)
        assert re.search(reason, why_not_bf16(model, 4, 2)), (low, seconds)


def test_one_quick_round_is_enough(monkeypatch):
    seconds = iter([9.0, 9.0, 9.0, 0.5])  # somebody else had the machine

    def step(model, images, labels, name):
        return 0.7, torch.ones(3), 1.0 if name == "fp32" else next(seconds)

    monkeypatch.setattr(precision, "_step", step)
    assert why_not_bf16(torch.nn.Linear(2, 2), 4, 2) == ""


def test_a_probe_leaves_the_model_and_the_random_stream_alone():
    model = create_model("resnet18", ModelConfig(px=64, dropout=0.5))
    model.head_only()
    model.train()
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    modes = [module.training for module in model.modules()]
    assert why_not_bf16(model, 64, 2) == "" or not precision.cpu_bf16_units()  # emulated it is slow
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [p.requires_grad for p in model.parameters()].count(True) == 2


def test_bf16_reaches_the_network_wherever_it_is_asked_for(monkeypatch):
    """On any CPU, if slowly: a probe that compared float32 with itself would find nothing."""
    seen, faces = [], make_faces()
    model = small_network()
    model.network[0].register_forward_hook(lambda layer, given, out: seen.append(out.dtype))
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        precision._step(model, torch.rand(2, 3, 16, 16), torch.tensor([0, 1]), name)
        probabilities(model, faces.select(split="val"), precision=name)
        shared, config = TrainConfig(precision=name), ModelConfig(px=16, batch_size=4)
        objective = Supervised(faces.select(split="train"), config, shared, torch.Generator().manual_seed(0))
        fit = loop.Fit(model.train(), objective, config, shared, CPU)
        plan = objective.plan()
        fit.step(plan, objective.read(plan.crops), "a test")
        assert len(seen) >= 3 and set(seen) == {dtype}
        seen.clear()


def test_every_network_and_side_is_probed_once_and_a_warning_says_what_was_found(units, monkeypatch):
    calls = []
    monkeypatch.setattr(precision, "why_not_bf16", lambda model, px, faces: calls.append((px, faces)) or "a" * (px == 96))
    model = create_model("resnet18", ModelConfig(px=64))
    with pytest.warns(UserWarning, match="resnet18 at 96 px computes in float32 here: in bfloat16, a"):
        assert precision_that_runs("auto", CPU, 96, model) == "fp32"
    assert [precision_that_runs("auto", CPU, px, model) for px in (96, 64, 64)] == ["fp32", "bf16", "bf16"]
    assert precision_that_runs("auto", CPU, 64, model, faces=16) == "bf16"
    assert calls == [(96, 8), (64, 8), (64, 16)]
    assert precision_that_runs("bf16", CPU, 96, model) == "bf16" and len(calls) == 3  # who names it gets it

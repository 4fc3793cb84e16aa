"""Scores by PyTorch, and who scores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_faces import make_faces
from torch.overrides import TorchFunctionMode

from utils.config import ModelConfig
from utils.learn.inference import looks, probabilities, scorer_that_runs
from utils.learn.models import create_model, frozen_copy
from utils.paths import ROOT

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_probabilities_do_not_depend_on_the_batch_and_keep_the_mode():
    faces = make_faces().select(split="val")
    model = create_model("resnet18", ModelConfig(px=16))
    model.train()
    p = probabilities(model, faces, batch_size=5)
    assert model.training and p.shape == (len(faces), 2)
    assert torch.allclose(p.sum(1), torch.ones(len(faces)), atol=1e-5)
    assert torch.allclose(p, probabilities(model, faces, batch_size=100), atol=1e-5)
    assert not any(parameter.requires_grad for parameter in frozen_copy(model).parameters())


class BroughtBack(TorchFunctionMode):
    """Gives zeros for what is brought back from the device "meta", which takes part in any arithmetic but holds no numbers."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.cpu and args[0].is_meta:
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        return function(*args, **(kwargs or {}))


def test_looks_takes_images_to_the_network_and_brings_back_what_it_says():
    model = create_model("efficientnet-lite0", ModelConfig(px=32, weights="none"))
    images = torch.zeros(5, 3, 32, 32, dtype=torch.uint8)
    here = looks(model, images, batch_size=2)
    with BroughtBack():
        there = looks(model.to("meta"), images, batch_size=2)
    for one, other in zip(here, there, strict=True):
        assert isinstance(other, np.ndarray) and one.shape == other.shape and one.dtype == other.dtype


def test_who_scores_is_pytorch_unless_openvino_is_asked_for():
    assert scorer_that_runs("auto", CPU, "fp32") == scorer_that_runs("auto", CUDA, "bf16") == "torch"
    assert scorer_that_runs("openvino", CPU, "fp32") == "openvino"
    with pytest.raises(ValueError, match="unknown scorer 'onnx'"):
        scorer_that_runs("onnx", CPU, "fp32")
    for device, precision in ((CUDA, "fp32"), (CPU, "bf16")):
        with pytest.raises(ValueError, match="OpenVINO scores in float32 on a CPU"):
            scorer_that_runs("openvino", device, precision)


@pytest.mark.slow
def test_openvino_scores_as_pytorch_does():
    tests = Path(__file__).with_name("openvino_scores.py")
    done = subprocess.run([sys.executable, "-m", "pytest", str(tests)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:]

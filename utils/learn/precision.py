"""In which precision a network computes on this machine: by what the hardware multiplies, after a probe of what it gives."""

from __future__ import annotations

import copy
import platform
import time
import warnings

import torch
import torch.nn.functional as F
from torch import nn

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BF16_PX = 64  # side of the smallest images that a CPU computes in bfloat16
PROBE_FACES = 8
LEAST_COSINE = 0.5  # of two gradients: bfloat16's rounding leaves .7 (Lite0 from nothing) and more, a wrong kernel about 0
MOST_LOSS = 0.2  # by which the loss may differ, and as part of it: at the start it is .69 and differs by .003 at most
ROUNDS, MARGIN = 5, 1.5  # bfloat16 is given up where it takes that many times float32's seconds in every round
_probed: dict[tuple, str] = {}  # (network, side, faces) -> why not bfloat16, "" where nothing speaks against it


def pick_device() -> torch.device:
    """Return CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or on a CPU its kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_kind()


def precision_that_runs(
    precision: str, device: torch.device, px: int, model: nn.Module | None = None, faces: int = PROBE_FACES
) -> str:
    """Return "fp32", "bf16" or "fp16" for a precision of `TrainConfig`; "auto": the fastest that agrees with float32.

    On a CPU that is bfloat16 only where the hardware multiplies it: without AMX or AVX512-BF16 it is emulated, about twenty
    times slower than float32. Images of a side `px` below `BF16_PX` stay in float32: their last maps have one pixel, where
    bfloat16 convolutions gave other gradients at every call, some of them NaN (ResNet-18, 16 px). With a `model`, it is also
    probed once a process with so many `faces` (`why_not_bf16`), and a warning says what speaks against it. CUDA without
    native bfloat16 (before Ampere) takes float16. Raises ValueError for an unknown precision, or float16 outside of CUDA.
    """
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"unknown precision {precision!r}: choose auto, fp32, bf16 or fp16")
    if precision == "fp16" and device.type != "cuda":
        raise ValueError(f"precision 'fp16' needs a CUDA device, not {device.type}: choose auto, fp32 or bf16")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type != "cpu" or px < BF16_PX or not cpu_bf16_units():
        return "fp32"
    if model is None:
        return "bf16"
    key = (getattr(model, "name", type(model).__name__), px, faces)
    if key not in _probed:
        _probed[key] = why_not_bf16(model, px, faces)
        if _probed[key]:
            warnings.warn(f"{key[0]} at {px} px computes in float32 here: in bfloat16, {_probed[key]}", stacklevel=2)
    return "fp32" if _probed[key] else "bf16"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network computes in a precision; none of its changes for float32."""
    low = precision != "fp32"
    return torch.autocast(device.type, dtype=PRECISIONS[precision] if low else None, enabled=low)


def why_not_bf16(model: nn.Module, px: int, faces: int = PROBE_FACES) -> str:
    """Return what speaks against bfloat16 for a network on this CPU, "" if nothing does: wrong, unsteady or slow steps.

    One batch of `faces` random images (faces, 3, px, px) goes forward and backward in both precisions, by a copy of the
    model; the global random stream stays. Wrong: loss or gradients are not finite or far from float32's, or from those
    of a second call. Slow: every one of up to `ROUNDS` rounds takes `MARGIN` times float32's seconds or more; the first
    round that does not ends the probe, so that a busy machine does not change what is learned.
    """
    probe = _probe_copy(model)
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(faces, 3, px, px, generator=generator), torch.arange(faces) % 2
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        loss, gradient, _ = _step(probe, images, labels, "fp32")
        low, low_gradient, _ = _step(probe, images, labels, "bf16")
        _, again, low_seconds = _step(probe, images, labels, "bf16")
        if not torch.isfinite(low_gradient).all() or not abs(low - loss) <= MOST_LOSS * (1 + loss):
            return f"the loss was {low:.3g} (float32: {loss:.3g}), with gradients of norm {low_gradient.norm():.3g}"
        for other, name in ((gradient, "float32's"), (again, "those of a second call")):
            cosine = F.cosine_similarity(low_gradient, other, dim=0).item()
            if not cosine >= LEAST_COSINE:
                return f"gradients had a cosine of {cosine:.2f} with {name}"
        ratios = []
        for _ in range(ROUNDS):
            ratios.append(low_seconds / _step(probe, images, labels, "fp32")[2])
            if ratios[-1] < MARGIN:
                return ""
            low_seconds = _step(probe, images, labels, "bf16")[2]
    return f"a step took {sorted(ratios)[len(ratios) // 2]:.1f} times as long"


def _probe_copy(model: nn.Module) -> nn.Module:
    """Return a copy of which every layer learns, without noise: dropout and stochastic depth off, batch statistics on."""
    probe = copy.deepcopy(model).requires_grad_(True)
    for module in probe.modules():  # not `train()`: a Detector whose last layer alone learns does it otherwise
        module.training = isinstance(module, nn.BatchNorm2d)
    return probe


def _step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, precision: str) -> tuple[float, torch.Tensor, float]:
    """Return loss, gradient as one vector, and seconds of a forward and a backward pass."""
    began = time.perf_counter()
    with autocast(images.device, precision):
        loss = F.cross_entropy(model(images), labels)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    seconds = time.perf_counter() - began
    return loss.item(), torch.cat([gradient.float().flatten() for gradient in gradients]), seconds


def cpu_bf16_units() -> list[str]:
    """Return which units of the processor multiply bfloat16, of "amx" and "avx512_bf16"; none where torch is held below."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return []  # as ATEN_CPU_CAPABILITY=avx2 does
    checks = {"amx": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}
    return [name for name, check in checks.items() if getattr(torch.cpu, check, lambda: False)()]


def cpu_kind() -> str:
    """Return what bits depend on besides versions: architecture, vector width in use, bfloat16 units."""
    return " ".join([platform.machine(), torch.backends.cpu.get_cpu_capability(), *cpu_bf16_units()])

"""One process or several: who this one is, what all of them agree on, and scoring that is shared out.

Several are started by `accelerate launch` or `torchrun`; each runs the same program. Hugging Face Accelerate finds out who is
who and joins them. Without a launcher every function here is the trivial one, and nothing is imported.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import cache

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from utils.learn.models import Detector
from utils.learn.precision import pick_device

PATIENCE = timedelta(hours=6)  # how long the others wait while the main process labels or writes


def world() -> int:
    """Return how many processes train together."""
    return _state().num_processes if _launched() else 1


def rank() -> int:
    """Return this process's number among them, from 0."""
    return _state().process_index if _launched() else 0


def is_main() -> bool:
    """Tell whether this process is the one that logs and writes."""
    return rank() == 0


def device() -> torch.device:
    """Return where this process computes; of several, each has a GPU of its own."""
    return _state().device if _launched() else pick_device()


def wait() -> None:
    """Wait until every process has come here."""
    if _launched():
        _state().wait_for_everyone()


def main_first() -> AbstractContextManager:
    """Let the main process go through a block before the others, which then find what it has made."""
    return _state().main_process_first() if _launched() else nullcontext()


def agreed(yes: bool) -> bool:
    """Return what the main process says, in every process."""
    if not _launched():
        return yes
    said = torch.tensor([float(yes)], device=_state().device)
    torch.distributed.broadcast(said, 0)
    return bool(said.item())


def mean(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the losses as plain numbers: their means over all processes."""
    if not _launched():
        return {name: value.item() for name, value in losses.items()}
    values = torch.stack([value.detach().float() for value in losses.values()])
    torch.distributed.all_reduce(values)
    return dict(zip(losses, (values / world()).tolist(), strict=True))


def gathered(mine: list) -> list:
    """Return the items of all processes, first process first, in every process."""
    if not _launched():
        return mine
    from accelerate.utils import gather_object

    return gather_object(mine)


class Shard:
    """Some faces of a set, by position: has a length and `images(items)`, as the set has."""

    def __init__(self, faces, positions: range):
        self.faces, self.positions = faces, positions

    def __len__(self) -> int:
        return len(self.positions)

    def images(self, items) -> torch.Tensor:
        return self.faces.images([self.positions[item] for item in items])


def in_shards(score: Callable[..., torch.Tensor], faces) -> torch.Tensor:
    """Return `score(faces)`, one row a face: each process scores its share, and all get every row, once and in order."""
    if world() == 1:
        return score(faces)
    shard = Shard(faces, range(*share_of(len(faces), rank(), world())))
    return torch.cat(gathered([score(shard).cpu()] if len(shard) else []))


def together(model: Detector) -> nn.Module:
    """Return the network as it is called in training: it averages gradients over the processes, if there are several."""
    if not _launched():
        return model
    devices = [_state().device] if _state().device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=devices)


def share_statistics(model: Detector) -> Detector:
    """Let batch normalisation see the whole batch: torch can on CUDA only; elsewhere each process sees its own part."""
    return convert_sync_batchnorm(model) if _launched() and _state().device.type == "cuda" else model


def same_statistics(model: Detector) -> None:
    """Give every process the main one's batch statistics, which differ where each sees its own part of the batch."""
    if _launched():
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


def share_of(count: int, rank: int, world: int) -> tuple[int, int]:
    """Return where the share of one process in `count` things begins and ends."""
    return count * rank // world, count * (rank + 1) // world


def _launched() -> bool:
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and "RANK" in os.environ


@cache
def _state():
    from accelerate import PartialState

    only_cpu = pick_device().type == "cpu" or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    state = PartialState(cpu=only_cpu, timeout=PATIENCE)
    atexit.register(state.destroy_process_group)
    return state

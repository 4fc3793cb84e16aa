"""Draw, then do: a step's plan holds everything random of it, so that the work can be done anywhere and ahead of time.

    draw     positions, strengths of compression, noise          in the main process, step by step, from one generator
    read     crops off the memory map, through H.264 or JPEG     in worker processes, or in the main one
    noise    move, re-colour, RandAugment                        on the device
    compare  predictions with labels and pseudo-labels           on the device, behind the network

Plans do not depend on who reads, so results are the same with any number of workers, and a fit can go on from any step.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from utils.config import ModelConfig, TrainConfig
from utils.learn.augment import Noise, add_noise, degradation, draw_noise, for_twins, to_float
from utils.learn.dataset import CleanFirst, FaceSet, UnlabelledFaces
from utils.learn.distributed import share_of
from utils.learn.models import Detector

Losses = dict[str, torch.Tensor]  # "loss" is what is minimised, other entries are logged
AHEAD = 4  # batches that each worker may be ahead
BESIDE_A_GPU = 8  # workers at most: H.264 takes 7 ms and more of a 380 px crop


@dataclass(frozen=True)
class Crops:
    """Faces of a step as a worker gets them: positions (n,), and which of them (k,) are degraded how strongly (k,)."""

    items: np.ndarray
    view: str = ""  # of the pool; "": labelled faces
    degraded: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    strengths: np.ndarray = field(default_factory=lambda: np.empty(0))

    def rows(self, first: int, last: int) -> Crops:
        inside = (self.degraded >= first) & (self.degraded < last)
        return Crops(self.items[first:last], self.view, self.degraded[inside] - first, self.strengths[inside])


@dataclass(frozen=True)
class Part:
    """Labelled faces, or unlabelled ones in one view, of one step, with their noise; of twins, two share a row of it."""

    crops: Crops
    noise: Noise

    def __len__(self) -> int:
        return len(self.crops.items)

    @property
    def twins(self) -> bool:
        return len(self.noise.theta) < len(self)

    def share(self, rank: int, world: int, together: int = 1) -> Part:
        """Return the share of one process of several; `together` neighbours, such as twins, stay together."""
        first, last = (together * end for end in share_of(len(self) // together, rank, world))
        if first == last:
            raise ValueError(f"{len(self)} faces of a batch do not go round {world} processes: start fewer")
        one = 2 if self.twins else 1
        return Part(self.crops.rows(first, last), self.noise.rows(slice(first // one, last // one)))


@dataclass(frozen=True)
class Plan:
    """One step: labelled faces `x`, unlabelled ones `u` view by view, and where the random streams stand behind it."""

    x: Part
    u: tuple[Part, ...] = ()
    seen: tuple[Crops, ...] = ()  # what a teacher looks at within the step, for each part of `u`: not noised, not learned from
    after: dict = field(default_factory=dict)
    weight_x: float = 1.0  # of this process's mean losses, so that their mean over processes is that of the whole batch
    weight_u: float = 1.0

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self.x, *self.u)

    @property
    def crops(self) -> list[Crops]:
        """What is to be read."""
        return [*(part.crops for part in self.parts), *self.seen]

    def share(self, rank: int, world: int) -> Plan:
        """Return what one process of several does of the step: its share of every part of the batch."""
        x, u = self.x.share(rank, world, together=2), tuple(part.share(rank, world) for part in self.u)
        seen = tuple(crops.rows(*share_of(len(crops.items), rank, world)) for crops in self.seen)
        weight_u = world * sum(map(len, u)) / sum(map(len, self.u)) if u else 1.0
        return replace(self, x=x, u=u, seen=seen, weight_x=world * len(x) / len(self.x), weight_u=weight_u)


@dataclass
class Objective(ABC):
    """What a network learns from; `fit` calls `plan`, `read`, `noise`, the network and `compare` in turn."""

    train: FaceSet
    config: ModelConfig
    shared: TrainConfig
    generator: torch.Generator

    inputs_u: UnlabelledFaces | None = None
    how = "none"  # its clean images are degraded
    operations, magnitude = 0, 0.0  # of RandAugment

    def __post_init__(self):
        self.batches_x = CleanFirst(self.train, self.config, self.generator)

    @abstractmethod
    def draw(self) -> Plan:
        """Draw everything random of the next step."""

    @abstractmethod
    def compare(self, plan: Plan, logits: torch.Tensor) -> Losses:
        """Return the losses of predictions (B + mu B, 2), labelled images first."""

    def watch(self, model: Detector, average: Detector) -> None:  # noqa: B027 - most have nothing to see
        """Get to know the network in training and the average of its weights, before the first step."""

    def plan(self) -> Plan:
        """Draw the next step; the plan notes where the streams stand, so that they can go on behind it."""
        return replace(self.draw(), after=self.state_dict())

    def read(self, crops: list[Crops]) -> list[torch.Tensor]:
        """Return the crops as uint8 (n, 3, S, S), behind the codec if they are degraded by one."""
        return [self._read(each) for each in crops]

    def _read(self, crops: Crops) -> torch.Tensor:
        images = self.inputs_u.images(crops.items, crops.view) if crops.view else self.train.images(crops.items)
        if len(crops.degraded) and degradation(self.how).codec:
            images[crops.degraded] = degradation(self.how).of_bytes(images[crops.degraded], crops.strengths)
        return images

    def noise(self, plan: Plan, pixels: list[torch.Tensor], px: int, device: torch.device) -> torch.Tensor:
        """Return the step's images as the network gets them, (B + mu B, 3, px, px), labelled ones first."""
        images_x, *images_u = [self._on(device, part.crops, each) for part, each in zip(plan.parts, pixels, strict=True)]
        noised = partial(add_noise, px=px, m=self.magnitude)
        inputs_x = for_twins(noised, images_x, plan.x.noise) if plan.x.twins else noised(images_x, plan.x.noise)
        if not images_u:
            return inputs_x
        noise_u = Noise.joined([part.noise for part in plan.u])
        return torch.cat([inputs_x, noised(torch.cat(images_u), noise_u)])

    def _on(self, device: torch.device, crops: Crops, pixels: torch.Tensor) -> torch.Tensor:
        images, way = to_float(pixels.to(device, non_blocking=True)), degradation(self.how)
        if len(crops.degraded) == len(images):
            return way.of_floats(images, crops.strengths)
        if len(crops.degraded):
            images[crops.degraded] = way.of_floats(images[crops.degraded], crops.strengths)
        return images

    @property
    def together(self) -> int:
        """How many labelled images in a row have their noise in common: two where they are twins."""
        return 2 if self.config.twins else 1

    def draw_noise(self, count: int) -> Noise:
        return draw_noise(count, self.generator, self.shared.augment, self.operations)

    def draw_strengths(self, count: int) -> np.ndarray:
        return degradation(self.how).draw(count, self.generator, self.shared.augment).numpy()

    def labels(self, plan: Plan, device: torch.device) -> torch.Tensor:
        return self.train.labels[plan.x.crops.items].to(device)

    def state_dict(self) -> dict:
        """Return where all random streams stand."""
        return {"generator": self.generator.get_state(), "x": self.batches_x.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.generator.set_state(state["generator"])
        self.batches_x.load_state_dict(state["x"])


class _Reader(Dataset):
    """What workers do: item by item, the item being what is to be read."""

    def __init__(self, objective: Objective):
        self.objective = objective

    def __getitem__(self, crops: list[Crops]) -> list[torch.Tensor]:
        return self.objective.read(crops)


def planned(
    objective: Objective, steps: int, workers: int, device: torch.device, rank: int = 0, world: int = 1
) -> Iterator[tuple[Plan, list[torch.Tensor]]]:
    """Yield so many plans with their pixels, read ahead by `workers` processes; with 0 nothing is started.

    Of several training processes each draws the same plans and reads its share.
    """
    drawn: deque[Plan] = deque()

    def orders() -> Iterator[list[Crops]]:
        for _ in range(steps):
            plan = objective.plan()
            drawn.append(plan.share(rank, world) if world > 1 else plan)
            yield drawn[-1].crops

    loader = DataLoader(
        _Reader(objective), sampler=orders(), batch_size=None, num_workers=workers, pin_memory=device.type == "cuda",
        prefetch_factor=AHEAD if workers else None, multiprocessing_context="fork" if workers else None,
        generator=torch.Generator(),  # its own, or it would draw a number from the stream of dropout
    )  # fmt: skip
    for pixels in loader:
        yield drawn.popleft(), pixels


def reading_workers(wanted: int | None, device: torch.device) -> int:
    """Return how many processes read ahead: as many as wanted, else some beside a GPU and none beside a CPU, which is busy.

    They are forked, so that the memory map is shared: on Linux alone, and not behind OpenVINO, after which a process that
    forks crashes sooner or later.
    """
    if sys.platform != "linux" or "openvino" in sys.modules:
        return 0
    if wanted is not None:
        return wanted
    return min(BESIDE_A_GPU, os.cpu_count()) if device.type == "cuda" else 0

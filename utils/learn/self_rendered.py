"""Learning without fakes: real faces against the same faces whose mouths were drawn anew (phase `self_rendered`).

A twin is the same frame: the same person, expression and light, pasted through a soft random mask. Both then go through the
same compression and the same noise, so that only what a small network leaves in a mouth tells them apart. No fake is seen, and
no label but "real". *Self-blended images* (Shiohara & Yamasaki 2022) are made in the same way, to compare with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from utils.config import (
    CRF,
    CRITIC_LR,
    FINE_REDRAWERS,
    MASKS,
    REDRAWERS,
    ModelConfig,
    NoisyStudentConfig,
    Profile,
    RedrawerConfig,
    SelfRenderedConfig,
    TrainConfig,
)
from utils.faces import cache
from utils.faces.encode import best
from utils.faces.landmarks import draw_masks, landmarks
from utils.learn import checkpoints
from utils.learn.augment import degradation
from utils.learn.dataset import FaceSet, endless_batches
from utils.learn.models import Detector, create_model
from utils.learn.noisy_student import StudentStep
from utils.learn.plans import Crops, Objective, Part, Plan
from utils.learn.redrawers import Redrawer, redraw, train_redrawer
from utils.learn.training import Supervised, fit
from utils.paths import alone, atomic, write_json

PHASE = "self_rendered"


# ---- twins ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TwinMaker:
    """Makes twins of faces: what is random of them is `drawn` (N, D), everything else is fixed."""

    redrawers: tuple[Redrawer, ...] = ()  # none: self-blended images

    def draw(self, count: int, generator: torch.Generator) -> np.ndarray:
        """Draw what is random of so many twins (count, D): the mask, which redrawer, a seed."""
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        which = rng.integers(max(1, len(self.redrawers)), size=count)
        return np.column_stack([draw_masks(count, rng), which, rng.integers(2**31, size=count)])

    def __call__(self, crops: np.ndarray, points: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Return the twins of crops, uint8 RGB (N, S, S, 3), with landmarks (N, 68, 2)."""
        if self.redrawers:
            return redraw(crops, points, drawn[:, :5], drawn[:, 5].astype(int), self.redrawers)
        made = [self_blended(*each) for each in zip(crops, points, drawn[:, -1], strict=True)]
        return np.stack(made)


def self_blended(crop: np.ndarray, points: np.ndarray, seed: float) -> np.ndarray:
    """Return a self-blended image (Shiohara & Yamasaki 2022) of a crop, uint8 RGB (S, S, 3): the face over itself.

    One of the two copies is re-coloured, made softer or sharper, and moved by a few px; the mask is the hull of the landmarks,
    deformed and blurred; it is blended in by a part or wholly. Numbers are those of the authors' released code.
    """
    rng, size = np.random.default_rng(int(seed)), crop.shape[1]
    changed = crop.astype(np.float32) + (rng.random() < 0.3) * rng.uniform(-20, 20, 3)
    bright, contrast = rng.uniform(-0.1, 0.1, 2)
    changed = ((1 + contrast) * changed + 255 * bright).clip(0, 255).astype(np.float32)
    if rng.random() < 0.5:
        small = max(8, size // int(rng.choice([2, 4])))
        changed = cv2.resize(cv2.resize(changed, (small, small), interpolation=cv2.INTER_AREA), (size, size))
    else:
        changed += rng.uniform(0.2, 0.5) * (changed - cv2.GaussianBlur(changed, (0, 0), 1.5))
    source, target = (changed, crop.astype(np.float32)) if rng.random() < 0.5 else (crop.astype(np.float32), changed)
    move = np.float32([[rng.uniform(0.95, 1.05), 0, 0], [0, rng.uniform(0.95, 1.05), 0]])
    move[:, 2] = rng.uniform(-0.03, 0.03, 2) * size + (1 - move[(0, 1), (0, 1)]) * size / 2
    source = cv2.warpAffine(source, move, (size, size), borderMode=cv2.BORDER_REFLECT)
    hull = cv2.convexHull((points + rng.normal(0, 0.015 * size, points.shape)).astype(np.float32)).round().astype(np.int32)
    mask = np.zeros((size, size), np.float32)
    cv2.fillConvexPoly(mask, hull, 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.01, 0.05) * size) * rng.choice([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    return (mask[..., None] * source + (1 - mask[..., None]) * target).clip(0, 255).round().astype(np.uint8)


# ---- the objective --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TwinCrops(Crops):
    """Originals of a step, each twice: as it is and as its twin, with what is random of the twins (n / 2, D)."""

    drawn: np.ndarray | None = None

    def rows(self, first: int, last: int) -> TwinCrops:
        part = super().rows(first, last)
        return TwinCrops(part.items, part.view, part.degraded, part.strengths, self.drawn[first // 2 : last // 2])


class AgainstTwins(Supervised):
    """Cross-entropy on originals and their twins, side by side, under the same noise; labels of `train` are not looked at.

    With `student` the noise is that of a student: the control of `StudentOfTwins`.
    """

    how = "h264"

    def __init__(
        self, train: FaceSet, config: ModelConfig, shared: TrainConfig, generator: torch.Generator, *,
        make: TwinMaker, points: np.ndarray, settings: SelfRenderedConfig, student: NoisyStudentConfig | None = None,
    ):  # fmt: skip
        self.make, self.points, self.settings = make, points, settings
        if student:
            self.operations, self.magnitude = student.randaugment_n, student.randaugment_m
        super().__init__(train, config, shared, generator)

    def __post_init__(self):
        self.batches_x = endless_batches(len(self.train), self.config.batch_size // 2, self.generator)

    def draw(self) -> Plan:
        x = next(self.batches_x)
        drawn = self.make.draw(len(x), self.generator)
        chosen = torch.nonzero(torch.rand(len(x), generator=self.generator) < self.settings.degraded_share).flatten().numpy()
        strengths = self.draw_strengths(len(chosen))
        degraded, both = np.stack([2 * chosen, 2 * chosen + 1], axis=1).ravel(), np.repeat(strengths, 2)
        crops = TwinCrops(x.numpy().repeat(2), degraded=degraded, strengths=both, drawn=drawn)
        return Plan(Part(crops, self.draw_noise(len(x))))

    def _read(self, crops: Crops) -> torch.Tensor:
        if crops.view:  # of the pool
            return Objective._read(self, crops)
        items = crops.items[::2]
        real = self.train.images(items).permute(0, 2, 3, 1).numpy()
        twins = self.make(real, self.points[items], crops.drawn)
        images = torch.from_numpy(np.stack([real, twins], axis=1).reshape(-1, *real.shape[1:])).permute(0, 3, 1, 2)
        if len(crops.degraded):
            images[crops.degraded] = degradation(self.how).of_bytes(images[crops.degraded], crops.strengths)
        return images

    def labels(self, plan: Plan, device: torch.device) -> torch.Tensor:
        return torch.arange(len(plan.x), device=device) % 2


class StudentOfTwins(AgainstTwins, StudentStep):
    """A Noisy Student that has originals and their twins in the place of labelled faces.

    Arguments: those of AgainstTwins, and `inputs_u`, `pseudo` and `student` of StudentStep.
    """

    def __init__(self, *labelled, make: TwinMaker, points: np.ndarray, settings: SelfRenderedConfig, **pool):
        self.make, self.points, self.settings = make, points, settings
        StudentStep.__init__(self, *labelled, **pool)

    def draw(self) -> Plan:
        x = super().draw().x
        u = self.next_u()
        strengths = self.draw_strengths(len(u.get(self.inputs_u.clean, ())))
        return Plan(x, tuple(self.parts_u(u, strengths, self.draw_noise(sum(map(len, u.values()))))))

    compare = StudentStep.compare


# ---- from one end to the other --------------------------------------------------------------------------------------------


def originals(faces: FaceSet, split: str, quality: str) -> FaceSet:
    """Return the real faces of a split in one quality: all that is ever learned from."""
    part = faces.select(split=split, quality=quality)
    return FaceSet(part.index[part.index["label"] == 0], part.pixels)


def load_redrawers(
    folder: Path, faces: FaceSet, profile: Profile, names: Sequence[str], seed: int
) -> tuple[Redrawer, ...]:
    """Return redrawers by name, trained on some real faces; those that the folder has of the same faces are read.

    A damaged file counts as missing. Raises ValueError where training gives weights that are no numbers.
    """
    made, crops = [], None
    for name in names:
        config = (REDRAWERS | FINE_REDRAWERS)[name]
        asked = {"config": asdict(config), "critic_lr": CRITIC_LR, "faces": faces.fingerprint(), "masks": MASKS, "seed": seed}
        path = folder / f"{name}.safetensors"
        about = path.with_suffix(".json")
        with alone(folder / f".{name}"):  # another process may train it
            found = _loaded(path, config) if cache.load(about) == _plain(asked) else None
            if found is None:
                crops = _crops(faces) if crops is None else crops
                redrawer, _ = train_redrawer(crops, landmarks_of(faces, profile), config, seed, name)
                about.unlink(missing_ok=True)  # it is of the weights that were here
                with atomic(path) as temporary:
                    save_file(redrawer.state_dict(), temporary)
                found = _loaded(path, config)
                if found is None:
                    raise ValueError(f"{path} holds no numbers after training: set a lower lr for {name} in utils/config.py")
                write_json(about, _plain(asked))
        made.append(found)
    return tuple(made)


def _loaded(path: Path, config: RedrawerConfig) -> Redrawer | None:
    """Return the redrawer of a file, None where that is missing, damaged, or holds what are no numbers."""
    redrawer = Redrawer(config)
    try:
        redrawer.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError):
        return None
    whole = all(value.isfinite().all() for value in redrawer.state_dict().values())
    return redrawer.eval().requires_grad_(False) if whole else None


def _plain(value: dict) -> dict:
    """Return what JSON makes of a value: lists for tuples."""
    return {key: _plain(one) if isinstance(one, dict) else list(one) if isinstance(one, tuple) else one
            for key, one in value.items()}  # fmt: skip


def with_twins(real: FaceSet, make: TwinMaker, points: np.ndarray, crf: int, seed: int) -> FaceSet:
    """Return faces and a twin of each, as they are (c23) and behind H.264 at `crf` (c40): to validate on."""
    generator = torch.Generator().manual_seed(seed)
    crops = _crops(real)
    twins = make(crops, points, make.draw(len(crops), generator))
    plain = np.concatenate([crops, twins])
    coarse = degradation("h264").of_bytes(torch.from_numpy(plain).permute(0, 3, 1, 2), np.full(len(plain), crf))
    pixels = np.concatenate([plain, coarse.permute(0, 2, 3, 1).numpy()])
    index = real.index
    twin = index.assign(label=1, method=PHASE, video_id=index["video_id"] + "_" + index["video_id"])
    table = [part.assign(quality=quality) for quality in CRF for part in (index, twin)]
    stacked = pd.concat(table, ignore_index=True)
    return FaceSet(stacked.assign(row=range(len(stacked))), pixels)


def twin_maker(profile: Profile, faces: FaceSet, seed: int, settings: SelfRenderedConfig) -> TwinMaker:
    """Return what makes twins for a profile: redrawers trained on its real training faces, or read where they are there."""
    if settings.twins != PHASE:
        return TwinMaker()
    train = originals(faces, "train", best(profile.data.qualities))
    folder = profile.workspace.runs / "redrawers" / f"s{seed}"
    return TwinMaker(load_redrawers(folder, train, profile, settings.redrawers, seed))


def faces_with_twins(
    profile: Profile, faces: FaceSet, split: str, make: TwinMaker, settings: SelfRenderedConfig, seed: int
) -> FaceSet:
    """Return the real faces of a split and a twin of each, in both views: to validate and to measure on."""
    real = originals(faces, split, best(profile.data.qualities))
    return with_twins(real, make, landmarks_of(real, profile), settings.val_crf, seed)


def self_rendered(
    profile: Profile, faces: FaceSet, seed: int = 0, settings: SelfRenderedConfig | None = None, name: str | None = None
) -> Detector:
    """Train a network on the real faces of the split train alone, validated on those of val and their twins."""
    settings, name = settings or SelfRenderedConfig(), name or profile.student_model
    train = originals(faces, "train", best(profile.data.qualities))
    make = twin_maker(profile, faces, seed, settings)
    judged = faces_with_twins(profile, faces, "val", make, settings, seed)
    folder = profile.workspace.runs / checkpoints.run_name(PHASE, name, seed)
    config = replace(profile.model(name, PHASE), twins=False, clean_first=0.0)
    points = landmarks_of(train, profile)
    objective = partial(AgainstTwins, make=make, points=points, settings=settings)
    about = {"phase": PHASE, "self_rendered": asdict(settings), "redrawers": redrawers_digest(make.redrawers)}
    model = create_model(name, config, seed)
    return fit(model, train, judged, config, profile.train, folder, seed=seed, make_objective=objective, about=about)


def landmarks_of(faces: FaceSet, profile: Profile) -> np.ndarray:
    """Return the landmarks (N, 68, 2) of some faces, found once: they are kept beside the profile's faces."""
    path = profile.workspace.faces / f"landmarks-{faces.fingerprint()}.npy"
    try:
        found = np.load(path)
        if found.shape == (len(faces), 68, 2) and np.isfinite(found).all():
            return found
    except (OSError, ValueError, EOFError):  # missing, or not what was written
        pass
    found = landmarks(_crops(faces), profile.faces.scale)
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.save(file, found)
    return found


def _crops(faces: FaceSet) -> np.ndarray:
    return faces.images(np.arange(len(faces))).permute(0, 2, 3, 1).numpy()


def redrawers_digest(redrawers: Sequence[Redrawer]) -> str:
    """Return a hash of the weights of some redrawers."""
    found = hashlib.sha256()
    for redrawer in redrawers:
        for value in redrawer.state_dict().values():
            found.update(value.numpy().tobytes())
    return found.hexdigest()[:16]

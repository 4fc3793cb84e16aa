"""Step 2 of Noisy Student training: what the teacher, not noised, says of unlabelled faces, and which of it is learned from."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression

from utils.config import NoisyStudentConfig
from utils.learn.dataset import FaceSet, UnlabelledFaces
from utils.learn.inference import probabilities
from utils.learn.models import Detector
from utils.learn.scores import LABELLED, over_clip
from utils.paths import atomic


@torch.no_grad()
def pseudo_label(
    teacher: Detector, inputs_u, config: NoisyStudentConfig, val: FaceSet | None = None, precision: str = "auto",
    scorer: str = "auto",
) -> torch.Tensor:  # fmt: skip
    """Return the teacher's class probabilities (N, 2) of one view of the pool: averaged over a clip, then sharpened.

    With `config.calibrate` they are calibrated in between on the same view of the validation faces `val`, with `config.align`
    the classes become equally frequent. With `config.teacher_frames` the teacher looks at so many frames of a clip, and the
    others get what it says of these.
    """
    if config.teacher_frames and not config.clip_level:
        raise ValueError("a teacher that looks at some frames of a clip labels clips: set clip_level")
    seen = inputs_u.some(inputs_u.spread(config.teacher_frames)) if config.teacher_frames else inputs_u
    p = infer(teacher, seen, torch.as_tensor(seen.clip), config, precision, scorer)
    if config.calibrate:
        clips = torch.as_tensor(val.index.groupby(["method", "video_id"]).ngroup().to_numpy(copy=True))
        p = platt(infer(teacher, val, clips, config, precision, scorer), val.labels)(p)
    p = sharpen(align(p) if config.align else p, config.T)
    return p[np.searchsorted(seen.clip, inputs_u.clip)] if config.teacher_frames else p  # items stand clip by clip


def infer(
    teacher: Detector, faces, clip: torch.Tensor, config: NoisyStudentConfig, precision: str, scorer: str
) -> torch.Tensor:
    """Return class probabilities (N, 2) of a frame, or with `config.clip_level` of its clip; `clip` (N,) are numbers."""
    p = probabilities(teacher, faces, precision=precision, progress="pseudo-labels", scorer=scorer)
    return clip_mean(p, clip) if config.clip_level else p


def platt(p: torch.Tensor, labels: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a calibration, (M, 2) -> (M, 2), fitted to probabilities (N, 2) and labels (N,).

    Platt 1999: a logistic regression on the log odds. Its slope is a temperature; its bias moves the border between the
    classes, which a teacher that has seen few people often has in the wrong place for others.
    """
    fitted = LogisticRegression().fit(log_odds(p), labels.numpy())
    return lambda other: torch.from_numpy(fitted.predict_proba(log_odds(other))).float()


def log_odds(p: torch.Tensor) -> np.ndarray:
    """Return the log odds (N, 1) of probabilities (N, 2)."""
    return torch.logit(p[:, 1:].double(), eps=1e-6).numpy()


def align(p: torch.Tensor) -> torch.Tensor:
    """Shift the log odds of probabilities (N, 2) so that half of the items are more likely fake.

    Distribution alignment (Berthelot et al. 2020): labelled batches are half fake, and so may the pool be. A border that few
    validating people have put in the wrong place comes back to the middle.
    """
    odds = torch.from_numpy(log_odds(p)[:, 0])
    fake = torch.sigmoid(odds - odds.median()).float()
    return torch.stack([1 - fake, fake], 1)


def clip_mean(p: torch.Tensor, clip: torch.Tensor) -> torch.Tensor:
    """Give each frame (N, 2) the mean of the frames of its clip; `clip` (N,) holds clip numbers."""
    clip = clip.unique(return_inverse=True)[1].numpy()
    return torch.from_numpy(over_clip(p.numpy(), clip)[clip])


def sharpen(p: torch.Tensor, T: float) -> torch.Tensor:
    """Return p^(1/T), normalised over the classes: T < 1 makes (N, 2) probabilities surer, T = 1 leaves them."""
    powers = p ** (1 / T)
    return powers / powers.sum(dim=1, keepdim=True)


def confident(p: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return which pseudo-labels (N, 2) are at least as sure as `threshold`, as a mask (N,)."""
    return p.max(dim=1).values >= threshold


def balance(items: torch.Tensor, classes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the items (M,) with those of the rarer class (`classes` (M,) in {0, 1}) duplicated until both are equal.

    Whole rounds of duplicates come first, the rest is drawn at random. A missing class can't be balanced: a warning.
    """
    groups = [items[classes == value] for value in (0, 1)]
    small, large = sorted(groups, key=len)
    if len(small) == 0:
        warnings.warn("all confident pseudo-labels are of one class: train the teacher longer", stacklevel=2)
        return items
    rounds, rest = divmod(len(large), len(small))
    extra = small[torch.randperm(len(small), generator=generator)[:rest]]
    return torch.cat([large, small.repeat(rounds), extra])


@dataclass(frozen=True)
class PseudoLabels:
    """What a student learns from besides the labels: per view, probabilities (N, 2) and the items kept (M,)."""

    clip: np.ndarray
    p: dict[str, torch.Tensor]
    kept: dict[str, torch.Tensor]


def label_pool(
    teacher: Detector, inputs_u: UnlabelledFaces, config: NoisyStudentConfig, seed: int, val: FaceSet | None = None,
    precision: str = "auto", scorer: str = "auto",
) -> PseudoLabels:  # fmt: skip
    """Label each view that the student will see, from the view that the teacher looks at; filter and balance."""
    generator = torch.Generator().manual_seed(seed)
    looks_at = {view: view if config.teacher_view == "same" else config.teacher_view for view in config.student_views}
    labels = {}
    for view in dict.fromkeys(looks_at.values()):
        judged = val.select(quality=view) if config.calibrate else None
        labels[view] = pseudo_label(teacher, inputs_u.view(view), config, judged, precision, scorer)
    p = {view: labels[looks_at[view]] for view in config.student_views}
    kept = {}
    for view in config.student_views:
        items = torch.nonzero(confident(p[view], config.threshold)).flatten()
        if len(items) == 0:
            raise ValueError(f"no pseudo-label reaches the threshold {config.threshold}: lower it in utils/config.py")
        kept[view] = balance(items, p[view][items].argmax(1), generator) if config.balance else items
    return PseudoLabels(inputs_u.clip, p, kept)


def save_pseudo_labels(folder: Path, pseudo: PseudoLabels) -> None:
    """Write the pseudo-labels: one row an item and view, with the number of copies that were learned from."""
    tables = []
    for view, p in pseudo.p.items():
        copies = torch.bincount(pseudo.kept[view], minlength=len(p))
        table = {"item": range(len(p)), "clip": pseudo.clip, "view": view, "p_fake": p[:, 1], "copies": copies}
        tables.append(pd.DataFrame(table))
    with atomic(folder / LABELLED) as path:
        pd.concat(tables).to_csv(path, index=False, float_format="%.5f")

"""Teachers that look on within a step: at the clean view of the unlabelled faces whose degraded view the student gets.

Two alternatives to pseudo-labels that are made before training. A *mean teacher*, the running average of the student's own
weights, labels the clean view (Tarvainen & Valpola 2017; hard labels above a threshold, the student's view being the
strongly augmented one: FixMatch, Sohn et al. 2020). Or a frozen teacher's *features* of the clean view are what the student's
features of the degraded view are to become: distillation between qualities, in the spirit of ADD (Le & Woo 2022) and QAD
(Le & Woo 2023), for which nobody labels the pool, no teacher either.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
import torch.nn.functional as F

from utils.config import NoisyStudentConfig
from utils.learn.augment import resize, to_float
from utils.learn.dataset import UnlabelledFaces
from utils.learn.models import Detector, frozen_copy
from utils.learn.noisy_student import UnlabelledStep, student_loss
from utils.learn.plans import Crops, Losses, Plan
from utils.learn.pseudo_labels import confident


class TaughtStep(UnlabelledStep):
    """A step on labelled faces and on any of the pool, of which a teacher sees the view `student.teacher_view`, not noised."""

    def __init__(self, *labelled, inputs_u: UnlabelledFaces, student: NoisyStudentConfig):
        every = dict.fromkeys(student.student_views, torch.arange(len(inputs_u)))
        super().__init__(*labelled, inputs_u=inputs_u, items=every, student=student)

    def draw(self) -> Plan:
        plan = super().draw()
        return replace(plan, seen=tuple(Crops(part.crops.items, self.student.teacher_view) for part in plan.u))

    def noise(self, plan: Plan, pixels: list[torch.Tensor], px: int, device: torch.device) -> torch.Tensor:
        count = len(plan.parts)
        with torch.no_grad():
            self.told = self.look(resize(to_float(torch.cat(pixels[count:]).to(device)), px))
        return super().noise(plan, pixels[:count], px, device)

    @abstractmethod
    def look(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the teacher says of clean images (mu B, 3, px, px), in the order of the student's unlabelled ones."""


class MeanTeacherStep(TaughtStep):
    """The teacher is the average of the student's weights, the one that is validated and kept."""

    def watch(self, model: Detector, average: Detector) -> None:
        self.teacher = average

    def look(self, images: torch.Tensor) -> torch.Tensor:
        return F.softmax(self.teacher(images).float(), dim=1)

    def compare(self, plan: Plan, logits: torch.Tensor) -> Losses:
        targets_x, p = self.labels(plan, logits.device), self.told
        targets_u = p if self.student.soft else F.one_hot(p.argmax(1), 2).float()
        mask = confident(p, self.student.threshold).float().unsqueeze(1)  # a label below the threshold has no part in Lu
        return student_loss(
            logits[: len(plan.x)], targets_x, logits[len(plan.x) :], mask * targets_u, self.student.lambda_u,
            label_smoothing=self.shared.label_smoothing, weight_x=plan.weight_x, weight_u=plan.weight_u,
        )  # fmt: skip


class DistillationStep(TaughtStep):
    """The teacher is frozen, and what it says are its pooled features (mu B, F)."""

    def __init__(self, *labelled, teacher: Detector, **pool):
        super().__init__(*labelled, **pool)
        self.teacher = frozen_copy(teacher)
        self.teachers_features = self.teacher.watch_features()

    def watch(self, model: Detector, average: Detector) -> None:
        self.features = model.watch_features()

    def look(self, images: torch.Tensor) -> torch.Tensor:
        self.teacher(images)
        return self.teachers_features()

    def compare(self, plan: Plan, logits: torch.Tensor) -> Losses:
        targets_x, smoothing = self.labels(plan, logits.device), self.shared.label_smoothing
        Lx = plan.weight_x * F.cross_entropy(logits[: len(plan.x)], targets_x, label_smoothing=smoothing)
        Lu = plan.weight_u * unexplained(self.features()[len(plan.x) :], self.told)
        return {"loss": Lx + self.student.lambda_u * Lu, "Lx": Lx, "Lu": Lu}


def unexplained(features: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the part of the variance of `wanted` (B, F) over the batch that `features` (B, F) miss: 0, 1 for its mean."""
    return (features - wanted).square().sum() / (wanted - wanted.mean(dim=0)).square().sum().clamp_min(1e-6)

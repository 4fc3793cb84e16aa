"""What is varied around the Noisy Student comparison: the number of labelled people, and one setting at a time.

Each experiment is a profile with one change and folders of its own: `data/predictions/<group>/<factor>/<value>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from utils.config import Profile

LABELLED_PEOPLE = (10, 20, 40)  # besides the profile's own part
WEIGHTS = ("efficientnet-b4", "efficientnet-b4-noisy")  # ImageNet weights: supervised, and of Xie et al.'s noisy student
TEACHERS = {"student_classic": "teacher_c40", "student_compression": "teacher_both"}  # whose labels it learns
CASE_TEACHERS = {"noisy_trained": "noisy_trained_teacher"}  # the same of the original's phases
COMPARED = ("teacher_c40", "teacher_c23", "teacher_both", "student_classic", "student_compression")  # at each number


@dataclass(frozen=True)
class Experiment:
    """One change: of the student's settings (`student`), of all fits (`train`) or of the student's network."""

    factor: str
    value: str
    student: dict = field(default_factory=dict)
    train: dict = field(default_factory=dict)
    network: str | None = None
    start: dict = field(default_factory=dict)  # of the student's network: fields of ModelConfig
    group: str = "ablation"

    @property
    def variant(self) -> str:
        """The experiment's folder below runs and predictions."""
        return f"{self.group}/{self.factor}/{self.value}"

    def student_name(self, profile: Profile) -> str:
        return self.network or profile.student_model

    def profile(self, profile: Profile) -> Profile:
        """Return the profile with this change; its teachers are those of the unchanged one."""
        phase = "student_compression"
        changes = profile.changes | {phase: profile.changes.get(phase, {}) | self.start}
        return replace(profile, variant=self.variant, train=replace(profile.train, **self.train), changes=changes)


def labels_profile(profile: Profile, people: int, train_pairs: int) -> Profile:
    """Return the profile with labels of so many training people, whole pairs of them; ValueError where it has fewer."""
    if people % 2 or not 2 <= people <= 2 * train_pairs:
        raise ValueError(f"{people} labelled people: an even number from 2 to {2 * train_pairs} is needed")
    data = replace(profile.data, labelled_fraction=people / (2 * train_pairs))
    return replace(profile, variant=f"labels/people/{people}", data=data)


def weights_profile(profile: Profile, network: str) -> Profile:
    """Return the profile with a network of WEIGHTS as teacher and student, on its ImageNet weights (from a hub)."""
    models = profile.models | {network: replace(profile.model(network), weights="imagenet")}
    return replace(profile, variant=f"weights/{network}", student_model=network, models=models)


def _one(factor: str, *values, names: tuple[str, ...] = ()) -> list[Experiment]:
    """Return an experiment for each value of one field of NoisyStudentConfig."""
    return [Experiment(factor, name, {factor: value}) for value, name in zip(values, names or map(str, values), strict=True)]


# As many steps from the same teacher under all of the noise, but on labels alone: what pseudo-labels teach is what it lacks.
CONTROL = Experiment("pseudo_labels", "none_but_all_the_noise", {"mu": 0}, start={"batch_size": 36})

# Around the settings of `student_compression`, one factor at a time, one iteration each; a profile's own values are left
# out (`ablations`), for the comparison holds them. What tells most about the method comes first.
ABLATIONS: tuple[Experiment, ...] = (
    CONTROL,
    Experiment("teacher_looks_at", "c40", {"teacher_view": "c40"}),
    Experiment("student_sees", "c40", {"student_views": ("c40",)}),
    Experiment("student_sees", "c23_and_c40", {"loss": "none"}),
    Experiment("student_sees", "c23", {"student_views": ("c23",), "loss": "none"}),
    Experiment("student_sees", "c23_through_h264", {"student_views": ("c23",)}),
    Experiment("student_sees", "c23_through_jpeg", {"student_views": ("c23",), "loss": "jpeg"}),
    Experiment("student_sees", "c23_through_scale", {"student_views": ("c23",), "loss": "scale"}),
    Experiment("student_sees", "c23_through_blur", {"student_views": ("c23",), "loss": "blur"}),
    *_one("calibrate", True, False, names=("yes", "no")),
    *_one("soft", True, False, names=("soft", "hard")),
    Experiment("soft", "sharpened_T_0.5", {"soft": True, "T": 0.5}),
    *_one("clip_level", True, False, names=("clip", "frame")),
    *_one("threshold", 0.5, 0.6, 0.8, 0.95),
    *_one("balance", True, False, names=("balanced", "as_they_come")),
    *_one("mu", 1, 2, 3),
    Experiment("randaugment", "none", {"randaugment_n": 0}),
    Experiment("randaugment", "1_of_3", {"randaugment_n": 1, "randaugment_m": 3}),
    Experiment("randaugment", "2_of_9", {"randaugment_n": 2, "randaugment_m": 9}),
    Experiment("network_noise", "none", {"dropout": 0.0, "drop_path": 0.0}),
    Experiment("network_noise", "strong", {"dropout": 0.3, "drop_path": 0.2}),
    Experiment("ema", "none", train={"ema": 0.0}),
    Experiment("start", "ImageNet", {"student_init": "start"}),
    Experiment("start", "ImageNet_twice_as_long", {"student_init": "start", "steps": 8 / 3}),
    Experiment("start", "nothing", {"student_init": "start"}, start={"weights": "none", "twins": True, "clean_first": 0.6}),
    Experiment("student_network", "B0", {"student_init": "start"}, network="efficientnet-b0"),
    Experiment("student_network", "B4", {"student_init": "start"}, network="efficientnet-b4"),
)


def ablations(profile: Profile, factors: Sequence[str] = ()) -> list[Experiment]:
    """Return the experiments of ABLATIONS, or of some factors, that differ from the profile's own settings.

    Raises ValueError for an unknown factor.
    """
    known = list(dict.fromkeys(one.factor for one in ABLATIONS))
    for factor in factors:
        if factor not in known:
            raise ValueError(f"unknown factor {factor!r}: choose from {', '.join(known)}")
    usual = profile.student_of("student_compression")

    def differs(one: Experiment) -> bool:
        changed = replace(usual, **one.student), replace(profile.train, **one.train)
        return bool(one.network or one.start) or changed != (usual, profile.train)

    return [one for one in ABLATIONS if one.factor in (factors or known) and differs(one)]

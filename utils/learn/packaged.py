"""A network that can be handed on: weights, what they were validated on, and a card that says so, in one folder.

`card.json` names the network, how faces are cut out for it, the ranges that it was validated in, and the SHA-256 of the other
two: `model.safetensors`, its weights, and `validated.safetensors`, calibration, gauge and domain (`validated.py`). Nothing
of it is code.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_weights
from tqdm import tqdm

from utils.config import INSTRUMENT, NETWORKS, Encoding, FacesConfig, ModelConfig, Profile
from utils.faces.crops import FOUND, extract_faces
from utils.faces.detect import DETECTORS
from utils.faces.encode import reencode
from utils.learn import checkpoints
from utils.learn.checkpoints import Damaged, _line
from utils.learn.dataset import FaceSet
from utils.learn.inference import looks
from utils.learn.models import Detector, create_model
from utils.learn.scores import over_clip
from utils.learn.validated import Calibration, Domain, Gauge, traces
from utils.paths import PACKAGED, atomic, sha256, write_json

FORMAT = 1
CARD, WEIGHTS, VALIDATED = "card.json", "model.safetensors", "validated.safetensors"
MOST_CARD, MOST_TENSORS = 1_000_000, 2**30  # bytes; a longer file is none of these
MOST_TEXT = 1000  # characters of what a card tells to be printed
AGAIN = "package the run again"
GAUGED = ("h264",)  # codecs of a gauge's videos, and of the validated clips of a card that names none
WHOLE = {  # settings of `FacesConfig` that are whole numbers: what they may be in a card that anybody may have written
    "frame_step": range(1, 1001), "max_frames": range(1, 1_000_001), "lines": range(16, 10_001), "size": range(16, 1025),
    "detect_every": range(1, 1001), "upsample": range(4), "track_patience": range(1, 1001),
}  # fmt: skip
REAL = {"least_match": (-1, 1), "scale": (0.5, 5)}  # numbers: from, to
CHOICE = {"sampling": ("first", "spread"), "detector": DETECTORS, "convert": ("crop", "frame"), "masks": (True, False)}
OR_NONE = ("max_frames", "lines")
BATCH = 256  # faces in memory at once; `looks` shows a network 64, so that a multiple of it changes no score


@dataclass(frozen=True)
class Packaged:
    """A network with all that its scores need to be understood."""

    card: dict
    model: Detector
    faces: FacesConfig
    calibration: dict[str, Calibration]  # of a "face", and of a "clip"
    gauge: Gauge
    domain: Domain

    @property
    def name(self) -> str:
        return self.card["name"]

    def range(self, what: str) -> tuple[float, float]:
        """Return the validated range of the measured "crf" or of the "side" of faces in px."""
        return tuple(self.card["validated"][what])

    @property
    def codecs(self) -> tuple[str, ...]:
        """Those of the validated clips, in FFmpeg's words."""
        return tuple(self.card["validated"].get("codecs", GAUGED))


# ---- reading --------------------------------------------------------------------------------------------------------------


def packaged_folder(name: str) -> Path:
    """Return the folder of a packaged model, by its path or its name in `data/models/`.

    Raises FileNotFoundError, with the remedy, where there is none.
    """
    for folder in (Path(name), PACKAGED / name):
        with contextlib.suppress(OSError):  # a name that is too long, or where nobody may look
            if (folder / CARD).is_file():
                return folder
    known = ", ".join(sorted(path.parent.name for path in PACKAGED.glob(f"*/{CARD}"))) or "none"
    remedy = "package a finished run (`python -m utils.run.package RUN --profile PROFILE`)"
    raise FileNotFoundError(f"no packaged model {name[:MOST_TEXT // 4]} (there is {known}): {remedy}, or leave --model out")


def load_packaged(folder: Path) -> Packaged:
    """Read a packaged model; Damaged, naming the file, where anything in it is not what its card says."""
    card = _card(folder / CARD)
    for name in (WEIGHTS, VALIDATED):
        path = _file(folder / name, MOST_TENSORS)
        if sha256(path) != card["sha256"][name]:
            raise Damaged(f"{path} is not the file that {CARD} names (SHA-256): {AGAIN}, or take it from git")
    model = create_model(card["network"], ModelConfig(px=card["px"], weights="none"))
    checkpoints.load_weights(model, folder, AGAIN)
    model = model.eval().requires_grad_(False)
    found = Packaged(card, model, FacesConfig(**card["faces"]), *_validated(folder / VALIDATED))
    _try_out(found, folder)
    return found


def _try_out(model: Packaged, folder: Path) -> None:
    """Raise Damaged where a model does not give a number for every face: its parts may be whole and of different networks."""
    size = model.faces.size
    crops = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    with np.errstate(all="ignore"):
        scores, styles = looks(model.model, torch.from_numpy(crops).permute(0, 3, 1, 2))
        if not np.isfinite(scores).all() or not np.isfinite(styles).all():
            raise Damaged(f"{folder / WEIGHTS} gives scores that are no numbers: {AGAIN}")
        try:
            known = [model.gauge(crops, np.ones(2), styles), model.domain(styles)]
            known += [each(np.full(3, score), 23.0) for each in model.calibration.values() for score in (0.0, 0.5, 1.0)]
        except ValueError as error:
            raise Damaged(f"{folder / VALIDATED} does not fit {model.card['network']} ({_line(error)}): {AGAIN}") from None
    if not all(np.isfinite(each).all() for each in known):
        raise Damaged(f"{folder / VALIDATED} gives what is no number: {AGAIN}")


def _file(path: Path, most: int) -> Path:
    """Return the path of a model's file; Damaged where there is none of 1 to `most` bytes."""
    try:
        found = path.stat()
    except OSError as error:  # a loop of links among them
        raise Damaged(f"{path} can't be read ({error.strerror}): {AGAIN}") from None
    for problem, there in (
        ("no file", not stat.S_ISREG(found.st_mode)), ("empty", not found.st_size), ("too long", found.st_size > most)
    ):  # fmt: skip
        if there:
            raise Damaged(f"{path} is {problem}: {AGAIN}")
    return path


def _card(path: Path) -> dict:
    """Return a card, checked for all that is read from it."""
    try:
        card = json.loads(_file(path, MOST_CARD).read_text(encoding="utf-8"))
        json.dumps(card, allow_nan=False)  # of which parts join the record of a score
        problems = {
            f"format {repr(card['format'])[:9]}, not {FORMAT}": type(card["format"]) is not int or card["format"] != FORMAT,
            f"unknown network {str(card['network'])[:99]!r}": card["network"] not in NETWORKS,
            "a side that is none": type(card["px"]) is not int or card["px"] not in WHOLE["size"],
            "validated ranges that are none": not all(_is_range(card["validated"][what]) for what in ("crf", "side")),
            "codecs that are none": not _are_names(card["validated"].get("codecs", list(GAUGED))),
            "checksums that are none": {type(card["sha256"][name]) for name in (WEIGHTS, VALIDATED)} != {str},
            "no name in a line": not _is_line(card["name"]),
            "no line on what it was trained on": not _is_line(card["trained_on"]),
            **{f"faces with a {repr(name)[1:41]} that is none": not fine for name, fine in _right_faces(card["faces"]).items()},
        }
    except Damaged:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{path} is no card ({_line(error)}): {AGAIN}") from None
    for problem, there in problems.items():
        if there:
            raise Damaged(f"{path}: {problem}: {AGAIN}")
    return card


def _is_range(value) -> bool:
    return len(value) == 2 and all(type(end) in (int, float) for end in value) and -1e6 < value[0] <= value[1] < 1e6


def _are_names(value) -> bool:
    return isinstance(value, list) and 0 < len(value) < 100 and all(_is_line(name) and len(name) < 100 for name in value)


def _is_line(value) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MOST_TEXT and value.isprintable()


def _right_faces(settings: dict) -> dict[str, bool]:
    """Return the settings of `FacesConfig`, and those that are none of it, each with whether a card has it as it may be."""
    found = dict.fromkeys(settings, False)
    for name in (field.name for field in fields(FacesConfig)):
        value = settings[name]
        if name in WHOLE:
            right = type(value) is int and value in WHOLE[name]
        elif name in REAL:
            right = type(value) in (int, float) and REAL[name][0] <= value <= REAL[name][1]
        else:
            right = type(value) is type(CHOICE[name][0]) and value in CHOICE[name]
        found[name] = right or (value is None and name in OR_NONE)
    return found


def _validated(path: Path) -> tuple[dict[str, Calibration], Gauge, Domain]:
    try:
        arrays = load_file(path)
        parts: dict[str, dict[str, np.ndarray]] = {}
        for key, value in arrays.items():
            part, _, name = key.rpartition("/")
            parts.setdefault(part, {})[name] = value
        calibration = {kind: Calibration.of(parts[f"calibration/{kind}"]) for kind in ("face", "clip")}
        return calibration, Gauge.of(parts["gauge"]), Domain.of(parts["domain"])
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Damaged(f"{path} can't be read ({_line(error)}): {AGAIN}") from None


# ---- making ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What a network and a gauge say of some faces, and of the clips that they make."""

    index: pd.DataFrame  # of the faces, a row each
    scores: np.ndarray
    styles: np.ndarray
    crf: np.ndarray

    def clips(self) -> dict[str, np.ndarray]:
        """Return score, style, CRF, label and pair of each clip."""
        number = self.index.groupby(["method", "video_id", "quality"]).ngroup().to_numpy()
        first = self.index.drop_duplicates(["method", "video_id", "quality"])
        first = first.assign(clip=number[first.index]).sort_values("clip")
        means = {name: over_clip(getattr(self, name), number) for name in ("scores", "styles", "crf")}
        return means | {"label": first["label"].to_numpy(), "pair": first["pair"].to_numpy()}


def look_at(model: Detector, gauge: Gauge, faces: FaceSet) -> Seen:
    """Return what a network and a gauge say of some faces."""
    side, parts = sides(faces), []
    for items in batches(len(faces)):
        images = faces.images(items)
        parts.append((*looks(model, images), traces(images.permute(0, 2, 3, 1).numpy(), side[items])))
    scores, styles, found = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Seen(faces.index, scores, styles, gauge.read(found, styles))


def styles_of(model: Detector, faces: FaceSet) -> np.ndarray:
    """Return the styles (N, F) of some faces (`inference.looks`)."""
    return np.concatenate([looks(model, faces.images(items))[1] for items in batches(len(faces))])


def batches(count: int) -> list[np.ndarray]:
    """Return the places 0 .. count - 1 in batches of `BATCH`; a last one that would be alone joins those before it.

    NumPy sums the spectrum of a single face in another order than those of several, which rounds otherwise.
    """
    ends = [0, *range(BATCH, count - 1, BATCH), count]
    return [np.arange(*each) for each in itertools.pairwise(ends)]


def sides(faces: FaceSet) -> np.ndarray:
    """Return the side of the square (N,), in px, that each crop was cut out of."""
    return (faces.index["x1"] - faces.index["x0"]).to_numpy()


def package(
    model: Detector, faces: FaceSet, gauge: Gauge, profile: Profile, folder: Path, name: str, trained_on: str,
    codecs: Sequence[str] = GAUGED, **about,
) -> Packaged:  # fmt: skip
    """Calibrate a network on the validation faces, describe its domain, write the folder, and return what is in it.

    `faces` hold the splits train and val, whose validation clips were encoded by `codecs`; `about` joins the card.
    """
    model = model.cpu().eval()
    held = faces.select(split="val")
    styles, val = styles_of(model, faces.select(split="train")), look_at(model, gauge, held)
    clips = val.clips()
    labels, pairs, people = held.labels.numpy(), held.index["pair"], held.index["target"].nunique()
    calibration = {
        "face": Calibration.fit(val.scores, val.crf, labels, pairs, people),
        "clip": Calibration.fit(clips["scores"], clips["crf"], clips["label"], clips["pair"], people),
    }
    domain = Domain.fit(styles, val.styles, clips["styles"])
    ranges = {"crf": clips["crf"], "side": sides(held)}
    parts = {"gauge": gauge, "domain": domain} | {f"calibration/{kind}": each for kind, each in calibration.items()}
    with atomic(folder / VALIDATED) as path:
        save_file({f"{part}/{key}": np.ascontiguousarray(array) for part, each in parts.items()
                   for key, array in each.arrays().items()}, path)  # fmt: skip
    with atomic(folder / WEIGHTS) as path:
        save_weights({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, path)
    card = {
        "format": FORMAT, "name": name, "network": model.name, "px": model.px, "faces": asdict(profile.faces),
        "trained_on": trained_on,
        "validated": {
            "on": profile.data.name, "people": people, "clips": len(clips["label"]),
            "faces_of_a_clip": round(len(held) / len(clips["label"]), 1), "codecs": list(codecs),
            **{what: [round(float(end), 1) for end in np.quantile(values, INSTRUMENT.ends)] for what, values in ranges.items()},
        },
        "sha256": {file: sha256(folder / file) for file in (WEIGHTS, VALIDATED)}, **about,
    }  # fmt: skip
    write_json(folder / CARD, card)
    return load_packaged(folder)


def fit_gauge(model: Detector, videos: Sequence[Path], config: FacesConfig, own: int | None, jobs: int = -1) -> Gauge:
    """Fit a gauge to faces of some videos, encoded again by H.264 at `INSTRUMENT.gauge_crf`, through the eyes of a network.

    `own` is the CRF that the videos themselves were encoded at, None where nobody knows. Raises ValueError where none of them
    shows a face.
    """
    rates = [own, *(crf for crf in INSTRUMENT.gauge_crf if crf > own)] if own else list(INSTRUMENT.gauge_crf)
    calls = (joblib.delayed(_at_rates)(path, config, rates, own) for path in videos)
    found = joblib.Parallel(jobs, return_as="generator")(calls)
    parts = [part for each in tqdm(found, "gauge", len(videos), leave=False, unit="video", disable=None) for part in each]
    if not parts:
        raise ValueError(f"no face in {len(videos)} videos: nothing to fit a gauge to")
    crops, side, crf = (np.concatenate(each) for each in zip(*parts, strict=True))
    _, styles = looks(model, torch.from_numpy(crops).permute(0, 3, 1, 2))
    measured = [traces(crops[items], side[items]) for items in batches(len(crops))]
    return Gauge.fit(np.concatenate(measured), styles, crf)


def _at_rates(path: Path, config: FacesConfig, rates: Sequence[int], own: int | None) -> list[tuple[np.ndarray, ...]]:
    """Return faces of a video at each rate: crops (n, S, S, 3), the sides of their squares (n,) and the rate (n,)."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for crf in rates:
            video = Path(path) if crf == own else Path(folder) / f"{crf}.mp4"
            if crf != own:
                reencode(path, video, Encoding(crf=crf))
            table, crops = extract_faces(video, replace(config, max_frames=INSTRUMENT.gauge_faces, sampling="spread"))
            if len(crops):
                seen = table[table["status"] == FOUND]
                found.append((crops, (seen["x1"] - seen["x0"]).to_numpy(), np.full(len(crops), float(crf))))
    return found

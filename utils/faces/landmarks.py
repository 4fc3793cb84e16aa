"""Where a face's features are (dlib's 68 landmarks, Kazemi & Sullivan 2014), and soft masks over some of them."""

from __future__ import annotations

import threading

import cv2
import dlib
import numpy as np

from utils.config import MASKS
from utils.faces.detect import dlib_weights

JAW, NOSE, MOUTH = slice(0, 17), slice(31, 36), slice(48, 68)  # of the 68
PARTS = ("mouth", "lower_face", "mouth_and_chin")
DRAWN = ("part", *MASKS)  # what is random of a mask
_of_thread = threading.local()


def landmarks(crops: np.ndarray, scale: float) -> np.ndarray:
    """Return the landmarks (N, 68, 2) in px of face crops, uint8 RGB (N, S, S, 3), cut `scale` times as large as the face.

    Raises FileNotFoundError, with the remedy, where the package with the weights is missing.
    """
    if not hasattr(_of_thread, "predictor"):
        _of_thread.predictor = dlib.shape_predictor(dlib_weights("shape_predictor_68_face_landmarks.dat"))
    size = crops.shape[1]
    low, high = round(size * (1 - 1 / scale) / 2), round(size * (1 + 1 / scale) / 2)
    box = dlib.rectangle(low, low, high, high)
    found = (_of_thread.predictor(np.ascontiguousarray(crop), box) for crop in crops)
    return np.array([[(point.x, point.y) for point in one.parts()] for one in found], dtype=np.float32)


def draw_masks(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw what is random of so many masks (count, 5), in the order of `DRAWN`; lengths are parts of the mouth's width."""
    uniform = [rng.uniform(low, high, count) for low, high in MASKS.values()]
    return np.column_stack([rng.integers(len(PARTS), size=count), *uniform])


def soft_mask(points: np.ndarray, drawn: np.ndarray, size: int) -> np.ndarray:
    """Return a mask (size, size) in [0, 1] over a part of a face with these landmarks (68, 2), as drawn (5,)."""
    part, grow, feather, *shift = drawn
    mouth = points[MOUTH]
    width = max(4.0, float(np.ptp(mouth[:, 0])))
    outline = {
        "mouth": mouth,
        "mouth_and_chin": np.concatenate([mouth, points[JAW][6:11]]),
        "lower_face": np.concatenate([points[JAW][3:14], points[NOSE]]),
    }[PARTS[int(part)]]
    centre = outline.mean(axis=0)
    grown = centre + (outline - centre) * (grow if PARTS[int(part)] == "mouth" else min(grow, 1.1)) + np.array(shift) * width
    mask = np.zeros((size, size), np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(grown.astype(np.float32)).round().astype(np.int32), 1.0)
    return np.minimum(cv2.GaussianBlur(mask, (0, 0), max(0.4, float(feather) * width)), 1)  # sums are a little above one


def mouth_box(points: np.ndarray, size: int) -> tuple[int, int, int, int]:
    """Return a square (x0, y0, x1, y1) in px within a crop of `size`, around the mouth and the chin of landmarks (68, 2)."""
    lower = np.concatenate([points[MOUTH], points[JAW][4:13], points[NOSE]])
    low, high = lower.min(axis=0), lower.max(axis=0)
    side = int(min(size, max(16, round(1.25 * float((high - low).max())))))
    x0, y0 = (int(np.clip(round(float(c) - side / 2), 0, size - side)) for c in (low + high) / 2)
    return x0, y0, x0 + side, y0 + side

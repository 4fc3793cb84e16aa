"""Spectacles: two rims, a bridge, arms to the ears and thin lenses, fitted to a head. Lengths are decimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.synthff.identity import Identity

SHAPES = {  # of the rims: exponent of the superellipse, height over width, and how much narrower they are below
    "round": (2.0, 0.98, 0.0), "oval": (2.3, 0.72, 0.0), "square": (4.0, 0.70, 0.06), "aviator": (2.6, 0.84, 0.18),
}  # fmt: skip
COLOURS = (  # linear RGB: black, tortoise, brown metal, steel, gold, navy, wine
    (0.012, 0.012, 0.013), (0.075, 0.034, 0.012), (0.06, 0.042, 0.03), (0.30, 0.30, 0.31), (0.36, 0.25, 0.11),
    (0.02, 0.03, 0.075), (0.09, 0.015, 0.02),
)  # fmt: skip
WORN = (0.12, 0.42)  # share of people who wear them, young and old
CORNERS = 28  # of a rim
SIDES = 5  # of a tube


@dataclass
class Frame:
    """One pair on a head at rest: vertices (n, 3) of frame and lenses, and their faces as quads."""

    shape: str
    colour: tuple[float, float, float]
    frame: np.ndarray
    frame_quads: np.ndarray
    lens: np.ndarray
    lens_quads: np.ndarray


def _tube(path: np.ndarray, radius: tuple[float, float], closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return a tube around a path (n, 3): its vertices and quads; the radii are across and along the y axis."""
    n = len(path)
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    if not closed:
        ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    guide = np.array([0, 0, 1.0]) if closed else np.array([0, 1.0, 0])
    side = np.cross(ahead, guide)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, ahead)
    angle = np.arange(SIDES) * 2 * np.pi / SIDES + np.pi / 4
    ring = side[:, None] * (np.cos(angle) * radius[0])[:, None] + up[:, None] * (np.sin(angle) * radius[1])[:, None]
    points = (path[:, None] + ring).reshape(-1, 3)
    i = np.arange(n if closed else n - 1)[:, None] * SIDES
    j, k = np.arange(SIDES), (np.arange(SIDES) + 1) % SIDES
    following = (i + SIDES) % (n * SIDES)
    quads = np.stack([i + j, i + k, following + k, following + j], -1).reshape(-1, 4)
    return points, quads


def _outline(shape: str, width: float) -> np.ndarray:
    """Return a rim's outline (CORNERS, 2) around its middle; x grows towards the temple."""
    power, ratio, narrower = SHAPES[shape]
    t = np.arange(CORNERS) * 2 * np.pi / CORNERS
    x = np.sign(np.cos(t)) * np.abs(np.cos(t)) ** (2 / power) * width
    y = np.sign(np.sin(t)) * np.abs(np.sin(t)) ** (2 / power) * width * ratio
    return np.stack([x * (1 + narrower * y / width) + narrower * 0.15 * np.clip(-y, 0, None), y], 1)


def fit(rng: np.random.Generator, head: np.ndarray, eyes: list[np.ndarray]) -> Frame:
    """Draw a pair of glasses and fit it to a head.

    `head` are the skin's vertices (n, 3) at rest, `eyes` the middle of the left and of the right eye.
    """
    shape = list(SHAPES)[rng.integers(len(SHAPES))]
    thin = rng.random() < 0.45
    radius = rng.uniform(0.010, 0.014) if thin else rng.uniform(0.017, 0.028)
    colour = COLOURS[rng.integers(len(COLOURS))] if thin else COLOURS[rng.choice([0, 0, 1, 1, 2, 5, 6])]
    apart = abs(eyes[0][0] - eyes[1][0])
    middle = (eyes[0] + eyes[1]) / 2
    width = apart * 0.5 * rng.uniform(0.74, 0.84)
    outline = _outline(shape, width)
    low = rng.uniform(0.02, 0.05)
    frame, quads, lens, lens_quads = [], [], [], []

    def add(points: np.ndarray, faces: np.ndarray) -> None:
        quads.append(faces + sum(len(p) for p in frame))
        frame.append(points)

    def surface(x: float, y: float, reach: float = 0.06) -> float:
        near = (np.abs(head[:, 0] - x) < reach) & (np.abs(head[:, 1] - y) < reach) & (head[:, 2] > middle[2] - 0.6)
        return float(head[near, 2].max()) if near.any() else middle[2]

    # In front of lashes, brows and cheeks, or on the nose, whichever stands out furthest.
    places = zip(eyes, (1, -1), strict=True)
    rims = [np.stack([eye[0] + side * outline[:, 0], eye[1] - low + outline[:, 1]], 1) for eye, side in places]
    plane = max([eyes[0][2] + 0.23] + [surface(x, y) + 0.015 for rim in rims for x, y in rim[::2]])
    plane = min(plane, eyes[0][2] + 0.42)
    for rim in rims:
        bent = plane - 0.16 * ((rim[:, 0] - middle[0]) / (apart * 0.95)) ** 2  # follows the face round
        ring = np.column_stack([rim, bent])
        add(*_tube(ring, (radius, radius * 0.8), closed=True))
        start = sum(len(p) for p in lens)
        lens += [ring, ring.mean(0)[None]]
        i = np.arange(CORNERS)
        hub = np.full(CORNERS, CORNERS)
        lens_quads.append(np.stack([i, (i + 1) % CORNERS, hub, hub], 1) + start)
    _bridge_and_arms(add, rims, plane, middle, apart, head, radius)
    whole = [np.concatenate(part).astype(np.float32) for part in (frame, lens)]
    return Frame(shape, tuple(colour), whole[0], np.concatenate(quads), whole[1], np.concatenate(lens_quads))


def _bridge_and_arms(add, rims, plane: float, middle, apart: float, head: np.ndarray, radius: float) -> None:
    inner = [rim[np.argmin(np.abs(rim[:, 0] - middle[0]) - 0.6 * (rim[:, 1] - middle[1]))] for rim in rims]
    t = np.linspace(0, 1, 7)[:, None]
    bridge = inner[0] * (1 - t) + inner[1] * t
    bridge = np.column_stack([bridge[:, 0], bridge[:, 1] + 0.025 * np.sin(np.pi * t[:, 0]), np.full(7, plane + 0.005)])
    add(*_tube(bridge, (radius, radius), closed=False))
    for rim, side in zip(rims, (1, -1), strict=True):
        hinge = rim[np.argmax(side * rim[:, 0] + 0.35 * rim[:, 1])]
        z = plane - 0.16 * ((hinge[0] - middle[0]) / (apart * 0.95)) ** 2
        y_ear = middle[1] + 0.10
        depth = np.linspace(0, 1, 9)
        line_z = z + (middle[2] - 0.86 - z) * depth  # up to the ear's root
        line_y = hinge[1] + (y_ear - hinge[1]) * depth
        line_x = np.empty(9)
        for k in range(9):  # outside the head all the way
            near = (np.abs(head[:, 2] - line_z[k]) < 0.12) & (np.abs(head[:, 1] - line_y[k] - 0.05) < 0.1)
            near &= side * head[:, 0] > 0
            skull = np.percentile(side * head[near, 0], 60) if near.any() else 0.0
            line_x[k] = max(skull + 0.03, side * hinge[0] if k == 0 else 0.0)
        line_x[0] = side * hinge[0] + 0.01
        line_x[1:] = np.maximum.accumulate(np.maximum(line_x[1:], line_x[0] - 0.02))
        line_x[1:] = np.minimum(line_x[1:], line_x[0] + 0.26 * depth[1:] ** 0.7 + 0.05)
        path = np.column_stack([side * line_x, line_y, line_z])
        add(*_tube(path, (radius * 0.7, radius * 1.1), closed=False))


def wears(rng: np.random.Generator, who: Identity) -> bool:
    """Draw whether a person wears glasses, the likelier the older they are."""
    return bool(rng.random() < WORN[0] + (WORN[1] - WORN[0]) * who.age)

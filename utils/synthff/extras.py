"""What makes a shot hard besides light and motion: a second person, a face on a poster, hair or a hand before the face."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from utils.synthff.motion import draw_track, smooth
from utils.synthff.neural_textures import FACE_WINDOW
from utils.synthff.person import SKIN, Person
from utils.synthff.scene import Camera, Lights
from utils.synthff.similarity import PORTRAIT, portrait

BEHIND = 5.0  # decimetres between the person and the bystander behind
SUPERSAMPLE = 3  # occluders are drawn this much larger


def to_backdrop(linear: np.ndarray) -> np.ndarray:
    """Return linear light (h, w, 3) as the 8-bit picture that the backdrop's shader turns back into it."""
    return (np.clip(linear, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)


def hang_poster(
    backdrop: np.ndarray, renderer, seed: int, rng: np.random.Generator, left: bool, release: int = 1
) -> np.ndarray:
    """Return the backdrop (h, w, 3) as uint8 with a framed picture of the person `seed` on the wall; resizes the renderer."""
    person = Person(seed, release)
    backdrop = to_backdrop(backdrop) if backdrop.dtype == np.float32 else backdrop
    renderer.resize(PORTRAIT, PORTRAIT)
    renderer.set_parts(person.parts)
    renderer.set_backdrop(np.full((8, 8, 3), rng.integers(40, 200, 3), np.uint8))
    face = portrait(renderer, person)
    out, (height, width) = backdrop.copy(), backdrop.shape[:2]
    tall = int(min(height * rng.uniform(0.36, 0.46), width * 0.42))
    wide = int(tall * 0.8)
    crop = face[:, PORTRAIT // 10 : PORTRAIT - PORTRAIT // 10]
    picture = cv2.resize((crop * rng.uniform(0.5, 0.9)).astype(np.uint8), (wide, tall), interpolation=cv2.INTER_AREA)
    x = int(width * 0.03) if left else width - wide - int(width * 0.03)
    y = int(height * rng.uniform(0.04, 0.12))
    border = max(tall // 24, 2)
    cv2.rectangle(out, (x - border, y - border), (x + wide + border, y + tall + border), rng.integers(5, 90, 3).tolist(), -1)
    out[y : y + tall, x : x + wide] = picture
    return cv2.GaussianBlur(out, (0, 0), 0.8)


def bystander_frames(
    renderer, seed: int, centre: np.ndarray, camera: Camera, lights: Lights, motion: dict, aside: float
) -> list:
    """Render somebody behind the person, over the backdrop that is set; returns one new backdrop (h, w, 3) uint8 a frame.

    `centre` is the person's; `aside` is where the bystander stands, in half picture widths from the middle; `motion`
    goes to `draw_track`.
    """
    person = Person(seed, motion.get("release", 1))
    person.bake(renderer)
    deeper = (camera.eye[2] - centre[2] + BEHIND) / (camera.eye[2] - centre[2])
    half_width = camera.half_height * renderer.width / renderer.height
    shift = centre - person.centre + np.array([aside * half_width * deeper, 0, -BEHIND])
    shift = shift.astype(np.float32)
    around = replace(lights, centre=person.centre + shift)
    track, out = draw_track(seed, **motion), []
    for t in range(len(track)):
        geometry = person.geometry(track.mouth[t] | track.eyes[t], track.angles[t])
        moved = [(position + shift, normal, occlusion) for position, normal, occlusion in geometry]
        out.append(to_backdrop(renderer.render(moved, camera, around)))
    return out


def face_box(uv: np.ndarray) -> np.ndarray:
    """Return x0, y0, x1, y1 of the face in a UV buffer (h, w, >=3), px; raise ValueError where there is none."""
    u, v, part = uv[..., 0], uv[..., 1], np.round(uv[..., 2])
    u0, u1, v0, v1 = FACE_WINDOW
    ys, xs = np.nonzero((part == SKIN) & (u > u0) & (u < u1) & (v > v0) & (v < v1))
    if not len(ys):
        raise ValueError("no face in this frame: the head is out of the picture")
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], float)


class Occluder:
    """Something before the face: `hand` (four fingers on a cheek) or `hair` (strands across the face)."""

    def __init__(self, kind: str, rng: np.random.Generator, frames: int, fps: float):
        self.kind, self.side = kind, rng.choice([-1, 1])
        reach = 0.05 if kind == "hand" else 0.015  # of the face's width
        self.sway = np.stack([smooth(rng, frames, fps, 0.9, reach) for _ in range(2)], 1)
        self.paths = self._fingers(rng) if kind == "hand" else self._strands(rng)
        self.tone = rng.uniform(0.75, 1.1) if kind == "hand" else rng.uniform(0.02, 0.12)

    def _fingers(self, rng) -> list[tuple[np.ndarray, float]]:
        """Return each finger's points in face coordinates (0..1 over the box, x mirrored by side) and its thickness."""
        lean, high = rng.uniform(-0.15, 0.1), rng.uniform(0.5, 0.72)
        out = []
        for k in range(4):
            tip = np.array([0.72 + 0.105 * k, high + 0.05 * (k - 1.2) ** 2 * 0.6])
            knuckle = np.array([0.86 + 0.1 * k + lean, high + 0.34])
            wrist = np.array([1.0 + 0.07 * k + lean, high + 0.85])
            out.append((np.stack([tip, knuckle, wrist]), rng.uniform(0.095, 0.115)))
        return out

    def _strands(self, rng) -> list[tuple[np.ndarray, float]]:
        start, out = rng.uniform(0.45, 0.6), []
        for _ in range(int(rng.integers(7, 13))):
            t = np.linspace(0, 1, 12)
            x = start + rng.normal(0, 0.05) + (0.25 + rng.normal(0, 0.06)) * np.sin(np.pi * 0.55 * t)
            out.append((np.stack([x, -0.12 + t * rng.uniform(0.75, 1.05)], 1), rng.uniform(0.012, 0.03)))
        return out

    def cover(self, linear: np.ndarray, uv: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Return frame `t`'s linear light (h, w, 3) with the occluder before the face, and where it is, bool (h, w)."""
        x0, y0, x1, y1 = box = face_box(uv)
        height, width = linear.shape[:2]
        canvas = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE), np.uint8)
        for path, thickness in self.paths:
            x = path[:, 0] if self.side > 0 else 1 - path[:, 0]
            points = np.stack([x, path[:, 1]], 1) + self.sway[t]
            points = (box[:2] + points * (x1 - x0, y1 - y0)) * SUPERSAMPLE
            thick = max(int(thickness * (x1 - x0) * SUPERSAMPLE), 1)
            one = np.zeros_like(canvas)
            cv2.polylines(one, [points.astype(np.int32)], False, 255, thick, cv2.LINE_AA)
            # A dark rim, so that neighbouring fingers or strands part.
            canvas = np.where(one > 127, self._round(one), canvas)
        shade = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        alpha = cv2.resize((canvas > 0).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)[..., None]
        skin = linear[np.round(uv[..., 2]) == SKIN].mean(0) * self.tone
        grey = np.full(3, skin.mean())
        colour = skin if self.kind == "hand" else grey
        shade = shade[..., None] / np.maximum(alpha, 1e-3)
        return linear * (1 - alpha) + colour * shade * alpha, alpha[..., 0] > 0.5

    @staticmethod
    def _round(one: np.ndarray) -> np.ndarray:
        """Shade a stroke like a cylinder: 255 in its middle, a third of that at its rim."""
        depth = cv2.distanceTransform((one > 127).astype(np.uint8), cv2.DIST_L2, 3)
        across = np.clip(depth / max(depth.max(), 1), 0, 1)
        return (255 * (0.35 + 0.65 * np.sqrt(1 - (1 - across) ** 2))).astype(np.uint8)

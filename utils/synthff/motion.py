"""How a talking head moves: head, gaze, blinks, brows, smile, and speech as overlapping mouth shapes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from utils.synthff.expression import tame_eyes, tame_mouth

# Mouth shapes of speech sounds as ARKit face units (after the usual viseme sets: open vowels, spread, round, lips shut ...).
VISEMES: dict[str, dict[str, float]] = {
    "rest": {},
    "aa": {"jawOpen": 0.55, "mouthLowerDown": 0.35, "mouthUpperUp": 0.2},
    "eh": {"jawOpen": 0.32, "mouthStretch": 0.3, "mouthUpperUp": 0.3, "mouthLowerDown": 0.3},
    "ee": {"jawOpen": 0.14, "mouthStretch": 0.45, "mouthSmile": 0.25, "mouthUpperUp": 0.3, "mouthLowerDown": 0.35},
    "oh": {"jawOpen": 0.36, "mouthFunnel": 0.55},
    "oo": {"jawOpen": 0.14, "mouthPucker": 0.7, "mouthFunnel": 0.25},
    "mbp": {"mouthPress": 0.45, "mouthRollLower": 0.25, "mouthRollUpper": 0.2},
    "fv": {"jawOpen": 0.08, "mouthRollLower": 0.45, "mouthUpperUp": 0.35},
    "sz": {"jawOpen": 0.07, "mouthStretch": 0.35, "mouthLowerDown": 0.4, "mouthUpperUp": 0.25},
    "lnt": {"jawOpen": 0.22, "mouthUpperUp": 0.2, "mouthLowerDown": 0.2},
    "sh": {"jawOpen": 0.12, "mouthFunnel": 0.45, "mouthPucker": 0.2},
}  # fmt: skip
SOUNDS = tuple(VISEMES)[1:]
PAIRED = ("mouthLowerDown", "mouthUpperUp", "mouthStretch", "mouthSmile", "mouthPress", "mouthFrown", "mouthDimple")
BLINK = np.array([0.35, 0.9, 1.0, 0.75, 0.35, 0.1])  # lid closure frame by frame at 25 fps
MOST = np.array([0.62, 0.32, 0.28])  # radians: past them the mouth is hidden, or the face no longer found
HEAD = dict(yaw=(0.6, 0.14), pitch=(0.6, 0.06), roll=(0.5, 0.045))  # Hz, radians
GAZE_REACH = np.array([0.42, 0.25])  # radians that an eye turns aside and up or down at full strength


@dataclass
class Track:
    """One clip's motion: face units a frame, split into what speech moves and the rest, and head angles (n, 3) in radians."""

    mouth: list[dict[str, float]]
    eyes: list[dict[str, float]]
    angles: np.ndarray

    def __len__(self) -> int:
        return len(self.angles)


def smooth(rng, frames: int, fps: float, hertz: float, amplitude: float) -> np.ndarray:
    """Return smooth noise (frames,) that wanders about `hertz` times a second."""
    knots = max(3, int(frames / fps * hertz) + 3)
    values = rng.normal(0, amplitude, (1, knots)).astype(np.float32)
    return cv2.resize(values, (frames, 1), interpolation=cv2.INTER_CUBIC)[0]


def _both(name: str, value: float) -> dict[str, float]:
    value = float(np.clip(value, 0, 1))
    return {f"{name}Left": value, f"{name}Right": value} if name in PAIRED else {name: value}


def draw_track(seed: int, frames: int, fps: float = 25.0, turn: float = 1.0, pace: float = 1.0, release: int = 1) -> Track:
    """Draw a clip's motion; the same seed gives the same motion.

    `turn` and `pace` are the head's amplitude and speed, times the usual; face and speech do not depend on them. In the
    second release expressions stay within the limits of `expression`, moods change slowly, and eyes meet the camera.
    """
    rng = np.random.default_rng([seed, 11])
    mouth = _speech(rng, frames, fps, release)
    eyes = _eyes(rng, frames, fps)
    head = []
    for hertz, amplitude in HEAD.values():
        head.append(turn * (smooth(rng, frames, fps, hertz * pace, amplitude) + rng.normal(0, amplitude * 0.6)))
    angles = np.clip(np.stack(head, 1), -MOST, MOST)
    if release > 1:
        eyes = _calm_eyes(np.random.default_rng([seed, 19]), eyes, angles, fps)
    return Track(mouth, eyes, angles)


def _speech(rng, frames: int, fps: float, release: int) -> list[dict[str, float]]:
    """Return mouth units a frame: sounds of 60-220 ms, each a bump that overlaps its neighbours (Cohen & Massaro 1993)."""
    units = sorted({unit for shape in VISEMES.values() for unit in shape})
    weights = {name: np.zeros(frames) for name in VISEMES}
    weights["rest"] += 0.25  # the pull back to rest
    time, t = np.arange(frames) / fps, float(rng.uniform(-0.2, 0.3))
    silent = rng.uniform(0.04, 0.3)  # chance of a pause after a sound: some people chatter, some rest
    while t < frames / fps:
        length = float(rng.uniform(0.06, 0.22))
        pause = rng.random() < silent
        name = "rest" if pause else SOUNDS[rng.integers(len(SOUNDS))]
        length *= 2.5 if pause else 1.0
        strength = float(rng.uniform(0.6, 1.15))
        weights[name] += strength * np.exp(-0.5 * ((time - t - length / 2) / (0.55 * length)) ** 2)
        t += length
    total = sum(weights.values())
    loud = float(rng.uniform(0.7, 1.15))
    shape = {u: sum(weights[n] * VISEMES[n].get(u, 0.0) for n in VISEMES) / total * loud for u in units}
    mood = smooth(rng, frames, fps, 0.4, 0.3) + rng.normal(0.22, 0.3)  # smile above, frown below zero
    if release > 1:
        return _tame_speech(shape, mood, frames)
    out = []
    for i in range(frames):
        frame: dict[str, float] = {}
        for unit in units:
            frame |= _both(unit, shape[unit][i] + (0.8 * max(mood[i], 0) if unit == "mouthSmile" else 0))
        out.append(frame | _both("mouthFrown", -0.7 * min(mood[i], 0)) | _both("mouthDimple", 0.3 * max(mood[i], 0)))
    return out


def _tame_speech(shape: dict[str, np.ndarray], mood: np.ndarray, frames: int) -> list[dict[str, float]]:
    """Return the mouth's units a frame for sounds `shape` (frames,) a unit and a mood, halved and slowed, within limits."""
    slow = cv2.GaussianBlur(mood.astype(np.float32)[None], (0, 0), frames / 8, borderType=cv2.BORDER_REPLICATE)[0]
    slow = 0.12 + 0.55 * slow  # MakeHuman's mouth hangs at rest
    out = []
    for i in range(frames):
        units = {unit: float(values[i]) for unit, values in shape.items()}
        units["mouthSmile"] = units.get("mouthSmile", 0.0) + max(slow[i], 0.0)
        units |= dict(mouthFrown=-0.35 * min(slow[i], 0.0), mouthDimple=0.25 * max(slow[i], 0.0))
        frame: dict[str, float] = {}
        for unit, value in tame_mouth(units).items():
            frame |= _both(unit, value)
        out.append(frame)
    return out


def _calm_eyes(rng, eyes: list[dict[str, float]], angles: np.ndarray, fps: float) -> list[dict[str, float]]:
    """Return the eyes' units with a gaze that rests on the camera while the head turns, and lids opened a little."""
    frames = len(eyes)
    gaze = _fixations(rng, frames, fps) + angles[:, :2] * 0.85 / GAZE_REACH  # eyes turn against the head
    gaze += np.stack([smooth(rng, frames, fps, 2.0, 0.02) for _ in range(2)], 1)
    wide, out = rng.uniform(0.0, 0.2), []
    for frame, (x, y) in zip(eyes, np.clip(gaze, -1, 1), strict=True):
        units = dict(frame)
        for side, inward in (("Left", x), ("Right", -x)):
            units |= {f"eyeLookIn{side}": max(inward, 0.0), f"eyeLookOut{side}": max(-inward, 0.0)}
            units |= {f"eyeLookUp{side}": max(y, 0.0), f"eyeLookDown{side}": max(-y, 0.0)}
            units[f"cheekSquint{side}"] *= 0.5
            units[f"eyeWide{side}"] = wide * (1 - units[f"eyeBlink{side}"])
        out.append(tame_eyes(units))
    return out


def _fixations(rng, frames: int, fps: float) -> np.ndarray:
    """Return where the eyes look (frames, 2), in units of strength: mostly at the camera, now and then beside it."""
    out, t = np.zeros((frames, 2)), 0
    while t < frames:
        until = t + max(int((0.3 + rng.exponential(0.9)) * fps), 1)
        away = rng.random() < 0.3
        out[t:until] = rng.normal(0, (0.32, 0.2)) if away else rng.normal(0, (0.05, 0.04))
        t = until
    return cv2.blur(out.astype(np.float32), (1, 3), borderType=cv2.BORDER_REPLICATE)  # a saccade takes three frames


def _eyes(rng, frames: int, fps: float) -> list[dict[str, float]]:
    lid = np.zeros(frames)
    t = rng.uniform(0.1, 1.5)
    while t < frames / fps:
        start = int(t * fps)
        lid[start : start + len(BLINK)] = np.maximum(lid[start : start + len(BLINK)], BLINK[: frames - start])
        t += rng.exponential(2.0) + 0.5
    brow, x, y = (smooth(rng, frames, fps, hz, a) for hz, a in ((0.8, 0.22), (1.2, 0.22), (1.0, 0.13)))
    brow = brow + rng.uniform(0.1, 0.45)  # MakeHuman's brows frown at rest
    smile = np.clip(smooth(rng, frames, fps, 0.4, 0.25), 0, 1)
    part = lambda v: float(np.clip(v, 0, 1))  # noqa: E731
    out = []
    for i in range(frames):
        frame = dict(
            browInnerUp=part(brow[i]), eyeLookInLeft=part(x[i]), eyeLookOutRight=part(x[i]),
            eyeLookOutLeft=part(-x[i]), eyeLookInRight=part(-x[i]),
        )  # fmt: skip
        for side in ("Left", "Right"):
            frame |= {
                f"eyeBlink{side}": part(lid[i]), f"browDown{side}": part(-brow[i] * 0.5), f"cheekSquint{side}": part(smile[i]),
                f"browOuterUp{side}": part(brow[i] * 0.6), f"eyeLookUp{side}": part(y[i]), f"eyeLookDown{side}": part(-y[i]),
            }  # fmt: skip
        out.append(frame)
    return out

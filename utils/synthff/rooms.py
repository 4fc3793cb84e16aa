"""Photographed surroundings: panoramas as out-of-focus backdrops and as the light that falls on a person in them.

Panoramas (h, 2h, 3) are linear light. Their middle column lies behind the person, at -z; the camera looks that way.
"""

from __future__ import annotations

import base64
import io
from functools import lru_cache

import av
import cv2
import numpy as np

from utils.synthff.assets import PANORAMAS
from utils.synthff.scene import Lights

INDOORS = ("apartment", "bridge", "esplanade", "hall", "lab", "lobby", "studio", "warehouse", "workshop")
OUTDOORS = ("city", "dawn", "forest", "park", "sunrise", "sunset", "venice")  # not `night` and `sky`: too dark, and no place
INDOOR_SHARE = 0.7
CEILING = 60.0  # times the median: brighter lamps are cut off
LIGHT_HEIGHT = 32  # rows of the panorama that light is measured in
KEY_CONE = np.radians(32)  # half angle of what counts as one light
LEVEL = (0.85, 1.2)  # light on a face that looks at the camera, about as much as `draw_lights` gives
LEAST_KEY = (0.25, 0.6)  # share of that light that has one direction: a flat room's light is gathered to it


@lru_cache(None)
def panorama(name: str) -> np.ndarray:
    """Return a panorama (256, 512, 3) float32, its median 1; raise FileNotFoundError where it was not fetched."""
    path = PANORAMAS / f"{name}.exr.js"
    if not path.is_file():
        raise FileNotFoundError(f"no panorama at {path}: run `make synthff`")
    packed = base64.b64decode(path.read_text().split("base64,")[1].split("'")[0])
    with av.open(io.BytesIO(packed), format="exr_pipe") as container:
        frame = next(container.decode(video=0))  # half floats, in planes of green, blue and red
    green, blue, red = (np.frombuffer(plane, np.float16).reshape(plane.height, -1)[:, : plane.width] for plane in frame.planes)
    return mend(np.dstack([red, green, blue]).astype(np.float32))


def mend(image: np.ndarray) -> np.ndarray:
    """Return a panorama without the black rings that resizing left around lamps, its median 1."""
    image = np.clip(image / np.median(image.mean(2)), 0, CEILING).astype(np.float32)
    closed = cv2.morphologyEx(image, cv2.MORPH_CLOSE, np.ones((7, 7)))
    bright = np.clip((closed.mean(2, keepdims=True) - 4) / 4, 0, 1)  # only beside lamps, not in dark corners
    return image * (1 - bright) + closed * bright


def turn(image: np.ndarray, share: float) -> np.ndarray:
    """Return a panorama turned about the vertical by a share of the circle."""
    return np.roll(image, int(round(share * image.shape[1])), axis=1)


def view(image: np.ndarray, size: int, fov: float, pitch: float) -> np.ndarray:
    """Return the square picture (size, size, 3) towards the panorama's middle; `fov` and `pitch` in radians."""
    half = np.tan(fov / 2)
    x, y = np.meshgrid(np.linspace(-half, half, size), np.linspace(half, -half, size))
    up, deep = y * np.cos(pitch) + np.sin(pitch), np.cos(pitch) - y * np.sin(pitch)
    azimuth, elevation = np.arctan2(x, deep), np.arctan2(up, np.hypot(x, deep))
    height, width = image.shape[:2]
    column = ((azimuth / (2 * np.pi) + 0.5) * width - 0.5).astype(np.float32)
    row = ((0.5 - elevation / np.pi) * height - 0.5).astype(np.float32)
    return cv2.remap(image, column, row, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)


def defocus(image: np.ndarray, radius: float) -> np.ndarray:
    """Return linear light (h, w, 3) behind a lens whose circle of confusion has that radius, px: lamps become discs."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return cv2.filter2D(np.ascontiguousarray(image), -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)


def directions(height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit direction (h, 2h, 3) of each pixel of a panorama and the solid angle (h, 2h) it covers."""
    elevation = (0.5 - (np.arange(height) + 0.5) / height) * np.pi
    azimuth = ((np.arange(2 * height) + 0.5) / (2 * height) - 0.5) * 2 * np.pi
    elevation, azimuth = np.meshgrid(elevation, azimuth, indexing="ij")
    flat = np.cos(elevation)
    towards = np.stack([np.sin(azimuth) * flat, np.sin(elevation), -np.cos(azimuth) * flat], -1)
    return towards, flat * (np.pi / height) ** 2


def basis(n: np.ndarray) -> np.ndarray:
    """Return the nine functions (..., 9) of directions (..., 3) that the shader's ambient light is a sum of."""
    x, y, z = n[..., 0], n[..., 1], n[..., 2]
    return np.stack([np.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], -1)


def ambient(radiance: np.ndarray) -> np.ndarray:
    """Return the coefficients (9, 3) of the light from a panorama (h, 2h, 3) on a surface, over pi.

    Spherical harmonics up to order 2 folded with the cosine lobe (Ramamoorthi & Hanrahan 2001).
    """
    towards, solid = directions(len(radiance))
    functions = basis(towards)  # (h, 2h, 9)
    norm = np.array([1, 3, 3, 3, 15, 15, 5 / 4, 15, 15 / 4]) / (4 * np.pi)  # 1 over the integral of each squared
    cosine = np.array([1, 2 / 3, 2 / 3, 2 / 3, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 4])
    return np.einsum("hwk,hwc,hw->kc", functions, radiance, solid) * (norm * cosine)[:, None]


def two_tone(sky: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Return the coefficients (9, 3) of light that goes from `ground` (3,) below to `sky` (3,) above."""
    out = np.zeros((9, 3))
    out[0], out[1] = (np.asarray(sky) + ground) / 2, (np.asarray(sky) - ground) / 2
    return out


def _strongest(radiance: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the direction (3,) and colour (3,) of the strongest light in `where` (h, 2h), and what is left without it."""
    towards, solid = directions(len(radiance))
    broad = cv2.GaussianBlur(np.tile(radiance.mean(2), 3), (0, 0), 2.5)[:, radiance.shape[1] : 2 * radiance.shape[1]]
    peak = towards[np.unravel_index(np.argmax(np.where(where, broad, -1)), where.shape)]
    cone = np.clip((np.arccos(np.clip(towards @ peak, -1, 1)) < KEY_CONE), 0, 1)
    floor = np.median(radiance[where], axis=0)
    excess = np.clip(radiance - 1.5 * floor, 0, None) * cone[..., None]
    weight = (excess.mean(2) * solid)[..., None]
    if weight.sum() > 1e-6:
        peak = (towards * weight).sum((0, 1))
        peak = peak / np.linalg.norm(peak)
    return peak, (excess * solid[..., None]).sum((0, 1)) / np.pi, radiance - excess


def room_light(image: np.ndarray, centre: np.ndarray, level: float, least_key: float = 0.0) -> tuple[Lights, np.ndarray]:
    """Return the light of a panorama (h, 2h, 3) on a person at `centre`, and the gain (3,) that the panorama takes with it.

    One light from the front, one from behind, and all the rest as ambient light; `level` is what reaches a face, of which
    the first light has at least the share `least_key`. Three quarters of the light's colour are taken out, as a camera's
    white balance does.
    """
    radiance = cv2.resize(image, (2 * LIGHT_HEIGHT, LIGHT_HEIGHT), interpolation=cv2.INTER_AREA).astype(float)
    towards, _ = directions(LIGHT_HEIGHT)
    front = (towards[..., 2] > 0.25) & (towards[..., 1] > -0.05) & (towards[..., 1] < 0.85)
    back = (towards[..., 2] < -0.35) & (towards[..., 1] > 0.0)
    key, key_colour, radiance = _strongest(radiance, front)
    rim, rim_colour, radiance = _strongest(radiance, back)
    coefficients = ambient(radiance)
    face = np.array([0.0, 0.1, 0.99])
    even, facing = basis(face) @ coefficients, max(key @ face, 0.2)
    total = (even + key_colour * facing).mean()
    lacking = np.clip(least_key - (key_colour * facing).mean() / total, 0, 0.9 * even.mean() / total) * total / even.mean()
    key_colour = key_colour + even * lacking / facing
    coefficients = coefficients * (1 - lacking)
    reaching = basis(face) @ coefficients + key_colour * facing
    balance = (reaching.mean() / np.maximum(reaching, 1e-6)) ** 0.75
    gain = level / reaching.mean() * balance
    key_colour, rim_colour = key_colour * gain, np.minimum(rim_colour * gain, 0.8)
    coefficients = coefficients * gain
    up, down = (basis(np.array([0.0, s, 0.0])) @ coefficients for s in (1.0, -1.0))
    fill = np.array([-key[0], 0.1, 0.8]) / np.linalg.norm([-key[0], 0.1, 0.8])
    lights = Lights([key, fill, rim], [key_colour, np.zeros(3), rim_colour], up, down, centre, coefficients)
    return lights, gain


def draw_room(rng: np.random.Generator, centre: np.ndarray, size: int) -> tuple[str, np.ndarray, Lights]:
    """Draw a photographed room: its name, the backdrop (size, size, 3) float32 linear light, and its light."""
    names = INDOORS if rng.random() < INDOOR_SHARE else OUTDOORS
    name = names[rng.integers(len(names))]
    image = panorama(name)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    image = turn(image, rng.random())
    lights, gain = room_light(np.ascontiguousarray(image), centre, rng.uniform(*LEVEL), rng.uniform(*LEAST_KEY))
    seen = view(np.ascontiguousarray(image), size, rng.uniform(0.75, 1.3), rng.uniform(-0.08, 0.12))
    seen = np.clip(seen * gain * rng.uniform(0.7, 1.15), 0, 8).astype(np.float32)
    seen = defocus(seen, rng.uniform(0.012, 0.035) * size)
    middle = float(np.median(seen.mean(2)))
    seen *= np.clip(middle, 0.06, 0.85) / max(middle, 1e-6)  # neither black nor burnt out
    return name, cv2.GaussianBlur(seen, (0, 0), size / 256), lights

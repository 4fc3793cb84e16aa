"""Colours of the second release: irises, cloth with stripes and checks, and what each sex wears."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from utils.synthff.identity import Identity

# Linear RGB of the iris, and how often light-skinned people have it; others have the first two.
IRISES = {
    "dark": ((0.050, 0.026, 0.015), 0.10), "brown": ((0.125, 0.062, 0.030), 0.28), "hazel": ((0.17, 0.115, 0.05), 0.16),
    "green": ((0.135, 0.16, 0.085), 0.12), "grey": ((0.17, 0.19, 0.195), 0.13), "blue": ((0.13, 0.18, 0.24), 0.21),
}  # fmt: skip
IRIS_CENTRES, IRIS_RADIUS = ((148, 363), (361, 152)), 61  # px in MakeHuman's eye texture of 512 px
PATTERNS = ("plain", "stripes", "bands", "checks", "mottled")
PATTERN_SHARES = (0.5, 0.14, 0.12, 0.12, 0.12)


def linear(colour) -> np.ndarray:
    return np.asarray(colour, float) ** 2.2


def srgb(colour) -> np.ndarray:
    return np.clip(colour, 0, 1) ** (1 / 2.2)


def less_vivid(image: np.ndarray, mean: np.ndarray, most: float) -> np.ndarray:
    """Return sRGB colours (..., 3) less saturated, as far as their `mean` (3,) needs to have blue within `most` of red."""
    vivid = float((mean[0] - mean[2]) / max(mean[0], 0.05))
    keep = min(1.0, most / max(vivid, 1e-6))
    grey = image @ np.array([0.35, 0.45, 0.2])
    return grey[..., None] + (image - grey[..., None]) * keep


def draw_eyes(rng: np.random.Generator, who: Identity, texture: np.ndarray) -> tuple[np.ndarray, str]:
    """Return an eye texture (512, 512, 4) uint8 with another iris and an off-white eyeball, and the iris' name."""
    names = list(IRISES)
    light = who.ancestry[0] > 0.6
    shares = np.array([IRISES[name][1] for name in names]) if light else np.array([0.62, 0.38, 0, 0, 0, 0])
    name = names[rng.choice(len(names), p=shares / shares.sum())]
    colour = np.array(IRISES[name][0]) * rng.uniform(0.8, 1.25) * rng.normal(1, 0.05, 3)
    out = texture.copy()
    image = linear(texture[..., :3] / 255.0)
    y, x = np.mgrid[0 : texture.shape[0], 0 : texture.shape[1]]
    inside = np.zeros(texture.shape[:2])
    for cx, cy in IRIS_CENTRES:
        distance = np.hypot(x - cx, y - cy) / IRIS_RADIUS
        inside = np.maximum(inside, np.clip((1.03 - distance) / 0.06, 0, 1))
    grey = texture[..., :3].max(2) / 255.0
    level = grey[inside > 0.99]
    structure = np.clip(grey / np.median(level), 0, 1.7) ** 1.5
    white = image * np.array([1.0, 0.97, 0.93]) * rng.uniform(0.9, 1.08)
    image = white * (1 - inside[..., None]) + structure[..., None] * colour * inside[..., None]
    out[..., :3] = (srgb(image) * 255).astype(np.uint8)
    return out, name


def _fabric(rng: np.random.Generator) -> np.ndarray:
    """Return a colour that clothes are dyed in, linear RGB (3,)."""
    hue = rng.random()
    saturation = float(np.clip(rng.beta(1.4, 2.0), 0.02, 0.85)) * (rng.random() < 0.8)
    value = float(rng.choice([rng.uniform(0.10, 0.35), rng.uniform(0.3, 0.65), rng.uniform(0.65, 0.9)]))
    return linear(colorsys.hsv_to_rgb(hue, saturation, value))


def _pattern(rng: np.random.Generator, name: str, size: tuple[int, int]) -> np.ndarray:
    """Return where the second colour of a pattern lies over a texture (h, w), 0..1."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width] * (512 / max(size))
    period, share = rng.uniform(9, 26), rng.uniform(0.12, 0.5)

    def lines(t):
        phase = np.abs((t / period) % 1 - 0.5)
        return np.clip((share / 2 - phase) * period / 1.2 + 0.5, 0, 1)

    if name == "stripes":
        return lines(x)
    if name == "bands":
        return lines(y)
    if name == "checks":
        return 0.5 * (lines(x) + lines(y))
    if name == "mottled":
        noise = cv2.resize(rng.standard_normal((48, 48)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        return np.clip(noise * 0.6 + 0.3, 0, 1)
    return np.zeros(size)


def draw_cloth(rng: np.random.Generator, texture: np.ndarray) -> tuple[np.ndarray, str]:
    """Return a cloth texture (h, w, 3 or 4) uint8 with its main fabric in another colour or pattern, and the pattern's name.

    The main fabric is what has about the most frequent colour; folds and seams keep their shading, trims get their hue turned.
    """
    pattern = PATTERNS[rng.choice(len(PATTERNS), p=PATTERN_SHARES)]
    one, two = _fabric(rng), _fabric(rng)
    one, two = np.clip(one, 0.008, 0.75), np.clip(0.5 * one + 0.6 * two, 0.008, 0.75)
    rgb = np.ascontiguousarray(texture[..., :3])
    opaque = texture[..., 3] > 100 if texture.shape[2] == 4 else np.ones(rgb.shape[:2], bool)
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB).astype(np.float32)
    main = _main_colour(lab[opaque])
    distance = np.sqrt((((lab - main) * np.array([0.45, 1, 1])) ** 2).sum(2))
    mask = np.clip((30 - distance) / 12, 0, 1)[..., None]
    image = linear(rgb / 255.0)
    grey = image.mean(2)
    shading = np.clip(grey / max(float(np.median(grey[opaque & (mask[..., 0] > 0.5)])), 0.004), 0.25, 2.5) ** 0.6
    weave = 1 + 0.04 * rng.standard_normal(shading.shape)
    second = _pattern(rng, pattern, shading.shape)[..., None]
    dyed = (one * (1 - second) + two * second) * (shading * weave)[..., None]
    trim = linear(_turn_hue(rgb, int(rng.integers(0, 180)), rng.uniform(0.15, 0.6)) / 255.0)
    out = texture.copy()
    out[..., :3] = (srgb(dyed * mask + trim * (1 - mask)) * 255).astype(np.uint8)
    return out, pattern


def _main_colour(lab: np.ndarray) -> np.ndarray:
    """Return the mean of the fullest of the cells that colours (n, 3) fall into."""
    cells = (lab // 24).astype(int)
    keys = cells @ np.array([400, 20, 1])
    values, counts = np.unique(keys, return_counts=True)
    return lab[keys == values[counts.argmax()]].mean(0)


def _turn_hue(rgb: np.ndarray, by: int, saturation: float) -> np.ndarray:
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV).astype(int)
    hsv[..., 0] = (hsv[..., 0] + by) % 180
    hsv[..., 1] = np.minimum(hsv[..., 1] * saturation, 90)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)

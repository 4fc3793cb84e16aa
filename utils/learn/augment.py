"""Augmentation of whole batches: first everything random is drawn, then it is done to float images (B, 3, H, W) in [0, 1].

All random numbers come from a `torch.Generator` handed in, so that a seed fixes the run. What is drawn depends on counts
alone, never on pixels: draws of many steps can be made before one picture is read, and the pictures be made anywhere.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from utils.config import AugmentConfig

GREY = (0.299, 0.587, 0.114)  # luma weights of ITU-R BT.601
USUAL = AugmentConfig()


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Return uint8 images (B, 3, S, S) as floats in [0, 1]."""
    return images.to(torch.float32).div_(255)


def resize(images: torch.Tensor, px: int) -> torch.Tensor:
    """Resample to (B, 3, px, px), bilinear: the same path as `basic`, with nothing random."""
    return warp(images, torch.eye(2, 3).expand(len(images), 2, 3), px)


def warp(images: torch.Tensor, theta: torch.Tensor, px: int) -> torch.Tensor:
    """Sample images at the affine grids `theta` (B, 2, 3), in torch's [-1, 1] coordinates; the border is reflected."""
    if px == images.shape[-1] and torch.equal(theta, torch.eye(2, 3, device=theta.device).expand_as(theta)):
        return images
    grid = F.affine_grid(theta.to(images.device), [len(images), images.shape[1], px, px], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


class Noise(NamedTuple):
    """What is random about the noise of images, one row an image (or two twins), drawn before any image is read."""

    theta: torch.Tensor  # (B, 2, 3): where each is moved
    colour: torch.Tensor  # (B, 3): factors of brightness, contrast and saturation
    operations: torch.Tensor  # (B, n): of RandAugment, with their signs

    def rows(self, some: slice) -> Noise:
        return Noise(*(drawn[some] for drawn in self))

    @staticmethod
    def joined(parts: list[Noise]) -> Noise:
        return Noise(*(torch.cat(drawn) for drawn in zip(*parts, strict=True)))


def draw_noise(count: int, generator: torch.Generator, config: AugmentConfig = USUAL, n: int = 0) -> Noise:
    """Draw the noise of so many images, with `n` operations of RandAugment each."""
    theta = random_affine(count, generator, config)
    return Noise(theta, random_colour(count, generator, config.colour), random_operations(count, n, generator))


def add_noise(images: torch.Tensor, noise: Noise, px: int, m: float = 0.0) -> torch.Tensor:
    """Return images moved, re-coloured and under RandAugment of magnitude `m` as drawn, at (B, 3, px, px)."""
    return randaugment(recolour(warp(images, noise.theta, px), noise.colour), noise.operations, m)


def random_affine(count: int, generator: torch.Generator, config: AugmentConfig = USUAL) -> torch.Tensor:
    """Return (count, 2, 3) matrices: mirror half of the images, shift, scale and turn all of them a little."""
    turn = _uniform(count, -config.degrees, config.degrees, generator) * math.pi / 180
    size = 1 + _uniform(count, -config.scale, config.scale, generator)
    mirror = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    shift = 2 * config.shift  # the side is 2
    move = torch.stack([_uniform(count, -shift, shift, generator) for _ in range(2)], dim=1)
    cos, sin = torch.cos(turn) * size, torch.sin(turn) * size
    rows = torch.stack([torch.stack([cos * mirror, -sin], 1), torch.stack([sin * mirror, cos], 1)], 1)  # (B, 2, 2)
    return torch.cat([rows, move.unsqueeze(2)], dim=2)


def random_colour(count: int, generator: torch.Generator, strength: float = USUAL.colour) -> torch.Tensor:
    """Return factors (count, 3) of brightness, contrast and saturation, up to `strength` around 1."""
    return torch.stack([1 + _uniform(count, -strength, strength, generator) for _ in range(3)], dim=1)


def recolour(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Change brightness, contrast and saturation of each image by its `factors` (B, 3)."""
    bright, contrast, colour = (factor.view(-1, 1, 1, 1) for factor in factors.to(images.device).unbind(1))
    images = images * bright
    images = torch.lerp(images.mean(dim=(1, 2, 3), keepdim=True), images, contrast)
    grey = (images * torch.tensor(GREY, device=images.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return torch.lerp(grey, images, colour).clamp(0, 1)


def basic(images: torch.Tensor, px: int, generator: torch.Generator, config: AugmentConfig = USUAL) -> torch.Tensor:
    """Return images mirrored, moved and re-coloured a little, at (B, 3, px, px)."""
    return add_noise(images, draw_noise(len(images), generator, config), px)


def for_twins(augment: Callable[[torch.Tensor, Noise], torch.Tensor], images: torch.Tensor, noise: Noise) -> torch.Tensor:
    """Return `augment(images, noise)` of twins side by side, images (2 B, 3, H, W): one change, B in all, for both of two."""
    return torch.stack([augment(images[0::2], noise), augment(images[1::2], noise)], dim=1).flatten(0, 1)


# RandAugment (Cubuk et al. 2020): name -> function(image batch, magnitude in [0, 1], sign). The ranges are those of its
# released code; magnitude 1 is the paper's 10. Every image of a group gets the same sign and magnitude.
OPERATIONS = {
    "identity": lambda x, m, s: x,
    "autocontrast": lambda x, m, s: tv.autocontrast(x),
    "equalize": lambda x, m, s: tv.equalize(x),
    "rotate": lambda x, m, s: tv.rotate(x, s * 30 * m, fill=0.5),
    "solarize": lambda x, m, s: tv.solarize(x, 1 - m),
    "colour": lambda x, m, s: tv.adjust_saturation(x, 1 + s * 0.9 * m),
    "posterize": lambda x, m, s: tv.posterize(x, 8 - round(4 * m)),
    "contrast": lambda x, m, s: tv.adjust_contrast(x, 1 + s * 0.9 * m),
    "brightness": lambda x, m, s: tv.adjust_brightness(x, 1 + s * 0.9 * m),
    "sharpness": lambda x, m, s: tv.adjust_sharpness(x, 1 + s * 0.9 * m),
    "shear_x": lambda x, m, s: _affine(x, shear=[s * math.degrees(math.atan(0.3 * m)), 0.0]),
    "shear_y": lambda x, m, s: _affine(x, shear=[0.0, s * math.degrees(math.atan(0.3 * m))]),
    "translate_x": lambda x, m, s: _affine(x, translate=[round(s * 0.3 * m * x.shape[-1]), 0]),
    "translate_y": lambda x, m, s: _affine(x, translate=[0, round(s * 0.3 * m * x.shape[-1])]),
}


def random_operations(count: int, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw `n` operations and their signs for each of so many images, (count, n)."""
    drawn = [torch.randint(0, 2 * len(OPERATIONS), (count,), generator=generator) for _ in range(n)]
    return torch.stack(drawn, dim=1) if n else torch.empty(count, 0, dtype=torch.int64)


def randaugment(images: torch.Tensor, operations: torch.Tensor, m: float) -> torch.Tensor:
    """Apply to each image its drawn `operations` (B, n), at magnitude `m` (0 to 10).

    Images that drew the same operation and sign are done together.
    """
    names, out = list(OPERATIONS), images.clone()
    for drawn in operations.unbind(1):
        for value in drawn.unique().tolist():
            members = torch.nonzero(drawn == value).flatten().to(images.device)
            operation = OPERATIONS[names[value // 2]]
            out[members] = operation(out[members], m / 10, 1 if value % 2 else -1).clamp(0, 1)
    return out


@dataclass(frozen=True)
class Degradation:
    """How clean images may be degraded: a strength is drawn for each, and `apply(image, strength)` does it to one.

    A codec takes and returns bytes (H, W, 3) on the CPU, in whatever process reads the crops; anything else takes and returns
    floats (3, S, S), on the device.
    """

    draw: Callable[[int, torch.Generator, AugmentConfig], torch.Tensor]
    apply: Callable | None
    codec: bool = False

    def of_bytes(self, images: torch.Tensor, strengths) -> torch.Tensor:
        """Return uint8 images (B, 3, S, S) behind the codec; as they are if it is none."""
        if not self.codec or not len(images):
            return images
        packed = [
            self.apply(np.ascontiguousarray(image), int(strength))
            for image, strength in zip(images.permute(0, 2, 3, 1).numpy(), strengths, strict=True)
        ]
        return torch.from_numpy(np.stack(packed)).permute(0, 3, 1, 2)

    def of_floats(self, images: torch.Tensor, strengths) -> torch.Tensor:
        """Return float images (B, 3, S, S) degraded; as they are if a codec has done it."""
        if self.codec or not self.apply or not len(images):
            return images
        return torch.stack([self.apply(image, float(strength)) for image, strength in zip(images, strengths, strict=True)])


def _between(ends: tuple[int, int], count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(ends[0], ends[1] + 1, (count,), generator=generator)


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _h264(image: np.ndarray, crf: int) -> np.ndarray:
    """Return an image behind H.264 at a constant rate factor, as one key frame; sides must be even.

    What c40 does to a video, made on the fly from its c23 view: without the motion that a clip's other frames have.
    """
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = image.shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "yuv420p", Fraction(1, 25), 1
    encoder.options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency"}
    packets = encoder.encode(av.VideoFrame.from_ndarray(image, format="rgb24")) + encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    return frames[0].to_ndarray(format="rgb24")


def _scale(image: torch.Tensor, part: float) -> torch.Tensor:
    """Shrink an image to a part of its side, and enlarge it again: what small faces have lost."""
    side = image.shape[-1]
    less = (torch.tensor(part) * side).round().int().clamp_min(2).item()
    small = F.interpolate(image[None], size=less, mode="area")
    return F.interpolate(small, size=side, mode="bilinear", align_corners=False)[0]


# How a student's clean images may be degraded before they are moved and re-coloured: a new degradation is one more entry.
DEGRADATIONS: dict[str, Degradation] = {
    "none": Degradation(lambda count, generator, config: torch.zeros(count), apply=None),
    "h264": Degradation(lambda count, generator, config: _between(config.h264_crf, count, generator), _h264, codec=True),
    "jpeg": Degradation(lambda count, generator, config: _between(config.jpeg_quality, count, generator), _jpeg, codec=True),
    "scale": Degradation(lambda count, generator, config: _uniform(count, config.least_scale, 1, generator), _scale),
    "blur": Degradation(
        lambda count, generator, config: _uniform(count, 0.05, config.most_blur, generator),
        lambda image, sigma: tv.gaussian_blur(image, kernel_size=9, sigma=sigma),
    ),
}


def degradation(how: str) -> Degradation:
    """Return a degradation by name; raise ValueError for one that is none of `DEGRADATIONS`."""
    if how not in DEGRADATIONS:
        raise ValueError(f"unknown degradation {how!r}: choose one of {', '.join(DEGRADATIONS)}")
    return DEGRADATIONS[how]


def degrade(images: torch.Tensor, how: str, generator: torch.Generator, config: AugmentConfig = USUAL) -> torch.Tensor:
    """Return float images (B, 3, S, S) as compression, or what stands for it, leaves them.

    Raises ValueError for a degradation that is none of `DEGRADATIONS`.
    """
    way = degradation(how)
    strengths = way.draw(len(images), generator, config)
    if not way.codec:
        return way.of_floats(images, strengths)
    return to_float(way.of_bytes(images.mul(255).round().to(torch.uint8).cpu(), strengths)).to(images.device)


def _affine(images: torch.Tensor, translate=(0, 0), shear=(0.0, 0.0)) -> torch.Tensor:
    return tv.affine(images, angle=0.0, translate=list(translate), scale=1.0, shear=list(shear), fill=0.5)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)

"""Augmentation of whole batches: every function takes and returns float images (B, 3, H, W) in [0, 1].

All random numbers come from a `torch.Generator` handed in, so that a seed fixes the run.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from fractions import Fraction

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
    theta = torch.eye(2, 3, device=images.device).expand(len(images), 2, 3)
    return warp(images, theta, px)


def warp(images: torch.Tensor, theta: torch.Tensor, px: int) -> torch.Tensor:
    """Sample images at the affine grids `theta` (B, 2, 3), in torch's [-1, 1] coordinates; the border is reflected."""
    if px == images.shape[-1] and torch.equal(theta, torch.eye(2, 3, device=theta.device).expand_as(theta)):
        return images
    grid = F.affine_grid(theta, [len(images), images.shape[1], px, px], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


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


def jitter_colour(images: torch.Tensor, generator: torch.Generator, strength: float = USUAL.colour) -> torch.Tensor:
    """Change brightness, contrast and saturation of each image by up to +-`strength`."""
    count = len(images)
    bright, contrast, colour = (
        (1 + _uniform(count, -strength, strength, generator)).view(-1, 1, 1, 1).to(images.device) for _ in range(3)
    )
    images = images * bright
    images = torch.lerp(images.mean(dim=(1, 2, 3), keepdim=True), images, contrast)
    grey = (images * torch.tensor(GREY, device=images.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return torch.lerp(grey, images, colour).clamp(0, 1)


def basic(images: torch.Tensor, px: int, generator: torch.Generator, config: AugmentConfig = USUAL) -> torch.Tensor:
    """Return images mirrored, moved and re-coloured a little, at (B, 3, px, px)."""
    theta = random_affine(len(images), generator, config).to(images.device)
    return jitter_colour(warp(images, theta, px), generator, config.colour)


def for_twins(
    augment: Callable[..., torch.Tensor], images: torch.Tensor, *settings, generator: torch.Generator, twins: bool = True,
    **options,
) -> torch.Tensor:  # fmt: skip
    """Return `augment(images, *settings, ...)` of images (B, 3, H, W); if they are twins, the same change for both of two."""
    if not twins:
        return augment(images, *settings, generator=generator, **options)
    state = generator.get_state()
    first = augment(images[0::2], *settings, generator=generator, **options)
    generator.set_state(state)
    return torch.stack([first, augment(images[1::2], *settings, generator=generator, **options)], dim=1).flatten(0, 1)


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


def randaugment(images: torch.Tensor, n: int, m: float, generator: torch.Generator) -> torch.Tensor:
    """Apply `n` operations of magnitude `m` (0 to 10), drawn for each image.

    Images that drew the same operation and sign are done together.
    """
    names = list(OPERATIONS)
    out = images.clone()
    for _ in range(n):
        drawn = torch.randint(0, 2 * len(names), (len(images),), generator=generator)  # operation and sign
        for value in drawn.unique().tolist():
            members = torch.nonzero(drawn == value).flatten()
            operation = OPERATIONS[names[value // 2]]
            out[members] = operation(out[members], m / 10, 1 if value % 2 else -1).clamp(0, 1)
    return out


def random_jpeg(images: torch.Tensor, generator: torch.Generator, config: AugmentConfig = USUAL) -> torch.Tensor:
    """Send each image through JPEG at a random quality: a cheap stand-in for video compression."""
    return _through(_jpeg, images, config.jpeg_quality, generator)


def _through(codec: Callable, images: torch.Tensor, strength: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Send each image through `codec(uint8 image (H, W, 3), strength)`, its strength drawn from both ends inclusive."""
    draws = torch.randint(strength[0], strength[1] + 1, (len(images),), generator=generator).tolist()
    as_bytes = images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    packed = np.stack([codec(np.ascontiguousarray(image), draw) for image, draw in zip(as_bytes, draws, strict=True)])
    return to_float(torch.from_numpy(packed).permute(0, 3, 1, 2)).to(images.device)


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def random_h264(images: torch.Tensor, generator: torch.Generator, config: AugmentConfig = USUAL) -> torch.Tensor:
    """Send each image through H.264 at a random constant rate factor, as one key frame; sides must be even.

    What c40 does to a video, made on the fly from its c23 view: without the motion that a clip's other frames have.
    """
    return _through(_h264, images, config.h264_crf, generator)


def _h264(image: np.ndarray, crf: int) -> np.ndarray:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = image.shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "yuv420p", Fraction(1, 25), 1
    encoder.options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency"}
    packets = encoder.encode(av.VideoFrame.from_ndarray(image, format="rgb24")) + encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    return frames[0].to_ndarray(format="rgb24")


def random_scale(images: torch.Tensor, generator: torch.Generator, config: AugmentConfig = USUAL) -> torch.Tensor:
    """Shrink each image to a random part of its side, and enlarge it again: what small faces have lost."""
    side = images.shape[-1]
    sides = (_uniform(len(images), config.least_scale, 1, generator) * side).round().int().clamp_min(2).tolist()
    small = [F.interpolate(image[None], size=less, mode="area") for image, less in zip(images, sides, strict=True)]
    return torch.cat([F.interpolate(image, size=side, mode="bilinear", align_corners=False) for image in small])


def random_blur(images: torch.Tensor, generator: torch.Generator, config: AugmentConfig = USUAL) -> torch.Tensor:
    """Blur each image by a Gaussian of a random standard deviation."""
    sigmas = _uniform(len(images), 0.05, config.most_blur, generator).tolist()
    return torch.stack([tv.gaussian_blur(x, kernel_size=9, sigma=sigma) for x, sigma in zip(images, sigmas, strict=True)])


# How a student's clean images may be degraded before they are moved and re-coloured: a new degradation is one more entry.
DEGRADATIONS: dict[str, Callable] = {
    "none": lambda images, generator, config: images,
    "h264": random_h264,
    "jpeg": random_jpeg,
    "scale": random_scale,
    "blur": random_blur,
}


def degrade(images: torch.Tensor, how: str, generator: torch.Generator, config: AugmentConfig = USUAL) -> torch.Tensor:
    """Return float images (B, 3, S, S) as compression, or what stands for it, leaves them.

    Raises ValueError for a degradation that is none of `DEGRADATIONS`.
    """
    if how not in DEGRADATIONS:
        raise ValueError(f"unknown degradation {how!r}: choose one of {', '.join(DEGRADATIONS)}")
    return DEGRADATIONS[how](images, generator, config)


def _affine(images: torch.Tensor, translate=(0, 0), shear=(0.0, 0.0)) -> torch.Tensor:
    return tv.affine(images, angle=0.0, translate=list(translate), scale=1.0, shear=list(shear), fill=0.5)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)

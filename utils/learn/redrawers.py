"""Small networks that draw a mouth anew: trained on anybody's real faces, they leave the traces that a renderer leaves.

NeuralTextures (Thies et al. 2019) leaves no blending of two faces; it leaves what a small network that rendered a mouth could
not do. So several such networks, each of another kind, learn to draw the mouth of a *real* frame again from too little: a
narrow code (`autoencoder`), a code and the face around it (`context`), or the mouth without its detail (`detail`). Colours come
from the frame itself. Nobody else's face comes in, nobody is made to say anything.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from utils.config import CRITIC_LR, RedrawerConfig
from utils.faces.landmarks import draw_masks, mouth_box, soft_mask
from utils.learn.precision import pick_device
from utils.synthff.neural_textures import PatchDiscriminator, upsampler

PATCH = 64  # px, side of the mouth as they draw it


class Redrawer(nn.Module):
    """Draws a mouth (B, 3, 64, 64) in [0, 1] again, where a mask (B, 1, 64, 64) says so."""

    def __init__(self, config: RedrawerConfig):
        super().__init__()
        self.config = config
        self.encoder = _encoder(3, config.widths)
        self.code = nn.Conv2d(config.widths[-1], config.code, 1)
        self.around = _encoder(4, config.widths) if config.kind == "context" else None
        self.up, channels = nn.ModuleList(), config.code
        for width, skip in zip((*config.widths[-2::-1], config.widths[0]), self._skips(), strict=True):
            up, mix = upsampler(config.upsampling, channels), nn.Conv2d(channels + skip, width, 3, 1, 1)
            self.up.append(nn.Sequential(up, mix, nn.SiLU()))
            channels = width
        self.last = nn.Conv2d(channels, 3, 3, 1, 1)

    def _skips(self) -> list[int]:
        """Return how many channels join each step up from the one of the same side on the way down."""
        if self.config.kind == "autoencoder":
            return [0] * len(self.config.widths)
        return [*self.config.widths[-2::-1], 0]

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        low = self.without_detail(x)  # its colours: what is drawn is what lies above them
        seen = low if self.config.kind == "detail" else x
        maps = _down(self.encoder, seen)
        h = self.code(maps[-1])
        joined = _down(self.around, torch.cat([x * (1 - mask), mask], 1)) if self.around is not None else maps
        for layers, skip in zip(self.up, self._skips(), strict=True):
            h = layers[0](h)
            if skip:
                h = torch.cat([h, next(one for one in joined if one.shape[2] == h.shape[2])], 1)
            h = layers[2](layers[1](h))
        return low + self.last(h)

    def without_detail(self, x: torch.Tensor) -> torch.Tensor:
        """Return images without what is finer than `config.detail` px."""
        small = F.interpolate(x, scale_factor=1 / self.config.detail, mode="area")
        return F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=False)


def _encoder(channels: int, widths: Sequence[int]) -> nn.ModuleList:
    steps = []
    for width in widths:
        steps.append(nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.GroupNorm(4, width), nn.SiLU()))
        channels = width
    return nn.ModuleList(steps)


def _down(encoder: nn.ModuleList, x: torch.Tensor) -> list[torch.Tensor]:
    maps = []
    for step in encoder:
        x = step(x)
        maps.append(x)
    return maps


# ---- training -------------------------------------------------------------------------------------------------------------


def train_redrawer(
    crops: np.ndarray, points: np.ndarray, config: RedrawerConfig, seed: int, name: str = ""
) -> tuple[Redrawer, float]:
    """Train a redrawer on face crops, uint8 RGB (N, S, S, 3), with landmarks (N, 68, 2); return it and its last L1 loss.

    The loss is L1 within the mask, of edges with the weight `config.gradient`, and with `config.adversarial` a critic's. It
    learns on a GPU where there is one, and is returned on the CPU.
    """
    rng, device = np.random.default_rng(seed), pick_device()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        redrawer, critic = Redrawer(config).to(device), PatchDiscriminator().to(device)
    steps, optimiser = config.steps, torch.optim.AdamW(redrawer.parameters(), lr=config.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=steps, pct_start=0.1)
    judging = torch.optim.AdamW(critic.parameters(), lr=CRITIC_LR, betas=(0.5, 0.9))
    losses = []
    for _ in tqdm(range(steps), desc=name, leave=False, disable=not name or bool(os.environ.get("TQDM_DISABLE"))):
        items = rng.integers(len(crops), size=config.batch)
        real, mask = (each.to(device) for each in patches(crops[items], points[items], draw_masks(len(items), rng)))
        if rng.random() < 0.5:
            real, mask = real.flip(3), mask.flip(3)
        drawn = real * (1 - mask) + redrawer(real, mask) * mask
        loss = l1 = ((drawn - real).abs() * mask).sum() / mask.sum() / 3
        if config.gradient:
            loss = loss + config.gradient * _edges(drawn, real, mask)
        if config.adversarial:
            loss = loss + config.adversarial * F.softplus(-critic(drawn)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if config.adversarial:
            judged = F.softplus(-critic(real)).mean() + F.softplus(critic(drawn.detach())).mean()
            judging.zero_grad()
            judged.backward()
            judging.step()
        losses.append(l1.detach())
    return redrawer.cpu().eval().requires_grad_(False), float(torch.stack(losses[-20:]).mean())


def _edges(drawn: torch.Tensor, real: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of both directions' gradients within the mask (Mathieu et al. 2016)."""
    gap, parts = drawn - real, []
    for dim in (2, 3):
        parts.append((gap.diff(dim=dim).abs() * mask.narrow(dim, 1, mask.shape[dim] - 1)).sum() / mask.sum() / 3)
    return sum(parts)


def patches(crops: np.ndarray, points: np.ndarray, drawn: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mouths of crops (B, 3, 64, 64) in [0, 1], and their masks (B, 1, 64, 64) as drawn (B, 5)."""
    size, pictures, masks = crops.shape[1], [], []
    for crop, where, one in zip(crops, points, drawn, strict=True):
        x0, y0, x1, y1 = mouth_box(where, size)
        pictures.append(cv2.resize(crop[y0:y1, x0:x1], (PATCH, PATCH), interpolation=cv2.INTER_LINEAR))
        masks.append(cv2.resize(soft_mask(where, one, size)[y0:y1, x0:x1], (PATCH, PATCH)))
    pictures = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return pictures, torch.from_numpy(np.stack(masks))[:, None]


# ---- drawing --------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def redraw(
    crops: np.ndarray, points: np.ndarray, drawn: np.ndarray, which: np.ndarray, redrawers: Sequence[Redrawer]
) -> np.ndarray:
    """Return crops, uint8 RGB (N, S, S, 3), whose mouths were drawn anew, by `which` redrawer (N,), where `drawn` (N, 5)."""
    size, out = crops.shape[1], crops.copy()
    pictures, masks = patches(crops, points, drawn)
    for number in np.unique(which):
        some = np.flatnonzero(which == number)
        made = redrawers[number](pictures[some], masks[some]).clamp(0, 1).mul(255).permute(0, 2, 3, 1).numpy()
        for place, patch in zip(some, made, strict=True):
            x0, y0, x1, y1 = mouth_box(points[place], size)
            large = cv2.resize(patch, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
            soft = soft_mask(points[place], drawn[place], size)[y0:y1, x0:x1, None]
            out[place, y0:y1, x0:x1] = (soft * large + (1 - soft) * out[place, y0:y1, x0:x1]).round().astype(np.uint8)
    return out

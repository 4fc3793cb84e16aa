"""NeuralTextures (Thies et al. 2019): a learned texture and a U-Net re-render the mouth with another person's expression.

A renderer's warm start is trained on a few people who are not in the data set; each target then gets a texture and a U-Net
of their own, tuned on the target's clip alone by L1 and a patch-GAN loss (pix2pix). Only the mouth region is re-rendered: the
target's pose, eyes and everything else stay. Pictures are float tensors in [0, 1], UV buffers are (u, v, part).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from utils.config import RendererConfig
from utils.synthff.person import SKIN, TEETH, TONGUE

FACE_WINDOW = (0.78, 0.99, 0.33, 0.70)  # u0, u1, v0, v1 of the face in MakeHuman's skin atlas
MOUTH_WINDOW = (0.86, 0.965, 0.40, 0.60)  # the part of it that is re-rendered: mouth, chin, lower cheeks
CROP_SCALE = 1.35  # crop side over the mouth region's extent
BATCH = 4
FIRST = RendererConfig()  # of the first release
UPSAMPLING = ("nearest", "bilinear", "transposed", "shuffle")


def _block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, 1)
    return nn.Sequential(convolution, nn.GroupNorm(4, channels_out), nn.LeakyReLU(0.2))


class UNet(nn.Module):
    """Renders a mouth crop from sampled texture, part maps, the crop around the mouth and its mask."""

    def __init__(self, config: RendererConfig = FIRST):
        super().__init__()
        if config.upsampling not in UPSAMPLING:
            raise ValueError(f"unknown upsampling {config.upsampling!r}: choose one of {', '.join(UPSAMPLING)}")
        one, two, three, four = config.widths
        channels_in = config.channels + 3 + 3 + 1
        down = (_block(channels_in, one), _block(one, two, 2), _block(two, three, 2), _block(three, four, 2))
        self.down = nn.ModuleList(down)
        self.middle = _block(four, four)
        self.up = nn.ModuleList([_block(four + three, three), _block(three + two, two), _block(two + one, one)])
        self.to_rgb = nn.Conv2d(one, 3, 3, 1, 1)
        self.larger = nn.ModuleList(upsampler(config.upsampling, channels) for channels in (four, three, two))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, C, S, S) -> (B, 3, S, S)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.middle(x)
        for block, larger, skip in zip(self.up, self.larger, skips[-2::-1], strict=True):
            x = block(torch.cat([larger(x), skip], 1))
        return torch.sigmoid(self.to_rgb(x))


def upsampler(kind: str, channels: int) -> nn.Module:
    """Return what doubles the side of feature maps; each kind leaves traces of its own (Odena et al. 2016)."""
    if kind == "transposed":
        return nn.ConvTranspose2d(channels, channels, 4, 2, 1)
    if kind == "shuffle":
        return nn.Sequential(nn.Conv2d(channels, 4 * channels, 1), nn.PixelShuffle(2))
    return nn.Upsample(scale_factor=2, mode=kind, align_corners=False if kind == "bilinear" else None)


class PatchDiscriminator(nn.Module):
    """Tells real from rendered patches (pix2pix)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 24, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(24, 48, 4, 2, 1), nn.GroupNorm(4, 48), nn.LeakyReLU(0.2),
            nn.Conv2d(48, 64, 4, 2, 1), nn.GroupNorm(4, 64), nn.LeakyReLU(0.2), nn.Conv2d(64, 1, 3, 1, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@dataclass
class Clip:
    """One target's clip around the mouth: crops of the frames and of both UV buffers."""

    frames: np.ndarray  # (n, H, W, 3) uint8, whole pictures
    region: np.ndarray  # (n, H, W) bool, pixels that are re-rendered
    boxes: list[tuple[int, int, int, int]]  # x0, y0, x1, y1 of each crop
    picture: torch.Tensor  # (n, 3, S, S)
    uv: torch.Tensor  # (n, 3, S, S): the target's own expression
    uv_source: torch.Tensor  # (n, 3, S, S): the source's expression
    mask: torch.Tensor  # (n, 1, S, S)


def mouth_region(uv: np.ndarray) -> np.ndarray:
    """Return where a UV buffer (..., >=3) shows the lower face, teeth or tongue, bool (...)."""
    u, v, part = uv[..., 0], uv[..., 1], np.round(uv[..., 2])
    u0, u1, v0, v1 = MOUTH_WINDOW
    return ((part == SKIN) & (u > u0) & (u < u1) & (v > v0) & (v < v1)) | (part == TEETH) | (part == TONGUE)


def prepare(frames: np.ndarray, uv: np.ndarray, uv_source: np.ndarray, side: int = FIRST.crop) -> Clip:
    """Cut mouth crops of `side` px out of frames (n, H, W, 3) and of the UV buffers (n, H, W, >=3) of both expressions.

    Raises ValueError where a frame shows no mouth.
    """
    region = mouth_region(uv) | mouth_region(uv_source)
    height, width = region.shape[1:]
    boxes, crops = [], {"picture": [], "uv": [], "uv_source": [], "mask": []}
    for t, inside in enumerate(region):
        ys, xs = np.nonzero(inside)
        if not len(ys):
            raise ValueError(f"frame {t} shows no mouth: the head is turned away or out of the picture")
        cy, cx = (ys.min() + ys.max()) / 2, (xs.min() + xs.max()) / 2
        half = max(np.ptp(ys), np.ptp(xs)) / 2 * CROP_SCALE
        box = max(int(cx - half), 0), max(int(cy - half), 0), min(int(cx + half), width), min(int(cy + half), height)
        boxes.append(box)
        crops["picture"].append(_crop(frames[t], box, side, cv2.INTER_LINEAR) / 255)
        crops["uv"].append(_crop(uv[t, ..., :3], box, side, cv2.INTER_NEAREST))
        crops["uv_source"].append(_crop(uv_source[t, ..., :3], box, side, cv2.INTER_NEAREST))
        crops["mask"].append(_crop(inside[..., None], box, side, cv2.INTER_NEAREST))
    stacked = {name: torch.from_numpy(np.stack(values)) for name, values in crops.items()}
    return Clip(frames, region, boxes, **stacked)


def _crop(image: np.ndarray, box, side: int, interpolation: int) -> np.ndarray:
    """Return the box of an image (H, W, C) resized to (C, side, side) float32."""
    x0, y0, x1, y1 = box
    patch = cv2.resize(image[y0:y1, x0:x1].astype(np.float32), (side, side), interpolation=interpolation)
    return np.ascontiguousarray(patch.reshape(side, side, -1).transpose(2, 0, 1))


def new_texture(config: RendererConfig = FIRST) -> torch.Tensor:
    """Return a random neural texture (2, C, R, R): one layer for the face, one for the inside of the mouth."""
    return (torch.randn(2, config.channels, config.texels, config.texels) * 0.1).requires_grad_()


def sample_texture(texture: torch.Tensor, uv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Look a UV crop (B, 3, S, S) up in a texture; returns features (B, C, S, S) and one map a part (B, 3, S, S)."""
    u, v, part = uv[:, 0], uv[:, 1], uv[:, 2].round()
    u0, u1, v0, v1 = FACE_WINDOW
    face_at = torch.stack([(u - u0) / (u1 - u0), (v - v0) / (v1 - v0)], -1) * 2 - 1
    mouth_at = torch.stack([u, v], -1) * 2 - 1
    on_face, in_mouth = (part == SKIN)[:, None], ((part == TEETH) | (part == TONGUE))[:, None]
    layers = []
    for layer, at, where in ((0, face_at, on_face), (1, mouth_at, in_mouth)):
        grid = texture[layer : layer + 1].expand(len(uv), -1, -1, -1)
        layers.append(F.grid_sample(grid, at, align_corners=False, padding_mode="border") * where)
    maps = torch.stack([part == SKIN, part == TEETH, part == TONGUE], 1).float()
    return layers[0] + layers[1], maps


class NeuralTextures:
    """A texture, its renderer and its critic, with one training step for warm start and fine-tuning alike."""

    def __init__(self, config: RendererConfig = FIRST, lr: float = 1e-3, texture_lr: float = 2e-2):
        self.config = config
        self.unet = UNet(config).to(memory_format=torch.channels_last)  # quicker on a CPU
        self.critic = PatchDiscriminator()
        self.texture = new_texture(config)
        self.lr, self.texture_lr = lr, texture_lr

    def state(self) -> dict[str, torch.Tensor]:
        """Return all weights as one flat dict."""
        out = {"texture": self.texture.detach()}
        out |= {f"unet.{k}": v for k, v in self.unet.state_dict().items()}
        out |= {f"critic.{k}": v for k, v in self.critic.state_dict().items()}
        return {name: value.contiguous() for name, value in out.items()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        part = lambda p: {k.removeprefix(p): v for k, v in state.items() if k.startswith(p)}  # noqa: E731
        self.unet.load_state_dict(part("unet."))
        self.critic.load_state_dict(part("critic."))
        self.texture = state["texture"].clone().requires_grad_()

    def start(self, textures: list[torch.Tensor] | None = None) -> None:
        """Make fresh optimisers for the U-Net, the given textures (default: its own) and the critic."""
        groups = [dict(params=self.unet.parameters(), lr=self.lr)]
        groups.append(dict(params=textures or [self.texture], lr=self.texture_lr))
        self.optimizer = torch.optim.Adam(groups)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=2e-4, betas=(0.5, 0.9))

    def slow(self, share: float) -> None:
        """Set the learning rates of U-Net and texture to a share of those it was made with."""
        for group, lr in zip(self.optimizer.param_groups, (self.lr, self.texture_lr), strict=True):
            group["lr"] = lr * share

    def render(self, texture, uv, picture, mask) -> torch.Tensor:
        features, maps = sample_texture(texture, uv)
        return self.unet(torch.cat([features, maps, picture * (1 - mask), mask], 1))

    def step(self, clip: Clip, index: torch.Tensor, adversarial: float, texture: torch.Tensor | None = None) -> float:
        """Take one step on the frames `index` of a clip; returns the L1 loss inside the region."""
        texture = self.texture if texture is None else texture
        real, mask = clip.picture[index], clip.mask[index]
        fake = self.render(texture, clip.uv[index], real, mask)
        fake = real * (1 - mask) + fake * mask
        l1 = ((fake - real).abs() * mask).sum() / mask.sum() / 3
        loss = l1
        if self.config.gradient:
            loss = loss + self.config.gradient * _gradient_loss(fake, real, mask)
        if adversarial:
            loss = loss + adversarial * F.softplus(-self.critic(fake)).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if adversarial:
            critic_loss = F.softplus(-self.critic(real)).mean() + F.softplus(self.critic(fake.detach())).mean()
            self.critic_optimizer.zero_grad()
            critic_loss.backward()
            self.critic_optimizer.step()
        return float(l1.detach())


def _gradient_loss(fake: torch.Tensor, real: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference of horizontal and vertical image gradients inside the mask."""
    loss, difference = torch.zeros(()), fake - real
    for axis in (2, 3):
        inside = mask.narrow(axis, 1, mask.shape[axis] - 1)
        loss = loss + (difference.diff(dim=axis).abs() * inside).sum() / inside.sum() / 3
    return loss


def warm_start(
    clips: list[Clip], config: RendererConfig, seed: int, progress: Callable[[Iterable], Iterable] = iter
) -> NeuralTextures:
    """Train one renderer on several people, a texture each; the mean texture starts every target."""
    torch.manual_seed(seed + config.seed)
    model = NeuralTextures(config, lr=2e-3)
    textures = [new_texture(config) for _ in clips]
    model.start(textures)
    for step in progress(range(config.warm_steps)):
        k = step % len(clips)
        index = torch.randint(0, len(clips[k].boxes), (BATCH,))
        model.step(clips[k], index, config.adversarial if step > config.warm_steps // 3 else 0.0, textures[k])
    model.texture = torch.stack(textures).mean(0).detach().requires_grad_()
    return model


def falling(done: float, last: float) -> float:
    """Return the share of a learning rate when a part `done` of the steps is: 1, over the `last` part down to a tenth."""
    return 1.0 if done < 1 - last or not last else 1 - 0.9 * (done - 1 + last) / last


def reenact(clip: Clip, state: dict[str, torch.Tensor], config: RendererConfig, seed: int) -> tuple[np.ndarray, float]:
    """Tune the warm start `state` on a target and render the source's expression.

    Returns the fake frames (n, H, W, 3) uint8, equal to the real ones outside the pasted region, and the last L1 losses' mean.
    """
    torch.manual_seed(seed)
    model = NeuralTextures(config, config.tune_lr, 20 * config.tune_lr)
    model.load_state(state)
    model.start()
    losses, index = [], range(0, len(clip.boxes), 2 * BATCH)
    for step in range(config.tune_steps):
        model.slow(falling(step / config.tune_steps, config.tune_decay))
        adversarial = 0.0 if step % config.tune_critic else config.adversarial
        losses.append(model.step(clip, torch.randint(0, len(clip.boxes), (config.tune_batch,)), adversarial))
    with torch.no_grad():
        parts = ([part[i : i + 2 * BATCH] for part in (clip.uv_source, clip.picture, clip.mask)] for i in index)
        rendered = [model.render(model.texture, *part) for part in parts]
    return paste(clip, torch.cat(rendered).numpy(), config.feather), float(np.mean(losses[-10:]))


def soft_mask(region: np.ndarray, feather: float = FIRST.feather) -> np.ndarray:
    """Return the weight (H, W) in [0, 1] with which a region is pasted; `feather` is its edge's standard deviation in px."""
    return cv2.GaussianBlur(region.astype(np.float32), (0, 0), feather)


def paste(clip: Clip, rendered: np.ndarray, feather: float = FIRST.feather) -> np.ndarray:
    """Return the clip's frames with the rendered crops (n, 3, S, S) pasted into the region."""
    fake = clip.frames.copy()
    for t, (x0, y0, x1, y1) in enumerate(clip.boxes):
        patch = cv2.resize(rendered[t].transpose(1, 2, 0) * 255, (x1 - x0, y1 - y0))
        weight = soft_mask(clip.region[t], feather)[y0:y1, x0:x1, None]
        blended = fake[t, y0:y1, x0:x1] * (1 - weight) + patch * weight
        fake[t, y0:y1, x0:x1] = np.where(weight > 0, np.clip(np.round(blended), 0, 255), fake[t, y0:y1, x0:x1])
    return fake

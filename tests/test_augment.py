from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from utils.config import AugmentConfig
from utils.learn import augment
from utils.learn.augment import (
    OPERATIONS,
    basic,
    degrade,
    draw_noise,
    randaugment,
    random_affine,
    random_colour,
    random_operations,
    recolour,
    resize,
    warp,
)


@pytest.fixture
def images() -> torch.Tensor:
    """Smooth random pictures (6, 3, 24, 24) in [0, 1]."""
    coarse = torch.rand(6, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, 24, mode="bilinear")


def test_resize_to_the_same_side_changes_nothing_and_else_averages_neighbours(images):
    assert torch.equal(resize(images, 24), images)
    assert torch.allclose(resize(images, 12), torch.nn.functional.avg_pool2d(images, 2), atol=1e-5)


def test_warp_mirrors_and_shifts_exactly(images):
    mirror = torch.tensor([[-1.0, 0, 0], [0, 1, 0]]).expand(6, 2, 3)
    assert torch.allclose(warp(images, mirror, 24), images.flip(3), atol=1e-5)
    four_px = torch.tensor([[1.0, 0, 2 * 4 / 24], [0, 1, 0]]).expand(6, 2, 3)
    assert torch.allclose(warp(images, four_px, 24)[..., :20], images[..., 4:], atol=1e-5)


def test_random_affine_stays_within_its_limits():
    theta = random_affine(500, torch.Generator().manual_seed(0), AugmentConfig(shift=0.05, scale=0.1, degrees=10))
    size = torch.linalg.det(theta[:, :, :2]).abs().sqrt()
    assert theta.shape == (500, 2, 3) and 0.9 <= size.min() and size.max() <= 1.1
    assert theta[:, :, 2].abs().max() <= 0.1
    mirrored = (torch.linalg.det(theta[:, :, :2]) < 0).float().mean()
    assert 0.4 < mirrored < 0.6
    turn = torch.atan2(theta[:, 1, 0] * torch.sign(theta[:, 0, 0]), theta[:, 0, 0].abs())
    assert turn.abs().max() <= np.radians(10) + 1e-6


def test_colour_jitter_of_a_grey_picture_keeps_it_grey():
    grey = torch.full((8, 3, 4, 4), 0.5)
    out = recolour(grey, random_colour(8, torch.Generator().manual_seed(0)))
    assert torch.allclose(out[:, 0], out[:, 1], atol=1e-6) and 0.4 <= out.min() and out.max() <= 0.6
    assert len(out[:, 0, 0, 0].unique()) == 8  # each image has its own draw


@pytest.mark.parametrize("augment", [
    lambda x, g: basic(x, 20, g), lambda x, g: randaugment(x, random_operations(6, 2, g), 9), lambda x, g: degrade(x, "jpeg", g)
])  # fmt: skip
def test_augmentation_keeps_shape_and_range_and_follows_its_seed(images, augment):
    first, same, other = (augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape[:2] == (6, 3) and first.dtype == torch.float32
    assert 0 <= first.min() and first.max() <= 1
    assert torch.equal(first, same) and not torch.equal(first, other)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_works_on_batches_as_on_single_images(images, name):
    for sign in (-1, 1):
        batch = OPERATIONS[name](images, 0.9, sign)
        single = torch.cat([OPERATIONS[name](image[None], 0.9, sign) for image in images])
        assert batch.shape == images.shape and torch.allclose(batch, single, atol=1e-5)
        assert name == "identity" or not torch.equal(batch, images)


@pytest.mark.parametrize("name", OPERATIONS)
def test_randaugment_does_what_was_drawn_at_its_magnitude_and_sign(images, name):
    place = list(OPERATIONS).index(name)
    for value, sign in ((2 * place, -1), (2 * place + 1, 1)):
        done = randaugment(images, torch.full((6, 1), value), 5)
        assert torch.equal(done, OPERATIONS[name](images, 0.5, sign).clamp(0, 1))
    twice = randaugment(images, torch.tensor([[2 * place, 1]] * 6), 5)  # 0 and 1: identity
    assert torch.equal(twice, OPERATIONS[name](images, 0.5, -1).clamp(0, 1))


def test_colour_jitter_by_hand(images):
    def changed(*factors):
        return recolour(images, torch.tensor([factors] * 6))

    grey = 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]
    assert torch.allclose(changed(1.0, 1.0, 1.0), images, atol=1e-6)
    assert torch.allclose(changed(0.5, 1.0, 1.0), images / 2, atol=1e-6)
    assert torch.allclose(changed(1.0, 0.0, 1.0), images.mean(dim=(1, 2, 3), keepdim=True).expand_as(images), atol=1e-6)
    assert torch.allclose(changed(1.0, 1.0, 0.0), grey.unsqueeze(1).expand_as(images), atol=1e-6)


def test_randaugment_leaves_its_input_alone_and_zero_operations_do_nothing(images):
    before = images.clone()
    randaugment(images, random_operations(6, 2, torch.Generator().manual_seed(0)), 9)
    assert torch.equal(images, before)
    assert torch.equal(randaugment(images, random_operations(6, 0, torch.Generator()), 9), before)


def textured(count=3, side=48):
    """Return images with fine and coarse detail (count, 3, side, side)."""
    generator = torch.Generator().manual_seed(1)
    coarse = F.interpolate(torch.rand(count, 3, 6, 6, generator=generator), size=side, mode="bilinear")
    return (coarse + 0.15 * torch.randn(count, 3, side, side, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("name", ["h264", "jpeg", "scale", "blur"])
def test_degradations_take_fine_detail_keep_the_rest_and_repeat(name):
    images = textured()
    one, two = (augment.degrade(images, name, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two) and one.shape == images.shape and 0 <= one.min() and one.max() <= 1
    fine = lambda x: (x - F.avg_pool2d(x, 3, 1, 1)).std(dim=(1, 2, 3))  # noqa: E731
    assert (fine(one) < fine(images)).all()
    blocks = lambda x: F.avg_pool2d(x, 16)  # noqa: E731
    assert (blocks(one) - blocks(images)).abs().mean() < 0.05


def test_h264_loses_more_at_a_higher_rate_factor():
    images = textured()
    rates = [AugmentConfig(h264_crf=(crf, crf)) for crf in (20, 30, 40)]
    degraded = [augment.degrade(images, "h264", torch.Generator().manual_seed(0), config) for config in rates]
    error = [(one - images).square().mean() for one in degraded]
    assert error[0] < error[1] < error[2]


def test_noise_by_rows_is_the_noise_of_those_rows(images):
    drawn = draw_noise(6, torch.Generator().manual_seed(3), n=2)
    whole = augment.add_noise(images, drawn, 20, m=9)
    half = augment.add_noise(images[2:5], drawn.rows(slice(2, 5)), 20, m=9)
    assert torch.allclose(whole[2:5], half, atol=1e-6)
    joined = augment.Noise.joined([drawn.rows(slice(0, 2)), drawn.rows(slice(2, 6))])
    assert all(torch.equal(one, other) for one, other in zip(joined, drawn, strict=True))


@pytest.mark.parametrize("name", ["h264", "jpeg"])
def test_a_codec_does_to_bytes_what_it_does_to_floats(name):
    as_bytes = textured().mul(255).round().to(torch.uint8)
    way = augment.degradation(name)
    strengths = way.draw(3, torch.Generator().manual_seed(5), AugmentConfig()).numpy()
    got = augment.to_float(way.of_bytes(as_bytes, strengths))
    assert torch.equal(got, augment.degrade(augment.to_float(as_bytes), name, torch.Generator().manual_seed(5)))

"""The generator: what must hold without a renderer, and, where EGL and the model data are there, that frames repeat."""

from __future__ import annotations

import hashlib
import json

import av
import numpy as np
import pandas as pd
import pytest
import torch

from utils.config import DataConfig, SynthFFConfig
from utils.ffpp import load_splits
from utils.synthff import encode, motion, neural_textures
from utils.synthff.person import SKIN, TEETH

ROOT = DataConfig().root


def fake_clip(frames: int = 4, size: int = 64) -> neural_textures.Clip:
    rng = np.random.default_rng(0)
    uv = np.zeros((frames, size, size, 4), np.float32)
    uv[:, 20:50, 15:45] = (0.9, 0.5, SKIN, 0.5)
    uv[:, 30:36, 24:34] = (0.4, 0.4, TEETH, 0.5)
    pictures = rng.integers(0, 255, (frames, size, size, 3), np.uint8)
    return neural_textures.prepare(pictures, uv, np.roll(uv, 2, axis=1))


def test_motion_repeats_and_stays_in_range():
    one, two, other = motion.draw_track(5, 48), motion.draw_track(5, 48), motion.draw_track(6, 48)
    assert one.mouth == two.mouth and np.array_equal(one.angles, two.angles)
    assert one.mouth != other.mouth
    values = [value for frame in one.mouth + one.eyes for value in frame.values()]
    assert min(values) >= 0 and max(values) <= 1
    assert np.abs(one.angles).max() < 1  # radians: near frontal


def test_speech_moves_between_frames_but_never_jumps():
    jaw = np.array([[f["jawOpen"] for f in motion.draw_track(seed, 48).mouth] for seed in range(8)])
    assert np.abs(np.diff(jaw, axis=1)).max() < 0.35  # of the full opening, in 40 ms
    assert jaw.std(axis=1).min() > 0.02


def test_source_gives_the_mouth_and_target_the_rest():
    build = pytest.importorskip("utils.synthff.build", reason="requirements-synthff.txt is not installed")
    target, source = motion.draw_track(1, 5), motion.draw_track(2, 5)
    swapped = build.reenacted_expression(target, source, 3)
    assert all(swapped[name] == value for name, value in source.mouth[3].items())
    assert all(swapped[name] == value for name, value in target.eyes[3].items())


def test_mouth_region_leaves_eyes_and_backdrop_alone():
    u0, u1, v0, v1 = neural_textures.MOUTH_WINDOW
    uv = np.array([[(u0 + u1) / 2, (v0 + v1) / 2, SKIN], [u0 - 0.02, (v0 + v1) / 2, SKIN], [0.5, 0.5, 0], [0.1, 0.1, TEETH]])
    assert neural_textures.mouth_region(uv).tolist() == [True, False, False, True]


def test_texture_lookup_against_a_literal_loop():
    clip, texture = fake_clip(1), torch.randn(2, neural_textures.CHANNELS, 96, 96)
    features, maps = neural_textures.sample_texture(texture, clip.uv)
    u0, u1, v0, v1 = neural_textures.FACE_WINDOW
    for y, x in [(10, 10), (40, 40), (60, 20), (33, 45)]:
        u, v, part = clip.uv[0, :, y, x].tolist()
        layer = {SKIN: 0, TEETH: 1}.get(round(part))
        assert maps[0, :, y, x].tolist() == [float(round(part) == p) for p in (1, 3, 4)]
        if layer is None:
            assert features[0, :, y, x].abs().max() == 0
            continue
        column, row = ((u - u0) / (u1 - u0), (v - v0) / (v1 - v0)) if layer == 0 else (u, v)
        column, row = (np.clip(t * 96 - 0.5, 0, 95) for t in (column, row))  # texel centres
        left, top = min(int(column), 94), min(int(row), 94)
        a, b = column - left, row - top
        four = texture[layer, :, top : top + 2, left : left + 2]
        want = (1 - b) * ((1 - a) * four[:, 0, 0] + a * four[:, 0, 1]) + b * ((1 - a) * four[:, 1, 0] + a * four[:, 1, 1])
        torch.testing.assert_close(features[0, :, y, x], want.float(), atol=1e-4, rtol=1e-4)


def test_fine_tuning_lowers_the_loss_and_changes_nothing_outside_the_mask():
    clip = fake_clip()
    model = neural_textures.warm_start([clip], 2, seed=0)
    _, first = neural_textures.reenact(clip, model.state(), 1, seed=1)
    fake, last = neural_textures.reenact(clip, model.state(), 25, seed=1)
    assert last < first
    changed = np.stack([neural_textures.soft_mask(region) > 0 for region in clip.region])
    assert np.array_equal(fake[~changed], clip.frames[~changed])
    assert (fake[changed] != clip.frames[changed]).any()


def test_no_mouth_in_the_picture_is_refused():
    empty = np.zeros((1, 32, 32, 4), np.float32)
    with pytest.raises(ValueError, match="frame 0 shows no mouth"):
        neural_textures.prepare(np.zeros((1, 32, 32, 3), np.uint8), empty, empty)


def test_encoder_gives_h264_and_more_loss_at_a_higher_rate_factor(tmp_path):
    ramp = np.linspace(0, 255, 64)[None, :, None] * np.ones((64, 1, 3))
    frames = np.stack([np.clip(ramp + 8 * np.random.default_rng(i).standard_normal((64, 64, 3)), 0, 255) for i in range(9)])
    losses = {}
    for crf in (23, 40):
        path = tmp_path / f"c{crf}.mp4"
        encode.encode(frames.astype(np.uint8), path, crf, 25)
        losses[crf] = encode.loss(path, frames.astype(np.uint8))
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 9)
    assert losses[23][0] > losses[40][0] and losses[23][1] > losses[40][1]


def test_committed_splits_are_pairs_without_overlap():
    splits = load_splits(ROOT)
    people = [person for pairs in splits.values() for pair in pairs for person in pair]
    assert len(people) == len(set(people)) >= 48
    assert {split: len(pairs) for split, pairs in splits.items()} == SynthFFConfig().pairs


def test_metadata_describes_every_committed_clip():
    table = pd.read_csv(f"{ROOT}/metadata.csv", dtype={"video_id": str, "target": str, "source": str}, keep_default_na=False)
    people = 2 * sum(SynthFFConfig().pairs.values())
    assert len(table) == 2 * people * len(SynthFFConfig().crf)
    assert not table.duplicated(["video_id", "quality"]).any()
    folder = {0: "original_sequences/youtube", 1: "manipulated_sequences/NeuralTextures"}
    for row in table.itertuples():
        path = f"{ROOT}/{folder[row.label]}/{row.quality}/videos/{row.video_id}.mp4"
        with open(path, "rb") as file:
            assert len(file.read()) == row.bytes, path
    assert table.groupby("target").identity_seed.nunique().eq(1).all()
    psnr = table.groupby("quality").psnr.mean()
    assert psnr["c23"] > psnr["c40"] + 3


def test_rendered_frames_repeat():
    build = pytest.importorskip("utils.synthff.build", reason="requirements-synthff.txt is not installed")
    try:
        build.assets.require()
        config = SynthFFConfig()
        build._renderer(config.size, config.supersample)
    except (FileNotFoundError, RuntimeError) as error:
        pytest.skip(f"cannot render here: {error}")
    row = json.loads(pd.read_csv(f"{ROOT}/metadata.csv").iloc[[0]].to_json(orient="records"))[0]
    digests = set()
    for _ in range(2):
        frames, uv, _, _ = build.render_clip(row["scene_seed"], row["mouth_seed"], 2, config)
        digests.add(hashlib.sha256(frames.tobytes() + uv.tobytes()).hexdigest())
    assert len(digests) == 1

"""The generator: what must hold without a renderer, and, where EGL and the model data are there, that frames repeat."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from utils.config import RELEASES, RENDERERS, DataConfig, PlatformConfig, RendererConfig, SynthFFConfig
from utils.faces.ffpp import load_splits, mask_path, video_path
from utils.faces.video import read_frames
from utils.paths import SYNTHFF
from utils.protocol import STUDIES
from utils.synthff import encode, motion, neural_textures
from utils.synthff.neural_textures import FIRST
from utils.synthff.person import SKIN, TEETH

ROOT = DataConfig().root


def fake_clip(frames: int = 4, size: int = 64, side: int = FIRST.crop) -> neural_textures.Clip:
    rng = np.random.default_rng(0)
    uv = np.zeros((frames, size, size, 4), np.float32)
    uv[:, 20:50, 15:45] = (0.9, 0.5, SKIN, 0.5)
    uv[:, 30:36, 24:34] = (0.4, 0.4, TEETH, 0.5)
    pictures = rng.integers(0, 255, (frames, size, size, 3), np.uint8)
    return neural_textures.prepare(pictures, uv, np.roll(uv, 2, axis=1), side)


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


def test_a_hard_track_turns_further_and_speaks_the_same():
    usual, strong = motion.draw_track(5, 48), motion.draw_track(5, 48, turn=1.7, pace=1.6)
    assert usual.mouth == strong.mouth and usual.eyes == strong.eyes
    spread = [np.mean([motion.draw_track(s, 48, turn=t).angles[:, 0].std() for s in range(20)]) for t in (1.0, 1.7)]
    assert 1.4 < spread[1] / spread[0] < 1.8
    assert (np.abs(strong.angles) <= motion.MOST).all()


@pytest.fixture(scope="module")
def synthff():
    """The generator's modules that need the packages of requirements-synthff.txt."""
    pytest.importorskip("utils.synthff.build", reason="requirements-synthff.txt is not installed")
    from utils.synthff import build, extras, people, scene, shot

    return dict(build=build, extras=extras, people=people, scene=scene, shot=shot)


def test_source_gives_the_mouth_and_target_the_rest(synthff):
    target, source = motion.draw_track(1, 5), motion.draw_track(2, 5)
    swapped = synthff["shot"].reenacted_expression(target, source, 3)
    assert all(swapped[name] == value for name, value in source.mouth[3].items())
    assert all(swapped[name] == value for name, value in target.eyes[3].items())


def test_plan_deals_whole_pairs_and_holds_the_hard_ones_back(synthff):
    config = SynthFFConfig()
    targets, splits = synthff["people"].plan(config, list(range(1000, 1330)))
    assert {name: len(pairs) for name, pairs in splits.items()} == config.pairs | config.hard_pairs
    people = [person for pairs in splits.values() for pair in pairs for person in pair]
    assert sorted(people) == [f"{i:03d}" for i in range(330)] == [target.video_id for target in targets]
    by_id = {target.video_id: target for target in targets}
    for split, pairs in splits.items():
        for a, b in pairs:
            assert by_id[a].source_id == b and by_id[b].source_id == a
            assert by_id[a].split == by_id[b].split == split
            assert by_id[a].source_seed == by_id[b].seed
    hard = [target for target in targets if target.style == "hard"]
    assert {target.split for target in hard} == {"test_hard"} and min(target.video_id for target in hard) == "300"
    assert {target.extra for target in hard} == set(synthff["scene"].STYLES["hard"].extras)
    assert {target.extra for target in targets if target.style == "plain"} == {"none"}


def test_the_second_release_deals_renderers_so_that_test_has_some_that_no_label_has(synthff):
    people, build, config = synthff["people"], synthff["build"], RELEASES[2]
    targets, splits = people.plan(config, list(range(410)))
    pooled, _ = people.plan(build.pool_config(config), list(range(5000, 5000 + 2 * config.pool)), build.FIRST_OF_POOL)
    counts = {name: 2 * len(pairs) for name, pairs in splits.items()}
    assert counts == {"train": 200, "val": 10, "test2": 140, "test2_unseen": 60}
    assert not {target.video_id for target in targets} & {target.video_id for target in pooled}
    used = {split: [t.renderer for t in [*targets, *pooled] if t.split == split] for split in (*splits, "pool")}
    for split, names in used.items():
        counts = np.unique(names, return_counts=True)[1]
        assert set(names) == set(config.dealt[split]) and np.ptp(counts) <= 1, split
    labelled, unseen = set(used["train"]) | set(used["val"]), set(used["test2_unseen"])
    assert set(used["test2"]) == labelled and not labelled & unseen
    assert unseen & set(used["pool"]) and unseen - set(used["pool"])  # some the pool shows, one nobody has seen


def test_clips_stay_only_where_the_same_settings_made_them_in_the_same_tree(synthff, tmp_path, monkeypatch):
    build, config = synthff["build"], SynthFFConfig()
    (target, *_), _ = synthff["people"].plan(config, list(range(330)))
    frames, shot = np.zeros((2, 8, 8, 3), np.uint8), []
    made = SimpleNamespace(frames=frames, uv=None, uv_source=None, recipe={})
    monkeypatch.setattr(build, "WORK", tmp_path / "work")
    monkeypatch.setattr(build, "shoot", lambda target, config: shot.append(target.fake_id) or made)
    monkeypatch.setattr(build, "read_start", lambda *given: {})
    monkeypatch.setattr(build, "encode", lambda frames, path, *given: path.write_bytes(b"clip"))
    monkeypatch.setattr(build, "loss", lambda *given: (40.0, 0.9, 50.0))
    same = {
        "prepare": lambda *given: SimpleNamespace(region=np.zeros((2, 8, 8), bool)),
        "reenact": lambda *given: (frames, 0.1),
        "soft_mask": lambda region, feather: region.astype(float),
    }
    for name, stub in same.items():
        monkeypatch.setattr(build.neural_textures, name, stub)
    one, two, other = tmp_path / "a" / "tree", tmp_path / "b" / "tree", replace(config, fps=30)
    rows = build.build_identity(target, one, config)
    assert build.build_identity(target, one, config) == rows and len(rows) == 4 and len(shot) == 1
    assert {row["fps"] for row in build.build_identity(target, one, other)} == {30} and len(shot) == 2
    build.build_identity(target, one, config)  # the clips are the other settings' by now
    build.build_identity(replace(target, seed=7), one, config)
    assert len(shot) == 4
    shutil.copytree(one, two)
    build.build_identity(target, two, config)  # a tree of the same name elsewhere
    assert len(shot) == 5


def test_the_first_release_has_one_renderer_and_no_platform(synthff):
    targets, _ = synthff["people"].plan(RELEASES[1], list(range(1000, 1330)))
    assert {target.renderer for target in targets} == set(RELEASES[1].renderers) == {"warm_start"}
    assert RELEASES[1].platform is None and RELEASES[1].renderers["warm_start"] == FIRST


def line(seeds, *_):
    """Stand in for embeddings: one person a step of .1 along a line, by the last digit of the seed; 9 has no face."""
    return [None if seed % 10 == 9 else np.eye(1, 128)[0] * (seed % 10) / 10 for seed in seeds]


def test_no_two_people_with_labels_look_alike(synthff, monkeypatch, tmp_path):
    people, config = synthff["people"], replace(RELEASES[2], look_alike=0.5)
    monkeypatch.setattr(people, "_embeddings", line)
    chosen = people.choose_people(tmp_path / "people.json", config, 2, 1)
    assert {seed % 10 for seed in chosen} == {0, 5}
    monkeypatch.setattr(people, "_embeddings", None)
    assert people.choose_people(tmp_path / "people.json", config, 2, 1) == chosen  # kept


def test_people_of_the_pool_are_others_and_the_card_says_how_near_they_come(synthff, monkeypatch, tmp_path):
    people, build, config = synthff["people"], synthff["build"], replace(RELEASES[2], look_alike=0.25)
    pooled, splits = build.prepare_pool(config)
    assert len(pooled) == 2 * config.pool == 2 * len(splits["pool"]) >= 1000
    first = build.first_of_pool(config, STUDIES["study"].student_pool)  # what the study's stage `students` needs
    assert first == [target.video_id for target in pooled][: len(first)] and len(first) == len(set(first)) == 134
    assert {len(set(pair) & set(first)) for pair in splits["pool"]} == {0, 2}
    for wrong in (0, 133, 2 * config.pool + 2):
        with pytest.raises(ValueError, match=f"{wrong} people of a pool of 1008: whole pairs"):
            build.first_of_pool(config, wrong)
    kept = json.loads((SYNTHFF[2] / "people.json").read_text())
    assert not {target.seed for target in pooled} & set(range(people.candidate_seed(config, 0), max(kept["seeds"]) + 1))
    monkeypatch.setattr(people, "_embeddings", line)
    people.measure_pool(tmp_path / "near.json", config, [0, 3, 9, 8], [0, 5], 1)  # .0, .2 and .3 away; one has no face
    near = json.loads((tmp_path / "near.json").read_text())
    assert near == {"asked": 3, "nearest": pytest.approx(0.2), "close": pytest.approx(2 / 3)}


def test_a_wide_camera_shows_more_at_the_sides_and_as_much_above(synthff):
    scene, eye, target = synthff["scene"], np.array([0, 0, 10.0]), np.zeros(3)
    fov = 2 * np.arctan(0.2)  # two decimetres above and below, ten away

    def corner(aspect, x, y):
        clip = scene.perspective(eye, target, fov, aspect) @ [x, y, 0, 1]
        return clip[:2] / clip[3]

    np.testing.assert_allclose(corner(1.0, 2, 2), [1, 1], atol=1e-6)
    np.testing.assert_allclose(corner(1.5, 3, 2), [1, 1], atol=1e-6)


@pytest.mark.parametrize("kind", ["hand", "hair"])
def test_occluder_lies_on_the_face_and_is_cut_out_of_the_uv_buffer(synthff, kind):
    uv = np.zeros((120, 160, 4), np.float32)
    u0, u1, v0, v1 = neural_textures.FACE_WINDOW
    uv[30:90, 50:100] = ((u0 + u1) / 2, (v0 + v1) / 2, SKIN, 0.5)
    assert synthff["extras"].face_box(uv).tolist() == [50, 30, 100, 90]
    linear = np.full((120, 160, 3), 0.4)
    occluder = synthff["extras"].Occluder(kind, np.random.default_rng(3), 5, 25)
    covered_light, covered = occluder.cover(linear, uv, 2)
    assert 0.02 < covered[30:90, 50:100].mean() < 0.6
    clear = np.abs(covered_light - linear).max(-1) == 0
    assert not (clear & covered).any() and clear[:20].mean() > 0.9
    with pytest.raises(ValueError, match="no face in this frame"):
        synthff["extras"].face_box(np.zeros((4, 4, 3)))


def test_mouth_region_leaves_eyes_and_backdrop_alone():
    u0, u1, v0, v1 = neural_textures.MOUTH_WINDOW
    uv = np.array([[(u0 + u1) / 2, (v0 + v1) / 2, SKIN], [u0 - 0.02, (v0 + v1) / 2, SKIN], [0.5, 0.5, 0], [0.1, 0.1, TEETH]])
    assert neural_textures.mouth_region(uv).tolist() == [True, False, False, True]


def test_texture_lookup_against_a_literal_loop():
    clip, texture = fake_clip(1), torch.randn(2, 16, 96, 96)
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
    model = neural_textures.warm_start([clip], replace(FIRST, warm_steps=2), seed=0)
    _, first = neural_textures.reenact(clip, model.state(), replace(FIRST, tune_steps=1), seed=1)
    fake, last = neural_textures.reenact(clip, model.state(), replace(FIRST, tune_steps=25), seed=1)
    assert last < first
    changed = np.stack([neural_textures.soft_mask(region) > 0 for region in clip.region])
    assert np.array_equal(fake[~changed], clip.frames[~changed])
    assert (fake[changed] != clip.frames[changed]).any()


@pytest.mark.parametrize("name", RENDERERS)
def test_each_renderer_learns_and_stays_inside_its_mask(name):
    torch.set_num_threads(1)
    config = replace(RENDERERS[name], crop=16, texels=16, warm_steps=2, tune_steps=1, tune_batch=4)
    clip = fake_clip(side=config.crop)
    state = neural_textures.warm_start([clip], config, seed=0).state()
    _, first = neural_textures.reenact(clip, state, config, seed=1)
    fake, last = neural_textures.reenact(clip, state, replace(config, tune_steps=40), seed=1)
    assert last < first
    changed = np.stack([neural_textures.soft_mask(region, config.feather) > 0 for region in clip.region])
    assert np.array_equal(fake[~changed], clip.frames[~changed]) and not np.array_equal(fake, clip.frames)


def test_rates_fall_over_the_last_part_of_the_steps_and_the_critic_is_asked_now_and_then(monkeypatch):
    assert [neural_textures.falling(done, 0.4) for done in (0, 0.59, 0.8, 1)] == pytest.approx([1, 1, 0.55, 0.1])
    assert neural_textures.falling(0.99, 0) == 1
    seen, step = [], neural_textures.NeuralTextures.step

    def watched(model, clip, index, adversarial, *more):
        seen.append((len(index), adversarial, model.optimizer.param_groups[0]["lr"]))
        return step(model, clip, index, adversarial, *more)

    config = replace(RENDERERS["renderer_a"], crop=16, texels=16, warm_steps=1, tune_steps=6)
    clip = fake_clip(side=16)
    state = neural_textures.warm_start([clip], config, seed=0).state()
    monkeypatch.setattr(neural_textures.NeuralTextures, "step", watched)
    neural_textures.reenact(clip, state, config, seed=1)
    frames, adversarial, rates = zip(*seen, strict=True)
    assert set(frames) == {1} and adversarial == (0.01, 0, 0, 0.01, 0, 0)
    assert rates[:4] == (3e-3,) * 4 and rates[4] > rates[5] > 3e-4


def test_renderers_differ_in_what_leaves_traces():
    assert len({replace(config, seed=0) for config in RENDERERS.values()}) == len(RENDERERS) >= 6
    assert {config.upsampling for config in RENDERERS.values()} == set(neural_textures.UPSAMPLING)
    assert len({config.seed for config in RENDERERS.values()}) == len(RENDERERS)
    with pytest.raises(ValueError, match="unknown upsampling 'cubic': choose one of nearest"):
        neural_textures.UNet(RendererConfig(upsampling="cubic"))


def test_image_gradients_are_compared_inside_the_mask_alone():
    real, mask = torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    mask[..., 1:3, 1:3] = 1
    step = torch.zeros_like(real)
    step[..., 2:] = 1.0  # one edge, right through the mask
    loss = neural_textures._gradient_loss(step, real, mask)
    assert float(loss) == pytest.approx(2 / 4)  # of the four horizontal differences that end in the mask two are 1
    assert float(neural_textures._gradient_loss(step * 0 + 0.5, real, mask)) == 0


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
        losses[crf] = encode.loss(path, frames.astype(np.uint8), np.zeros(frames.shape[:3], bool))
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 9)
    assert losses[23][0] > losses[40][0] and losses[23][1] > losses[40][1]
    assert losses[23][2] == losses[23][0]  # nothing is masked


def test_a_platform_softens_a_clip_keeps_its_shape_and_says_what_it_did():
    y, x = np.mgrid[0:64, 0:96]
    pattern = np.stack([(x + t) // 2 % 2 * 200 + y for t in range(6)])[..., None].repeat(3, 3).astype(np.uint8)
    config = PlatformConfig(scale=(0.5, 0.5), crf=(30, 30), twice=1.0)
    out, history = encode.through_platform(pattern, config, np.random.default_rng(0), fps=25)
    again, _ = encode.through_platform(pattern, config, np.random.default_rng(0), fps=25)
    assert out.shape == pattern.shape and out.dtype == np.uint8 and np.array_equal(out, again)
    assert history == {"source_scale": 0.5, "source_crf": 30, "source_times": 2}
    fine = lambda frames: np.abs(np.diff(frames[..., 1].astype(int), axis=2)).mean()  # noqa: E731
    assert fine(out) < 0.5 * fine(pattern)
    kept, history = encode.through_platform(pattern, PlatformConfig((1, 1), (10, 10), 0.0), np.random.default_rng(0), fps=25)
    assert history["source_times"] == 1 and fine(kept) > 0.8 * fine(pattern)


def test_committed_splits_are_pairs_without_overlap():
    splits = load_splits(ROOT)
    people = [person for pairs in splits.values() for pair in pairs for person in pair]
    assert len(people) == len(set(people)) >= 300
    config = SynthFFConfig()
    assert {split: len(pairs) for split, pairs in splits.items()} == config.pairs | config.hard_pairs


@pytest.fixture(scope="module")
def metadata():
    text = dict.fromkeys(("video_id", "target", "source"), str)
    return pd.read_csv(f"{ROOT}/metadata.csv", dtype=text, keep_default_na=False)


def test_metadata_describes_every_committed_clip(metadata):
    config = SynthFFConfig()
    people = 2 * sum((config.pairs | config.hard_pairs).values())
    assert len(metadata) == 2 * people * len(config.crf)
    assert not metadata.duplicated(["video_id", "quality"]).any()
    for row in metadata.itertuples():
        path = video_path(ROOT, row.method, row.quality, row.video_id)
        assert path.stat().st_size == row.bytes, path
        assert row.label == 0 or mask_path(ROOT, row.method, row.video_id).is_file()
    assert metadata.groupby("target").identity_seed.nunique().eq(1).all()
    psnr = metadata.groupby("quality").psnr.mean()
    assert psnr["c23"] > psnr["c40"] + 3
    assert metadata.loc[metadata.label == 1, "outside_equal"].astype(float).eq(1).all()


def test_no_scene_is_used_twice_and_real_and_fake_share_theirs(metadata):
    scene = ["scene_seed", "camera_seed", "camera_x", "camera_z", "light_azimuth", "light_elevation", "light_key"]
    one = metadata[metadata.quality == "c23"]
    assert one.groupby("target")[scene].nunique().eq(1).all(axis=None)  # a fake has its target's scene
    for column in scene[:2]:
        assert one.drop_duplicates("target")[column].is_unique, column
    assert not one.drop_duplicates("target").duplicated(scene[2:]).any()
    recipe = ["fps", "crf", "frames", "width", "height", "extra", "style"]
    assert metadata.groupby(["target", "quality"])[recipe].nunique().eq(1).all(axis=None)


def test_the_data_set_is_as_varied_as_its_card_says(metadata):
    people = metadata.drop_duplicates("target")
    assert people.clothes.nunique() >= 12 and people.scene_seed.nunique() >= 40
    hard = people[people.split == "test_hard"]
    assert (hard.width != hard.height).all() and hard[["width", "height"]].min(axis=None) >= 192
    assert hard.extra.value_counts().min() >= 5
    assert hard.camera_exposure.max() < people[people["style"] == "plain"].camera_exposure.min()


def test_the_card_is_what_the_committed_metadata_fill_it_with(studio, tmp_path):
    from utils.synthff import card

    for name in ("metadata.csv", *card.FACTS):
        shutil.copy(Path(ROOT) / name, tmp_path / name)
    card.write_card(tmp_path, RELEASES[1])
    sizes = re.compile(r"[\d.]+ MB with masks and all")  # of the whole tree, which is not here
    written, committed = ((folder / "README.md").read_text(encoding="utf-8") for folder in (tmp_path, Path(ROOT)))
    assert sizes.sub("", written) == sizes.sub("", committed) != committed


def test_committed_data_set_stays_small():
    assert sum(file.stat().st_size for file in Path(ROOT).rglob("*") if file.is_file()) < 45e6


@pytest.fixture(scope="module")
def studio(synthff):
    """The build module, where it can render."""
    try:
        synthff["build"].assets.require()
        synthff["shot"].renderer_for(SynthFFConfig().supersample)
    except (FileNotFoundError, RuntimeError) as error:
        pytest.skip(f"cannot render here: {error}")
    return synthff["build"]


@pytest.mark.parametrize("video_id", ["004", "303"])  # a plain and a hard one
def test_rebuilding_a_clip_gives_identical_frames(studio, metadata, video_id):
    config = SynthFFConfig()
    targets, _ = studio.prepare(Path(ROOT), config, jobs=1)
    target = next(target for target in targets if target.video_id == video_id)
    shot = studio.shoot(target, config)
    row = metadata[(metadata.video_id == video_id) & (metadata.quality == "c23")].iloc[0]
    assert studio.frames_hash(shot.frames) == row.sha256
    decoded = read_frames(video_path(ROOT, "original", "c23", video_id), step=8)[1]
    error = np.mean((decoded[0].astype(float) - shot.frames[0]) ** 2)
    assert 10 * np.log10(255**2 / error) > 30  # the committed clip shows these frames
    clip = neural_textures.prepare(shot.frames[:4], shot.uv[:4], shot.uv_source[:4])
    start = load_file(f"{ROOT}/warm_start.safetensors")
    torch.set_num_threads(1)
    few = replace(FIRST, tune_steps=3)
    one, two = (studio.frames_hash(neural_textures.reenact(clip, start, few, seed=1)[0]) for _ in range(2))
    assert one == two != studio.frames_hash(shot.frames[:4])

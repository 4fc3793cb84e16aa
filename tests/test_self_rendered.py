"""Learning without fakes: masks lie on mouths, twins differ there alone, both go through one compression, no label counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_faces import make_faces, small_network
from safetensors.torch import load_file, save_file

from utils.config import REDRAWERS, FacesConfig, ModelConfig, RedrawerConfig, SelfRenderedConfig, TrainConfig, get_profile
from utils.faces.crops import extract_faces
from utils.faces.landmarks import MOUTH, PARTS, draw_masks, landmarks, mouth_box, soft_mask
from utils.faces.layout import video_path
from utils.learn import redrawers
from utils.learn import self_rendered as ours
from utils.learn.augment import degradation
from utils.learn.dataset import FaceSet
from utils.learn.plans import Crops
from utils.learn.redrawers import Redrawer, _edges, patches, redraw, train_redrawer
from utils.paths import SYNTHFF, Workspace

QUICK = RedrawerConfig(steps=30, batch=4)
SIZE = 96


@pytest.fixture(scope="module")
def real():
    """Return face crops of two people (n, 96, 96, 3) and their landmarks."""
    torch.set_num_threads(1)
    config = FacesConfig(frame_step=12, size=SIZE)
    crops = [extract_faces(video_path(SYNTHFF[1], "original", "c23", name), config)[1] for name in ("000", "001")]
    crops = np.concatenate(crops)
    return crops, landmarks(crops, config.scale)


def test_landmarks_lie_on_a_face_and_the_mouth_below_the_eyes(real):
    crops, points = real
    assert points.shape == (len(crops), 68, 2) and ((0 < points) & (points < SIZE)).mean() > 0.98
    eyes, mouth, nose = points[:, 36:48].mean(1), points[:, MOUTH].mean(1), points[:, 30]
    assert (eyes[:, 1] < nose[:, 1]).all() and (nose[:, 1] < mouth[:, 1]).all()
    assert np.abs(eyes.mean(0)[0] - SIZE / 2) < SIZE / 6


def test_masks_are_soft_differ_and_cover_the_mouth(real):
    _, points = real
    drawn = draw_masks(200, np.random.default_rng(0))
    masks = np.stack([soft_mask(points[0], one, SIZE) for one in drawn])
    assert masks.min() >= 0 and masks.max() <= 1 and ((masks > 0.05) & (masks < 0.95)).any(axis=(1, 2)).all()
    x, y = points[0, MOUTH].mean(0).round().astype(int)
    assert np.mean(masks[:, y, x] > 0.5) > 0.85 and (masks[:, : SIZE // 4] < 0.5).all()
    areas = masks.sum(axis=(1, 2))
    by_part = [areas[drawn[:, 0] == part].mean() for part in range(len(PARTS))]
    assert by_part[0] < by_part[2] < by_part[1] and np.ptp(areas) > areas.mean()
    x0, y0, x1, y1 = mouth_box(points[0], SIZE)
    assert x1 - x0 == y1 - y0 and 0 <= min(x0, y0) and max(x1, y1) <= SIZE and x0 < x < x1 and y0 < y < y1


@pytest.mark.parametrize("name", REDRAWERS)
def test_every_redrawer_learns_to_draw_and_repeats(real, name):
    crops, points = real
    config = replace(REDRAWERS[name], steps=24, batch=6)
    one, loss = train_redrawer(crops, points, config, 3)
    _, start = train_redrawer(crops, points, replace(config, steps=1), 3)
    assert loss < start
    again, _ = train_redrawer(crops, points, replace(config, steps=3), 3)
    third, _ = train_redrawer(crops, points, replace(config, steps=3), 3)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), third.state_dict().values(), strict=True))
    pictures, masks = patches(crops[:2], points[:2], draw_masks(2, np.random.default_rng(0)))
    assert one(pictures, masks).shape == pictures.shape == (2, 3, 64, 64)


def test_a_context_redrawer_sees_nothing_within_the_mask_but_its_code_and_colours(real):
    """With its code cut off and the colours kept, the detail within the mask changes nothing of what it draws."""
    crops, points = real
    net = Redrawer(replace(QUICK, kind="context")).eval()
    torch.nn.init.zeros_(net.code.weight)
    pictures, _ = patches(crops[:1], points[:1], draw_masks(1, np.random.default_rng(0)))
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    wave = torch.zeros_like(pictures)
    wave[..., 16:48, 16:48] = 0.1 * (torch.arange(32) % 2 * 2 - 1)  # no colour: its mean over 16 px is zero
    with torch.no_grad():
        assert torch.allclose(net(pictures, mask), net(pictures + wave, mask), atol=1e-5)
        assert not torch.allclose(net(pictures, mask), net(pictures + 0.1 * mask, mask), atol=1e-3)


def test_twins_differ_within_the_mask_alone(real):
    crops, points = real
    redrawer, _ = train_redrawer(crops, points, QUICK, 0)
    drawn = draw_masks(len(crops), np.random.default_rng(1))
    twins = redraw(crops, points, drawn, np.zeros(len(crops), int), [redrawer])
    assert twins.shape == crops.shape and twins.dtype == np.uint8
    for crop, twin, where, one in zip(crops, twins, points, drawn, strict=True):
        changed = np.abs(crop.astype(int) - twin).max(axis=2)
        assert (changed[soft_mask(where, one, SIZE) < 1e-3] <= 1).all() and changed.max() > 3


def test_each_redrawer_draws_its_share_and_the_ones_that_it_is_given(real):
    crops, points = real
    makers = [train_redrawer(crops, points, replace(QUICK, steps=2), seed)[0] for seed in (0, 1)]
    assert set(ours.TwinMaker(tuple(makers)).draw(200, torch.Generator().manual_seed(0))[:, 5]) == {0, 1}
    drawn, which = draw_masks(len(crops), np.random.default_rng(1)), np.arange(len(crops)) % 2
    both, each = redraw(crops, points, drawn, which, makers), [redraw(crops, points, drawn, 0 * which, [one]) for one in makers]
    for place, number in enumerate(which):
        assert np.abs(both[place].astype(int) - each[number][place]).max() <= 1  # batches of another size round otherwise
    assert not np.array_equal(*each)


def test_self_blended_images_change_the_face_alone(real):
    """The hull of landmarks in one quarter leaves the others, but for the colours of a whole picture."""
    crops, points = real
    corner = np.random.default_rng(0).uniform(8, 30, (len(crops), 68, 2)).astype(np.float32)
    twins = ours.TwinMaker()(crops, corner, ours.TwinMaker().draw(len(crops), torch.Generator().manual_seed(0)))
    same = [np.array_equal(twin[64:, 64:], crop[64:, 64:]) for twin, crop in zip(twins, crops, strict=True)]
    near = [not np.array_equal(twin[:40, :40], crop[:40, :40]) for twin, crop in zip(twins, crops, strict=True)]
    assert any(same) and all(near)


def test_edges_are_those_of_a_step():
    real, drawn, mask = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 4)
    drawn[..., 2:] = 0.5  # one edge, of four pixels
    assert _edges(drawn, real, mask).item() == pytest.approx(3 * 4 * 0.5 / 16 / 3) and _edges(real, real, mask) == 0


def test_every_part_of_a_redrawers_loss_changes_what_it_learns(real, monkeypatch):
    crops, points = real
    plain = replace(QUICK, steps=3, gradient=0.0, adversarial=0.0)
    weights = [
        torch.cat([each.flatten() for each in train_redrawer(crops, points, config, 0)[0].state_dict().values()])
        for config in (plain, replace(plain, gradient=0.5), replace(plain, adversarial=0.5))
    ]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])

    class Bright(torch.nn.Module):  # a critic that takes bright mouths for real ones
        def __init__(self):
            super().__init__()
            self.none = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return x.mean() + self.none

    monkeypatch.setattr(redrawers, "PatchDiscriminator", Bright)
    pictures, masks = patches(crops, points, draw_masks(len(crops), np.random.default_rng(0)))
    quiet, bright = (
        train_redrawer(crops, points, replace(plain, steps=20, adversarial=weight), 0)[0](pictures, masks)
        for weight in (0.0, 100.0)
    )
    assert bright.mean() > quiet.mean()


def test_self_blended_images_are_of_the_same_person_and_repeat(real):
    crops, points = real
    make = ours.TwinMaker()
    drawn = make.draw(len(crops), torch.Generator().manual_seed(0))
    one, two = make(crops, points, drawn), make(crops, points, drawn)
    assert np.array_equal(one, two) and not np.array_equal(one, crops)
    away = [np.abs(a.astype(int) - b).mean() for a, b in zip(one, crops, strict=True)]
    assert 0 < np.mean(away) < 30


def objective_of(faces, points, make, share=0.5, batch=8):
    config, shared = ModelConfig(px=48, batch_size=batch), TrainConfig()
    settings = SelfRenderedConfig(degraded_share=share)
    generator = torch.Generator().manual_seed(0)
    return ours.AgainstTwins(faces, config, shared, generator, make=make, points=points, settings=settings)


def faces_of(crops):
    faces = make_faces(train=4, frames=len(crops))
    index = faces.index[:len(crops)].assign(row=range(len(crops)), label=0)
    return FaceSet(index, crops)


def test_a_step_has_each_original_beside_its_twin_behind_the_same_codec(real):
    crops, points = real
    objective = objective_of(faces_of(crops), points, ours.TwinMaker())
    plan = objective.plan()
    assert plan.x.twins and plan.x.crops.items.tolist() == np.repeat(plan.x.crops.items[::2], 2).tolist()
    (pixels,) = objective.read(plan.crops)
    assert objective.labels(plan, torch.device("cpu")).tolist() == [0, 1] * 4 and len(pixels) == 8
    degraded = set(plan.x.crops.degraded.tolist())
    assert {place ^ 1 for place in degraded} == degraded and 0 < len(degraded) < 8
    assert plan.x.crops.strengths[::2].tolist() == plan.x.crops.strengths[1::2].tolist()
    items, drawn = plan.x.crops.items[::2], plan.x.crops.drawn
    twins = objective.make(crops[items], points[items], drawn)
    assert not np.array_equal(twins, crops[items])
    plain = torch.from_numpy(np.stack([crops[items], twins], axis=1).reshape(8, *crops.shape[1:])).permute(0, 3, 1, 2)
    coarse = plain.clone()
    coarse[plan.x.crops.degraded] = degradation("h264").of_bytes(plain[plan.x.crops.degraded], plan.x.crops.strengths)
    assert torch.equal(pixels, coarse)
    assert [not torch.equal(a, b) for a, b in zip(pixels, plain, strict=True)] == [place in degraded for place in range(8)]
    images = objective.noise(plan, [pixels], 48, torch.device("cpu"))
    assert images.shape == (8, 3, 48, 48)
    half = plan.share(1, 2)
    assert np.array_equal(half.x.crops.drawn, plan.x.crops.drawn[2:]) and len(half.x) == 4


def test_a_step_goes_on_from_its_state_and_never_looks_at_labels(real):
    crops, points = real
    faces = faces_of(crops)
    one, two = (objective_of(faces, points, ours.TwinMaker()) for _ in range(2))
    state = one.plan().after
    two.load_state_dict(state)
    following, again = one.plan(), two.plan()
    assert np.array_equal(following.x.crops.items, again.x.crops.items)
    assert np.array_equal(following.x.crops.drawn, again.x.crops.drawn)
    faces.labels[:] = 7
    assert set(one.labels(following, torch.device("cpu")).tolist()) == {0, 1}
    assert isinstance(following.x.crops, Crops)


def test_validation_has_every_face_and_its_twin_in_both_views(real):
    crops, points = real
    found = ours.with_twins(faces_of(crops), ours.TwinMaker(), points, 40, seed=0)
    assert len(found) == 4 * len(crops) and found.index.groupby("quality")["label"].mean().tolist() == [0.5, 0.5]
    c23, c40 = (found.select(quality=quality).images(range(2 * len(crops))) for quality in ("c23", "c40"))
    make = ours.TwinMaker()
    twins = make(crops, points, make.draw(len(crops), torch.Generator().manual_seed(0)))
    assert np.array_equal(c23.permute(0, 2, 3, 1).numpy(), np.concatenate([crops, twins])) and not np.array_equal(crops, twins)
    assert torch.equal(c40, degradation("h264").of_bytes(c23, [40] * len(c23))) and not torch.equal(c23, c40)
    assert not found.index.duplicated(["method", "video_id", "frame", "quality"]).any()


@pytest.mark.parametrize("damage", ["record", "weights", "numbers", "other network"])
def test_damaged_redrawers_are_trained_again(real, tmp_path, monkeypatch, damage):
    crops, points = real
    name, faces, trained, train = "code_nearest", faces_of(crops), [], ours.train_redrawer
    monkeypatch.setattr(ours, "REDRAWERS", {name: replace(QUICK, steps=2)})
    monkeypatch.setattr(ours, "landmarks_of", lambda *_: points)
    monkeypatch.setattr(ours, "train_redrawer", lambda *given: trained.append(1) or train(*given))

    def digest():
        return ours.redrawers_digest(ours.load_redrawers(tmp_path, faces, get_profile("smoke"), [name], 0))

    before, path = digest(), tmp_path / f"{name}.safetensors"
    assert digest() == before and len(trained) == 1
    if damage == "record":
        path.with_suffix(".json").write_text("{")
    elif damage == "weights":
        path.write_bytes(b"x")
    else:
        found = {key: value * float("nan") for key, value in load_file(path).items()}
        save_file(found if damage == "numbers" else {"other": torch.zeros(2)}, path)
    assert digest() == before and len(trained) == 2


def test_a_network_is_trained_from_real_faces_alone(real, tmp_path, monkeypatch):
    """From one end to the other with a tiny network: no fake is among what it is given."""
    crops, _ = real
    seen = []
    index = make_faces(train=3, val=2, frames=len(crops) // 2).index
    index = index.assign(row=np.arange(len(index)) % len(crops))
    faces = FaceSet(index, crops)

    class Elsewhere(type(get_profile("smoke"))):
        workspace = Workspace(tmp_path)

    base = get_profile("smoke")
    profile = Elsewhere(**{name: getattr(base, name) for name in base.__dataclass_fields__})
    profile = replace(profile, train=replace(profile.train, precision="fp32", eval_every=2),
                      models={"resnet18": ModelConfig(px=32, steps=2, batch_size=4)}, student_model="resnet18")  # fmt: skip
    monkeypatch.setattr(ours, "create_model", lambda name, config, seed: small_network(px=32))
    monkeypatch.setattr(ours, "REDRAWERS", {"code_nearest": QUICK})
    monkeypatch.setattr(ours, "fit", lambda model, train, val, *rest, **about: seen.append((train, val, about)) or model)
    settings = SelfRenderedConfig(redrawers=("code_nearest",))
    ours.self_rendered(profile, faces, settings=settings)
    train, val, about = seen[0]
    assert set(train.index["label"]) == {0} and set(train.index["quality"]) == {"c23"}
    assert set(val.index["method"]) == {"original", "self_rendered"} and about["about"]["phase"] == "self_rendered"
    written = sorted(path.name for path in tmp_path.rglob("code_nearest.*"))
    assert written == ["code_nearest.json", "code_nearest.safetensors"]
    stamp = next(tmp_path.rglob("code_nearest.safetensors")).stat().st_mtime_ns
    ours.self_rendered(profile, faces, settings=settings)  # what is there is read
    assert next(tmp_path.rglob("code_nearest.safetensors")).stat().st_mtime_ns == stamp
    assert seen[0][2]["about"]["redrawers"] == seen[1][2]["about"]["redrawers"]

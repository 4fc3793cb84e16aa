from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from fake_faces import make_faces, tiny_profile, watched_starts
from sklearn.linear_model import LogisticRegression

from utils.config import AugmentConfig, ModelConfig, NoisyStudentConfig
from utils.learn import checkpoints, plans
from utils.learn import noisy_student as ns
from utils.learn import pseudo_labels as pl
from utils.learn.augment import add_noise, degradation, degrade, draw_noise, for_twins, to_float
from utils.learn.dataset import FaceSet, true_labels
from utils.learn.inference import probabilities
from utils.learn.models import create_model
from utils.learn.scores import JUDGED


@pytest.fixture
def faces():
    return make_faces()


def probabilities_of(*fake) -> torch.Tensor:
    return torch.tensor([[1 - p, p] for p in fake])


def test_the_students_loss_by_hand():
    logits_x, targets_x = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([1, 0])
    logits_u, targets_u = torch.tensor([[0.0, 0.5]]), probabilities_of(0.8)
    got = ns.student_loss(logits_x, targets_x, logits_u, targets_u, lambda_u=0.5)
    sigmoid = [1 / (1 + math.exp(-z)) for z in (1.0, 2.0, 0.5)]
    Lx = -(math.log(sigmoid[0]) + math.log(sigmoid[1])) / 2
    Lu = -(0.8 * math.log(sigmoid[2]) + 0.2 * math.log(1 - sigmoid[2]))
    assert got["Lx"].item() == pytest.approx(Lx) and got["Lu"].item() == pytest.approx(Lu)
    assert got["loss"].item() == pytest.approx(Lx + 0.5 * Lu)


def test_sharpening_by_hand():
    p = probabilities_of(0.8, 0.5)
    assert torch.allclose(pl.sharpen(p, 1.0), p)
    assert torch.allclose(pl.sharpen(p, 0.5), probabilities_of(0.64 / 0.68, 0.5))


def test_calibration_moves_the_border_to_where_validation_has_it():
    real, fake = torch.linspace(0.5, 0.9, 40), torch.linspace(0.91, 0.999, 40)  # this teacher calls most reals fake
    p, labels = probabilities_of(*real, *fake).float(), torch.tensor([0] * 40 + [1] * 40)
    calibrated = pl.platt(p, labels)(p)
    assert torch.allclose(calibrated.sum(dim=1), torch.ones(80))
    assert (p[:, 1] >= 0.5).float().eq(labels).float().mean() < 0.55
    assert (calibrated[:, 1] >= 0.5).float().eq(labels).float().mean() > 0.95
    assert torch.equal(calibrated[:, 1].argsort(), p[:, 1].argsort())  # the order stays
    log_odds = torch.log(p[:, 1:] / p[:, :1]).double().numpy()
    slow = LogisticRegression().fit(log_odds, labels).predict_proba(log_odds)
    assert np.allclose(calibrated, slow, atol=1e-4)


def test_alignment_calls_half_of_the_pool_fake_and_keeps_its_order():
    odds = torch.tensor([-3.0, -2.5, -1.0, -0.2, 0.1])  # a teacher that calls too little fake
    p = torch.stack([1 - torch.sigmoid(odds), torch.sigmoid(odds)], 1)
    aligned = pl.align(p)
    assert torch.allclose(aligned.sum(1), torch.ones(5)) and aligned[2, 1] == pytest.approx(0.5)
    assert (aligned[:, 1] > 0.5).tolist() == [False, False, False, True, True]
    by_hand = torch.sigmoid(odds + 1)
    assert torch.allclose(aligned[:, 1], by_hand, atol=1e-6)
    assert torch.isfinite(pl.align(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))).all()  # sure beyond float32


def test_pseudo_labels_are_aligned_after_they_are_calibrated(faces):
    teacher, val = teacher_with_opinions(), faces.select(split="val", quality="c23")
    pool = faces.select(split="train", quality="c23").hide_labels(0)
    config = NoisyStudentConfig(align=True, clip_level=True, calibrate=True)
    p = pl.pseudo_label(teacher, pool, config, val)
    fake = p[np.unique(pool.clip, return_index=True)[1], 1] > 0.5
    assert abs(float(fake.float().mean()) - 0.5) <= 1 / len(fake)
    calibrated = pl.pseudo_label(teacher, pool, replace(config, align=False), val)
    assert torch.allclose(p, pl.align(calibrated), atol=1e-5) and not torch.allclose(p, calibrated, atol=1e-3)
    sharp = pl.pseudo_label(teacher, pool, replace(config, T=0.5), val)
    assert torch.allclose(sharp, pl.sharpen(p, 0.5), atol=1e-5) and not torch.allclose(sharp, p, atol=1e-3)
    assert len(pl.pseudo_label(teacher, pool, replace(config, teacher_frames=1), val)) == len(p)


def teacher_with_opinions():
    teacher = create_model("resnet18", ModelConfig(px=16))
    torch.nn.init.normal_(teacher.head[-1].weight, std=0.5, generator=torch.Generator().manual_seed(0))
    return teacher


def test_of_the_pool_a_student_keeps_sure_labels_of_both_classes_alike(faces):
    pool, config = faces.select(split="train").hide_labels(0), NoisyStudentConfig(threshold=0.55, clip_level=False)
    found = pl.label_pool(teacher_with_opinions(), pool, replace(config, balance=False), seed=0)
    for view, p in found.p.items():
        assert found.kept[view].tolist() == [item for item, row in enumerate(p.tolist()) if max(row) >= 0.55]
        assert 0 < len(found.kept[view]) < len(p)
    balanced = pl.label_pool(teacher_with_opinions(), pool, replace(config, balance=True), seed=0)
    for view, kept in balanced.kept.items():
        real, fake = torch.bincount(balanced.p[view][kept].argmax(1), minlength=2).tolist()
        assert real == fake > 0 and set(kept.tolist()) == set(found.kept[view].tolist()) and len(kept) > len(found.kept[view])


def test_pseudo_labels_are_calibrated_on_the_view_that_is_labelled(faces):
    inputs_u, val = faces.select(split="train").hide_labels(0), faces.select(split="val")
    teacher = teacher_with_opinions()
    config = NoisyStudentConfig(threshold=0.5, calibrate=True, teacher_view="c23", balance=False)
    got = pl.label_pool(teacher, inputs_u, config, seed=0, val=val).p["c40"]
    plain = pl.label_pool(teacher, inputs_u, replace(config, calibrate=False), seed=0).p["c40"]
    seen = val.select(quality="c23")
    clip = [f"{row.method} {row.video_id}" for row in seen.index.itertuples()]
    p = probabilities(teacher, seen)[:, 1].numpy()
    means = torch.tensor([np.mean([q for q, other in zip(p, clip, strict=True) if other == mine]) for mine in clip])
    expected = pl.platt(torch.stack([1 - means, means], dim=1), seen.labels)(plain)
    assert torch.allclose(got, expected, atol=1e-4) and not torch.allclose(got, plain, atol=1e-3)


def test_clip_means_and_filter_against_slow_loops():
    rng = np.random.default_rng(0)
    fake, clip = rng.uniform(size=40), rng.integers(0, 7, 40) * 3
    p = probabilities_of(*fake).float()
    means = pl.clip_mean(p, torch.from_numpy(clip))
    slow = [np.mean([fake[j] for j in range(40) if clip[j] == clip[i]]) for i in range(40)]
    assert np.allclose(means[:, 1], slow, atol=1e-6)
    kept = [i for i in range(40) if max(fake[i], 1 - fake[i]) >= 0.8]
    assert torch.nonzero(pl.confident(p, 0.8)).flatten().tolist() == kept


def test_balance_duplicates_the_rarer_class_evenly():
    items, classes = torch.arange(10, 17), torch.tensor([0, 0, 0, 0, 0, 1, 1])
    drawn = pl.balance(items, classes, torch.Generator().manual_seed(0)).tolist()
    copies = {item: drawn.count(item) for item in items.tolist()}
    assert [copies[item] for item in range(10, 15)] == [1] * 5
    assert sorted([copies[15], copies[16]]) == [2, 3]
    with pytest.warns(UserWarning, match="one class"):
        assert pl.balance(items, torch.zeros(7), torch.Generator()).tolist() == items.tolist()


def test_the_teacher_is_not_noised_and_looks_at_the_view_it_is_told_to(faces):
    inputs_u = faces.select(split="train").hide_labels(0)
    teacher = create_model("resnet18", ModelConfig(px=16, dropout=0.9)).train()
    config = NoisyStudentConfig(threshold=0.5, clip_level=False, student_views=("c23", "c40"))
    same = pl.label_pool(teacher, inputs_u, replace(config, teacher_view="same"), seed=0)
    clean = pl.label_pool(teacher, inputs_u, replace(config, teacher_view="c23"), seed=0)
    expected = {view: probabilities(teacher, inputs_u.view(view)) for view in ("c23", "c40")}
    assert all(torch.allclose(same.p[view], expected[view], atol=1e-5) for view in expected)
    assert all(torch.allclose(clean.p[view], expected["c23"], atol=1e-5) for view in expected)
    assert not torch.allclose(expected["c23"], expected["c40"], atol=1e-5)
    with pytest.raises(ValueError, match="threshold 1.0"):
        pl.label_pool(teacher, inputs_u, replace(config, threshold=1.0), seed=0)


def test_unlabelled_images_are_shared_out_over_the_views():
    assert ns.shares(NoisyStudentConfig(mu=2, student_views=("c40",)), 8) == [16]
    assert ns.shares(NoisyStudentConfig(mu=1, student_views=("c23", "c40")), 5) == [3, 2]


def objective_of(train, teacher, student, folder, batch_size):
    """Return the objective that a student of `train`'s own faces would get."""
    shared, config = tiny_profile(folder).train, ModelConfig(px=16, batch_size=batch_size)
    pool = {"teacher": teacher, "inputs_u": train.hide_labels(0), "student": student, "seed": 0, "folder": folder}
    return ns.student_objective(train, config, shared, torch.Generator().manual_seed(0), **pool)


def step_of(objective, model):
    """Return the losses of one step, taken in this process."""
    plan = objective.plan()
    pixels = objective.read([part.crops for part in plan.parts])
    return objective.compare(plan, model(objective.noise(plan, pixels, model.px, torch.device("cpu"))))


def test_hard_and_soft_targets_reach_the_loss(faces, tmp_path, monkeypatch):
    train, teacher = faces.select(split="train"), create_model("resnet18", ModelConfig(px=16))
    seen = []
    real_loss = ns.student_loss
    monkeypatch.setattr(ns, "student_loss", lambda *a, **options: seen.append(a) or real_loss(*a, **options))
    for soft in (True, False):
        config = NoisyStudentConfig(mu=3, threshold=0.5, soft=soft, balance=False)
        objective = objective_of(train, teacher, config, tmp_path, batch_size=4)
        step_of(objective, teacher.train())["loss"].backward()
    (_, targets_x, logits_u, soft, *_), (*_, hard, _) = seen
    assert targets_x.sum() == 2 and logits_u.shape == soft.shape == hard.shape == (12, 2)
    assert set(hard.flatten().tolist()) == {0.0, 1.0} and not set(soft.flatten().tolist()) <= {0.0, 1.0}


def test_students_iterate_and_each_teaches_the_next(faces, tmp_path, monkeypatch):
    profile, began = tiny_profile(tmp_path), watched_starts(monkeypatch)
    profile = replace(profile, student=replace(profile.student, later_init="teacher", later_steps_factor=2.0))
    ns.self_train(profile, "student_compression", faces, seed=1)
    folders = [profile.workspace.runs / f"{phase}-mobilenet-v2-s1" for phase in (
        "teacher_both", "student_compression_it1", "student_compression_it2"
    )]  # fmt: skip
    configs = [checkpoints.read_json(folder / "config.json") for folder in folders]
    assert [config.get("teacher") for config in configs] == [None, configs[0]["hash"], configs[1]["hash"]]
    assert configs[2]["student"]["teacher_view"] == "c23" and configs[2]["model_config"]["dropout"] == 0.3
    assert [config["model_config"]["steps"] for config in configs] == [3, 3, 6]
    assert [config["student"]["student_init"] for config in configs[1:]] == ["start", "teacher"]
    first = checkpoints.load_model(folders[1]).state_dict()
    assert all(torch.equal(began[folders[2].name][name], value) for name, value in first.items())
    assert not all(torch.equal(began[folders[1].name][name], value) for name, value in first.items())
    assert all(config["data"]["pairs"] == configs[0]["data"]["pairs"] for config in configs)
    labelled, pool = ns.split_labels(profile, faces, seed=1)
    assert sorted(labelled.pairs) == configs[0]["data"]["pairs"] and not labelled.pairs & pool.pairs
    opened = ns.judge_pseudo_labels(profile, folders[1].name, faces, seed=1)
    assert opened["label"].mean() == 0.5 and opened["p_fake"].between(0, 1).all() and opened["copies"].sum() > 0
    assert not opened.duplicated(["view", "clip"]).any() and set(opened["phase"]) == {"student_compression_it1"}
    saved = pd.read_csv(folders[1] / JUDGED)
    assert saved.drop(columns="p_fake").equals(opened.drop(columns="p_fake"))
    item = pd.read_csv(folders[1] / "pseudo_labels.csv")
    truth = true_labels(pool, 1)[item["item"].to_numpy()]
    right = ((item["p_fake"] > 0.5) == (truth == 1)).to_numpy()
    assert opened["right"].sum() == right.sum() and opened["copies_right"].sum() == item["copies"][right].sum()


def test_a_tie_is_judged_as_it_is_learned_and_another_pool_is_refused(faces, tmp_path):
    pool = ns.split_labels(tiny_profile(tmp_path), faces, seed=1)[1]
    folder, hidden = tmp_path / "run", pool.hide_labels(1)
    truth = true_labels(pool, 1)
    folder.mkdir()
    table = pd.DataFrame({"view": "c23", "clip": hidden.clip, "item": range(len(truth)), "p_fake": 0.5, "copies": 1})
    table.to_csv(folder / ns.LABELLED, index=False)
    (folder / "config.json").write_text(json.dumps({"data_u": hidden.fingerprint()}))
    judged = ns.judge(folder, pool, 1)
    assert torch.tensor([[0.5, 0.5]]).argmax(1).item() == 0  # what training learns of one half: real
    assert (judged["right"] == judged["frames"]).tolist() == (judged["label"] == 0).tolist()
    other = pool.select(pairs=set(sorted(pool.pairs)[1:]))
    with pytest.raises(ValueError, match="run: its pool had other faces than there are today: remove the folder"):
        ns.judge(folder, other, 1)


def test_a_students_run_is_the_same_whatever_the_labels_of_the_pool(faces, tmp_path):
    """The proof that self-training never reads a hidden label: turn all of them round, and nothing changes."""
    weights = []
    for turned in (False, True):
        profile = tiny_profile(tmp_path / str(turned), iterations=1)
        _, pool = ns.split_labels(profile, faces)
        hidden = faces.index["pair"].isin(pool.pairs)
        label = faces.index["label"].where(~hidden | (not turned), 1 - faces.index["label"])
        model = ns.self_train(profile, "student_classic", FaceSet(faces.index.assign(label=label), faces.pixels))
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_original_settings_students_see_c40_alone(faces, tmp_path):
    profile = tiny_profile(tmp_path, iterations=1)
    ns.self_train(profile, "student_classic", faces)
    log = checkpoints.read_log(profile.workspace.runs / "student_classic_it1-mobilenet-v2-s0")
    assert "val_auc_c40" in log[0] and "val_auc_c23" not in log[0]
    table = pd.read_csv(profile.workspace.runs / "student_classic_it1-mobilenet-v2-s0" / "pseudo_labels.csv")
    assert set(table["view"]) == {"c40"}


def test_phase_three_learns_from_three_quarters_of_the_labels_and_all_videos(faces, tmp_path):
    profile = tiny_profile(tmp_path, iterations=1)
    ns.noisy_trained(profile, "mobilenet-v2", faces)
    folder = profile.workspace.runs / "noisy_trained_it1-mobilenet-v2-s0"
    assert len(checkpoints.read_json(folder / "config.json")["data"]["pairs"]) == 3
    table = pd.read_csv(folder / "pseudo_labels.csv")
    assert set(table["view"]) == {"c23", "c40"} and table["clip"].nunique() == 4  # 1 pair: 2 real and 2 fake clips


def test_the_student_that_validates_best_is_kept(faces, tmp_path):
    profile = tiny_profile(tmp_path, iterations=3)
    returned = ns.self_train(profile, "student_classic", faces)
    space = profile.workspace.runs
    first, second, third, kept = (space / f"student_classic{it}-mobilenet-v2-s0" for it in ("_it1", "_it2", "_it3", ""))
    results = [checkpoints.read_json(folder / "result.json") for folder in (first, second, third)]
    best = (first, second, third)[np.argmax([result["val_auc"] for result in results])]
    config = checkpoints.read_json(kept / "config.json")
    assert config["chosen"] == best.name and config["phase"] == "student_classic" and config["run"] == kept.name
    assert checkpoints.read_json(kept / "result.json") == checkpoints.read_json(best / "result.json")
    assert torch.equal(checkpoints.load_model(kept).head[-1].weight, returned.head[-1].weight)
    before = (kept / "result.json").stat().st_mtime_ns
    ns.self_train(profile, "student_classic", faces)
    assert (kept / "result.json").stat().st_mtime_ns == before  # nothing was made again
    for folder, value in ((first, 0.1), (second, 0.9), (third, 0.5)):
        checkpoints.write_json(folder / "result.json", {"val_auc": value})
    ns.select_best(profile, "student_classic", "mobilenet-v2", 0, 3)
    assert checkpoints.read_json(kept / "config.json")["chosen"] == second.name
    assert torch.equal(checkpoints.load_model(kept).head[-1].weight, checkpoints.load_model(second).head[-1].weight)


def test_the_oracle_has_every_label(faces, tmp_path):
    profile = tiny_profile(tmp_path)
    ns.supervise(profile, "oracle", faces)
    config = checkpoints.read_json(profile.workspace.runs / "oracle-mobilenet-v2-s0" / "config.json")
    assert set(config["data"]["pairs"]) == faces.select(split="train").pairs


def test_a_larger_student_and_another_setting_leave_the_teacher_as_it_is(faces, tmp_path):
    profile = tiny_profile(tmp_path, iterations=1)
    changed = replace(profile, variant="ablation/soft/hard")
    student = ns.self_train(changed, "student_compression", faces, name="efficientnet-b0", teachers=profile, soft=False)
    assert student.name == "efficientnet-b0"
    folder = changed.workspace.runs / "student_compression_it1-efficientnet-b0-s0"
    config = checkpoints.read_json(folder / "config.json")
    assert config["student"]["soft"] is False and config["student"]["teacher_view"] == "c23"
    assert config["teacher"] == checkpoints.run_hash(profile, "teacher_both", "mobilenet-v2", 0)
    made = {path.name.split("-")[0] for path in changed.workspace.runs.iterdir()}
    assert made == {"student_compression_it1", "student_compression"}


def test_pseudo_labels_of_another_pool_are_refused(faces, tmp_path, monkeypatch):
    pool, config, shared = faces.select(split="train"), NoisyStudentConfig(mu=1), tiny_profile(tmp_path).train
    said = {"p": {"c40": probabilities_of(*[0.5] * 24)}, "kept": {"c40": torch.arange(24)}}
    monkeypatch.setattr(ns, "label_pool", lambda teacher, inputs_u, *rest: pl.PseudoLabels(inputs_u.clip, **said))

    def labelled(some):
        return ns.labelled_once(tmp_path, None, some.hide_labels(0), config, 0, None, shared)

    first = labelled(pool.select(pairs=sorted(pool.pairs)[:2]))
    assert torch.equal(first.p["c40"], labelled(pool.select(pairs=sorted(pool.pairs)[:2])).p["c40"])
    with pytest.raises(ValueError, match="taught.pt: pseudo-labels of another pool than today's: remove the folder"):
        labelled(pool.select(pairs=sorted(pool.pairs)[2:]))  # as many, of other people
    torch.save(said, tmp_path / checkpoints.TAUGHT)  # of an older version
    assert len(labelled(pool.select(pairs=sorted(pool.pairs)[2:])).p["c40"]) == 24
    with pytest.raises(ValueError, match="another pool"):
        labelled(pool)


def test_twins_with_labels_alone_get_the_same_noise_and_the_same_codec(faces, tmp_path):
    train, shared = faces.select(split="train"), tiny_profile(tmp_path).train
    config, student = ModelConfig(px=16, batch_size=32, twins=True), NoisyStudentConfig(degrade="h264")
    x = ns.NoisedLabels(train, config, shared, torch.Generator().manual_seed(0), student=student, clean="c23").draw().x
    assert x.twins and len(x) == 32 and len(x.noise.theta) == 16
    degraded = x.crops.degraded.reshape(-1, 2)
    assert 0 < len(degraded) < 16 and (degraded[:, 0] % 2 == 0).all() and (degraded[:, 1] == degraded[:, 0] + 1).all()
    assert np.array_equal(x.crops.strengths[::2], x.crops.strengths[1::2])


def test_twins_of_a_student_get_the_same_noise():
    student = NoisyStudentConfig(randaugment_n=2, randaugment_m=9)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)).repeat_interleave(2, dim=0)
    drawn = draw_noise(3, torch.Generator().manual_seed(1), n=2)
    out = for_twins(partial(add_noise, px=24, m=9), images, drawn)
    assert out.shape == (6, 3, 24, 24) and torch.equal(out[0::2], out[1::2])
    alone = ns.noise(images, 24, student, AugmentConfig(), torch.Generator().manual_seed(1))
    assert not torch.equal(alone[0::2], alone[1::2])


def as_set(images) -> set:
    return {tuple(image.flatten().tolist()) for image in images}


@pytest.mark.parametrize("how", ["h264", "jpeg", "scale", "blur"])
def test_only_clean_images_are_degraded_on_the_fly(how, faces, tmp_path, monkeypatch):
    train, teacher = faces.select(split="train"), create_model("resnet18", ModelConfig(px=16))
    config = NoisyStudentConfig(mu=2, threshold=0.5, balance=False, student_views=("c23", "c40"), teacher_view="c23")
    inputs_u, given = train.hide_labels(0), []
    monkeypatch.setattr(plans, "add_noise", lambda images, *a, **b: given.append(images) or images)
    objective = objective_of(train, teacher, replace(config, degrade=how), tmp_path, batch_size=4)
    plan = objective.plan()
    step = objective.read([part.crops for part in plan.parts])
    objective.noise(plan, step, 16, torch.device("cpu"))
    labelled, pool = given
    views = [part.crops.view for part in plan.u]
    assert views == ["c23", "c40"] and len(labelled) == len(pool[:4]) == len(pool[4:]) == 4
    before, low = (to_float(inputs_u.images(part.crops.items, part.crops.view)) for part in plan.u)
    assert torch.equal(pool[4:], low) and torch.equal(labelled, to_float(train.images(plan.x.crops.items)))
    way = degradation(how)
    once = (lambda x, s: to_float(way.of_bytes(x.mul(255).round().byte(), s))) if way.codec else way.of_floats
    singly = [once(image[None], [s]) for image, s in zip(before, plan.u[0].crops.strengths, strict=True)]
    assert torch.equal(pool[:4], torch.cat(singly)) and not torch.equal(pool[:4], before)
    with pytest.raises(ValueError, match="unknown degradation"):
        degrade(before, "gamma", torch.Generator())


def test_without_unlabelled_images_the_student_learns_labels_under_the_same_noise(faces, tmp_path):
    train, teacher = faces.select(split="train"), create_model("resnet18", ModelConfig(px=16))
    config = NoisyStudentConfig(mu=0, student_views=("c23", "c40"), degrade="h264", randaugment_n=0)
    objective = objective_of(train, teacher, config, tmp_path, batch_size=32)
    plan = objective.plan()
    degraded, clean = plan.x.crops.degraded, (train.index["quality"] == "c23").to_numpy()
    assert clean[plan.x.crops.items[degraded]].all() and 2 <= len(degraded) <= 14  # half of the 16 or so that are c23
    same = objective.train.images(plan.x.crops.items) == objective.read([plan.x.crops])[0]
    assert np.flatnonzero(~same.flatten(1).all(dim=1).numpy()).tolist() == degraded.tolist()
    losses = step_of(objective, teacher.train())
    assert set(losses) == {"loss"} and torch.isfinite(losses["loss"]) and not (tmp_path / "pseudo_labels.csv").exists()

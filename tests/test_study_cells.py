"""The study's cells: who is drawn, equal steps and batches in all arms, teachers within a step, the wall around the pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from fake_faces import TinyProfile, make_faces, small_network, watched_starts

from utils import protocol
from utils.config import PROFILES, ModelConfig, NoisyStudentConfig, TrainConfig
from utils.learn import cells, checkpoints, loop
from utils.learn.augment import to_float
from utils.learn.cells import Given, draw_people, folder_of, is_finished, pool_of, train_cell
from utils.learn.dataset import FaceSet
from utils.learn.models import Detector, create_model
from utils.learn.online import DistillationStep, MeanTeacherStep, unexplained
from utils.learn.pseudo_labels import pseudo_label
from utils.learn.scores import JUDGED, SCORES, read_scores
from utils.protocol import ARMS, Cell, StudyConfig

STUDY = StudyConfig(
    seeds=(0, 1), labels=4, pool=4, frames=4, label_counts=(4, 6), pool_sizes=(2, 4), frame_counts=(2, 4), all_labels=12,
    most_validating=4, teacher_steps=2, student_steps=3, larger=("efficientnet-lite0",), others=("mobilenet-v2",),
)  # fmt: skip
CPU = torch.device("cpu")


def study_faces(**splits) -> FaceSet:
    """Return faces in the splits of the study's data."""
    return make_faces(**{"train": 5, "val": 3, "pool": 4, "test2": 1, "test2_unseen": 1, "frames": 4} | splits)


def tiny_study(folder, monkeypatch) -> TinyProfile:
    """Return a profile whose study is STUDY, on networks of 32 px."""
    usual = PROFILES["study"]
    models = {name: replace(config, px=32, batch_size=4) for name, config in usual.models.items()}
    train = replace(usual.train, val_every=1)
    monkeypatch.setitem(protocol.STUDIES, str(folder), STUDY)
    return TinyProfile(name=str(folder), train=train, student=replace(usual.student, teacher_frames=2), models=models)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """The study computes on one thread; other tests may have more again."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def faces():
    return study_faces()


def cell_of(arm: str, **about) -> Cell:
    pool = {"pool": 4, "frames": 4} if ARMS[arm].pool else {}
    return Cell(arm, **{"labels": 4} | pool | about)


# Who


def test_draws_are_nested_disjoint_closed_over_pairs_and_follow_the_seed_alone():
    study, faces = StudyConfig(pool_split="pool"), study_faces(train=40, val=5, pool=40, frames=1)
    drawn = {}
    for seed in (0, 1):
        for labels in study.label_counts:
            for pool in (10, 50):
                cell = Cell("student_compression", labels, pool, 1, seed=seed)
                drawn[seed, labels, pool] = people = draw_people(study, cell, faces)
                assert 2 * len(people.train) + 2 * len(people.val) == labels and 2 * len(people.pool) == pool
                for pairs, split in ((people.train, "train"), (people.val, "val"), (people.pool, "pool")):
                    chosen = faces.select(split=split, pairs=pairs).index
                    assert set(chosen["pair"]) == pairs  # whole pairs: both fakes, both originals
                    assert (chosen.groupby("pair")["video_id"].nunique() == 4).all()
        for names in ("train", "val"):
            of = [getattr(drawn[seed, labels, 10], names) for labels in study.label_counts]
            assert all(small <= large for small, large in zip(of, of[1:], strict=False)) and of[0] < of[2]
        assert drawn[seed, 20, 10].pool < drawn[seed, 20, 50].pool == drawn[seed, 66, 50].pool
        control = draw_people(study, Cell("control", 20, seed=seed), faces)
        assert drawn[seed, 20, 10].train == drawn[seed, 20, 50].train == control.train and not control.pool
    assert drawn[0, 20, 10].train != drawn[1, 20, 10].train and drawn[0, 20, 10].pool != drawn[1, 20, 10].pool


def test_validating_people_count_among_the_labelled_ones():
    study = StudyConfig()
    assert [study.validating(labels) for labels in (4, 10, 20, 66, 210)] == [2, 4, 10, 10, 10]
    assert all(study.validating(labels) <= min(10, labels / 2) for labels in range(4, 100, 2))


def test_a_pool_of_the_training_split_shares_nobody_with_the_labelled_people(faces):
    study = replace(STUDY, pool_split="train")
    people = draw_people(study, cell_of("student_compression", pool=6), faces)
    assert len(people.train) == 1 and len(people.pool) == 3 and not people.train & people.pool
    with pytest.raises(ValueError, match="too small for both"):
        draw_people(study, cell_of("student_compression", pool=10), faces)
    with pytest.raises(ValueError, match="20 people are asked of the split 'pool', it has 8"):
        draw_people(STUDY, cell_of("student_compression", pool=20), faces)


def test_students_from_imagenet_have_the_same_people_as_their_pool_in_all_seeds(faces):
    everybody = sorted(faces.select(split="pool").pairs)
    for seed in range(3):
        assert draw_people(STUDY, cell_of("student_imagenet", seed=seed), faces).pool == set(everybody[:2])
    study = replace(STUDY, pool_split="train")  # and nobody who has a label, where both come from one split
    for seed in range(3):
        people = draw_people(study, cell_of("student_imagenet", seed=seed), faces)
        others = sorted(faces.select(split="train").pairs - people.train)
        assert people.pool == set(others[:2]) and len(people.train) == 1


def test_frames_of_the_pool_are_spread_over_the_clip_and_nested(faces):
    frames = {}
    for count in (1, 2, 4):
        cell = cell_of("student_compression", frames=count)
        chosen = cells.some_frames(faces.select(split="pool"), count).index
        frames[count] = set(chosen["frame"])
        assert len(frames[count]) == count
        pool = pool_of(STUDY, cell, faces, draw_people(STUDY, cell, faces))
        assert len(pool) == 8 * count and np.bincount(pool.clip).tolist() == [count] * 8
    assert frames[2] < frames[4]
    with pytest.raises(ValueError, match="9 frames of a clip are asked for, 4 were sampled"):
        cells.some_frames(faces, 9)


def test_a_cell_is_whole_pairs_and_has_a_pool_only_where_its_arm_sees_one():
    for wrong in (("control", 5), ("control", 2), ("control", 4, 4, 4), ("distill", 4), ("distill", 4, 4, 0), ("other", 4)):
        with pytest.raises(ValueError):
            Cell(*wrong)
    assert Cell("distill", 20, 50, 6, seed=3).variant == "labels/20/pool/50x6" and Cell("control", 4).variant == "labels/4"


# What


def test_all_arms_have_equal_steps_labelled_batches_and_noise():
    profile, study = PROFILES["study"], StudyConfig()
    T, S = study.teacher_steps, study.student_steps
    for name, arm in ARMS.items():
        cell = Cell(name, 20, *((1000, 24) if arm.pool else ()))
        config, student = protocol.model_config(profile, study, cell), protocol.student_config(profile, arm)
        before = T if arm.start == "teacher" else 0
        assert config.steps + before == (T if name == "teacher" else T + S), name
        if name == "teacher":
            continue
        assert (config.dropout, config.drop_path) == (profile.student.dropout, profile.student.drop_path) != (0, 0)
        assert (student.randaugment_n, student.randaugment_m, student.degrade) == (1, 3, "h264"), name
        assert student.degrade_labelled and student.degraded_share == 0.5
        assert config.batch_size == 16 * (3 if arm.fill else 1) and student.mu == (2 if arm.pool else 0)
    assert profile.train.precision == "fp32" and profile.train.num_threads == 1


@pytest.mark.parametrize("arm", [arm for arm in ARMS if not ARMS[arm].fill])
def test_labelled_batches_are_alike_in_every_arm(arm, faces, tmp_path, monkeypatch):
    """As many labelled images of each class in a step, and a share of the clean ones behind H.264."""
    profile = tiny_study(tmp_path, monkeypatch)
    objective = objective_of(profile, cell_of(arm), faces, tmp_path)
    degraded = clean = 0
    for _ in range(40):
        plan = objective.plan()
        x = plan.x.crops
        assert len(x.items) == 4 and objective.labels(plan, CPU).sum() == 2
        is_clean = (objective.train.index["quality"].to_numpy() == "c23")[x.items]
        assert is_clean[x.degraded].all()
        degraded, clean = degraded + len(x.degraded), clean + is_clean.sum()
        assert sum(len(part) for part in plan.u) == (8 if ARMS[arm].pool else 0)
    assert degraded == 0 if arm == "teacher" else 0.3 < degraded / clean < 0.7


def objective_of(profile, cell, faces, folder):
    """Return a cell's objective as `fit` would get it."""
    study, arm = protocol.study_of(profile), ARMS[cell.arm]
    people, config = draw_people(study, cell, faces), protocol.model_config(profile, study, cell)
    pool, teacher = pool_of(study, cell, faces, people), small_network(px=16)
    given = Given(
        protocol.student_config(profile, arm), pool, teacher if arm.taught else None,
        faces.select(split="val", pairs=people.val), cell.seed, folder,
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    train, generator = faces.select(split="train", pairs=people.train), torch.Generator().manual_seed(0)
    return cells.OBJECTIVES[arm.learns](given)(train, config, profile.train, generator)


def test_a_teacher_of_some_frames_gives_every_frame_of_the_clip_their_mean(faces):
    pool, teacher = faces.select(split="pool").hide_labels(0), small_network().eval()
    with torch.no_grad():
        teacher.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    config = NoisyStudentConfig(teacher_frames=2)
    got, every = (pseudo_label(teacher, pool.view("c23"), each) for each in (config, replace(config, teacher_frames=0)))
    with torch.no_grad():
        p = F.softmax(teacher(to_float(pool.images(range(len(pool)), "c23"))), dim=1).numpy()
    for clip in np.unique(pool.clip):
        items = np.flatnonzero(pool.clip == clip)
        assert np.allclose(got[items], p[items[[1, 3]]].mean(axis=0), atol=1e-5)  # the middle of each half
        assert np.allclose(every[items], p[items].mean(axis=0), atol=1e-5)
    with pytest.raises(ValueError, match="set clip_level"):
        pseudo_label(teacher, pool.view("c23"), replace(config, clip_level=False))


# Teachers within a step

VIEWS = NoisyStudentConfig(mu=1, student_views=("c23", "c40"), teacher_view="c23", degrade="h264", soft=False, threshold=0.5)


def fit_of(step, faces, student=VIEWS, ema=0.9, **options):
    """Return a Fit of a small network on such an objective, and the pool."""
    train, pool = faces.select(split="train"), faces.select(split="pool").hide_labels(0)
    config, shared = ModelConfig(px=16, batch_size=8), TrainConfig(ema=ema, precision="fp32")
    objective = step(train, config, shared, torch.Generator().manual_seed(0), inputs_u=pool, student=student, **options)
    model = small_network().train()
    return loop.Fit(model, objective, config, shared, CPU), pool


def take(fit, steps=1):
    """Take some steps; return the last plan and its pixels."""
    for _ in range(steps):
        plan = fit.objective.plan()
        pixels = fit.objective.read(plan.crops)
        fit.step(plan, pixels, "a test")
    return plan, pixels


def test_the_mean_teachers_targets_are_the_averages_view_of_c23(faces):
    fit, pool = fit_of(MeanTeacherStep, faces)
    take(fit, 3)
    average = {name: value.clone() for name, value in fit.average.state_dict().items()}
    seen, compare = [], fit.objective.compare
    fit.objective.compare = lambda plan, logits: seen.append((plan, logits)) or compare(plan, logits)
    take(fit)
    (plan, logits), told = seen[0], fit.objective.told
    items = np.concatenate([part.crops.items for part in plan.u])
    assert [part.crops.view for part in plan.u] == ["c23", "c40"] and [crops.view for crops in plan.seen] == ["c23", "c23"]
    by_hand = small_network().eval()
    by_hand.load_state_dict(average)
    with torch.no_grad():
        expected = F.softmax(by_hand(to_float(pool.images(items, "c23"))), dim=1)  # neither noised nor degraded
    assert torch.allclose(told, expected, atol=1e-6)
    assert not any(torch.equal(average[name], value) for name, value in fit.model.named_parameters())  # they are another's
    losses = compare(plan, logits)
    Lu = F.cross_entropy(logits[len(plan.x) :], expected.argmax(1))
    assert losses["Lu"].item() == pytest.approx(Lu.item(), rel=1e-5)
    assert losses["loss"].item() == pytest.approx((losses["Lx"] + Lu).item(), rel=1e-5)


def test_the_mean_teacher_is_the_running_average_and_gets_no_gradient(faces):
    fit, _ = fit_of(MeanTeacherStep, faces)
    assert fit.objective.teacher is fit.average and not fit.average.training
    slow = {name: value.clone() for name, value in fit.average.state_dict().items()}
    for step in range(1, 5):
        take(fit)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in fit.model.state_dict().items():
            slow[name] = decay * slow[name] + (1 - decay) * value if value.is_floating_point() else value
    assert all(torch.allclose(slow[name], value, atol=1e-6) for name, value in fit.average.state_dict().items())
    assert not fit.objective.told.requires_grad
    assert all(not p.requires_grad and p.grad is None for p in fit.average.parameters())


def test_each_of_several_processes_sees_the_clean_views_of_its_own_share(faces):
    fit, _ = fit_of(MeanTeacherStep, faces)
    plan = fit.objective.plan()
    shares = [plan.share(rank, 3) for rank in range(3)]
    for share in shares:
        assert [crops.items.tolist() for crops in share.seen] == [part.crops.items.tolist() for part in share.u]
    assert sum(len(share.seen[0].items) for share in shares) == len(plan.seen[0].items)


def test_a_label_below_the_threshold_has_no_part_in_the_mean_teachers_loss(faces):
    fit, _ = fit_of(MeanTeacherStep, faces, replace(VIEWS, threshold=1.0))
    seen = []
    compare = fit.objective.compare
    fit.objective.compare = lambda plan, logits: seen.append(compare(plan, logits)) or seen[-1]
    take(fit)
    assert seen[0]["Lu"] == 0 < seen[0]["Lx"] == seen[0]["loss"]


def test_distillation_compares_features_of_the_degraded_view_with_the_teachers_of_c23(faces):
    teacher = small_network(seed=5)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    fit, pool = fit_of(DistillationStep, faces, replace(VIEWS, lambda_u=0.5), teacher=teacher)
    losses = []
    compare = fit.objective.compare
    fit.objective.compare = lambda plan, logits: losses.append(compare(plan, logits)) or losses[-1]
    plan, pixels = take(fit)
    items = np.concatenate([part.crops.items for part in plan.u])
    with torch.no_grad():
        images = (to_float(pool.images(items, "c23")) - teacher.mean) / teacher.deviation
        expected = teacher.eval().network[:7](images).mean(dim=(2, 3))
    assert torch.allclose(fit.objective.told, expected, atol=1e-5)
    features = fit.objective.features()
    assert features.shape == (16, 16) and features.requires_grad and not fit.objective.told.requires_grad
    assert losses[0]["Lu"].item() == pytest.approx(unexplained(features[8:], expected).item(), rel=1e-5)
    assert losses[0]["loss"].item() == pytest.approx((losses[0]["Lx"] + 0.5 * losses[0]["Lu"]).item()) and losses[0]["Lu"] > 0
    take(fit, 5)
    assert all(torch.equal(before[name], value) for name, value in fit.objective.teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in fit.objective.teacher.parameters())


def test_what_features_leave_unexplained_by_hand():
    wanted = torch.tensor([[0.0, 2.0], [2.0, 4.0]])
    assert unexplained(wanted, wanted) == 0
    assert unexplained(wanted.mean(dim=0).expand(2, 2), wanted) == 1
    assert unexplained(torch.tensor([[1.0, 2.0], [2.0, 4.0]]), wanted).item() == pytest.approx(1 / 4)


def test_features_are_what_the_head_gets_before_dropout():
    for name in ("efficientnet-lite1", "mobilenet-v2", "resnet18", "efficientnet-b0"):
        model, inputs = create_model(name, ModelConfig(px=32, dropout=0.0)).eval(), []
        features = model.watch_features()
        model.head.register_forward_pre_hook(lambda module, given, inputs=inputs: inputs.append(given[0]))
        model(torch.rand(2, 3, 32, 32))
        assert torch.allclose(features(), inputs[0], atol=1e-6)
    with pytest.raises(ValueError, match="pooled features"):
        Detector("some", torch.nn.Linear(2, 2), "", 16).watch_features()


# The wall, and whole runs


@pytest.mark.parametrize("arm", ["student_compression", "student_ema", "distill"])
def test_no_arm_reads_a_label_of_the_pool(arm, faces, tmp_path, monkeypatch):
    """Turn all of them round, or take them away: the same weights, bit for bit."""
    weights, pooled = [], faces.index["split"] == "pool"
    for name, label in (("as they are", faces.index["label"]), ("turned", 1 - faces.index["label"]), ("gone", -1)):
        profile = tiny_study(tmp_path / name, monkeypatch)
        changed = FaceSet(faces.index.assign(label=faces.index["label"].where(~pooled, label)), faces.pixels)
        weights.append(train_cell(profile, cell_of(arm), changed).state_dict())
    assert all(torch.equal(weights[0][name], other[name]) for other in weights[1:] for name in weights[0])


def test_the_pool_is_a_bare_number_a_clip(faces):
    pool = pool_of(STUDY, cell_of("distill"), faces, draw_people(STUDY, cell_of("distill"), faces))
    assert {name.lstrip("_") for name in vars(pool)} == {"clip", "qualities", "rows", "pixels"}
    with pytest.raises(ValueError, match="training split only"):
        faces.select(split="test2").hide_labels(0)
    with pytest.raises(ValueError, match="training split only"):
        faces.select(split=("train", "pool")).hide_labels(0)


def test_students_and_controls_start_from_the_same_teacher_and_keep_their_validation_scores(faces, tmp_path, monkeypatch):
    profile, first = tiny_study(tmp_path, monkeypatch), watched_starts(monkeypatch)
    todo = [cell_of(arm, seed=1) for arm in ("control", "student_classic", "distill", "student_imagenet", "recipe")]
    for cell in todo:
        train_cell(profile, cell, faces)
    teacher = checkpoints.load_model(folder_of(profile, todo[0].teacher(profile))).state_dict()
    for cell in todo[:3]:
        assert all(torch.equal(first[cell.run][name], teacher[name]) for name in teacher), cell
    imagenet = create_model("efficientnet-lite0", ModelConfig(px=32, weights="package"), seed=1).state_dict()
    for cell in todo[3:]:
        assert all(torch.equal(first[cell.run][name], imagenet[name]) for name in imagenet), cell
    hashes = {checkpoints.read_json(folder_of(profile, cell) / "config.json").get("teacher") for cell in todo[:4]}
    assert hashes == {checkpoints.read_json(folder_of(profile, todo[0].teacher(profile)) / "config.json")["hash"]}
    for cell in todo:
        assert is_finished(profile, cell)
        assert (folder_of(profile, cell) / JUDGED).is_file() == (ARMS[cell.arm].learns == "pseudo-labels")
        table = read_scores(folder_of(profile, cell) / SCORES)
        people = draw_people(STUDY, cell, faces)
        assert set(table["split"]) == {"val"} and set(table["quality"]) == {"c23", "c40"}
        assert table["video_id"].nunique() == 4 * len(people.val) == 4
    longer = replace(profile, train=replace(profile.train, ema=0.5))
    assert not any(is_finished(longer, cell) for cell in todo)
    for name in ("config.json", "result.json", "log.jsonl"):
        path = folder_of(profile, todo[0]) / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])  # cut off: it is trained again
        assert not is_finished(profile, todo[0])
        path.write_bytes(whole)
    assert is_finished(profile, todo[0])
    student = folder_of(profile, todo[1])
    for name in (JUDGED, SCORES):  # as if killed before its pseudo-labels were judged: they are, by the next call
        (student / name).unlink()
    assert not is_finished(profile, todo[1])
    train_cell(profile, todo[1], faces)
    assert is_finished(profile, todo[1]) and (student / JUDGED).is_file()


def test_every_other_arm_trains_and_a_finished_cell_is_loaded(faces, tmp_path, monkeypatch):
    profile, calls, real = tiny_study(tmp_path, monkeypatch), [], loop.run
    monkeypatch.setattr(loop, "run", lambda *given, **more: calls.append(given[5].name) or real(*given, **more))
    todo = [cell_of("control_images"), cell_of("oracle", labels=12), cell_of("oracle_images", labels=12)]
    todo += [cell_of("student_ema"), cell_of("recipe", network="mobilenet-v2")]
    for _ in range(2):
        for cell in todo:
            assert isinstance(train_cell(profile, cell, faces), Detector)
    assert len(calls) == len(set(calls)) == 6  # and one teacher
    config = checkpoints.read_json(folder_of(profile, todo[1]) / "config.json")
    assert len(config["data"]["pairs"]) == 4 and config["cell"]["labels"] == 12  # of twelve people four validate
    assert all(is_finished(profile, cell) for cell in todo)
    monkeypatch.setitem(protocol.STUDIES, profile.name, replace(STUDY, most_validating=2))  # now two do
    assert [is_finished(profile, cell) for cell in todo] == [cell.labels == 4 for cell in todo]


def test_memory_stays_flat_however_much_of_a_pool_is_read(tmp_path):
    people, size = 60, 128
    one = make_faces(train=1, val=1, test=1, frames=24, size=2).index.query("split == 'train'")
    index = pd.concat([one.assign(video_id=one["video_id"] + f"_{i}") for i in range(people // 2)])
    index = index.assign(split="pool", row=range(len(index)))
    np.lib.format.open_memmap(tmp_path / "faces.npy", "w+", np.uint8, (len(index), size, size, 3)).flush()
    pool = FaceSet(index, np.load(tmp_path / "faces.npy", mmap_mode="r")).hide_labels(0)
    pool = pool.some(np.arange(0, len(pool), 2))
    order, before = np.random.default_rng(0).permutation(len(pool)), own_megabytes()
    for first in range(0, len(order), 32):
        pool.images(order[first : first + 32], "c40")
    assert len(order) * 3 * size**2 > 70e6 and own_megabytes() - before < 20


def own_megabytes() -> float:
    """Return the memory of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))

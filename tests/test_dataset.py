from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from fake_faces import make_faces, tiny_profile

from utils.config import ModelConfig, TrainConfig
from utils.learn.dataset import FaceSet, balanced_batches, endless_batches, true_labels
from utils.learn.models import create_model
from utils.learn.training import draw_part, fit, validation_faces


def test_images_are_the_crops_of_the_rows_in_the_order_asked_for():
    faces = make_faces().select(split="val", quality="c40")
    items = [5, 0, 5, 3]
    images = faces.images(items)
    assert images.dtype == torch.uint8 and images.shape == (4, 3, 16, 16)
    for image, item in zip(images, items, strict=True):
        crop = faces.pixels[faces.index["row"].iloc[item]]
        assert np.array_equal(image.permute(1, 2, 0).numpy(), crop)


def test_select_against_a_plain_loop():
    faces = make_faces()
    pairs = sorted(faces.select(split="train").pairs)[:2]
    chosen = faces.select(split="train", quality="c23", pairs=pairs, every=3)
    rows = [
        row.row
        for row in faces.index.itertuples()
        if row.split == "train" and row.quality == "c23" and row.pair in pairs and (row.frame // 5 + 1) % 3 == 0
    ]
    assert chosen.index["row"].tolist() == rows
    assert chosen.qualities == ["c23"] and chosen.pairs == set(pairs)
    with pytest.raises(ValueError, match="no face is left"):
        faces.select(split="test", pairs=pairs)


def test_every_second_frame_is_of_each_clip():
    """Clips of other lengths are sampled at other frames; where one was missed, the others keep their places."""
    index = make_faces(train=1, val=0, test=0, frames=4).index
    one = (index["video_id"] == index["video_id"].iloc[0]).to_numpy()
    index["frame"] = index["frame"].mask(one, index["frame"] * 7 + 1)
    found = FaceSet(index, np.zeros((1, 2, 2, 3), np.uint8)).select(every=2).index
    frames = found.groupby(["method", "video_id", "quality"])["frame"].apply(list)
    assert set(map(tuple, frames)) == {(36, 106), (5, 15)}
    same = make_faces(train=1, val=0, test=0, frames=4)
    lacks = FaceSet(same.index.drop(index=[0, 5]), same.pixels).select(every=2).index
    assert set(lacks["frame"]) == {5, 15}


def test_the_clean_view_is_the_best_one():
    faces = make_faces(train=1, val=0, test=0)
    index = faces.index.replace({"quality": {"c23": "raw"}})
    assert faces.clean == "c23" and FaceSet(index, faces.pixels).clean == "raw"
    assert FaceSet(index, faces.pixels).hide_labels(0).clean == "raw"
    assert FaceSet(index.replace({"quality": {"raw": "crf46"}}), faces.pixels).clean == "c40"


def test_balanced_batches_show_every_face_once_a_round_and_both_classes_equally():
    labels = torch.tensor([0] * 6 + [1] * 3)
    batches = balanced_batches(labels, 6, torch.Generator().manual_seed(0))
    seen = [next(batches) for _ in range(4)]
    assert all(labels[items].sum() == 3 for items in seen)
    assert sorted(torch.cat(seen[:2])[labels[torch.cat(seen[:2])] == 0].tolist()) == list(range(6))
    assert set(seen[0][labels[seen[0]] == 1].tolist()) == {6, 7, 8}
    again = balanced_batches(labels, 6, torch.Generator().manual_seed(0))
    assert all(torch.equal(items, next(again)) for items in seen)
    with pytest.raises(ValueError, match="odd"):
        next(balanced_batches(labels, 5, torch.Generator()))
    with pytest.raises(ValueError, match="only one class"):
        next(balanced_batches(torch.zeros(4), 2, torch.Generator()))


def test_endless_batches_go_through_all_positions_evenly():
    batches = endless_batches(5, 3, torch.Generator().manual_seed(1))
    counts = Counter(torch.cat([next(batches) for _ in range(5)]).tolist())
    assert counts == dict.fromkeys(range(5), 3)


def test_the_two_views_of_a_pool_show_the_same_frames():
    faces = make_faces().select(split="train")
    pool = faces.hide_labels(seed=3)
    where = {row.row: (row.video_id, row.frame) for row in faces.index.itertuples()}
    by_crop = {faces.pixels[row].tobytes(): key for row, key in where.items()}
    everything = {quality: pool.view(quality).images(range(len(pool))) for quality in ("c23", "c40")}
    keys = [
        [by_crop[image.permute(1, 2, 0).contiguous().numpy().tobytes()] for image in images] for images in everything.values()
    ]
    assert keys[0] == keys[1]
    clips = pd.DataFrame({"clip": pool.clip, "video": [video for video, _ in keys[0]]}).drop_duplicates()
    assert clips["clip"].is_unique and clips["video"].is_unique
    truth = [int("_" in video) for video, _ in keys[0]]
    assert true_labels(faces, seed=3).tolist() == truth
    with pytest.raises(ValueError, match="name the view"):
        pool.images([0])
    with pytest.raises(ValueError, match="no c0 view"):
        pool.view("c0")


def test_a_pool_keeps_nothing_that_tells_the_label():
    """All a trainer can reach is numbers and pixels, and none of it changes when every label is turned round."""
    faces = make_faces().select(split="train")
    pool = faces.hide_labels(seed=0)
    assert set(vars(pool)) == {"clip", "qualities", "_rows", "_pixels"}
    arrays = [pool.clip, pool._pixels, *pool._rows.values()]
    assert all(np.issubdtype(array.dtype, np.integer) for array in arrays)
    assert not hasattr(pool, "labels") and not hasattr(pool, "index")
    # Clip numbers say nothing: fakes are not before, behind or between the originals in any fixed way.
    key = [true_labels(faces, seed)[np.argsort(faces.hide_labels(seed).clip, kind="stable")] for seed in range(40)]
    assert 0.2 < np.mean(key, axis=0).min() and np.mean(key, axis=0).max() < 0.8
    turned = FaceSet(faces.index.assign(label=1 - faces.index["label"]), faces.pixels).hide_labels(seed=0)
    assert np.array_equal(pool.clip, turned.clip)
    assert all(torch.equal(pool.images(range(9), q), turned.images(range(9), q)) for q in pool.qualities)


def test_pools_are_drawn_from_the_training_split_only():
    with pytest.raises(ValueError, match="training split only"):
        make_faces().select(split="test").hide_labels(seed=0)


def with_hard_faces() -> FaceSet:
    """Return faces of which the last pair's are held back as test_hard."""
    faces = make_faces(test=3)
    hard = faces.index["pair"] == max(faces.pairs)
    return FaceSet(faces.index.assign(split=faces.index["split"].mask(hard, "test_hard")), faces.pixels)


def test_fit_and_pools_refuse_the_harder_videos(tmp_path):
    faces, config, shared = with_hard_faces(), ModelConfig(px=16, steps=3, batch_size=4), TrainConfig()
    train, val, hard = (faces.select(split=split) for split in ("train", "val", "test_hard"))
    assert len(hard) == 24
    both = [faces.select(split=(split, "test_hard")) for split in ("train", "val")]
    for first, second in [(hard, val), (train, hard), (both[0], val), (train, both[1])]:
        with pytest.raises(ValueError, match="training takes faces of the split .* not .*test_hard"):
            fit(create_model("resnet18", config), first, second, config, shared, tmp_path / "run", seed=0)
    assert not (tmp_path / "run").exists()
    for pool in (hard, both[0]):
        with pytest.raises(ValueError, match="training split only.*test_hard"):
            pool.hide_labels(seed=0)


def test_phases_do_not_reach_the_harder_videos(tmp_path):
    """What a phase draws from all faces is the same as if the harder videos were not there."""
    faces, profile = with_hard_faces(), tiny_profile(tmp_path)
    without = faces.select(split=("train", "val", "test"))
    drawn = [draw_part(profile, each, "noisy_trained", seed=0) for each in (faces, without)]
    for one, other in zip(*drawn, strict=True):
        assert one.fingerprint() == other.fingerprint() and set(one.index["split"]) == {"train"}
    assert set(validation_faces(faces, profile.train).index["split"]) == {"val"}


def test_frames_that_lack_one_view_are_left_out_of_a_pool():
    faces = make_faces().select(split="train")
    pool = FaceSet(faces.index.drop(index=0), faces.pixels).hide_labels(seed=0)
    assert len(pool) == len(faces) // 2 - 1


def test_fingerprints_notice_other_pixels_labels_and_selections():
    faces = make_faces()
    other = FaceSet(faces.index, np.maximum(faces.pixels, 100))
    prints = {faces.fingerprint(), other.fingerprint(), faces.select(split="val").fingerprint()}
    prints.add(FaceSet(faces.index.assign(label=0), faces.pixels).fingerprint())
    assert len(prints) == 4 and make_faces().fingerprint() == faces.fingerprint()

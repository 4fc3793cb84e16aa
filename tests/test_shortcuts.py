"""Shortcuts: each measure against a slow or independent version, a planted shortcut is found, a hidden mouth leaves nothing."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from clips import encode, ramps
from sklearn.metrics import roc_auc_score

from utils.checks import shortcut_verdicts, shortcuts
from utils.config import DataConfig, get_profile
from utils.faces import ffpp, video
from utils.results import claims, prose, unlabelled
from utils.synthff.motion import draw_track

METHOD = "NeuralTextures"
SIDE, MOUTH = 96, (slice(44, 62), slice(30, 52))  # px: a square picture and the part that fakes change


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def person(seed: int, frames: int = 8) -> np.ndarray:
    """Return one person's moving pictures (frames, SIDE, SIDE, 3) uint8, of mean brightness 100 +- 1."""
    rng = np.random.default_rng(seed)
    wall = rng.normal(100, 12, (SIDE + frames, SIDE, 3))
    wall += 100 + rng.uniform(-1, 1) - wall.mean()
    return np.stack([wall[t : t + SIDE] for t in range(frames)]).clip(0, 255).astype(np.uint8)


def make_tree(root, pairs: dict[str, int], fake, crf: int, masks: bool):
    """Write a tree of pairs at c23 whose fakes are `fake(frames)`; return its index."""
    count, splits = 0, {}
    for split, number in pairs.items():
        splits[split] = [[f"{count + 2 * i:03d}", f"{count + 2 * i + 1:03d}"] for i in range(number)]
        count += 2 * number
    (root / "splits").mkdir(parents=True)
    for split, names in splits.items():
        (root / "splits" / f"{split}.json").write_text(json.dumps(names))
        for target, source in [order for a, b in names for order in ((a, b), (b, a))]:
            frames = person(int(target))
            encode(ffpp.video_path(root, ffpp.ORIGINAL, "c23", target), frames, crf)
            encode(ffpp.video_path(root, METHOD, "c23", f"{target}_{source}"), fake(frames), crf)
            if masks:
                mask = np.zeros_like(frames)
                mask[:, *MOUTH] = 255
                encode(ffpp.mask_path(root, METHOD, f"{target}_{source}"), mask, 0)
    return ffpp.build_index(root, [METHOD], ["c23"])


def new_mouth(frames):
    changed = frames.copy()
    changed[:, *MOUTH] = 255 - changed[:, *MOUTH] // 2
    return changed


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """Lossless clips whose fakes differ inside the mask alone."""
    root = tmp_path_factory.mktemp("masked")
    return shortcuts.measure(make_tree(root, {"train": 3, "val": 1, "test": 2}, new_mouth, 0, True), root, n_jobs=1)


# ---- reading ----------------------------------------------------------------------------------------------------------


def encode_gop(path, frames, keyint, bframes):
    with av.open(str(path), "w") as container:
        options = {"x264-params": f"keyint={keyint}:min-keyint={keyint}:scenecut=0:bframes={bframes}:b-adapt=0"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt, stream.time_base = *frames.shape[1:3], "yuv420p", Fraction(1, 25)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_gop_of_known_encoder_settings(tmp_path):
    path = encode_gop(tmp_path / "plain.mp4", ramps(12), keyint=4, bframes=0)
    facts = video.gop(path)
    assert (facts["frames"], facts["key_frames"], facts["key_distance"]) == (12, 3, 4)
    assert [facts[f"share_{kind}"] for kind in "ipb"] == pytest.approx([1 / 4, 3 / 4, 0])
    assert facts["bytes_b"] == 0
    with av.open(str(path)) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.size]  # without B frames in display order
    assert facts["bytes_i"] == pytest.approx(np.mean(sizes[::4]))
    assert facts["bytes_p"] == pytest.approx(np.mean([size for n, size in enumerate(sizes) if n % 4]))


def test_gop_counts_b_frames_and_stops_early(tmp_path):
    path = encode_gop(tmp_path / "b.mp4", ramps(13), keyint=100, bframes=2)  # I B B P B B P ...
    facts = video.gop(path)
    assert [round(13 * facts[f"share_{kind}"]) for kind in "ipb"] == [1, 4, 8]
    total = sum(13 * facts[f"share_{kind}"] * facts[f"bytes_{kind}"] for kind in "ipb")
    assert total / 8 == pytest.approx(video.probe(path)["bitrate"] * 13 / 25 / 64, rel=0.01)  # bytes, bits
    first = video.gop(path, max_frames=4)
    assert first["frames"] == 4 and first["share_b"] == pytest.approx(2 / 4) and first["key_frames"] == 1
    with pytest.raises(FileNotFoundError, match="gone"):
        video.gop(tmp_path / "gone.mp4")


def test_frames_by_number_are_the_right_ones(tmp_path):
    path = encode(tmp_path / "clip.mp4", ramps())
    found = video.frames_at(path, (3, 4, 9, 50))
    assert sorted(found) == [3, 4, 9]
    assert all(np.array_equal(frame, video.read_frames(path)[1][n]) for n, frame in found.items())


# ---- regions ----------------------------------------------------------------------------------------------------------


def slow_distances(mask):
    inside = np.argwhere(mask)
    return np.array([[np.hypot(*(inside - (y, x)).T).min() for x in range(mask.shape[1])] for y in range(mask.shape[0])])


def some_mask():
    mask = np.zeros((40, 48), bool)
    mask[10:15, 20:29] = True
    mask[14:19, 20:22] = True
    return mask


def test_dilation_reaches_as_far_as_it_says():
    away = slow_distances(some_mask())
    wide = shortcuts.dilate(some_mask(), 6)
    assert wide[away <= 5].all() and not wide[away > 7].any()


def test_regions_need_both_frames_and_a_mask():
    frames = {n: np.zeros((40, 48, 3), np.uint8) for n in shortcuts.SAMPLED}
    white = {n: np.repeat(some_mask()[..., None], 3, 2).astype(np.uint8) * 255 for n in frames}
    white[7] = np.roll(white[7], 3, axis=1)
    found = shortcuts.regions(white, [frames, frames])
    assert list(found) == [6, 22, 38]
    assert np.array_equal(found[6].both, some_mask() | np.roll(some_mask(), 3, axis=1))
    assert np.array_equal(found[6].mask, some_mask())
    assert not (found[6].far & shortcuts.dilate(found[6].both, shortcuts.DILATION)).any()
    assert list(shortcuts.regions(white | {22: frames[22]}, [frames, frames])) == [6, 38]  # nothing is white
    assert list(shortcuts.regions(white, [frames, {n: frames[n] for n in (6, 7, 22)}])) == [6]
    assert shortcuts.regions({}, [frames, frames]) == {}


def test_rings_agree_with_their_definition():
    rng = np.random.default_rng(0)
    real, fake = rng.integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
    area = shortcuts.Region(some_mask(), some_mask(), ~shortcuts.dilate(some_mask(), 12))
    found = shortcuts.ring_differences({6: real}, {6: fake}, {6: area})
    away, gap = slow_distances(some_mask()), np.abs(real.astype(int) - fake).mean(axis=2)
    expected = [away == 0] + [(away > low) & (away <= high) for low, high in ((0, 8), (8, 16), (16, 32))]
    assert list(found.values())[:4] == pytest.approx([gap[ring].mean() for ring in expected], rel=1e-5)
    assert np.isnan(found["over 32 px"])  # nothing is that far away here


def test_blanking_leaves_nothing_of_the_mask():
    rng = np.random.default_rng(1)
    real, mask = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8), some_mask()
    fake = real.copy()
    fake[mask] = rng.integers(0, 256, (mask.sum(), 3))
    blanked = shortcuts.blank(real, mask)
    assert np.array_equal(blanked, shortcuts.blank(fake, mask)) and not np.array_equal(real, fake)
    assert np.array_equal(blanked[~mask], real[~mask])
    assert np.abs(blanked[mask] - real[~mask].mean(axis=0)).max() <= 0.5


def test_blockiness_agrees_with_a_slow_loop():
    rng = np.random.default_rng(2)
    blocks = np.kron(rng.normal(0, 20, (5, 6)), np.ones((8, 8)))
    grey = (rng.normal(100, 5, (40, 48)) + blocks).astype(np.float32)
    keep = ~shortcuts.dilate(some_mask(), 3)
    border, other = [], []
    for y in range(40):
        for x in range(48):
            for dy, dx in ((0, 1), (1, 0)):
                if y + dy < 40 and x + dx < 48 and keep[y, x] and keep[y + dy, x + dx]:
                    at_border = (x % 8 == 7 and dx) or (y % 8 == 7 and dy)
                    (border if at_border else other).append(abs(grey[y + dy, x + dx] - grey[y, x]))
    assert shortcuts.blockiness(grey, keep) == pytest.approx(np.mean(border) / np.mean(other), rel=1e-4)
    assert shortcuts.blockiness(grey - blocks.astype(np.float32), keep) == pytest.approx(1, abs=0.1)
    assert np.isnan(shortcuts.blockiness(grey, np.zeros_like(keep)))


# ---- clips ------------------------------------------------------------------------------------------------------------


def test_lossless_clips_differ_in_the_mask_alone(masked):
    clips, rings = masked.clips, masked.rings
    assert len(clips) == 20 and set(clips["split"]) == {"train", "test"} and set(clips.groupby("fake").size()) == {2}
    real, fake = (clips[clips["label"] == label].set_index("fake") for label in (0, 1))
    assert np.allclose(real[shortcuts.OUTSIDE], fake[shortcuts.OUTSIDE])
    assert (real["change_inside"] > 1.5 * fake["change_inside"]).all()  # `new_mouth` halves contrast
    assert (rings["in the mask"] > 20).all() and (rings["8-16 px"] == 0).all() and len(rings) == 10


def test_the_network_sees_the_mouth_only_where_it_is_not_blanked(masked):
    real, fake = ((masked.clips["label"] == label).to_numpy() for label in (0, 1))
    gaps = {name: np.abs(look[fake] - look[real]).max() for name, look in masked.looks.items()}
    assert tuple(gaps) == shortcuts.VARIANTS
    assert gaps["all pixels"] > 0.1 and gaps[shortcuts.VARIANTS[2]] == 0
    table = shortcut_verdicts.judge_pictures(masked, resamples=20).set_index("check")
    auc = table["auc"]
    assert auc["all pixels"] == 1 and auc[shortcuts.VARIANTS[2]] == 0.5
    assert table["sees_mouth"].to_dict() == dict(zip(shortcuts.VARIANTS, [True, False, False], strict=True))


def test_statistics_by_hand(tmp_path):
    frames = np.clip(person(5).astype(int) + (0, 10, 20), 0, 255).astype(np.uint8)
    path = encode(tmp_path / "clip.mp4", frames, 0)
    decoded = video.read_frames(path)[1][[6, 7]].astype(float)
    found = shortcuts.statistics(path, video.frames_at(path, shortcuts.SAMPLED), {})
    assert [found[f"mean_{c}"] for c in "rgb"] == pytest.approx(decoded.mean(axis=(0, 1, 2)))
    assert [found[f"variance_{c}"] for c in "rgb"] == pytest.approx(decoded.var(axis=(0, 1, 2)))
    assert np.isnan(found["laplacian"]) and found["frames"] == 8
    with pytest.raises(ValueError, match="too short"):
        shortcuts.statistics(path, {}, {})


def test_a_planted_shortcut_is_found_without_masks(tmp_path):
    def brighter(frames):
        return np.clip(frames.astype(int) + 5, 0, 255).astype(np.uint8)

    index = make_tree(tmp_path, {"train": 6, "val": 1, "test": 5}, brighter, 23, False)
    measured = shortcuts.measure(index, tmp_path, n_jobs=1)
    assert measured.looks == {} and measured.rings.empty and shortcut_verdicts.judge_pictures(measured, 20).empty
    assert shortcut_verdicts.ring_table(measured.rings, 20).empty
    table = shortcut_verdicts.judge_columns(measured.clips, shortcuts.STATISTICS | shortcuts.MOTION, 100).set_index("check")
    assert table.loc["colour", "auc"] > 0.9 and table.loc["colour", "paired"] == 1
    whole = {"colour", "bit rate", "GOP", "packet sizes", "colour, bit rate, GOP and PSNR outside"}
    assert set(table.index) == whole  # the rest needs masks


def test_without_couples_there_is_nothing_to_compare(tmp_path):
    index = make_tree(tmp_path, {"train": 1, "val": 1, "test": 1}, new_mouth, 23, False)
    measured = shortcuts.measure(index[index["label"] == 1], tmp_path, n_jobs=1)
    assert measured.clips.empty and set(shortcuts.STREAM) <= set(measured.clips) and measured.rings.empty


def test_a_fake_that_cannot_be_read_is_left_out(tmp_path):
    index = make_tree(tmp_path, {"train": 1, "val": 1, "test": 1}, new_mouth, 23, False)
    fakes = index[(index["label"] == 1) & (index["split"] == "train")]["path"]
    Path(fakes.iloc[0]).write_bytes(b"no video")
    with pytest.warns(UserWarning, match="left out: cannot read"):
        measured = shortcuts.measure(index, tmp_path, n_jobs=1)
    assert len(measured.clips) > 0 and Path(fakes.iloc[0]).stem not in set(measured.clips["fake"])


# ---- judging ----------------------------------------------------------------------------------------------------------


def table_of_clips(pairs: int, shift: float, seed: int = 0) -> pd.DataFrame:
    """Return clips with one column `value`: a person's own number, and `shift` more in fakes."""
    rng, rows = np.random.default_rng(seed), []
    for pair in range(pairs):
        for side in (0, 1):
            own = rng.normal()
            names = {"fake": f"{2 * pair + side:03d}_{2 * pair + 1 - side:03d}", "method": METHOD, "pair": f"{pair:03d}"}
            names |= {"quality": "c23", "split": "train" if pair % 2 else "test"}
            rows += [names | {"label": label, "value": own + 0.1 * rng.normal() + shift * label} for label in (0, 1)]
    return pd.DataFrame(rows)


def test_planted_value_is_found_and_a_shuffled_label_is_not():
    clips = table_of_clips(120, shift=4)
    found = shortcut_verdicts.judge_columns(clips, {"value": ["value"]}, 200).iloc[0]
    assert found["auc"] > 0.9 and found["auc_lo"] > 0.9 and found["paired"] == 1
    swap = np.repeat(np.random.default_rng(3).integers(0, 2, len(clips) // 2), 2)  # real and fake of a couple
    shuffled = shortcut_verdicts.judge_columns(clips.assign(label=clips["label"] ^ swap), {"value": ["value"]}, 200).iloc[0]
    assert shuffled["auc_lo"] < 0.5 < shuffled["auc_hi"] and abs(shuffled["auc"] - 0.5) < 0.1


def test_judge_agrees_with_scikit_learn_and_a_loop():
    clips = table_of_clips(15, shift=0.15, seed=4)
    found = shortcut_verdicts.judge(clips, clips["value"].to_numpy(), resamples=300)
    assert found["auc"] == pytest.approx(roc_auc_score(clips["label"], clips["value"]))
    won = [float(part["value"].iloc[1] > part["value"].iloc[0]) for _, part in clips.groupby("fake")]
    assert found["paired"] == pytest.approx(np.mean(won)) and 0.5 < found["paired"] < 1
    rng, draws, parts = np.random.default_rng(5), [], [part for _, part in clips.groupby("pair")]
    for _ in range(300):  # whole pairs, one by one
        drawn = pd.concat([parts[i] for i in rng.integers(0, len(parts), len(parts))])
        draws.append(roc_auc_score(drawn["label"], drawn["value"]))
    assert [found["auc_lo"], found["auc_hi"]] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.03)


def judged(blind: float = 0.56, colour: float = 0.495) -> dict[str, pd.DataFrame]:
    """Return the table of judged checks as the claim reads it, with an AUC that is blind to the mouth and one of colour.

    Of those that are blind to it one is off one half beside its own original.
    """
    outside = "sharpness and noise outside"
    rows = [
        ("mask blanked", False, "c23", 0.5, 0.45, 0.55, 0.5), ("mask blanked", False, "c40", blind, 0.5, 0.6, 0.5),
        (outside, False, "c40", 0.43, 0.4, 0.5, 0.6), ("all pixels", True, "c23", 0.9, 0.8, 1.0, 1.0),
        ("colour", True, "c23", colour, 0.5, 0.52, 0.87), ("colour", True, "c40", 0.58, 0.5, 0.6, 0.6),
        ("packet sizes", True, "c23", 0.6, 0.58, 0.64, 0.8), ("packet sizes", True, "c40", 0.58, 0.55, 0.61, 0.8),
    ]  # fmt: skip
    columns = ["check", "sees_mouth", "quality", "auc", "auc_lo", "auc_hi", "paired"]
    table = pd.DataFrame(rows, columns=columns)
    return {"data_shortcuts": table.assign(paired_lo=table["paired"] - 0.05, paired_hi=table["paired"] + 0.05)}


def test_the_claim_says_what_is_at_chance_and_fails_where_something_is_not():
    text = prose.say("shortcuts", judged())
    assert "of 3 AUCs without it, 3 lie between .43 and .57" in text  # those that see the mouth are not counted
    assert "colour at c23, lies outside its own interval: 0.495 [0.500, 0.520]" in text and "87% of them" in text
    numbers = claims.shortcuts(judged(blind=0.58))
    assert (numbers["near"], numbers["count"]) == (2, 3)
    assert "a fake is told by one of them, sharpness and noise outside the mask at c40 (0.600 [0.550, 0.650])" in text
    others = judged()["data_shortcuts"].assign(paired_lo=0.51)  # more of them tell fakes from their own originals
    for table in (judged(blind=0.58), judged(colour=0.51), {"data_shortcuts": others}):
        assert prose.say("shortcuts", table) == "[shortcuts: does not hold on these results.]"
    assert prose.say("shortcuts", {}) == "[shortcuts: not run here.]"


def test_the_claims_band_is_the_one_that_figures_shade():
    low, high = shortcut_verdicts.BAND
    assert f"between {low:.2f} and {high:.2f}".replace("0.", ".") in prose.CLAIMS["shortcuts"].sentence
    assert [claims.shortcuts(judged(blind=auc))["near"] for auc in (high, high + 0.001)] == [3, 2]


def test_ring_table_weighs_pairs_alike():
    rings = pd.DataFrame({"quality": "c40", "pair": ["a", "a", "b"], **{ring: [1.0, 3.0, 6.0] for ring in shortcuts.RINGS}})
    table = shortcut_verdicts.ring_table(rings, 400)
    assert list(table["ring"]) == list(shortcuts.RINGS)
    assert (table["value"] == 4).all() and (table["lo"] == 2).all() and (table["hi"] == 6).all()


# ---- metadata and motion ----------------------------------------------------------------------------------------------


def test_track_statistics_by_hand():
    mouth = draw_track(7, 48, 25).mouth
    found = dict(zip(shortcuts.TRACK, shortcuts.track_statistics(7, 48, 25), strict=True))
    jaw = [frame["jawOpen"] for frame in mouth]
    assert found["closed"] == sum(value < shortcuts.CLOSED for value in jaw) / 48
    assert found["jaw_speed"] == pytest.approx(sum(abs(b - a) for a, b in zip(jaw, jaw[1:], strict=False)) / 47 * 25)
    smile = [(frame["mouthSmileLeft"] + frame["mouthSmileRight"]) / 2 for frame in mouth]
    assert found["smile_mean"] == pytest.approx(np.mean(smile)) and found["smile_std"] == pytest.approx(np.std(smile))


def test_metadata_reach_their_clips_and_swapped_tracks_tell_nothing():
    clips, rows = table_of_clips(12, shift=0), []
    for fake in clips["fake"].unique():
        target, source = fake.split("_")
        shared = {"quality": "c23", "frames": 16, "fps": 25}
        rows += [shared | {"video_id": target, "mouth_seed": int(target), "psnr": float(target) + 1, "ssim": 0.5}]
        rows += [shared | {"video_id": fake, "mouth_seed": int(source), "psnr": -float(target) - 1, "ssim": 0.5}]
    found = shortcuts.add_metadata(clips, pd.DataFrame(rows))
    assert len(found) == len(clips) and "psnr_outside" not in found
    expected = (clips["fake"].str[:3].astype(float) + 1) * (1 - 2 * clips["label"])
    assert found["psnr"].tolist() == expected.tolist()
    assert found[shortcuts.TRACK].notna().all().all()
    table = shortcut_verdicts.judge_columns(found, shortcuts.STATISTICS | shortcuts.MOTION, 50).set_index("check")
    assert table.loc["mouth tracks", ["auc", "auc_lo", "auc_hi"]].tolist() == pytest.approx([0.5] * 3)
    assert table.loc["PSNR and SSIM", "auc"] == pytest.approx(1)  # planted above
    bare = shortcuts.add_metadata(clips, pd.DataFrame(columns=["video_id", "quality", "psnr", "ssim"]))
    assert bare[["psnr", "ssim"]].isna().all().all() and len(bare) == len(clips)


def test_figures_show_every_check_and_quality():
    checks = ["colour", "mask blanked", "all pixels"]
    rows = [(check, quality, 5, 0.5, 0.4, 0.6) for check in checks for quality in ("c23", "c40")]
    table = pd.DataFrame(rows, columns=["check", "quality", "pairs", "auc", "auc_lo", "auc_hi"])
    fig = shortcut_verdicts.auc_figure(table, "SynthFF")
    assert [len(ax.lines[0].get_xdata()) for ax in fig.axes] == [3, 3]
    assert [len(ax.lines[1].get_xdata()) for ax in fig.axes] == [2, 2]  # hollow: colour and all pixels see the mouth
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == checks[::-1]
    rings = pd.DataFrame(
        [("c23", ring, 1.0, 0.5, 2.0) for ring in shortcuts.RINGS], columns=["quality", "ring", "value", "lo", "hi"]
    )
    assert len(shortcut_verdicts.ring_figure(rings, "SynthFF").axes[0].get_xticks()) == len(shortcuts.RINGS)


def test_a_studys_data_are_searched_from_its_training_people_to_its_first_test(tmp_path, monkeypatch):
    make_tree(tmp_path, {"train": 4, "val": 1, "test": 1, "test2": 3}, lambda frames: frames - frames // 8, 18, True)
    rows = [{"video_id": path.stem, "quality": "c23", "psnr": 40.0} for path in tmp_path.rglob("c23/videos/*.mp4")]
    pd.DataFrame(rows).to_csv(tmp_path / "metadata.csv", index=False)
    data = DataConfig(name="planted", root=str(tmp_path), qualities=("c23",))
    profile = replace(get_profile("study"), data=data, bootstrap=20)
    monkeypatch.setattr(shortcut_verdicts, "get_profile", lambda name: profile)
    monkeypatch.setattr(shortcut_verdicts, "study_of", lambda profile: SimpleNamespace(tests=("test2", "test2_unseen")))
    shortcut_verdicts.main(["--out", str(tmp_path / unlabelled.SHORTCUTS), "--jobs", "1"])
    table = unlabelled.shortcuts_table(tmp_path)
    assert table.set_index("check").loc["colour", "auc"] == 1 and set(table["pairs"]) == {3}  # of test2 alone
    assert unlabelled.shortcuts_table(tmp_path / "none").empty
    table.drop(columns="auc").to_csv(tmp_path / unlabelled.SHORTCUTS, index=False)
    with pytest.raises(ValueError, match="shortcuts.csv: no column auc.*git checkout"):
        unlabelled.shortcuts_table(tmp_path)
    with pytest.raises(SystemExit):
        monkeypatch.setattr(shortcut_verdicts, "get_profile", lambda name: replace(profile, data=DataConfig(root="/none")))
        shortcut_verdicts.main([])

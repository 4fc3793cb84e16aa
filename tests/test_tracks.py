"""All faces of a video, in tracks: nobody is mixed up with a neighbour or with who comes after a cut."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from clips import encode, ramps
from hostile_files import encode_at

from utils.config import get_profile
from utils.faces import tracks
from utils.faces.crops import extract_faces
from utils.faces.layout import video_path
from utils.faces.tracks import Crowd, watch
from utils.faces.video import read_frames
from utils.learn.verdicts import _damage
from utils.paths import SYNTHFF

CONFIG = replace(get_profile("study").faces, frame_step=5, max_frames=None)


@pytest.fixture(scope="module")
def people():
    """Return the frames of two people's clips (24, 256, 256, 3)."""
    return [read_frames(video_path(SYNTHFF[2], "original", "c23", name))[1] for name in ("000", "001")]


def test_one_face_is_what_the_pipeline_cuts_out():
    path = video_path(SYNTHFF[2], "original", "c40", "000")
    for config in (CONFIG, replace(get_profile("synthff").faces, size=64)):
        config = replace(config, detect_every=1)  # the pipeline may follow a face between detections
        seen, (table, crops) = watch(path, config), extract_faces(path, config)
        found = table[table["status"] == "found"]
        (track,) = seen.tracks
        assert track.frames == found["frame"].tolist() and seen.sampled == table["frame"].tolist()
        assert np.array_equal(np.stack(track.crops), crops) and seen.promised == seen.packets == 24
        assert not seen.cuts and not seen.corrupt and not seen.stopped and seen.shape == (256, 256)


def test_two_people_side_by_side_are_two_tracks(people, tmp_path):
    path = encode(tmp_path / "both.mp4", np.concatenate(people, axis=2))
    seen = watch(path, CONFIG)
    assert len(seen.tracks) == 2 and all(track.frames == seen.sampled for track in seen.tracks)
    sides = [{square[0] > 200 for square in track.squares} for track in seen.tracks]
    assert sorted(sides, key=str) == [{False}, {True}]


def test_a_cut_ends_a_track_though_the_next_face_is_in_the_same_place(people, tmp_path):
    path = encode(tmp_path / "cut.mp4", np.concatenate([people[0][:15], people[1][:15]]))
    seen = watch(path, CONFIG)
    assert seen.cuts == [15] and [track.frames for track in seen.tracks] == [[0, 5, 10], [15, 20, 25]]
    whole = watch(encode(tmp_path / "whole.mp4", people[0]), CONFIG)
    assert whole.cuts == [] and len(whole.tracks) == 1


def test_a_video_that_breaks_off_is_watched_as_far_as_it_goes(people, tmp_path):
    whole = encode(tmp_path / "whole.mkv", np.concatenate([people[0]] * 3))
    part = tmp_path / "part.mkv"
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    seen = watch(part, CONFIG)
    assert watch(whole, CONFIG).packets == 72 > seen.packets and seen.tracks[0].frames == seen.sampled
    moov = encode(tmp_path / "whole.mp4", np.concatenate([people[0]] * 3)).read_bytes()
    (tmp_path / "part.mp4").write_bytes(moov[: len(moov) // 2])  # its header stood at the end
    with pytest.raises(ValueError, match="cannot read .*part.mp4"):
        watch(tmp_path / "part.mp4", CONFIG)


VARIABLE = [33 * number for number in range(60)] + [1980 + 1000 * number for number in range(20)]
EVEN = [40 * number for number in range(80)]


@pytest.mark.parametrize(("times", "sound"), [(EVEN, 30), (EVEN, 1), (VARIABLE, 0), (VARIABLE, 30)])
@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".ts", ".flv", ".mp4"])
def test_a_whole_file_promises_what_it_holds(tmp_path, suffix, times, sound):
    """Whatever the rate at its beginning, and however long its sound."""
    path = encode_at(tmp_path / f"whole{suffix}", ramps(80, 32, 32), times, sound)
    seen = watch(path, CONFIG, most=3)
    assert seen.promised == seen.packets == 80 and _damage(seen) == []
    if suffix == ".mkv":  # as from writers that note no durations of streams
        path.write_bytes(path.read_bytes().replace(b"DURATION", b"NO_TRUTH"))
        assert watch(path, CONFIG, most=3).promised == 80


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("sound", [0, 3])
@pytest.mark.parametrize("times", [EVEN, VARIABLE])
def test_half_a_file_is_damaged(people, tmp_path, times, sound, noted):
    path = encode_at(tmp_path / "half.mkv", np.concatenate([people[0]] * 4)[:80], times, sound)
    data = path.read_bytes() if noted else path.read_bytes().replace(b"DURATION", b"NO_TRUTH")
    path.write_bytes(data[: round(0.4 * len(data))])
    seen = watch(path, CONFIG, most=3)
    assert 0 < seen.packets < 60 and seen.promised >= 79 and "damaged" in _damage(seen)[0]
    assert times == VARIABLE or seen.promised in (79, 80)


@pytest.mark.parametrize("suffix", [".ts", ".m2ts"])
def test_a_transport_stream_without_header_or_index_tells_what_it_lacks(tmp_path, suffix):
    """Times that leap behind an incomplete packet count as pictures; an end within a packet is told, for nothing counts it."""
    path = encode(tmp_path / f"whole{suffix}", ramps(80, 96, 96))
    data, length = path.read_bytes(), 188 if suffix == ".ts" else 192
    seen = watch(path, CONFIG)
    assert (seen.promised, seen.packets, seen.stopped) == (80, 80, "") and len(data) % length == 0
    path.write_bytes(data[: len(data) // 2 // length * length + 50])
    seen = watch(path, CONFIG)
    assert seen.packets < 60 and "breaks off within a packet" in seen.stopped
    first, last = (round(share * len(data)) // length * length for share in (0.4, 0.7))
    path.write_bytes(data[:first] + data[last:])
    seen = watch(path, CONFIG)
    assert seen.packets < 60 and seen.promised in (80, 81) and not seen.stopped


def test_leaps_of_a_whole_video_are_no_damage(tmp_path):
    """Its pictures may stand still: times leap, and no packet is incomplete."""
    times = [*range(0, 800, 40), *range(2000, 2800, 40)]
    path = encode_at(tmp_path / "still.ts", ramps(40, 96, 96), times)
    seen = watch(path, CONFIG)
    assert seen.packets == 40 >= seen.promised and not _damage(seen) and not seen.stopped


def test_pictures_have_the_times_at_which_they_are_shown(tmp_path):
    for suffix in (".mp4", ".mkv", ".ts"):
        path = encode_at(tmp_path / f"variable{suffix}", ramps(80, 32, 32), [time + 500 for time in VARIABLE])
        seen = watch(path, CONFIG)
        assert list(seen.times) == seen.sampled and not seen.is_steady
        assert list(seen.times.values()) == pytest.approx([VARIABLE[number] / 1000 for number in seen.sampled], abs=0.002)
    for suffix in (".mp4", ".mkv", ".ts", ".h264", ".avi"):
        seen = watch(encode(tmp_path / f"even{suffix}", ramps(80, 32, 32), fps=30), CONFIG)
        assert seen.times == {number: number / seen.fps for number in seen.sampled} and seen.is_steady


def test_who_stops_at_a_crowd_calls_nothing_damaged(people, tmp_path, monkeypatch):
    monkeypatch.setattr(tracks, "MOST_FACES", 6)
    seen = watch(encode(tmp_path / "both.mp4", np.concatenate([np.concatenate(people, axis=2)] * 3)), CONFIG)
    assert seen.sampled == [0, 5, 10] and seen.asked == 3 and "6 faces were looked at, before picture 15" in seen.stopped
    assert seen.packets == 72 and _damage(seen) == []


def test_an_image_is_a_clip_of_one_picture(people, tmp_path):
    path = tmp_path / "face.png"
    cv2.imwrite(str(path), people[0][0][..., ::-1])
    seen = watch(path, CONFIG)
    assert [track.frames for track in seen.tracks] == [[0]] and seen.sampled == [0] and seen.packets == 1


def test_at_most_so_many_pictures_are_looked_at(people, tmp_path):
    path = encode(tmp_path / "long.mp4", np.concatenate([people[0]] * 4))
    assert watch(path, CONFIG, most=3).sampled == [0, 50, 95]
    nobody = watch(encode(tmp_path / "nobody.mp4", ramps(12)), CONFIG)
    assert nobody.sampled == [0, 5, 10] and nobody.tracks == []


def test_faces_that_cross_keep_their_tracks_by_the_largest_overlap_in_all():
    crowd, box = Crowd(patience=2), np.array((0.0, 0, 10, 10))
    first = [track for track, _ in crowd.follow(np.stack([box, box + (20, 0, 20, 0)]))]
    second = {id(track): tuple(found) for track, found in crowd.follow(np.stack([box + (18, 0, 18, 0), box + (3, 0, 3, 0)]))}
    assert second[id(first[0])][0] == 3 and second[id(first[1])][0] == 18
    list(crowd.follow(np.empty((0, 4))))
    assert len(crowd.present) == 2
    list(crowd.follow(np.empty((0, 4))))
    assert crowd.present == [] and len(crowd.tracks) == 2
    (again, _), = crowd.follow(box[None])
    assert again is crowd.tracks[2]

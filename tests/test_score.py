"""The instrument from one end to the other, with the model that comes with the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import cv2
import jsonschema
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from clips import encode, ramps
from hostile_files import encode_at
from PIL import Image

from utils.config import INSTRUMENT
from utils.faces.crops import extract_faces
from utils.faces.layout import video_path
from utils.faces.tracks import Track, watch
from utils.faces.video import read_frames
from utils.learn.dataset import FaceSet
from utils.learn.packaged import load_packaged, packaged_folder
from utils.learn.predict import predict_faces
from utils.learn.validated import Calibration
from utils.learn.verdicts import ABSTAINS, FAKE, REAL, Opinion, Verdict, judge, opinion
from utils.paths import ROOT, SYNTHFF
from utils.results import footage
from utils.results.style import VERDICT_COLORS
from utils.run import score

CLIPS = {
    quality: {name: video_path(SYNTHFF[1], method, quality, name) for method, name in (
        ("original", "270"), ("NeuralTextures", "270_271"), ("original", "271"))}
    for quality in ("c23", "c40")
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model():
    return load_packaged(packaged_folder(score.SHIPPED))


@pytest.fixture(scope="module")
def people():
    return [read_frames(CLIPS["c23"][name])[1] for name in ("270", "271")]


def test_scores_are_the_pipelines(model):
    for quality, clips in CLIPS.items():
        for path in clips.values():
            seen, (verdict,) = score.score(path, model)
            table, crops = extract_faces(path, model.faces)
            found = table[table["status"] == "found"]
            faces = FaceSet(found.assign(row=range(len(found)), label=0), crops)
            expected = predict_faces(model.model, faces, precision="fp32", progress="")
            assert verdict.track.frames == found["frame"].tolist(), quality
            assert np.abs(verdict.opinion.scores - expected).max() < 1e-4


def test_a_fake_and_a_real_of_its_own_domain_get_their_verdicts(model):
    fake, real = (score.score(CLIPS["c23"][name], model)[1][0] for name in ("270_271", "270"))
    assert fake.verdict == FAKE and real.verdict == REAL
    assert fake.opinion.low > 0.5 > real.opinion.high and fake.opinion.low <= fake.opinion.probability <= fake.opinion.high


def test_a_small_prior_needs_more_to_call_somebody_fake(model):
    seen = watch(CLIPS["c23"]["270_271"], model.faces)
    even, rare = (judge(seen, model, prior)[0].opinion for prior in (0.5, 1e-4))
    assert rare.probability < even.probability and rare.low < even.low and rare.score == even.score
    with pytest.raises(ValueError, match="no chance between 0 and 1"):
        judge(seen, model, 1.0)


def crops_of(path, model):
    track = watch(path, model.faces).tracks[0]
    return np.stack(track.crops), np.array([x1 - x0 for x0, _, x1, _ in track.squares])


def test_few_faces_are_judged_as_faces_and_more_as_a_clip(model):
    crops, sides = crops_of(CLIPS["c23"]["270_271"], model)
    few = INSTRUMENT.clip_from - 1
    face, clip = opinion(crops[:few], sides[:few], model), opinion(crops[: few + 1], sides[: few + 1], model)
    assert (face.limit, clip.limit) == tuple(model.domain.limits) and face.limit != clip.limit
    unsure = model.calibration | {"face": Calibration(np.zeros((2, 4)), np.asarray(30))}
    faces_unknown = replace(model, calibration=unsure)
    assert opinion(crops[:few], sides[:few], faces_unknown).probability == 0.5
    assert opinion(crops[: few + 1], sides[: few + 1], faces_unknown).probability == clip.probability != 0.5


def test_it_abstains_outside_of_what_it_was_validated_on(model):
    crops, sides = crops_of(CLIPS["c23"]["270_271"], model)
    assert opinion(crops, sides, model).verdict == FAKE
    assert "a face of 20 px" in opinion(crops, np.full(len(crops), 20), model).reasons[0]
    noise = np.random.default_rng(0).integers(0, 255, crops.shape, dtype=np.uint8)
    assert opinion(noise, sides, model).reasons[0].startswith("unlike the faces that it knows, rendered people of SynthFF")
    flat = np.stack([cv2.resize(cv2.resize(crop, (12, 12)), crop.shape[:2]) for crop in crops])
    assert any("compressed like CRF" in reason for reason in opinion(flat, sides, model).reasons)
    nothing_known = replace(model, calibration=dict.fromkeys(model.calibration, Calibration(np.zeros((2, 4)), np.asarray(30))))
    undecided = opinion(crops, sides, nothing_known)
    assert undecided.reasons == ("undecided: the interval 0.50 to 0.50 holds even chance",) and undecided.verdict == ABSTAINS


def test_it_abstains_behind_a_codec_that_it_was_not_validated_on(people, model, tmp_path):
    def said_of(codec: str, suffix: str = "mkv", pix_fmt: str = "yuv420p") -> Opinion:
        path = encode(tmp_path / f"{codec}.{suffix}", people[0], codec=codec, pix_fmt=pix_fmt)
        return judge(watch(path, model.faces), model)[0].opinion

    assert said_of("ffv1").verdict == REAL  # nothing is lost
    others = {"HEVC": said_of("libx265"), "VP9": said_of("libvpx-vp9"), "JPEG": said_of("mjpeg", pix_fmt="yuvj420p")}
    for name, found in others.items():
        assert found.reasons[0] == f"encoded by {name}, validated on H.264" and found.verdict == ABSTAINS
    validated = model.card["validated"] | {"codecs": ["h264", "hevc"]}
    wider = replace(model, card=model.card | {"validated": validated})
    again = judge(watch(tmp_path / "libx265.mkv", model.faces), wider)[0].opinion
    assert again.score == others["HEVC"].score and again.reasons == others["HEVC"].reasons[1:]


def test_two_people_get_a_line_each_and_a_cut_ends_them(people, model, tmp_path, capsys):
    both, cut = np.concatenate(people, axis=2), np.concatenate([people[0][:25], people[1][:25]])
    paths = [encode(tmp_path / name, frames, crf=20) for name, frames in (("both.mp4", both), ("cut.mp4", cut))]
    code = score.main([*map(str, paths), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out.splitlines()
    assert [line.split(": face ")[1][0] for line in said] == ["1", "2", "1", "2"] and code in (0, 1, 3)
    told = json.loads((tmp_path / "out" / "cut" / score.RECORD).read_text())
    assert told["video"]["cuts"] == [25] and [t["seconds"][1] < 1 for t in told["tracks"]] == [True, False]


def test_what_is_written_can_be_looked_at_and_follows_the_schema(model, tmp_path):
    out = tmp_path / "out"
    code = score.main([str(CLIPS["c23"]["270_271"]), str(CLIPS["c23"]["270"]), "--out", str(out)])
    assert code == score.SOME_FAKE and score.main([str(CLIPS["c23"]["270"])]) == score.ALL_REAL
    schema = json.loads(score.SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for name in ("270_271", "270"):
        told = json.loads((out / name / score.RECORD).read_text())
        jsonschema.validate(told, schema)
        assert told["model"]["sha256"] == model.card["sha256"]
        with av.open(str(out / name / score.ANNOTATED)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == 48 and frames[0].shape[1] == 360 and frames[0].shape[0] > 360
        assert cv2.imread(str(out / name / score.FACES)).shape[1] > 1000
        x0, y0, x1, y1 = told["tracks"][0]["faces"][0]["square"]
        edge = frames[0][round(360 / 256 * y1), round(360 / 256 * (x0 + x1) / 2)].astype(int)  # of the box
        color = np.array([int(VERDICT_COLORS[told["tracks"][0]["verdict"]][i : i + 2], 16) for i in (1, 3, 5)])
        assert np.abs(edge - color).max() < 80
    broken = told | {"tracks": [told["tracks"][0] | {"verdict": "perhaps"}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_an_image_and_nobody_and_the_exit_codes(people, model, tmp_path, capsys):
    opened = plt.get_fignums()
    picture, nobody = tmp_path / "face.png", encode(tmp_path / "nobody.mp4", ramps(12))
    cv2.imwrite(str(picture), people[0][0][..., ::-1])
    assert score.main([str(nobody), "--out", str(tmp_path / "out")]) == score.ABSTAINED
    assert "no face found in 3 sampled pictures" in capsys.readouterr().out
    assert score.main([str(picture), "--out", str(tmp_path / "out")]) in (0, 1, 3)
    with av.open(str(tmp_path / "out" / "face" / score.ANNOTATED)) as container:
        assert len(list(container.decode(video=0))) == 1
    assert score.main([str(picture), str(tmp_path / "none.mp4")]) == score.UNREADABLE
    assert "error: no video" in capsys.readouterr().err
    assert plt.get_fignums() == opened  # the figures of what was written are closed


@pytest.mark.parametrize("error", [av.error.ExternalError(1, "generic"), RuntimeError("a\nmistake"), MemoryError()])
def test_an_error_that_nobody_foresaw_is_a_line_and_no_fake(people, tmp_path, capsys, monkeypatch, error):
    nobody, annotate = [encode(tmp_path / name, ramps(3)) for name in ("first.mp4", "second.mp4")], footage.annotate

    def fail(seen, *arguments, **options):
        if seen.path.name == "first.mp4":
            raise error
        return annotate(seen, *arguments, **options)

    monkeypatch.setattr(footage, "annotate", fail)
    assert score.main([*map(str, nobody), "--out", str(tmp_path / "out")]) == score.UNREADABLE
    said, told = capsys.readouterr()
    assert told.count("\n") == 1 and told.startswith(f"error: {nobody[0]}: {type(error).__name__}")
    assert len(said.splitlines()) == 2 and (tmp_path / "out" / "second" / score.ANNOTATED).is_file()
    monkeypatch.setattr(footage, "annotate", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        score.main([str(nobody[0]), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("shape", [(30, 6000), (1, 300), (6000, 30)])
def test_a_banner_is_annotated_no_wider_than_the_encoder_takes(tmp_path, shape):
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(tmp_path / "banner.png")
    assert score.main([str(tmp_path / "banner.png"), "--out", str(tmp_path / "out")]) == score.ABSTAINED
    with av.open(str(tmp_path / "out" / "banner" / score.ANNOTATED)) as container:
        (frame,) = container.decode(video=0)
        assert 2 <= frame.width <= footage.MOST_COLUMNS


def test_a_video_whose_pictures_change_their_size_is_annotated_to_its_end(people, model, tmp_path):
    parts = [encode(tmp_path / "small.h264", people[0][:16])]
    parts.append(encode(tmp_path / "large.h264", np.stack([cv2.resize(frame, (512, 400)) for frame in people[0][:16]])))
    (tmp_path / "both.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    seen, verdicts = score.score(tmp_path / "both.h264", model)
    assert seen.shape == (400, 512) and seen.sampled == [0, 5, 10, 15, 20, 25, 30]
    score.write(seen, verdicts, model, tmp_path / "out", 0.5, False)
    with av.open(str(tmp_path / "out" / score.ANNOTATED)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 32 and {frame.shape[1] for frame in frames} == {512}
    for number, scale in ((0, (2, 400 / 256)), (30, (1, 1))):
        (one,) = (verdict for verdict in verdicts if number in verdict.track.frames)
        x0, _, x1, y1 = one.track.squares[one.track.frames.index(number)]
        edge = frames[number][round(scale[1] * y1), round(scale[0] * (x0 + x1) / 2)].astype(int)
        color = np.array([int(VERDICT_COLORS[one.verdict][i : i + 2], 16) for i in (1, 3, 5)])
        assert np.abs(edge - color).max() < 80


def test_seconds_are_those_at_which_pictures_are_shown(people, model, tmp_path):
    times = [33 * number for number in range(30)] + [990 + 1000 * number for number in range(18)]
    seen, verdicts = score.score(encode_at(tmp_path / "variable.mp4", people[0], times), model)
    (one,) = verdicts
    first, last = (times[one.track.frames[place]] / 1000 for place in (0, -1))
    assert (first, last) == (0, 15.99)
    assert f"face 1, {first:.1f} to {last:.1f} s," in score.lines(seen, verdicts)[0]
    assert score.record(seen, verdicts, model)["tracks"][0]["seconds"] == [first, last]
    figures = [footage.time_line(seen, verdicts), footage.strip(verdicts, model, seen)]
    assert figures[0].axes[0].lines[0].get_xdata()[-1] == pytest.approx(last, abs=0.002)
    said = {text.get_text() for part in figures[1].subfigs for ax in part.axes for text in ax.texts}
    assert said and said <= {f"{times[number] / 1000:.1f} s" for number in one.track.frames}
    for figure in figures:
        plt.close(figure)
    footage.annotate(seen, verdicts, tmp_path / "annotated.mp4")
    with av.open(str(tmp_path / "annotated.mp4")) as container:
        assert [round(1000 * frame.time) for frame in container.decode(video=0)] == times


def test_bad_requests_are_one_line(capsys):
    for arguments in ([], ["a.mp4", "--prior", "1"], ["a.mp4", "--most", "0"]):
        with pytest.raises(SystemExit) as stopped:
            score.main(arguments)
        assert stopped.value.code == 2 and "error: give a video" in capsys.readouterr().err
    assert score.main(["--schema"]) == 0 and json.loads(capsys.readouterr().out)["type"] == "object"


def test_names_that_are_no_text_get_their_verdict_and_move_no_cursor(tmp_path):
    """In a process of its own, whose output is strict UTF-8 as a terminal's is."""
    odd = tmp_path / os.fsdecode(b"caf\xe9\x1b[2J.mp4")
    shutil.copy(CLIPS["c23"]["270"], odd)
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "utils.run.score", str(odd), str(tmp_path / "\x1b[1m.mp4"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=300, cwd=ROOT)
    assert b"caf\\udce9?[2J.mp4: face 1" in done.stdout and b": real, P(fake)" in done.stdout
    assert done.returncode == 2 and b"error: no video" in done.stderr and b"\x1b" not in done.stdout + done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_videos_of_one_name_get_folders_of_their_own(tmp_path):
    named = [tmp_path / "a" / "clip.mp4", tmp_path / "b" / "clip.mp4", tmp_path / "clip.mov", tmp_path / "clip_2.mp4"]
    assert [folder.name for folder in score.folders(named, tmp_path)] == ["clip", "clip_2", "clip_3", "clip_2_2"]


def test_no_name_leads_out_of_the_folder_that_was_asked_for(tmp_path):
    names = ("...mp4", "..mp4", "....mp4", "..a..mp4", "video.mp4", ".mp4")
    hostile = [*(tmp_path / name for name in names), Path("."), Path()]
    found = score.folders(hostile, tmp_path / "out")
    assert all(folder.resolve().parent == tmp_path / "out" for folder in found) and len(set(found)) == len(found)
    assert [folder.name for folder in found[:4]] == ["video", "video_2", "video_3", "a"]


def made_verdict(frames, squares, number=1):
    track = Track(np.zeros(4), frames=frames, squares=squares, crops=[np.zeros((8, 8, 3), np.uint8)] * len(frames))
    scores = np.linspace(0.2, 0.9, len(frames))
    return Verdict(number, track, len(frames), Opinion(scores, 0.5, 0.9, 0.8, 0.95, 30.0, 100.0, 0.5, 1.0))


def test_boxes_move_evenly_between_sampled_pictures():
    one = made_verdict([10, 15, 20, 60], [(0, 0, 10, 10), (10, 0, 20, 10), (10, 10, 20, 20), (50, 50, 60, 60)])
    assert footage.box_at(one, 9) is None and footage.box_at(one, 10).tolist() == [0, 0, 10, 10]
    assert footage.box_at(one, 12).tolist() == [4, 0, 14, 10] and footage.box_at(one, 15).tolist() == [10, 0, 20, 10]
    assert footage.box_at(one, 40) is None  # it was away
    assert footage.box_at(one, 64).tolist() == [50, 50, 60, 60] and footage.box_at(one, 65) is None


def test_attention_lies_where_the_fake_was_rendered(model):
    """On fakes that are found, the mouth's half of the face holds more of Grad-CAM than the upper half."""
    crops, _ = crops_of(CLIPS["c23"]["270_271"], model)
    maps = footage.attention(model.model, crops)
    assert maps.shape == crops.shape[:3] and 0 <= maps.min() and maps.max() <= 1
    half = maps.shape[1] // 2
    assert maps[:, half:].sum() > 1.5 * maps[:, :half].sum()
    assert not any(parameter.requires_grad for parameter in model.model.parameters())


def test_damage_is_told_and_too_much_of_it_abstains(people, model, tmp_path, capsys):
    options = {"movflags": "faststart"}
    path = tmp_path / "whole.mp4"
    with av.open(str(path), "w", container_options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height = stream.width = 256
        stream.pix_fmt = "yuv420p"
        for frame in np.concatenate([people[0]] * 3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    part = tmp_path / "part.mp4"
    part.write_bytes(path.read_bytes()[: int(0.4 * path.stat().st_size)])
    assert score.main([str(part)]) == score.ABSTAINED
    said = capsys.readouterr().out
    assert "promises 144 pictures" in said and "abstains: damaged: " in said
    whole = watch(path, model.faces)
    assert not whole.corrupt and whole.promised == whole.packets == 144
    seldom = replace_sampled(whole)
    assert any(reason.startswith("seldom seen: in 4 of") for reason in judge(seldom, model)[0].opinion.reasons)


def replace_sampled(seen):
    """Return what was seen, as if the first track had been found in its first and its last pictures alone."""
    track = seen.tracks[0]
    kept = [0, 1, len(track.frames) - 2, len(track.frames) - 1]
    short = replace(track, **{name: [getattr(track, name)[i] for i in kept] for name in ("frames", "squares", "crops")})
    return replace(seen, tracks=[short])

"""The loop: equal to plain training, whoever reads the crops, and wherever it is killed."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import partial

import pytest
import torch
from fake_faces import make_faces, small_network
from literal_training import literal_fit
from safetensors.torch import load_file

from utils.config import ModelConfig, NoisyStudentConfig, TrainConfig
from utils.learn import checkpoints, loop, plans
from utils.learn.models import create_model
from utils.learn.noisy_student import NoisedLabels, StudentStep
from utils.learn.online import DistillationStep, MeanTeacherStep
from utils.learn.pseudo_labels import PseudoLabels
from utils.learn.scores import TWINS
from utils.learn.training import Supervised, fit
from utils.paths import ROOT

CONFIG = ModelConfig(px=24, steps=6, batch_size=4, dropout=0.3)
SHARED = TrainConfig(eval_every=2, ema=0.5, keep="last", precision="fp32")
STUDENT = NoisyStudentConfig(mu=2, soft=False, student_views=("c23", "c40"), teacher_view="c23", degrade="h264")


@pytest.fixture
def faces():
    return make_faces(size=32)


def taught(faces):
    """Return a pool and what a teacher might have said of it."""
    pool = faces.select(split="train").hide_labels(0)
    fake = torch.rand(len(pool), generator=torch.Generator().manual_seed(1))
    p = torch.stack([1 - fake, fake], dim=1)
    return pool, PseudoLabels(pool.clip, {"c23": p, "c40": p}, {"c23": torch.arange(3, 20), "c40": torch.arange(11)})


def fit_tiny(faces, folder, config=CONFIG, shared=SHARED, model=None, **options):
    train, val = faces.select(split="train"), faces.select(split="val")
    return fit(model or small_network(config.px), train, val, config, shared, folder, seed=1, **options)


def student_of(faces, student=STUDENT):
    pool, pseudo = taught(faces)
    return partial(StudentStep, inputs_u=pool, pseudo=pseudo, student=student)


def weights(folder):
    return load_file(folder / "model.safetensors")


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("changes", [{}, {"twins": True, "clean_first": 0.5}, {"px": 32}], ids=["plain", "twins", "same side"])
@pytest.mark.parametrize("how", ["labels", "student, h264", "student, soft, scale", "noised labels"])
def test_fit_ends_with_the_weights_of_plain_training(faces, tmp_path, changes, how):
    config = replace(CONFIG, **changes)
    if how == "noised labels" and config.twins:
        config = replace(config, twins=False)  # as in the oracle, which has none
    pool, pseudo = taught(faces)
    make, of_student = Supervised, {}
    if how.startswith("student"):
        student = replace(STUDENT, soft=True, degrade="scale") if "soft" in how else STUDENT
        make, of_student = student_of(faces, student), {"student": student, "pool": pool, "pseudo": pseudo}
    elif how == "noised labels":
        make, of_student = partial(NoisedLabels, student=STUDENT, clean="c23"), {"student": STUDENT}
    build = partial(small_network, config.px) if changes else partial(create_model, "resnet18", config, 1)
    fit_tiny(faces, tmp_path / "run", config, model=build(), make_objective=make)
    literal, losses = literal_fit(build(), faces.select(split="train"), config, SHARED, 1, **of_student)
    assert equal(weights(tmp_path / "run"), literal)
    log = checkpoints.read_log(tmp_path / "run")
    assert [line["loss"] for line in log] == [sum(losses[i : i + 2]) / 2 for i in (0, 2, 4)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_results_do_not_depend_on_who_reads_the_crops(faces, tmp_path):
    assert plans.reading_workers(2, torch.device("cpu")) == 2  # OpenVINO has not been loaded
    for workers in (0, 2):
        shared = replace(SHARED, workers=workers)
        fit_tiny(faces, tmp_path / f"{workers}", shared=shared, make_objective=student_of(faces))
    assert equal(weights(tmp_path / "0"), weights(tmp_path / "2"))
    assert plans.reading_workers(None, torch.device("cpu")) == 0 < plans.reading_workers(None, torch.device("cuda"))


class Killed(BaseException):
    """Stands in for the end of the process."""


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_fit_goes_on_from_its_checkpoint_at_any_step(faces, tmp_path, monkeypatch, keep):
    assert plans.reading_workers(1, torch.device("cpu")) == (sys.platform == "linux")
    shared = replace(SHARED, keep=keep, eval_every=3, checkpoint_minutes=None, workers=1)
    config = replace(CONFIG, twins=True, clean_first=0.5)
    fit_tiny(faces, tmp_path / "whole", config, shared, make_objective=student_of(faces))
    assert not (tmp_path / "whole" / checkpoints.CHECKPOINT).exists()
    shared, run = replace(shared, checkpoint_minutes=1e-9), tmp_path / "run"  # one a step
    for last in range(1, config.steps):
        stop_at(faces, run, monkeypatch, last, config, shared, make_objective=student_of(faces))
        assert (run / checkpoints.CHECKPOINT).is_file() and not (run / "result.json").exists()
        torch.rand(5)  # another process's stream stands elsewhere
    with open(run / "log.jsonl", "a") as log:
        log.write('{"step": 6, "loss": 1.0}\n{"step": 9, "lo')  # written behind the checkpoint, the last line not to its end
    fit_tiny(faces, run, config, shared, make_objective=student_of(faces))
    assert equal(weights(run), weights(tmp_path / "whole"))
    logs = [[{**line, "seconds": 0} for line in checkpoints.read_log(folder)] for folder in (run, tmp_path / "whole")]
    assert logs[0] == logs[1] and [line["step"] for line in logs[0]] == [3, 6]
    seconds = [line["seconds"] for line in checkpoints.read_log(run)]
    assert seconds == sorted(seconds) and checkpoints.read_json(run / "result.json")["steps"] == 6
    assert not (run / checkpoints.CHECKPOINT).exists()


@pytest.mark.parametrize("step", [MeanTeacherStep, partial(DistillationStep, teacher=small_network(seed=3))])
def test_a_teacher_within_the_step_is_the_same_after_a_restart_and_with_a_reader(faces, tmp_path, monkeypatch, step):
    make, shared = partial(step, inputs_u=taught(faces)[0], student=STUDENT), replace(SHARED, workers=0)
    fit_tiny(faces, tmp_path / "whole", shared=shared, make_objective=make)
    shared = replace(shared, workers=1)
    for last in (2, 5):
        stop_at(faces, tmp_path / "run", monkeypatch, last, shared=shared, make_objective=make)
    fit_tiny(faces, tmp_path / "run", shared=shared, make_objective=make)
    assert equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def stop_at(faces, folder, monkeypatch, last, config=CONFIG, shared=SHARED, **options):
    """Start a fit, or let one go on, with a checkpoint a step, and end it behind step `last`."""
    step = loop.Fit.step

    def dying(self, *arguments):
        if self.progress.step == last:
            raise Killed
        step(self, *arguments)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(loop.Fit, "step", dying)
        fit_tiny(faces, folder, config, replace(shared, checkpoint_minutes=1e-9), **options)


def test_a_checkpoint_of_another_request_is_passed_over(faces, tmp_path, monkeypatch):
    stop_at(faces, tmp_path / "run", monkeypatch, 4)
    other = replace(CONFIG, lr=1e-4)
    fit_tiny(faces, tmp_path / "run", other)
    fit_tiny(faces, tmp_path / "fresh", other)
    assert equal(weights(tmp_path / "run"), weights(tmp_path / "fresh"))


@pytest.mark.parametrize("damage", ["cut", "one bit", "empty", "text", "deflated"])
def test_a_damaged_checkpoint_gives_a_warning_and_a_new_start(faces, tmp_path, monkeypatch, damage):
    stop_at(faces, tmp_path / "run", monkeypatch, 2)
    path = tmp_path / "run" / checkpoints.CHECKPOINT
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle] ^= 1
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(1000))
    deflated = bytearray(packed.getvalue())
    deflated[40:50] = b"\xff" * 10
    damaged = {"cut": whole[:middle], "one bit": whole, "empty": b"", "text": b"nothing\n", "deflated": deflated}
    path.write_bytes(damaged[damage])
    with pytest.warns(UserWarning, match=r"checkpoint.pt: damaged .*training starts anew"):
        assert checkpoints.resume(tmp_path / "run", checkpoints.read_json(tmp_path / "run" / "config.json")["hash"]) is None


@pytest.mark.parametrize("part", ["model", "optimiser", "objective", "progress", "random", "all"])
def test_a_checkpoint_with_another_content_gives_a_warning_and_a_new_start(faces, tmp_path, monkeypatch, part):
    """As one that an older version of this code has written."""
    make, run = student_of(faces), tmp_path / "run"
    fit_tiny(faces, tmp_path / "whole", make_objective=make)
    stop_at(faces, run, monkeypatch, 3, make_objective=make)
    saved = torch.load(run / checkpoints.CHECKPOINT, weights_only=True)
    if part == "all":
        saved["state"] = {"progress": {"step": 3}}
    elif part == "random":
        saved["state"][part] = [{"cpu": torch.zeros(7)}]
    else:
        saved["state"][part] = {"step": 3, "other": torch.zeros(2)}
    torch.save(saved, run / checkpoints.CHECKPOINT)
    with pytest.warns(UserWarning, match=r"checkpoint.pt: damaged .*training starts anew"):
        fit_tiny(faces, run, make_objective=make)
    assert equal(weights(run), weights(tmp_path / "whole"))
    assert [line["step"] for line in checkpoints.read_log(run)] == [2, 4, 6]


@pytest.mark.parametrize("damage", ["cut", "text"])
def test_a_damaged_word_of_a_teacher_is_asked_for_again(tmp_path, damage):
    said = {"p": {"c40": torch.tensor([[0.1, 0.9]])}}
    checkpoints.once(tmp_path, lambda: said)
    path = tmp_path / checkpoints.TAUGHT
    path.write_bytes(path.read_bytes()[:300] if damage == "cut" else b"nothing\n")
    with pytest.warns(UserWarning, match=r"taught.pt: damaged .*made again"):
        again = checkpoints.once(tmp_path, lambda: said)
    assert torch.equal(again["p"]["c40"], said["p"]["c40"])
    assert torch.equal(checkpoints.once(tmp_path, lambda: None)["p"]["c40"], said["p"]["c40"])


def test_what_a_teacher_said_is_kept_until_the_fit_ends(faces, tmp_path):
    said = [{"p": {"c40": torch.tensor([[0.1234567, 0.8765433]])}}, {"p": {}}]
    first = checkpoints.once(tmp_path, lambda: said[0])
    again = checkpoints.once(tmp_path, lambda: said[1])
    assert torch.equal(first["p"]["c40"], again["p"]["c40"])
    (tmp_path / TWINS).touch()  # of a run that was here before
    checkpoints.start(tmp_path, {})
    assert not (tmp_path / checkpoints.TAUGHT).exists() and not (tmp_path / TWINS).exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks its processes")
def test_runs_that_are_killed_for_good_go_on_and_end_equal():
    command = [sys.executable, str(ROOT / "tests" / "kill_training.py"), "--times", "2", "--seed", str(random.randrange(1000))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and "2 of 2 equal" in done.stdout, f"{command}\n{done.stdout}{done.stderr}"

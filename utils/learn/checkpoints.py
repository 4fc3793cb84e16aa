"""Folders of training runs.

`config.json` says what was asked, `log.jsonl` has one line an evaluation, `model.safetensors` the best weights (tensors
only, no code), and `result.json` the best evaluation: it is written last, so that its presence means "finished". Until then
`checkpoint.pt` says, every few minutes, where the fit stands. Scores and judged pseudo-labels join them later. Run folders
lie below `data/work/`; `results/store.py` gathers them into few tables.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import math
import os
import pickle
import platform
import shutil
import subprocess
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from utils.config import BN_MOMENTUM, HEAD_STD, ModelConfig, Profile, TrainConfig
from utils.learn import distributed
from utils.learn.models import Detector, create_model
from utils.learn.precision import cpu_kind, device_name, pick_device
from utils.learn.scores import JUDGED, SCORES, TWINS
from utils.paths import ROOT, atomic, read_json, write_json

UNREADABLE = (
    OSError, RuntimeError, ValueError, LookupError, TypeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
FILES = ("result.json", "log.jsonl", "model.safetensors")
CHECKPOINT, TAUGHT = "checkpoint.pt", "taught.pt"  # of a fit that is not finished: where it stands, and its pseudo-labels
PACKAGES = ("torch", "torchvision", "timm", "efficientnet_pytorch", "numpy")
NOT_IN_HASH = ("num_threads", "scorer", "workers", "checkpoint_minutes", "compile")  # of speed; threads stand in the runs table
IN_HASH_WHERE_ON = ("progressive", "teacher_frames", "degrade_labelled", "align")  # the committed runs are without them
NOT_A_SETTING = ("data", "data_u", "teacher", "starts_from", "precision")  # inputs, and what the machine chose


def run_name(phase: str, model: str, seed: int) -> str:
    """Return the name of a run, and of its folder."""
    return f"{phase}-{model}-s{seed}"


def run_of(profile: Profile, phase: str, seed: int) -> str:
    """Return the name of a run of the profile's own network."""
    return run_name(phase, profile.student_model, seed)


def run_hash(profile: Profile, phase: str, model: str, seed: int) -> str:
    """Return the hash of a run that exists, so that the runs built on it can name it."""
    return read_json(profile.workspace.runs / run_name(phase, model, seed) / "config.json")["hash"]


def request_of(model: str, seed: int, layers: str, config: ModelConfig, shared: TrainConfig, **about) -> dict:
    """Return what a run is asked for, to be saved and hashed; `about` adds data, phase, student and teacher."""
    settings = {"model_config": asdict(config), "train_config": asdict(shared)}
    fixed = {"bn_momentum": (BN_MOMENTUM, 0.1), "head_std": (HEAD_STD, 0.001)}  # the committed runs have the second
    settings |= {name: value for name, (value, usual) in fixed.items() if value != usual}
    return {"model": model, "seed": seed, "layers": layers, **settings, **about}


def digest(request: dict, without: tuple[str, ...] = ()) -> str:
    """Return a short hash of what a run was asked for; two requests with the same hash give the same run on one CPU kind."""
    return hashlib.sha256(json.dumps(_hashed(request, without), sort_keys=True).encode()).hexdigest()[:16]


def settings_digest(request: dict) -> str:
    """Return the hash of what `config.py` alone decides: the same on every machine, whatever its data and precision."""
    return digest(request, NOT_A_SETTING)


def _hashed(value, without: tuple[str, ...]):
    if isinstance(value, dict):
        left_out = (*NOT_IN_HASH, *without, *(key for key in IN_HASH_WHERE_ON if not value.get(key)))
        return {key: _hashed(item, without) for key, item in value.items() if key not in left_out}
    return value


def start(folder: Path, request: dict) -> None:
    """Open a run folder: save the request with its hashes, commit, versions and machine; empty the log of a broken run."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*FILES, SCORES, JUDGED, TWINS, CHECKPOINT, TAUGHT):  # the last ones are of a run that was here before
        (folder / name).unlink(missing_ok=True)
    record = {"run": folder.name, "hash": digest(request), "settings": settings_digest(request), "git_commit": git_commit()}
    device = pick_device()
    machine = {"cpu": cpu_kind(), "threads": torch.get_num_threads(), "device": device.type, "name": device_name(device)}
    write_json(folder / "config.json", {**record, "versions": versions(), "machine": machine, **request})


def log(folder: Path, record: dict) -> None:
    """Append one JSON line to the run's log."""
    with open(folder / "log.jsonl", "a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")


def finish(folder: Path, model: Detector, result: dict) -> None:
    """Save the weights, then the result: after this the run counts as finished."""
    with atomic(folder / "model.safetensors") as path:
        save_file({name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}, path)
    write_json(folder / "result.json", result)
    for name in (CHECKPOINT, TAUGHT):
        (folder / name).unlink(missing_ok=True)
    for left in filter(_abandoned, folder.glob(".*.tmp.*")):
        left.unlink(missing_ok=True)


def _abandoned(temporary: Path) -> bool:
    """Tell whether a temporary file (`paths.atomic`) is one that a process of this machine, now gone, was writing."""
    machine, _, pid = temporary.name.partition(".tmp")[0].rpartition(".")
    if not machine.endswith(f".{platform.node()}") or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # somebody else's
    return False


def save(folder: Path, request: str, state: dict) -> None:
    """Write where a fit of this request (its hash) stands, in the place of what stood there; the main process does."""
    if distributed.is_main():
        _write_tensors(folder / CHECKPOINT, {"request": request, "state": state})


def resume(folder: Path, request: str) -> dict | None:
    """Return where a fit of this request stopped, its log cut back to there; None if it is to start anew.

    What another request left is passed over; a checkpoint that can't be read is, with a warning.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        saved = _read_tensors(path)
        if saved["request"] != request:
            return None
        state = saved["state"]
        lines = read_log(folder, until=state["progress"]["step"])
    except UNREADABLE as error:
        start_anew(path, error)
        return None
    if distributed.is_main():
        with atomic(folder / "log.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return state


def start_anew(path: Path, error: Exception) -> None:
    """Warn that a checkpoint is of no use."""
    warnings.warn(f"{path}: damaged ({_line(error)[:80]}): training starts anew", stacklevel=3)


def once(folder: Path, make: Callable[[], dict]) -> dict:
    """Return what `make` gives, made once for a fit however often that is killed and goes on; `start` drops it.

    It is made again, with a warning, where the file can't be read.
    """
    path = folder / TAUGHT
    if path.is_file():
        try:
            return _read_tensors(path)
        except UNREADABLE as error:
            warnings.warn(f"{path}: damaged ({_line(error)}): made again", stacklevel=2)
    made = make()
    _write_tensors(path, made)
    return made


def _write_tensors(path: Path, value: dict) -> None:
    with atomic(path) as temporary:
        torch.save(value, temporary)


def _read_tensors(path: Path) -> dict:
    if broken := zipfile.ZipFile(path).testzip():  # torch itself does not look at the checksums
        raise ValueError(f"checksum of {broken}")
    return torch.load(path, map_location="cpu", weights_only=True)


def select(folder: Path, best: Path, **about) -> None:
    """Make a run folder that holds what the run `best` holds, named as `chosen` in its config; `about` differs there.

    A folder that holds it already is left alone, so that what was made from it stays newer.
    """
    config = read_json(best / "config.json") | {"run": folder.name, "chosen": best.name, **about}
    try:
        same = all(filecmp.cmp(best / name, folder / name, shallow=False) for name in FILES)
        if same and read_json(folder / "config.json") == config:
            return
    except (OSError, ValueError):
        pass  # missing or damaged
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    for name in ("model.safetensors", "log.jsonl"):
        with atomic(folder / name) as path:
            shutil.copyfile(best / name, path)
    write_json(folder / "config.json", config)
    write_json(folder / "result.json", read_json(best / "result.json"))


def is_finished(folder: Path, request: dict) -> bool:
    """Tell whether this very request has been trained to its end."""
    config = finished(folder)
    return config is not None and digest({name: config.get(name) for name in request}) == config["hash"] == digest(request)


def machine_of(folder: Path) -> str:
    """Return what kind of processor, or device, a finished run was trained on."""
    machine = read_json(folder / "config.json")["machine"]
    return machine.get("name", machine["cpu"])


def finished(folder: Path) -> dict | None:
    """Return the config of a run that was trained to its end.

    None where a file is missing, or is none of a run: then it is to be trained again. Weights are looked at by who loads them.
    """
    try:
        config, result = (read_json(folder / name) for name in ("config.json", "result.json"))
        whole = all(isinstance(config[name], str) for name in ("hash", "settings")) and math.isfinite(result["val_auc"])
        return config if whole and read_log(folder) and (folder / "model.safetensors").is_file() else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


class Damaged(ValueError):
    """A run folder that does not hold what it should; the message names the file and says why."""


def load_model(folder: Path) -> Detector:
    """Return the trained detector of a run.

    Raises FileNotFoundError where the run is missing or unfinished, and Damaged where its files are not a run's.
    """
    folder = Path(folder)
    if not (folder / "result.json").is_file():
        raise FileNotFoundError(f"no finished run at {folder}: train it first (`make grid`, or a part of it)")
    try:
        config = read_json(folder / "config.json")
        model = create_model(config["model"], replace(ModelConfig(**config["model_config"]), weights="none"))
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise Damaged(f"{folder / 'config.json'} is no run's ({_line(error)}): train it again") from None
    load_weights(model, folder)
    return model.eval()


def load_weights(model: Detector, folder: Path, remedy: str = "train it again") -> None:
    """Give a detector the weights of a run; raise Damaged, with the remedy, the detector as it was, where they are not such."""
    path = folder / "model.safetensors"
    try:
        weights = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise Damaged(f"{path} can't be read ({_line(error)}): {remedy}") from None
    if _shapes(weights) != _shapes(model.state_dict()):
        raise Damaged(f"{path} holds the weights of another network than {model.name}: {remedy}")
    if not all(value.isfinite().all() for value in weights.values()):
        raise Damaged(f"{path} has weights that are no numbers: {remedy}")
    model.load_state_dict(weights)


def _shapes(weights: dict[str, torch.Tensor]) -> dict[str, tuple]:
    return {name: (value.dtype, tuple(value.shape)) for name, value in weights.items()}


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:100]


def read_log(folder: Path, until: int | None = None) -> list[dict]:
    """Return the evaluations of a run, first to last, or those up to a step: a broken line behind it is not looked at."""
    path, lines = Path(folder) / "log.jsonl", []
    for line in path.read_text(encoding="utf-8").splitlines() if until is None or path.is_file() else ():
        if until is not None and (not line.endswith("}") or json.loads(line)["step"] > until):
            break
        lines.append(json.loads(line))
    return lines


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def git_commit() -> str:
    """Return the commit checked out, with "+" behind it where tracked files differ from it; "" outside of git."""
    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "--untracked-files=no", "--", "utils") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def git(*arguments: str, root: Path = ROOT) -> str:
    """Return what git prints; raise OSError or subprocess.CalledProcessError where it can't or won't."""
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()

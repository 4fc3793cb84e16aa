"""Packaged models that somebody may hand to the instrument, made on the fly, and what it must say of each.

`python tests/hostile_models.py FOLDER` scores a clip with every one of them and prints one JSON line a model: exit code, what
was printed, seconds, and the peak memory so far. All but a few are copies of the model that comes with the repository in which
one thing is wrong; where that stands behind the checksums, these are made anew.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import signal
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file

from utils.faces.layout import video_path
from utils.learn.packaged import CARD, VALIDATED, WEIGHTS
from utils.paths import PACKAGED, SYNTHFF, sha256
from utils.run import score

SECONDS, MEGABYTES = 20, 2000  # that a model may take; a warm process has 700 MB already
FACE = video_path(SYNTHFF[2], "original", "c23", "000")
WHOLE = PACKAGED / score.SHIPPED
REMEDY = "package the run again|package a finished run|take it from git|[Tt]rain it again"


class Case(NamedTuple):
    spoil: Callable[[Path], Path | str | None]  # changes the folder of a whole model; returns another one to be named instead
    says: str  # regular expression of the error line; "" where there is nothing to complain about
    rehash: bool  # whether the card gets the checksums of the spoilt files


CASES: dict[str, Case] = {}


def case(name: str, says: str, spoil: Callable, rehash: bool = False) -> None:
    CASES[name] = Case(spoil, says, rehash)


def put(path: Path, data: bytes) -> None:
    path.unlink()  # it is a link to the whole model's
    path.write_bytes(data)


# ---- what is no folder of a model -------------------------------------------------------------------------------------------

case("whole", "", lambda folder: None)
case("missing folder", r"no packaged model .*nothing", lambda folder: folder / "nothing")
case("unknown name", r"no packaged model no-such-model \(there is synthff-lite0\)", lambda folder: "no-such-model")
case("empty name", r"no packaged model", lambda folder: "")
case("file for a folder", r"no packaged model .*card\.json", lambda folder: folder / CARD)
case("device", r"no packaged model /dev/zero", lambda folder: "/dev/zero")
case("loop of links", r"no packaged model .*loop", lambda folder: _loop(folder.with_name("loop")))
case("endless name", r"no packaged model xxx", lambda folder: "x" * 5000)
case("name of two lines", r"no packaged model", lambda folder: "two\nlines")
case("empty folder", r"no packaged model", lambda folder: _emptied(folder))


def _loop(path: Path) -> Path:
    path.unlink(missing_ok=True)
    path.symlink_to(path)
    return path


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


# ---- files ------------------------------------------------------------------------------------------------------------------


def for_both(what: str, says: str, spoil: Callable[[Path], None], rehash: bool = False) -> None:
    """Add a case for each of a model's two files of tensors; its line names the file."""
    for file in (WEIGHTS, VALIDATED):
        case(f"{file}: {what}", f"{file}.*({says})", lambda folder, file=file: spoil(folder / file), rehash)


def _half(path: Path) -> None:
    put(path, path.read_bytes()[: path.stat().st_size // 2])


def _one_bit(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    put(path, bytes(whole))


def _pickled(path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {path.parent / 'hacked'}",)

    put(path, pickle.dumps({"model": Trap()}))


def _of_torch(path: Path) -> None:
    out = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, out)
    put(path, out.getvalue())


def _zipped(path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("weights", "0" * 1000)
    put(path, out.getvalue())


def header(length: int, text: bytes = b"{}", behind: bytes = b"") -> bytes:
    return struct.pack("<Q", length) + text + behind


def _tensor(begin: int, end: int, shape: list[int], dtype: str = "F32") -> bytes:
    text = json.dumps({"weight": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}).encode()
    return header(len(text), text)


def _sparse(path: Path) -> None:
    path.unlink()
    with open(path, "wb") as file:
        file.truncate(2**40)  # a TB that takes no disk


for_both("missing", "No such file", lambda path: path.unlink())
for_both("a folder", "is no file", lambda path: (path.unlink(), path.mkdir()))
for_both("a pipe", "is no file", lambda path: (path.unlink(), os.mkfifo(path)))
for_both("a device", "is no file", lambda path: (path.unlink(), path.symlink_to("/dev/zero")))
for_both("a loop of links", "[Ll]oop|symbolic", lambda path: (_loop(path), None))
for_both("a dangling link", "No such file", lambda path: (path.unlink(), path.symlink_to(path.with_name("nothing"))))
for_both("empty", "is empty", lambda path: put(path, b""))
for_both("a TB long", "too long", _sparse)
for_both("cut, checksum as it was", "SHA-256", _half)
for_both("one bit, checksum as it was", "SHA-256", _one_bit)
_BYTES = {
    "one byte": b"\0", "text": b"these are no weights\n" * 9, "zeros": bytes(10_000), "no tensors": header(2),
    "header of 2^63": header(2**63), "header of a GB": header(10**9), "header beyond its end": header(100),
    "header that is no JSON": header(4, b"{{{{"), "header that is no text": header(4, b"\xff\xfe\xfd\xfc"),
    "header of brackets": header(100_000, b"[" * 100_000), "tensor beyond its end": _tensor(0, 8, [2]),
    "tensor before its begin": _tensor(8, 0, [2]), "tensor of 2^62": _tensor(0, 8, [2**31, 2**31]),
    "tensor of no type": _tensor(0, 8, [2], "F31"), "tensor of bytes": _tensor(0, 0, [0], "F8_E4M3"),
}  # fmt: skip
for _name, _data in _BYTES.items():
    for_both(_name, "can't be read|another network", lambda path, data=_data: put(path, data), rehash=True)
for_both("cut", "can't be read", _half, rehash=True)
for_both("a pickle", "can't be read", _pickled, rehash=True)
for_both("saved by torch", "can't be read", _of_torch, rehash=True)
for_both("a zip", "can't be read", _zipped, rehash=True)


# ---- tensors ----------------------------------------------------------------------------------------------------------------


def tensors_case(file: str, name: str, says: str, change: Callable[[dict], dict]) -> None:
    """Add a case whose file of tensors is rightly written and has another content."""

    def spoil(folder: Path) -> None:
        changed = change(load_file(folder / file))
        (folder / file).unlink()
        save_file(changed, folder / file)

    case(f"{file}: {name}", f"{file}.*({says})", spoil, rehash=True)


STEM = "network.conv_stem.weight"
OTHER = "the weights of another network than efficientnet-lite0"


def _filled(key: str, value: float) -> Callable[[dict], dict]:
    return lambda tensors: tensors | {key: torch.full(tensors[key].shape, value, dtype=torch.get_default_dtype())}


def _last(key: str, value: float) -> Callable[[dict], dict]:
    def change(tensors: dict) -> dict:
        tensors[key].view(-1)[-1] = value
        return tensors

    return change


def _shaped(key: str, *shape: int, dtype=None) -> Callable[[dict], dict]:
    return lambda tensors: tensors | {key: torch.ones(shape, dtype=dtype or tensors[key].dtype)}


def _without(key: str) -> Callable[[dict], dict]:
    return lambda tensors: {name: value for name, value in tensors.items() if name != key}


tensors_case(WEIGHTS, "other names", OTHER, lambda tensors: {f"other.{name}": value for name, value in tensors.items()})
tensors_case(WEIGHTS, "one is missing", OTHER, _without(STEM))
tensors_case(WEIGHTS, "one too many", OTHER, lambda tensors: tensors | {"extra": torch.zeros(3)})
tensors_case(WEIGHTS, "another shape", OTHER, lambda tensors: tensors | {STEM: tensors[STEM][:-1].contiguous()})
tensors_case(WEIGHTS, "another type", OTHER, lambda tensors: tensors | {STEM: tensors[STEM].double()})
tensors_case(WEIGHTS, "all in halves", OTHER, lambda tensors: {name: value.half() for name, value in tensors.items()})
tensors_case(WEIGHTS, "NaN", "no numbers", _filled(STEM, float("nan")))
tensors_case(WEIGHTS, "one NaN", "no numbers", _last(STEM, float("nan")))
tensors_case(WEIGHTS, "infinity", "no numbers", _last(STEM, float("inf")))
tensors_case(WEIGHTS, "so large that scores are NaN", "no number", lambda tensors: _blown(tensors))
tensors_case(WEIGHTS, "negative variance", "no number", lambda tensors: _negative(tensors))


def _blown(tensors: dict) -> dict:
    return {name: value * 1e30 if name.endswith("weight") else value for name, value in tensors.items()}


def _negative(tensors: dict) -> dict:
    return {name: value - 1e3 if name.endswith("running_var") else value for name, value in tensors.items()}


CLIP, PEOPLE = "calibration/clip/weights", "calibration/clip/people"
for _key in (CLIP, PEOPLE, "calibration/face/weights", "gauge/bias", "domain/limits", "domain/precision"):
    tensors_case(VALIDATED, f"NaN in {_key}", "no numbers", _filled(_key, float("nan")))
    tensors_case(VALIDATED, f"{_key} missing", "lacks", _without(_key))
tensors_case(VALIDATED, "an infinite temperature", "no numbers", _filled(CLIP, float("inf")))
tensors_case(VALIDATED, "no calibration", "can't be read", lambda t: {k: v for k, v in t.items() if "face" not in k})
for _shape in ((0, 4), (4,), (201, 3), (201, 5), (2, 2, 4)):
    tensors_case(VALIDATED, f"{CLIP} of shape {_shape}", "does not fit|shape", _shaped(CLIP, *_shape))
for _number in (0, -2, -10**6):
    tensors_case(VALIDATED, f"{PEOPLE} are {_number}", "people", _filled(PEOPLE, _number))
tensors_case(VALIDATED, f"{PEOPLE} are many", "does not fit|shape", _shaped(PEOPLE, 7))
tensors_case(VALIDATED, "domain of another network", "does not fit|shape", _shaped("domain/mean", 7))
tensors_case(VALIDATED, "half a domain", "does not fit|shape", _shaped("domain/precision", 7, 7))
tensors_case(VALIDATED, "three limits", "does not fit|shape", _shaped("domain/limits", 3))
tensors_case(VALIDATED, "one limit", "does not fit|shape", _shaped("domain/limits", 1))
tensors_case(VALIDATED, "gauge of another network", "does not fit|shape", _shaped("gauge/weights", 7))
tensors_case(VALIDATED, "gauge of several biases", "does not fit|shape", _shaped("gauge/bias", 2))
tensors_case(VALIDATED, "bfloat16", "can't be read", _shaped(CLIP, 201, 4, dtype=torch.bfloat16))
tensors_case(VALIDATED, "complex", "can't be read|no numbers", _shaped(CLIP, 201, 4, dtype=torch.complex64))
tensors_case(VALIDATED, "so large that chances are none", "no number", lambda t: {k: v * 0 + 1e300 for k, v in t.items()})


# ---- cards ------------------------------------------------------------------------------------------------------------------


def text_case(name: str, text: bytes) -> None:
    case(f"card: {name}", rf"{CARD}", lambda folder: put(folder / CARD, text))


text_case("empty", b"")
text_case("blanks", b"  \n")
text_case("cut", (WHOLE / CARD).read_bytes()[:700])
text_case("no JSON", b"name = synthff\n")
text_case("list", b"[]")
text_case("number", b"7")
text_case("null", b"null")
text_case("no keys", b"{}")
text_case("deep", b"[" * 100_000)
text_case("long", b"{}" + b" " * 2_000_000)
text_case("no UTF-8", b"\xff\xfe{}")
text_case("zeros", bytes(1000))
text_case("pickle", pickle.dumps({"name": "x"}))
text_case("a number of 10,000 digits", b'{"format": ' + b"9" * 10_000 + b"}")
case("card: a folder", "no packaged model", lambda folder: ((folder / CARD).unlink(), (folder / CARD).mkdir()))
case("card: a loop of links", "no packaged model", lambda folder: (_loop(folder / CARD), None))


def card_case(what: str, says: str = "", /, **changes) -> None:
    """Add a case whose card differs in some keys; `None` leaves one out, and a dictionary changes it in part."""

    def spoil(folder: Path) -> None:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        for key, value in changes.items():
            card[key] = card[key] | value if isinstance(value, dict) and value else value
        put(folder / CARD, json.dumps({key: value for key, value in card.items() if value != LACKS}).encode())

    case(f"card: {what}", rf"{CARD}.*({says})", spoil)


LACKS, NAN, INF, HUGE = "\0lacks", float("nan"), float("inf"), 10**30
for _key in ("format", "name", "network", "px", "faces", "trained_on", "validated", "sha256"):
    card_case(f"lacks {_key}", "no card", **{_key: LACKS})
    for _value in (None, [], {}, True, 7.5, "text", [1, [2]], -1, HUGE, NAN, INF):
        if not (_key in ("name", "trained_on") and _value == "text"):
            card_case(f"{_key} is {_value}", **{_key: _value})
card_case("a later format", "format 2, not 1", format=2)
card_case("a format that clears the screen", r"format '\\x1b\[2J", format="\x1b[2J")
card_case("an endless setting of faces", r"faces with a \\x1b.{1,60} that is none", faces={"\x1b]0;own\x07" + "A" * 900_000: 1})
card_case("unknown network", "unknown network 'vgg16'", network="vgg16")
card_case("network of two lines", "unknown network", network="two\nlines" * 10_000)
card_case("path for a network", "unknown network", network="../../etc/passwd")
card_case("a name of two lines", "name", name="two\nlines")
card_case("an endless name", "name", name="x" * 100_000)
card_case("trained on two lines", "trained on", trained_on="two\nlines")
for _value in (0, 15, 1025, HUGE, 112.0, "112", True):
    card_case(f"px {_value}", "side", px=_value)
for _what in ("crf", "side"):
    for _value in ([NAN, 50], [0, INF], [-HUGE, 40], [40, 20], [1], [1, 2, 3], ["1", "2"], "12", None, {}, [[1], [2]], 7):
        card_case(f"{_what} validated {_value}", "ranges|no card", validated={_what: _value})
for _value in ([], "h264", None, {}, [1], ["two\nlines"], [""], ["x" * 100], ["h264"] * 100):
    card_case(f"codecs {str(_value)[:20]}", "codecs|no card", validated={"codecs": _value})
_WRONG_FACES = {
    "frame_step": (0, -1, 1.5, "5", None, HUGE, NAN, True), "max_frames": (0, -1, "all", 2.5), "sampling": ("often", None, 3),
    "detector": ("eyes", None, 7, []), "lines": (0, -480, "480", NAN, HUGE, 0.5), "detect_every": (0, -1, "1", NAN),
    "least_match": ("1", NAN, None, INF), "convert": ("nothing", None), "upsample": (-1, "1", 99, HUGE, None),
    "masks": ("no", None, 2), "scale": (0, -1.3, NAN, INF, "1.3", HUGE, None), "size": (0, -1, "128", 10**6, HUGE, 127.5, None),
    "track_patience": (-1, "3", NAN, None), "shell": ("rm",),
}  # fmt: skip
for _key, _values in _WRONG_FACES.items():
    for _value in _values:
        card_case(f"faces {_key} {_value}", f"{_key}|Out of range float", faces={_key: _value})
case("card: another network", f"{WEIGHTS} holds the weights of another network than resnet18", lambda folder: _renamed(folder))
card_case("wrong checksum", "", sha256={WEIGHTS: "0" * 64})
card_case("short checksum", "", sha256={WEIGHTS: "0"})
card_case("checksum of no file", "checksums", sha256={WEIGHTS: None})


def _renamed(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    put(folder / CARD, json.dumps(card | {"network": "resnet18"}).encode())


# ---- scoring with them all ------------------------------------------------------------------------------------------------


def make(case: Case, folder: Path) -> str:
    """Make the folder of a model, spoil it, and return what is to be given to `--model`."""
    folder.mkdir()
    for path in (WHOLE / name for name in (CARD, WEIGHTS, VALIDATED)):
        (folder / path.name).symlink_to(path)
    named = case.spoil(folder)
    if case.rehash:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        card["sha256"] = {name: sha256(folder / name) for name in (WEIGHTS, VALIDATED)}
        put(folder / CARD, json.dumps(card).encode())
    return str(folder if named is None or isinstance(named, tuple) else named)


def run_one(arguments: list[str]) -> dict:
    """Call the instrument; return its exit code, output, seconds, and this process's peak memory."""
    out, code, began = io.StringIO(), 99, time.monotonic()
    signal.alarm(SECONDS + 5)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = score.main(arguments)
    except SystemExit as error:
        code = error.code
    except BaseException as error:  # what a user would see as a traceback
        out.write(f"Traceback: {type(error).__name__} {error}")
    signal.alarm(0)
    seconds = round(time.monotonic() - began, 2)
    return {"code": code, "text": out.getvalue()[:60_000], "seconds": seconds, "megabytes": peak_megabytes()}


def peak_megabytes() -> int:
    """Return the most memory that this program held; `ru_maxrss` counts that of the process that started it, too."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


def give_up(*_) -> None:
    raise TimeoutError


def score_with_all(folder: Path) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, give_up)
    for number, (name, each) in enumerate(CASES.items()):
        place = folder / f"{number:03d}"
        result = run_one([f"--model={make(each, place)}", "--", str(FACE)])
        print(json.dumps({"name": name} | result | {"hacked": (place / "hacked").exists()}), flush=True)
        shutil.rmtree(place)


if __name__ == "__main__":
    score_with_all(Path(sys.argv[1]))

"""Files that somebody may hand to the instrument, made on the fly, and what it must do with each.

`python tests/hostile_files.py FOLDER` scores every one of them, each in a process of its own that is forked from a warm one,
and prints one JSON line a file: exit code, what was printed, seconds and peak memory.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import socket
import struct
import sys
import time
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from clips import encode, ramps
from PIL import Image

from utils.faces.layout import video_path
from utils.faces.video import read_frames
from utils.paths import SYNTHFF

SECONDS, MEGABYTES = 60, 3000  # that a file may take; a warm process has 700 MB already
FACE = video_path(SYNTHFF[2], "original", "c23", "000")


class Case(NamedTuple):
    make: Callable[[Path], Path | None]  # writes the file at a path, and returns another one if it is elsewhere
    suffix: str
    says: str  # regular expression of what is printed: of an error line where it starts with "error"


CASES: dict[str, Case] = {}
REFUSED, NOBODY, SEEN = "error: .*", "no face found", "face 1,"


def case(says: str, suffix: str = ".mp4", name: str = ""):
    def add(make: Callable[[Path], Path | None]):
        CASES[name or make.__name__] = Case(make, suffix, says)
        return make

    return add


def face(count: int = 24) -> np.ndarray:
    return read_frames(FACE)[1][:count]


def bytes_case(name: str, data: Callable[[], bytes], says: str = REFUSED, suffix: str = ".mp4") -> None:
    CASES[name] = Case(lambda path: path.write_bytes(data()) and None, suffix, says)


# ---- what is no video -----------------------------------------------------------------------------------------------------

bytes_case("empty", lambda: b"", r"error: .* is empty")
bytes_case("one_byte", lambda: b"\0")
bytes_case("text", lambda: b"this is no video\n" * 50)
bytes_case("noise", lambda: random.Random(0).randbytes(100_000))
bytes_case("zeros", lambda: bytes(100_000))
bytes_case("html", lambda: b"<!doctype html><html><body><video src=/etc/passwd></video></body></html>", suffix=".html")
bytes_case("svg", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>', suffix=".svg")
bytes_case("pdf", lambda: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", suffix=".pdf")
bytes_case("zip", lambda: b"PK\x03\x04" + bytes(200), suffix=".zip")
bytes_case("gzip", lambda: b"\x1f\x8b\x08" + bytes(200), suffix=".gz")
bytes_case("pickle", lambda: b"cos\nsystem\n(S'touch hacked'\ntR.", suffix=".mp4")
bytes_case("subtitles", lambda: b"1\n00:00:00,000 --> 00:00:01,000\nhello\n", suffix=".srt")
bytes_case("ffconcat", lambda: f"ffconcat version 1.0\nfile {FACE}\n".encode(), suffix=".mp4")
bytes_case("ffconcat_protocol", lambda: b"ffconcat version 1.0\nfile http://127.0.0.1:9/a.mp4\n", suffix=".ffconcat")
bytes_case("m3u8", lambda: f"#EXTM3U\n#EXTINF:1,\nfile://{FACE}\n#EXT-X-ENDLIST\n".encode(), suffix=".m3u8")
bytes_case("m3u8_named_mp4", lambda: f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{FACE}\n#EXT-X-ENDLIST\n".encode())
bytes_case("dash", lambda: b'<?xml version="1.0"?><MPD><Period><BaseURL>/etc/passwd</BaseURL></Period></MPD>', suffix=".mpd")
bytes_case("sdp", lambda: b"v=0\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n", suffix=".sdp")
bytes_case("imf_list", lambda: b'<?xml version="1.0"?><CompositionPlaylist></CompositionPlaylist>', suffix=".xml")


@case(r"error: .* is a folder")
def folder(path):
    path.mkdir()


@case(r"error: .* is a pipe")
def pipe(path):
    os.mkfifo(path)


@case(r"error: .* is a socket")
def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(path.parent):  # a long path is too long for one
        listening.bind(path.name)


@case(r"error: /dev/zero is a device")
def endless_device(path):
    return Path("/dev/zero")


@case(r"error: .* is a device")
def link_to_a_device(path):
    path.symlink_to("/dev/zero")


@case(r"error: cannot read .*[Ll]oop|symbolic")
def link_loop(path):
    path.symlink_to(path)


@case(r"error: no video")
def dangling_link(path):
    path.symlink_to(path.with_name("nothing"))


@case(r"error: no video")
def missing(path):
    pass


@case(r"error: cannot read .*name too long", suffix="")
def endless_name(path):
    return path.with_name("x" * 300 + ".mp4")


# ---- names that mean something to somebody --------------------------------------------------------------------------------


def _named(name: str) -> None:
    def make(path: Path) -> Path:
        path.mkdir()
        return encode(path / name, face(6))

    CASES["name " + name.encode("ascii", "backslashreplace").decode()] = Case(make, "", SEEN)


for _name in (
    "http:a.mp4", "concat:a|b.mp4", "%03d.mp4", "a b'\".mp4", "\u00fcml\u00e4ut \u4eba.mp4", "new\nline.mp4", "pipe:0.mp4",
    "-y.mp4",
):  # fmt: skip
    _named(_name)


# ---- images ---------------------------------------------------------------------------------------------------------------


def png(width: int, height: int, data: bytes = b"", extra: bytes = b"") -> bytes:
    """Return a PNG that promises so many pixels, whatever it holds; `extra` chunks come before them."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + extra + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def saved(form: str, frames: int = 1, **options) -> bytes:
    out = io.BytesIO()
    first, *others = (Image.fromarray(one) for one in face(frames))
    first.save(out, form, **({"save_all": True, "append_images": others} if others else {}), **options)
    return out.getvalue()


_FORMS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "GIF": ".gif"}
for _form, _suffix in _FORMS.items():
    bytes_case(f"image {_form}", lambda form=_form: saved(form), "face 1,|no face", _suffix)
    bytes_case(f"cut {_form}", lambda form=_form: saved(form)[:2000], "error: |no face found", _suffix)
    bytes_case(f"named mp4 {_form}", lambda form=_form: saved(form), "face 1,|no face")
bytes_case("moving GIF", lambda: saved("GIF", 12), SEEN, ".gif")
bytes_case("PNG bomb, promised", lambda: png(60_000, 60_000), "error: .*pixels|error: cannot read", ".png")
bytes_case("PNG bomb, held", lambda: png(16_000, 16_000, bytes(16_000 * 48_001)), "error: .*pixels", ".png")
bytes_case("PNG of one line", lambda: png(30_000_000, 1), "error: ", ".png")
bytes_case("PNG without sides", lambda: png(0, 0), "error: ", ".png")
bytes_case("PNG with EXIF that PyAV crashes on", lambda: saved("PNG", exif=_exif(1)), SEEN, ".png")
NOISE = _chunk(b"eXIf", bytes(range(200)))
bytes_case("PNG with noise for EXIF", lambda: png(64, 64, bytes(64 * 193), NOISE), "error: |no face", ".png")
bytes_case("JPEG on its side", lambda: _turned(6), SEEN, ".jpg")
bytes_case("JPEG in a mirror, upside down", lambda: _turned(4), SEEN, ".jpg")
bytes_case("JPEG bomb", lambda: _patched_sides(saved("JPEG"), 65_500), "error: ", ".jpg")
bytes_case("TIFF that points to itself", lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "error: ", ".tif")


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif


def _turned(orientation: int) -> bytes:
    turn = {6: Image.Transpose.ROTATE_90, 4: Image.Transpose.FLIP_TOP_BOTTOM}[orientation]
    out = io.BytesIO()
    Image.fromarray(face(1)[0]).transpose(turn).save(out, "JPEG", exif=_exif(orientation), quality=95)
    return out.getvalue()


# ---- videos ---------------------------------------------------------------------------------------------------------------


def video(path: Path, frames, codec="libx264", pix_fmt="yuv420p", options=None, before=lambda stream: None, **opened):
    with av.open(str(path), "w", **opened) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        before(stream)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def encode_at(path: Path, frames: np.ndarray, times: list[int], sound: float = 0) -> Path:
    """Write RGB frames as H.264 (or VP9 for WebM), each at its time in ms, and so many seconds of silence."""
    codec, options = ("libvpx-vp9", {"cpu-used": "8"}) if path.suffix == ".webm" else ("libx264", {"bf": "0"})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        silence, parts = sound and container.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48000), 0
        for frame, time in [*zip(frames, times, strict=True), (None, 1000 * sound)]:
            while parts * 20 < min(time, 1000 * sound):
                part = av.AudioFrame.from_ndarray(np.zeros((2, 960), np.float32), format="fltp", layout="stereo")
                part.sample_rate, part.pts, parts = 48000, 960 * parts, parts + 1
                container.mux(silence.encode(part))
            if frame is not None:
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture.pts, picture.time_base = time, Fraction(1, 1000)
                container.mux(stream.encode(picture))
        for each in [stream, *[silence] * bool(sound)]:
            container.mux(each.encode())
    return path


def _wide(aspect: int) -> Callable:
    return lambda stream: setattr(stream, "sample_aspect_ratio", Fraction(aspect))


def _made(name: str, suffix: str, says: str = SEEN, frames: Callable[[], np.ndarray] = lambda: face(12), **how) -> None:
    CASES[name] = Case(lambda path: video(path, frames(), **how), suffix, says)


_made("HEVC", ".mkv", codec="libx265", options={"x265-params": "log-level=error"})
_made("VP9", ".webm", codec="libvpx-vp9", options={"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "8"})
_made("AV1", ".mp4", codec="libsvtav1", options={"preset": "12"})
_made("MPEG-2", ".ts", codec="mpeg2video", options={"qscale": "3"})
_made("MPEG-4 in AVI", ".avi", codec="mpeg4", options={"qscale": "3"})
_made("Motion JPEG", ".avi", codec="mjpeg", pix_fmt="yuvj420p")
_made("FFV1, RGB", ".mkv", codec="ffv1", pix_fmt="bgr0")
_made("PNG in QuickTime", ".mov", codec="png", pix_fmt="rgb24")
_made("10 bit", ".mp4", pix_fmt="yuv420p10le")
_made("grey", ".mp4", pix_fmt="gray")
_made("4:4:4, odd sides", ".mp4", pix_fmt="yuv444p", frames=lambda: face(12)[:, :253, :251])
_made("426 px wide", ".mp4", frames=lambda: np.pad(face(12), ((0, 0), (0, 0), (0, 170), (0, 0))))
_made("16 px", ".mp4", NOBODY, frames=lambda: ramps(12, 16, 16))
_made("2 px", ".mp4", NOBODY, frames=lambda: ramps(12, 2, 2))
_made("one picture", ".mp4", frames=lambda: face(1))
_made("wide as a cinema", ".mp4", NOBODY, frames=lambda: ramps(3, 64, 4000))
_made("raw H.264", ".h264")
_made("fragments", ".mp4", container_options={"movflags": "frag_keyframe+empty_moov"})
_made("pixels twice as wide", ".mp4", frames=lambda: face(12)[:, :, ::2], before=_wide(2))
_made("pixels two hundred times as wide", ".mp4", "error: .*pixels", before=_wide(200))
_made("on its side", ".mp4", frames=lambda: np.rot90(face(12), -1, (1, 2)), before=lambda s: s.set_display_rotation(90))
_made("in a mirror", ".mp4", before=lambda s: s.set_display_rotation(0, hflip=True))


def _edited(name: str, suffix: str, edit: Callable[[bytes], bytes], says: str, **how) -> None:
    def make(path: Path) -> None:
        video(path, np.concatenate([face()] * 3), **how)
        path.write_bytes(edit(path.read_bytes()))

    CASES[name] = Case(make, suffix, says)


def _without_itself(data: bytes) -> bytes:
    return data.replace(b"url \0\0\0\1", b"url \0\0\0\0", 1)


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _holes(data: bytes, first: float = 0.2, every: int = 4000) -> bytes:
    spoiled = bytearray(data)
    for place in range(int(first * len(data)), len(data) - 400, every):
        spoiled[place : place + 200] = random.Random(place).randbytes(200)
    return bytes(spoiled)


X265 = {"codec": "libx265", "options": {"x265-params": "log-level=error"}}
FAST = {"container_options": {"movflags": "faststart"}}
_edited("cut MP4", ".mp4", _half, "error: cannot read")
_edited("cut MP4 that begins with its header", ".mp4", _half, "promises 72 pictures and holds|face 1,.*\n.*promises", **FAST)
_edited("cut MKV", ".mkv", _half, r"abstains: damaged: .*\n.*promises 72 pictures and holds")
_edited("cut TS", ".ts", lambda data: _half(data)[:-7], f"{SEEN}.*\n.*breaks off within a packet")
_edited("MP4 cut to its first kilobytes", ".mp4", lambda data: data[:5000], "error: |damaged|no face", **FAST)
LOST = r"error: |damaged: \d+% of the video|could not be decoded|promises \d+ pictures and holds"  # one of these is said
_edited("holes in MP4", ".mp4", _holes, LOST, **FAST)
_edited("holes in MKV", ".mkv", _holes, LOST)
_edited("holes in TS", ".ts", _holes, LOST)
_edited("holes in HEVC", ".mkv", _holes, LOST, **X265)
_edited("emptied MP4", ".mp4", lambda d: d[: d.find(b"mdat") + 4] + bytes(len(d) - d.find(b"mdat") - 4), "error: ", **FAST)
_edited("MP4 that promises a billion pictures", ".mp4", lambda d: _patched(d, b"stsz", 8, 10**9), "error: |face 1,", **FAST)
_edited("MP4 of 30,000 px", ".mp4", lambda d: _patched_sides(d, 30_000), "error: |face 1,", **FAST)
_edited("MP4 that reads another file", ".mp4", _without_itself, "error: |face 1,", **FAST)


def _patched(data: bytes, kind: bytes, offset: int, value: int) -> bytes:
    place = data.find(kind) + 4 + offset
    return data[:place] + struct.pack(">I", value) + data[place + 4 :]


def _patched_sides(data: bytes, side: int) -> bytes:
    return data.replace(struct.pack(">HH", 256, 256), struct.pack(">HH", side, side))


bytes_case("boxes in boxes", lambda: b"".join(struct.pack(">I", 8 * (3000 - k)) + b"moov" for k in range(3000)))
bytes_case("box of no size", lambda: struct.pack(">I", 16) + b"ftypisom" + bytes(4) + struct.pack(">I", 1) + b"moov" + bytes(8))


@case("error: .*no video stream", suffix=".mov")
def sound_alone(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))


@case(SEEN, suffix=".h264")
def grows_as_it_goes(path):
    parts = []
    for side in (256, 512):
        part = path.with_name(f"{side}.h264")
        frames = face(12) if side == 256 else face(12).repeat(2, axis=1).repeat(2, axis=2)
        video(part, frames)
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))


@case(SEEN, suffix=".mp4")
def times_that_jump(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.height = stream.width = 256
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(face(12)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number * 997 if number < 6 else number * 997 + 10_000_000
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@case(SEEN, suffix=".mp4")
def two_people_and_a_cut(path):
    other = read_frames(video_path(SYNTHFF[2], "original", "c23", "001"))[1]
    video(path, np.concatenate([face(15), other[:15]]))


# ---- scoring them all ---------------------------------------------------------------------------------------------------


def run_one(path: Path) -> dict:
    """Score a file in a forked process; return its exit code, output, seconds and peak memory."""
    reading, writing = os.pipe()
    began, child = time.monotonic(), os.fork()
    if not child:
        os.close(reading)
        signal.alarm(SECONDS + 5)  # ends it
        out, code = io.StringIO(), 99
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                code = main(["--", str(path)])
        except SystemExit as error:
            code = error.code
        except BaseException as error:  # what a user would see as a traceback
            out.write(f"Traceback: {type(error).__name__} {error}")
        os.write(writing, out.getvalue().encode(errors="replace")[:60_000])
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe_end:
        text = pipe_end.read().decode()
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "text": text, "seconds": round(time.monotonic() - began, 2), "megabytes": usage.ru_maxrss // 1024}


def main(arguments):
    from utils.run.score import main

    return main(arguments)


def score_all(folder: Path) -> None:
    import torch

    from utils.learn.packaged import load_packaged, packaged_folder
    from utils.run import score

    torch.set_num_threads(1)
    packaged = load_packaged(packaged_folder(score.SHIPPED))
    score.load_packaged = lambda folder: packaged  # once for all of them
    with contextlib.redirect_stdout(io.StringIO()):
        score.main([str(FACE)])  # whatever is loaded by the way is loaded now
    for number, (name, each) in enumerate(CASES.items()):
        path = folder / f"{number:03d}{each.suffix}"
        path = each.make(path) or path
        print(json.dumps({"name": name} | run_one(path)), flush=True)


if __name__ == "__main__":
    score_all(Path(sys.argv[1]))

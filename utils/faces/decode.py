"""Decoding no more of a video than the sampled frames need, and turning these into upright arrays.

Numbers count the frames as they are shown, from 0. Of H.264 and H.265, pictures that no other refers to and that nobody
asked for are not decoded, nor are whole groups without a sampled frame: what is left are the same pictures, bit for bit.
"""

from __future__ import annotations

import stat
import subprocess
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import ExifTags, Image

QUICK = {"h264": (5,), "hevc": (19, 20)}  # codecs whose pictures may be left out, and their NAL types of an instant refresh
LENGTH_AT = {"h264": 4, "hevc": 21}  # byte of the header (avcC, hvcC) that says how long the units' lengths are
GREY = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "nv21", "gray"}  # plane 0: 8-bit luma
CONTAINERS = (  # read from anybody; no playlist or list of files, for these name others
    "mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "mxf", "ivf", "h264", "hevc", "m4v", "mjpeg", "gif",
    "apng", "png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe",
)  # fmt: skip
IMAGES = {b"\xff\xd8\xff": "jpeg_pipe", b"\x89PNG": "png_pipe", b"BM": "bmp_pipe", b"II*\0": "tiff_pipe", b"MM\0*": "tiff_pipe"}
MOST_PIXELS = 36_000_000  # of a picture, 8K has 33 million: one that is larger is refused before it takes its memory
MOST_ASPECT = 8  # of a pixel's sides: anamorphic film has 2
BORDER = 8  # px decoded around a cut, so that chroma is scaled there as in the whole frame


@contextmanager
def open_video(path: Path | str, threads: int = 1) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    """Open a video or an image for reading; no other file is read through it, and no network.

    One thread by default, since work is parallel over videos, not within one; 0 takes all cores. Raises FileNotFoundError if
    there is no such file, and ValueError for what is no regular file, may not be read, has too large pictures or does not
    decode.
    """
    path = require_file(path)
    image = _image_format(path)
    limits = {"max_pixels": str(MOST_PIXELS)}
    options = limits | {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
    try:
        with av.open(f"file:{path}", format=image, options=options) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video stream: download or build it again")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise ValueError(f"{path} has a video stream that no decoder knows: convert it to H.264")
            size = stream.codec_context.width, stream.codec_context.height
            if not 0 < size[0] * size[1] <= MOST_PIXELS:  # FFmpeg tells none where it refused to look
                raise ValueError(f"{path} has no pictures, or some of more than {MOST_PIXELS:,} pixels: make it smaller")
            stream.codec_context.options = limits  # its pictures may grow later
            stream.thread_type = "SLICE" if threads == 1 else "AUTO"
            stream.codec_context.thread_count = threads
            yield container, stream
    except av.error.FFmpegError as error:
        raise ValueError(f"cannot read {path} ({error.strerror or error}): download or build it again") from None


def codec_of(stream: av.VideoStream) -> str:
    """Return the codec of an open stream, in FFmpeg's words: "h264", "hevc", "png", whatever decodes it."""
    return stream.codec_context.codec.canonical_name


def _image_format(path: Path) -> str | None:
    """Return FFmpeg's reader of a single image; left to itself it takes one that reads other files beside it, or none."""
    try:
        with open(path, "rb") as file:
            start = file.read(12)
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror}): see who may read it, or copy it again") from None
    found = next((name for magic, name in IMAGES.items() if start.startswith(magic)), None)
    return "webp_pipe" if start[:4] == b"RIFF" and start[8:] == b"WEBP" else found


def require_file(path: Path | str) -> Path:
    """Return a path to a regular file; FileNotFoundError where there is none, ValueError where something else is there."""
    path = Path(path)
    try:
        found = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"no video {path}") from None
    except (OSError, ValueError) as error:  # a loop of links, a name that is too long, a null byte in it
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot read {str(path)!r} ({reason}): give a video file") from None
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for name, test in _KINDS.items() if test(found.st_mode)), "special file")
        raise ValueError(f"{path} is a {kind}: give a video file")
    if not found.st_size:
        raise ValueError(f"{path} is empty: download or build it again")
    return path


_KINDS = {"folder": stat.S_ISDIR, "pipe": stat.S_ISFIFO, "device": stat.S_ISCHR, "socket": stat.S_ISSOCK}


# ---- one picture --------------------------------------------------------------------------------------------------


class Picture:
    """A decoded frame, of which only what is asked for is converted; all its arrays are upright and contiguous.

    Upright as FFmpeg shows it: turned and mirrored by the display matrix of phones, and stretched to square pixels. Contiguous
    because PyAV pads the rows of widths that 16 does not divide, and dlib reads such rows askew.
    """

    def __init__(self, frame: av.VideoFrame, view: View | None = None):
        self.frame, view = frame, view or View()
        self.matrix = view.matrix(frame.rotation)
        self.width = max(1, round(frame.width * view.aspect))  # px, before it is turned

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in px."""
        size = self.frame.height, self.width
        return size[::-1] if self._transposed else size

    def _converted(self, form: str) -> np.ndarray:
        if self.width != self.frame.width:
            return self.frame.reformat(width=self.width, format=form, interpolation="BICUBIC").to_ndarray()
        return self.frame.to_ndarray(format=form)

    @property
    def is_upright(self) -> bool:
        """Whether the frame is shown as it is coded: neither turned nor stretched."""
        return self.matrix is None and self.width == self.frame.width

    @property
    def _transposed(self) -> bool:
        return self.matrix is not None and abs(self.matrix[0, 0]) < abs(self.matrix[0, 1])

    def _upright(self, array: np.ndarray) -> np.ndarray:
        """Turn an array (H, W, ...) as its display matrix (2, 2) says: (x', y') = (x, y) M."""
        if self.matrix is not None:
            if self._transposed:
                array, x, y = array.swapaxes(0, 1), self.matrix[1, 0], self.matrix[0, 1]
            else:
                x, y = np.diag(self.matrix)
            array = array[:: -1 if y < 0 else 1, :: -1 if x < 0 else 1]
        return np.ascontiguousarray(array)

    @cached_property
    def rgb(self) -> np.ndarray:
        """The whole frame, uint8 RGB (H, W, 3)."""
        return self._upright(self._converted("rgb24"))

    @cached_property
    def luma(self) -> np.ndarray:
        """The brightness alone, uint8 (H, W); 8-bit YCbCr needs no conversion for it."""
        if self.frame.format.name in GREY and self.width == self.frame.width:
            return self._upright(_plane(self.frame, 0))
        return self._upright(self._converted("gray8"))

    def reduced(self, height: int, width: int) -> np.ndarray:
        """Return the frame scaled in both directions, uint8 RGB (height, width, 3), converted after it is scaled."""
        height, width = (width, height) if self._transposed else (height, width)
        small = self.frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
        return self._upright(small.to_ndarray())

    def cut(self, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        """Return `rgb[y0:y1, x0:x1]` of a region within the frame, converting no more than it in plain 4:2:0."""
        height, width = self.shape
        if not self.is_upright or self.frame.format.name not in ("yuv420p", "yuvj420p") or height % 2 or width % 2:
            return self.rgb[y0:y1, x0:x1]
        left, top = ((max(0, low - BORDER)) // 2 * 2 for low in (x0, y0))
        right, bottom = (min(size, (high + BORDER + 1) // 2 * 2) for high, size in ((x1, width), (y1, height)))
        planes = [_plane(self.frame, 0)[top:bottom, left:right]]
        planes += [_plane(self.frame, i)[top // 2 : bottom // 2, left // 2 : right // 2] for i in (1, 2)]
        packed = np.concatenate([plane.ravel() for plane in planes]).reshape(-1, right - left)
        part = av.VideoFrame.from_ndarray(packed, format=self.frame.format.name)
        part.colorspace, part.color_range = self.frame.colorspace, self.frame.color_range
        return part.to_ndarray(format="rgb24")[y0 - top : y1 - top, x0 - left : x1 - left]


def _plane(frame: av.VideoFrame, number: int) -> np.ndarray:
    plane = frame.planes[number]
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


# ---- how it is shown ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """How a file's pictures are to be shown, besides what they carry themselves."""

    aspect: float = 1.0  # of a pixel's sides: width over height
    orientation: int | None = None  # of an image, by its EXIF; None for a video
    path: Path | None = None

    @classmethod
    def of(cls, path: Path | str, stream: av.video.stream.VideoStream) -> View:
        """Return the view of an open file; ValueError for pixels of an absurd shape."""
        aspect = float(stream.sample_aspect_ratio or 1)
        width, height = stream.codec_context.width, stream.codec_context.height
        if not 1 / MOST_ASPECT <= aspect <= MOST_ASPECT or aspect * width * height > MOST_PIXELS:
            raise ValueError(f"{path} has pixels {aspect:g} times as wide as high: convert it to square ones")
        return cls(aspect, _orientation(Path(path)), Path(path))

    def matrix(self, rotation: int) -> np.ndarray | None:
        """Return what turns and mirrors a picture of this `rotation` in degrees (2, 2): (x', y') = (x, y) M, None for nothing.

        PyAV 18.1 tells the rotation safely. The display matrix, which has the mirror as well, it reads with all other side
        data, and of those it doesn't know it crashes: in a child that we can do without, and then nothing is mirrored.
        """
        if self.orientation is not None:
            return None if self.orientation not in ORIENTATIONS else np.array(ORIENTATIONS[self.orientation])
        if not rotation:
            return None
        data = _display_matrix(self.path, self.path.stat().st_mtime_ns) if self.path else b""
        if len(data) == 36:
            return np.frombuffer(data, np.int32).reshape(3, 3)[:2, :2]
        return np.array(TURNS[round(rotation / 90) % 4])


TURNS = (((1, 0), (0, 1)), ((0, -1), (1, 0)), ((-1, 0), (0, -1)), ((0, 1), (-1, 0)))  # by quarters, against the clock
ORIENTATIONS = {  # of EXIF, but for 1, which is upright
    2: ((-1, 0), (0, 1)), 3: TURNS[2], 4: ((1, 0), (0, -1)), 5: ((0, 1), (1, 0)), 6: TURNS[3], 7: ((0, -1), (-1, 0)),
    8: TURNS[1],
}  # fmt: skip


def _orientation(path: Path) -> int | None:
    """Return the orientation that an image's EXIF gives, 1 where it gives none; None for a video."""
    if _image_format(path) is None:
        return None
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # of damaged EXIF
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # whatever is wrong with it, FFmpeg will say
        return 1


_READ_MATRIX = """
import sys, av
with av.open(sys.argv[1], options={"protocol_whitelist": "file"}) as container:
    print(bytes(next(container.decode(video=0)).side_data["DISPLAYMATRIX"]).hex())
"""


@lru_cache(maxsize=64)
def _display_matrix(path: Path, changed: int) -> bytes:
    command = [sys.executable, "-c", _READ_MATRIX, f"file:{path}"]
    try:
        return bytes.fromhex(subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip())
    except (subprocess.TimeoutExpired, ValueError):
        return b""


# ---- which frames -------------------------------------------------------------------------------------------------


class Packets(NamedTuple):
    """The packets of a video in the order of decoding, each one picture."""

    stamps: list[int | None]  # time of showing (pts)
    refresh: list[bool]  # nothing before it is needed after it
    quick: bool  # whether pictures may be left out
    hidden: int = 0  # further ones, which an edit list leaves out
    end: int | None = None  # time until which the last one is shown, where times are known
    damaged: int = 0  # of them, those that the container calls incomplete

    @property
    def shown(self) -> list[int]:
        """The stamps in the order of showing."""
        return sorted(self.stamps)


def scan(path: Path | str) -> Packets:
    """Read a video's packets without decoding any: what counts its frames, since headers may have none or lie.

    Raises FileNotFoundError, and ValueError for a damaged or empty video.
    """
    with open_video(path) as (container, stream):
        codec, extra = stream.codec_context.name, stream.codec_context.extradata or b""
        found, hidden, end, damaged = [], 0, None, 0
        for packet in container.demux(stream):
            hidden += bool(packet.size and packet.is_discard)
            if packet.size and not packet.is_discard:
                found.append((packet.pts, packet.is_keyframe and _is_refresh(bytes(packet), codec, extra)))
                damaged += bool(packet.is_corrupt)
                if packet.pts is not None:
                    end = max(packet.pts + (packet.duration or 0), packet.pts if end is None else end)
            if packet.size and (packet.is_discard or packet.is_corrupt):
                codec = ""  # hidden by an edit list, or cut off: what becomes of it is left to the decoder
    if not found:
        raise ValueError(f"{path} has no frames: download or build it again")
    stamps, refresh = map(list, zip(*found, strict=True))
    quick = codec in QUICK and None not in stamps and len(set(stamps)) == len(stamps)
    return Packets(stamps, refresh, quick, hidden, end, damaged)


def _is_refresh(data: bytes, codec: str, extra: bytes) -> bool:
    """Tell whether a packet of H.264 or H.265 holds an instant decoder refresh (ITU-T H.264 and H.265, section 7.4)."""
    if codec not in QUICK or (extra[:1] == b"\x01" and len(extra) <= LENGTH_AT[codec]):
        return False  # no such codec, or a damaged header
    if extra[:1] != b"\x01":  # Annex B: units follow start codes
        units = [part[:1] for part in data.split(b"\0\0\1")[1:]]
    else:
        length, position, units = extra[LENGTH_AT[codec]] % 4 + 1, 0, []
        while position < len(data):
            units.append(data[position + length : position + length + 1])
            position += length + int.from_bytes(data[position : position + length], "big")
    kinds = [unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63 for unit in units if unit]
    return any(kind in QUICK[codec] for kind in kinds)


def choose(count: int, step: int = 1, max_frames: int | None = None, sampling: str = "first") -> list[int]:
    """Return which of `count` frames are sampled: multiples of `step`, the first `max_frames` of them or that many "spread".

    Spread frames lie evenly from the first multiple to the last. Raises ValueError for settings that make no sense.
    """
    if step < 1 or (max_frames is not None and max_frames < 1):
        raise ValueError(f"step and max_frames must be at least 1, not {step} and {max_frames}")
    if sampling not in ("first", "spread"):
        raise ValueError(f"unknown sampling {sampling!r}: choose first or spread")
    multiples = range(0, count, step)
    if sampling == "first" or max_frames is None or max_frames >= len(multiples):
        return list(multiples[:max_frames])
    return [multiples[i] for i in np.linspace(0, len(multiples) - 1, max_frames).round().astype(int)]


def sample(
    path: Path | str, step: int = 1, max_frames: int | None = None, sampling: str = "first", threads: int = 1
) -> Iterator[tuple[int, Picture]]:
    """Yield (number, picture) of the frames that `choose` takes. Raises what `scan` and `choose` raise."""
    choose(0, step, max_frames, sampling)  # a bad request is told before the file is read
    packets = scan(path)
    yield from pictures_at(path, choose(len(packets.stamps), step, max_frames, sampling), packets, threads)


def pictures_at(
    path: Path | str, numbers: Collection[int], packets: Packets | None = None, threads: int = 1
) -> Iterator[tuple[int, Picture]]:
    """Yield (number, picture) of some frames, in order, those that the clip has. Raises what `scan` raises.

    With more than one thread, or where packets do not say which picture is which, every frame is decoded.
    """
    packets = packets or scan(path)
    wanted = sorted(set(numbers))
    if packets.quick and threads == 1:
        wanted = [number for number in wanted if number < len(packets.stamps)]
        for number, picture in _decode_needed(path, wanted, packets):
            if number != wanted[0]:
                break  # a packet gave no picture: count what is decoded instead
            del wanted[0]
            yield number, picture
    if wanted:
        yield from _decode_all(path, wanted, threads)


def _decode_needed(path: Path | str, wanted: list[int], packets: Packets) -> Iterator[tuple[int, Picture]]:
    shown = packets.shown
    number_of = {shown[number]: number for number in wanted}
    needed = _needed(packets, number_of)
    left = sum(needed)
    with open_video(path) as (container, stream):
        view = View.of(path, stream)
        for position, packet in enumerate(container.demux(stream)):
            if left == 0 or not packet.size:
                break
            if not needed[position]:
                continue
            left -= 1
            stream.codec_context.skip_frame = "DEFAULT" if packet.pts in number_of else "NONREF"
            yield from ((number_of[f.pts], Picture(f, view)) for f in packet.decode() if f.pts in number_of)
        yield from ((number_of[f.pts], Picture(f, view)) for f in stream.decode(None) if f.pts in number_of)


def _needed(packets: Packets, wanted: Collection[int]) -> list[bool]:
    """Tell of each packet whether a wanted picture of its group, or one after it, needs it."""
    needed, follows = [], False
    for stamp, refresh in zip(reversed(packets.stamps), reversed(packets.refresh), strict=True):
        follows = follows or stamp in wanted
        needed.append(follows)
        follows = follows and not refresh
    return needed[::-1]


def _decode_all(path: Path | str, wanted: list[int], threads: int) -> Iterator[tuple[int, Picture]]:
    left = set(wanted)
    with open_video(path, threads) as (container, stream):
        view = View.of(path, stream)
        for number, frame in enumerate(container.decode(stream)):
            if number in left:
                left.remove(number)
                yield number, Picture(frame, view)
            if not left:
                return

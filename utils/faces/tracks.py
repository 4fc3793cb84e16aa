"""Every face of anybody's video, each followed until it is lost or the picture cuts; what was damaged is counted.

`crops.py` follows the one face that a labelled clip is about. Here nobody says whom a video is about: all faces of a picture
are kept, and each belongs to a *track*, one person in one shot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from utils.config import FacesConfig
from utils.faces.crops import cut_out, square_box
from utils.faces.decode import Packets, Picture, choose, codec_of, open_video, pictures_at, scan
from utils.faces.detect import FaceFinder, iou

SMALL = 64  # px, side of the pictures that cuts are looked for in
MOST_FACES = 6000  # of one video: it is watched no further
TS_PACKETS = {188: 0, 192: 4, 204: 0}  # bytes of each -> where it begins: as such, behind a time, with a code behind it


@dataclass
class Track:
    """One face through one shot, picture by picture."""

    box: np.ndarray  # (4,) px, the last one
    missed: int = 0  # sampled pictures since it was last seen
    frames: list[int] = field(default_factory=list)
    squares: list[tuple[int, int, int, int]] = field(default_factory=list)  # (x0, y0, x1, y1) in px
    crops: list[np.ndarray] = field(default_factory=list)  # uint8 RGB (S, S, 3)


@dataclass
class Watched:
    """What was seen of a video: tracks in the order in which they began, and what could not be seen."""

    path: Path
    fps: float
    promised: int  # frames, by the header's count or by what its duration lacks; 0 where it says neither
    packets: int  # frames that the file holds
    asked: int  # pictures that were to be searched
    start: int | None = None  # when the first picture is shown, in ticks; None where the file says no times
    tick: float = 0.0  # s, of the file's clock
    shape: tuple[int, int] = (0, 0)  # height and width in px
    codec: str = ""  # that it was encoded by, in FFmpeg's words; "" where nobody knows
    sampled: list[int] = field(default_factory=list)  # numbers of the pictures that were searched
    times: dict[int, float] = field(default_factory=dict)  # s, when each of these is shown
    corrupt: list[int] = field(default_factory=list)  # of those that the decoder calls damaged, which are not searched
    cuts: list[int] = field(default_factory=list)  # of the first picture after each cut
    stopped: str = ""  # why reading ended early, "" where it did not
    tracks: list[Track] = field(default_factory=list)

    def shown_at(self, number: int, picture: Picture) -> float:
        """Return when a picture is shown, in s since the first: by its number where the rate is constant, else by its stamp."""
        even, stamp = number / self.fps, picture.frame.pts
        if self.start is None or stamp is None:
            return even
        shown = (stamp - self.start) * self.tick
        return even if abs(shown - even) < 1.5 * self.tick else shown

    @property
    def is_steady(self) -> bool:
        """Whether the sampled pictures are shown at a constant rate, but for less than a picture."""
        return all(abs(time - number / self.fps) * self.fps < 1 for number, time in self.times.items())


def watch(path: Path | str, config: FacesConfig, most: int | None = None, threads: int = 1, progress: str = "") -> Watched:
    """Look at every `frame_step`-th picture of a video, at most `most` spread over it, and return all faces in tracks.

    A video that breaks off is watched as far as it decodes. Raises what `scan` raises, and ValueError where not one of the
    sampled pictures decodes.
    """
    packets = scan(path)
    numbers = choose(len(packets.stamps), config.frame_step, most or config.max_frames, "spread" if most else config.sampling)
    seen = _about(path, packets, len(numbers))
    finder, crowd, cut = FaceFinder(config), Crowd(config.track_patience), Cuts(seen.fps)
    try:
        pictures = pictures_at(path, numbers, packets, threads)
        for number, picture in tqdm(pictures, progress, len(numbers), leave=False, disable=not progress, unit="frame"):
            seen.shape = picture.shape
            if picture.frame.is_corrupt:
                seen.corrupt.append(number)
                continue
            if sum(len(track.frames) for track in crowd.tracks) >= MOST_FACES:
                seen.asked = sum(one < number for one in numbers)  # of the others nobody knows whether they can be read
                seen.stopped = f"{path}: {MOST_FACES:,} faces were looked at, before picture {number}: cut it into parts"
                break
            seen.sampled.append(number)
            seen.times[number] = seen.shown_at(number, picture)
            if cut.before(number, picture):
                seen.cuts.append(number)
                crowd.leave()
            for track, box in crowd.follow(finder.detect(picture)):
                square = square_box(box, config.scale)
                track.frames.append(number)
                track.squares.append(square)
                track.crops.append(cut_out(picture, square, config))
    except ValueError as error:
        if not seen.sampled:
            raise
        seen.stopped = str(error)
    if not seen.stopped and _breaks_off(path):
        seen.stopped = f"{path}: it breaks off within a packet, and nobody knows how much is lacking"
    if not seen.sampled:
        raise ValueError(f"{path} has no frames that decode: download or build it again")
    seen.tracks = crowd.tracks
    return seen


def _about(path: Path | str, packets: Packets, asked: int) -> Watched:
    with open_video(path) as (container, stream):
        fps, held = float(stream.average_rate or stream.guessed_rate or 25), len(packets.stamps)
        promised = max(0, stream.frames - packets.hidden) if stream.frames else _by_duration(container, stream, packets, fps)
        promised = max(promised, held + _lost(packets) if packets.damaged else 0)
        start = next(iter(_shown(packets)), None)
        codec = codec_of(stream)
        return Watched(Path(path), fps, promised, held, asked, start, float(stream.time_base), codec=codec)


def _shown(packets: Packets) -> list[int]:
    """Return when the pictures of a file are shown, in ticks, in this order and each time once."""
    return sorted({stamp for stamp in packets.stamps if stamp is not None})


def _by_duration(container, stream, packets: Packets, fps: float) -> int:
    """Return how many frames a video would have if it went on to its end, 0 where nobody knows when that is.

    Sound may last longer: the duration of a whole file is compared with the last packet of all its streams. The last picture
    may be shown for as long as any other.
    """
    stamps, tick, held = _shown(packets), float(stream.time_base), len(packets.stamps)
    if not stamps:
        return 0
    gaps = tick * np.diff(stamps) if len(stamps) > 1 else np.array([1 / fps])
    usual, longest = max(tick, float(np.median(gaps))), float(gaps.max())
    end = max(tick * stamps[-1] + usual, tick * packets.end)
    whole, own = (container.duration or 0) / 1e6, _own_duration(stream)
    if own:
        whole = min(own, whole or own)
    elif stream.duration and stream.start_time is not None:
        whole = tick * (stream.start_time + stream.duration)
    elif len(container.streams) > 1:
        end = max(end, _end(container))
    if not whole:
        return 0
    if whole - end <= longest - usual / 2:
        return held
    rate = fps if abs(usual * fps - 1) < 0.05 else held / (tick * (stamps[-1] - stamps[0]) + usual)
    return max(held, round((whole - tick * stamps[0]) * rate))


def _lost(packets: Packets) -> int:
    """Return how many pictures lack where the times of a damaged file leap, if its pictures follow each other evenly."""
    gaps = np.diff(_shown(packets))
    if not len(gaps):
        return 0
    usual = float(np.median(gaps))
    even = np.abs(gaps - usual) < 0.1 * usual
    return int(np.round(gaps[~even] / usual - 1).clip(0).sum()) if even.mean() > 0.8 else 0


def _breaks_off(path: Path | str) -> bool:
    """Tell whether an MPEG transport stream ends within one of its packets, which all have one length (ISO/IEC 13818-1)."""
    with open(path, "rb") as file:
        head, size = file.read(3 * max(TS_PACKETS)), file.seek(0, 2)
    for length, first in TS_PACKETS.items():
        if head[first : first + 2 * length + 1 : length] == b"GGG":  # the byte by which each begins
            return size % length != 0
    return False


def _own_duration(stream) -> float:
    """Return the seconds of a stream that Matroska's writers note as a tag, 0 where they did not."""
    found = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return sum(float(part) * unit for part, unit in zip(found.groups(), (3600, 60, 1), strict=True)) if found else 0.0


def _end(container) -> float:
    """Return when the last packet of all streams ends in s, as far as they can be read."""
    end = 0.0
    with suppress(av.error.FFmpegError):
        for packet in container.demux():
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return end


class Crowd:
    """Says which face of a picture is which of those before: the pairing of largest overlap in all (Kuhn 1955)."""

    def __init__(self, patience: int):
        self.patience = patience
        self.tracks: list[Track] = []
        self.present: list[Track] = []

    def leave(self) -> None:
        """End all tracks: what comes is another shot."""
        self.present = []

    def follow(self, boxes: np.ndarray) -> Iterator[tuple[Track, np.ndarray]]:
        """Yield (track, box) of each of a picture's boxes (k, 4) in px; faces that nobody follows begin a track."""
        overlaps = np.array([iou(track.box, boxes) for track in self.present]).reshape(len(self.present), len(boxes))
        pairs = [(i, j) for i, j in zip(*linear_sum_assignment(-overlaps), strict=True) if overlaps[i, j] > 0]
        of_box = {j: self.present[i] for i, j in pairs}
        for track in self.present:
            track.missed += 1
        for j, box in enumerate(boxes):
            track = of_box.get(j)
            if track is None:
                track = Track(box)
                self.tracks.append(track)
                self.present.append(track)
            track.box, track.missed = box, 0
            yield track, box
        self.present = [track for track in self.present if track.missed < self.patience]


class Cuts:
    """Tells where the picture cuts, by PySceneDetect's change of hue, saturation and brightness between sampled pictures."""

    def __init__(self, fps: float):
        from scenedetect import ContentDetector, FrameTimecode  # takes a second: only for who watches

        self.detector, self.time = ContentDetector(min_scene_len=1), lambda number: FrameTimecode(number, fps)

    def before(self, number: int, picture: Picture) -> bool:
        """Tell whether there is a cut between the last picture and this one."""
        bgr = np.ascontiguousarray(picture.reduced(SMALL, SMALL)[..., ::-1])
        return bool(self.detector.process_frame(self.time(number), bgr))

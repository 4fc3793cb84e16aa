"""Every face of anybody's video, each followed until it is lost or the picture cuts; what was damaged is counted.

`crops.py` follows the one face that a labelled clip is about. Here nobody says whom a video is about: all faces of a picture
are kept, and each belongs to a *track*, one person in one shot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from utils.config import FacesConfig
from utils.faces.crops import cut_out, square_box
from utils.faces.decode import Picture, choose, open_video, pictures_at, scan
from utils.faces.detect import FaceFinder, iou

SMALL = 64  # px, side of the pictures that cuts are looked for in
MOST_FACES = 6000  # of one video: it is watched no further


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
    promised: int  # frames, by the header or by its duration; 0 where it says neither
    packets: int  # frames that the file holds
    asked: int  # pictures that were to be searched
    shape: tuple[int, int] = (0, 0)  # height and width in px
    sampled: list[int] = field(default_factory=list)  # numbers of the pictures that were searched
    corrupt: list[int] = field(default_factory=list)  # of those that the decoder calls damaged, which are not searched
    cuts: list[int] = field(default_factory=list)  # of the first picture after each cut
    stopped: str = ""  # why reading ended early, "" where it did not
    tracks: list[Track] = field(default_factory=list)


def watch(path: Path | str, config: FacesConfig, most: int | None = None, threads: int = 1, progress: str = "") -> Watched:
    """Look at every `frame_step`-th picture of a video, at most `most` spread over it, and return all faces in tracks.

    A video that breaks off is watched as far as it decodes. Raises what `scan` raises, and ValueError where not one of the
    sampled pictures decodes.
    """
    packets = scan(path)
    numbers = choose(len(packets.stamps), config.frame_step, most or config.max_frames, "spread" if most else config.sampling)
    fps, promised = _about(path)
    seen = Watched(Path(path), fps, max(0, promised - packets.hidden), len(packets.stamps), len(numbers))
    finder, crowd, cut = FaceFinder(config), Crowd(config.track_patience), Cuts(seen.fps)
    try:
        pictures = pictures_at(path, numbers, packets, threads)
        for number, picture in tqdm(pictures, progress, len(numbers), leave=False, disable=not progress, unit="frame"):
            seen.shape = picture.shape
            if picture.frame.is_corrupt:
                seen.corrupt.append(number)
                continue
            seen.sampled.append(number)
            if cut.before(number, picture):
                seen.cuts.append(number)
                crowd.leave()
            if sum(len(track.frames) for track in crowd.tracks) >= MOST_FACES:
                raise ValueError(f"{path}: {MOST_FACES:,} faces were looked at, before picture {number}: cut it into parts")
            for track, box in crowd.follow(finder.detect(picture)):
                square = square_box(box, config.scale)
                track.frames.append(number)
                track.squares.append(square)
                track.crops.append(cut_out(picture, square, config))
    except ValueError as error:
        if not seen.sampled:
            raise
        seen.stopped = str(error)
    if not seen.sampled:
        raise ValueError(f"{path} has no frames that decode: download or build it again")
    seen.tracks = crowd.tracks
    return seen


def _about(path: Path | str) -> tuple[float, int]:
    """Return the frame rate and how many frames a video promises, 0 where it promises none."""
    with open_video(path) as (container, stream):
        fps = float(stream.average_rate or stream.guessed_rate or 25)
        seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        return fps, stream.frames or round(seconds * fps)


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

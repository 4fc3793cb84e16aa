"""Speed of face extraction with each detector setting, against a plain dlib loop and against decoding alone.

    python benchmarks/extraction.py [--clip FILE ...] [--rounds 3] [--csv FILE] [--figure FILE] [--calibrate]

*Plain* is a loop that decodes every frame, converts the sampled ones to RGB, searches the whole of each with dlib's HOG,
cuts, and saves. *Decode* decodes every frame and converts the sampled ones. Every setting does what `extract_all` does to
one video: `together` holds its milliseconds a sampled frame from file to file, `read`, `detect`, `crop` and `write` those
of its parts alone. All on one thread, all in one run, in turns; the best round of each counts. Recall is the share of the
plain loop's faces that a setting finds, IoU how far its boxes agree with the plain ones.

Without `--clip` clips are made: people of SynthFF, enlarged before a noisy background, at 640x480, 1280x720 and 1920x1080.
`--calibrate` prints the values of `config.BLAZEFACE` in place of the table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import av
import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from tqdm import tqdm

from utils.config import BLAZEFACE, PLAIN_FACES, FacesConfig, get_profile
from utils.faces import cache, crops, detect, ffpp
from utils.faces.decode import choose, open_video, pictures_at, scan
from utils.faces.video import probe, read_frames
from utils.paths import atomic
from utils.results import style

SIZES = ((640, 480), (1280, 720), (1920, 1080))
FRAMES, PEOPLE = 250, 2  # of a clip; clips a size
OURS = FacesConfig(size=get_profile("ffpp").faces.size)  # every 5th frame, the same for all settings
PLAIN = replace(OURS, **PLAIN_FACES)
SETTINGS = {
    "HOG, whole frames": PLAIN,
    "HOG, 480 lines": replace(OURS, detect_every=1),
    "HOG, 480 lines, followed": OURS,
    "BlazeFace": replace(OURS, detector="blazeface", detect_every=1),
    "BlazeFace, followed": replace(OURS, detector="blazeface"),
}
PARTS = ("read", "detect", "crop", "write", "together")


# ---- clips --------------------------------------------------------------------------------------------------------


def make_clip(sources: Sequence[str], path: Path, width: int, height: int, count: int = FRAMES) -> Path:
    """Write a clip of so many frames: SynthFF clips side by side, there and back again, drifting before a noisy background.

    A single person takes 0.8 of the height, several have an equal part of the width each.
    """
    rng, people = np.random.default_rng(0), [read_frames(source)[1] for source in sources]
    corner = people[0][0][:32, :32]
    back = np.tile(corner, (-(-height // 32), -(-width // 32), 1))[:height, :width].astype(np.float32)
    back = back * 0.5 + 60 + cv2.GaussianBlur(rng.normal(0, 60, back.shape).astype(np.float32), (0, 0), 3)
    grain = rng.normal(0, 2, (2 * height, 2 * width, 1)).astype(np.float32)  # of a sensor
    side = min(round(0.8 * height), width // len(people) // 10 * 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "23", "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            frame = back.copy()
            for place, frames in enumerate(people):
                there_and_back = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
                person = frames[there_and_back[number % len(there_and_back)]]
                part = width // len(people)
                x, y = (round((size - side) / 2 * (1 + 0.2 * np.sin(number / 40))) for size in (part, height))
                x += place * part
                frame[y : y + side, x : x + side] = cv2.resize(person, (side, side), interpolation=cv2.INTER_CUBIC)
            dy, dx = rng.integers(0, (height, width))
            frame = (frame + grain[dy : dy + height, dx : dx + width]).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def made_clips(folder: Path) -> list[Path]:
    """Return clips of the first test people of SynthFF at each size."""
    index = ffpp.load_index(get_profile("synthff")).query("split == 'test' and label == 0 and quality == 'c23'")
    jobs = [(path, size) for size in SIZES for path in index["path"][:PEOPLE]]
    return [
        make_clip([path], folder / f"{size[0]}x{size[1]}" / Path(path).name, *size)
        for path, size in tqdm(jobs, desc="clips", unit="clip")
    ]


# ---- what is measured ---------------------------------------------------------------------------------------------


def decode_alone(clip: Path) -> int:
    """Decode every frame, convert the sampled ones; return how many these are."""
    with open_video(clip) as (container, stream):
        return sum(
            frame.to_ndarray(format="rgb24").size > 0
            for number, frame in enumerate(container.decode(stream))
            if number % OURS.frame_step == 0
        )


def plain_loop(clip: Path, folder: Path) -> list[np.ndarray | None]:
    """Do all of it in the simplest way; return the boxes."""
    track, boxes, faces = detect.FaceTrack(PLAIN.track_patience), [], []
    with open_video(clip) as (container, stream):
        for number, frame in enumerate(container.decode(stream)):
            if number % PLAIN.frame_step:
                continue
            picture = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
            boxes.append(track.choose(detect.detect_faces(picture, PLAIN.detector, PLAIN.upsample)))
            if boxes[-1] is not None:
                faces.append(crops.crop_face(picture, detect_square(boxes[-1]), PLAIN.size))
    np.savez(folder / "faces.npz", faces=np.stack(faces) if faces else np.empty(0))
    return boxes


def detect_square(box: np.ndarray) -> tuple[int, int, int, int]:
    return crops.square_box(box, OURS.scale)


def together(clip: Path, config: FacesConfig, folder: Path) -> None:
    """Do to one video what `extract_all` does."""
    count = len(choose(len(scan(clip).stamps), config.frame_step))
    slots = cache.allocate(folder, crops.settings_of(config), {}, {"clip": (count, None)})
    _, error = crops._extract_video(folder, "clip", slots["clip"], str(clip), "", config)
    if error:
        raise ValueError(error)


def apart(clip: Path, config: FacesConfig, folder: Path) -> tuple[dict[str, float], list[np.ndarray | None]]:
    """Return the seconds of each part alone, and the boxes."""
    seconds, numbers = {}, choose(len(scan(clip).stamps), config.frame_step)
    pictures = timed(seconds, "read", lambda: list(pictures_at(clip, numbers)))
    finder = detect.FaceFinder(config)
    boxes = timed(seconds, "detect", lambda: [finder.find(picture) for _, picture in pictures])
    found = [(picture, detect_square(box)) for (_, picture), box in zip(pictures, boxes, strict=True) if box is not None]
    cut = crops.crop_picture if config.convert == "crop" else lambda picture, *how: crops.crop_face(picture.rgb, *how)
    faces = timed(seconds, "crop", lambda: [cut(picture, square, config.size) for picture, square in found])
    slots = cache.allocate(folder, crops.settings_of(config), {}, {"clip": (len(faces), None)})

    def write() -> None:
        with cache.SlotWriter(folder, slots["clip"], config.size) as writer:
            for face in faces:
                writer.add(face)

    timed(seconds, "write", write)
    return seconds, boxes


def timed(seconds: dict[str, float], name: str, work: Callable):
    """Do `work`, note the seconds it takes under `name`, and return its result."""
    began = time.perf_counter()
    result = work()
    seconds[name] = time.perf_counter() - began
    return result


def measure(clip: Path, rounds: int, folder: Path) -> pd.DataFrame:
    """Return one row a setting for one clip: the best seconds of everything, and how its boxes agree with the plain ones."""
    best: dict[tuple[str, str], float] = {}
    boxes: dict[str, list] = {}
    for _ in range(rounds):
        seconds: dict[str, dict[str, float]] = {"decode": {}, "plain": {}}
        sampled = timed(seconds["decode"], "together", lambda: decode_alone(clip))
        boxes["plain"] = timed(seconds["plain"], "together", lambda: plain_loop(clip, folder))
        for name, config in SETTINGS.items():
            seconds[name], boxes[name] = apart(clip, config, folder)
            timed(seconds[name], "together", lambda config=config: together(clip, config, folder))
        for name, parts in seconds.items():
            for part, value in parts.items():
                best[name, part] = min(value, best.get((name, part), np.inf))
    facts, rows = probe(clip), []
    for name in ("decode", "plain", *SETTINGS):
        both = list(zip(boxes["plain"], boxes.get(name, [None] * sampled), strict=True))
        overlaps = [detect.iou(a, b[None])[0] for a, b in both if a is not None and b is not None]
        agreement = {"faces": sum(a is not None for a, _ in both), "again": len(overlaps), "overlap": sum(overlaps)}
        about = {"size": f"{facts['width']}x{facts['height']}", "lines": facts["height"], "setting": name, "sampled": sampled}
        rows.append(about | agreement | {part: best.get((name, part), np.nan) for part in PARTS})
    return pd.DataFrame(rows)


def summarise(measured: pd.DataFrame) -> pd.DataFrame:
    """Return one row a size and setting: milliseconds, sampled frames a second and core, ratios, recall, IoU."""
    keys = ["lines", "size", "setting"]
    total = measured.groupby(keys, sort=False).sum(min_count=1).reset_index().sort_values("lines", kind="stable")
    table = total[["size", "setting", "sampled"]].copy()
    for part in PARTS:
        table[f"{part}_ms"] = 1000 * total[part] / total["sampled"]
    table["per_second"] = 1000 / table["together_ms"]
    for name in ("plain", "decode"):
        base = table[table["setting"] == name].set_index("size")["per_second"]
        table[f"to_{name}"] = table["per_second"] / table["size"].map(base)
    table["recall"] = total["again"] / total["faces"]
    table["iou"] = total["overlap"] / total["again"]
    table.loc[table["setting"] == "decode", ["recall", "iou"]] = np.nan
    return table


def draw(table: pd.DataFrame) -> plt.Figure:
    """Return a figure of sampled frames a second and core by setting, one panel a size, with decoding alone as a line."""
    sizes = list(table["size"].unique())
    fig, axes = plt.subplots(1, len(sizes), figsize=(style.PAGE, 2.2), sharey=True, squeeze=False)
    for ax, size in zip(axes[0], sizes, strict=True):
        part = table[table["size"] == size].set_index("setting")
        bars = part.drop(index="decode")["per_second"].iloc[::-1]
        ax.barh(bars.index, bars, color=[style.shade(place, len(bars)) for place in range(len(bars))])
        ax.axvline(part.loc["decode", "per_second"], **style.THRESHOLD_LINE)
        ax.set(title=size.replace("x", " x "), xlabel="sampled frames / s / core")
    fig.suptitle("Face extraction; dashed: decoding alone", fontsize="medium")
    return fig


# ---- BlazeFace's boxes --------------------------------------------------------------------------------------------


def calibrate(clips: list[Path]) -> pd.DataFrame:
    """Return how dlib's plain boxes lie to BlazeFace's raw ones where both find one face: shift and scale, all and by clip."""
    rows, blazeface = [], detect.load_detector("blazeface")
    for clip in tqdm(clips, unit="clip"):
        for number, picture in pictures_at(clip, range(0, probe(clip)["frames"], OURS.frame_step)):
            dlib_boxes = detect.detect_faces(picture.rgb, PLAIN.detector, PLAIN.upsample)
            small = picture.reduced(*blazeface.fit(*picture.shape))
            boxes = blazeface(small, calibrate=False) * (picture.shape[0] / small.shape[0])
            if len(dlib_boxes) == len(boxes) == 1 and detect.iou(boxes[0], dlib_boxes)[0] > 0.3:
                size, theirs = boxes[0, 2:] - boxes[0, :2], dlib_boxes[0]
                right, down = (theirs[:2] + theirs[2:] - boxes[0, :2] - boxes[0, 2:]) / 2 / size
                rows.append((str(clip), number, right, down, (theirs[2:] - theirs[:2]).mean() / size.mean()))
    table = pd.DataFrame(rows, columns=["clip", "frame", "right", "down", "scale"]).drop(columns="frame")
    by_clip = table.groupby("clip", sort=False).agg("median")
    return pd.concat([by_clip, by_clip.mean().rename("all: mean of the clips' medians").to_frame().T])


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of face extraction against a plain loop and against decoding.")
    parser.add_argument("--clip", type=Path, nargs="+", default=[], help="videos with faces (default: made from SynthFF)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--calibrate", action="store_true", help="fit config.BLAZEFACE instead")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        clips = arguments.clip or made_clips(Path(folder))
        if arguments.calibrate:
            print(calibrate(clips).round(3).to_string(), f"in use: {BLAZEFACE}", sep="\n")
            return
        tables = [measure(clip, arguments.rounds, Path(folder)) for clip in tqdm(clips, desc="measured", unit="clip")]
    table = summarise(pd.concat(tables))
    print(table.round(2).to_string(index=False))
    if arguments.csv:
        with atomic(arguments.csv) as file:
            table.round(3).to_csv(file, index=False)
    if arguments.figure:
        style.save_figure(draw(table), arguments.figure)


if __name__ == "__main__":
    main()

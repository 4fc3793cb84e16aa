"""Speed of the instrument: how much faster than it plays a video is scored, from the file to the verdicts.

    python benchmarks/instrument.py [--rounds 3] [--threads 1] [--seconds 10] [--csv FILE]

Clips are made of people of SynthFF: one and two of them before a noisy background at 1280x720, and one at 256x256, all at 25
frames a second. *Verdicts* is all that `utils.run.score` does to a video with the model that comes with the repository:
decoding, detection in every 5th picture, cuts and tracks, the network, the verdict on each track. *Verdicts and files* adds
what `--out` writes: the annotated video, faces with Grad-CAM, JSON. The start of Python and reading the model, which a command
does once for all its videos, are told beside it. The best of the rounds counts; `cpu_seconds` are the processor's own in it,
which other work on the machine prolongs less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib
import pandas as pd
import torch
from extraction import make_clip
from tqdm import tqdm

from utils.config import SHIPPED
from utils.faces.layout import video_path
from utils.learn.checkpoints import git_commit
from utils.learn.packaged import Packaged, load_packaged, packaged_folder
from utils.learn.precision import cpu_kind
from utils.paths import SYNTHFF, atomic
from utils.run import score

FPS, PRIOR = 25, 0.5
PEOPLE = [video_path(SYNTHFF[1], "original", "c23", name) for name in ("270", "271")]  # of the split test
CLIPS = {(1280, 720): (1, 2), (256, 256): (1,)}  # px -> how many people


def made_clips(folder: Path, seconds: float) -> list[Path]:
    """Write the clips of `CLIPS`, so many seconds each, and return them."""
    asked = [(sides, people) for sides, counts in CLIPS.items() for people in counts]
    return [
        make_clip(PEOPLE[:people], folder / f"{sides[0]}x{sides[1]}, {people}.mp4", *sides, round(seconds * FPS))
        for sides, people in tqdm(asked, desc="clips", unit="clip", leave=False)
    ]


def measure(clip: Path, model: Packaged, rounds: int, out: Path) -> list[dict]:
    """Return a row of what was done to a clip, and of that with its files."""
    seen, verdicts = score.score(clip, model, PRIOR)  # warms up
    ways: dict[str, Callable[[], object]] = {
        "verdicts": lambda: score.score(clip, model, PRIOR),
        "verdicts and files": lambda: score.write(*score.score(clip, model, PRIOR), model, out, PRIOR, progress=False),
    }
    length, rows = seen.packets / seen.fps, []
    for what, do in ways.items():
        seconds, own = min(timed(do) for _ in range(rounds))
        rows.append({
            "what": what, "size": f"{seen.shape[1]}x{seen.shape[0]}", "fps": seen.fps, "video_s": length,
            "every": model.faces.frame_step, "pictures": len(seen.sampled), "people": len(verdicts),
            "faces": sum(one.found for one in verdicts), "seconds": seconds, "cpu_seconds": own,
            "times_real_time": length / seconds,
        })  # fmt: skip
    return rows


def timed(do: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of a call, and the processor's own in it."""
    began, own = time.perf_counter(), time.process_time()
    do()
    return time.perf_counter() - began, time.process_time() - own


def main() -> None:
    parser = argparse.ArgumentParser(description="How much faster than it plays the instrument scores a video.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10, help="of each clip")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    matplotlib.use("Agg")
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    began = time.perf_counter()
    model = load_packaged(packaged_folder(SHIPPED))
    print(f"reading the model took {time.perf_counter() - began:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        clips = made_clips(Path(folder), arguments.seconds)
        rows = [row for clip in tqdm(clips) for row in measure(clip, model, arguments.rounds, Path(folder) / "out")]
    about = {"cpu": cpu_kind(), "threads": arguments.threads, "commit": git_commit()}
    table = pd.DataFrame(rows).assign(**about)
    print(table.to_string(index=False, float_format="%.4g"))
    if arguments.csv:
        with atomic(arguments.csv) as file:
            table.to_csv(file, index=False, float_format="%.4g", lineterminator="\n")


if __name__ == "__main__":
    main()

"""What a profile asks for, before anything runs: fits, steps, images, hours and disk, part by part.

    python -m utils.run.plan [--profile ffpp] [--seeds 0] [--rates FILE]        # make plan PROFILE=ffpp

Counts come from the grid's own tasks and from the tree's index (without a tree: from FF++'s official sizes); a fit counts in
the first part that needs it. Hours come from measured rates (`benchmarks/rates.csv`), each task on one core or GPU.
"""

from __future__ import annotations

import argparse
import heapq
import os
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from utils.config import PROFILES, Profile, SynthFFConfig, get_profile
from utils.faces import ffpp
from utils.learn.precision import cpu_kind
from utils.run import costs
from utils.run.arguments import at_least
from utils.run.grid import GROUPS, MAIN, Task, groups_of, missing, tasks

PEOPLE = {"train": 720, "val": 140, "test": 140}  # of FF++'s official splits (Rössler et al. 2019, section 3)
FRAMES = 500  # a clip of FF++ (Rössler et al. 2019: 1.8 million pictures of 4,000 fakes, and their originals)
SCORE_BYTES = 8  # of a face's line in a gzipped table of scores
CORES_PER_GPU = 16  # that extract faces beside each GPU
WIDTH = 100  # characters of a line
HEADINGS = ("part", "done", "fits", "steps", "images", "scored", "GB")


@dataclass(frozen=True)
class Faces:
    """Sampled faces of one quality by split, in how many videos of all qualities; `known` where the tree was read."""

    by_split: dict[str, int]
    train_people: int
    videos: int
    known: bool


@dataclass
class Part:
    """One line: what it needs, and for each task its fits' seconds on a CPU core and on a GPU (None: not measured)."""

    name: str
    done: str
    fits: int = 0
    steps: int = 0
    images: int = 0  # through forward and backward passes
    scored: int = 0  # through forward passes alone: validation, pseudo-labels, scores
    bytes: int = 0
    on_cpu: list | None = None  # (seconds, is an estimate) a task
    on_gpu: list | None = None
    extracts: bool = False  # on the cores, beside a GPU too


def count_faces(profile: Profile) -> Faces:
    """Return how many faces a profile's tree gives at most, each sampled frame one."""
    clip = SynthFFConfig().frames if profile.data.name == "SynthFF" else FRAMES
    frames = min(-(-clip // profile.faces.frame_step), profile.faces.max_frames or clip)
    try:
        index = ffpp.plan_index(profile)  # what will be made is not made for a plan
        clips = index.drop_duplicates(["split", "method", "video_id"]).groupby("split").size().to_dict()
        people, videos, known = index.loc[index["split"] == "train", "target"].nunique(), len(index), True
    except FileNotFoundError:
        counts = {split: 2 * len(pairs) for split, pairs in _splits(profile).items()} or PEOPLE
        clips = {split: count * (1 + len(profile.data.methods)) for split, count in counts.items()}
        people, videos, known = counts["train"], len(profile.data.qualities) * sum(clips.values()), False
    return Faces({split: frames * count for split, count in clips.items()}, people, videos, known)


def _splits(profile: Profile) -> ffpp.Splits:
    try:
        return ffpp.load_splits(profile.data.root)
    except FileNotFoundError:
        return {}


def make_plan(profile: Profile, faces: Faces, cpu: costs.Rates, gpu: costs.Rates, seeds: Sequence[int] = ()) -> list[Part]:
    """Return the parts in the order in which they run: `main_job` of the profile first, what else the grid holds after it."""
    main = groups_of(profile, [MAIN])
    seen: set[tuple[str, str]] = set()
    scored: Counter[tuple[str, int]] = Counter()
    groups = [*main, *(name for name in GROUPS if name not in main)]
    parts = [_group_part(profile, tasks(profile, name, seeds), name, faces, cpu, gpu, seen, scored) for name in groups]
    return [*_data_parts(profile, faces, cpu), *parts, _scoring_part(profile, faces, scored, cpu, gpu)]


def _data_parts(profile: Profile, faces: Faces, cpu: costs.Rates) -> list[Part]:
    frames = len(profile.data.qualities) * sum(faces.by_split.values())
    finished = "yes" if (profile.workspace.faces / "faces.json").is_file() else "no"
    index, extract = (cpu.per_second(work, name) for work, name in ((costs.INDEX, ""), (costs.EXTRACT, profile.faces.detector)))
    return [
        Part("index", "", on_cpu=[(faces.videos / index[0], index[1])] if index else None, extracts=True),
        Part(
            "extraction", finished, scored=frames, bytes=frames * 3 * profile.faces.size**2, extracts=True,
            on_cpu=[(frames / faces.videos / extract[0], extract[1])] * faces.videos if extract else None,
        ),
    ]  # fmt: skip


def _group_part(profile, todo, name, faces: Faces, cpu, gpu, seen: set, scored: Counter) -> Part:
    """Return the line of a group, without the runs in `seen`; add its own to `seen`, and to `scored` by network and side."""
    part = Part(name, f"{_done(profile, todo, faces)}/{len(todo)}", on_cpu=[], on_gpu=[])
    for task in todo:
        new = [fit for fit in costs.fits(profile, task, faces.train_people) if (fit.experiment, fit.run) not in seen]
        seen |= {(fit.experiment, fit.run) for fit in new}
        scored.update((fit.model, fit.px) for fit in new)
        looked = {fit: _looked_at(profile, fit, faces) for fit in new}
        part.fits += len(new)
        part.steps += sum(fit.steps for fit in new)
        part.images += sum(fit.steps * fit.images for fit in new)
        part.scored += sum(looked.values())
        part.bytes += sum(4 * costs.parameters(fit.model) for fit in new)
        for rates, found in ((cpu, part.on_cpu), (gpu, part.on_gpu)):
            found.append(_sum([_seconds(fit, count, rates) for fit, count in looked.items()]))
    return part


def _done(profile: Profile, todo: Sequence[Task], faces: Faces) -> int:
    """Return how many tasks have their results; for a profile that repeats another: on this machine."""
    if not profile.repeat_of:
        return len(todo) - len(missing(profile, todo))
    return sum(
        all((costs.folder(profile, fit) / "result.json").is_file() for fit in costs.fits(profile, task, faces.train_people))
        for task in todo
    )


def _looked_at(profile: Profile, fit: costs.Fit, faces: Faces) -> int:
    """Return how many faces a fit looks at without learning: at each validation, and of the pool that its teacher labels."""
    val = fit.views * faces.by_split.get("val", 0) // profile.train.val_every
    pool = round(fit.pool * faces.by_split.get("train", 0)) * fit.labelled
    return costs.validations(profile, fit) * val + pool


def _seconds(fit: costs.Fit, looked_at: int, rates: costs.Rates) -> tuple[float, bool] | None:
    inferred = rates.per_second(costs.INFER, fit.model, fit.px)
    return _sum([costs.seconds(fit, rates), (looked_at / inferred[0], inferred[1]) if inferred else None])


def _sum(times: list) -> tuple[float, bool] | None:
    """Add (seconds, is an estimate): unknown where one is, an estimate where one is."""
    if any(time is None for time in times):
        return None
    return sum(time[0] for time in times), any(time[1] for time in times)


def _scoring_part(profile: Profile, faces: Faces, scored: Counter, cpu, gpu) -> Part:
    held_out = len(profile.data.qualities) * sum(n for split, n in faces.by_split.items() if split in ffpp.HELD_OUT)
    part = Part("scoring", "", scored=held_out * sum(scored.values()), on_cpu=[], on_gpu=[])
    part.bytes = SCORE_BYTES * part.scored
    for (model, px), runs in scored.items():
        for rates, found in ((cpu, part.on_cpu), (gpu, part.on_gpu)):
            rate = rates.per_second(costs.INFER, model, px)
            found += [(held_out / rate[0], rate[1]) if rate else None] * runs
    return part


def makespan(times: Sequence[float], workers: int) -> float:
    """Return when the last task ends where each of `workers` takes the next one as soon as it is free."""
    free = [0.0] * workers
    for time in times:
        heapq.heapreplace(free, free[0] + time)
    return max(free)


def hours(part: Part, workers: int, on_gpu: bool) -> str:
    """Return the hours of a part on so many cores or GPUs: "1.2", "~1.2" for an estimate by FLOPs, "?" if not measured."""
    times = part.on_gpu if on_gpu and not part.extracts else part.on_cpu
    if on_gpu and part.extracts:
        workers *= CORES_PER_GPU
    if times is None or any(time is None for time in times):
        return "?"
    taken = makespan([seconds for seconds, _ in times], 1 if part.name == "index" else workers) / 3600
    return ("~" if any(estimated for _, estimated in times) else "") + _number(taken)


def _number(value: float) -> str:
    """Return a number in about three digits, large ones with k, M or G."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            value, name = (value / 1e3, "k") if name == "k" else (value / size, name)
            return f"{value:.1f}{name}" if value < 100 else f"{value:.0f}{name}"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def table(parts: list[Part]) -> pd.DataFrame:
    """Return the plan as text, one line a part, hours for five kinds of machine."""
    cores = os.cpu_count()
    machines = {f"here ({cores})": (cores, False), "2 cores": (2, False), "16 cores": (16, False)}
    machines |= {"1 GPU": (1, True), "8 GPUs": (8, True)}
    rows = []
    for part in parts:
        counts = [_number(n) if n else "" for n in (part.fits, part.steps, part.images, part.scored)]
        row = dict(zip(HEADINGS, [part.name, part.done, *counts, _number(part.bytes / 1e9) if part.bytes else ""], strict=True))
        rows.append(row | {name: hours(part, *machine) for name, machine in machines.items()})
    return pd.DataFrame(rows)


def notes(profile: Profile, parts: list[Part], faces: Faces, cpu: costs.Rates, gpu: costs.Rates) -> list[str]:
    """Return what the table assumes, a few lines."""
    tree = f"the tree at {profile.data.root}" if faces.known else f"no tree at {profile.data.root}: FF++'s official splits"
    other = "" if cpu.machine == cpu_kind() else f" (this machine is {cpu_kind()})"
    gigabytes = _number(sum(part.bytes for part in parts) / 1e9)
    lines = [
        f"Counts: {tree}, a face in every sampled frame; no fit stops early; {gigabytes} GB in all; main job: "
        f"{', '.join(profile.main_job)}.",
        f"Hours are estimates: one core of {cpu.machine or 'no CPU measured'}{other} times the cores, a task a core; "
        f"{CORES_PER_GPU} cores extract beside each GPU. Passes of the networks alone: noise and reading come on top. "
        "~: scaled by FLOPs.",
    ]
    lines.append(f"GPU: {gpu.machine}." if gpu.machine else "GPU: not measured on a GPU.")
    if any("?" in text for text in table(parts).iloc[:, len(HEADINGS) :].stack()):
        lines.append("?: not measured; `.venv/bin/python benchmarks/rates.py` measures it in minutes (`--device cuda`: a GPU).")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.run.plan", description="What a profile asks for, before it runs.")
    parser.add_argument("--profile", default="ffpp", choices=sorted(PROFILES))
    parser.add_argument("--seeds", nargs="+", type=at_least(0), default=(), help="default: those of each group in the profile")
    parser.add_argument("--rates", type=Path, help="table of measured rates (default: benchmarks/rates.csv)")
    arguments = parser.parse_args()
    try:
        profile = get_profile(arguments.profile)
        cpu, gpu = costs.load_rates(costs.CPU, cpu_kind(), arguments.rates), costs.load_rates(costs.CUDA, "", arguments.rates)
        faces = count_faces(profile)
        parts = make_plan(profile, faces, cpu, gpu, arguments.seeds)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{profile.name}: {profile.data.name}, hours by part\n\n{table(parts).to_string(index=False)}\n")
    for line in notes(profile, parts, faces, cpu, gpu):
        print(textwrap.fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False))


if __name__ == "__main__":
    main()

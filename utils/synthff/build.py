"""Build SynthFF: choose people, warm NeuralTextures up, then render, reenact and encode one identity after the other.

`make synthff` (`python -m utils.synthff`) makes what is missing and leaves what is there, `make pool` the people without
labels of the second release. Each identity owes five files: its real clip and its fake at both qualities, and the mask of
the changed region. They stay where a row below `build/` says that this machine made them, in this tree and by these settings:
a fresh clone has no rows, and renders anew what is committed, to the same frames. What lies in the tree beside clips is not
asked who made it: `people.json` (but for its seed and limit) and the renderers' starts.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch._dynamo  # noqa: F401  before the first GL context: Mesa's LLVM and torch's crash each other otherwise
from joblib import Parallel, delayed
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from utils.config import SynthFFConfig
from utils.faces.splits import POOL
from utils.paths import ROOT, atomic
from utils.synthff import assets, neural_textures
from utils.synthff.card import write_card
from utils.synthff.encode import encode, loss, through_platform
from utils.synthff.people import Target, candidate_seed, choose_people, measure_people, measure_pool, plan, single_thread
from utils.synthff.shot import Shot, render_shot

WORK = ROOT / "build"  # metadata rows while the build runs, by tree
METHOD = "NeuralTextures"
FIRST_OF_POOL, POOL_CANDIDATES = 1000, 50_000  # its first video id, and its first candidate


def files_of(root: Path, target: Target, config: SynthFFConfig) -> dict[tuple[str, str], Path]:
    """Return where an identity's five files go, by (method, quality)."""
    real, fake = root / "original_sequences" / "youtube", root / "manipulated_sequences" / METHOD
    out = {("original", q): real / q / "videos" / f"{target.video_id}.mp4" for q in config.crf}
    out |= {(METHOD, q): fake / q / "videos" / f"{target.fake_id}.mp4" for q in config.crf}
    return out | {("mask", ""): fake / "masks" / "videos" / f"{target.fake_id}.mp4"}


def frames_hash(frames: np.ndarray) -> str:
    """Return the first 16 digits of the SHA-256 of frames before encoding."""
    return hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()[:16]


def shoot(target: Target, config: SynthFFConfig, frames: int | None = None) -> Shot:
    """Render an identity's real clip, or its first `frames`, and let it go through what comes before a manipulation."""
    shot = render_shot(target.seed, target.source_seed, config, target.style, target.extra, frames)
    if config.platform is None:
        return shot
    rng = np.random.default_rng([target.seed, 17])
    pictures, history = through_platform(shot.frames, config.platform, rng, config.fps)
    return replace(shot, frames=pictures, recipe=shot.recipe | history)


def start_of(root: Path, renderer: str) -> Path:
    """Return where a renderer's warm start lies."""
    return root / f"{renderer}.safetensors"


def row_file(root: Path, target: Target) -> Path:
    """Return where the metadata rows of an identity are kept while a tree is built, apart from those of all other trees."""
    return WORK / f"{root.name}-{_digest(str(root.resolve()))}" / "rows" / f"{target.fake_id}.json"


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def build_identity(target: Target, root: Path, config: SynthFFConfig) -> list[dict]:
    """Make one identity's five files and return its metadata rows; does nothing but read them where they are complete.

    Rows that were made by other settings, or of another person, are made anew with their files.
    """
    single_thread()
    files, kept, settings = files_of(root, target, config), row_file(root, target), _digest([asdict(config), asdict(target)])
    renderer = config.renderers[target.renderer]
    if kept.is_file() and all(path.is_file() for path in files.values()):
        known = json.loads(kept.read_text())
        if known["settings"] == settings:
            return known["rows"]
    kept.unlink(missing_ok=True)  # before the first file becomes another
    began = time.perf_counter()
    shot = shoot(target, config)
    clip = neural_textures.prepare(shot.frames, shot.uv, shot.uv_source, renderer.crop)
    fake, l1 = neural_textures.reenact(clip, read_start(root, target.renderer), renderer, target.seed % 2**31)
    masks = np.stack([neural_textures.soft_mask(region, renderer.feather) > 0 for region in clip.region])
    equal = float((shot.frames[~masks] == fake[~masks]).all(-1).mean())
    if equal < 1:
        raise RuntimeError(f"{target.fake_id}: the fake differs from the original outside its mask")
    several = len(config.renderers) > 1  # else there is nothing to tell
    rows = []
    for (kind, quality), path in files.items():
        if kind == "mask":
            continue
        frames, faked = (shot.frames, False) if kind == "original" else (fake, True)
        with atomic(path) as temporary:
            encode(frames, temporary, config.crf[quality], config.fps)
            psnr, ssim, psnr_outside = loss(temporary, frames, masks)
        rows.append(dict(
            video_id=target.fake_id if faked else target.video_id, method=kind, quality=quality, label=int(faked),
            target=target.video_id, source=target.source_id if faked else "", **shot.recipe,
            mouth_seed=target.source_seed if faked else target.seed,
            **({"renderer": target.renderer if faked else ""} if several else {}),
            tune_steps=renderer.tune_steps if faked else None,
            l1=round(l1, 5) if faked else None, outside_equal=equal if faked else None,
            frames=len(frames), width=frames.shape[2], height=frames.shape[1], fps=config.fps, crf=config.crf[quality],
            bytes=path.stat().st_size, psnr=round(psnr, 3), ssim=round(ssim, 4), psnr_outside=round(psnr_outside, 3),
            sha256=frames_hash(frames),
        ))  # fmt: skip
    with atomic(files["mask", ""]) as temporary:
        encode(np.repeat(masks[..., None].astype(np.uint8) * 255, 3, 3), temporary, config.mask_crf, config.fps)
    rows = [row | dict(seconds=round(time.perf_counter() - began, 1)) for row in rows]
    with atomic(kept) as temporary:
        temporary.write_text(json.dumps({"settings": settings, "rows": rows}))
    return rows


def _warm_shot(k: int, config: SynthFFConfig) -> Shot:
    single_thread()
    seeds = candidate_seed(config, k - 1000), candidate_seed(config, k - 500)  # outside the data set
    target = Target("", "", "", *seeds)
    return shoot(target, replace(config, frames=config.warm_frames))


def _warm_up(root: Path, renderer: str, shots: list[Shot], config: SynthFFConfig) -> None:
    single_thread()  # more threads would sum in another order
    settings = config.renderers[renderer]
    clips = [neural_textures.prepare(shot.frames, shot.uv, shot.uv_source, settings.crop) for shot in shots]
    show = lambda steps: tqdm(steps, desc=renderer)  # noqa: E731
    state = neural_textures.warm_start(clips, settings, config.seed, show).state()
    if config.release > 1:  # eight of them: half the bytes
        state = {name: value.half() for name, value in state.items()}
    with atomic(start_of(root, renderer)) as temporary:
        save_file(state, temporary)


def ensure_warm_starts(root: Path, config: SynthFFConfig, jobs: int) -> None:
    """Train the start of each renderer on people outside the data set, once."""
    missing = [name for name in config.renderers if not start_of(root, name).is_file()]
    if missing:
        shots = Parallel(n_jobs=jobs)(delayed(_warm_shot)(k, config) for k in range(config.warm_people))
        Parallel(n_jobs=min(jobs, len(missing)))(delayed(_warm_up)(root, name, shots, config) for name in missing)


def read_start(root: Path, renderer: str) -> dict[str, torch.Tensor]:
    """Return a renderer's warm start in float32."""
    return {name: value.float() for name, value in load_file(start_of(root, renderer)).items()}


def prepare(root: Path, config: SynthFFConfig, jobs: int) -> tuple[list[Target], dict]:
    """Choose and pair the people; returns every target and the splits."""
    assets.require(config.release)
    count = 2 * (sum(config.pairs.values()) + sum(config.hard_pairs.values()))
    return plan(config, choose_people(root / "people.json", config, count, jobs))


def prepare_pool(config: SynthFFConfig) -> tuple[list[Target], dict]:
    """Draw and pair the people of the pool: other people than those with labels, but nobody asks whom they look like."""
    seeds = [candidate_seed(config, POOL_CANDIDATES + k) for k in range(2 * config.pool)]
    return plan(pool_config(config), seeds, FIRST_OF_POOL)


def pool_config(config: SynthFFConfig) -> SynthFFConfig:
    """Return the settings of the pool's clips: shorter ones, of one split."""
    return replace(config, pairs={POOL: config.pool}, hard_pairs={}, frames=config.pool_frames)


def build(root: Path, config: SynthFFConfig, jobs: int = 2, only: list[str] | None = None) -> None:
    """Build the data set below `root`, resuming where it stopped; `only` limits it to some video ids."""
    targets, splits = prepare(root, config, jobs)
    rows = _make(root, config, targets, splits, jobs, only)
    if only is None:
        write_metadata(root / "metadata.csv", root / "build_time.json", rows, jobs)
        measure_people(root / "people.json", config, jobs)
        write_card(root, config)


def build_pool(root: Path, config: SynthFFConfig, jobs: int = 2, only: list[str] | None = None) -> None:
    """Build the people without labels beside the data set, resuming where it stopped; `only` limits it to some video ids.

    Raises ValueError for a release that has no pool.
    """
    if not config.pool:
        raise ValueError(f"release {config.release} has no pool of people without labels")
    assets.require(config.release)
    targets, splits = prepare_pool(config)
    rows = _make(root, pool_config(config), targets, splits, jobs, only)
    if only is None:
        write_metadata(root / "pool.csv", root / "pool_time.json", rows, jobs)
        held_out = [target.seed for target in prepare(root, config, jobs)[0] if target.split != "train"]
        measure_pool(root / "pool_people.json", config, [target.seed for target in targets], held_out, jobs)
        write_card(root, config)


def first_of_pool(config: SynthFFConfig, people: int) -> list[str]:
    """Return the video ids of the first people of a release's pool, in whole pairs.

    Raises ValueError for a release without a pool, an odd number, or more people than there are.
    """
    if not 0 < people <= 2 * config.pool or people % 2:
        raise ValueError(f"{people} people of a pool of {2 * config.pool}: whole pairs are needed, no more than there are")
    return [f"{number:03d}" for number in range(FIRST_OF_POOL, FIRST_OF_POOL + people)]  # people are numbered as they are drawn


def _make(
    root: Path, config: SynthFFConfig, targets: list[Target], splits: dict, jobs: int, only: list[str] | None
) -> pd.DataFrame:
    """Make what is missing of these targets' files; returns their metadata, a row a clip."""
    _check_ids(only, targets)
    for split, pairs in splits.items():
        with atomic(root / "splits" / f"{split}.json") as temporary:
            temporary.write_text(json.dumps(pairs, indent=2) + "\n")
    ensure_warm_starts(root, config, jobs)
    todo = [target for target in targets if only is None or target.video_id in only]
    work = Parallel(n_jobs=jobs, return_as="generator")(delayed(build_identity)(t, root, config) for t in todo)
    made = zip(todo, tqdm(work, total=len(todo), desc="identities"), strict=True)
    return pd.DataFrame([row | {"split": target.split} for target, identity in made for row in identity])


def write_metadata(table: Path, time: Path, clips: pd.DataFrame, jobs: int) -> None:
    """Write one row a clip, and apart from it how long the build took: the first repeats, the second never does."""
    seconds = clips.drop_duplicates("target")["seconds"]
    taken = dict(
        identities=len(seconds), jobs=jobs, median_seconds=float(seconds.median()), hours=float(seconds.sum() / jobs / 3600)
    )
    with atomic(time) as temporary:
        temporary.write_text(json.dumps(taken) + "\n")
    with atomic(table) as temporary:
        clips.drop(columns="seconds").sort_values(["video_id", "quality"]).to_csv(temporary, index=False)


def verify(root: Path, config: SynthFFConfig, ids: list[str], jobs: int = 2) -> dict[str, bool]:
    """Render some originals again and tell which ones have the frames that metadata.csv has the hash of."""
    (targets, _), table = prepare(root, config, jobs), "metadata.csv"
    if config.pool and set(ids) - {target.video_id for target in targets}:
        (targets, _), table, config = prepare_pool(config), "pool.csv", pool_config(config)
    _check_ids(ids, targets)
    metadata = pd.read_csv(root / table, dtype={"video_id": str})
    known = metadata[metadata["label"] == 0].drop_duplicates("video_id").set_index("video_id")["sha256"]
    return {t.video_id: frames_hash(shoot(t, config).frames) == known[t.video_id] for t in targets if t.video_id in ids}


def _check_ids(ids: list[str] | None, targets: list[Target]) -> None:
    unknown = sorted(set(ids or []) - {target.video_id for target in targets})
    if unknown:
        known = f"{targets[0].video_id} to {targets[-1].video_id}"
        raise ValueError(f"no such video id: {', '.join(unknown)}; they run from {known}")

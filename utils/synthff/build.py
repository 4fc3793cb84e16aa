"""Build SynthFF: choose people, warm NeuralTextures up, then render, reenact and encode one identity after the other.

`make synthff` (`python -m utils.synthff`) makes what is missing and leaves what is there. Each identity owes five
files: its real clip and its fake at both qualities, and the mask of the changed region.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
import torch._dynamo  # noqa: F401  before the first GL context: Mesa's LLVM and torch's crash each other otherwise
from joblib import Parallel, delayed
from safetensors.torch import load_file, save_file
from scipy.spatial.distance import pdist
from tqdm import tqdm

from utils.config import SynthFFConfig
from utils.paths import ROOT, atomic
from utils.synthff import assets, neural_textures
from utils.synthff.card import write_card
from utils.synthff.encode import encode, loss
from utils.synthff.motion import Track, draw_track
from utils.synthff.person import Person
from utils.synthff.renderer import Renderer
from utils.synthff.scene import develop, draw_backdrop, draw_camera, draw_lights
from utils.synthff.similarity import embedding, portrait, same_person_distances

WORK = ROOT / "build" / "synthff"  # people and metadata rows while the build runs
METHOD = "NeuralTextures"
DLIB_SAME = 0.6  # dlib's own threshold for photographs (King 2017)


@dataclass(frozen=True)
class Target:
    """One identity of the data set and the partner whose expression its fake takes over."""

    video_id: str
    source_id: str
    split: str
    seed: int  # of the person, and of scene and motion drawn for them
    source_seed: int

    @property
    def fake_id(self) -> str:
        return f"{self.video_id}_{self.source_id}"


@lru_cache(None)
def _renderer(size: int, supersample: int) -> Renderer:
    return Renderer(size, supersample)


def _single_thread() -> None:
    """Keep every library of this process on one thread: the build runs one process a core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


# ---- people -------------------------------------------------------------------------------------------------------


def _embed(seed: int, config: SynthFFConfig) -> list[float] | None:
    _single_thread()
    renderer = _renderer(config.size, 1)
    person = Person(seed)
    renderer.set_parts(person.parts)
    renderer.set_backdrop(np.full((64, 64, 3), 120, np.uint8))
    found = embedding(portrait(renderer, person))
    return None if found is None else found.tolist()


def choose_people(config: SynthFFConfig, count: int, jobs: int, batch: int = 32) -> list[int]:
    """Return `count` person seeds of whom no two are closer than `look_alike` in dlib's embedding; kept in WORK."""
    path = WORK / "people.json"
    seeds: list[int] = []
    if path.is_file():
        kept = json.loads(path.read_text())
        seeds = kept["seeds"] if kept["seed"] == config.seed and kept["look_alike"] == config.look_alike else []
    if len(seeds) >= count:
        return seeds[:count]
    chosen, vectors, tried = [], np.zeros((0, 128)), 0
    with tqdm(total=count, desc="people") as bar:
        while len(chosen) < count:
            candidates = [config.seed * 100_000 + tried + i for i in range(batch)]
            found = Parallel(n_jobs=jobs)(delayed(_embed)(seed, config) for seed in candidates)
            tried += batch
            for seed, vector in zip(candidates, found, strict=True):
                far = vector is not None and np.all(np.linalg.norm(vectors - vector, axis=1) >= config.look_alike)
                if far and len(chosen) < count:
                    chosen.append(seed)
                    vectors = np.vstack([vectors, vector])
                    bar.update()
    with atomic(path) as temporary:
        kept = dict(seed=config.seed, look_alike=config.look_alike, tried=tried, seeds=chosen)
        temporary.write_text(json.dumps(kept))
    return chosen


def measure_people(path: Path, seeds: list[int], config: SynthFFConfig, jobs: int) -> None:
    """Write how far apart different people and pictures of one person are in dlib's embedding, for the data card."""
    if path.is_file():
        return
    first = config.seed * 100_000
    drawn = Parallel(n_jobs=jobs)(delayed(_embed)(first + i, config) for i in range(64))
    distances = pdist(np.array([vector for vector in drawn if vector is not None]))
    same = same_person_distances(_renderer(config.size, 1), seeds[:12])
    found = dict(
        tried=json.loads((WORK / "people.json").read_text())["tried"], close_share=float((distances < DLIB_SAME).mean()),
        same_pairs=len(same), same_median=float(np.median(same)), same_below=float((same < config.look_alike).mean()),
        same_max=float(same.max()),
    )  # fmt: skip
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(found, indent=2) + "\n")


def plan(config: SynthFFConfig, seeds: list[int]) -> tuple[list[Target], dict[str, list[list[str]]]]:
    """Pair the people and deal the pairs to the splits; returns every target and the splits as FF++ writes them."""
    ids = [f"{i:03d}" for i in range(len(seeds))]
    pairs = [(i, i + 1) for i in range(0, len(ids), 2)]
    deal = np.random.default_rng(config.seed).permutation(len(pairs))
    targets, splits, start = [], {}, 0
    for split, count in config.pairs.items():
        drawn = [pairs[k] for k in sorted(deal[start : start + count])]
        start += count
        splits[split] = [[ids[a], ids[b]] for a, b in drawn]
        for a, b in drawn:
            targets += [Target(ids[x], ids[y], split, seeds[x], seeds[y]) for x, y in ((a, b), (b, a))]
    return sorted(targets, key=lambda target: target.video_id), splits


# ---- one identity -------------------------------------------------------------------------------------------------


def render_clip(seed: int, source_seed: int, frames: int, config: SynthFFConfig) -> tuple:
    """Render a person's clip.

    Returns the camera's frames (n, H, W, 3) uint8, the UV buffers (n, H, W, 4) with their own and the source's mouth, and the
    person's recipe.
    """
    renderer = _renderer(config.size, config.supersample)
    person = Person(seed)
    person.bake(renderer)
    rng = np.random.default_rng([seed, 3])
    lights, camera = draw_lights(rng, person.centre), draw_camera(rng, person.centre)
    renderer.set_backdrop(draw_backdrop(rng, config.size))
    track, source = draw_track(seed, frames, config.fps), draw_track(source_seed, frames, config.fps)
    pictures, own, other = [], [], []
    for t in range(frames):
        geometry = person.geometry(track.mouth[t] | track.eyes[t], track.angles[t])
        pictures.append(develop(renderer.render(geometry, camera, lights), camera, t))
        own.append(renderer.render_uv(geometry, camera))
        swapped = reenacted_expression(track, source, t)
        other.append(renderer.render_uv(person.geometry(swapped, track.angles[t]), camera))
    return np.stack(pictures), np.stack(own), np.stack(other), person.recipe()


def reenacted_expression(target: Track, source: Track, t: int) -> dict[str, float]:
    """Return the face units of the fake's frame `t`: the source's mouth, the target's eyes and brows."""
    return source.mouth[t] | target.eyes[t]


def _files(root: Path, target: Target, config: SynthFFConfig) -> dict[tuple[str, str], Path]:
    real, fake = root / "original_sequences" / "youtube", root / "manipulated_sequences" / METHOD
    out = {("original", q): real / q / "videos" / f"{target.video_id}.mp4" for q in config.crf}
    out |= {(METHOD, q): fake / q / "videos" / f"{target.fake_id}.mp4" for q in config.crf}
    return out | {("mask", ""): fake / "masks" / "videos" / f"{target.fake_id}.mp4"}


def build_identity(target: Target, root: Path, warm: Path, config: SynthFFConfig) -> list[dict]:
    """Make one identity's five files and return its metadata rows; does nothing but read them where they are complete."""
    _single_thread()
    files, row_file = _files(root, target, config), WORK / "rows" / f"{target.fake_id}.json"
    if row_file.is_file() and all(path.is_file() for path in files.values()):
        return json.loads(row_file.read_text())
    real, uv, uv_source, recipe = render_clip(target.seed, target.source_seed, config.frames, config)
    clip = neural_textures.prepare(real, uv, uv_source)
    fake, l1 = neural_textures.reenact(clip, load_file(warm), config.tune_steps, target.seed % 2**31)
    masks = np.stack([neural_textures.soft_mask(region) > 0 for region in clip.region])
    if not np.array_equal(real[~masks], fake[~masks]):
        raise RuntimeError(f"{target.fake_id}: the fake differs from the original outside its mask")
    rows = []
    recipe = recipe | dict(scene_seed=target.seed, motion_seed=target.seed)
    for (kind, quality), path in files.items():
        if kind == "mask":
            continue
        frames = real if kind == "original" else fake
        with atomic(path) as temporary:
            encode(frames, temporary, config.crf[quality], config.fps)
            psnr, ssim = loss(temporary, frames)
        faked = kind == METHOD
        rows.append(dict(
            video_id=target.fake_id if faked else target.video_id, method=kind, quality=quality, label=int(faked),
            target=target.video_id, source=target.source_id if faked else "", **recipe,
            mouth_seed=target.source_seed if faked else target.seed, l1=round(l1, 5) if faked else None,
            frames=len(frames), width=config.size, height=config.size, fps=config.fps, crf=config.crf[quality],
            bytes=path.stat().st_size, psnr=round(psnr, 3), ssim=round(ssim, 4),
        ))  # fmt: skip
    with atomic(files["mask", ""]) as temporary:
        encode(np.repeat(masks[..., None].astype(np.uint8) * 255, 3, 3), temporary, config.mask_crf, config.fps)
    with atomic(row_file) as temporary:
        temporary.write_text(json.dumps(rows))
    return rows


def ensure_warm_start(path: Path, config: SynthFFConfig) -> Path:
    """Train the shared start of NeuralTextures on people outside the data set, once."""
    if path.is_file():
        return path
    _single_thread()
    first = config.seed * 100_000 - 1000  # below every candidate of choose_people
    clips = []
    for k in tqdm(range(config.warm_people), desc="warm start: people"):
        clips.append(neural_textures.prepare(*render_clip(first + k, first + 500 + k, config.warm_frames, config)[:3]))
    show = lambda steps: tqdm(steps, desc="warm start: training")  # noqa: E731
    model = neural_textures.warm_start(clips, config.warm_steps, config.seed, show)
    with atomic(path) as temporary:
        save_file(model.state(), temporary)
    return path


def build(root: Path, config: SynthFFConfig, jobs: int = 2, only: list[str] | None = None) -> None:
    """Build the data set below `root`, resuming where it stopped; `only` limits it to some video ids."""
    assets.require()
    seeds = choose_people(config, 2 * sum(config.pairs.values()), jobs)
    targets, splits = plan(config, seeds)
    for split, pairs in splits.items():
        with atomic(root / "splits" / f"{split}.json") as temporary:
            temporary.write_text(json.dumps(pairs, indent=2) + "\n")
    warm = ensure_warm_start(root / "warm_start.safetensors", config)
    todo = [target for target in targets if only is None or target.video_id in only]
    work = Parallel(n_jobs=jobs, return_as="generator")(delayed(build_identity)(t, root, warm, config) for t in todo)
    made = zip(todo, tqdm(work, total=len(todo), desc="identities"), strict=True)
    rows = [row | {"split": target.split} for target, identity in made for row in identity]
    if only is None:
        with atomic(root / "metadata.csv") as temporary:
            pd.DataFrame(rows).sort_values(["video_id", "quality"]).to_csv(temporary, index=False)
        measure_people(root / "people.json", seeds, config, jobs)
        write_card(root, config)

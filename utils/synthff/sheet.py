"""A contact sheet of people: the same seeds in both releases, side by side, at rest and while they talk.

python -m utils.synthff.sheet --out figures/synthff_releases.jpg
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from utils.config import SynthFFConfig
from utils.paths import atomic
from utils.synthff import assets
from utils.synthff.motion import draw_track
from utils.synthff.people import candidate_seed
from utils.synthff.scene import STYLES, develop
from utils.synthff.shot import cast, renderer_for, with_size

MOMENTS = (0, 20)  # frames of a clip that are shown
QUALITY = 85  # of the JPEG


def stills(seed: int, config: SynthFFConfig, moments: tuple[int, ...] = MOMENTS) -> list[np.ndarray]:
    """Return frames (size, size, 3) uint8 of a person's clip, as `render_shot` films them, without the frames between."""
    renderer, style = renderer_for(config.supersample), with_size(STYLES["plain"], config.size)
    person, scene, *_ = cast(seed, style, config)
    renderer.resize(*scene.size)
    renderer.set_backdrop(scene.backdrop)
    person.bake(renderer)
    track, out = draw_track(seed, config.frames, config.fps, release=config.release), []
    for t in moments:
        geometry = person.geometry(track.mouth[t] | track.eyes[t], track.angles[t])
        linear = renderer.render(geometry, scene.camera, scene.lights)
        out.append(develop(np.ascontiguousarray(linear, np.float32), scene.camera, t))
    return out


def contact_sheet(seeds: list[int], config: SynthFFConfig, columns: int = 4, moments: tuple[int, ...] = MOMENTS) -> np.ndarray:
    """Return a picture of people, `columns` a row: above the first release, below it the second."""
    first, second = (replace(config, release=release) for release in (1, 2))
    rows = []
    for start in range(0, len(seeds), columns):
        for look in (first, second):
            row = np.hstack([picture for seed in seeds[start : start + columns] for picture in stills(seed, look, moments)])
            rows.append(row)
        rows.append(np.full((8, rows[-1].shape[1], 3), 255, np.uint8))  # a white gap
    return np.vstack(rows[:-1])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--start", type=int, default=0, help="place of the first among the candidates")
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--size", type=int, default=144, help="px, side of a picture in the sheet")
    options = parser.parse_args(arguments)
    assets.fetch()
    config = SynthFFConfig()
    seeds = [candidate_seed(config, options.start + k) for k in range(options.people)]
    sheet = contact_sheet(seeds, config, options.columns)
    scale = options.size / config.size
    sheet = cv2.resize(sheet, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    with atomic(options.out) as temporary:
        ending = options.out.suffix
        settings = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if ending in (".jpg", ".jpeg") else []
        temporary.write_bytes(cv2.imencode(ending, sheet[..., ::-1], settings)[1].tobytes())


if __name__ == "__main__":
    main()

"""One shot: a person in a scene, in motion, filmed; with the UV buffers that a reenactment needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from utils.config import SynthFFConfig
from utils.synthff.extras import Occluder, bystander_frames, hang_poster
from utils.synthff.motion import Track, draw_track
from utils.synthff.person import Person
from utils.synthff.renderer import Renderer
from utils.synthff.rooms import draw_room
from utils.synthff.scene import STYLES, WIDE, Camera, Lights, Style, develop, draw_backdrop, draw_camera, draw_lights

ROOM_SHARE = 0.75  # of the second release's scenes that are photographed, not drawn
STRANGERS = 5000  # seeds of bystanders and posters lie this far below the person's place among the candidates


@dataclass
class Shot:
    """A rendered clip: frames (n, H, W, 3) uint8, UV buffers (n, H, W, 4) with its own and with the source's mouth."""

    frames: np.ndarray
    uv: np.ndarray
    uv_source: np.ndarray
    recipe: dict


@dataclass
class Scene:
    """Everything around the person that does not move."""

    size: tuple[int, int]  # width and height, px
    camera: Camera
    lights: Lights
    backdrop: np.ndarray
    aside: float  # where the person stands, in half picture widths from the middle
    room: str = "drawn"


@lru_cache(None)
def renderer_for(supersample: int) -> Renderer:
    """Return this process's renderer."""
    return Renderer(supersample)


def reenacted_expression(target: Track, source: Track, t: int) -> dict[str, float]:
    """Return the face units of the fake's frame `t`: the source's mouth, the target's eyes and brows."""
    return source.mouth[t] | target.eyes[t]


def draw_scene(rng: np.random.Generator, centre: np.ndarray, style: Style, extra: str, side: int, release: int = 1) -> Scene:
    """Draw light, camera and backdrop around a face whose middle is `centre`; in the second release often photographed."""
    sizes = [size for size in style.sizes if extra != "bystander" or size[0] >= WIDE * size[1]]
    width, height = sizes[rng.integers(len(sizes))]
    aside = -0.42 * side if extra == "bystander" else 0.18 * side * (width > height) if extra == "poster" else 0.0
    lights, camera = draw_lights(rng, centre), draw_camera(rng, centre, style, width / height, aside)
    backdrop, room = draw_backdrop(rng, max(width, height)), "drawn"
    if release > 1 and rng.random() < ROOM_SHARE:
        room, backdrop, lights = draw_room(rng, centre, max(width, height))
    top, left = (backdrop.shape[0] - height) // 2, (backdrop.shape[1] - width) // 2
    return Scene((width, height), camera, lights, backdrop[top : top + height, left : left + width], aside, room)


def cast(seed: int, style: Style, config: SynthFFConfig, extra: str = "none") -> tuple[Person, Scene, np.random.Generator, int]:
    """Draw a person and the scene around them; also the stream that extras go on with, and the side they are on, -1 or 1."""
    person = Person(seed, config.release)
    rng, more = np.random.default_rng([seed, 3]), np.random.default_rng([seed, 13])
    side = int(more.choice([-1, 1]))
    return person, draw_scene(rng, person.centre, style, extra, side, config.release), more, side


def render_shot(
    seed: int, source_seed: int, config: SynthFFConfig, style: str = "plain", extra: str = "none", frames: int | None = None,
    length: int | None = None,
) -> Shot:  # fmt: skip
    """Render a person's shot of `length` frames (default: the data set's), or only its first `frames`."""
    renderer, look = renderer_for(config.supersample), STYLES[style]
    look = look if look.sizes else with_size(look, config.size)
    length = length or config.frames
    motion = dict(frames=length, fps=config.fps, turn=look.turn, pace=look.pace, release=config.release)
    person, scene, more, side = cast(seed, look, config, extra)
    stranger = seed - STRANGERS
    backdrop = scene.backdrop
    if extra == "poster":
        backdrop = hang_poster(backdrop, renderer, stranger, more, left=side > 0, release=config.release)
    renderer.resize(*scene.size)
    renderer.set_backdrop(backdrop)
    behind = None
    if extra == "bystander":
        behind = bystander_frames(renderer, stranger, person.centre, scene.camera, scene.lights, motion, 0.5 * side)
    occluder = Occluder(extra, more, length, config.fps) if extra in ("hair", "hand") else None
    person.bake(renderer)
    recipe = person.recipe() | dict(style=style, extra=extra, scene_seed=seed, motion_seed=seed)
    recipe |= scene.camera.recipe() | scene.lights.recipe()
    if config.release > 1:
        recipe |= dict(room=scene.room)
    tracks = draw_track(seed, **motion), draw_track(source_seed, **motion)
    return _film(renderer, person, scene, tracks, behind, occluder, frames or length, recipe)


def with_size(style: Style, size: int) -> Style:
    return Style(**(vars(style) | {"sizes": ((size, size),)}))


def _film(renderer, person: Person, scene: Scene, tracks, behind, occluder, frames: int, recipe: dict) -> Shot:
    (track, source), camera = tracks, scene.camera
    pictures, own, other = [], [], []
    for t in range(frames):
        if behind is not None:
            renderer.set_backdrop(behind[t])
        geometry = person.geometry(track.mouth[t] | track.eyes[t], track.angles[t])
        linear, uv = renderer.render(geometry, camera, scene.lights), renderer.render_uv(geometry, camera)
        swapped = person.geometry(reenacted_expression(track, source, t), track.angles[t])
        uv_source = renderer.render_uv(swapped, camera)
        if occluder is not None:
            linear, covered = occluder.cover(linear, uv, t)
            uv, uv_source = (np.where(covered[..., None], np.float32(0), buffer) for buffer in (uv, uv_source))
        pictures.append(develop(np.ascontiguousarray(linear, np.float32), camera, t))
        own.append(uv)
        other.append(uv_source)
    return Shot(np.stack(pictures), np.stack(own), np.stack(other), recipe)

"""What surrounds the person: backdrop, lights, camera and its sensor. Everything is drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Style:
    """The ranges that scenes and motion are drawn from."""

    sizes: tuple[tuple[int, int], ...] = ()  # width and height, px, one of which is drawn; none: the data set's own size
    half_height: tuple[float, float] = (1.4, 2.5)  # decimetres that half the picture's height shows: how large the face is
    blur: tuple[float, float] = (0.3, 1.0)  # px
    noise: tuple[float, float] = (0.6, 3.4)  # 8-bit levels at mid grey
    exposure: tuple[float, float] = (0.85, 1.3)
    turn: float = 1.0  # head motion and pose, times the usual
    pace: float = 1.0  # speed of the head, times the usual
    extras: tuple[str, ...] = ("none",)  # what else is in the picture, see `extras`


STYLES = {
    "plain": Style(),
    "hard": Style(
        sizes=((192, 256), (240, 320), (256, 192), (320, 240), (384, 288), (448, 256), (512, 288), (512, 384)),
        half_height=(1.5, 2.8), noise=(2.0, 5.0), exposure=(0.2, 0.55), turn=1.7, pace=1.6,
        extras=("none", "bystander", "poster", "hair", "hand"),
    ),
}  # fmt: skip
WIDE = 1.5  # width over height that a second person needs


@dataclass
class Camera:
    """A pinhole camera: its place (3,) in decimetres, projection (4, 4), and its sensor's blur and noise."""

    eye: np.ndarray
    matrix: np.ndarray
    blur: float  # px, standard deviation of the lens
    noise: float  # 8-bit levels at mid grey
    noise_seed: int
    exposure: float
    half_height: float = 0.0  # decimetres at the face

    def recipe(self) -> dict:
        names = ("blur", "noise", "exposure", "half_height")
        return {f"camera_{name}": round(float(getattr(self, name)), 3) for name in names} | dict(
            camera_seed=self.noise_seed, camera_x=round(float(self.eye[0]), 3), camera_z=round(float(self.eye[2]), 3)
        )


@dataclass
class Lights:
    """Key, fill and rim light and the ambient light from above and below, or all around (second release)."""

    directions: list[np.ndarray]
    colours: list[np.ndarray]
    sky: np.ndarray
    ground: np.ndarray
    centre: np.ndarray
    around: np.ndarray | None = None  # (9, 3) coefficients, see `rooms.ambient`

    def recipe(self) -> dict:
        x, y, z = self.directions[0]
        angles = dict(light_azimuth=float(np.arctan2(x, z)), light_elevation=float(np.arcsin(y)))
        angles |= dict(light_key=float(self.colours[0].mean()), light_ambient=float(self.sky.mean()))
        return {name: round(value, 3) for name, value in angles.items()}


def perspective(
    eye: np.ndarray, target: np.ndarray, fov: float, aspect: float = 1.0, near: float = 1.0, far: float = 60.0
) -> np.ndarray:
    """Return the view projection (4, 4) of a camera at `eye` looking at `target`.

    `fov` is the vertical angle in radians, `aspect` width over height.
    """
    forward = (target - eye) / np.linalg.norm(target - eye)
    side = np.cross(forward, [0, 1, 0])
    side /= np.linalg.norm(side)
    view = np.eye(4)
    view[0, :3], view[1, :3], view[2, :3] = side, np.cross(side, forward), -forward
    view[:3, 3] = -view[:3, :3] @ eye
    lens = np.zeros((4, 4))
    lens[0, 0], lens[1, 1] = 1 / np.tan(fov / 2) / aspect, 1 / np.tan(fov / 2)
    lens[2, 2], lens[2, 3], lens[3, 2] = (far + near) / (near - far), 2 * far * near / (near - far), -1
    return lens @ view


def draw_camera(
    rng: np.random.Generator, centre: np.ndarray, style: Style = STYLES["plain"], aspect: float = 1.0, aside: float = 0.0
) -> Camera:
    """Draw a camera in front of a face whose middle is `centre`, `aside` half picture widths right of the middle."""
    distance = rng.uniform(14, 22)
    eye = centre + np.array([rng.normal(0, 1.2), rng.normal(0, 0.8), distance])
    half_height = rng.uniform(*style.half_height)
    # Less head room than chest, the more the wider the picture is.
    low = 0.25 * (half_height - 1.4)
    target = centre + np.array([rng.normal(0, 0.12) - aside * half_height * aspect, rng.normal(-0.1, 0.1) - low, 0])
    return Camera(
        eye=eye, matrix=perspective(eye, target, 2 * np.arctan(half_height / distance), aspect), half_height=half_height,
        blur=rng.uniform(*style.blur), noise=rng.uniform(*style.noise), noise_seed=int(rng.integers(2**31)),
        exposure=rng.uniform(*style.exposure),
    )  # fmt: skip


def draw_lights(rng: np.random.Generator, centre: np.ndarray) -> Lights:
    def direction(azimuth: float, elevation: float) -> np.ndarray:
        flat = np.cos(elevation)
        return np.array([np.sin(azimuth) * flat, np.sin(elevation), np.cos(azimuth) * flat])

    azimuth, elevation = rng.uniform(-1.1, 1.1), rng.uniform(0.15, 0.85)
    warm, cool, mix = np.array([1, 0.93, 0.84]), np.array([0.88, 0.95, 1.08]), rng.random()
    key = warm * mix + cool * (1 - mix)
    other = warm + cool - key
    ambient = rng.uniform(0.18, 0.42)
    return Lights(
        directions=[
            direction(azimuth, elevation),
            direction(-azimuth + rng.normal(0, 0.3), rng.uniform(-0.1, 0.4)),
            direction(np.pi + rng.uniform(-0.9, 0.9), 0.5),
        ],
        colours=[key * rng.uniform(0.75, 1.15), other * rng.uniform(0.1, 0.4), other * rng.uniform(0.0, 0.7)],
        sky=ambient * other,
        ground=ambient * 0.6 * np.array([1, 0.9, 0.8]),
        centre=centre,
    )


def draw_backdrop(rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """Draw an out-of-focus room: a wall, furniture-like boxes, lamps; returns (size, size, 3) uint8."""
    saturation, base = rng.uniform(0.02, 0.2), rng.uniform(0.12, 0.75)

    def tone(value: float) -> np.ndarray:
        return np.clip(value * (1 + rng.normal(0, saturation, 3)), 0.01, 1)

    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j].astype(np.float32)
    slope = rng.normal(0, 0.35, 2)
    wall = 1 + slope[0] * (x - 0.5) + slope[1] * (y - 0.5)
    image = np.ascontiguousarray(tone(base) * wall[..., None], np.float32)
    for _ in range(int(rng.integers(0, 9))):
        left, top = int(rng.integers(-40, size)), int(rng.integers(-40, size))
        right, bottom = left + int(rng.integers(8, size // 2)), top + int(rng.integers(20, size))
        colour = tone(base * rng.uniform(0.3, 1.7))
        cv2.rectangle(image, (left, top), (right, bottom), colour.tolist(), -1)
        if rng.random() < 0.5:
            cv2.rectangle(image, (left, top), (right, bottom), (colour * 0.6).tolist(), 3)
    for _ in range(int(rng.integers(0, 3))):
        at = int(rng.integers(0, size)), int(rng.integers(0, size // 2))
        cv2.circle(image, at, int(rng.integers(4, 16)), (1.0, 0.95, 0.85), -1)
    image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(1.5, 9)))
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def develop(linear: np.ndarray, camera: Camera, frame: int) -> np.ndarray:
    """Return the camera's 8-bit picture of `linear` light (h, w, 3): lens blur, tone curve, shot noise of this frame."""
    blurred = cv2.GaussianBlur(linear, (0, 0), camera.blur)
    tone = (1 - np.exp(-1.35 * blurred * camera.exposure)) ** (1 / 2.2)
    rng = np.random.default_rng([camera.noise_seed, frame])
    grain = rng.standard_normal(tone.shape[:2] + (1,), np.float32) * 0.8
    grain = grain + rng.standard_normal(tone.shape, np.float32) * 0.6  # luma and chroma noise
    levels = tone * 255 + camera.noise * grain * np.sqrt(np.clip(tone, 0.05, 1) / 0.5)
    return np.clip(levels + 0.5, 0, 255).astype(np.uint8)

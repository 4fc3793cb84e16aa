"""Head renderer on moderngl: EGL with Mesa's llvmpipe is enough, no GPU and no screen. The same input gives the same bits."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import moderngl
import numpy as np

from utils.synthff.parts import Part
from utils.synthff.rooms import two_tone
from utils.synthff.scene import Camera, Lights

SHADERS = Path(__file__).parent / "shaders"
SHADOW_SIZE, OCCLUSION_SIZE = 512, 256  # px
OCCLUSION_DIRECTIONS = 40
FLOATS_A_VERTEX = 7  # position, normal, occlusion


def orthographic(direction: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Return the projection (4, 4) along a light `direction` of a ball around `centre`."""
    forward = -np.asarray(direction, float) / np.linalg.norm(direction)
    up = np.array([0, 1, 0.0]) if abs(forward[1]) < 0.95 else np.array([0, 0, 1.0])
    side = np.cross(forward, up)
    side /= np.linalg.norm(side)
    matrix = np.eye(4)
    matrix[0, :3], matrix[1, :3], matrix[2, :3] = side / radius, np.cross(side, forward) / radius, forward / (2 * radius)
    matrix[:3, 3] = -matrix[:3, :3] @ centre
    return matrix


def _gl(matrix: np.ndarray) -> bytes:
    return matrix.T.astype("f4").tobytes()


class Renderer:
    """Renders one person at a time, supersampled `supersample` times a side; `resize` says how large the frames are."""

    def __init__(self, supersample: int = 2):
        os.environ.setdefault("LP_NUM_THREADS", "1")  # the build runs one process a core
        try:
            self.context = moderngl.create_context(standalone=True, backend="egl")
        except Exception as error:  # moderngl raises a bare Exception where EGL is missing
            raise RuntimeError(f"no EGL context ({error}): install libegl1, libgl1 and libgl1-mesa-dri") from error
        self.supersample, context = supersample, self.context
        self.surfaces = {1: self._program("surface.vert", "surface.frag")}  # one a release, made when it is needed
        self.uv = self._program("plain.vert", "uv.frag")
        self.depth = self._program("plain.vert", "depth.frag")
        self.backdrop = self._program("backdrop.vert", "backdrop.frag")
        self.width = self.height = 0
        self.targets: list = []
        self.shadow_map, self.shadow_frame = self._depth_target(SHADOW_SIZE)
        self.occlusion_map, self.occlusion_frame = self._depth_target(OCCLUSION_SIZE)
        corners = context.buffer(np.array([-1, -1, 3, -1, -1, 3], "f4"))
        self.full_screen = context.vertex_array(self.backdrop, [(corners, "2f", "corner")])
        self.light_backdrop = self._program("backdrop.vert", "backdrop.frag", "LINEAR")
        self.full_screen_light = context.vertex_array(self.light_backdrop, [(corners, "2f", "corner")])
        self.no_detail = self._texture(np.full((4, 4, 4), 128, np.uint8))
        self.parts: list[dict] = []
        self.backdrop_map, self.backdrop_linear = None, False

    def resize(self, width: int, height: int) -> None:
        """Set the size of the frames, px."""
        if (width, height) == (self.width, self.height):
            return
        for resource in self.targets:
            resource.release()
        self.targets, self.width, self.height = [], width, height
        self.frame = self._target(width * self.supersample, height * self.supersample, "f2")
        self.uv_frame = self._target(width, height, "f4")

    def _target(self, width: int, height: int, dtype: str):
        texture, depth = self.context.texture((width, height), 4, dtype=dtype), self.context.depth_renderbuffer((width, height))
        frame = self.context.framebuffer([texture], depth)
        self.targets += [frame, texture, depth]
        return frame

    def _program(self, vertex: str, fragment: str, defined: str = ""):
        version, _, rest = (SHADERS / fragment).read_text().partition("\n")
        source = f"{version}\n#define {defined}\n{rest}" if defined else f"{version}\n{rest}"
        return self.context.program((SHADERS / vertex).read_text(), source)

    def _surface(self, release: int):
        if release not in self.surfaces:
            self.surfaces[release] = self._program("surface.vert", "surface.frag", "SECOND")
        return self.surfaces[release]

    def _depth_target(self, size: int):
        texture = self.context.depth_texture((size, size))
        texture.compare_func = ""
        return texture, self.context.framebuffer(depth_attachment=texture)

    def _texture(self, image: np.ndarray):
        flipped = np.ascontiguousarray(image[::-1])
        texture = self.context.texture((image.shape[1], image.shape[0]), image.shape[2], flipped.tobytes())
        texture.build_mipmaps()
        texture.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
        return texture

    def set_backdrop(self, image: np.ndarray) -> None:
        """Show `image` (h, w, 3) behind the person: uint8, or linear light as float32."""
        if self.backdrop_map is not None:
            self.backdrop_map.release()
        self.backdrop_linear = image.dtype == np.float32
        if self.backdrop_linear:
            light = np.ascontiguousarray(np.dstack([image, np.ones(image.shape[:2])])[::-1], "f2")
            self.backdrop_map = self.context.texture((image.shape[1], image.shape[0]), 4, light.tobytes(), dtype="f2")
            return
        self.backdrop_map = self._texture(np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]))

    def set_parts(self, parts: list[Part]) -> None:
        """Upload a person's textures and topology in place of the last person's."""
        for loaded in self.parts:
            for resource in loaded["owned"]:
                resource.release()
        self.parts = [self._load(part) for part in parts]

    def _load(self, part: Part) -> dict:
        context = self.context
        vertices = context.buffer(reserve=len(part.uv) * FLOATS_A_VERTEX * 4)
        uv, surface = context.buffer(part.uv.astype("f4").tobytes()), self._surface(part.release)
        index = context.buffer(part.triangles.astype("i4").tobytes())
        albedo = self._texture(part.texture)
        detail = self._texture(part.detail) if part.detail is not None else self.no_detail
        full = [(vertices, "3f 3f 1f", "position", "normal", "occlusion"), (uv, "2f", "uv")]
        bare = [(vertices, "3f 16x", "position"), (uv, "2f", "uv")]
        arrays = dict(
            surface=context.vertex_array(surface, full, index),
            uv=context.vertex_array(self.uv, bare, index),
            depth=context.vertex_array(self.depth, bare, index),
        )
        owned = [vertices, uv, index, albedo, *arrays.values()] + ([detail] if part.detail is not None else [])
        return dict(part=part, vertices=vertices, albedo=albedo, detail=detail, owned=owned, **arrays)

    def _upload(self, geometry) -> None:
        for loaded, (position, normal, occlusion) in zip(self.parts, geometry, strict=True):
            packed = np.concatenate([position, normal, occlusion[:, None]], 1).astype("f4")
            loaded["vertices"].write(packed.tobytes())

    def _render_depth(self, frame, projection: np.ndarray, shadows: bool = False) -> None:
        frame.use()
        frame.clear(depth=1.0)
        self.context.enable(moderngl.DEPTH_TEST)
        self.depth["view_projection"].write(_gl(projection))
        for loaded in self.parts:
            if loaded["part"].clear or (shadows and not loaded["part"].shadow):
                continue
            loaded["albedo"].use(0)
            self.depth["material"] = loaded["part"].material
            loaded["depth"].render()

    def bake_occlusion(self, geometry, centre: np.ndarray, radius: float = 1.7) -> list[np.ndarray]:
        """Return the share of the sky that each vertex sees, one array (n,) a part."""
        self._upload(geometry)
        seen = [np.zeros(len(v)) for v, _, _ in geometry]
        total = [np.full(len(v), 1e-6) for v, _, _ in geometry]
        for direction in _fibonacci_sphere(OCCLUSION_DIRECTIONS):
            projection = orthographic(direction, centre, radius)
            self._render_depth(self.occlusion_frame, projection)
            depth = np.frombuffer(self.occlusion_map.read(), "f4").reshape(OCCLUSION_SIZE, OCCLUSION_SIZE)
            for k, (v, n, _) in enumerate(geometry):
                clip = (v + n * 0.03) @ projection[:3, :3].T + projection[:3, 3]
                x, y = np.clip(((clip[:, :2] * 0.5 + 0.5) * OCCLUSION_SIZE).astype(int), 0, OCCLUSION_SIZE - 1).T
                visible = clip[:, 2] * 0.5 + 0.5 - 0.004 <= depth[y, x]
                weight = np.clip(n @ direction, 0, 1) * (1 + 0.3 * direction[1])  # more light from above
                if self.parts[k]["part"].material == 2:  # strands have no inside
                    weight = np.full(len(v), 0.5)
                seen[k] += weight * visible
                total[k] += weight
        return [np.clip(s / t, 0, 1).astype("f4") for s, t in zip(seen, total, strict=True)]

    def render(self, geometry, camera: Camera, lights: Lights) -> np.ndarray:
        """Return the picture (height, width, 3) as linear float32, before the camera's sensor."""
        self._upload(geometry)
        light_projection = orthographic(lights.directions[0], lights.centre, 2.6)
        self._render_depth(self.shadow_frame, light_projection, shadows=True)
        self.frame.use()
        self.frame.clear(0.1, 0.1, 0.1, 1.0, depth=1.0)
        if self.backdrop_map is not None:
            self.context.disable(moderngl.DEPTH_TEST)
            self.backdrop_map.use(0)
            (self.full_screen_light if self.backdrop_linear else self.full_screen).render()
            self.context.enable(moderngl.DEPTH_TEST)
        release = self.parts[0]["part"].release if self.parts else 1
        program = self._surface(release)
        self._set_lighting(program, release, camera, lights, light_projection)
        for loaded in self.parts:
            part = loaded["part"]
            program["material"], program["tint"] = part.material, tuple(part.tint)
            program["gloss"], program["ao_floor"] = part.gloss, part.ao_floor
            loaded["albedo"].use(0)
            loaded["detail"].use(1)
            if part.clear:
                self.context.enable(moderngl.BLEND)
                self.context.blend_func = moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
            loaded["surface"].render()
            if part.clear:
                self.context.disable(moderngl.BLEND)
        s = self.supersample
        pixels = np.frombuffer(self.frame.read(components=3, dtype="f2", alignment=1), "f2")
        pixels = pixels.reshape(self.height * s, self.width * s, 3)[::-1]
        if release > 1:  # a tenth of the time
            whole = cv2.patchNaNs(np.ascontiguousarray(pixels, "f4"), 0)
            return cv2.resize(np.clip(whole, 0, 8), (self.width, self.height), interpolation=cv2.INTER_AREA)
        pixels = np.clip(np.nan_to_num(pixels.astype("f4")), 0, 8)
        return pixels.reshape(self.height, s, self.width, s, 3).mean((1, 3))

    def _set_lighting(self, program, release: int, camera: Camera, lights: Lights, light_projection: np.ndarray) -> None:
        program["view_projection"].write(_gl(camera.matrix))
        program["light_projection"].write(_gl(light_projection))
        program["eye"].write(camera.eye.astype("f4").tobytes())
        program["light_direction"].write(np.asarray(lights.directions, "f4").tobytes())
        program["light_colour"].write(np.asarray(lights.colours, "f4").tobytes())
        if release == 1:
            program["sky"], program["ground"] = tuple(lights.sky), tuple(lights.ground)
        else:
            around = two_tone(lights.sky, lights.ground) if lights.around is None else lights.around
            program["around"].write(around.astype("f4").tobytes())
        program["albedo_map"], program["detail_map"], program["shadow_map"] = 0, 1, 2
        self.shadow_map.use(2)

    def render_uv(self, geometry, camera: Camera) -> np.ndarray:
        """Return u, v, part id and depth of the nearest surface, (height, width, 4) float32; part 0 is the backdrop."""
        self._upload(geometry)
        self.uv_frame.use()
        self.uv_frame.clear(0, 0, 0, 1, depth=1.0)
        self.context.enable(moderngl.DEPTH_TEST)
        self.uv["view_projection"].write(_gl(camera.matrix))
        for loaded in self.parts:
            if loaded["part"].clear:
                continue
            loaded["albedo"].use(0)
            self.uv["material"], self.uv["part"] = loaded["part"].material, float(loaded["part"].part)
            loaded["uv"].render()
        pixels = np.frombuffer(self.uv_frame.read(components=4, dtype="f4"), "f4")
        return pixels.reshape(self.height, self.width, 4)[::-1]


def _fibonacci_sphere(n: int) -> np.ndarray:
    i = np.arange(n) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / n), np.pi * (1 + 5**0.5) * i
    return np.stack([np.cos(azimuth) * np.sin(polar), np.cos(polar), np.sin(azimuth) * np.sin(polar)], 1)

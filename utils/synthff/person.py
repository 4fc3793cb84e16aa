"""A person ready to be rendered: skin, eyes, teeth, hair and clothes as parts, and their geometry in any pose."""

from __future__ import annotations

import cv2
import numpy as np

from utils.synthff import looks, mesh
from utils.synthff.assets import MAKEHUMAN
from utils.synthff.identity import ANCESTRIES, Identity, draw_identity
from utils.synthff.parts import (
    BROWS,
    CLOTHES,
    EYES,
    HAIR,
    LASH_STYLES,
    LASHES,
    SKIN,
    TEETH,
    TONGUE,
    Part,
    dye,
    lips_image,
    read_image,
    value_noise,
)

TEXTURE = 512  # px, side of the skin textures
HAIR_STYLES = {  # none that hides an eye: a detector would lose the face
    True: ("short01", "short02", "short04", "afro01", None),
    False: ("long01", "ponytail01", "Braid01", "short04", "afro01", "short02", "curly", "Wig_bun_blonde"),
}
CLOTHES_STYLES = {
    True: ("male_casualsuit01", "male_casualsuit02", "male_casualsuit03", "male_casualsuit04", "male_casualsuit05",
           "male_casualsuit06", "male_elegantsuit01", "male_worksuit01", "Harvey_Sweater2"),
    False: ("female_casualsuit01", "female_casualsuit02", "female_elegantsuit01", "female_sportsuit01", "VNeckTop",
            "Sleeveless", "Coat", "Tank_Top_01", "female_top_01", "spaghetti-top", "Harvey_Sweater2"),
}  # fmt: skip
BROW_STYLES = tuple(f"eyebrow{i:03d}" for i in range(1, 13))
HAIR_COLOURS = (  # linear RGB, black to grey
    (.012, .010, .009), (.028, .018, .012), (.06, .032, .016), (.12, .062, .028), (.26, .15, .065), (.45, .30, .15),
    (.22, .06, .018), (.30, .29, .28),
)  # fmt: skip
HAIR_SHARES = (0.25, 0.2, 0.17, 0.13, 0.1, 0.07, 0.05, 0.03)
GREY = np.array([0.42, 0.41, 0.41])


class Person:
    """A person drawn from a seed. `bake` must be called with a renderer before frames are rendered.

    People of the second release (see `looks`) have the same seed's skull, other skin, eyes and clothes, and may wear a beard
    or glasses.
    """

    def __init__(self, seed: int, release: int = 1):
        self.release = release
        self.identity: Identity = draw_identity(seed, release)
        rng = np.random.default_rng([seed, 7])
        body = self.identity.vertices
        self.pivot = mesh.neck_pivot(body)
        self.eye_vertices = [mesh.group_vertices(f"helper-{side}-eye") for side in "lr"]
        self.centre = np.mean([body[v].mean(0) for v in self.eye_vertices], 0) + np.array([0, -0.25, -0.5])
        self.worn: list[tuple[int, mesh.Proxy, np.ndarray]] = []  # part id, proxy, its unwelded vertex ids
        self.rigid: list[tuple[np.ndarray, np.ndarray]] = []  # vertices and quads of what follows the head and nothing else
        self.details: dict[str, str] = {}  # what only the second release draws, for the metadata
        self.bulge: np.ndarray | None = None  # how far a beard lifts the skin's vertices, decimetres
        if release == 1:
            self.hair, self.clothes = self._choose_style(rng)
            self.parts = [self._skin_part(rng)]
            self._wear_all(rng)
        else:
            looks.dress(self, rng)
        self.occlusion: list[np.ndarray] | None = None

    def bake(self, renderer) -> None:
        """Give the renderer the parts and bake ambient occlusion at rest."""
        renderer.set_parts(self.parts)
        self.occlusion = renderer.bake_occlusion(self.geometry({}, np.zeros(3)), self.centre)
        if self.release > 1:
            looks.mend_occlusion(self)

    def recipe(self) -> dict:
        """Return what the person was drawn as, for the metadata."""
        shares = dict(zip(ANCESTRIES, np.round(self.identity.ancestry, 3).tolist(), strict=True))
        return dict(
            identity_seed=self.identity.seed, sex="male" if self.identity.male else "female",
            age=round(self.identity.age, 3), **shares, hair=self.hair or "none", clothes=self.clothes,
        ) | self.details  # fmt: skip

    def _choose_style(self, rng) -> tuple[str | None, str]:
        hair_styles, clothes_styles = HAIR_STYLES[self.identity.male], CLOTHES_STYLES[self.identity.male]
        return hair_styles[rng.integers(len(hair_styles))], clothes_styles[rng.integers(len(clothes_styles))]

    # ---- skin -----------------------------------------------------------------------------------------------------

    def _skin_part(self, rng) -> Part:
        colour = self._skin_colour(rng)
        detail = self._skin_detail(rng, colour)
        return self.skin_mesh(colour, detail, float(np.clip(rng.normal(1, 0.3), 0.4, 1.8)))

    def skin_mesh(self, colour: np.ndarray, detail: np.ndarray, gloss: float) -> Part:
        """Return the skin's part with its textures: the body's quads that clothes leave and that a picture can show."""
        base = mesh.base()
        quads = base["g"] == "body"
        f, ft = base["f"][quads], base["ft"][quads]
        self._body_quads = f
        visible = np.ones(mesh.N_VERTICES, bool)
        hides = mesh.proxy("clothes", self.clothes).hides
        visible[: len(hides)] &= ~hides[: mesh.N_VERTICES]
        bust = self.identity.vertices[f][:, :, 1].min(1) > self.pivot[1] - 3.0  # nothing below the chest is ever seen
        self.under_cloth = ~visible
        shown = visible[f].all(1) if self.release == 1 else visible[f].any(1)  # the second leaves no gaps at a hem
        keep = shown & bust
        self.skin_vertices, uv_ids, triangles = mesh.unweld(f[keep], ft[keep])
        return Part(SKIN, triangles, base["vt"][uv_ids], colour, detail, gloss=gloss, ao_floor=0.12, release=self.release)

    def blended_skin(self, rng) -> np.ndarray:
        """Return MakeHuman's skins blended by age and ancestry, (h, w, 3) float32 in [0, 1]."""
        who = self.identity
        sex = "male" if who.male else "female"
        younger, older = (("young", "middleage"), ("middleage", "old"))[who.age > 0.5]
        blend = (who.age * 2) % 1

        def skin(ancestry: str, years: str) -> np.ndarray:
            files = sorted((MAKEHUMAN / "skins" / f"{years}_{ancestry}_{sex}" / "textures").glob("*diffuse*.png"))
            image = read_image(files[rng.integers(len(files))])[..., :3]
            return cv2.resize(image, (TEXTURE, TEXTURE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255

        layers = zip(ANCESTRIES, who.ancestry, strict=True)
        return sum(share * ((1 - blend) * skin(name, younger) + blend * skin(name, older)) for name, share in layers)

    def _skin_colour(self, rng) -> np.ndarray:
        """Vary tone and lips of the blended skin; returns (h, w, 3) uint8."""
        albedo = self.blended_skin(rng)
        albedo = np.clip(albedo * (1 + rng.normal(0, 0.09)) * (1 + rng.normal(0, 0.03, 3)), 0, 1)
        lips = cv2.resize(lips_image(), (TEXTURE, TEXTURE)).astype(np.float32)[..., None] / 255
        lipstick = np.array([-0.02, -0.12, -0.10]) * rng.random() * (0.5 if self.identity.male else 1.8)
        albedo = albedo * (1 + lips * (rng.normal(0, 0.06, 3) + lipstick))
        return (np.clip(albedo, 0, 1) * 255).astype(np.uint8)

    def _skin_detail(self, rng, colour: np.ndarray) -> np.ndarray:
        """Return blotches, freckles, moles and pores: colour multiplier around .5 and height, (h, w, 4) uint8."""
        who, n = self.identity, TEXTURE
        pores = 0.55 * value_noise(rng, n, 256, 2) + 0.6 * value_noise(rng, n, 64, 2)
        light = colour.astype(np.float32).mean(2) / 255
        creases = light - cv2.GaussianBlur(light, (0, 0), n / 128)
        shade = np.full((n, n, 3), 0.5, np.float32)
        shade *= 1 + 0.035 * value_noise(rng, n, 24, 3)[..., None] * np.array([0.6, 1, 1])
        shade *= 1 + 0.03 * value_noise(rng, n, 512)[..., None]
        freckles = float(np.clip(rng.normal(0.1, 0.25), 0, 0.8)) * who.ancestry[0]
        spots = np.clip(value_noise(rng, n, 300) - 1.1, 0, 1)[..., None]
        shade *= 1 - 0.35 * freckles * spots * np.array([0.6, 1, 1.2])
        shade = np.ascontiguousarray(shade, np.float32)
        for _ in range(rng.poisson(3)):  # moles on the face's part of the atlas
            at = int(rng.uniform(0.80, 0.95) * n), int(rng.uniform(0.37, 0.66) * n)
            cv2.circle(shade, at, int(rng.integers(1, 3)), (0.30, 0.24, 0.2), -1, cv2.LINE_AA)
        height = 0.5 + 0.02 * pores + 1.6 * creases * (0.6 + who.age)
        return (np.clip(np.dstack([shade, height]), 0, 1) * 255).astype(np.uint8)

    # ---- what is worn ---------------------------------------------------------------------------------------------

    def _wear_all(self, rng) -> None:
        colour = self.hair_colour(rng)
        self._wear(rng, EYES, "eyes", "HighPolyEyes", tint=(0.62, 0.6, 0.6), ao_floor=0.3)
        self._wear(rng, TEETH, "teeth", "Teeth_Base", tint=(0.8, 0.76, 0.7), ao_floor=0.3)
        self._wear(rng, TONGUE, "tongue", "tongue01", tint=(0.8, 0.7, 0.7), ao_floor=0.3)
        tint = tuple(rng.uniform(0.3, 1.15) * (1 + rng.normal(0, 0.22, 3)))
        self._wear(rng, CLOTHES, "clothes", self.clothes, tint=tint)
        self._wear(rng, BROWS, "eyebrows", BROW_STYLES[rng.integers(len(BROW_STYLES))], strands=colour * 0.75)
        self._wear(rng, LASHES, "eyelashes", LASH_STYLES[rng.integers(len(LASH_STYLES))], strands=np.full(3, 0.02))
        if self.hair:
            self._wear(rng, HAIR, "hair", self.hair, strands=colour)

    def hair_colour(self, rng) -> np.ndarray:
        light = self.identity.ancestry[0] > 0.55  # only then other than dark
        index = rng.choice(len(HAIR_COLOURS), p=HAIR_SHARES) if light else rng.integers(2)
        colour = np.array(HAIR_COLOURS[index])
        grey = np.clip((self.identity.age - 0.5) / 0.45, 0, 1) * rng.uniform(0.3, 1)
        return (colour * (1 - grey) + GREY * grey) * rng.uniform(0.8, 1.2)

    def _wear(self, rng, part: int, kind: str, name: str, strands: np.ndarray | None = None, **look) -> None:
        """Put a proxy on with one of its textures, dyed in a linear RGB colour where `strands` says which."""
        proxy = mesh.proxy(kind, name)
        vertex_ids, uv_ids, triangles = mesh.unweld(proxy.f, proxy.ft)
        if not proxy.textures:
            raise FileNotFoundError(f"{proxy.folder} has no colour texture: choose another {kind}")
        texture = read_image(proxy.textures[rng.integers(len(proxy.textures))])
        if strands is not None:
            texture = dye(texture, strands)
            look["gloss"] = float(rng.uniform(0.4, 1.2))
        self.worn.append((part, proxy, vertex_ids))
        self.parts.append(Part(part, triangles, proxy.vt[uv_ids], texture, **look))

    # ---- geometry of a frame --------------------------------------------------------------------------------------

    def geometry(self, expression: dict[str, float], angles: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return positions (n, 3), normals (n, 3) and occlusion (n,) of every part.

        `expression` maps ARKit face units to [0, 1]; `angles` are yaw, pitch, roll in radians.
        """
        neutral = mesh.express(self.identity.vertices, expression)
        posed = mesh.pose(neutral, mesh.head_weight(), self.pivot, angles)
        skin = self.skin_vertices
        out = [(posed[skin], mesh.normals(posed, self._body_quads)[skin])]
        if self.bulge is not None:
            out = [(out[0][0] + out[0][1] * self.bulge, out[0][1])]
        for part, proxy, vertex_ids in self.worn:
            points = proxy.fit(neutral)
            if part == BROWS:
                points = points + np.array([0, 0, 0.018], np.float32)  # clear of the skin
            if part == EYES:
                points = self._shrink_eyes(points, neutral, expression)
            points = mesh.pose(points, proxy.head_weight(), self.pivot, angles)
            normal = self._eye_normals(points, posed) if part == EYES else mesh.normals(points, proxy.f)
            out.append((points[vertex_ids], normal[vertex_ids].astype(np.float32)))
        for vertices, quads in self.rigid:
            points = mesh.pose(vertices, np.ones(len(vertices), np.float32), self.pivot, angles)
            out.append((points, mesh.normals(points, quads).astype(np.float32)))
        occlusion = self.occlusion or [np.ones(len(v), np.float32) for v, _ in out]
        return [(v, n, a) for (v, n), a in zip(out, occlusion, strict=True)]

    def _shrink_eyes(self, points: np.ndarray, neutral: np.ndarray, expression: dict[str, float]) -> np.ndarray:
        """Shrink an eyeball while its lid closes, so that it never comes through the lid."""
        points = points.copy()
        for vertices, side in zip(self.eye_vertices, ("Left", "Right"), strict=True):
            centre, closed = neutral[vertices].mean(0), expression.get("eyeBlink" + side, 0.0)
            near = np.abs(points[:, 0] - centre[0]) < 0.31
            factor = 1 - 0.28 * np.clip((closed - 0.25) / 0.75, 0, 1)
            points[near] = centre + (points[near] - centre) * factor - np.array([0, 0, 0.04 * closed], np.float32)
        return points

    def _eye_normals(self, points: np.ndarray, posed: np.ndarray) -> np.ndarray:
        away = np.stack([points - posed[v].mean(0) for v in self.eye_vertices])  # (2, n, 3)
        nearest = np.linalg.norm(away, axis=2).argmin(0)
        normal = away[nearest, np.arange(len(points))]
        return normal / np.linalg.norm(normal, axis=1, keepdims=True)

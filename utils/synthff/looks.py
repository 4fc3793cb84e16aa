"""How people of the second release look: who wears what, in which colours, and what is drawn on their skin."""

from __future__ import annotations

import numpy as np

from utils.synthff import glasses, mesh, skin, wardrobe
from utils.synthff.parts import (
    CLOTHES,
    EYES,
    GLASSES,
    HAIR,
    LASH_STYLES,
    LASHES,
    LENSES,
    TEETH,
    TONGUE,
    Part,
    dye,
    read_image,
    value_noise,
)

HAIR_STYLES = {  # none that hides an eye
    True: ("short01", "short02", "short04", "ponytail01", "afro01", None),
    False: ("long01", "ponytail01", "Braid01", "southernbelleringlets", "curly", "Wig_bun_blonde", "short01", "afro01"),
}
HAIR_SHARES = {True: (0.36, 0.06, 0.28, 0.12, 0.08, 0.1), False: (0.2, 0.18, 0.1, 0.16, 0.1, 0.14, 0.07, 0.05)}
CLOTHES_STYLES = {
    True: ("male_casualsuit01", "male_casualsuit02", "male_casualsuit03", "male_casualsuit04", "male_casualsuit05",
           "male_casualsuit06", "male_elegantsuit01", "male_worksuit01", "Harvey_Sweater2", "Rolled_neck_blouse"),
    False: ("female_casualsuit01", "female_casualsuit02", "female_elegantsuit01", "female_sportsuit01", "VNeckTop",
            "Sleeveless", "Coat", "Tank_Top_01", "female_top_01", "Harvey_Sweater2", "Rolled_neck_blouse",
            "short_tail_camo_tee", "Asymmetric_Tunic_and_Sash", "F_Dress_01"),
}  # fmt: skip
MOST_VIVID = 0.48  # of a face's mean skin: how far blue may lie below red, over red, in sRGB
UNDER_CLOTH = 0.05  # decimetres that covered skin lies deeper
HEM = 3.2  # decimetres below the neck: cloth further down is never seen


def dress(person, rng: np.random.Generator) -> None:
    """Give a person skin, eyes, teeth, hair, clothes and perhaps a beard and glasses."""
    who, male = person.identity, person.identity.male
    styles, clothes = HAIR_STYLES[male], CLOTHES_STYLES[male]
    person.hair = styles[rng.choice(len(styles), p=HAIR_SHARES[male])]
    person.clothes = clothes[rng.integers(len(clothes))]
    strands = person.hair_colour(rng)
    person.parts = [_skin(person, rng, strands)]
    eyes = mesh.proxy("eyes", "HighPolyEyes")
    texture, iris = wardrobe.draw_eyes(rng, who, read_image(next(p for p in eyes.textures if p.stem == "brown_eye")))
    _put_on(person, EYES, eyes, texture, tint=(0.70, 0.69, 0.68), ao_floor=0.35)
    _put_on(person, TEETH, mesh.proxy("teeth", "Teeth_Base"), tint=(0.80, 0.75, 0.66), ao_floor=0.08)
    _put_on(person, TONGUE, mesh.proxy("tongue", "tongue01"), tint=(0.75, 0.55, 0.55), ao_floor=0.05)
    cloth = mesh.proxy("clothes", person.clothes)
    dyed, pattern = wardrobe.draw_cloth(rng, read_image(_texture(cloth, rng)))
    _put_on(person, CLOTHES, cloth, dyed, lowest=person.pivot[1] - HEM)
    lashes = mesh.proxy("eyelashes", LASH_STYLES[rng.integers(len(LASH_STYLES))])
    hairs = dye(read_image(_texture(lashes, rng)), np.full(3, 0.03))
    hairs[..., 3] = hairs[..., 3] * (0.55 if male else 0.8)  # thinner: the shader's thresholds lie between .25 and .65
    _put_on(person, LASHES, lashes, hairs, shadow=False, gloss=0.2)
    if person.hair:
        hair = mesh.proxy("hair", person.hair)
        _put_on(person, HAIR, hair, dye(read_image(_texture(hair, rng)), strands), gloss=float(rng.uniform(0.3, 0.8)))
    worn = _glasses(person, rng)
    person.details |= dict(pattern=pattern, iris=iris, glasses=worn)


def _texture(proxy: mesh.Proxy, rng):
    photographs = (proxy.folder / "textures").glob("*.jpg")
    files = proxy.textures or sorted(p for p in photographs if not any(word in p.name.lower() for word in mesh.NOT_DIFFUSE))
    return files[rng.integers(len(files))]


def _put_on(person, part: int, proxy: mesh.Proxy, texture: np.ndarray | None = None, lowest: float = -np.inf, **look) -> None:
    """Add a proxy with a texture (default: its own), less what lies below `lowest`, to the person's parts."""
    texture = read_image(proxy.textures[0]) if texture is None else texture
    keep = proxy.fit(person.identity.vertices)[proxy.f][..., 1].min(1) > lowest
    vertex_ids, uv_ids, triangles = mesh.unweld(proxy.f[keep], proxy.ft[keep])
    person.worn.append((part, proxy, vertex_ids))
    person.parts.append(Part(part, triangles, proxy.vt[uv_ids], texture, release=2, **look))


def _skin(person, rng, strands: np.ndarray) -> Part:
    """Draw the skin and everything on it; `strands` is the hair's colour in linear RGB."""
    who = person.identity
    albedo = person.blended_skin(rng)
    albedo = np.clip(albedo * (1 + rng.normal(0, 0.06)) * (1 + rng.normal(0, 0.02, 3)), 0, 1)
    albedo, colour = skin.bare_lips(albedo)
    albedo, colour = (wardrobe.less_vivid(part, colour, MOST_VIVID) for part in (albedo, colour))
    style, high = skin.draw_beard(rng, who)
    layer = skin.Layer(rng, value_noise)
    layer.complexion(who)
    layer.lips(colour, who.male)
    hair = wardrobe.srgb(strands)
    layer.scalp(hair, colour, 0.75 if person.hair else float(rng.uniform(0.1, 0.5)))
    if style != "none":
        warmer = hair * np.array([1.06, 0.98, 0.94]) * rng.uniform(0.85, 1.1)
        layer.beard(style, warmer, colour, high)
    layer.brows(who.male, hair * rng.uniform(0.6, 0.85), colour)
    person.details |= dict(beard=style)
    gloss = float(np.clip(rng.normal(1, 0.25), 0.5, 1.6))
    part = person.skin_mesh((np.clip(albedo, 0, 1) * 255).astype(np.uint8), layer.pack(), gloss)
    lifted = skin.bulge(style, person.skin_vertices, high)
    person.bulge = (lifted - UNDER_CLOTH * person.under_cloth[person.skin_vertices]).astype(np.float32)[:, None]
    return part


def _glasses(person, rng) -> str:
    """Put glasses on where they are drawn; returns their shape, or "none"."""
    body = person.identity.vertices
    eyes = [body[vertices].mean(0) for vertices in person.eye_vertices]
    head = body[np.unique(mesh.base()["f"][mesh.base()["g"] == "body"])]
    head = head[(head[:, 1] > eyes[0][1] - 1.0) & (np.abs(head[:, 0]) < 1.2)]
    own = np.random.default_rng(int(rng.integers(2**31)))
    if not glasses.wears(own, person.identity):
        return "none"
    pair = glasses.fit(own, head, eyes)
    grey = np.full((4, 4, 4), 255, np.uint8)
    for part, vertices, quads, tint in (
        (GLASSES, pair.frame, pair.frame_quads, pair.colour), (LENSES, pair.lens, pair.lens_quads, (1.0, 1.0, 1.0)),
    ):  # fmt: skip
        person.rigid.append((vertices, quads))
        blank = np.zeros((len(vertices), 2), np.float32)
        look = dict(tint=tint, release=2, shadow=part == GLASSES, ao_floor=0.5)
        person.parts.append(Part(part, mesh.triangles(quads), blank, grey, **look))
    return pair.shape


def mend_occlusion(person) -> None:
    """Light the front teeth, which the closed mouth at rest hides, and leave the back of the mouth dark."""
    rest = person.geometry({}, np.zeros(3))
    for index, part in enumerate(person.parts):
        if part.part in (TEETH, TONGUE):
            z = rest[index][0][:, 2]
            depth = np.clip((z.max() - z) / (0.30 if part.part == TEETH else 0.5), 0, 1)
            person.occlusion[index] = ((1 - depth) * (0.85 if part.part == TEETH else 0.35)).astype("f4")

"""The faces of both releases: the first stays as it was, the second keeps within its limits."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from utils.synthff import expression, motion

# Of the code that made the committed set.
TRACKS = {202000000: "ee855e70d943", 202000017: "1e4a579721c5", 202000321: "7f03c9250833"}
PEOPLE = {202000000: "da560f2699af", 202000017: "28e2f6b7344b"}  # to 0.1 mm


def short_hash(*arrays) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:12]


def track_hash(track: motion.Track) -> str:
    """To the ninth decimal: a sine's last bit is another one with AVX2 than with AVX-512."""
    shapes = [[{name: round(value, 9) for name, value in frame.items()} for frame in frames]
              for frames in (track.mouth, track.eyes)]  # fmt: skip
    units = json.dumps(shapes, sort_keys=True).encode()
    return short_hash(np.frombuffer(units, np.uint8), np.round(track.angles, 9) + 0)


def test_tracks_of_the_first_release_are_unchanged():
    assert {seed: track_hash(motion.draw_track(seed, 48)) for seed in TRACKS} == TRACKS


def sides(frame: dict[str, float], stem: str) -> float:
    return max(value for name, value in frame.items() if name.startswith(stem))


def test_expressions_of_the_second_release_keep_their_limits():
    tracks = [motion.draw_track(seed, 48, release=2) for seed in range(60)]
    mouths = [frame for track in tracks for frame in track.mouth]
    for frame in mouths:
        assert min(frame.values()) >= 0
        assert all(sides(frame, stem) <= cap for stem, cap in expression.MOUTH_CAPS.items())
        once = sum(value for name, value in frame.items() if not name.endswith("Right"))
        assert once <= expression.MOUTH_SUM + 1e-9
        assert min(sides(frame, "mouthSmile"), sides(frame, "mouthFrown")) < 0.06  # no smile with a frown
    for frame in (frame for track in tracks for frame in track.eyes):
        assert min(frame.values()) >= 0
        assert all(sides(frame, stem) <= cap for stem, cap in expression.EYE_CAPS.items() if stem != "eyeSquint")
    assert np.mean([sides(frame, "mouthFrown") > 0.05 for frame in mouths]) < 0.05
    assert max(frame["jawOpen"] for frame in mouths) > 0.3  # mouths still open


def test_second_release_speaks_at_the_same_times_and_turns_the_same_way():
    one, two = motion.draw_track(5, 48), motion.draw_track(5, 48, release=2)
    np.testing.assert_array_equal(one.angles, two.angles)
    jaws = [[frame["jawOpen"] for frame in track.mouth] for track in (one, two)]
    assert np.corrcoef(jaws)[0, 1] > 0.9


def test_gaze_of_the_second_release_mostly_meets_the_camera():
    off = []
    for seed in range(40):
        track = motion.draw_track(seed, 48, release=2)
        for frame, angle in zip(track.eyes, track.angles, strict=True):
            aside = (frame["eyeLookInLeft"] - frame["eyeLookOutLeft"]) * motion.GAZE_REACH[0]
            off.append(aside - angle[0])
    assert np.median(np.abs(off)) < 0.1  # radians


def test_a_soft_cap_follows_small_values_and_never_passes():
    values = np.linspace(0, 5, 200)
    capped = np.array([expression.soft_cap(v, 0.5) for v in values])
    assert (np.diff(capped) >= 0).all() and capped.max() <= 0.5
    assert expression.soft_cap(0.05, 0.5) == pytest.approx(0.05, rel=0.01)
    assert expression.soft_cap(-1.0, 0.5) == 0


@pytest.fixture(scope="module")
def synthff():
    """The modules that need the packages of requirements-synthff.txt."""
    pytest.importorskip("utils.synthff.shot", reason="requirements-synthff.txt is not installed")
    from utils.synthff import assets, glasses, identity, mesh, parts, person, rooms, shot, skin, wardrobe

    return dict(
        assets=assets, glasses=glasses, identity=identity, mesh=mesh, parts=parts, person=person, rooms=rooms, shot=shot,
        skin=skin, wardrobe=wardrobe,
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(synthff):
    """The same modules, where the model packages have been fetched."""
    try:
        synthff["assets"].require(release=2)
    except FileNotFoundError as error:
        pytest.skip(f"cannot draw people here: {error}")
    return synthff


def test_people_of_the_first_release_are_unchanged(models):
    found = {}
    for seed in PEOPLE:
        track = motion.draw_track(seed, 48)
        geometry = models["person"].Person(seed).geometry(track.mouth[20] | track.eyes[20], track.angles[20])
        rounded = [np.round(array.astype(float), 3) + 0.0 for part in geometry for array in part[:2]]
        found[seed] = short_hash(*rounded)
    assert found == PEOPLE


def test_shapes_of_the_second_release_are_short_of_extremes(models):
    identity = models["identity"]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for category, spread in identity.SPREAD_2.items():
            weights = identity.calm(category, identity._draw_local(rng, category, spread, identity.MAX_WEIGHT_2))
            length = np.linalg.norm([w for name, w in weights if not name.startswith("r-")])
            assert length <= identity.MAX_LENGTH_2.get(category, np.inf) + 1e-6


def test_beards_keep_clear_of_lips_eyes_and_women(models):
    skin = models["skin"]
    eyes = np.array([[0.31, 0.0, 0.15], [-0.31, 0.0, 0.15], [0.0, -0.35, 0.43]])  # and the tip of the nose
    for style in skin.BEARDS:
        assert skin.beard_mask(style, eyes).max() == 0, style
        assert skin.beard_mask(style, skin.places()).max() > 0.9, style
    who = models["identity"].Identity(0, False, 0.5, np.array([1, 0, 0]), np.zeros((1, 3)))
    assert {skin.draw_beard(np.random.default_rng(seed), who)[0] for seed in range(50)} == {"none"}


def test_a_constant_panorama_lights_all_sides_alike(synthff):
    rooms = synthff["rooms"]
    coefficients = rooms.ambient(np.full((32, 64, 3), 0.7))
    n = np.random.default_rng(0).standard_normal((50, 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    np.testing.assert_allclose(rooms.basis(n) @ coefficients, 0.7, rtol=0.01)


def test_ambient_light_against_a_literal_sum(synthff):
    rooms = synthff["rooms"]
    towards, solid = rooms.directions(32)
    panorama = np.repeat((1 + towards[..., 1] + 0.5 * towards[..., 0] * towards[..., 2])[..., None], 3, 2)
    coefficients = rooms.ambient(panorama)
    for n in np.array([[0, 1, 0], [0.6, 0, 0.8], [0, -0.6, 0.8]]):
        literal = (panorama[..., 0] * np.clip(towards @ n, 0, None) * solid).sum() / np.pi
        assert (rooms.basis(n) @ coefficients)[0] == pytest.approx(literal, rel=0.03)


def test_a_view_shows_what_lies_ahead(synthff):
    rooms = synthff["rooms"]
    panorama = np.zeros((64, 128, 3), np.float32)
    panorama[28:36, 60:68] = 5  # a lamp straight behind the person
    seen = rooms.view(panorama, 33, 1.0, 0.0)
    assert seen[16, 16].min() > 4 and seen[0].max() < 1
    towards, _ = rooms.directions(64)
    np.testing.assert_allclose(towards[32, 64], [0, 0, -1], atol=0.05)
    spread = rooms.defocus(seen, 4.0)
    assert spread.max() < seen.max() and spread.sum() == pytest.approx(seen.sum(), rel=0.2)


def test_light_comes_from_where_the_panorama_is_bright(synthff):
    rooms = synthff["rooms"]
    towards, _ = rooms.directions(256)
    panorama = np.full((256, 512, 3), 0.5, np.float32)
    lamp = np.array([0.6, 0.4, 0.7]) / np.linalg.norm([0.6, 0.4, 0.7])
    panorama[towards @ lamp > 0.97] = 30
    lights, gain = rooms.room_light(panorama, np.zeros(3), 0.9)
    assert lights.directions[0] @ lamp > 0.98
    face = np.array([0, 0.1, 0.99])
    level = rooms.basis(face) @ lights.around + lights.colours[0] * (lights.directions[0] @ face)
    np.testing.assert_allclose(level, 0.9, rtol=0.05)
    np.testing.assert_allclose(gain, gain[0], rtol=0.05)


@pytest.fixture(scope="module")
def studio(models):
    try:
        renderer = models["shot"].renderer_for(1)
    except RuntimeError as error:
        pytest.skip(f"cannot render here: {error}")
    return models | dict(renderer=renderer)


def test_glasses_follow_the_head_and_stay_off_the_mouth(studio, monkeypatch):
    from utils.synthff.neural_textures import mouth_region

    monkeypatch.setattr(studio["glasses"], "WORN", (1.0, 1.0))
    parts, renderer = studio["parts"], studio["renderer"]
    person = studio["person"].Person(202000003, release=2)
    assert person.details["glasses"] in studio["glasses"].SHAPES
    names = [part.part for part in person.parts]
    frame = names.index(parts.GLASSES)
    scene = studio["shot"].draw_scene(
        np.random.default_rng(0), person.centre, studio["shot"].with_size(studio["shot"].STYLES["plain"], 128), "none", 1, 2
    )
    renderer.resize(128, 128)
    person.bake(renderer)
    at_rest = person.geometry({}, np.zeros(3))[frame][0]
    for angles in ([0.4, 0, 0], [0, 0.2, 0.1], [0, 0, 0]):
        geometry = person.geometry({"jawOpen": 0.5}, np.array(angles))
        turned = studio["mesh"].pose(at_rest, np.ones(len(at_rest), np.float32), person.pivot, np.array(angles))
        np.testing.assert_allclose(geometry[frame][0], turned, atol=1e-5)
        uv = renderer.render_uv(geometry, scene.camera)
        worn = np.round(uv[..., 2]) == parts.GLASSES
        assert 10 < worn.sum() < 0.1 * worn.size
        assert not (worn & mouth_region(uv)).any()
        assert not (np.round(uv[..., 2]) == parts.LENSES).any()  # seen through
        mouth = np.argwhere(np.isin(np.round(uv[..., 2]), (parts.TEETH, parts.TONGUE)))
        if len(mouth):
            assert np.argwhere(worn)[:, 0].max() < np.median(mouth[:, 0])


def test_a_person_of_the_second_release_repeats_and_says_what_is_drawn(models):
    one, two = (models["person"].Person(202000004, release=2) for _ in range(2))
    for a, b in zip(one.parts, two.parts, strict=True):
        assert np.array_equal(a.texture, b.texture) and np.array_equal(a.triangles, b.triangles)
        assert a.release == 2
    recipe = one.recipe()
    assert recipe == two.recipe() and {"beard", "glasses", "iris", "pattern"} <= set(recipe)
    first = models["person"].Person(202000004).recipe()
    assert not {"beard", "glasses", "iris", "pattern"} & set(first)
    assert first["sex"] == recipe["sex"] and first["age"] == recipe["age"]

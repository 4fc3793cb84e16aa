"""Which people look alike: distances of portraits in dlib's face embedding (King 2017)."""

from __future__ import annotations

from functools import lru_cache

import dlib
import numpy as np

from utils.faces.detect import dlib_weights
from utils.synthff.motion import draw_track
from utils.synthff.person import Person
from utils.synthff.scene import Camera, Lights, develop, draw_backdrop, draw_camera, draw_lights, perspective

PORTRAIT = 256  # px, side of a portrait


@lru_cache(None)
def _networks():
    landmarks = dlib.shape_predictor(dlib_weights("shape_predictor_5_face_landmarks.dat"))
    embed = dlib.face_recognition_model_v1(dlib_weights("dlib_face_recognition_resnet_model_v1.dat"))
    return dlib.get_frontal_face_detector(), landmarks, embed


def portrait(renderer, person: Person) -> np.ndarray:
    """Return a frontal picture (256, 256, 3) uint8 of a person at rest in even light.

    The renderer must have the parts and be `PORTRAIT` px wide and high.
    """
    centre = person.centre
    eye = centre + np.array([0, 0, 18.0])
    camera = Camera(eye, perspective(eye, centre, 2 * np.arctan(1.5 / 18)), 0.4, 0.0, 0, 1.0)
    front = [np.array([0.3, 0.4, 0.85]), np.array([-0.6, 0.2, 0.75]), np.array([0, 0.5, -0.85])]
    grey = np.ones(3)
    directions, colours = [d / np.linalg.norm(d) for d in front], [0.8 * grey, 0.3 * grey, 0.2 * grey]
    lights = Lights(directions, colours, sky=0.3 * grey, ground=0.2 * grey, centre=centre)
    at_rest = person.geometry({"browInnerUp": 0.25}, np.zeros(3))
    return develop(renderer.render(at_rest, camera, lights), camera, 0)


def embedding(image: np.ndarray) -> np.ndarray | None:
    """Return dlib's embedding (128,) of the largest face in an RGB uint8 image; None where no face is found."""
    detector, landmarks, embed = _networks()
    faces = detector(image, 1)
    if not faces:
        return None
    largest = max(faces, key=lambda box: box.area())
    return np.array(embed.compute_face_descriptor(image, landmarks(image, largest)))


def same_person_distances(renderer, seeds: list[int], scenes: int = 4, release: int = 1) -> np.ndarray:
    """Return the embedding distances (k,) between pictures of one person in different light, camera and motion."""
    distances = []
    renderer.resize(PORTRAIT, PORTRAIT)
    for seed in seeds:
        person = Person(seed, release)
        person.bake(renderer)
        vectors = []
        for scene in range(scenes):
            rng = np.random.default_rng([seed, 5, scene])
            lights, camera = draw_lights(rng, person.centre), draw_camera(rng, person.centre)
            renderer.set_backdrop(draw_backdrop(rng))
            track = draw_track(seed + scene + 1, 10, release=release)
            geometry = person.geometry(track.mouth[-1] | track.eyes[-1], track.angles[-1])
            vectors.append(embedding(develop(renderer.render(geometry, camera, lights), camera, 0)))
        found = np.array([vector for vector in vectors if vector is not None])
        pairwise = np.linalg.norm(found[:, None] - found[None], axis=2)
        distances.append(pairwise[np.triu_indices(len(found), 1)])
    return np.concatenate(distances)

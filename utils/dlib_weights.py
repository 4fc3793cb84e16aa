"""Where the package face-recognition-models keeps dlib's trained networks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def dlib_weights(name: str) -> str:
    """Return the path of one of the package's files, such as `mmod_human_face_detector.dat`.

    The package's own __init__ needs pkg_resources, which new setuptools lack: it is found without being imported.
    Raises FileNotFoundError where it is not installed.
    """
    package = find_spec("face_recognition_models")
    if package is None:
        raise FileNotFoundError(f"no weights {name}: run `pip install face_recognition_models`")
    return str(Path(list(package.submodule_search_locations)[0], "models", name))

"""Extraction and the grid on more than one machine: joblib's calls, sent to the workers of a Dask scheduler.

    dask scheduler                                                              # on one machine
    dask worker tcp://HOST:8786 --nworkers 2 --nthreads 1 --memory-limit 0      # on each: one process a core, or a GPU
    python -m utils.run.grid --scheduler tcp://HOST:8786                        # or `--scheduler local`: workers on this one

All machines share the folder of `DEEPFAKE_WORK` and the data, and have the same code and versions: that is checked before
anything starts. A worker that dies costs its tasks alone, which Dask gives to others: what they had finished stays, since
outputs are renamed into place. A worker has one thread, because torch's random numbers belong to a process.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import joblib

from utils import paths
from utils.config import Profile, TrainConfig
from utils.paths import ROOT

LOCAL = "local"
PACKAGES = ("torch", "numpy", "av", "dlib-bin", "joblib", "distributed")
SECONDS = 10  # to wait for a scheduler, and for a first worker
START = "start one with `dask worker ADDRESS --nworkers 2 --nthreads 1 --memory-limit 0`"


class ClusterError(RuntimeError):
    """A cluster that can't do the work as this machine would; the message says what to change."""


def add_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--scheduler` to a command."""
    about = f"address of a Dask scheduler (tcp://host:8786) whose workers do the work, or {LOCAL!r}: workers of this machine"
    parser.add_argument("--scheduler", metavar="ADDRESS", help=about)


@contextmanager
def backend(scheduler: str | None, profile: Profile, jobs: int | None = None) -> Iterator[None]:
    """Send joblib's parallel calls within to a scheduler's workers; without a scheduler change nothing, import nothing.

    `jobs` is the number of workers of a local cluster (default: one a core). Raises ClusterError where nobody answers, no
    worker is there, or a worker has other versions, other code, several threads, or does not see the profile's folders.
    """
    if not scheduler:
        yield
        return
    with _connect(scheduler, jobs) as client:
        check_workers(client, profile)
        with joblib.parallel_config(backend="dask", client=client, n_jobs=-1, pure=False):
            yield


@contextmanager
def _connect(scheduler: str, jobs: int | None):
    """Yield a client that has at least one worker."""
    import distributed
    from distributed.comm import get_address_host_port

    if scheduler == LOCAL:
        alone = {"n_workers": jobs or os.cpu_count(), "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": ":0"}
        with distributed.LocalCluster(**alone) as cluster, distributed.Client(cluster, set_as_default=False) as client:
            yield client
        return
    try:  # by a bare socket first: a client whose start has failed can hang the next one
        socket.create_connection(get_address_host_port(scheduler, strict=True), timeout=SECONDS).close()
        client = distributed.Client(scheduler, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        reason = str(error).splitlines()[0]
        raise ClusterError(f"no Dask scheduler at {scheduler} ({reason}): start one with `dask scheduler`") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=SECONDS)
        except TimeoutError:
            raise ClusterError(f"the scheduler at {scheduler} has no workers: {START}") from None
        yield client


def check_workers(client, profile: Profile) -> None:
    """Raise ClusterError with one line where a worker would not do what this machine does."""
    for address, threads in client.nthreads().items():
        if threads != 1:
            raise ClusterError(f"the worker {address} has {threads} threads, but torch's random numbers want one: {START}")
    here = description()
    with _token(profile.workspace.work) as (path, text):
        answers = client.run(_answer, str(path), profile.data.root, on_error="return")
    for address, answer in answers.items():
        if isinstance(answer, Exception):
            reason = f"{type(answer).__name__}: {answer}".splitlines()[0]
            raise ClusterError(f"the worker {address} can't run this code ({reason}): start it in this environment")
        there, read, has_data = answer
        for name, value in here.items():
            if there[name] != value:
                raise ClusterError(f"the worker {address} has {name} {there[name]}, not {value}: {REMEDIES.get(name, UPDATE)}")
        if read != text:
            remedy = "all machines need the same DEEPFAKE_WORK on a shared file system"
            raise ClusterError(f"the worker {address} does not see the folder {path.parent}: {remedy}")
        if Path(profile.data.root).is_dir() and not has_data:
            raise ClusterError(f"the worker {address} does not see the data at {profile.data.root}: share that folder, too")


UPDATE = "install the same versions there"
REMEDIES = {
    "code": "check out the same commit there, without changes",
    "work": "set DEEPFAKE_WORK to the same shared folder there",
    "precision": "set DEEPFAKE_PRECISION there as here",
}


def description() -> dict[str, str]:
    """Return what results depend on besides the kind of CPU: versions, a hash of the code, where outputs go."""
    versions = {name: version(name) for name in PACKAGES}
    own = {"code": code_hash(), "work": str(paths.WORK.absolute()), "precision": TrainConfig().precision}
    return {"python": platform.python_version(), **versions, **own}


def code_hash(root: Path = ROOT) -> str:
    """Return a hash over the names and texts of all modules of utils/."""
    text = hashlib.sha256()
    for path in sorted((root / "utils").rglob("*.py")):
        text.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return text.hexdigest()[:12]


def _answer(token: str, data: str) -> tuple[dict[str, str], str | None, bool]:
    """Return what a worker is, what it reads in the token's file, and whether it sees the data."""
    path = Path(token)
    return description(), path.read_text() if path.is_file() else None, Path(data).is_dir()


@contextmanager
def _token(folder: Path):
    """Yield a file in a folder, and the text in it that nobody else can know; remove it afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    path, text = folder.absolute() / f".token-{uuid.uuid4().hex}", uuid.uuid4().hex
    path.write_text(text)
    try:
        yield path, text
    finally:
        path.unlink()

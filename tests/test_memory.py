from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from utils.learn import memory

COUNT = """
import resource, sys, torch
from utils.learn.memory import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    for _ in range(20):
        a = torch.ones(12 << 20)  # 48 MiB, more than the largest threshold that malloc takes
        b = a + 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc than glibc's")
def test_freed_memory_is_used_again_instead_of_being_mapped_anew():
    counts = {how: int(subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, check=True).stdout)
              for how in ("keep", "usual")}  # fmt: skip
    # The heap may grow once more while it is counted: one array of forty.
    assert 10 * counts["keep"] < counts["usual"] > 1000


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    assert memory.keep_freed_memory() is False

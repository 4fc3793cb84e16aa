"""What a CPU loses by giving memory back: freed tensors are unmapped, and their pages zeroed again for the next step.

A step of EfficientNet-Lite0 (128 px, 32 images, float32, one thread) took 70,000 page faults, and a sixth of its processor time
in the kernel; with the memory kept it takes none, for a peak of 1.90 GiB instead of 1.84. Kept blocks change no number.
"""

from __future__ import annotations

import ctypes
import platform

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4  # names of mallopt(3), from glibc's malloc.h
# In bytes: where glibc's own thresholds end up; and nothing mapped for itself, trimmed only above 1 GiB of free room.
USUAL = {MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20, TOP_PAD: 128 << 10, MMAP_MAX: 65536}
KEPT = {MMAP_MAX: 0, TRIM_THRESHOLD: 1 << 30, TOP_PAD: 64 << 20}


def keep_freed_memory(keep: bool = True) -> bool:
    """Let this process's malloc keep freed memory for its next step, or not; tell whether it could: glibc alone."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(name, value) == 1 for name, value in (KEPT if keep else USUAL).items()])

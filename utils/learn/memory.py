"""What the C library does with memory that tensors give back: a training step frees and asks again for the same gigabyte.

By default it unmaps large blocks, and the kernel hands out zeroed pages at the next step, 4 KiB a fault: a fifth of the time
of a step in float32 on two AVX2 cores. Kept blocks change no number.
"""

from __future__ import annotations

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # names of mallopt(3), from glibc's malloc.h
USUAL = {MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: 64 << 20, MMAP_MAX: 65536}  # bytes; where glibc's own thresholds end up
KEPT = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1}  # nothing is mapped for itself, nothing is trimmed


def keep_freed_memory(keep: bool = True) -> bool:
    """Let this process keep freed memory for its next step, or not; return whether the C library (glibc) could be told.

    Costs a tenth more memory at the peak.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(name, value) == 1 for name, value in (KEPT if keep else USUAL).items()])

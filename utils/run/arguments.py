"""Numbers of command lines, checked before any work begins."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number that is not below `least`."""

    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{text} is below {least}")
        return value

    return number


def processes(text: str) -> int:
    """Return how many processes a text asks for: at least 1, or with -1 one a core."""
    if (value := int(text)) < 1 and value != -1:
        raise argparse.ArgumentTypeError(f"{text}: give at least 1, or -1 for one a core")
    return os.cpu_count() if value == -1 else value

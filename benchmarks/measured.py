"""Tables of measurements that later calls add to."""

from __future__ import annotations

from pathlib import Path

import pandas as pd


def require_alike(table: pd.DataFrame, path: Path | None, **about) -> None:
    """End the program with one line where a table has rows that were measured elsewhere, or otherwise, than `about` says.

    Medians and lines through both would mean nothing.
    """
    for name, here in about.items():
        others = sorted({str(value) for value in table.get(name, pd.Series(dtype=object)).dropna()} - {str(here)})
        if others:
            raise SystemExit(f"error: {path} has rows of {name} {', '.join(others)}, and this is {here}: name another --csv")

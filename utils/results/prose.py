"""How a claim is made: a sentence with gaps, the numbers that fill them, and the condition under which it is printed.

The sentences themselves stand in `claims`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pandas as pd

from utils.paths import BENCHMARKS
from utils.results.store import read_table

Tables = dict[str, pd.DataFrame]
WIDTH = 118  # columns of the README


def minus(text: str) -> str:
    """Return a text with minus signs for hyphens."""
    return text.replace("-", "\N{MINUS SIGN}")


def signed(value: float) -> str:
    return minus(f"{value:+.3f}")


def listed(parts: list[str]) -> str:
    """Return "a, b and c"."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def in_words(count: int) -> str:
    """Return a small number as a word, and a larger one as it is."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    return words[count] if 0 <= count < len(words) else f"{count:,}"


class Estimate(NamedTuple):
    """A value with its 95 % interval; prints as 0.905 [0.867, 0.941], with "+" in the format as a difference, with "%" in %."""

    value: float
    lo: float
    hi: float

    def __format__(self, spec: str) -> str:
        form = {"": "{:.3f}", "+": "{:+.3f}", "%": "{:.0%}"}[spec]
        value, lo, hi = (minus(form.format(number)) for number in self)
        return f"{value} [{lo}, {hi}]"

    @property
    def holds_zero(self) -> bool:
        return self.lo <= 0 <= self.hi


def interval_text(table: pd.DataFrame, column: str, form: str = "") -> pd.Series:
    """Return "0.905 [0.867, 0.941]" of each row: of `column`, `column_lo` and `column_hi`, or of `value`, `lo` and `hi`.

    `form` "+" is that of differences.
    """
    ends = ["value", "lo", "hi"] if column == "value" else [column, f"{column}_lo", f"{column}_hi"]
    return pd.Series([format(Estimate(*row), form) for row in table[ends].itertuples(index=False)], table.index)


@dataclass(frozen=True)
class Claim:
    """A sentence, the numbers in it, and the condition on them that makes it true."""

    sentence: str
    numbers: Callable[[Tables], SimpleNamespace]
    holds: Callable[[SimpleNamespace], bool]


CLAIMS: dict[str, Claim] = {}


class NotRun(LookupError):
    """The tables lack what a claim is about."""


def claim(sentence: str, holds: Callable[[SimpleNamespace], bool]):
    """Register the decorated function, tables -> numbers, under its name as the claim `sentence`."""

    def register(numbers: Callable[[Tables], dict]):
        def found(tables: Tables) -> SimpleNamespace:
            try:
                return SimpleNamespace(**numbers(tables))
            except (LookupError, ValueError) as error:
                raise NotRun(f"{numbers.__name__}: {error}") from error

        CLAIMS[numbers.__name__] = Claim(" ".join(sentence.split()), found, holds)
        return numbers

    return register


def read_tables(folder: Path) -> Tables:
    """Return all CSV tables of a folder by name, as printed there, and the committed benchmarks as `benchmark_<name>`.

    Raises ValueError, naming the file, for one that is damaged.
    """
    measured = {f"benchmark_{path.stem}": path for path in sorted(BENCHMARKS.glob("*.csv"))}
    paths = measured | {path.stem: path for path in sorted(folder.glob("*.csv"))}
    return {name: read_table(path, (), (), "make it again (`make figures`)") for name, path in paths.items()}


def say(name: str, tables: Tables) -> str:
    """Return a claim's sentence with its numbers; a bracketed note where these tables lack it or do not carry it."""
    one = CLAIMS[name]
    try:
        numbers = one.numbers(tables)
    except NotRun:
        return f"[{name.replace('_', ' ')}: not run here.]"
    if not one.holds(numbers):
        return f"[{name.replace('_', ' ')}: does not hold on these results.]"
    return one.sentence.format(**vars(numbers))


def filled(paragraph: Sequence[str], tables: Tables) -> str:
    """Return some claims as one paragraph; those that these tables lack, or do not carry, are named in a note behind it."""
    sentences = {name: say(name, tables) for name in paragraph}
    left_out = [sentence for sentence in sentences.values() if sentence.startswith("[")]
    printed = [sentence for sentence in sentences.values() if not sentence.startswith("[")]
    return " ".join(printed + ([f"*{' '.join(left_out)}*"] if left_out else []))


def block(paragraphs: Sequence[Sequence[str]], tables: Tables) -> str:
    """Return paragraphs of claims in lines of `WIDTH` columns, for the README."""
    return "\n\n".join(textwrap.fill(filled(one, tables), WIDTH, break_on_hyphens=False) for one in paragraphs) + "\n"

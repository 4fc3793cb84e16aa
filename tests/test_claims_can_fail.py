"""Every claim can fail: some change of what its sentence rests on makes its condition false."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Real
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from utils.config import get_profile
from utils.results import claims, prose
from utils.results.prose import Estimate

assert claims  # its import registers them


@pytest.fixture(scope="module")
def tables():
    return prose.read_tables(get_profile("synthff").workspace.tables)


def changed(value, change: Callable[[object], list]) -> Iterator:
    """Yield copies of a value in which one thing is another, however deep it lies in containers.

    `change` returns what is tried in place of a thing, nothing for one that is left as it is.
    """
    yield from change(value)
    if isinstance(value, SimpleNamespace):
        yield from (SimpleNamespace(**other) for other in changed(vars(value), change))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (value | {key: other} for other in changed(item, change))
    elif isinstance(value, pd.Series):
        yield from (pd.Series(other, dtype=object) for other in changed(value.to_dict(), change))
    elif isinstance(value, list | tuple) and not isinstance(value, Estimate):
        make = value._make if hasattr(value, "_make") else type(value)
        for place, item in enumerate(value):
            yield from (make([*value[:place], other, *value[place + 1 :]]) for other in changed(item, change))


def opposed(value) -> list[Estimate]:
    """Return other estimates in place of one: its mirror, those just above and just below zero, and far off on both sides."""
    if not isinstance(value, Estimate):
        return []
    moved = [-value.lo + 0.001, -value.hi - 0.001, 1, -1]
    return [Estimate(-value.value, -value.hi, -value.lo), *(Estimate(*(end + by for end in value)) for by in moved)]


def perturbed(value) -> list:
    """Return other numbers in place of a number, the other truth of two, and nothing in place of several things."""
    if isinstance(value, bool | np.bool_):
        return [not value]
    if isinstance(value, Real):
        return [-value, 10 * value, 0 * value, value + 1]
    return [type(value)()] if isinstance(value, list | set | frozenset) else []


class Watched:
    """The numbers of a claim, which notes which of them its condition reads."""

    def __init__(self, numbers: SimpleNamespace):
        self._numbers, self._read = numbers, {}

    def __getattr__(self, name: str):
        return self._read.setdefault(name, getattr(self._numbers, name))


def holds(name: str, numbers: SimpleNamespace) -> bool:
    try:
        return bool(prose.CLAIMS[name].holds(numbers))
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return False


@pytest.mark.parametrize("name", prose.CLAIMS)
def test_a_claim_fails_where_any_of_the_numbers_that_it_rests_on_is_another(name, tables):
    numbers = prose.CLAIMS[name].numbers(tables)
    watched = Watched(numbers)
    assert holds(name, watched)
    rests_on = {one: value for one, value in watched._read.items() if not isinstance(value, str)}  # texts are made of numbers
    assert rests_on
    for one, value in rests_on.items():
        others = [*changed(value, opposed), *changed(value, perturbed)]
        failing = [other for other in others if not holds(name, SimpleNamespace(**vars(numbers) | {one: other}))]
        assert failing, f"it holds whatever {one} is: ask for more"


def test_changes_reach_everything_and_one_thing_at_a_time():
    some = SimpleNamespace(gain=Estimate(0.2, 0.1, 0.4), many={"a": [Estimate(-3, -4, -2)]}, who="a", count=3)
    found = [vars(other) for other in changed(some, opposed)]
    assert vars(some) | {"gain": Estimate(-0.2, -0.4, -0.1)} in found
    assert vars(some) | {"many": {"a": [Estimate(3, 2, 4)]}} in found
    assert len(found) == 2 * len(opposed(some.gain))
    _, above, below, *far = opposed(Estimate(0.1, -0.1, 0.4))
    assert above.lo > 0 > below.hi and above.hi - above.lo == pytest.approx(0.5) == below.hi - below.lo
    assert [one.value for one in far] == [1.1, -0.9]
    plain = SimpleNamespace(row=pd.Series({"minutes": 2.0, "cpu": "x"}), sure=np.True_, names={"a"}, who="a")
    found = list(changed(plain, perturbed))
    assert [other.row["minutes"] for other in found] == [-2, 20, 0, 3, 2, 2]
    assert [(bool(other.sure), other.names) for other in found[4:]] == [(False, {"a"}), (True, set())]

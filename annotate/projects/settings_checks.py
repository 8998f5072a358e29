"""Checks of a project's training defaults, made where they are saved, by the part that knows those settings.

Labelling needs no trainer, and so knows none of its options. Apps that do register a check.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

# Given training and sampling settings: the name of the field at fault, and what is wrong, or None.
Check = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[str, str] | None]

_checks: list[Check] = []


def register(check: Check) -> None:
    """Ask `check` from now on. A check that is registered twice is asked once."""
    if check not in _checks:
        _checks.append(check)


def find_problems(training: Mapping[str, Any], sampling: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the checks find: a field of the project, and a sentence."""
    for check in _checks:
        if problem := check(training, sampling):
            yield problem

"""Reasons and reports of the engine, as readers may see them: with names in place of the folders of this machine.

And without annotators, or under the names that they have now.
"""

import logging
from collections.abc import Mapping
from typing import Any

from django.conf import settings as site

from annotate.projects import base_models
from primitives.text import make_storable, without_folders

OF_PEOPLE = ("checks", "reliability")  # what a probe's report says of each annotator, by pseudonym


def tell_reason(logger: logging.Logger, what: object, reason: str, base_model: str) -> str:
    """Return why `what` failed, for its readers, with names in place of folders. The log keeps the whole."""
    logger.warning("%s failed: %s", what, reason)
    return str(hide_folders(reason, base_model))


def hide_folders(said: Any, base_model: str) -> Any:
    """Return a text or a report of the engine with names in place of folders, such as var/runs/reviews-1 and qwen."""
    places = (site.VAR, site.BASE_DIR, site.HUB_CACHE, base_models.locate(base_model), *site.BASE_MODELS)
    return _hide(said, [str(place) for place in places if str(place).startswith("/")])


def names_people(report: Any) -> bool:
    """Return whether a probe's report says anything of annotators."""
    return isinstance(report, dict) and any(report.get(part) for part in OF_PEOPLE)


def rename_people(report: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a probe's report with annotators under the names that they have now. Without one, they are left out.

    Raises ValueError for checks that are none.
    """
    found: dict[str, Any] = {}
    for part in OF_PEOPLE:
        told = report.get(part)
        if isinstance(told, dict):
            found[part] = {names[name]: said for name, said in told.items() if name in names}
    for counts in found.get("checks", {}).values():
        for chance, times in counts:
            if not (0 <= chance <= 1 and times >= 0):
                raise ValueError("a check has a chance from 0 to 1")
    return {key: value for key, value in report.items() if key not in OF_PEOPLE} | found


def _hide(said: Any, known: list[str]) -> Any:
    if isinstance(said, str):
        return make_storable(without_folders(said, *known))
    if isinstance(said, dict):
        return {key: _hide(value, known) for key, value in said.items()}
    return [_hide(one, known) for one in said] if isinstance(said, list) else said

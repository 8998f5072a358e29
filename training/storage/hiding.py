"""Reasons and reports of the engine, as readers may see them: with names in place of the folders of this machine."""

import logging
from typing import Any

from django.conf import settings as site

from annotate.projects import base_models
from primitives.text import make_storable, without_folders


def tell_reason(logger: logging.Logger, what: object, reason: str, base_model: str) -> str:
    """Return why `what` failed, for its readers, with names in place of folders. The log keeps the whole."""
    logger.warning("%s failed: %s", what, reason)
    return str(hide_folders(reason, base_model))


def hide_folders(said: Any, base_model: str) -> Any:
    """Return a text or a report of the engine with names in place of folders, such as var/runs/reviews-1 and qwen."""
    places = (site.VAR, site.BASE_DIR, site.HUB_CACHE, base_models.locate(base_model), *site.BASE_MODELS)
    return _hide(said, [str(place) for place in places if str(place).startswith("/")])


def _hide(said: Any, known: list[str]) -> Any:
    if isinstance(said, str):
        return make_storable(without_folders(said, *known))
    if isinstance(said, dict):
        return {key: _hide(value, known) for key, value in said.items()}
    return [_hide(one, known) for one in said] if isinstance(said, list) else said

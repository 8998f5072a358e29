"""Refusals: what an act of a user answers when it cannot be done."""

from django.http import Http404
from django.utils.translation import gettext_lazy

NOTHING_HERE = gettext_lazy("There is nothing at this address, or it is not for you.")


class RefusalError(Exception):
    """Something asked for is refused. `message` is for the user; `field` names what it is about, or is empty."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.message, self.field = message, field


class MissingError(Http404):
    """Something that is not there. Its message is for the user, while that of a plain Http404 is for a log."""

"""The desk over HTTP, for the tests beside this file."""

import re

from django.test import Client
from django.urls import reverse

from annotate.models import Claim

FRAGMENT = {"HX-Request": "true"}


def url(name: str, *args: object) -> str:
    return reverse(name, args=["reviews", *args])


def hidden_fields(html: str) -> dict[str, str]:
    """Return the hidden fields of the comparison on a page or in a fragment."""
    names = "token|view|was"
    return dict(
        re.findall(
            rf'<input type="hidden" name="({names})" value="([^"]*)"', html.split("<template", maxsplit=1)[0]
        )
    )


def shown(token: str) -> tuple[int, int]:
    """Return the ids of the completions that a claim shows, left and right. No page tells them."""
    return Claim.objects.values_list("left", "right").get(token=token)


def on_screen(desk: Client) -> dict[str, str]:
    return hidden_fields(desk.get(url("judge")).content.decode())

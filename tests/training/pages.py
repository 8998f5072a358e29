"""Helpers of the tests of the pages: a response's text, and the addresses of a round's pages."""

import re
from typing import Any

from django.urls import reverse

from annotate.models import Comparison
from training.models import Round

FRAGMENT = {"HX-Request": "true"}


def text(response: Any) -> str:
    content = b"".join(response) if response.streaming else response.content
    return str(content.decode())


def address(name: str, round_: Round) -> str:
    slug = round_.project.slug
    arguments: dict[str, tuple[Any, ...]] = {
        "rounds": (slug,),
        "ready_pairs": (slug,),
        "policies": (slug,),
        "policy": (slug, round_.start_policy_id),
        "shaped": (slug, Comparison.objects.filter(project=round_.project).values_list("pk", flat=True)[0]),
        "round_file": (slug, round_.number, "config.json"),
    }
    return reverse(name, args=arguments.get(name, (slug, round_.number)))


def as_sent(form: Any) -> dict[str, Any]:
    """Return the unchanged form as a browser sends it."""
    values = {name: form[name].value() for name in form.fields}
    empty = {"reasons": "", "criteria": "", "training_settings": "{}", "sampling_settings": "{}"}
    return {name: value for name, value in values.items() if value is not None and value is not False} | empty


def shown_in(page: Any, form: Any, action: str) -> dict[str, Any]:
    """Return the unchanged form as a browser sends it, with nothing but the fields that the page shows.

    `action` is the value of its button, or empty.
    """
    drawn = re.findall(r"<form method=\"post\".*?</form>", text(page), re.DOTALL)
    [html] = [
        one for one in drawn if "start-round" in one and ('value="write"' in one) == (action == "write")
    ]
    names = set(re.findall(r'name="([^"]+)"', html))
    values = {name: form[name].value() for name in form.fields if name in names}
    sent = {name: value for name, value in values.items() if value is not None and value is not False}
    return sent | {"action": action}

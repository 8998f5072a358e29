"""Every address of the site, from its own URL configuration, and who may open it.

A new address without a line here fails `test_every_address_has_its_readers`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

ANYONE = ("",)
JUDGES = ("admin", "annotator")
READERS = ("admin", "researcher")
ADMINS = ("admin",)
MEMBERS = ("admin", "annotator", "researcher")

# Route after "p/<slug:slug>/" -> the roles that may use it.
PROJECT = {
    "": MEMBERS,
    "guidelines/": MEMBERS,
    "judge/": JUDGES,
    "history/": JUDGES,
    "me/": JUDGES,
    "settings/": ADMINS,
    "members/": ADMINS,
    "trail/": ADMINS,
    "comparisons/": READERS,
    "comparisons/again/": ADMINS,
    "comparisons/<int:comparison_id>/change/": ADMINS,
    "prompts/": READERS,
    "prompts/<int:prompt_id>/correct/": ADMINS,
    "prompts/<int:prompt_id>/change/": ADMINS,
    "import/": ADMINS,
    "export/": READERS,
    "snapshots/": READERS,
    "quality/": READERS,
    "flags/": READERS,
    "flags/<int:flag_id>/resolve/": ADMINS,
    "rounds/": READERS,
    "rounds/ready/": READERS,
    "rounds/choosing/": ADMINS,
    "rounds/estimates/": ADMINS,
    "policies/": READERS,
    "policies/new/": ADMINS,
    "trials/": READERS,
    "merged/": READERS,
    "judgments/": READERS,
}
# Route after "api/v1/projects/<slug:slug>/".
API = {
    "": MEMBERS,
    "settings/": ADMINS,
    "archive/": ADMINS,
    "members/": ADMINS,
    "invitations/": ADMINS,
    "trail/": ADMINS,
    "prompts/": READERS,
    "prompts/<int:prompt_id>/withdrawal/": ADMINS,
    "completions/": READERS,
    "comparisons/": READERS,
    "comparisons/again/": ADMINS,
    "comparisons/<int:comparison_id>/withdrawal/": ADMINS,
    "comparisons/<int:comparison_id>/again/": ADMINS,
    "comparisons/<int:comparison_id>/gold/": ADMINS,
    "flags/": ADMINS,
    "imports/": ADMINS,
    "next/": JUDGES,
    "judgments/": MEMBERS,
    "judgments/<int:judgment_id>/lineage/": READERS,
    "judgments/undo/": JUDGES,
    "judgments/redo/": JUDGES,
    "claims/": JUDGES,
    "quality/": READERS,
    "agreement/": READERS,
    "judgments.jsonl": READERS,
    "judgments.csv": READERS,
    "export/": READERS,
    "pairs/": READERS,
    "pairs.csv": READERS,
    "snapshots/": READERS,
    "rounds/": READERS,
    "rounds/choosing/": READERS,
    "rounds/estimates/": ADMINS,
    "policies/": READERS,
    "merged/": READERS,
    "leaderboard/": READERS,
    "workers/": READERS,
}
# Addresses of no project.
OWN = {
    "": True,
    "keys/": True,
    "password/": True,
    "tokens/": True,
    "tokens/<int:token_id>/revoke/": True,
    "new/": True,
    "api/v1/projects/": True,
    "api/v1/my/invitations/": True,
    "api/v1/my/invitations/<int:invitation_id>/": True,
    "api/v1/schema/": False,
    "api/v1/docs/": False,
    "api/v1/<path:path>": True,
    "login/": False,
    "logout/": False,
    "theme/": False,
    "set-password/": False,
    "set-password/<str:secret>/": False,
    "account/": True,
    "invitations/<int:invitation_id>/": True,
}
# Changes that fewer may make than may look.
WRITERS = {
    "rounds/": ADMINS,
    "rounds/<int:number>/": ADMINS,
    "policies/<int:policy_id>/": ADMINS,
    "policies/<int:policy_id>/push/": ADMINS,
    "snapshots/": READERS,
    "api/prompts/": ADMINS,
    "api/comparisons/": ADMINS,
    "api/comparisons/<int:comparison_id>/": ADMINS,
    "api/judgments/": JUDGES,
    "api/rounds/": ADMINS,
    **{
        f"api/rounds/{act}": ADMINS
        for act in (
            "writing/",
            *(f"<int:number>/{move}/" for move in ("resume", "cancel", "promote", "reject")),
        )
    },
    "api/policies/<int:policy_id>/current/": ADMINS,
    "api/policies/<int:policy_id>/name/": ADMINS,
}


@dataclass(frozen=True)
class Address:
    """A route, whether it belongs to the API, and the roles that may read and write there."""

    route: str
    readers: tuple[str, ...]
    writers: tuple[str, ...]
    of_project: bool
    needs_sign_in: bool = True

    @property
    def is_api(self) -> bool:
        return self.route.startswith("api/")

    def path(self, values: dict[str, Any]) -> str:
        return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda match: str(values[match[1]]), self.route)


def routes() -> Iterator[str]:
    """Every route that the project's own code answers. Django's administration has tests of its own."""

    def walk(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[str]:
        for pattern in patterns:
            route = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, route)
            else:
                yield route

    return (route for route in walk(get_resolver().url_patterns, "") if not route.startswith("admin/"))


def addresses() -> list[Address]:
    return [_address(route) for route in routes()]


def _address(route: str) -> Address:
    for prefix, table, key in (
        ("api/v1/projects/<slug:slug>/", API, "api/"),
        ("p/<slug:slug>/", PROJECT, ""),
    ):
        if route.startswith(prefix):
            rest = route.removeprefix(prefix)
            readers = _longest(table, rest)
            writers = WRITERS.get(key + rest) or readers
            return Address(route, readers, writers, of_project=True)
    return Address(route, ANYONE, ANYONE, of_project=False, needs_sign_in=OWN[route])


def _longest(table: dict[str, tuple[str, ...]], rest: str) -> tuple[str, ...]:
    """Return the line of the longest prefix: an address is for the people of the address above it."""
    found = max((prefix for prefix in table if prefix and rest.startswith(prefix)), key=len, default="")
    if not found and rest:
        raise KeyError(rest)
    return table[found]

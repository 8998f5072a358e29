"""Choices that several pages offer, for templates to loop over."""

from collections.abc import Mapping
from typing import Any

from django import template
from django.utils.functional import Promise

from annotate.judgments.aspects import titles_of
from annotate.judgments.scale import SAID, SCALE, SKIP, SKIPS, Choice, code_of, judgment_code
from annotate.models import Comparison, Judgment, Project, TextView

register = template.Library()


@register.simple_tag
def verdict_scale(keys: Mapping[str, str] | None = None) -> list[tuple[Choice, str]]:
    """Return the verdicts from A to B, each with its key."""
    return [(choice, (keys or {}).get(choice.code, "")) for choice in SCALE]


@register.simple_tag
def skips(keys: Mapping[str, str] | None = None) -> list[tuple[Choice, str]]:
    """Return the ways to skip, each with its key."""
    return [(choice, (keys or {}).get(choice.code, "")) for choice in SKIPS]


@register.simple_tag
def verdict_of(code: str) -> Choice:
    return SAID.get(code, SKIP)


@register.simple_tag
def code_on(comparison: Comparison, given: Judgment | Mapping[str, Any]) -> str:
    """Return the code of a judgment, or of one of its criteria, with the comparison's first completion as A."""
    if isinstance(given, Judgment):
        return judgment_code(given, comparison.first_id)
    return code_of(given, comparison.first_id)


@register.simple_tag
def text_views(keys: Mapping[str, str] | None = None) -> list[tuple[str, str | Promise, str]]:
    """Return the ways to show a text: name, label and key."""
    return [(name, label, (keys or {}).get(name, "")) for name, label in TextView.choices]


@register.simple_tag
def reasons_of(project: Project, judgment: Judgment) -> list[str]:
    """Return the titles of a judgment's reasons."""
    return titles_of(project.all_reasons, judgment.reasons)


@register.simple_tag
def criteria_of(project: Project, judgment: Judgment) -> list[tuple[str, Any]]:
    """Return a judgment's criteria: the title, and what was said."""
    return list(
        zip(titles_of(project.all_criteria, list(judgment.criteria)), judgment.criteria.values(), strict=True)
    )

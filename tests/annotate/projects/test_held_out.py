"""Prompts held out by the thousand."""

from typing import Any

from django.db import connection

from annotate.models import Prompt
from annotate.projects import prompts

MANY = 5_500


def test_any_number_of_prompts_is_held_out(project: Any) -> None:
    """PostgreSQL takes 65,535 values in a statement, and a large project holds out more prompts."""
    made = [Prompt(project=project) for _ in range(MANY)]
    for number, prompt in enumerate(made):
        prompt.set_content(f"Prompt {number}")
        prompt.held_out = False
    Prompt.objects.bulk_create(made)
    sizes: list[int] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        sizes.append(len(params or ()))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        assert prompts.hold_out_more(project, MANY) == MANY
    assert max(sizes) < MANY
    assert project.prompts.filter(held_out=True).count() == MANY

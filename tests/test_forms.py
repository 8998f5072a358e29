"""Browsers refuse no number that the server would take."""

from collections.abc import Iterator

from django import forms
from django.urls import get_resolver


def all_forms(base: type = forms.BaseForm) -> Iterator[type]:
    for form in base.__subclasses__():
        yield form
        yield from all_forms(form)


def test_a_fraction_may_have_any_number_of_digits() -> None:
    assert get_resolver().url_patterns  # which import all forms
    ours = [form for form in all_forms() if form.__module__.startswith(("annotate.", "training."))]
    steps = {
        f"{form.__name__}.{name}": field.widget.attrs.get("step")
        for form in ours
        for name, field in getattr(form, "base_fields", {}).items()
        if isinstance(field, forms.FloatField)
    }
    assert "TryForm.top_p" in steps
    assert {name for name, step in steps.items() if step != "any"} == set()

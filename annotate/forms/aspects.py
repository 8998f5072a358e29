"""A form field for a project's reasons or criteria: titles, places and removals of those that it has, and new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.utils.translation import gettext_lazy as _

from annotate.models import Aspect
from annotate.models.aspects import new_key, read_aspects

_refuse_null = ProhibitNullCharactersValidator()


@dataclass(frozen=True)
class AspectRow:
    """One aspect as the page shows it. `asked` is whether its box is ticked."""

    key: str
    title: str
    place: str
    asked: bool


class AspectsWidget(forms.Textarea):
    """The fields of the rows, and a text with one new title a line."""

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> dict[str, Any]:
        lists = {"title": {}, "place": {}, "asked": {}}  # type: dict[str, dict[str, str]]
        for field in data:
            part, dash, key = field.removeprefix(f"{name}-").partition("-")
            if field.startswith(f"{name}-") and dash and part in lists:
                lists[part][key] = data.get(field, "")
        return {"new": data.get(name, ""), **lists}

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        return name not in data


class AspectsField(forms.Field):
    """The JSON list of a project's aspects. Give it the present ones as `current`.

    A row that the page did not have, as it was added meanwhile, stays as it is. Nothing is ever dropped: judgments may
    hold it.
    """

    widget = AspectsWidget

    def __init__(self, *, most: int, longest: int = 60, **kwargs: Any) -> None:
        self.most, self.longest = most, longest
        self.current: list[Aspect] = []
        super().__init__(required=False, **kwargs)
        self.widget.attrs["rows"] = 3

    def prepare_value(self, value: Any) -> Any:
        return value["new"] if isinstance(value, dict) else ""

    def rows(self, value: Any) -> list[AspectRow]:
        """Return the rows to show, for what was posted or the stored list."""
        posted = value if isinstance(value, dict) else {"title": {}, "place": {}, "asked": {}}
        rows = []
        for number, one in enumerate(self.current, start=1):
            is_posted = one.key in posted["title"]
            title = posted["title"].get(one.key, one.title)
            place = posted["place"].get(one.key, str(number))
            asked = one.key in posted["asked"] if is_posted else not one.is_removed
            rows.append(AspectRow(one.key, title, place, asked))
        return rows

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.clean(data) != initial)
        except ValidationError:
            return True

    def clean(self, value: Any) -> Any:
        rows = sorted(self.rows(value), key=lambda row: _place(row.place))
        imported = {one.key for one in self.current if one.is_imported}
        aspects = [
            Aspect(row.key, self._title(row.title), not row.asked, not row.asked and row.key in imported)
            for row in rows
        ]
        new = dict.fromkeys(
            self._title(line) for line in str(value["new"] or "").splitlines() if line.strip()
        )
        asked = [one.title for one in aspects if not one.is_removed]
        count = len(asked) + len(new.keys() - asked)
        if count > self.most:  # before each gets a key, which looks at all others
            raise ValidationError(
                _("At most %(most)d: these are %(count)d."), params={"most": self.most, "count": count}
            )
        for title in new:
            _add(aspects, title)
        asked = [one.title for one in aspects if not one.is_removed]
        for title in asked:
            if asked.count(title) > 1:
                raise ValidationError(_("Two are called “%(title)s”."), params={"title": title})
        return [one.stored() for one in aspects]

    def _title(self, text: str) -> str:
        title = " ".join(text.split())
        _refuse_null(title)
        if not title:
            raise ValidationError(_("Each needs a title. Untick what is not to be asked for."))
        if len(title) > self.longest:
            raise ValidationError(
                _("“%(start)s…” is longer than %(longest)d characters."),
                params={"start": title[:20], "longest": self.longest},
            )
        return title


def _place(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")  # at the end


def _add(aspects: list[Aspect], title: str) -> None:
    """Add an aspect. One with this title is asked for again, under its old key."""
    for number, one in enumerate(aspects):
        if one.title == title:
            aspects[number] = replace(one, is_removed=False, is_imported=False)
            return
    aspects.append(Aspect(new_key(title, {one.key for one in aspects}), title))


def current_aspects(stored: list[dict[str, Any]]) -> list[Aspect]:
    """Return the aspects of a project's column, those that are asked for first."""
    return sorted(read_aspects(stored), key=lambda one: one.is_removed)

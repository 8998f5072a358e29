"""A comparison as the desk and the history show it: its prompt, both completions, and what was noted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.judgments.scale import CHOICES, code_of
from annotate.judgments.verdicts import CRITERION, DRAFT_KEYS, RATIONALE, REASON
from annotate.models import Aspect, Claim, Comparison, Completion, Judgment, Project, Prompt, TextView
from annotate.text import rendering
from annotate.text.chat_display import Chat, show_chat, show_completion
from annotate.text.chats import as_text
from annotate.text.differences import WORD_LIMIT, are_similar, mark_differences, measure_beginning

LONG_BEGINNING = 1_000  # characters: what differs after them is mostly below what is in sight
SHORT_METADATA = 200  # characters of a value that is shown unfolded


@dataclass(frozen=True)
class Side:
    """`cut`: only the beginning is shown. `uncompared`: its differences are marked in its beginning alone."""

    letter: str
    name: str
    completion: Completion
    html: SafeString
    cut: bool
    uncompared: bool


@dataclass(frozen=True)
class Criterion:
    """A criterion with the code of what was said by it. `field` is its name in the form."""

    aspect: Aspect
    field: str
    code: str


def show_metadata(
    key: str, value: Any, show: Callable[[str], SafeString] = rendering.render_markdown
) -> tuple[str, SafeString, bool]:
    """Return a key of metadata, its value as HTML, and whether that is long. A value that is not text is shown as
    JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    html = show(text) if isinstance(value, str) else rendering.render_raw(text)
    return key, html, len(text) > SHORT_METADATA or "\n" in text


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The texts of a comparison. `chosen` is the view that was asked for, `view` the one that they are shown in."""

    project: Project
    prompt: Prompt
    left: Completion
    right: Completion
    chosen: str = TextView.RENDERED
    word_limit = WORD_LIMIT
    visible_metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_comparison(cls, comparison: Comparison, project: Project, chosen: str) -> Texts:
        """Return the texts for those who see all of its metadata."""
        return cls(
            project=project,
            prompt=comparison.prompt,
            left=comparison.first,
            right=comparison.second,
            chosen=chosen,
            visible_metadata=comparison.all_metadata,
        )

    @cached_property
    def are_similar(self) -> bool:
        """Return whether differences are worth marking."""
        return are_similar(self.left.text, self.right.text)

    @property
    def likeness(self) -> str:
        """Say that the completions look alike though they are two, where the view does not show it."""
        if (
            self.view == TextView.DIFFERENCES
            or self.left.messages is not None
            or self.right.messages is not None
        ):
            return ""
        if self.left.text == self.right.text:
            return _("Both completions are the same.")
        if self.left.text.split() == self.right.text.split():
            return _("Only white space differs.")
        return self._say_common_beginning()

    def _say_common_beginning(self) -> str:
        """Say how long both completions are the same, where the first difference is out of sight."""
        left, right = (one.text[: rendering.DISPLAY_LIMIT] for one in (self.left, self.right))
        if len(left) < LONG_BEGINNING or left[:LONG_BEGINNING] != right[:LONG_BEGINNING]:
            return ""
        count, is_of_words = measure_beginning(left, right)
        if not count:
            return _("Both have the same long beginning.")
        if is_of_words:
            sentence = ngettext(
                "Both begin with the same %(count)s word.", "Both begin with the same %(count)s words.", count
            )
        else:
            sentence = ngettext(
                "Both begin with the same %(count)s character.",
                "Both begin with the same %(count)s characters.",
                count,
            )
        return sentence % {"count": intcomma(count)}

    @cached_property
    def view(self) -> str:
        if self.chosen != TextView.DIFFERENCES or self.are_similar:
            return self.chosen
        return TextView.RAW if self.project.default_view == TextView.RAW else TextView.RENDERED

    @cached_property
    def chat(self) -> Chat:
        raw = self.view == TextView.RAW
        return show_chat(
            self.prompt.content, tools=self.prompt.tools, hosts=self.project.image_hosts, raw=raw
        )

    def _show(self, text: str) -> SafeString:
        if self.view == TextView.RAW:
            return rendering.render_raw(text)
        return rendering.render_markdown(text, self.project.image_hosts)

    def _show_completion(self, completion: Completion) -> tuple[SafeString, bool]:
        """Return a completion as HTML, and whether that is not all of it."""
        if completion.messages is not None:
            raw = self.view == TextView.RAW
            shown, is_cut = show_completion(completion.messages, hosts=self.project.image_hosts, raw=raw)
            return render_to_string("annotate/_messages.html", {"messages": shown}), is_cut
        if not completion.text.strip():
            return format_html('<p class="faint">{}</p>', _("(empty)")), False
        return self._show(completion.text), rendering.cut(completion.text)[1]

    @property
    def metadata(self) -> list[tuple[str, SafeString, bool]]:
        """The metadata that the project shows, as `show_metadata` returns it."""
        return [show_metadata(key, value, self._show) for key, value in self.visible_metadata.items()]

    @property
    def prompt_text(self) -> str:
        """All of the prompt, as plain text."""
        return as_text(self.prompt.content)

    @cached_property
    def sides(self) -> list[Side]:
        both = (self.left, self.right)
        uncompared = (False, False)
        shown: Sequence[tuple[SafeString, bool]]
        if self.view == TextView.DIFFERENCES:
            found = mark_differences(self.left.text, self.right.text)
            uncompared = found.stopped
            shown = [
                (
                    mark_safe(f'<div class="prose plain" dir="auto">{part}</div>'),  # noqa: S308 - differences() escapes
                    rendering.cut(one.text)[1],
                )
                for one, part in zip(both, found.html, strict=True)
            ]
        else:
            shown = [self._show_completion(completion) for completion in both]
        return [
            Side(name.upper(), name, one, html, is_cut, stopped)
            for name, one, (html, is_cut), stopped in zip("ab", both, shown, uncompared, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Stage(Texts):
    """One comparison as one person sees it. `said` is what was noted so far; `undone` whether a verdict on it was
    taken back.

    `token` is their claim's: by it, a text that is too long for the page is opened whole. `claim` is its key, which
    outlasts an undo.
    """

    token: uuid.UUID
    claim: int
    said: Mapping[str, Any] = field(default_factory=dict)
    undone: bool = False

    @classmethod
    def of_claim(cls, claim: Claim, project: Project, chosen: str = TextView.RENDERED) -> Stage:
        return cls(
            project=project,
            token=claim.token,
            claim=claim.pk,
            prompt=claim.comparison.prompt,
            left=claim.left,
            right=claim.right,
            chosen=chosen,
            said=claim.draft,
            undone=claim.undone_id is not None,
            visible_metadata=claim.comparison.visible_metadata(project.visible_metadata),
        )

    @classmethod
    def of_judgment(cls, judgment: Judgment, project: Project, chosen: str = TextView.RENDERED) -> Stage:
        claim = Claim.objects.get(comparison=judgment.comparison_id, annotator=judgment.annotator_id)
        return cls(
            project=project,
            token=claim.token,
            claim=claim.pk,
            prompt=judgment.comparison.prompt,
            left=judgment.left,
            right=judgment.right,
            chosen=chosen,
            said={name: getattr(judgment, name) for name in DRAFT_KEYS},
            visible_metadata=judgment.comparison.visible_metadata(project.visible_metadata),
        )

    @property
    def was(self) -> str:
        """The verdict given before, in the form's words; empty if none was."""
        return code_of(self.said, self.left.pk)

    @property
    def was_in_words(self) -> str:
        return str(CHOICES[self.was].label) if self.was in CHOICES else ""

    @property
    def reasons(self) -> list[tuple[Aspect, bool]]:
        """The project's reasons, and removed ones that were picked; and whether each was."""
        picked = self.said.get("reasons") or ()
        return [(one, one.key in picked) for one in _asked(self.project.all_reasons, picked)]

    @property
    def criteria(self) -> list[Criterion]:
        """The project's criteria, and removed ones that were judged by."""
        said = self.said.get("criteria") or {}
        return [
            Criterion(one, CRITERION + one.key, code_of(said.get(one.key) or {}, self.left.pk))
            for one in _asked(self.project.all_criteria, said)
        ]

    @property
    def rationale(self) -> str:
        return str(self.said.get("rationale") or "")

    @property
    def asks_rationale(self) -> bool:
        return self.project.ask_rationale or bool(self.rationale)

    @property
    def asks(self) -> bool:
        """Return whether there is anything to say beside the verdict, or was."""
        return bool(self.reasons or self.criteria or self.asks_rationale)

    @property
    def asked(self) -> list[str]:
        """Return the names of what the form asks about, for `verdict_form`. Never empty."""
        names = [REASON + reason.key for reason, _picked in self.reasons]
        names += [criterion.field for criterion in self.criteria]
        return names + [RATIONALE] * self.asks_rationale or [""]


def _asked(aspects: list[Aspect], said: Container[str]) -> list[Aspect]:
    return [one for one in aspects if not one.is_removed or one.key in said]

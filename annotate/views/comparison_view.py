"""A comparison as the desk and the history show it: its prompt, both completions, and what was noted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.utils.safestring import SafeString, mark_safe

from annotate.judgments.scale import CHOICES, code_of
from annotate.judgments.verdicts import DRAFT_KEYS
from annotate.models import Claim, Comparison, Completion, Judgment, Project, Prompt, TextView
from annotate.text import rendering
from annotate.text.chat_display import Chat, show_chat
from annotate.text.chats import as_text
from annotate.text.differences import WORD_LIMIT, are_similar, differences
from annotate.views import verdict_form

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
    """`field` is its name in the form."""

    field: str
    name: str
    code: str


def show_metadata(
    key: str, value: Any, show: Callable[[str], SafeString] = rendering.markdown
) -> tuple[str, SafeString, bool]:
    """Return a key of metadata, its value as HTML, and whether that is long. What is no text is shown as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    html = show(text) if isinstance(value, str) else rendering.raw(text)
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

    @classmethod
    def of_comparison(cls, comparison: Comparison, project: Project, chosen: str) -> Texts:
        first, second = comparison.first, comparison.second
        return cls(project=project, prompt=comparison.prompt, left=first, right=second, chosen=chosen)

    @cached_property
    def are_similar(self) -> bool:
        """Return whether differences are worth marking."""
        return are_similar(self.left.text, self.right.text)

    @cached_property
    def view(self) -> str:
        if self.chosen != TextView.DIFFERENCES or self.are_similar:
            return self.chosen
        return TextView.RAW if self.project.default_view == TextView.RAW else TextView.RENDERED

    @cached_property
    def chat(self) -> Chat:
        return show_chat(self.prompt.content, hosts=self.project.image_hosts, raw=self.view == TextView.RAW)

    def _show(self, text: str) -> SafeString:
        if self.view == TextView.RAW:
            return rendering.raw(text)
        return rendering.markdown(text, self.project.image_hosts)

    @property
    def metadata(self) -> list[tuple[str, SafeString, bool]]:
        """The metadata that the project shows, as `show_metadata` returns it."""
        shown = self.prompt.visible_metadata(self.project.visible_metadata)
        return [show_metadata(key, value, self._show) for key, value in shown.items()]

    @property
    def prompt_text(self) -> str:
        """All of the prompt, as plain text."""
        return as_text(self.prompt.content)

    @cached_property
    def sides(self) -> list[Side]:
        both = (self.left, self.right)
        uncompared = (False, False)
        html: Sequence[SafeString]
        if self.view == TextView.DIFFERENCES:
            found = differences(self.left.text, self.right.text)
            uncompared = found.stopped
            html = [
                mark_safe(f'<div class="prose plain" dir="auto">{part}</div>')  # noqa: S308 - differences() escapes
                for part in found.html
            ]
        else:
            html = [self._show(completion.text) for completion in both]
        return [
            Side(name.upper(), name, one, part, rendering.cut(one.text)[1], stopped)
            for name, one, part, stopped in zip("ab", both, html, uncompared, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Stage(Texts):
    """One comparison as one person sees it. `said` is what was noted so far; `undone` whether a verdict on it was
    taken back.

    `token` is their claim's: by it, a text that is too long for the page is opened whole.
    """

    token: uuid.UUID
    said: Mapping[str, Any] = field(default_factory=dict)
    undone: bool = False

    @classmethod
    def of_claim(cls, claim: Claim, project: Project, chosen: str = TextView.RENDERED) -> Stage:
        return cls(
            project=project,
            token=claim.token,
            prompt=claim.comparison.prompt,
            left=claim.left,
            right=claim.right,
            chosen=chosen,
            said=claim.draft,
            undone=claim.undone_id is not None,
        )

    @classmethod
    def of_judgment(cls, judgment: Judgment, project: Project, chosen: str = TextView.RENDERED) -> Stage:
        claim = Claim.objects.get(comparison=judgment.comparison_id, annotator=judgment.annotator_id)
        return cls(
            project=project,
            token=claim.token,
            prompt=judgment.comparison.prompt,
            left=judgment.left,
            right=judgment.right,
            chosen=chosen,
            said={name: getattr(judgment, name) for name in DRAFT_KEYS},
        )

    @property
    def was(self) -> str:
        """The verdict given before, in the form's words; empty if none was."""
        return code_of(self.said, self.left.pk)

    @property
    def was_in_words(self) -> str:
        return str(CHOICES[self.was].label) if self.was in CHOICES else ""

    @property
    def reasons(self) -> list[tuple[str, bool]]:
        """The project's reasons, and whether each was picked."""
        picked = self.said.get("reasons") or ()
        return [(reason, reason in picked) for reason in self.project.reasons]

    @property
    def criteria(self) -> list[Criterion]:
        said = self.said.get("criteria") or {}
        return [
            Criterion(verdict_form.CRITERION + name, name, code_of(said.get(name) or {}, self.left.pk))
            for name in self.project.criteria
        ]

    @property
    def rationale(self) -> str:
        return str(self.said.get("rationale") or "")

    @property
    def asks(self) -> bool:
        """Return whether there is anything to say beside the verdict."""
        return bool(self.project.reasons or self.project.criteria or self.project.ask_rationale)

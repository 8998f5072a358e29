"""A comparison as the desk and the history show it: its prompt, both completions, and what was noted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.utils.functional import Promise
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _

from annotate.judgments.scale import CHOICES, code_of
from annotate.judgments.verdicts import CRITERION, DRAFT_KEYS, RATIONALE, REASON
from annotate.models import Aspect, Claim, Completion, Judgment, Project, Prompt
from annotate.text import rendering
from annotate.text.differences import WORD_LIMIT, differences

SHORT_METADATA = 200  # characters of a value that is shown unfolded
VIEWS = ("rendered", "raw", "differences")
ROLES = {"system": _("System"), "user": _("User"), "assistant": _("Assistant"), "tool": _("Tool")}


@dataclass(frozen=True)
class Message:
    """One message of a chat prompt; a plain prompt is one message without a role."""

    html: SafeString
    cut: bool
    role: str | Promise = ""
    kind: str = ""


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
    key: str, value: Any, show: Callable[[str], SafeString] = rendering.markdown
) -> tuple[str, SafeString, bool]:
    """Return a key of metadata, its value as HTML, and whether that is long. What is no text is shown as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    html = show(text) if isinstance(value, str) else rendering.raw(text)
    return key, html, len(text) > SHORT_METADATA or "\n" in text


@dataclass(frozen=True)
class Stage:
    """One comparison as one person sees it. `view` is how its texts are shown; `said` what was noted so far; `undone`
    whether a verdict on it was taken back.

    `token` is their claim's: by it, a text that is too long for the page is opened whole.
    """

    project: Project
    token: uuid.UUID
    prompt: Prompt
    left: Completion
    right: Completion
    view: str = "rendered"
    word_limit = WORD_LIMIT
    said: Mapping[str, Any] = field(default_factory=dict)
    undone: bool = False
    visible_metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_claim(cls, claim: Claim, project: Project, view: str = "") -> Stage:
        view = view if view in VIEWS else "rendered"
        return cls(
            project,
            claim.token,
            claim.comparison.prompt,
            claim.left,
            claim.right,
            view,
            claim.draft,
            claim.undone_id is not None,
            claim.comparison.visible_metadata(project.visible_metadata),
        )

    @classmethod
    def of_judgment(cls, judgment: Judgment, project: Project, view: str = "") -> Stage:
        view = view if view in VIEWS else "rendered"
        said = {name: getattr(judgment, name) for name in DRAFT_KEYS}
        claim = Claim.objects.get(comparison=judgment.comparison_id, annotator=judgment.annotator_id)
        comparison = judgment.comparison
        return cls(
            project,
            claim.token,
            comparison.prompt,
            judgment.left,
            judgment.right,
            view,
            said,
            visible_metadata=comparison.visible_metadata(project.visible_metadata),
        )

    @cached_property
    def messages(self) -> list[Message]:
        return [
            Message(self._show(text), cut, ROLES.get(role, role), role if role in ROLES else "")
            for role, text, cut in rendering.cut_turns(self.prompt.turns)
        ]

    def _show(self, text: str) -> SafeString:
        if self.view == "raw":
            return rendering.raw(text)
        return rendering.markdown(text, self.project.image_hosts)

    @property
    def metadata(self) -> list[tuple[str, SafeString, bool]]:
        """The metadata that the project shows, as `show_metadata` returns it."""
        return [show_metadata(key, value, self._show) for key, value in self.visible_metadata.items()]

    @property
    def prompt_text(self) -> str:
        """All of the prompt, as plain text."""
        return "\n\n".join(f"{role}:\n{text}" if role else text for role, text in self.prompt.turns)

    @property
    def prompt_cut(self) -> bool:
        return any(message.cut for message in self.messages)

    @cached_property
    def sides(self) -> list[Side]:
        both = (self.left, self.right)
        uncompared = (False, False)
        html: Sequence[SafeString]
        if self.view == "differences":
            found = differences(self.left.text, self.right.text)
            uncompared = found.stopped
            html = [
                mark_safe(f'<div class="prose plain" dir="auto">{part}</div>')  # noqa: S308 - differences() escapes
                for part in found.html
            ]
        else:
            html = [self._show(completion.text) for completion in both]
        return [
            Side(name.upper(), name, completion, part, rendering.cut(completion.text)[1], stopped)
            for name, completion, part, stopped in zip("ab", both, html, uncompared, strict=True)
        ]

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

"""What the desk and the history show of one comparison: its prompt, both completions, and what was noted."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.utils.functional import Promise
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _

from annotate import rendering
from annotate.differences import differences
from annotate.models import Claim, Completion, Judgment, Project, Prompt
from annotate.views import verdicts

VIEWS = ("rendered", "raw", "differences")
ROLES = {"system": _("System"), "user": _("User"), "assistant": _("Assistant"), "tool": _("Tool")}


@dataclass(frozen=True)
class Message:
    """One message of a chat prompt; a plain prompt is one message without a role."""

    html: SafeString
    role: str | Promise = ""
    kind: str = ""


@dataclass(frozen=True)
class Side:
    letter: str
    name: str
    completion: Completion
    html: SafeString
    cut: bool


@dataclass(frozen=True)
class Criterion:
    index: int
    name: str
    code: str


@dataclass(frozen=True)
class Stage:
    """One comparison as one person sees it. `view` is how its texts are shown; `said` what was noted so far."""

    project: Project
    token: uuid.UUID
    prompt: Prompt
    left: Completion
    right: Completion
    view: str = "rendered"
    said: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_claim(cls, claim: Claim, project: Project, view: str = "") -> Stage:
        view = view if view in VIEWS else "rendered"
        return cls(project, claim.token, claim.comparison.prompt, claim.left, claim.right, view, claim.draft)

    @classmethod
    def of_judgment(cls, judgment: Judgment, project: Project, view: str = "") -> Stage:
        view = view if view in VIEWS else "rendered"
        said = {name: getattr(judgment, name) for name in ("reasons", "criteria", "rationale")}
        said |= {name: getattr(judgment, name) for name in ("verdict", "preferred_id", "strength")}
        prompt = judgment.comparison.prompt
        return cls(project, judgment.token, prompt, judgment.left, judgment.right, view, said)

    @cached_property
    def messages(self) -> list[Message]:
        show = rendering.raw if self.view == "raw" else rendering.markdown
        content = self.prompt.content
        if isinstance(content, str):
            return [Message(show(content))]
        return [
            Message(
                show(str(message.get("content", ""))), ROLES.get(role, role), role if role in ROLES else ""
            )
            for message in content
            for role in [str(message.get("role", ""))]
        ]

    @cached_property
    def sides(self) -> list[Side]:
        texts = (self.left.text, self.right.text)
        if self.view == "differences":
            html = [
                mark_safe(f'<div class="prose plain" dir="auto">{part}</div>')  # noqa: S308 - differences() escapes
                for part in differences(*texts)
            ]
        else:
            show = rendering.raw if self.view == "raw" else rendering.markdown
            html = [show(text) for text in texts]
        return [
            Side(letter, name, completion, part, rendering.cut(completion.text)[1])
            for letter, name, completion, part in zip(
                "AB", ("a", "b"), (self.left, self.right), html, strict=True
            )
        ]

    @property
    def was(self) -> str:
        """The verdict given before, in the form's words; empty if none was."""
        return verdicts.code(self.said, self.left.pk)

    @property
    def reasons(self) -> list[tuple[str, bool]]:
        """The project's reasons, and whether each was picked."""
        picked = self.said.get("reasons") or ()
        return [(reason, reason in picked) for reason in self.project.reasons]

    @property
    def criteria(self) -> list[Criterion]:
        said = self.said.get("criteria") or {}
        return [
            Criterion(index, name, verdicts.code(said.get(name) or {}, self.left.pk))
            for index, name in enumerate(self.project.criteria)
        ]

    @property
    def rationale(self) -> str:
        return str(self.said.get("rationale") or "")

    @property
    def asks(self) -> bool:
        """Whether there is anything to say beside the verdict."""
        return bool(self.project.reasons or self.project.criteria or self.project.ask_rationale)

"""Prompts, the policies that answer them, and the completions that they wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings as site
from django.db import models
from django.db.models import OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from annotate.models.projects import Project
from annotate.text.chats import Content, holds_images, last_question


def prompt_digest(content: Content, tools: Sequence[Mapping[str, Any]] | None = None) -> str:
    """Return the SHA-256 of a prompt's content and tools. Prompts are told apart, and held out, by it alone."""
    said = {"content": content, "tools": tools} if tools else content
    text = said if isinstance(said, str) else json.dumps(said, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_held_out(digest: str, share: float) -> bool:
    """Return whether a prompt with this digest is held out. The same prompt is always on the same side."""
    return int(digest[:8], 16) < share * 2**32


def prompt_columns(
    project: Project,
    content: Content,
    tools: Sequence[Mapping[str, Any]] | None = None,
    digest: str | None = None,
) -> dict[str, Any]:
    """Return the columns of a prompt with this content. `digest` is its digest, where that is known already."""
    digest = digest or prompt_digest(content, tools)
    return {
        "content": content,
        "tools": list(tools) if tools else None,
        "has_images": holds_images(content),
        "digest": digest,
        "held_out": is_held_out(digest, project.held_out_share),
    }


class PromptQuerySet(models.QuerySet["Prompt"]):
    def in_use(self) -> PromptQuerySet:
        """Leave out the withdrawn ones, for which no round writes."""
        return self.filter(withdrawn_at=None)

    def unanswered(self) -> PromptQuerySet:
        """Keep those that have no completion."""
        return self.filter(completions=None)

    def uncompared(self) -> PromptQuerySet:
        """Keep those that have no comparison, not even a withdrawn one."""
        return self.filter(comparisons=None)

    def unmeasured(self) -> PromptQuerySet:
        """Keep those that no snapshot and no gate has used."""
        used = Q(comparisons__kind="gate")
        for held in ("snapshot_pairs", "snapshot_ratings"):
            used |= Q(**{f"comparisons__{held}__isnull": False})
        return self.exclude(pk__in=Prompt.objects.filter(used, pk=OuterRef("pk")).values("pk"))

    def for_rounds(self) -> PromptQuerySet:
        """Keep those in use that a model of text can be given."""
        return self.in_use().filter(has_images=False)


class Prompt(models.Model):
    """A prompt for the model: `content` is plain text, or a list of chat messages with role and content.

    `external_id` and `metadata` are what its importer calls it and says of it, `batch` what brought it in.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="prompts")
    content = models.JSONField()
    tools = models.JSONField(
        null=True, blank=True, help_text=_("What the chat template is told that the model may call.")
    )
    digest = models.CharField(max_length=64, editable=False)
    has_images = models.BooleanField(
        default=False, editable=False, help_text=_("It holds images, which no model of text can be given.")
    )
    held_out = models.BooleanField(default=False, editable=False)
    external_id = models.CharField(max_length=200, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    batch = models.CharField(
        max_length=60, blank=True, help_text=_("What brought it in, such as “import 3”.")
    )
    withdrawn_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = PromptQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "digest"], name="one_prompt_per_text"),
        ]
        indexes = [
            models.Index(
                fields=["project", "external_id"], condition=~Q(external_id=""), name="prompts_by_external_id"
            ),
            models.Index(fields=["project", "batch"], condition=~Q(batch=""), name="prompts_by_batch"),
        ]

    def __str__(self) -> str:
        return self.text[:80]

    @property
    def text(self) -> str:
        """The prompt as plain text; of a chat, what the user said last."""
        return last_question(self.content)

    def withdraw(self) -> bool:
        """Let no round write for it. Its comparisons stay. False if it was withdrawn."""
        return self._move(None, timezone.now())

    def restore(self) -> bool:
        """Undo `withdraw`. False if it was not withdrawn."""
        return self.withdrawn_at is not None and self._move(self.withdrawn_at, None)

    def _move(self, before: datetime | None, after: datetime | None) -> bool:
        changed = Prompt.objects.filter(pk=self.pk, withdrawn_at=before).update(withdrawn_at=after) == 1
        self.refresh_from_db(fields=["withdrawn_at"])
        return changed

    def set_content(self, content: Content, tools: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Set the content with what follows from it: the digest, and whether training may see it."""
        for name, value in prompt_columns(self.project, content, tools).items():
            setattr(self, name, value)


class Policy(models.Model):
    """A writer of completions: a base model, a base model with an adapter, or something outside Whetstone."""

    class Kind(models.TextChoices):
        BASE = "base", _("Base model")
        ADAPTER = "adapter", _("Base model with an adapter")
        EXTERNAL = "external", _("External")

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="policies")
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    base_model = models.CharField(max_length=500, blank=True, help_text=_("A path or a hub id."))
    revision = models.CharField(max_length=100, blank=True)
    adapter = models.CharField(
        max_length=500, blank=True, editable=False, help_text=_("Folder of the PEFT adapter, below var/.")
    )
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.RESTRICT, related_name="children"
    )
    brought_by = models.ForeignKey(
        site.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        editable=False,
    )
    origin: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict,
        db_default={},
        blank=True,
        editable=False,
        help_text=_("Of one that was made elsewhere: where it came from, and hashes of its files."),
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "policies"
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="one_policy_per_name"),
            models.CheckConstraint(
                condition=~Q(kind="adapter") | ~Q(adapter=""), name="adapter_policies_have_an_adapter"
            ),
            models.CheckConstraint(
                condition=Q(kind="external") | ~Q(base_model=""), name="trained_policies_have_a_base_model"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Completion(models.Model):
    """A policy's text for a prompt. Immutable: triggers in the database refuse an UPDATE.

    One that is more than text is kept in `messages`, which begin with the assistant's. `text` is then what pages list,
    search and compare.
    """

    class FinishReason(models.TextChoices):
        STOP = "stop", _("The model ended it")
        LENGTH = "length", _("Cut at the length limit")
        UNKNOWN = "unknown", _("Unknown")

    prompt = models.ForeignKey(Prompt, on_delete=models.CASCADE, related_name="completions")
    policy = models.ForeignKey(Policy, on_delete=models.RESTRICT, related_name="completions")
    text = models.TextField(blank=True)
    messages = models.JSONField(null=True, blank=True)
    token_ids = models.JSONField(null=True, blank=True)
    prompt_token_ids = models.JSONField(
        null=True, blank=True, help_text=_("What the policy was given, as tokens.")
    )
    logprob = models.FloatField(null=True, blank=True, help_text=_("Sum over tokens under its own policy."))
    finish_reason = models.CharField(
        max_length=10, choices=FinishReason.choices, default=FinishReason.UNKNOWN
    )
    seed = models.BigIntegerField(null=True, blank=True)
    sampling = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.text[:80]

    @property
    def content(self) -> Content:
        """The text, or the messages of one that is more than text."""
        return self.text if self.messages is None else self.messages

    @property
    def end_note(self) -> str:
        """The note that it was cut by its limit of tokens; empty for one that was not."""
        if self.finish_reason != self.FinishReason.LENGTH:
            return ""
        limit = self.sampling.get("max_new_tokens")
        if not isinstance(limit, int):
            return str(self.FinishReason.LENGTH.label)
        return ngettext("Cut at %(count)s token", "Cut at %(count)s tokens", limit) % {"count": f"{limit:,}"}

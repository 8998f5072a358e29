"""Serializers of the API: some for what it takes in, others for what it gives out."""

from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers

from annotate.imports.records import POLICIES
from annotate.judgments.scale import SIDES, side_of
from annotate.models import (
    Aspect,
    Claim,
    Comparison,
    Completion,
    Judgment,
    Membership,
    Project,
    Prompt,
    Role,
    Snapshot,
)
from annotate.pairs.exports import pseudonym
from annotate.text.json_values import INTEGER
from primitives.text import printable


def project_data(project: Project, membership: Membership) -> dict[str, Any]:
    """Return a project as its member may know it: how to judge, and for admins and researchers every setting."""
    data: dict[str, Any] = {
        "slug": project.slug,
        "name": project.name,
        "role": membership.role,
        "archived": project.archived_at is not None,
        "guidelines": project.guidelines,
        "reasons": [_aspect_data(one) for one in project.all_reasons],
        "criteria": [_aspect_data(one) for one in project.all_criteria],
        "ask_rationale": project.ask_rationale,
    }
    if membership.role != Role.ANNOTATOR:
        data["settings"] = {
            name: getattr(project, name)
            for name in (
                "judgments_needed", "lease_minutes", "gold_rate", "gold_feedback", "repeat_rate",
                "qualification_size", "qualification_pass", "min_seconds", "show_agreement", "held_out_share",
            )
        }  # fmt: skip
        data["current_policy"] = project.current_policy and project.current_policy.name
    return data


def _aspect_data(aspect: Aspect) -> dict[str, Any]:
    """Return a reason or a criterion. One that is no longer asked for is listed, as judgments may hold its key."""
    return {"key": aspect.key, "title": aspect.title, "asked": not aspect.is_removed}


class PromptOut(serializers.ModelSerializer[Prompt]):
    class Meta:
        model = Prompt
        fields = [
            "id", "content", "tools", "external_id", "metadata", "batch", "held_out", "withdrawn_at", "created_at",
        ]  # fmt: skip


class CompletionOut(serializers.ModelSerializer[Completion]):
    policy = serializers.CharField(source="policy.name")

    class Meta:
        model = Completion
        fields = ["id", "text", "messages", "policy", "finish_reason", "created_at"]


class ComparisonOut(serializers.ModelSerializer[Comparison]):
    """For admins and researchers only: it tells what annotators must not know."""

    prompt = PromptOut()
    first = CompletionOut()
    second = CompletionOut()

    class Meta:
        model = Comparison
        fields = [
            "id", "kind", "external_id", "metadata", "batch", "prompt", "first", "second", "gold_preferred_id",
            "repeat_of_id", "priority", "needed", "judged", "claimed", "skipped", "is_set_aside", "withdrawn_at",
            "created_at",
        ]  # fmt: skip


class JudgmentOut(serializers.ModelSerializer[Judgment]):
    """A judgment. Its annotator is named as in exports."""

    annotator = serializers.SerializerMethodField()
    imported = serializers.BooleanField(source="is_imported")
    left_id = serializers.SerializerMethodField()
    right_id = serializers.SerializerMethodField()

    class Meta:
        model = Judgment
        fields = [
            "id", "comparison_id", "annotator", "imported", "verdict", "preferred_id", "strength", "skip_reason",
            "left_id", "right_id", "reasons", "criteria", "rationale", "seconds", "late", "too_fast", "replaces_id",
            "first_at", "created_at", "superseded_at",
        ]  # fmt: skip

    def get_annotator(self, judgment: Judgment) -> str:
        return pseudonym(judgment.annotator_id)

    def get_left_id(self, judgment: Judgment) -> int | None:
        return judgment.left_id if judgment.sides_known else None

    def get_right_id(self, judgment: Judgment) -> int | None:
        return judgment.right_id if judgment.sides_known else None


class NamedJudgmentOut(JudgmentOut):
    """A judgment for an admin, who sees which name the pseudonym stands for."""

    annotator_name = serializers.CharField(source="annotator.shown_name")

    class Meta(JudgmentOut.Meta):
        fields = [*JudgmentOut.Meta.fields, "annotator_name"]


class OwnJudgmentOut(NamedJudgmentOut):
    """An annotator's own judgment, which names the preferred completion by the side it was shown on."""

    preferred_id = serializers.SerializerMethodField()
    criteria = serializers.SerializerMethodField()

    class Meta(NamedJudgmentOut.Meta):
        # Ids of comparisons follow one another by kind: they would tell gold and gate.
        fields = [
            name
            for name in NamedJudgmentOut.Meta.fields
            if name not in ("left_id", "right_id", "comparison_id")
        ]

    def get_preferred_id(self, judgment: Judgment) -> str | None:
        return side_of(judgment, judgment.preferred_id) or None

    def get_criteria(self, judgment: Judgment) -> dict[str, Any]:
        return {
            criterion: {
                key: side_of(judgment, value) if key == "preferred_id" else value
                for key, value in said.items()
            }
            for criterion, said in judgment.criteria.items()
        }


class SnapshotOut(serializers.ModelSerializer[Snapshot]):
    created_by = serializers.CharField(source="created_by.username", default=None)

    class Meta:
        model = Snapshot
        fields = ["digest", "settings", "counts", "created_by", "created_at"]


def _said(completion: Completion) -> dict[str, Any]:
    """Return the text of a completion, and its messages where it is more than text."""
    return {"text": completion.text, **({"messages": completion.messages} if completion.messages else {})}


def claim_data(claim: Claim, project: Project) -> dict[str, Any]:
    """Return a comparison to judge: blind, on the sides that were drawn for this annotator."""
    comparison = claim.comparison
    return {
        "token": str(claim.token),
        "prompt": comparison.prompt.content,
        **({"tools": comparison.prompt.tools} if comparison.prompt.tools else {}),
        "metadata": comparison.visible_metadata(project.visible_metadata),
        "left": {"id": "a", **_said(claim.left)},
        "right": {"id": "b", **_said(claim.right)},
        "expires_at": claim.expires_at,
    }


class StrictSerializer(serializers.Serializer[None]):
    """Refuses keys that it does not know: a misspelt one must not be ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            for name in data:
                if name not in self.fields:
                    raise serializers.ValidationError({printable(str(name)): _("Unknown field.")})
        return super().to_internal_value(data)


class WholeNumber(serializers.IntegerField):
    """A whole number that a column can hold, written as text too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"min_value": -INTEGER, "max_value": INTEGER - 1, **options})


class JudgmentIn(StrictSerializer):
    """The shape alone: what the project allows is checked by `judgments.verdicts.Verdict`."""

    token = serializers.CharField(max_length=64)
    verdict = serializers.CharField(max_length=20)
    preferred_id = serializers.ChoiceField(SIDES, required=False, allow_null=True)
    strength = WholeNumber(required=False, allow_null=True)
    reasons = serializers.ListField(child=serializers.CharField(), required=False)
    criteria = serializers.DictField(child=serializers.DictField(), required=False)
    rationale = serializers.CharField(required=False, allow_blank=True)
    skip_reason = serializers.CharField(required=False, allow_blank=True, max_length=20)
    seconds = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=1e6)


class GoldIn(StrictSerializer):
    """The known verdict of a comparison: the id of its better completion."""

    preferred_id = WholeNumber()


class SnapshotIn(StrictSerializer):
    """The shape of `pairs.snapshots.PairSettings`, which checks what the values mean."""

    ties = serializers.CharField(required=False, max_length=20)
    votes = serializers.CharField(required=False, max_length=20)
    weights = serializers.CharField(required=False, max_length=20)
    smoothing = serializers.FloatField(required=False)
    min_judgments = WholeNumber(required=False)
    include_gold = serializers.BooleanField(required=False)
    include_too_fast = serializers.BooleanField(required=False)
    policies = serializers.ListField(child=WholeNumber(), required=False, max_length=POLICIES)

"""The shapes of prompts, completions, comparisons, judgments and snapshots."""

from typing import Any

from rest_framework import serializers

from annotate.api.shapes.base import Note, Shape, StrictSerializer, WholeNumber
from annotate.imports.records import POLICIES
from annotate.judgments.scale import SIDES, side_of
from annotate.models import (
    Claim,
    Comparison,
    Completion,
    Flag,
    Judgment,
    Project,
    Prompt,
    Snapshot,
)
from annotate.pairs.exports import pseudonym

CONTENT = {
    "description": "Plain text, or the messages of a chat.",
    "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}],
}
MOST_PRIORITY = 32_767  # that its column holds
OBJECT = {"type": "object", "additionalProperties": True}
WHEN = "2026-03-02T09:30:00Z"


class PromptOut(serializers.ModelSerializer[Prompt]):
    """A prompt. `held_out` says that training never sees it."""

    EXAMPLE = {
        "id": 7, "content": "A comedy opens:", "external_id": "c1", "metadata": {"lang": "en"}, "batch": "import 3",
        "held_out": False, "withdrawn_at": None, "created_at": WHEN,
    }  # fmt: skip

    content = Note(CONTENT)
    metadata = Note(OBJECT)
    withdrawn_at = serializers.DateTimeField(allow_null=True, read_only=True)

    class Meta:
        model = Prompt
        fields = [
            "id", "content", "external_id", "metadata", "batch", "held_out", "withdrawn_at", "created_at",
        ]  # fmt: skip


class CompletionOut(serializers.ModelSerializer[Completion]):
    """A completion as a comparison shows it."""

    EXAMPLE = {
        "id": 15,
        "text": " It sings.",
        "policy": "starter",
        "finish_reason": "stop",
        "created_at": WHEN,
    }

    policy = serializers.CharField(source="policy.name")

    class Meta:
        model = Completion
        fields = ["id", "text", "policy", "finish_reason", "created_at"]


class WholeCompletionOut(CompletionOut):
    """All that is known of a completion. It never changes."""

    EXAMPLE = {
        **CompletionOut.EXAMPLE, "prompt_id": 7, "policy_id": 1, "token_ids": [102, 7, 4], "prompt_token_ids": [5, 9],
        "logprob": -8.25, "seed": 17, "sampling": {"temperature": 1.0, "max_new_tokens": 64},
    }  # fmt: skip

    prompt_id = serializers.IntegerField()
    policy_id = serializers.IntegerField()
    token_ids = Note({"type": ["array", "null"], "items": {"type": "integer"}})
    prompt_token_ids = Note({"type": ["array", "null"], "items": {"type": "integer"}})
    sampling = Note(OBJECT)

    class Meta(CompletionOut.Meta):
        fields = [
            *CompletionOut.Meta.fields, "prompt_id", "policy_id", "token_ids", "prompt_token_ids", "logprob", "seed",
            "sampling",
        ]  # fmt: skip


class ComparisonOut(serializers.ModelSerializer[Comparison]):
    """A comparison. Admins and researchers alone see it: it tells what annotators must not know."""

    EXAMPLE = {
        "id": 3, "kind": "standard", "external_id": "", "metadata": {}, "batch": "import 3",
        "prompt": PromptOut.EXAMPLE, "first": CompletionOut.EXAMPLE,
        "second": {**CompletionOut.EXAMPLE, "id": 16, "text": " It sags."}, "gold_preferred_id": None,
        "repeat_of_id": None, "priority": 0, "needed": 2, "judged": 1, "claimed": 0, "skipped": 0,
        "is_set_aside": False, "withdrawn_at": None, "created_at": WHEN,
    }  # fmt: skip

    prompt = PromptOut()
    first = CompletionOut()
    second = CompletionOut()
    metadata = Note(OBJECT)
    gold_preferred_id = serializers.IntegerField(allow_null=True)
    repeat_of_id = serializers.IntegerField(allow_null=True)
    is_set_aside = serializers.BooleanField()
    withdrawn_at = serializers.DateTimeField(allow_null=True, read_only=True)

    class Meta:
        model = Comparison
        fields = [
            "id", "kind", "external_id", "metadata", "batch", "prompt", "first", "second", "gold_preferred_id",
            "repeat_of_id", "priority", "needed", "judged", "claimed", "skipped", "is_set_aside", "withdrawn_at",
            "created_at",
        ]  # fmt: skip


class FlagOut(serializers.ModelSerializer[Flag]):
    """A comparison that an annotator wants an admin to look at."""

    EXAMPLE = {
        "id": 2, "comparison_id": 3, "annotator_name": "toni", "note": "Both are cut.", "created_at": WHEN,
        "resolved_at": None,
    }  # fmt: skip

    comparison_id = serializers.IntegerField()
    annotator_name = serializers.CharField(source="annotator.username")

    class Meta:
        model = Flag
        fields = ["id", "comparison_id", "annotator_name", "note", "created_at", "resolved_at"]


class JudgmentOut(serializers.ModelSerializer[Judgment]):
    """A judgment. Its annotator is named as in exports."""

    comparison_id = serializers.IntegerField()
    annotator = serializers.SerializerMethodField()
    preferred_id: serializers.Field[Any, Any, Any, Any] = Note({"type": ["integer", "null"]})
    left_id = serializers.IntegerField()
    right_id = serializers.IntegerField()
    strength = serializers.IntegerField(allow_null=True)
    reasons = Note({"type": "array", "items": {"type": "string"}})
    criteria: serializers.Field[Any, Any, Any, Any] = Note({"type": "object", "additionalProperties": OBJECT})
    replaces_id = serializers.IntegerField(allow_null=True)
    superseded_at = serializers.DateTimeField(allow_null=True, read_only=True)

    class Meta:
        model = Judgment
        fields = [
            "id", "comparison_id", "annotator", "verdict", "preferred_id", "strength", "skip_reason", "left_id",
            "right_id", "reasons", "criteria", "rationale", "seconds", "late", "too_fast", "replaces_id", "first_at",
            "created_at",
            "superseded_at",
        ]  # fmt: skip

    def get_annotator(self, judgment: Judgment) -> str:
        return pseudonym(judgment.annotator_id)


class NamedJudgmentOut(JudgmentOut):
    """A judgment for an admin, who sees which name the pseudonym stands for."""

    annotator_name = serializers.CharField(source="annotator.username")

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


class AnyJudgmentOut(NamedJudgmentOut):
    """A judgment as its reader may know it.

    An annotator's own names the preferred completion `a` or `b`, for the side that it was shown on, and has no ids of
    comparisons and completions. Admins also get the annotator's name.
    """

    EXAMPLE = {
        "id": 21, "comparison_id": 3, "annotator": "annotator-2", "verdict": "prefer", "preferred_id": 15,
        "strength": 2,
        "skip_reason": "", "left_id": 15, "right_id": 16, "reasons": ["vivid"], "criteria": {}, "rationale": "",
        "seconds": 12.5, "late": False, "too_fast": False, "replaces_id": None, "first_at": WHEN, "created_at": WHEN,
        "superseded_at": None, "annotator_name": "toni",
    }  # fmt: skip

    preferred_id = Note({"type": ["integer", "string", "null"]})
    comparison_id = serializers.IntegerField(required=False)
    left_id = serializers.IntegerField(required=False)
    right_id = serializers.IntegerField(required=False)
    annotator_name = serializers.CharField(required=False)


class OneJudgmentOut(Shape):
    EXAMPLE = {"judgment": None}

    judgment = AnyJudgmentOut(allow_null=True)


class SnapshotOut(serializers.ModelSerializer[Snapshot]):
    """A frozen set of preference pairs. `digest` is the SHA-256 of its pairs."""

    EXAMPLE = {
        "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "settings": {"ties": "drop", "votes": "equal"},
        "counts": {
            "judgments": 12,
            "comparisons": 9,
            "pairs": 8,
            "train": 7,
            "held_out": 1,
            "excluded": {"tie": 1},
        },
        "created_by": "olive",
        "created_at": WHEN,
    }

    settings = Note(OBJECT)
    counts = Note(OBJECT)
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)

    class Meta:
        model = Snapshot
        fields = ["digest", "settings", "counts", "created_by", "created_at"]


class SideOut(Shape):
    """A completion as annotators know it: by its side."""

    EXAMPLE = {"id": "a", "text": " It sings."}

    id = serializers.ChoiceField(SIDES)
    text = serializers.CharField()


class ClaimOut(Shape):
    """A comparison to judge, blind. `token` goes with the verdict."""

    EXAMPLE = {
        "token": "3f0c2a8e-6f0e-4c62-9d3c-0d1f3c2b1a00", "prompt": "A comedy opens:", "metadata": {},
        "left": SideOut.EXAMPLE, "right": {"id": "b", "text": " It sags."}, "expires_at": WHEN,
    }  # fmt: skip

    token = serializers.UUIDField()
    prompt = Note(CONTENT)
    metadata = Note(OBJECT)
    left = SideOut()
    right = SideOut()
    expires_at = serializers.DateTimeField()


class ReasonOut(Shape):
    """The reason why there is nothing to judge."""

    EXAMPLE = {"code": "done", "message": "Everything that you can judge is judged."}

    code = serializers.CharField()
    message = serializers.CharField()


class NextOut(Shape):
    """The comparison to judge, or the reason why there is none."""

    EXAMPLE = {"claim": ClaimOut.EXAMPLE, "reason": None}

    claim = ClaimOut(allow_null=True)
    reason = ReasonOut(allow_null=True)


class OneClaimOut(Shape):
    EXAMPLE = {"claim": ClaimOut.EXAMPLE}

    claim = ClaimOut(allow_null=True)


class RenewedOut(Shape):
    """`kept` is false where the claim's place was given away: a verdict will be marked late."""

    EXAMPLE = {"kept": True, "expires_at": WHEN}

    kept = serializers.BooleanField()
    expires_at = serializers.DateTimeField()


def claim_data(claim: Claim, project: Project) -> dict[str, Any]:
    """Return a comparison to judge: blind, on the sides that were drawn for this annotator."""
    comparison = claim.comparison
    return {
        "token": str(claim.token),
        "prompt": comparison.prompt.content,
        "metadata": comparison.visible_metadata(project.visible_metadata),
        "left": {"id": "a", "text": claim.left.text},
        "right": {"id": "b", "text": claim.right.text},
        "expires_at": claim.expires_at,
    }


class VerdictIn(StrictSerializer):
    """A verdict. `preferred_id` and `strength` are for `prefer` alone. Reasons and criteria go by their keys."""

    EXAMPLE = {
        "verdict": "prefer",
        "preferred_id": "a",
        "strength": 2,
        "reasons": ["vivid"],
        "rationale": "It sings.",
    }

    verdict = serializers.CharField(max_length=20)
    preferred_id = serializers.ChoiceField(SIDES, required=False, allow_null=True)
    strength = WholeNumber(required=False, allow_null=True)
    reasons = serializers.ListField(child=serializers.CharField(), required=False)
    criteria = serializers.DictField(child=serializers.DictField(), required=False)
    rationale = serializers.CharField(required=False, allow_blank=True)
    skip_reason = serializers.CharField(required=False, allow_blank=True, max_length=20)


class JudgmentIn(VerdictIn):
    """A verdict on a claim. `seconds` is the time from sight to verdict."""

    EXAMPLE = {"token": ClaimOut.EXAMPLE["token"], **VerdictIn.EXAMPLE, "seconds": 12.5}

    token = serializers.CharField(max_length=64)
    seconds = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=1e6)


class NoteIn(StrictSerializer):
    EXAMPLE = {"note": "Both completions are cut."}

    note = serializers.CharField(required=False, allow_blank=True, max_length=2_000)


class GoldIn(StrictSerializer):
    """The known verdict of a comparison: the id of its better completion."""

    EXAMPLE = {"preferred_id": 15}

    preferred_id = WholeNumber()


class PriorityIn(StrictSerializer):
    """Comparisons with a higher priority are handed out first. 0 is usual, a gate has 20."""

    EXAMPLE = {"priority": 10}

    priority = serializers.IntegerField(min_value=0, max_value=MOST_PRIORITY)


ROW = {
    "prompt": "A comedy opens:", "id": "c1", "metadata": {"lang": "en"},
}  # fmt: skip


class PromptRowsIn(Shape):
    """Rows as the lines of an imported file (docs/formats.md): 1 to 1,000."""

    EXAMPLE = {"prompts": [ROW]}

    prompts = serializers.ListField(child=serializers.DictField(), min_length=1, max_length=1_000)
    update = serializers.BooleanField(required=False)  # type: ignore[assignment] # a field, and no method


class ComparisonRowsIn(Shape):
    """Rows as the lines of an imported file (docs/formats.md): 1 to 1,000, each with two completions."""

    EXAMPLE = {
        "comparisons": [
            {
                "prompt": "A comedy opens:", "completion_a": " It sings.", "completion_b": " It sags.",
                "policy_a": "gpt-large", "policy_b": "ours-7b",
            }
        ]
    }  # fmt: skip

    comparisons = serializers.ListField(child=serializers.DictField(), min_length=1, max_length=1_000)
    update = serializers.BooleanField(required=False)  # type: ignore[assignment] # a field, and no method


class RemarkOut(Shape):
    EXAMPLE = {"row": 0, "remark": "metadata.lang is missing here and “en” in this row."}

    row = serializers.IntegerField()
    remark = serializers.CharField()


class MadeOut(Shape):
    """The outcome of a batch. `remarks` say in what a row differs from what is there."""

    EXAMPLE = {
        "made": {
            "prompts": 1, "pairs": 0, "gold": 0, "duplicates": 0, "different": 0, "updated": 0, "shared_ids": 0,
        },
        "remarks": [],
    }  # fmt: skip

    made = serializers.DictField(child=serializers.IntegerField())
    remarks = RemarkOut(many=True)


class CountOut(Shape):
    """The number of rows that an act changed."""

    EXAMPLE = {"count": 4}

    count = serializers.IntegerField()


class SnapshotIn(StrictSerializer):
    """Rules by which judgments become pairs."""

    EXAMPLE = {"votes": "equal", "ties": "half", "min_judgments": 2}

    ties = serializers.CharField(required=False, max_length=20)
    votes = serializers.CharField(required=False, max_length=20)
    weights = serializers.CharField(required=False, max_length=20)
    smoothing = serializers.FloatField(required=False)
    min_judgments = WholeNumber(required=False)
    include_gold = serializers.BooleanField(required=False)
    include_too_fast = serializers.BooleanField(required=False)
    policies = serializers.ListField(child=WholeNumber(), required=False, max_length=POLICIES)

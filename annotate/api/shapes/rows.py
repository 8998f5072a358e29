"""The shapes of prompts, completions, comparisons, flags and snapshots."""

from rest_framework import serializers

from annotate.api.shapes.base import Note, Shape, StrictSerializer, WholeNumber
from annotate.imports.records import POLICIES
from annotate.models import (
    Comparison,
    Completion,
    Flag,
    Prompt,
    Snapshot,
    SnapshotJob,
)

CONTENT = {
    "description": "Plain text, or the messages of a chat.",
    "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}],
}
MOST_PRIORITY = 32_767  # that its column holds
MESSAGES = {"type": ["array", "null"], "items": {"type": "object"}}
OBJECT = {"type": "object", "additionalProperties": True}
WHEN = "2026-03-02T09:30:00Z"


class PromptOut(serializers.ModelSerializer[Prompt]):
    """A prompt. `held_out` says that training never sees it."""

    EXAMPLE = {
        "id": 7, "content": "A comedy opens:", "tools": None,
        "external_id": "c1", "metadata": {"lang": "en"}, "batch": "import 3",
        "held_out": False, "withdrawn_at": None, "created_at": WHEN,
    }  # fmt: skip

    content = Note(CONTENT)
    tools = Note(MESSAGES)
    metadata = Note(OBJECT)
    withdrawn_at = serializers.DateTimeField(allow_null=True, read_only=True)

    class Meta:
        model = Prompt
        fields = [
            "id", "content", "tools", "external_id", "metadata", "batch", "held_out", "withdrawn_at", "created_at",
        ]  # fmt: skip


class PromptFiguresOut(Shape):
    """Counts of what was said of a prompt.

    `imported` of the `judgments` came with files. `not_mine` of the `skips` were because of the language or the field.
    `met` counts the comparisons that two or more annotators have an opinion on, and `disputed` those on which they
    differ. `cut` of its `completions` ended at the limit of tokens. Replaced judgments and repeats do not count.
    """

    EXAMPLE = {
        "judgments": 12, "imported": 0, "ties": 2, "both_bad": 1, "skips": 3, "not_mine": 1, "late": 0, "too_fast": 0,
        "met": 4, "disputed": 2, "flags": 1, "completions": 8, "cut": 0,
    }  # fmt: skip

    judgments = serializers.IntegerField()
    imported = serializers.IntegerField()
    ties = serializers.IntegerField()
    both_bad = serializers.IntegerField()
    skips = serializers.IntegerField()
    not_mine = serializers.IntegerField()
    late = serializers.IntegerField()
    too_fast = serializers.IntegerField()
    met = serializers.IntegerField()
    disputed = serializers.IntegerField()
    flags = serializers.IntegerField()
    completions = serializers.IntegerField()
    cut = serializers.IntegerField()


class JudgedPromptOut(PromptOut):
    """A prompt with what was said of it."""

    EXAMPLE = {**PromptOut.EXAMPLE, "figures": PromptFiguresOut.EXAMPLE}

    figures = PromptFiguresOut()

    class Meta(PromptOut.Meta):
        fields = [*PromptOut.Meta.fields, "figures"]


class PromptRankingOut(Shape):
    """Prompts that stand out, the worst first. `older` says where a ranking whose time was up goes on."""

    EXAMPLE = {"results": [JudgedPromptOut.EXAMPLE], "older": None}

    results = JudgedPromptOut(many=True)
    older = serializers.IntegerField(allow_null=True)


class CompletionOut(serializers.ModelSerializer[Completion]):
    """A completion as a comparison shows it."""

    EXAMPLE = {
        "id": 15,
        "text": " It sings.",
        "messages": None,
        "policy": "starter",
        "finish_reason": "stop",
        "created_at": WHEN,
    }

    messages = Note(MESSAGES)
    policy = serializers.CharField(source="policy.name")

    class Meta:
        model = Completion
        fields = ["id", "text", "messages", "policy", "finish_reason", "created_at"]


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
        "arm": "", "propensity": None, "prompt": PromptOut.EXAMPLE, "first": CompletionOut.EXAMPLE,
        "second": {**CompletionOut.EXAMPLE, "id": 16, "text": " It sags."}, "gold_preferred_id": None,
        "repeat_of_id": None, "priority": 0, "needed": 2, "judged": 1, "claimed": 0, "skipped": 0,
        "is_set_aside": False, "withdrawn_at": None, "created_at": WHEN,
    }  # fmt: skip

    prompt = PromptOut()
    first = CompletionOut()
    second = CompletionOut()
    metadata = Note(OBJECT)
    arm = serializers.CharField(read_only=True)  # control or probe, empty where nothing was chosen among
    propensity = serializers.FloatField(allow_null=True, read_only=True)
    gold_preferred_id = serializers.IntegerField(allow_null=True)
    repeat_of_id = serializers.IntegerField(allow_null=True)
    is_set_aside = serializers.BooleanField()
    withdrawn_at = serializers.DateTimeField(allow_null=True, read_only=True)

    class Meta:
        model = Comparison
        fields = [
            "id", "kind", "external_id", "metadata", "batch", "arm", "propensity", "prompt", "first", "second",
            "gold_preferred_id", "repeat_of_id", "priority", "needed", "judged", "claimed", "skipped", "is_set_aside",
            "withdrawn_at", "created_at",
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


class SnapshotOut(serializers.ModelSerializer[Snapshot]):
    """A frozen set of preference pairs, and of ratings if any. `digest` is the SHA-256 of its lines."""

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


class SnapshotJobOut(serializers.ModelSerializer[SnapshotJob]):
    """A snapshot that a worker takes. `share` of it is done, from 0 to 1. `snapshot` is its digest in the end."""

    EXAMPLE = {
        "id": "6f1ed002-ab5b-4f4c-9d5a-1f3f2f0b7a11", "state": "running", "share": 0.4, "error": "",
        "settings": {"ties": "drop", "votes": "equal"}, "snapshot": None, "created_by": "olive", "created_at": WHEN,
        "finished_at": None,
    }  # fmt: skip

    settings = Note(OBJECT)
    snapshot = serializers.CharField(source="snapshot.digest", default=None, allow_null=True)
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True, read_only=True)

    class Meta:
        model = SnapshotJob
        fields = [
            "id", "state", "share", "error", "settings", "snapshot", "created_by", "created_at", "finished_at",
        ]  # fmt: skip


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
    both_bad = serializers.CharField(required=False, max_length=20)
    votes = serializers.CharField(required=False, max_length=20)
    weights = serializers.CharField(required=False, max_length=20)
    smoothing = serializers.FloatField(required=False)
    min_judgments = WholeNumber(required=False)
    include_gold = serializers.BooleanField(required=False)
    include_too_fast = serializers.BooleanField(required=False)
    policies = serializers.ListField(child=WholeNumber(), required=False, max_length=POLICIES)

"""The shapes of claims, verdicts and judgments."""

from typing import Any

from rest_framework import serializers

from annotate.api.shapes.base import Note, Shape, StrictSerializer, WholeNumber
from annotate.api.shapes.rows import CONTENT, MESSAGES, OBJECT, WHEN
from annotate.judgments.scale import SIDES, side_of
from annotate.models import Claim, Completion, Judgment, Project
from annotate.people.pseudonyms import pseudonym


class JudgmentOut(serializers.ModelSerializer[Judgment]):
    """A judgment. Its annotator is named as in exports. `imported` says that it was given elsewhere."""

    imported = serializers.BooleanField(source="is_imported")
    comparison_id = serializers.IntegerField()
    annotator = serializers.SerializerMethodField()
    preferred_id: serializers.Field[Any, Any, Any, Any] = Note({"type": ["integer", "null"]})
    left_id: serializers.Field[Any, Any, Any, Any] = serializers.SerializerMethodField()
    right_id: serializers.Field[Any, Any, Any, Any] = serializers.SerializerMethodField()
    strength = serializers.IntegerField(allow_null=True)
    reasons = Note({"type": "array", "items": {"type": "string"}})
    criteria: serializers.Field[Any, Any, Any, Any] = Note({"type": "object", "additionalProperties": OBJECT})
    replaces_id = serializers.IntegerField(allow_null=True)
    superseded_at = serializers.DateTimeField(allow_null=True, read_only=True)

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


class AnyJudgmentOut(NamedJudgmentOut):
    """A judgment as its reader may know it.

    An annotator's own names the preferred completion `a` or `b`, for the side that it was shown on. It has no ids
    of comparisons and completions. Admins also get the annotator's name.
    """

    EXAMPLE = {
        "id": 21, "comparison_id": 3, "annotator": "annotator-2", "imported": False, "verdict": "prefer",
        "preferred_id": 15, "strength": 2,
        "skip_reason": "", "left_id": 15, "right_id": 16, "reasons": ["vivid"], "criteria": {}, "rationale": "",
        "seconds": 12.5, "late": False, "too_fast": False, "replaces_id": None, "first_at": WHEN, "created_at": WHEN,
        "superseded_at": None, "annotator_name": "toni",
    }  # fmt: skip

    preferred_id = Note({"type": ["integer", "string", "null"]})
    comparison_id = serializers.IntegerField(required=False)
    left_id = serializers.IntegerField(required=False, allow_null=True)
    right_id = serializers.IntegerField(required=False, allow_null=True)
    annotator_name = serializers.CharField(required=False)


class OneJudgmentOut(Shape):
    EXAMPLE = {"judgment": None}

    judgment = AnyJudgmentOut(allow_null=True)


class SideOut(Shape):
    """A completion as annotators know it: by its side."""

    EXAMPLE = {"id": "a", "text": " It sings."}

    id = serializers.ChoiceField(SIDES)
    text = serializers.CharField()
    messages = Note(MESSAGES, required=False)


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


def _said(completion: Completion) -> dict[str, Any]:
    """Return the text of a completion, and its messages where it is more than text."""
    return {"text": completion.text, **({"messages": completion.messages} if completion.messages else {})}


def claim_data(claim: Claim, project: Project) -> dict[str, Any]:
    """Return a comparison to judge: blind, on the sides that were drawn for this annotator."""
    comparison = claim.comparison
    return {
        "token": str(claim.token),
        "prompt": comparison.prompt.content,
        "metadata": comparison.visible_metadata(project.visible_metadata),
        "left": {"id": "a", **_said(claim.left)},
        "right": {"id": "b", **_said(claim.right)},
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

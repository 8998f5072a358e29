"""The shapes of policies, of what came of them, and of the leaderboard."""

from typing import Any

from rest_framework import serializers

from annotate.api.shapes.base import EstimateOut, Note, Shape, StrictSerializer
from annotate.api.shapes.rows import OBJECT, WHEN
from annotate.models import Policy
from training.api.shapes import estimate_data
from training.models import MergedWeights
from training.standings.strengths import Strength


class NameIn(StrictSerializer):
    EXAMPLE = {"name": "support-v1"}

    name = serializers.CharField(max_length=120)


class PolicyOut(serializers.ModelSerializer[Policy]):
    """A policy: a writer of completions. `round` is the number of the round that made it."""

    EXAMPLE = {
        "id": 2, "name": "round 1", "kind": "adapter", "base_model": "starter", "revision": "", "parent_id": 1,
        "round": 1, "is_current": True, "created_at": WHEN,
    }  # fmt: skip

    parent_id = serializers.IntegerField(allow_null=True)
    round = serializers.SerializerMethodField()
    is_current = serializers.SerializerMethodField()

    class Meta:
        model = Policy
        fields = [
            "id", "name", "kind", "base_model", "revision", "parent_id", "round", "is_current", "created_at",
        ]  # fmt: skip

    def get_round(self, policy: Policy) -> int | None:
        made_by = getattr(policy, "round", None)
        return made_by.number if made_by else None

    def get_is_current(self, policy: Policy) -> bool:
        return policy.pk == policy.project.current_policy_id


class WholePolicyOut(PolicyOut):
    """A policy with where it came from, down to the base model, and what came of it."""

    EXAMPLE = {**PolicyOut.EXAMPLE, "ancestors": ["starter"], "descendants": [], "completions": 200}

    ancestors = serializers.ListField(child=serializers.CharField())
    descendants = serializers.ListField(child=serializers.CharField())
    completions = serializers.IntegerField()

    class Meta(PolicyOut.Meta):
        fields = [*PolicyOut.Meta.fields, "ancestors", "descendants", "completions"]


class CardOut(Shape):
    EXAMPLE = {"card": "---\nlibrary_name: peft\n---\n\n# round 1\n"}

    card = serializers.CharField()


class MergedIn(StrictSerializer):
    """The precision to merge in. `base` is the base model's, `float16` has three bits more than bfloat16.

    `float32` keeps all of what was learnt.
    """

    EXAMPLE = {"precision": "float32"}

    precision = serializers.ChoiceField(
        MergedWeights.Precision.choices, required=False, default=MergedWeights.Precision.BASE
    )


class MergedOut(serializers.ModelSerializer[MergedWeights]):
    """Merged weights. `share` of them is done, from 0 to 1. `dtype` is their precision, once `state` is done.

    `error` says why they failed, and of weights that are done how little is left of what was learnt.
    """

    EXAMPLE = {
        "id": "6f1ed002-ab5b-4f4c-9d5a-1f3f2f0b7a11", "policy": "round 1", "precision": "float32", "dtype": "float32",
        "state": "done", "share": 1.0, "filename": "reviews-round-1-merged-float32.tar", "size": 538091520,
        "sha256": "9f86d081884c7d65", "error": "", "can_be_downloaded": True, "created_by": "olive",
        "created_at": WHEN, "finished_at": WHEN, "expires_at": WHEN,
    }  # fmt: skip

    policy = serializers.CharField(source="policy.name")
    can_be_downloaded = serializers.BooleanField()
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True, read_only=True)
    expires_at = serializers.DateTimeField(allow_null=True, read_only=True)

    class Meta:
        model = MergedWeights
        fields = [
            "id", "policy", "precision", "dtype", "state", "share", "filename", "size", "sha256", "error",
            "can_be_downloaded", "created_by", "created_at", "finished_at", "expires_at",
        ]  # fmt: skip


ROWS = {"type": "array", "items": OBJECT}


class PolicyLineageOut(Shape):
    """The lineage of a policy, as its page gives it."""

    EXAMPLE = {
        "format": "whetstone-lineage/1", "project": "reviews", "policy": {"id": 2, "name": "round 1"},
        "parents": [{"id": 1, "name": "starter"}], "children": [], "rounds": [{"number": 1}],
        "snapshots": [{"digest": "9f86d081884c7d65"}], "annotators": [{"annotator": "annotator-2", "judgments": 120}],
        "pairs": [{"comparison": 3, "judgments": [21]}], "ratings": [],
        "judgments": [{"judgment": 21, "verdict": "prefer"}],
    }  # fmt: skip

    format = serializers.CharField()
    project = serializers.CharField()
    policy = Note(OBJECT)
    parents = Note(ROWS)
    children = Note(ROWS)
    rounds = Note(ROWS)
    snapshots = Note(ROWS)
    annotators = Note(ROWS)
    pairs = Note(ROWS)
    ratings = Note(ROWS)
    judgments = Note(ROWS)


class JudgmentLineageOut(Shape):
    """The lineage of a judgment: on to the policies that it shaped."""

    EXAMPLE = {
        "format": "whetstone-lineage/1", "project": "reviews", "judgment": {"judgment": 21, "verdict": "prefer"},
        "pairs": [{"comparison": 3, "judgments": [21]}], "ratings": [], "rounds": [{"number": 1}],
        "policies": [{"id": 2, "name": "round 1", "how": "round"}],
    }  # fmt: skip

    format = serializers.CharField()
    project = serializers.CharField()
    judgment = Note(OBJECT)
    pairs = Note(ROWS)
    ratings = Note(ROWS)
    rounds = Note(ROWS)
    policies = Note(ROWS)


class PlaceOut(Shape):
    """A place on the leaderboard. `beats_anchor` is the chance that it beats the anchor, by Bradley and Terry.

    `at_equal_length` is that chance between completions of the same length.
    """

    EXAMPLE = {
        "policy_id": 2, "policy": "round 1", "log_strength": 0.49, "beats_anchor": EstimateOut.EXAMPLE,
        "at_equal_length": EstimateOut.EXAMPLE,
    }  # fmt: skip

    policy_id = serializers.IntegerField()
    policy = serializers.CharField()
    log_strength = serializers.FloatField(allow_null=True)
    beats_anchor = EstimateOut(allow_null=True)
    at_equal_length = EstimateOut(allow_null=True)


class LeaderboardOut(Shape):
    """The policies, the strongest first. Behind them are those that no judgment compares."""

    EXAMPLE = {"anchor": "starter", "results": [PlaceOut.EXAMPLE]}

    anchor = serializers.CharField(allow_null=True)
    results = PlaceOut(many=True)


def place_data(policy: Policy, strength: Strength | None) -> dict[str, Any]:
    return {
        "policy_id": policy.pk,
        "policy": policy.name,
        "log_strength": strength and strength.log_strength,
        "beats_anchor": strength and estimate_data(strength.beats_anchor),
        "at_equal_length": strength and estimate_data(strength.at_equal_length),
    }

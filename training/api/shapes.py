"""The shapes of rounds."""

import math
from typing import Any

from rest_framework import serializers

from annotate.api.shapes.base import EstimateOut, Note, Shape, ShareOut, StrictSerializer
from annotate.api.shapes.projects import share_data
from annotate.api.shapes.rows import OBJECT, WHEN
from primitives.statistics import Estimate
from training.models import DryRun, Metric, Round, RoundEvent, Worker
from training.rounds.plan import MOST_COMPARISONS, MOST_PROCESSES
from training.rounds.state_machine import MAX_WRITTEN
from training.standings.audit import Audit
from training.standings.gates import Gate
from training.standings.sides import measure_left


class RoundIn(StrictSerializer):
    """Settings that differ from the project's: keys of config.json and of its `sampling`, and how pairs are made.

    `choosing` says how fresh comparisons are chosen: `by` (probe, always, random), `candidates`, share of `control`.
    """

    EXAMPLE = {
        "training": {"epochs": 2, "learning_rate": 0.0001}, "sampling": {"temperature": 0.9},
        "pairs": {"min_judgments": 2}, "choosing": {"by": "probe", "candidates": 8, "control": 0.25},
        "fresh_comparisons": 100, "gate_comparisons": 40,
    }  # fmt: skip

    training = serializers.DictField(required=False)
    sampling = serializers.DictField(required=False)
    pairs = serializers.DictField(required=False)
    choosing = serializers.DictField(required=False)
    fresh_comparisons = serializers.IntegerField(required=False, min_value=0, max_value=MOST_COMPARISONS)
    gate_comparisons = serializers.IntegerField(required=False, min_value=0, max_value=MOST_COMPARISONS)
    processes = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MOST_PROCESSES,
        help_text="That train side by side, one for each device. Without it, as the worker is set up.",
    )
    gate_against = serializers.CharField(
        required=False, max_length=120, help_text="Name of a policy. Without it, the current one."
    )
    start_from = serializers.CharField(
        required=False,
        max_length=120,
        help_text="Name of a policy with weights. Without it, the base policy: what the project began with.",
    )


class WritingIn(StrictSerializer):
    """The number of comparisons, what differs from the project's `sampling` and `choosing`, and the writers.

    The policies are named: without them the current one writes both sides.
    """

    EXAMPLE = {"count": 100, "sampling": {"max_new_tokens": 512, "temperature": 0.8}}

    count = serializers.IntegerField(min_value=1, max_value=MAX_WRITTEN)
    sampling = serializers.DictField(required=False)
    choosing = serializers.DictField(required=False)
    policy = serializers.CharField(required=False, max_length=120)
    against = serializers.CharField(
        required=False, max_length=120, help_text="The policy that writes the other side of each comparison."
    )


class ResumptionIn(StrictSerializer):
    """Keys of config.json, and of its `sampling`, that fit the same work into a machine."""

    EXAMPLE = {"training": {"max_tokens": 512}, "sampling": {"batch_size": 16}}

    training = serializers.DictField(required=False)
    sampling = serializers.DictField(required=False)


class DryRunIn(RoundIn):
    """The settings of a round, or with the kind `writing` a `count`, or with the kind `model` a `base_model`."""

    EXAMPLE = {"kind": "round", "training": {"epochs": 2}}

    kind = serializers.ChoiceField(choices=DryRun.Kind.choices, default=DryRun.Kind.ROUND)
    count = serializers.IntegerField(required=False, min_value=1, max_value=MAX_WRITTEN)
    base_model = serializers.CharField(required=False, max_length=500)
    policy = serializers.CharField(
        required=False, max_length=120, help_text="Of the kind `writing`: the policy that writes."
    )
    against = serializers.CharField(
        required=False,
        max_length=120,
        help_text="Of the kind `writing`: the policy that writes the other side of each comparison.",
    )


class DryRunOut(serializers.ModelSerializer[DryRun]):
    """An estimate. `result` is what `python -m training.engine plan --json` says, once `state` is done."""

    EXAMPLE = {
        "id": 7, "kind": "round", "state": "done", "reason": "", "created_at": WHEN, "finished_at": WHEN,
        "result": {"training": {"steps": 40, "total_seconds": 95.0, "peak_memory_bytes": 730000000, "fits": True}},
    }  # fmt: skip

    result = Note(OBJECT)
    finished_at = serializers.DateTimeField(allow_null=True, read_only=True)

    class Meta:
        model = DryRun
        fields = ["id", "kind", "state", "reason", "result", "created_at", "finished_at"]


class RoundOut(serializers.ModelSerializer[Round]):
    """A round. `result_policy` is the policy that it made, once it is ready for a decision.

    `snapshot` is null in a round that only writes, and while a worker has yet to freeze the pairs.
    """

    EXAMPLE = {
        "number": 2, "state": "training", "trains": True, "snapshot": "9f86d081884c7d65", "start_policy": "starter",
        "result_policy": None, "phase": "training", "step": 40, "total_steps": 120, "seconds_left": 31.5, "attempts": 1,
        "processes": 1, "reason": "", "created_by": "olive",
        "created_at": WHEN, "started_at": WHEN, "finished_at": None,
    }  # fmt: skip

    snapshot = serializers.CharField(source="snapshot.digest", default=None, allow_null=True)
    start_policy = serializers.CharField(source="start_policy.name")
    result_policy = serializers.CharField(source="result_policy.name", default=None, allow_null=True)
    seconds_left = serializers.FloatField(allow_null=True)
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True, read_only=True)
    finished_at = serializers.DateTimeField(allow_null=True, read_only=True)

    class Meta:
        model = Round
        fields = [
            "number", "state", "trains", "snapshot", "start_policy", "result_policy", "phase", "step", "total_steps",
            "seconds_left", "attempts", "processes", "reason", "created_by", "created_at", "started_at", "finished_at",
        ]  # fmt: skip


class EventOut(serializers.ModelSerializer[RoundEvent]):
    """A line of a round's history."""

    EXAMPLE = {
        "from_state": "",
        "to_state": "queued",
        "message": "96 pairs to train on.",
        "by": "olive",
        "at": WHEN,
    }

    by = serializers.CharField(source="by.username", default=None, allow_null=True)
    at = serializers.DateTimeField(source="created_at")

    class Meta:
        model = RoundEvent
        fields = ["from_state", "to_state", "message", "by", "at"]


class LeftOut(ShareOut):
    def to_representation(self, found: Round) -> dict[str, Any]:
        return share_data(measure_left(found))


class WholeRoundOut(RoundOut):
    """A round with its settings, what training and sampling reported, and its history.

    `left` is the share of the preferences on its comparisons that went to the completion on the left. Sides are drawn
    at random for each annotator, so one half is no bias. Imported judgments do not count.
    """

    EXAMPLE = {
        **RoundOut.EXAMPLE, "settings": {"fresh_comparisons": 100}, "summary": {}, "left": ShareOut.EXAMPLE,
        "events": [EventOut.EXAMPLE],
    }  # fmt: skip

    settings = Note(OBJECT)
    summary = Note(OBJECT)
    left = LeftOut(source="*")
    events = EventOut(many=True)

    class Meta(RoundOut.Meta):
        fields = [*RoundOut.Meta.fields, "settings", "summary", "left", "events"]


class MetricOut(serializers.ModelSerializer[Metric]):
    """A step of training."""

    EXAMPLE = {"step": 40, "values": {"loss": 0.61, "rewards/accuracies": 0.75}}

    values = Note(OBJECT)

    class Meta:
        model = Metric
        fields = ["step", "values"]


class GateOut(Shape):
    """The standing of a gate: how many of its comparisons the new policy wins. `verdict` may change until it is not
    `open`."""

    EXAMPLE = {
        "total": 40, "judged": 30, "wins": 19, "draws": 3, "losses": 8, "win_rate": EstimateOut.EXAMPLE,
        "verdict": "better", "prompts": 30, "level": 0.0304, "settled": True,
    }  # fmt: skip

    total = serializers.IntegerField()
    judged = serializers.IntegerField()
    wins = serializers.IntegerField()
    draws = serializers.IntegerField()
    losses = serializers.IntegerField()
    win_rate = EstimateOut(allow_null=True)
    verdict = serializers.ChoiceField(["better", "worse", "even", "open"])
    prompts = serializers.IntegerField(help_text="Prompts judged in full: the units of the interval.")
    level = serializers.FloatField(help_text="The chance to call a policy better that is not.")
    settled = serializers.BooleanField(help_text="Whether judging on would change nothing.")


def gate_data(gate: Gate) -> dict[str, Any]:
    counts = {name: getattr(gate, name) for name in ("total", "judged", "wins", "draws", "losses")}
    return {
        **counts,
        "win_rate": estimate_data(gate.win_rate),
        "verdict": gate.verdict,
        "prompts": len(gate.prompts),
        "level": gate.level,
        "settled": gate.is_settled,
    }


def estimate_data(found: Estimate | None) -> dict[str, Any] | None:
    names = ("value", "low", "high", "count")
    return None if found is None else {name: getattr(found, name) for name in names}


class AuditOut(Shape):
    """The savings of choosing comparisons: how many judgments at random a chosen one is worth, at every moment.

    `worth` and its bounds are null before they are known. `state` is open, proven, or refuted.
    """

    EXAMPLE = {
        "chosen": 180, "control": 60, "blocks": 60, "worth": 1.8, "low": 1.2, "high": 2.7, "tells_strength": True,
        "state": "proven", "regardless": False,
    }  # fmt: skip

    chosen = serializers.IntegerField(help_text="Comparisons that the probe chose, judged in full.")
    control = serializers.IntegerField(help_text="Comparisons drawn at random beside them, judged in full.")
    blocks = serializers.IntegerField(
        help_text="Comparisons of both, side by side: the units of the interval."
    )
    worth = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    tells_strength = serializers.BooleanField(help_text="Whether annotators say how much better one is.")
    state = serializers.ChoiceField(["open", "proven", "refuted"])
    regardless = serializers.BooleanField(help_text="Whether rounds go on choosing though it is refuted.")


def audit_data(audit: Audit, *, regardless: bool) -> dict[str, Any]:
    worth = audit.worth
    return {
        "chosen": audit.chosen,
        "control": audit.control,
        "blocks": worth.count if worth else 0,
        "worth": worth and worth.value,
        "low": worth and worth.low,
        "high": worth.high if worth and math.isfinite(worth.high) else None,
        "tells_strength": audit.tells_strength,
        "state": "refuted" if audit.is_refuted else "proven" if audit.is_proven else "open",
        "regardless": regardless,
    }


class LeftOutOut(Shape):
    EXAMPLE = {"reason": "tied", "comparisons": 3}

    reason = serializers.CharField()
    comparisons = serializers.IntegerField()


class ReadinessOut(Shape):
    """The pairs that a round would train on now. `cannot_start` says why none can start, or is null."""

    EXAMPLE = {
        "judgments": 120, "comparisons": 100, "train": 86, "held_out": 9, "left_out": [LeftOutOut.EXAMPLE],
        "new_judgments": 40, "min_pairs": 8, "cannot_start": None,
    }  # fmt: skip

    judgments = serializers.IntegerField(required=False)
    comparisons = serializers.IntegerField(required=False)
    train = serializers.IntegerField(required=False)
    held_out = serializers.IntegerField(required=False)
    left_out = LeftOutOut(many=True, required=False)
    new_judgments = serializers.IntegerField(required=False)
    min_pairs = serializers.IntegerField()
    cannot_start = serializers.CharField(allow_null=True)


class ProcessorOut(Shape):
    """The processor of a worker."""

    EXAMPLE = {"threads": 16, "memory": 137438953472, "bfloat16": True}

    threads = serializers.IntegerField()
    memory = serializers.IntegerField(help_text="In bytes.")
    bfloat16 = serializers.BooleanField(help_text="Whether it has instructions for bfloat16.")


class GPUOut(Shape):
    """A GPU of a worker."""

    EXAMPLE = {"name": "NVIDIA H100 80GB HBM3", "memory": 85029158912, "bfloat16": True}

    name = serializers.CharField()
    memory = serializers.IntegerField(help_text="In bytes.")
    bfloat16 = serializers.BooleanField()


class DevicesOut(Shape):
    """The devices of a worker; empty until it has found them out."""

    EXAMPLE = {"cpu": ProcessorOut.EXAMPLE, "gpus": [GPUOut.EXAMPLE]}

    cpu = ProcessorOut(required=False)
    gpus = GPUOut(many=True, required=False)


class WorkerOut(serializers.ModelSerializer[Worker]):
    """A worker that is running now. Those of the queue `training` take rounds, of all projects."""

    EXAMPLE = {
        "name": "training@gpu1/4711", "queues": ["training"], "seen_at": WHEN, "devices": DevicesOut.EXAMPLE,
    }  # fmt: skip

    queues = serializers.ListField(child=serializers.CharField())
    devices = DevicesOut()

    class Meta:
        model = Worker
        fields = ["name", "queues", "seen_at", "devices"]

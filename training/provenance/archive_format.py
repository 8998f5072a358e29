"""The format of a project's archive: which rows it holds, under which names, and what of them does not travel.

A zip file with a table of JSON Lines per model, the files of rounds, and `manifest.json`, which names every member with
its SHA-256. The fields of a table are those of its model: a new column travels without a word here. A new model must
be named here, in TABLES or in LEFT_OUT.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from django.db import models

from annotate.models import (
    Claim,
    Comparison,
    Completion,
    Flag,
    Import,
    Judgment,
    Membership,
    Policy,
    Project,
    Prompt,
    Snapshot,
    SnapshotPair,
    SnapshotRating,
    TrailEntry,
    User,
)
from training.models import Metric, Round, RoundEvent

FORMAT = "whetstone-project/1"
MANIFEST = "manifest.json"
PEOPLE = "tables/people.jsonl"
REMOVED = "(removed)"  # in place of the name of a person whom no row names

# Fields that another server has of its own: a worker's traces, and counters that the database keeps by triggers.
NOT_CARRIED: dict[type[models.Model], frozenset[str]] = {
    Round: frozenset({"worker", "heartbeat_at", "enqueued_at", "phase", "seconds_left"}),
    Comparison: frozenset({"judged", "claimed", "skipped"}),
}
BATCHES = ("batch", "import_batch")  # fields whose text may name an import by its number
OF_AN_IMPORT = re.compile(r"import ([0-9]{1,18})")

# Files of a round that travel with it, and files of an adapter.
RUN_FILES = (
    *("pairs.jsonl", "assisted_pairs.jsonl", "heldout.jsonl", "prompts.jsonl", "template_date.txt"),
    *("metrics.jsonl", "evals.jsonl", "samples.jsonl", "scores.jsonl", "done.json"),
    *("choosing.json", "ratings.jsonl", "choices.jsonl"),
)
ADAPTER_FILE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}\.(?:safetensors|json)"
_RUN_FILE = "|".join(map(re.escape, RUN_FILES))
MEMBER = re.compile(
    rf"tables/[a-z_]{{1,40}}\.jsonl|rounds/[1-9][0-9]{{0,8}}/(?:{_RUN_FILE}|adapter/{ADAPTER_FILE})"
    rf"|policies/[1-9][0-9]{{0,17}}/adapter/{ADAPTER_FILE}"
)
# Places of adapters in an archive, in the rows of policies and in the settings of rounds.
ADAPTER = re.compile(r"rounds/([1-9][0-9]{0,8})/adapter|policies/([1-9][0-9]{0,17})/adapter")


@dataclass(frozen=True)
class Table:
    """A table of the archive: its model, and the path from a row to its project. Older archives lack a new one."""

    name: str
    model: type[models.Model]
    path: str
    is_new: bool = False

    @property
    def member(self) -> str:
        return f"tables/{self.name}.jsonl"

    @property
    def fields(self) -> list[models.Field[Any, Any]]:
        """Return the fields that travel: all columns but tokens, files, and what another server has of its own."""
        left_out = NOT_CARRIED.get(self.model, frozenset())
        return [
            field
            for field in self.model._meta.concrete_fields
            if not field.generated
            and field.name not in left_out
            and (field.primary_key or not isinstance(field, models.UUIDField))
            and not isinstance(field, models.FileField)
        ]

    def rows(self, project: Project) -> models.QuerySet[Any]:
        """Return the project's rows of the table, in the order of their ids."""
        return self.model._base_manager.filter(**{self.path: project.pk}).order_by("pk")


# In the order in which they are restored: a trigger looks for a comparison's prompt and completions.
TABLES = (
    Table("project", Project, "pk"),
    Table("policies", Policy, "project"),
    Table("imports", Import, "project"),
    Table("prompts", Prompt, "project"),
    Table("completions", Completion, "prompt__project"),
    Table("comparisons", Comparison, "project"),
    Table("memberships", Membership, "project"),
    Table("claims", Claim, "project"),
    Table("judgments", Judgment, "project"),
    Table("flags", Flag, "comparison__project"),
    Table("snapshots", Snapshot, "project"),
    Table("snapshot_pairs", SnapshotPair, "snapshot__project"),
    Table("pair_judgments", SnapshotPair.judgments.through, "snapshotpair__snapshot__project"),
    Table("snapshot_ratings", SnapshotRating, "snapshot__project", is_new=True),
    Table(
        "rating_judgments",
        SnapshotRating.judgments.through,
        "snapshotrating__snapshot__project",
        is_new=True,
    ),
    Table("rounds", Round, "project"),
    Table("round_fresh", Round.fresh.through, "round__project"),
    Table("round_gate", Round.gate.through, "round__project"),
    Table("round_events", RoundEvent, "round__project"),
    Table("metrics", Metric, "round__project"),
    Table("trail", TrailEntry, "project"),
)
# Models that no archive holds, and why.
LEFT_OUT = {
    "annotate.User": "people travel as pseudonyms",
    "annotate.User_groups": "of an account",
    "annotate.User_user_permissions": "of an account",
    "annotate.ApiToken": "of an account",
    "annotate.StoredAnswer": "of a request to one server",
    "annotate.Attempts": "of one server",
    "annotate.Invitation": "opens one server",
    "annotate.PasswordLink": "opens one server",
    "annotate.RefusedRow": "of an uploaded file, which stays behind",
    "annotate.Export": "a prepared file, which expires",
    "annotate.SnapshotJob": "work of one server; the snapshots travel",
    "training.StoredFile": "where one server keeps a file; the files of rounds travel",
    "training.Worker": "of one server",
    "training.Sweep": "of one server",
    "training.Trial": "kept for a day",
    "training.Answer": "kept for a day",
    "training.MergedWeights": "a file that expires",
    "training.Endpoint": "an address, and a key, of one server",
    "training.DryRun": "of the memory of one server",
}


def people_fields(table: Table) -> list[models.Field[Any, Any]]:
    """Return the fields of a table that name a person."""
    return [field for field in table.fields if field.related_model is User]


def portable_adapter(adapter: str, policy_id: int, folders: dict[str, int]) -> str:
    """Return where an archive keeps an adapter. `folders` maps the folders of rounds to their numbers."""
    for folder, number in folders.items():
        if adapter == f"{folder}/adapter":
            return f"rounds/{number}/adapter"
    return f"policies/{policy_id}/adapter"

"""The rows that people see and judge: projects, prompts, completions, comparisons, judgments, snapshots.

The database holds the rules: constraints, unique indexes, and the triggers of `triggers.py`. `annotate.queueing` hands
out claims, and `annotate.judgments` is the only writer of Judgment. Rows here never point at training: a Round points
at them.
"""

from annotate.models.aspects import Aspect, stored_aspects
from annotate.models.comparisons import (
    SHUFFLE_KEYS,
    Claim,
    Comparison,
    Priority,
    has_place,
    is_set_aside,
    new_shuffle_key,
)
from annotate.models.handovers import Invitation, PasswordLink
from annotate.models.inbox import ApiToken, Import, RefusedRow, StoredAnswer, token_digest
from annotate.models.judgments import Flag, Judgment, Moment, is_current
from annotate.models.people import Attempts, Membership, Role, User
from annotate.models.projects import Project, TextView
from annotate.models.snapshots import Export, Snapshot, SnapshotJob, SnapshotPair, SnapshotRating
from annotate.models.texts import (
    Completion,
    Policy,
    Prompt,
    is_held_out,
    prompt_columns,
    prompt_digest,
)
from annotate.models.trail import TrailEntry

__all__ = [
    "SHUFFLE_KEYS",
    "ApiToken",
    "Aspect",
    "Attempts",
    "Claim",
    "Comparison",
    "Completion",
    "Export",
    "Flag",
    "Import",
    "Invitation",
    "Judgment",
    "Membership",
    "Moment",
    "PasswordLink",
    "Policy",
    "Priority",
    "Project",
    "Prompt",
    "RefusedRow",
    "Role",
    "Snapshot",
    "SnapshotJob",
    "SnapshotPair",
    "SnapshotRating",
    "StoredAnswer",
    "TextView",
    "TrailEntry",
    "User",
    "has_place",
    "is_current",
    "is_held_out",
    "is_set_aside",
    "new_shuffle_key",
    "prompt_columns",
    "prompt_digest",
    "stored_aspects",
    "token_digest",
]

"""Judgments keep the first time, reading times that revisions cleared, and reasons and criteria by stable keys."""

from collections.abc import Callable, Container, Iterator
from itertools import count
from typing import Any

from django.db import migrations, models
from django.db.models import F, Min, OuterRef, Q, Subquery
from django.db.models.expressions import ExpressionWrapper, OrderBy
from django.utils import timezone
from django.utils.text import slugify

from annotate.models import triggers

AT_A_TIME = 500
LONGEST_KEY = 40
VERBS = [
    ("created", "Created the project"),
    ("invited", "Invited"),
    ("withdrawn", "Withdrew the invitation of"),
    ("accepted", "Accepted the invitation"),
    ("declined", "Declined the invitation"),
    ("account", "Made an account for"),
    ("added", "Added"),
    ("role", "Changed the role of"),
    ("removed", "Removed"),
    ("admitted", "Let in without qualification"),
    ("link_made", "Made a password link for"),
    ("link_used", "A password link was used for"),
    ("password", "A new password was set for"),
    ("token_made", "Made an API token"),
    ("token_revoked", "Revoked an API token"),
    ("email", "Confirmed the email address of"),
    ("email_cleared", "An upgrade cleared a doubled email address of"),
    ("exported", "Exported"),
    ("snapshot", "Took a snapshot"),
    ("snapshot_exported", "Exported a snapshot"),
    ("imported", "Started an import"),
    ("settings", "Changed settings"),
    ("gold_made", "Made gold"),
    ("gold_corrected", "Corrected the gold verdict of"),
    ("gold_ended", "Made standard again"),
    ("archived", "Archived the project"),
    ("restored", "Restored the project"),
]


def keep_first_times(apps: Any, schema_editor: Any) -> None:
    """Fill in when each annotator first judged each comparison."""
    judgments = apps.get_model("annotate", "Judgment").objects
    own = judgments.filter(comparison=OuterRef("comparison"), annotator=OuterRef("annotator")).order_by()
    first = own.values("annotator").annotate(first=Min("created_at")).values("first")
    judgments.update(first_at=Subquery(first))


def restore_seconds(apps: Any, schema_editor: Any) -> None:
    """Give revisions the reading time and the mark that they cleared, from what they replaced."""
    judgments = apps.get_model("annotate", "Judgment").objects
    cleared = judgments.filter(seconds=None, replaces__isnull=False).order_by("pk")
    for pk, replaced in cleared.values_list("pk", "replaces").iterator():
        before = judgments.values("seconds", "too_fast").get(pk=replaced)  # an earlier one, restored by now
        judgments.filter(pk=pk).update(**before)


def new_key(title: str, taken: Container[str]) -> str:
    """Return a key: the title in plain letters, with a number where that is taken."""
    stem = slugify(title)[:LONGEST_KEY].strip("-")
    keys = (f"{stem or 'key'}-{number}" for number in count(2 if stem else 1))
    return stem if stem and stem not in taken else next(key for key in keys if key not in taken)


class Names:
    """The keys of one column of a project. What judgments hold, and the project no longer asks for, gets one too."""

    def __init__(self, titles: Any) -> None:
        self.keys: dict[str, str] = {}
        self.removed: set[str] = set()
        for title in titles if isinstance(titles, list) else []:
            if isinstance(title, str):
                self._add(title)

    def key(self, title: str) -> str:
        if title not in self.keys:
            self._add(title)
            self.removed.add(title)
        return self.keys[title]

    def _add(self, title: str) -> None:
        if title not in self.keys:
            self.keys[title] = new_key(title, set(self.keys.values()))

    def stored(self) -> list[dict[str, Any]]:
        return [
            {"key": key, "title": title} | ({"removed": True} if title in self.removed else {})
            for title, key in self.keys.items()
        ]


def give_keys(apps: Any, schema_editor: Any) -> None:
    """Give each reason and criterion a key, and let judgments and drafts hold it in place of the text."""
    for project in apps.get_model("annotate", "Project").objects.order_by("pk"):
        reasons, criteria = Names(project.reasons), Names(project.criteria)
        rename(apps, project, reasons.key, criteria.key)
        project.reasons, project.criteria = reasons.stored(), criteria.stored()
        project.save(update_fields=["reasons", "criteria"])


def give_texts(apps: Any, schema_editor: Any) -> None:
    """Undo `give_keys`: judgments hold the titles of today."""
    for project in apps.get_model("annotate", "Project").objects.order_by("pk"):
        reasons, criteria = (
            {one["key"]: one["title"] for one in stored} for stored in (project.reasons, project.criteria)
        )
        rename(apps, project, lambda key, titles=reasons: titles.get(key, key),
               lambda key, titles=criteria: titles.get(key, key))  # fmt: skip
        project.reasons, project.criteria = (
            [one["title"] for one in stored if not one.get("removed")]
            for stored in (project.reasons, project.criteria)
        )
        project.save(update_fields=["reasons", "criteria"])


def rename(apps: Any, project: Any, reason: Callable[[str], str], criterion: Callable[[str], str]) -> None:
    """Put other names in the place of the reasons and criteria of judgments and drafts."""
    judgments = apps.get_model("annotate", "Judgment").objects.filter(project=project)
    for rows in in_parts(judgments.filter(~Q(reasons=[]) | ~Q(criteria={}))):
        for row in rows:
            row.reasons = [reason(name) for name in row.reasons]
            row.criteria = {criterion(name): said for name, said in row.criteria.items()}
        judgments.bulk_update(rows, ["reasons", "criteria"])
    claims = apps.get_model("annotate", "Claim").objects.filter(project=project)
    for rows in in_parts(claims.exclude(draft={})):
        for row in rows:
            if isinstance(row.draft.get("reasons"), list):
                row.draft["reasons"] = [reason(name) for name in row.draft["reasons"] if isinstance(name, str)]
            if isinstance(row.draft.get("criteria"), dict):
                row.draft["criteria"] = {criterion(name): said for name, said in row.draft["criteria"].items()}
        claims.bulk_update(rows, ["draft"])


def in_parts(rows: Any) -> Iterator[list[Any]]:
    """Yield the rows in parts, by key: what is changed meanwhile is not read again."""
    last = 0
    while part := list(rows.filter(pk__gt=last).order_by("pk")[:AT_A_TIME]):
        last = part[-1].pk
        yield part


def check_rows(apps: Any, schema_editor: Any) -> None:
    """Check the rows that were changed, as PostgreSQL alters no table whose checks are still to come."""
    schema_editor.connection.check_constraints()


def skip_what_was_passed(apps: Any, schema_editor: Any) -> None:
    """Make each skip an ordinary one, as earlier versions know no other. The triggers count it."""
    apps.get_model("annotate", "Claim").objects.filter(state="passed").update(state="skipped")


def drop_counters(apps: Any, schema_editor: Any) -> None:
    """Drop the triggers that name comparisons, as SQLite refuses to rebuild their table with them."""
    if schema_editor.connection.vendor == "sqlite":
        of_comparisons = ("comparisons_fit_together", "comparisons_count_their_claims")
        for name in ("count_new_claims", "count_lost_claims", "count_changed_claims", *of_comparisons):
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {name}")


IS_OPEN = ExpressionWrapper(
    Q(needed__gt=F("judged") + F("claimed"))
    & Q(skipped__lt=F("needed") + F("skips_forgiven") + 2)
    & Q(withdrawn_at__isnull=True)
    & ~Q(kind="gold"),
    output_field=models.BooleanField(),
)
OPEN_INDEX = models.Index(
    F("project"),
    OrderBy(F("priority"), descending=True),
    F("shuffle_key"),
    condition=Q(open=True, reserved_for__isnull=True),
    name="open_comparisons",
)
RESERVED_INDEX = models.Index(
    condition=Q(open=True, reserved_for__isnull=False),
    fields=["reserved_for", "project", "shuffle_key"],
    name="reserved_comparisons",
)


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0007_metadata_and_images"),
    ]

    operations = [
        migrations.AddField("judgment", "first_at", models.DateTimeField(null=True, editable=False)),
        migrations.RunPython(check_rows, check_rows),
        migrations.RunPython(keep_first_times, migrations.RunPython.noop),
        migrations.RunPython(restore_seconds, migrations.RunPython.noop),
        migrations.RunPython(give_keys, give_texts),
        migrations.RunPython(check_rows, check_rows),
        migrations.AlterField(
            "project",
            "reasons",
            models.JSONField(
                blank=True,
                default=list,
                help_text="Reasons to pick from: a list of {key, title, removed}.",
            ),
        ),
        migrations.AlterField(
            "project",
            "criteria",
            models.JSONField(
                blank=True,
                default=list,
                help_text="Further criteria, such as helpful: a list of {key, title, removed}.",
            ),
        ),
        migrations.AlterField(
            "trailentry",
            "verb",
            models.CharField(choices=VERBS, max_length=20),
        ),
        migrations.AlterField(
            "judgment",
            "first_at",
            models.DateTimeField(
                default=timezone.now,
                editable=False,
                help_text="When this annotator first judged the comparison.",
            ),
        ),
        migrations.AlterField(
            "judgment",
            "seconds",
            models.FloatField(
                blank=True, help_text="Reading, from first sight to verdict: all looks together.", null=True
            ),
        ),
        # --- Skips that set nothing aside, and skips that are forgiven ---
        migrations.AddField(
            "judgment",
            "skip_reason",
            models.CharField(
                blank=True, choices=[("not_mine", "Not my language or field")], default="", max_length=10
            ),
            preserve_default=False,
        ),
        migrations.AddConstraint(
            "judgment",
            models.CheckConstraint(
                condition=Q(skip_reason="") | Q(verdict="skip"), name="only_skips_have_a_skip_reason"
            ),
        ),
        migrations.AlterField(
            "claim",
            "state",
            models.CharField(
                choices=[
                    ("live", "Live"),
                    ("next", "Next"),
                    ("judged", "Judged"),
                    ("skipped", "Skipped"),
                    ("passed", "Not their language or field"),
                    ("released", "Released"),
                    ("expired", "Expired"),
                ],
                default="live",
                max_length=10,
            ),
        ),
        migrations.RunPython(migrations.RunPython.noop, skip_what_was_passed),
        migrations.RunPython(drop_counters, triggers.install),
        migrations.RemoveIndex("comparison", "open_comparisons"),
        migrations.RemoveIndex("comparison", "reserved_comparisons"),
        migrations.RemoveField("comparison", "open"),
        migrations.AddField(
            "comparison",
            "skips_forgiven",
            models.PositiveIntegerField(
                default=0, editable=False, help_text="The skips that counted when it was handed out again."
            ),
        ),
        migrations.AddField(
            "comparison",
            "open",
            models.GeneratedField(db_persist=True, expression=IS_OPEN, output_field=models.BooleanField()),
        ),
        migrations.AddIndex("comparison", OPEN_INDEX),
        migrations.AddIndex("comparison", RESERVED_INDEX),
        migrations.RunPython(triggers.install, drop_counters),
    ]

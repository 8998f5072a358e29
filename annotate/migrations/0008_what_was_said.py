"""Judgments keep the first time, reading times that revisions cleared, and reasons and criteria by stable keys."""

from collections.abc import Callable, Iterator
from typing import Any

from django.db import migrations, models
from django.db.models import Min, OuterRef, Q, Subquery
from django.utils import timezone

from annotate.models.aspects import new_key

AT_A_TIME = 500
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


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0007_metadata_and_images"),
    ]

    operations = [
        migrations.AddField("judgment", "first_at", models.DateTimeField(null=True, editable=False)),
        migrations.RunPython(keep_first_times, migrations.RunPython.noop),
        migrations.RunPython(restore_seconds, migrations.RunPython.noop),
        migrations.RunPython(give_keys, give_texts),
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
    ]

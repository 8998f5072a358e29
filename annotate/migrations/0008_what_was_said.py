"""Judgments keep the time of the first verdict, and the reading time that a revision used to clear."""

from typing import Any

from django.db import migrations, models
from django.db.models import Min, OuterRef, Subquery
from django.utils import timezone


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


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0007_metadata_and_images"),
    ]

    operations = [
        migrations.AddField("judgment", "first_at", models.DateTimeField(null=True, editable=False)),
        migrations.RunPython(keep_first_times, migrations.RunPython.noop),
        migrations.RunPython(restore_seconds, migrations.RunPython.noop),
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

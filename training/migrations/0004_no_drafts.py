"""No state `draft`: a round is queued in the transaction that makes it."""

from typing import Any

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps
from django.db.models import Q

STATES: list[Any] = [
    ("queued", "Queued"),
    ("training", "Training"),
    ("sampling", "Sampling"),
    ("ready", "Ready for a decision"),
    ("promoted", "Promoted"),
    ("rejected", "Rejected"),
    ("failed", "Failed"),
    ("cancelled", "Cancelled"),
    ("written", "Written"),
]


def forget_drafts(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    """Let the history of each round begin when it was queued. No draft was ever committed, unless by hand."""
    events = apps.get_model("training", "RoundEvent").objects.using(editor.connection.alias)
    events.filter(from_state="draft", to_state="draft").update(from_state="", to_state="queued")
    events.filter(from_state="draft").update(from_state="queued")
    rounds = apps.get_model("training", "Round").objects.using(editor.connection.alias)
    rounds.filter(state="draft").update(state="cancelled")


def remember_drafts(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    events = apps.get_model("training", "RoundEvent").objects.using(editor.connection.alias)
    events.filter(from_state="").update(from_state="draft")


class Migration(migrations.Migration):
    dependencies = [("training", "0003_sweeps")]

    operations = [
        migrations.RunPython(forget_drafts, remember_drafts),
        migrations.RemoveConstraint(model_name="round", name="one_open_round_per_project"),
        migrations.RemoveConstraint(model_name="round", name="queued_rounds_have_a_snapshot"),
        migrations.AlterField(
            model_name="round",
            name="state",
            field=models.CharField(choices=STATES, default="queued", max_length=10),
        ),
        migrations.AlterField(
            model_name="roundevent",
            name="from_state",
            field=models.CharField(
                blank=True, choices=STATES, help_text="Empty when the round began.", max_length=10
            ),
        ),
        migrations.AlterField(
            model_name="roundevent",
            name="to_state",
            field=models.CharField(choices=STATES, max_length=10),
        ),
        migrations.AddConstraint(
            model_name="round",
            constraint=models.UniqueConstraint(
                condition=Q(state__in=["queued", "training", "sampling", "ready"]),
                fields=("project",),
                name="one_open_round_per_project",
            ),
        ),
        migrations.AddConstraint(
            model_name="round",
            constraint=models.CheckConstraint(
                condition=Q(state__in=["cancelled", "failed"]) | Q(snapshot__isnull=False) | Q(trains=False),
                name="queued_rounds_have_a_snapshot",
            ),
        ),
    ]

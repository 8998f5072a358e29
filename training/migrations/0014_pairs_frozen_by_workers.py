"""Let a round wait for its worker without a snapshot, which that worker takes first.

A worker of the version before is refused such a round, and leaves it to the others.
"""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("training", "0013_precisions_of_merges")]

    operations = [
        migrations.AddField(
            model_name="round",
            name="last_judgment",
            field=models.BigIntegerField(
                editable=False,
                help_text="The id of the newest judgment of all, when it was started.",
                null=True,
            ),
        ),
        migrations.RemoveConstraint(model_name="round", name="queued_rounds_have_a_snapshot"),
        migrations.AddConstraint(
            model_name="round",
            constraint=models.CheckConstraint(
                condition=Q(snapshot__isnull=False)
                | Q(trains=False)
                | Q(state__in=["queued", "cancelled", "failed"])
                | Q(state="training", phase="freezing"),
                name="rounds_that_train_have_a_snapshot",
            ),
        ),
    ]

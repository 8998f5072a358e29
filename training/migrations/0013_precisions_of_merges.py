"""Let a policy be merged in several precisions. Weights that are there were merged in that of the base model."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("training", "0012_tools_of_trials")]

    operations = [
        migrations.AddField(
            model_name="mergedweights",
            name="precision",
            field=models.CharField(
                choices=[("base", "As the base model"), ("float16", "float16"), ("float32", "float32")],
                db_default="base",
                default="base",
                help_text="As it was asked for.",
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="mergedweights",
            name="dtype",
            field=models.CharField(
                blank=True, help_text="As the weights are, once they are ready.", max_length=20
            ),
        ),
        migrations.RemoveConstraint(model_name="mergedweights", name="one_merge_at_a_time"),
        migrations.AddConstraint(
            model_name="mergedweights",
            constraint=models.UniqueConstraint(
                condition=models.Q(state__in=["queued", "running"]),
                fields=("policy", "precision"),
                name="one_live_merge_per_precision",
            ),
        ),
    ]

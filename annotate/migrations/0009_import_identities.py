"""Give comparisons an id and metadata of their own, and say of prompts what brought them in.

What prompts were called stays with them: which row of an old file it came from is not known.
"""

from django.db import migrations, models
from django.db.models import Q

from annotate.models import triggers


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0008_what_was_said"),
    ]

    operations = [
        migrations.RunPython(triggers.remove, triggers.install),
        migrations.AddField(
            model_name="comparison",
            name="external_id",
            field=models.CharField(blank=True, max_length=200, default=""),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="comparison",
            name="metadata",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name="prompt",
            name="batch",
            field=models.CharField(
                blank=True, help_text="What brought it in, such as “import 3”.", max_length=60, default=""
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="prompt",
            name="withdrawn_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddIndex(
            model_name="comparison",
            index=models.Index(
                condition=~Q(external_id=""), fields=["project", "external_id"], name="comparisons_by_external_id"
            ),
        ),
        migrations.AddIndex(
            model_name="prompt",
            index=models.Index(
                condition=~Q(external_id=""), fields=["project", "external_id"], name="prompts_by_external_id"
            ),
        ),
        migrations.AddIndex(
            model_name="prompt",
            index=models.Index(condition=~Q(batch=""), fields=["project", "batch"], name="prompts_by_batch"),
        ),
        migrations.AddConstraint(
            model_name="comparison",
            constraint=models.CheckConstraint(
                condition=~Q(kind="repeat") | Q(external_id=""), name="repeats_have_no_external_id"
            ),
        ),
        migrations.AlterField(
            model_name="project",
            name="visible_metadata",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="Keys of metadata that annotators see beside the prompt.",
            ),
        ),
        migrations.RunPython(triggers.install, triggers.remove),
    ]

"""Let a project show metadata beside its prompts, and load images from the hosts that it names."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0006_completion_prompt_token_ids"),
    ]

    operations = [
        migrations.AddField(
            model_name="project",
            name="visible_metadata",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="Keys of a prompt's metadata that annotators see beside it.",
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="image_hosts",
            field=models.JSONField(
                blank=True, default=list, help_text="Hosts that images in texts are loaded from."
            ),
        ),
    ]

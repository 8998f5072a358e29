"""Keep the ids that a policy was given, so that training sees the same prompt."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0005_username_keys"),
    ]

    operations = [
        migrations.AddField(
            model_name="completion",
            name="prompt_token_ids",
            field=models.JSONField(blank=True, help_text="What the policy was given, as tokens.", null=True),
        ),
    ]

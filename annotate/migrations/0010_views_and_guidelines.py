"""Remember the view of texts that a member chose, and the guidelines that they have seen."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0009_import_identities"),
    ]

    operations = [
        migrations.AddField(
            model_name='membership',
            name='guidelines_read',
            field=models.CharField(blank=True, db_default='', default='', editable=False, help_text='Digest of the guidelines seen last.', max_length=64),
        ),
        migrations.AddField(
            model_name='membership',
            name='view',
            field=models.CharField(blank=True, choices=[('rendered', 'Formatted'), ('raw', 'Raw'), ('differences', 'Differences')], db_default='', default='', editable=False, help_text='How this member chose to see texts.', max_length=12),
        ),
        migrations.AddField(
            model_name='project',
            name='default_view',
            field=models.CharField(choices=[('rendered', 'Formatted'), ('raw', 'Raw'), ('differences', 'Differences')], db_default='rendered', default='rendered', max_length=12),
        ),
    ]

"""Note of rounds whether they hold what was forgotten, and which of them they do over."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('training', '0004_no_drafts'),
    ]

    operations = [
        migrations.AddField(
            model_name='round',
            name='holds_forgotten',
            field=models.BooleanField(db_default=False, default=False, editable=False, help_text='Its policy was trained on what was forgotten since.'),
        ),
        migrations.AddField(
            model_name='round',
            name='retrains',
            field=models.ForeignKey(blank=True, editable=False, help_text='The round that this one does over, without what was forgotten.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='retrained_by', to='training.round'),
        ),
    ]

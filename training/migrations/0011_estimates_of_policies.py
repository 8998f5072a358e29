"""Add the policies that an estimate was asked with."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0019_ratings_in_snapshots'),
        ('training', '0010_answers_so_far'),
    ]

    operations = [
        migrations.AddField(
            model_name='dryrun',
            name='against',
            field=models.ForeignKey(blank=True, help_text='The policy that was chosen to compare with.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='annotate.policy'),
        ),
        migrations.AddField(
            model_name='dryrun',
            name='begin',
            field=models.ForeignKey(blank=True, help_text='The policy that was chosen to start from, or to write.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='annotate.policy'),
        ),
    ]

"""Let the database hold what a comparison is shown by, and keep verdicts as they were written.

Foreign keys that follow from it go: each cost a look-up for each row.
"""

import django.db.models.deletion
from django.db import migrations, models

from annotate.models import triggers


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0021_trail_of_withdrawals'),
    ]

    operations = [
        migrations.RunPython(triggers.remove, triggers.install),
        migrations.AlterField(
            model_name='claim',
            name='left',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.RESTRICT, related_name='+', to='annotate.completion'),
        ),
        migrations.AlterField(
            model_name='claim',
            name='project',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='annotate.project'),
        ),
        migrations.AlterField(
            model_name='claim',
            name='right',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.RESTRICT, related_name='+', to='annotate.completion'),
        ),
        migrations.AlterField(
            model_name='judgment',
            name='left',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.RESTRICT, related_name='+', to='annotate.completion'),
        ),
        migrations.AlterField(
            model_name='judgment',
            name='preferred',
            field=models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.RESTRICT, related_name='+', to='annotate.completion'),
        ),
        migrations.AlterField(
            model_name='judgment',
            name='project',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='judgments', to='annotate.project'),
        ),
        migrations.AlterField(
            model_name='judgment',
            name='right',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.RESTRICT, related_name='+', to='annotate.completion'),
        ),
        migrations.RunPython(triggers.install, triggers.remove),
    ]

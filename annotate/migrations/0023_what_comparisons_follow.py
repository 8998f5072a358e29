"""Let prompts keep their project, and the foreign keys of comparisons go that follow from their completions."""

import django.db.models.deletion
from django.db import migrations, models

from annotate.models import triggers


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0022_what_is_shown'),
    ]

    operations = [
        migrations.RunPython(triggers.remove, triggers.install),
        migrations.AlterField(
            model_name='comparison',
            name='project',
            field=models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='comparisons', to='annotate.project'),
        ),
        migrations.AlterField(
            model_name='comparison',
            name='prompt',
            field=models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='comparisons', to='annotate.prompt'),
        ),
        migrations.RunPython(triggers.install, triggers.remove),
    ]

"""Check new comparisons a statement at a time, their counters too."""

from django.db import migrations

from annotate.models import triggers


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0015_moved_and_forgotten'),
    ]

    operations = [
        migrations.RunPython(triggers.install, migrations.RunPython.noop),
    ]

from django.db import migrations

from annotate.models import triggers


class Migration(migrations.Migration):
    dependencies = [("annotate", "0001_initial")]

    operations = [migrations.RunPython(triggers.install, migrations.RunPython.noop)]

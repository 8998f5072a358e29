"""Note of a comparison whether a probe chose it among candidates, and how likely it was to be shown."""

from django.db import migrations, models

from annotate.models import triggers


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0017_policies_from_elsewhere'),
    ]

    operations = [
        migrations.RunPython(triggers.remove, triggers.install),
        migrations.AddField(
            model_name='comparison',
            name='arm',
            field=models.CharField(blank=True, choices=[('control', 'Drawn at random, as control'), ('probe', 'Chosen by the probe')], db_default='', default='', editable=False, max_length=10),
        ),
        migrations.AddField(
            model_name='comparison',
            name='propensity',
            field=models.FloatField(blank=True, editable=False, help_text='The chance that these two of its prompt’s candidates were shown.', null=True),
        ),
        migrations.AddConstraint(
            model_name='comparison',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('arm', ''), ('propensity__isnull', True)), models.Q(('arm__in', ['control', 'probe']), ('propensity__gt', 0), ('propensity__isnull', False), ('propensity__lte', 1)), _connector='OR'), name='choices_state_their_propensity'),
        ),
        migrations.AddConstraint(
            model_name='comparison',
            constraint=models.CheckConstraint(condition=models.Q(('arm', ''), ('kind__in', ['standard', 'gold']), _connector='OR'), name='only_new_pairs_are_chosen'),
        ),
        migrations.RunPython(triggers.install, triggers.remove),
    ]

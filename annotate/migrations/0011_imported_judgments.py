"""Make room for judgments that were given elsewhere, chats as completions, and tools of prompts."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from annotate.models import triggers


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0010_views_and_guidelines'),
    ]

    operations = [
        migrations.RunPython(triggers.remove, triggers.install),
        migrations.RunPython(migrations.RunPython.noop, triggers.remove_imported),
        migrations.AlterModelManagers(
            name='user',
            managers=[
            ],
        ),
        migrations.RemoveConstraint(
            model_name='completion',
            name='completions_are_not_empty',
        ),
        migrations.RemoveConstraint(
            model_name='judgment',
            name='a_preference_names_its_completion',
        ),
        migrations.AddField(
            model_name='completion',
            name='messages',
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='judgment',
            name='import_batch',
            field=models.CharField(blank=True, default='', editable=False, help_text='What brought it in, such as “import 3”. Empty for a verdict given here.', max_length=60),
        ),
        migrations.AddField(
            model_name='judgment',
            name='sides_known',
            field=models.BooleanField(default=True, editable=False, help_text='Whether left and right are as the annotator saw them.'),
        ),
        migrations.AddField(
            model_name='prompt',
            name='has_images',
            field=models.BooleanField(default=False, editable=False, help_text='It holds images, which no model of text can be given.'),
        ),
        migrations.AddField(
            model_name='prompt',
            name='tools',
            field=models.JSONField(blank=True, help_text='What the chat template is told that the model may call.', null=True),
        ),
        migrations.AddField(
            model_name='user',
            name='external_name',
            field=models.CharField(blank=True, default='', editable=False, max_length=200),
        ),
        migrations.AddField(
            model_name='user',
            name='imported_into',
            field=models.ForeignKey(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='annotate.project'),
        ),
        migrations.AlterField(
            model_name='completion',
            name='text',
            field=models.TextField(blank=True),
        ),
        migrations.AlterField(
            model_name='judgment',
            name='annotator',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.RESTRICT, related_name='judgments', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AlterField(
            model_name='membership',
            name='user',
            field=models.ForeignKey(limit_choices_to={'imported_into': None}, on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='judgment',
            index=models.Index(condition=models.Q(('import_batch', ''), _negated=True), fields=['project', 'import_batch'], name='imported_judgments'),
        ),
        migrations.AddConstraint(
            model_name='judgment',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(models.Q(models.Q(('strength__in', [1, 2, 3]), ('strength__isnull', False)), models.Q(('strength__isnull', True), models.Q(('import_batch', ''), _negated=True)), _connector='OR'), ('preferred__isnull', False), ('verdict', 'prefer')), models.Q(models.Q(('verdict', 'prefer'), _negated=True), ('preferred__isnull', True), ('strength__isnull', True)), _connector='OR'), name='a_preference_names_its_completion'),
        ),
        migrations.AddConstraint(
            model_name='judgment',
            constraint=models.CheckConstraint(condition=models.Q(('sides_known', True), models.Q(('import_batch', ''), _negated=True), _connector='OR'), name='only_imported_sides_are_unknown'),
        ),
        migrations.AddConstraint(
            model_name='user',
            constraint=models.UniqueConstraint(condition=models.Q(('imported_into__isnull', False)), fields=('imported_into', 'external_name'), name='one_imported_annotator_per_name'),
        ),
        migrations.AddConstraint(
            model_name='user',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('external_name', ''), ('imported_into__isnull', True)), models.Q(('email', ''), ('imported_into__isnull', False), ('is_active', False), ('is_staff', False), ('is_superuser', False), ('password__startswith', '!')), _connector='OR'), name='imported_annotators_cannot_sign_in'),
        ),
        migrations.RunPython(triggers.install, triggers.remove),
    ]

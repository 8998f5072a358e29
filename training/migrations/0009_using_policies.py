"""Add trials with their answers, merged weights, endpoints that write, and what a round compares with."""

import django.db.models.deletion
import django.utils.timezone
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0017_policies_from_elsewhere'),
        ('training', '0008_storage'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='round',
            name='against',
            field=models.ForeignKey(blank=True, help_text='The policy that its gate, or its writing, compares with, if not the usual one.', null=True, on_delete=django.db.models.deletion.RESTRICT, related_name='+', to='annotate.policy'),
        ),
        migrations.CreateModel(
            name='Endpoint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('url', models.CharField(help_text='Up to /v1, such as https://api.example.com/v1.', max_length=500)),
                ('model', models.CharField(help_text='As the server calls it.', max_length=200)),
                ('sampling', models.JSONField(blank=True, default=dict, help_text='Settings that lie over those of the project.')),
                ('policy', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='endpoint', to='annotate.policy')),
            ],
        ),
        migrations.CreateModel(
            name='Trial',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('content', models.JSONField()),
                ('sampling', models.JSONField(default=dict, help_text='The chosen settings of sampling.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('sent_at', models.DateTimeField(blank=True, editable=False, help_text='When the broker last took its message.', null=True)),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='trials', to='annotate.project')),
            ],
            options={
                'ordering': ['-created_at'],
            },
        ),
        migrations.CreateModel(
            name='Answer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField()),
                ('state', models.CharField(choices=[('queued', 'Waiting'), ('running', 'Writing'), ('done', 'Written'), ('failed', 'Failed'), ('cancelled', 'Stopped')], default='queued', max_length=10)),
                ('attempt', models.PositiveIntegerField(default=0)),
                ('phase', models.CharField(blank=True, max_length=20)),
                ('share', models.FloatField(default=0, help_text='Of the longest text that it may write.')),
                ('text', models.TextField(blank=True)),
                ('finish_reason', models.CharField(choices=[('stop', 'The model ended it'), ('length', 'Cut at the length limit'), ('unknown', 'Unknown')], default='unknown', max_length=10)),
                ('sample', models.JSONField(default=dict, help_text='What a line of samples.jsonl says besides.')),
                ('error', models.TextField(blank=True)),
                ('worker', models.CharField(blank=True, max_length=255)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('heard_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('policy', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='trial_answers', to='annotate.policy')),
                ('trial', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='answers', to='training.trial')),
            ],
            options={
                'ordering': ['position'],
            },
        ),
        migrations.CreateModel(
            name='MergedWeights',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('state', models.CharField(choices=[('queued', 'Waiting'), ('running', 'Being merged'), ('done', 'Ready'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], default='queued', max_length=10)),
                ('attempt', models.PositiveIntegerField(default=0)),
                ('phase', models.CharField(blank=True, max_length=20)),
                ('share', models.FloatField(default=0)),
                ('file', models.FileField(blank=True, max_length=300, upload_to='merged/')),
                ('filename', models.CharField(blank=True, max_length=200)),
                ('size', models.PositiveBigIntegerField(default=0, help_text='In bytes.')),
                ('sha256', models.CharField(blank=True, max_length=64)),
                ('dtype', models.CharField(blank=True, max_length=20)),
                ('error', models.TextField(blank=True)),
                ('worker', models.CharField(blank=True, max_length=255)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('heard_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('sent_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('finished_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('expires_at', models.DateTimeField(blank=True, editable=False, null=True)),
                ('created_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('policy', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='merged_weights', to='annotate.policy')),
            ],
            options={
                'verbose_name_plural': 'merged weights',
                'ordering': ['-created_at'],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('state', 'done'), _negated=True), models.Q(models.Q(('sha256', ''), _negated=True), models.Q(('filename', ''), _negated=True), ('expires_at__isnull', False)), _connector='OR'), name='ready_weights_have_a_hash'), models.UniqueConstraint(condition=models.Q(('state__in', ['queued', 'running'])), fields=('policy',), name='one_merge_at_a_time')],
            },
        ),
        migrations.AddIndex(
            model_name='trial',
            index=models.Index(fields=['created_at'], name='trials_to_sweep'),
        ),
        migrations.AddConstraint(
            model_name='answer',
            constraint=models.UniqueConstraint(fields=('trial', 'policy'), name='one_answer_per_policy'),
        ),
        migrations.AddConstraint(
            model_name='answer',
            constraint=models.UniqueConstraint(fields=('trial', 'position'), name='one_answer_per_place'),
        ),
    ]

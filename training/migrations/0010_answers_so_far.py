"""Add when the first words of an answer could be shown."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('training', '0009_using_policies'),
    ]

    operations = [
        migrations.AddField(
            model_name='answer',
            name='words_at',
            field=models.DateTimeField(blank=True, help_text='When the first words could be shown.', null=True),
        ),
        migrations.AlterField(
            model_name='answer',
            name='text',
            field=models.TextField(blank=True, help_text='What is written so far, until it is done.'),
        ),
    ]

"""Let the checks of foreign keys find what names a comparison or a completion that is deleted."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0023_what_comparisons_follow'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='comparison',
            index=models.Index(condition=models.Q(('gold_preferred__isnull', False)), fields=['gold_preferred'], name='gold_by_completion'),
        ),
        migrations.AddIndex(
            model_name='comparison',
            index=models.Index(condition=models.Q(('repeat_of__isnull', False)), fields=['repeat_of'], name='repeats_of_comparison'),
        ),
        migrations.AddIndex(
            model_name='snapshotpair',
            index=models.Index(fields=['chosen'], name='pairs_by_chosen'),
        ),
        migrations.AddIndex(
            model_name='snapshotpair',
            index=models.Index(fields=['rejected'], name='pairs_by_rejected'),
        ),
        migrations.AddIndex(
            model_name='snapshotrating',
            index=models.Index(fields=['completion'], name='ratings_by_completion'),
        ),
    ]

"""Note of a comparison that was judged elsewhere whether people are asked about it no more."""

from django.db import migrations, models
from django.db.models import Count, Exists, F, OuterRef, Subquery
from django.db.models.functions import Coalesce

from annotate.models import triggers


def note_closed(apps, schema_editor):
    """Note those of projects in which an admin asked people no more: until here it was told by what they need."""
    Project, Comparison, Claim, TrailEntry = (
        apps.get_model('annotate', name) for name in ('Project', 'Comparison', 'Claim', 'TrailEntry')
    )
    from_files = Claim.objects.filter(
        comparison=OuterRef('pk'), annotator__imported_into__isnull=False, state='judged'
    )
    count = from_files.order_by().values('comparison').annotate(count=Count('pk')).values('count')
    said = TrailEntry.objects.filter(project=OuterRef('pk'), verb='asked_no_more')
    for project in Project.objects.filter(Exists(said)):
        Comparison.objects.filter(
            Exists(from_files),
            project=project,
            kind='standard',
            needed__lte=F('judged'),
            needed__lt=Coalesce(Subquery(count), 0) + project.judgments_needed,
        ).update(closed_to_people=True)


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0019_ratings_in_snapshots'),
    ]

    operations = [
        migrations.RunPython(triggers.remove, triggers.install),
        migrations.AddField(
            model_name='comparison',
            name='closed_to_people',
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.RunPython(triggers.install, triggers.remove),
        migrations.RunPython(note_closed, migrations.RunPython.noop),
    ]

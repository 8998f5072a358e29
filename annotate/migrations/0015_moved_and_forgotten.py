"""Note of snapshots what was forgotten of them, and how their ids moved."""

from django.db import migrations, models

from annotate.models import triggers


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0014_token_scopes'),
    ]

    operations = [
        # SQLite rebuilds the table of snapshots, which loses its triggers.
        migrations.RunPython(triggers.remove, triggers.install),
        migrations.AddField(
            model_name='snapshot',
            name='comparison_shift',
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AddField(
            model_name='snapshot',
            name='forgotten',
            field=models.PositiveIntegerField(db_default=0, default=0, editable=False, help_text='Pairs removed, as they held what was forgotten.'),
        ),
        migrations.AddField(
            model_name='snapshot',
            name='judgment_shift',
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AlterField(
            model_name='trailentry',
            name='verb',
            field=models.CharField(choices=[('created', 'Created the project'), ('invited', 'Invited'), ('withdrawn', 'Withdrew the invitation of'), ('accepted', 'Accepted the invitation'), ('declined', 'Declined the invitation'), ('account', 'Made an account for'), ('added', 'Added'), ('role', 'Changed the role of'), ('removed', 'Removed'), ('admitted', 'Let in without qualification'), ('link_made', 'Made a password link for'), ('link_used', 'A password link was used for'), ('password', 'A new password was set for'), ('token_made', 'Made an API token'), ('token_revoked', 'Revoked an API token'), ('email', 'Confirmed the email address of'), ('email_cleared', 'An upgrade cleared a doubled email address of'), ('exported', 'Exported'), ('snapshot', 'Took a snapshot'), ('snapshot_exported', 'Exported a snapshot'), ('imported', 'Started an import'), ('settings', 'Changed settings'), ('gold_made', 'Made gold'), ('gold_corrected', 'Corrected the gold verdict of'), ('gold_ended', 'Made standard again'), ('archived', 'Archived the project'), ('restored', 'Restored the project'), ('forgotten', 'Forgot'), ('moved_in', 'Restored from an archive file')], max_length=20),
        ),
        migrations.RunPython(triggers.install, triggers.remove),
    ]

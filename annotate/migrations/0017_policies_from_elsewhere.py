"""Note of policies who brought them in, and from where."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('annotate', '0016_comparisons_count_claims'),
    ]

    operations = [
        migrations.AddField(
            model_name='policy',
            name='brought_by',
            field=models.ForeignKey(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='policy',
            name='origin',
            field=models.JSONField(blank=True, db_default={}, default=dict, editable=False, help_text='Of one that was made elsewhere: where it came from, and hashes of its files.'),
        ),
        migrations.AlterField(
            model_name='trailentry',
            name='verb',
            field=models.CharField(choices=[('created', 'Created the project'), ('invited', 'Invited'), ('withdrawn', 'Withdrew the invitation of'), ('accepted', 'Accepted the invitation'), ('declined', 'Declined the invitation'), ('account', 'Made an account for'), ('added', 'Added'), ('role', 'Changed the role of'), ('removed', 'Removed'), ('admitted', 'Let in without qualification'), ('link_made', 'Made a password link for'), ('link_used', 'A password link was used for'), ('password', 'A new password was set for'), ('token_made', 'Made an API token'), ('token_revoked', 'Revoked an API token'), ('email', 'Confirmed the email address of'), ('email_cleared', 'An upgrade cleared a doubled email address of'), ('exported', 'Exported'), ('snapshot', 'Took a snapshot'), ('snapshot_exported', 'Exported a snapshot'), ('imported', 'Started an import'), ('settings', 'Changed settings'), ('gold_made', 'Made gold'), ('gold_corrected', 'Corrected the gold verdict of'), ('gold_ended', 'Made standard again'), ('archived', 'Archived the project'), ('restored', 'Restored the project'), ('forgotten', 'Forgot'), ('moved_in', 'Restored from an archive file'), ('renamed', 'Renamed'), ('brought_in', 'Brought in')], max_length=20),
        ),
    ]

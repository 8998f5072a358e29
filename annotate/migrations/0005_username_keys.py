"""Recompute the keys of usernames: more names count as one."""

import logging

from django.db import migrations, models

from annotate.text.usernames import name_key

log = logging.getLogger(__name__)


def renew_keys(apps, schema_editor):
    """Give each account the present key of its username. Of accounts that look alike, one has the plain key.

    As in 0003_accounts, no username is changed. The others get a key of their own, and are named in the log.
    """
    User = apps.get_model("annotate", "User")
    accounts = list(User.objects.order_by("pk").values_list("pk", "username", "username_key"))
    changed = [(pk, name) for pk, name, key in accounts if key.partition(" ")[0] != name_key(name)]
    renewed = {pk for pk, _name in changed}
    taken = {key: name for pk, name, key in accounts if pk not in renewed}
    for pk, username in changed:
        key = name_key(username)
        if key in taken:
            log.warning("The usernames “%s” and “%s” look alike. Rename one in Django's admin.", taken[key], username)
            key = f"{key} {pk}"
        else:
            taken[key] = username
        User.objects.filter(pk=pk).update(username_key=key)


class Migration(migrations.Migration):

    dependencies = [
        ("annotate", "0004_sign_in_attempts"),
    ]

    operations = [
        migrations.RunPython(renew_keys, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="trailentry",
            name="who_name",
            field=models.CharField(blank=True, help_text="Empty for a command on the server, the holder of a link, or who declined.", max_length=150),
        ),
    ]

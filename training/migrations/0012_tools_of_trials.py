"""Give the tools of a trial a column of their own. They were kept in its settings of sampling."""

from typing import Any

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

AT_A_TIME = 200


def move_out_of_sampling(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    """Move the tools of each trial that has some."""
    changed = []
    for trial in _trials(apps, editor).filter(sampling__has_key="tools").iterator(AT_A_TIME):
        trial.tools = trial.sampling.pop("tools")
        changed.append(trial)
    _trials(apps, editor).bulk_update(changed, ["tools", "sampling"], AT_A_TIME)


def move_into_sampling(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    changed = []
    for trial in _trials(apps, editor).filter(tools__isnull=False).iterator(AT_A_TIME):
        trial.sampling["tools"] = trial.tools
        changed.append(trial)
    _trials(apps, editor).bulk_update(changed, ["sampling"], AT_A_TIME)


def _trials(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> Any:
    return apps.get_model("training", "Trial").objects.using(editor.connection.alias)


class Migration(migrations.Migration):
    dependencies = [("training", "0011_estimates_of_policies")]

    operations = [
        migrations.AddField(
            model_name="trial",
            name="tools",
            field=models.JSONField(
                blank=True, help_text="What the policies are told that they may call.", null=True
            ),
        ),
        migrations.RunPython(move_out_of_sampling, move_into_sampling),
    ]

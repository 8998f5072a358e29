"""A project's default of how comparisons are chosen."""

from django.db import transaction

from annotate.models import Project, User
from annotate.projects import trail
from training.rounds.choosing.settings import ALWAYS

KEY = "choosing"  # among a project's settings of sampling


def chooses_regardless(project: Project) -> bool:
    """Return whether the project's rounds choose by the probe whatever the audit says."""
    stored = project.sampling_settings.get(KEY)
    return isinstance(stored, dict) and stored.get("by") == ALWAYS


def set_default(project: Project, user: User, by: str) -> None:
    """Store by what the project's next rounds choose. The trail tells it. Other settings stay as they are."""
    with transaction.atomic():
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        stored = locked.sampling_settings.get(KEY)
        locked.sampling_settings[KEY] = {**(stored if isinstance(stored, dict) else {}), "by": by}
        locked.save(update_fields=["sampling_settings"])
        trail.record(trail.Verb.SETTINGS, user, project=locked, target="sampling_settings", choosing=by)

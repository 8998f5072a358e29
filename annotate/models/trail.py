"""The trail: who did what to accounts, members and data. Rows are added and never change (`triggers.py`)."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.text import Truncator
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

LONGEST_FACT = 200  # characters that are shown of a detail


class TrailEntry(models.Model):
    """One act, told so that it can be read after its people and its project are gone.

    The foreign keys have no constraint in the database, as a deleted account or project must not change an entry.
    """

    class Verb(models.TextChoices):
        CREATED = "created", _("Created the project")
        INVITED = "invited", _("Invited")
        WITHDRAWN = "withdrawn", _("Withdrew the invitation of")
        ACCEPTED = "accepted", _("Accepted the invitation")
        DECLINED = "declined", _("Declined the invitation")
        ACCOUNT = "account", _("Made an account for")
        ADDED = "added", _("Added")
        ROLE = "role", _("Changed the role of")
        REMOVED = "removed", _("Removed")
        ADMITTED = "admitted", _("Let in without qualification")
        LINK_MADE = "link_made", _("Made a password link for")
        LINK_USED = "link_used", _("A password link was used for")
        PASSWORD = "password", _("A new password was set for")
        TOKEN_MADE = "token_made", _("Made an API token")
        TOKEN_REVOKED = "token_revoked", _("Revoked an API token")
        EMAIL = "email", _("Confirmed the email address of")
        EMAIL_CLEARED = "email_cleared", _("An upgrade cleared a doubled email address of")
        EXPORTED = "exported", _("Exported")
        SNAPSHOT = "snapshot", _("Took a snapshot")
        SNAPSHOT_EXPORTED = "snapshot_exported", _("Exported a snapshot")
        IMPORTED = "imported", _("Started an import")
        SETTINGS = "settings", _("Changed settings")
        GOLD_MADE = "gold_made", _("Made gold")
        GOLD_CORRECTED = "gold_corrected", _("Corrected the gold verdict of")
        GOLD_ENDED = "gold_ended", _("Made standard again")
        ARCHIVED = "archived", _("Archived the project")
        RESTORED = "restored", _("Reopened the project")
        FORGOTTEN = "forgotten", _("Forgot")
        MOVED_IN = "moved_in", _("Restored from an archive file")
        RENAMED = "renamed", _("Renamed")
        BROUGHT_IN = "brought_in", _("Brought in")
        ASKED = "asked", _("Asked people to judge, too,")
        ASKED_NO_MORE = "asked_no_more", _("Asked people no more to judge")
        TAKEN_OUT = "taken_out", _("Withdrew")
        PUT_BACK = "put_back", _("Put back")
        HELD_OUT = "held_out", _("Held out")
        GIVEN_BACK = "given_back", _("Gave back to training")
        CORRECTED = "corrected", _("Corrected")

    at = models.DateTimeField(default=timezone.now)
    project = models.ForeignKey(
        "annotate.Project", null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="trail"
    )
    who = models.ForeignKey(
        "annotate.User", null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    who_name = models.CharField(
        max_length=150,
        blank=True,
        help_text=_("Empty for a command on the server, the holder of a link, or who declined."),
    )
    verb = models.CharField(max_length=20, choices=Verb.choices)
    subject = models.ForeignKey(
        "annotate.User",
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="trail_about",
    )
    target = models.CharField(max_length=300, blank=True, help_text=_("Whom or what, in words."))
    details = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "trail entries"
        indexes = [
            models.Index("project", models.F("id").desc(), name="trail_of_a_project"),
            models.Index("subject", models.F("id").desc(), name="trail_about_a_person"),
            models.Index("who", models.F("id").desc(), name="trail_of_a_person"),
        ]

    def __str__(self) -> str:
        return " ".join(filter(None, [self.who_name, self.get_verb_display(), self.target]))

    @property
    def actor(self) -> str:
        """Return who did it, in words."""
        if self.who_name:
            return self.who_name
        if self.verb == self.Verb.LINK_USED:
            return _now("the holder of the link")
        if self.verb == self.Verb.DECLINED:  # a username would tell whose address was invited
            return self.target
        # By a link, which has an entry of its own, or by a command on the server.
        return "–" if self.verb == self.Verb.PASSWORD else _now("a command on the server")

    @property
    def facts(self) -> list[tuple[str, Any]]:
        """The details to show, such as ("role", "admin"). Of a long text, its beginning."""
        return [
            (
                name.replace("_", " "),
                Truncator(value).chars(LONGEST_FACT) if isinstance(value, str) else value,
            )
            for name, value in self.details.items()
            if value not in ("", None)
        ]

"""People, and their roles in projects."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotate.models.projects import Project
from annotate.models.trail import TrailEntry
from annotate.names import check_scripts, fold, name_key


class UsernameKey(models.CharField):  # type: ignore[type-arg] # no subscript at run time
    """The key of the row's username, computed whenever it is written.

    An account that looked like another before keys existed has a key of its own, "KEY NUMBER": it keeps that one until
    its username changes.
    """

    def pre_save(self, person: Any, add: bool) -> str:
        key = name_key(person.username)
        if person.username_key.partition(" ")[0] != key:
            person.username_key = key
        return str(person.username_key)


class User(AbstractUser):
    """A person. `preferences` holds what they chose for themselves: remapped keys, theme, scroll together.

    An address identifies an account only while it is the one in `confirmed_email`, so that changing `email` by whatever
    means unconfirms it.
    """

    confirmed_email = models.EmailField(blank=True, editable=False)
    username_key = UsernameKey(max_length=500, unique=True, editable=False, default="")
    preferences = models.JSONField(default=dict, blank=True)

    # For the next `save` with a new password: who chose it, and whether they asked to keep the API tokens.
    password_set_by: User | None = None
    keeps_tokens = False
    _loses_password = False

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                condition=~models.Q(email=""),
                name="one_account_per_email",
                violation_error_message=_("Another account has this email address."),
            )
        ]

    @property
    def has_confirmed_email(self) -> bool:
        return bool(self.email) and fold(self.email) == fold(self.confirmed_email)

    def clean(self) -> None:
        """Refuse a new username that looks like another account's, or mixes scripts."""
        super().clean()
        stored = User.objects.filter(pk=self.pk).values_list("username", flat=True).first()
        if self.username == stored:
            return
        try:
            check_scripts(self.username)
        except ValidationError as mixed:
            raise ValidationError({"username": mixed}) from mixed
        if User.objects.filter(username_key=name_key(self.username)).exclude(pk=self.pk).exists():
            raise ValidationError({"username": self.unique_error_message(User, ("username",))})

    def set_unusable_password(self) -> None:
        super().set_unusable_password()
        self._loses_password = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the row, and end what the old password opened where there is a new one.

        Django keeps a chosen password in `_password` until it is saved, and clears it where only the hash is
        upgraded, so that signing in never counts as a change.
        """
        if (fields := kwargs.get("update_fields")) and "username" in fields:
            kwargs["update_fields"] = {*fields, "username_key"}
        is_chosen = self._password is not None  # type: ignore[attr-defined]
        replaced = not self._state.adding and (is_chosen or self._loses_password)
        if not replaced:
            super().save(*args, **kwargs)
            return
        with transaction.atomic():
            super().save(*args, **kwargs)
            self._loses_password = False
            self._end_old_password()

    def _end_old_password(self) -> None:
        revoked = 0 if self.keeps_tokens else self.api_tokens.all().delete()[0]
        # What was told may have been told to whoever had the old password.
        self.password_links.exclude(told_at=None).filter(opens_new_account=False).update(told_at=None)
        TrailEntry.objects.create(
            verb=TrailEntry.Verb.PASSWORD,
            who=self.password_set_by,
            who_name=self.password_set_by.username if self.password_set_by else "",
            subject=self,
            target=self.username,
            details={"tokens revoked": revoked} if revoked else {},
        )


class Role(models.TextChoices):
    ANNOTATOR = "annotator", _("Annotator")
    ADMIN = "admin", _("Admin")
    RESEARCHER = "researcher", _("Researcher")


class Membership(models.Model):
    """A person's role in a project."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role.choices)
    qualified_at = models.DateTimeField(null=True, blank=True, editable=False)
    qualifies_from = models.DateTimeField(
        null=True, blank=True, editable=False, help_text=_("Gold judged from here on counts for qualifying.")
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="one_membership_per_person")]

    def __str__(self) -> str:
        return f"{self.user} ({self.role}) in {self.project}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the row. What an admin made ends with the role: it does not come back with it."""
        with transaction.atomic():
            created = self._state.adding
            super().save(*args, **kwargs)
            if not created and self.role != Role.ADMIN:
                self.invitations_made.all().delete()
                self.links_made.filter(used_at=None).update(by=None)

"""People, their roles in projects, and attempts at their passwords."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from annotate.models.projects import Project, TextView
from annotate.models.trail import TrailEntry
from annotate.text.usernames import check_scripts, check_visible, fold, name_key


class Username(models.CharField):  # type: ignore[type-arg] # no subscript at run time
    """A username. A new one is refused when it looks like another account's, mixes scripts or hides characters.

    `createsuperuser` asks the field alone, without an account.
    """

    def clean(self, value: Any, person: Any) -> str:
        username: str = super().clean(value, person)
        pk: int = getattr(person, "pk", None) or 0  # of no account
        if not User.objects.filter(pk=pk, username=username).exists():
            check_visible(username)
            check_scripts(username)
            if User.objects.filter(username_key=name_key(username)).exclude(pk=pk).exists():
                raise ValidationError(self.error_messages["unique"], code="unique")
        return username

    def deconstruct(self) -> Any:
        """Return the column that it is for migrations, the one of Django's account."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.CharField", args, kwargs


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

    With `imported_into`, it is not an account but an annotator that a file of this project named: `external_name` is
    what the file calls them, empty where it does not. Imported judgments are theirs, and they cannot sign in.
    """

    username = Username(
        _("username"),
        max_length=150,
        unique=True,
        help_text=_("Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only."),
        validators=[AbstractUser.username_validator],
        error_messages={"unique": _("A user with that username already exists.")},
    )
    confirmed_email = models.EmailField(blank=True, editable=False)
    username_key = UsernameKey(max_length=500, unique=True, editable=False, default="")
    preferences = models.JSONField(default=dict, blank=True)
    imported_into = models.ForeignKey(
        Project, null=True, blank=True, editable=False, on_delete=models.CASCADE, related_name="+"
    )
    external_name = models.CharField(max_length=200, blank=True, editable=False, default="")

    # For the next `save` with a new password: who chose it, and whether they asked to keep the API tokens.
    password_set_by: User | None = None
    keeps_tokens = False
    _loses_password = False

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["imported_into", "external_name"],
                condition=models.Q(imported_into__isnull=False),
                name="one_imported_annotator_per_name",
            ),
            models.CheckConstraint(
                condition=models.Q(imported_into__isnull=True, external_name="")
                | models.Q(
                    imported_into__isnull=False,
                    is_active=False,
                    is_staff=False,
                    is_superuser=False,
                    email="",
                    password__startswith=UNUSABLE_PASSWORD_PREFIX,
                ),
                name="imported_annotators_cannot_sign_in",
            ),
            models.UniqueConstraint(
                Lower("email"),
                condition=~models.Q(email=""),
                name="one_account_per_email",
                violation_error_message=_("Another account has this email address."),
            ),
        ]

    def __str__(self) -> str:
        return self.shown_name

    @property
    def is_imported(self) -> bool:
        return self.imported_into_id is not None

    @property
    def shown_name(self) -> str:
        """The name by which pages call them: the username, or what a file called them."""
        if not self.is_imported:
            return str(self.username)
        return str(self.external_name) or gettext("Annotator without a name")

    @property
    def has_confirmed_email(self) -> bool:
        return bool(self.email) and fold(self.email) == fold(self.confirmed_email)

    def set_unusable_password(self) -> None:
        super().set_unusable_password()
        self._loses_password = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the row, and end what the old password opened where there is a new one.

        Django keeps a chosen password in `_password` until it is saved. It clears it where only the hash is
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

    def end_links(self) -> None:
        """End the password links that were made while the account opened something else than now."""
        self.password_links.filter(used_at=None).update(by=None)

    def _end_old_password(self) -> None:
        revoked = 0 if self.keeps_tokens else self.api_tokens.all().delete()[0]
        # What was told may have been told to a user of the old password.
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
    user = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="memberships", limit_choices_to={"imported_into": None}
    )
    role = models.CharField(max_length=12, choices=Role.choices)
    qualified_at = models.DateTimeField(null=True, blank=True, editable=False)
    qualifies_from = models.DateTimeField(
        null=True, blank=True, editable=False, help_text=_("Gold judged from here on counts for qualifying.")
    )
    view = models.CharField(
        max_length=12,
        choices=TextView.choices,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text=_("How this member chose to see texts."),
    )
    guidelines_read = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        editable=False,
        help_text=_("Digest of the guidelines seen last."),
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="one_membership_per_person")]

    def __str__(self) -> str:
        return f"{self.user} ({self.role}) in {self.project}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the row. Invitations and links of an admin end with the role, and do not come back with it."""
        with transaction.atomic():
            created = self._state.adding
            super().save(*args, **kwargs)
            if not created and self.role != Role.ADMIN:
                self.invitations_made.all().delete()
                self.links_made.filter(used_at=None).update(by=None)
            self._end_offers()

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        with transaction.atomic():
            self._end_offers()
            return super().delete(*args, **kwargs)

    def _end_offers(self) -> None:
        """End what was handed to this person before: invitations to the project, and password links.

        An invitation by address stays in the list, and opens nothing: its end would tell admins whose address it is.
        """
        invitations = self.user.invitations.filter(project=self.project_id)
        invitations.filter(name=fold(self.user.username)).delete()
        invitations.update(person=None)
        self.user.end_links()


class Attempts(models.Model):
    """The tries of one key. Only `annotate.people.throttle` reads and writes them."""

    key = models.CharField(max_length=100, primary_key=True, editable=False)
    count = models.PositiveIntegerField()
    last_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name_plural = "attempts"

    def __str__(self) -> str:
        return f"{self.key}: {self.count}"

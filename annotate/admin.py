"""Django's admin, for the site's operators: accounts and projects. Judgments can be read, not changed."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.db import transaction
from django.db.models import JSONField, Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from annotate import models
from annotate.forms.fields import CheckedJSONField
from annotate.people.access import get_user
from annotate.projects import trail

AUTHORITY = {"is_active", "is_staff", "is_superuser", "groups", "user_permissions"}  # fields of an account


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # no subscript at run time
    """Rows that only the application's own functions may write: its counters and history depend on them."""

    show_full_result_count = False  # two COUNTs over a large table for one line of text
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class PersonForm(UserChangeForm):  # type: ignore[type-arg] # no subscript at run time
    """An account, with a box that says whether its address was checked. Changing the address clears it."""

    email_confirmed = forms.BooleanField(
        required=False,
        label=_("Email address confirmed"),
        help_text=_("The address identifies this account: admins of projects can invite by it."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["email_confirmed"] = self.instance.has_confirmed_email

    def save(self, commit: bool = True) -> models.User:
        if "email_confirmed" in self.changed_data:
            self.instance.confirmed_email = (
                self.instance.email if self.cleaned_data["email_confirmed"] else ""
            )
        person: models.User = super().save(commit)
        return person


@admin.register(models.User)
class PersonAdmin(UserAdmin):  # type: ignore[type-arg] # no subscript at run time
    """Accounts. One that has judged is closed by clearing "active": its judgments keep their author."""

    form = PersonForm
    list_display = (
        "username",
        "email",
        "email_confirmed",
        "first_name",
        "last_name",
        "is_staff",
        "is_active",
    )
    readonly_fields = ("tokens",)
    actions = ("confirm_email",)
    fieldsets = (
        (None, {"fields": ("username", "password", "tokens")}),
        (_("Personal info"), {"fields": ("first_name", "last_name", "email", "email_confirmed")}),
        *UserAdmin.fieldsets[2:],  # type: ignore[index] # permissions and dates
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[models.User]:
        """Return the people. Annotators that files named are not accounts."""
        return super().get_queryset(request).filter(imported_into=None)

    @admin.display(description=_("confirmed"), boolean=True)
    def email_confirmed(self, person: models.User) -> bool:
        return person.has_confirmed_email

    @admin.display(description=_("API tokens"))
    def tokens(self, person: models.User) -> SafeString | str:
        """Return the number of API tokens, with a link to them. A new password revokes them."""
        count = person.api_tokens.count()
        if not count:
            return gettext("None")
        address = f"{reverse('admin:annotate_apitoken_changelist')}?user__id__exact={person.pk}"
        return format_html('<a href="{}">{}</a>', address, ngettext("%d token", "%d tokens", count) % count)

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> models.User | None:
        person: models.User | None = super().get_object(request, *args, **kwargs)
        if person is not None:
            person.password_set_by = get_user(request)
        return person

    def save_model(self, request: HttpRequest, obj: models.User, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if "email_confirmed" in form.changed_data and obj.has_confirmed_email:
            trail.record(trail.Verb.EMAIL, get_user(request), subject=obj)
        elif obj.confirmed_email and not obj.has_confirmed_email:
            messages.warning(request, gettext("The new email address is not confirmed."))
        if change and not AUTHORITY.isdisjoint(form.changed_data):
            obj.end_links()  # for good: they do not come back with what the account was

    @admin.action(description=_("Confirm the email addresses of these accounts"))
    def confirm_email(self, request: HttpRequest, people: QuerySet[models.User]) -> None:
        with transaction.atomic():
            unconfirmed = [person for person in people if person.email and not person.has_confirmed_email]
            for person in unconfirmed:
                person.confirmed_email = person.email
                person.save(update_fields=["confirmed_email"])
                trail.record(trail.Verb.EMAIL, get_user(request), subject=person)
        told = ngettext("%d address confirmed.", "%d addresses confirmed.", len(unconfirmed))
        messages.success(request, told % len(unconfirmed))


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg] # no subscript at run time
    model = models.Membership
    extra = 0
    raw_id_fields = ("user",)
    fields = ("user", "role")


@admin.register(models.Project)
class ProjectAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # no subscript at run time
    """Projects and who belongs to them. Deleting one is refused: archive it on its settings page."""

    list_display = ("name", "slug", "current_policy", "created_at", "archived_at")
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    # Promoting and rolling back write the policy: an old page must not undo them. The settings page keeps the keys of
    # reasons and criteria.
    readonly_fields = ("current_policy", "reasons", "criteria")
    inlines = (MembershipInline,)
    formfield_overrides = {JSONField: {"form_class": CheckedJSONField}}

    def save_model(self, request: HttpRequest, obj: models.Project, form: Any, change: bool) -> None:
        obj.save(update_fields=form.changed_data if change else None)
        if not change:
            trail.record(trail.Verb.CREATED, get_user(request), project=obj, target=obj.name)
        elif form.changed_data:
            fields = ", ".join(form.changed_data)
            trail.record(trail.Verb.SETTINGS, get_user(request), project=obj, target=fields)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Save the members, and leave the same trail as the page of members does."""
        super().save_formset(request, form, formset, change)
        by = get_user(request)
        for added in formset.new_objects:
            trail.record(trail.Verb.ADDED, by, project=added.project, subject=added.user, role=added.role)
        for changed, fields in formset.changed_objects:
            if "user" in fields:
                trail.record(
                    trail.Verb.ADDED, by, project=changed.project, subject=changed.user, role=changed.role
                )
            elif "role" in fields:
                trail.record(
                    trail.Verb.ROLE, by, project=changed.project, subject=changed.user, role=changed.role
                )
        for removed in formset.deleted_objects:
            trail.record(
                trail.Verb.REMOVED, by, project=removed.project, subject=removed.user, role=removed.role
            )

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(models.ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Tokens can be revoked (deleted), never read or changed."""

    list_display = ("name", "user", "start", "scope", "project", "created_at", "expires_at", "last_used_at")
    fields = list_display
    list_select_related = ("user", "project")

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.has_perm("annotate.delete_apitoken"))

    def delete_model(self, request: HttpRequest, obj: models.ApiToken) -> None:
        with transaction.atomic():
            super().delete_model(request, obj)
            trail.record(trail.Verb.TOKEN_REVOKED, get_user(request), subject=obj.user, target=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[models.ApiToken]) -> None:
        for token in queryset.select_related("user"):
            self.delete_model(request, token)


@admin.register(models.Policy)
class PolicyAdmin(ReadOnlyAdmin):
    list_display = ("name", "project", "kind", "base_model", "parent", "created_at")
    list_select_related = ("project", "parent")


@admin.register(models.Prompt)
class PromptAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "project", "held_out", "external_id")
    list_select_related = ("project",)


@admin.register(models.Comparison)
class ComparisonAdmin(ReadOnlyAdmin):
    list_display = ("pk", "project", "kind", "judged", "needed", "claimed", "skipped", "withdrawn_at")
    list_filter = ("kind",)
    list_select_related = ("project",)


@admin.register(models.Judgment)
class JudgmentAdmin(ReadOnlyAdmin):
    list_display = ("pk", "annotator", "comparison_id", "verdict", "strength", "created_at", "superseded_at")
    list_filter = ("verdict",)
    list_select_related = ("annotator",)


@admin.register(models.Flag)
class FlagAdmin(ReadOnlyAdmin):
    list_display = ("comparison_id", "annotator", "note", "created_at", "resolved_at")
    list_select_related = ("annotator",)


@admin.register(models.Snapshot)
class SnapshotAdmin(ReadOnlyAdmin):
    list_display = ("digest", "project", "created_by", "created_at")
    list_select_related = ("project", "created_by")


@admin.register(models.Import)
class ImportAdmin(ReadOnlyAdmin):
    list_display = ("filename", "project", "state", "created_by", "created_at")
    list_select_related = ("project", "created_by")
    exclude = ("file", "original")  # which have no address


@admin.register(models.TrailEntry)
class TrailAdmin(ReadOnlyAdmin):
    """The trail of the whole site."""

    list_display = ("at", "who_name", "verb", "target", "project")
    list_filter = ("verb",)
    list_select_related = ("project",)
    search_fields = ("=who_name", "=target")


admin.site.site_header = admin.site.site_title = "Whetstone"

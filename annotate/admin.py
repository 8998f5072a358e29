"""Django's admin, for whoever runs the site: accounts and projects. What people judged can be read, not changed."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import JSONField, Model
from django.http import HttpRequest

from annotate import models
from annotate.fields import CheckedJSONField


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


@admin.register(models.User)
class PersonAdmin(UserAdmin):  # type: ignore[type-arg] # no subscript at run time
    """Accounts. One that has judged is closed by clearing "active": its judgments keep their author."""


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
    readonly_fields = (
        "current_policy",
    )  # promoting and rolling back write it; an old page must not undo them
    inlines = (MembershipInline,)
    formfield_overrides = {JSONField: {"form_class": CheckedJSONField}}

    def save_model(self, request: HttpRequest, obj: models.Project, form: Any, change: bool) -> None:
        obj.save(update_fields=form.changed_data if change else None)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(models.ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Tokens can be revoked (deleted), never read or changed."""

    list_display = ("name", "user", "start", "created_at", "last_used_at")
    fields = ("user", "name", "start", "created_at", "last_used_at")
    list_select_related = ("user",)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.has_perm("annotate.delete_apitoken"))


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


admin.site.site_header = admin.site.site_title = "Whetstone"

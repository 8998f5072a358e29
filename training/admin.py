"""Django's admin pages of rounds, their files and workers, which can be read, not changed."""

from django.contrib import admin

from annotate.admin import ReadOnlyAdmin
from training import models


@admin.register(models.Round)
class RoundAdmin(ReadOnlyAdmin):
    list_display = ("project", "number", "state", "start_policy", "worker", "attempts", "created_at")
    list_filter = ("state",)
    list_select_related = ("project", "start_policy")
    # Each may name thousands of comparisons; the round's own page counts them.
    exclude = ("fresh", "gate")


@admin.register(models.RoundEvent)
class RoundEventAdmin(ReadOnlyAdmin):
    list_display = ("round", "from_state", "to_state", "message", "by", "created_at")
    list_select_related = ("round__project", "by")


@admin.register(models.DryRun)
class DryRunAdmin(ReadOnlyAdmin):
    list_display = ("project", "kind", "state", "worker", "created_by", "created_at")
    list_select_related = ("project", "created_by")


@admin.register(models.StoredFile)
class StoredFileAdmin(ReadOnlyAdmin):
    list_display = ("folder", "path", "size", "sha256")
    search_fields = ("=folder",)


@admin.register(models.Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("name", "queues", "devices", "seen_at", "stopping")


@admin.register(models.Sweep)
class SweepAdmin(ReadOnlyAdmin):
    list_display = ("at", "by")

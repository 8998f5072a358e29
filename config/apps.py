"""Apps of Django that are set up here: which static files are collected, and the admin site."""

from django.contrib.admin.apps import AdminConfig as DefaultAdmin
from django.contrib.staticfiles.apps import StaticFilesConfig as Default


class StaticFilesConfig(Default):
    """Ours and the admin's. Of the browsable API and of django-htmx no page loads a file, and compressing them takes
    longer than all the rest."""

    ignore_patterns = [*Default.ignore_patterns, "rest_framework", "django_htmx"]


class AdminConfig(DefaultAdmin):
    default_site = "config.admin.AdminSite"

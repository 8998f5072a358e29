"""Which static files are collected."""

from django.contrib.staticfiles.apps import StaticFilesConfig as Default


class StaticFilesConfig(Default):
    """Ours and the admin's. Of the browsable API and of django-htmx no page loads a file, and compressing them takes
    longer than all the rest."""

    ignore_patterns = [*Default.ignore_patterns, "rest_framework", "django_htmx"]

"""Apps of Django that are set up here: which static files are collected, and the admin site."""

from django.contrib.admin.apps import AdminConfig as DefaultAdmin
from django.contrib.staticfiles.apps import StaticFilesConfig as Default


class StaticFilesConfig(Default):
    """Ours, the admin's, and Swagger UI. No page loads a file of the browsable API, Redoc or django-htmx, and
    compressing them takes longer than all the rest."""

    ignore_patterns = [
        *Default.ignore_patterns,
        *("rest_framework", "django_htmx", "redoc", "oauth2-redirect.*", "swagger-ui-standalone-preset.*"),
    ]


class AdminConfig(DefaultAdmin):
    default_site = "config.admin.AdminSite"

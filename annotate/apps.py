from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in


class AnnotateConfig(AppConfig):
    default_auto_field = "django.db.models.BigAutoField"
    name = "annotate"

    def ready(self) -> None:
        # Models are loaded only now.
        from annotate.people.authentication import remember_browser  # noqa: PLC0415
        from annotate.views.account import tell_about_links  # noqa: PLC0415

        user_logged_in.connect(remember_browser, dispatch_uid="remember_browser")
        user_logged_in.connect(tell_about_links, dispatch_uid="tell_about_links")

from django.apps import AppConfig


class TrainingConfig(AppConfig):
    default_auto_field = "django.db.models.BigAutoField"
    name = "training"

    def ready(self) -> None:
        # Models are loaded only now.
        from annotate.projects import settings_checks  # noqa: PLC0415
        from annotate.reports import reliability  # noqa: PLC0415
        from training.rounds.plan import find_bad_default  # noqa: PLC0415
        from training.standings.probed import probe_checks  # noqa: PLC0415

        settings_checks.register(find_bad_default)
        reliability.add_source("probe", probe_checks)

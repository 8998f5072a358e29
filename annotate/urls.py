from django.contrib.auth import views as auth_views
from django.urls import path

from annotate.views import (
    account,
    comparisons,
    desk,
    exports,
    history,
    home,
    imports,
    members,
    quality,
    settings,
)

urlpatterns = [
    path("", home.home, name="home"),
    path(
        "login/",
        auth_views.LoginView.as_view(
            template_name="annotate/login.html", authentication_form=account.LoginForm
        ),
        name="login",
    ),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("theme/", home.theme, name="theme"),
    path("keys/", home.keys, name="keys"),
    # --- The desk ---
    path("p/<slug:slug>/", home.project, name="project"),
    path("p/<slug:slug>/guidelines/", home.guidelines, name="guidelines"),
    path("p/<slug:slug>/judge/", desk.judge, name="judge"),
    path("p/<slug:slug>/judge/ahead/", desk.ahead, name="ahead"),
    path("p/<slug:slug>/judge/undo/", desk.undo, name="undo"),
    path("p/<slug:slug>/judge/redo/", desk.redo, name="redo"),
    path("p/<slug:slug>/judge/draft/", desk.draft, name="draft"),
    path("p/<slug:slug>/judge/renew/", desk.renew, name="renew"),
    path("p/<slug:slug>/judge/leave/", desk.leave, name="leave"),
    path("p/<slug:slug>/judge/flag/", desk.flag, name="flag"),
    path("p/<slug:slug>/judge/<uuid:token>/", desk.texts, name="texts"),
    path("p/<slug:slug>/judge/<uuid:token>/<str:side>/", desk.whole_text, name="whole_text"),
    path("p/<slug:slug>/history/", history.history, name="history"),
    path("p/<slug:slug>/history/<int:judgment_id>/", history.judgment, name="judgment"),
    path("p/<slug:slug>/me/", history.me, name="me"),
    # --- One's account ---
    path("set-password/<uidb64>/<token>/", members.SetPassword.as_view(), name="set-password"),
    path("password/", account.ChangePassword.as_view(), name="password"),
    path("tokens/", account.tokens, name="tokens"),
    path("tokens/<int:token_id>/revoke/", account.revoke_token, name="revoke-token"),
    # --- A project's settings and people ---
    path("new/", settings.new_project, name="new-project"),
    path("p/<slug:slug>/settings/", settings.project_settings, name="settings"),
    path("p/<slug:slug>/settings/preview/", settings.guidelines_preview, name="guidelines-preview"),
    path("p/<slug:slug>/settings/archive/", settings.archive, name="archive"),
    path("p/<slug:slug>/members/", members.members, name="members"),
    path("p/<slug:slug>/members/new/", members.new_account, name="new-account"),
    path("p/<slug:slug>/members/<int:membership_id>/", members.member, name="member"),
    # --- A project's comparisons ---
    path("p/<slug:slug>/comparisons/", comparisons.comparisons, name="comparisons"),
    path("p/<slug:slug>/comparisons/<int:comparison_id>/", comparisons.comparison, name="comparison"),
    path(
        "p/<slug:slug>/comparisons/<int:comparison_id>/change/",
        comparisons.change_comparison,
        name="change-comparison",
    ),
    path("p/<slug:slug>/import/", imports.imports, name="import"),
    path("p/<slug:slug>/import/<int:import_id>/", imports.import_file, name="import-file"),
    path("p/<slug:slug>/import/<int:import_id>/start/", imports.start_import, name="start-import"),
    path("p/<slug:slug>/import/<int:import_id>/cancel/", imports.cancel_import, name="cancel-import"),
    path("p/<slug:slug>/import/<int:import_id>/withdraw/", imports.withdraw_import, name="withdraw-import"),
    path("p/<slug:slug>/export/", exports.export, name="export"),
    path("p/<slug:slug>/export/pairs.jsonl", exports.export_pairs, {"format": "jsonl"}, name="export-pairs"),
    path("p/<slug:slug>/export/pairs.csv", exports.export_pairs, {"format": "csv"}, name="export-pairs-csv"),
    path(
        "p/<slug:slug>/export/judgments.jsonl",
        exports.export_judgments,
        {"format": "jsonl"},
        name="export-judgments",
    ),
    path(
        "p/<slug:slug>/export/judgments.csv",
        exports.export_judgments,
        {"format": "csv"},
        name="export-judgments-csv",
    ),
    path("p/<slug:slug>/snapshots/", exports.snapshots, name="snapshots"),
    path("p/<slug:slug>/snapshots/<slug:digest>/", exports.snapshot, name="snapshot"),
    path(
        "p/<slug:slug>/snapshots/<slug:digest>/exact.jsonl",
        exports.snapshot_file,
        {"shape": "exact"},
        name="snapshot-exact",
    ),
    path(
        "p/<slug:slug>/snapshots/<slug:digest>/trl.jsonl",
        exports.snapshot_file,
        {"shape": "trl"},
        name="snapshot-trl",
    ),
    path("p/<slug:slug>/quality/", quality.quality, name="quality"),
    path("p/<slug:slug>/flags/", comparisons.flags, name="flags"),
    path("p/<slug:slug>/flags/<int:flag_id>/resolve/", comparisons.resolve_flag, name="resolve-flag"),
]

from django.urls import path

from annotate.api import data, projects, work

urlpatterns = [
    path("projects/", projects.projects),
    path("projects/<slug:slug>/", projects.project),
    path("projects/<slug:slug>/prompts/", data.prompts),
    path("projects/<slug:slug>/comparisons/", data.comparisons),
    path("projects/<slug:slug>/comparisons/<int:comparison_id>/gold/", projects.gold_verdict),
    path("projects/<slug:slug>/next/", work.next_comparison),
    path("projects/<slug:slug>/judgments/", work.judgments),
    path("projects/<slug:slug>/claims/<uuid:token>/renew/", work.renew),
    path("projects/<slug:slug>/claims/<uuid:token>/release/", work.release),
    path("projects/<slug:slug>/export/", data.export),
    path("projects/<slug:slug>/pairs/", data.export, {"file_format": "jsonl"}),
    path("projects/<slug:slug>/pairs.csv", data.export, {"file_format": "csv"}),
    path("projects/<slug:slug>/judgments.jsonl", data.export, {"file_format": "judgments"}),
    path("projects/<slug:slug>/judgments.csv", data.export, {"file_format": "judgments_csv"}),
    path("projects/<slug:slug>/snapshots/", data.snapshots),
    path("projects/<slug:slug>/snapshots/<slug:digest>/", data.snapshot),
    path("projects/<slug:slug>/snapshots/<slug:digest>/pairs/", data.snapshot_pairs, {"shape": "trl"}),
    path("projects/<slug:slug>/snapshots/<slug:digest>/exact/", data.snapshot_pairs, {"shape": "exact"}),
    path("<path:path>", projects.unknown),
]

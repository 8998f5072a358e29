from django.urls import path

from training.views import estimates, lineage, policies, projects, rounds

urlpatterns = [
    path("", projects.home, name="home"),
    path("p/<slug:slug>/", projects.project, name="project"),
    path("p/<slug:slug>/rounds/", rounds.round_list, name="rounds"),
    path("p/<slug:slug>/rounds/ready/", rounds.ready_pairs, name="ready_pairs"),
    path("p/<slug:slug>/rounds/estimates/", estimates.ask, name="estimates"),
    path("p/<slug:slug>/rounds/estimates/<int:estimate_id>/", estimates.estimate_page, name="estimate"),
    path("p/<slug:slug>/rounds/<int:number>/", rounds.round_page, name="round"),
    path("p/<slug:slug>/rounds/<int:number>/live/", rounds.round_live, name="round_live"),
    path("p/<slug:slug>/rounds/<int:number>/gallery/", rounds.gallery, name="gallery"),
    path("p/<slug:slug>/rounds/<int:number>/files/<path:name>", rounds.round_file, name="round_file"),
    path("p/<slug:slug>/rounds/<int:number>/archive.tar", rounds.round_archive, name="round-archive"),
    path("p/<slug:slug>/policies/", policies.policy_list, name="policies"),
    path("p/<slug:slug>/policies/<int:policy_id>/", policies.policy_page, name="policy"),
    path("p/<slug:slug>/comparisons/<int:comparison_id>/policies/", policies.shaped_policies, name="shaped"),
    # --- Lineage ---
    path("p/<slug:slug>/policies/<int:policy_id>/lineage/", lineage.policy_lineage, name="policy-lineage"),
    path(
        "p/<slug:slug>/policies/<int:policy_id>/lineage.json",
        lineage.policy_lineage_file,
        name="policy-lineage-file",
    ),
    path(
        "p/<slug:slug>/judgments/<int:judgment_id>/lineage/",
        lineage.judgment_lineage,
        name="judgment-lineage",
    ),
    path(
        "p/<slug:slug>/judgments/<int:judgment_id>/lineage.json",
        lineage.judgment_lineage_file,
        name="judgment-lineage-file",
    ),
]

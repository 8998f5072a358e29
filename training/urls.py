from django.urls import path

from training.views import choosing, estimates, lineage, policies, projects, rounds
from training.views.using import bringing, taking, trials

urlpatterns = [
    path("", projects.home, name="home"),
    path("p/<slug:slug>/", projects.project, name="project"),
    path("p/<slug:slug>/rounds/", rounds.round_list, name="rounds"),
    path("p/<slug:slug>/rounds/ready/", rounds.ready_pairs, name="ready_pairs"),
    path("p/<slug:slug>/rounds/choosing/", choosing.choose_regardless, name="choose-regardless"),
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
    # --- Policies in use ---
    path("p/<slug:slug>/policies/<int:policy_id>/try/", trials.try_policy, name="try-policy"),
    path("p/<slug:slug>/trials/<uuid:trial_id>/", trials.trial_page, name="trial"),
    path("p/<slug:slug>/policies/<int:policy_id>/take/", taking.take_policy, name="take-policy"),
    path(
        "p/<slug:slug>/policies/<int:policy_id>/adapter.zip", taking.adapter_archive, name="adapter-archive"
    ),
    path("p/<slug:slug>/policies/<int:policy_id>/README.md", taking.card, name="model-card"),
    path("p/<slug:slug>/policies/<int:policy_id>/push/", taking.push, name="push-policy"),
    path("p/<slug:slug>/merged/<uuid:merge_id>/", taking.merge_page, name="merged-weights"),
    path("p/<slug:slug>/merged/<uuid:merge_id>/file/", taking.merge_file, name="merged-weights-file"),
    path("p/<slug:slug>/policies/new/", bringing.bring_in, name="bring-policy"),
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

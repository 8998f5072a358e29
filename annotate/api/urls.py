from typing import Any

from django.urls import path
from django.urls.resolvers import URLPattern

from annotate.api import data, imports, members, projects, rows, snapshots, work
from annotate.api.operations.declaration import Stream, declare
from annotate.api.operations.pages import DocsPage, SchemaView
from annotate.forms.exports import ExportForm
from annotate.people.access import READERS

# Exports check their query themselves.
declare(
    data.export, "Export pairs or judgments", roles=READERS, query=ExportForm,
    gives=Stream(data.PAIR_LINE, data.FILE_KINDS),
)  # fmt: skip


def of_project(route: str, view: Any, name: str | None = None, **options: str) -> URLPattern:
    """Return an address below a project's. `view` is a class of operations, or a function."""
    answer: Any = view.as_view() if hasattr(view, "as_view") else view
    address: URLPattern = path(f"projects/<slug:slug>/{route}", answer, options, name=name)
    return address


COMPARISON, CLAIM = "comparisons/<int:comparison_id>/", "claims/<uuid:token>/"
JOB, SNAPSHOT_JOB = "export/jobs/<uuid:job_id>/", "snapshots/jobs/<uuid:job_id>/"
SNAPSHOT, UPLOAD, MEMBER = (
    "snapshots/<slug:digest>/",
    "imports/<int:import_id>/",
    "members/<int:membership_id>/",
)

urlpatterns = [
    path("schema/", SchemaView.as_view(), name="api-schema"),
    path("docs/", DocsPage.as_view(), name="api-docs"),
    path("my/invitations/", members.MyInvitations.as_view()),
    path("my/invitations/<int:invitation_id>/", members.MyInvitation.as_view()),
    path("projects/", projects.Projects.as_view()),
    of_project("", projects.OneProject),
    of_project("settings/", projects.Settings),
    of_project("archive/", projects.Archive),
    # --- People ---
    of_project("members/", members.Members),
    of_project(MEMBER, members.OneMember),
    of_project(f"{MEMBER}admit/", members.Admission),
    of_project(f"{MEMBER}requalify/", members.Requalification),
    of_project("invitations/", members.Invitations),
    of_project("invitations/<int:invitation_id>/", members.OneInvitation),
    of_project("trail/", projects.Trail),
    # --- Rows ---
    of_project("prompts/", rows.Prompts),
    of_project("prompts/ranking/", rows.PromptRanking),
    of_project("prompts/<int:prompt_id>/", rows.OnePrompt),
    of_project("prompts/<int:prompt_id>/withdrawal/", rows.PromptWithdrawal),
    of_project("completions/<int:completion_id>/", rows.OneCompletion),
    of_project("comparisons/", rows.Comparisons),
    of_project("comparisons/again/", rows.HandingOutOfAll),
    of_project(COMPARISON, rows.OneComparison),
    of_project(f"{COMPARISON}withdrawal/", rows.ComparisonWithdrawal),
    of_project(f"{COMPARISON}again/", rows.HandingOut),
    of_project(f"{COMPARISON}gold/", rows.Gold),
    of_project("flags/", rows.Flags),
    of_project("flags/<int:flag_id>/resolve/", rows.FlagResolution),
    of_project("imports/", imports.Imports, "api-imports"),
    of_project("imports/fetch/", imports.Fetching),
    of_project("imports/people/", imports.AskingPeopleAboutAll),
    of_project(UPLOAD, imports.OneImport),
    of_project(f"{UPLOAD}options/", imports.ImportOptions),
    of_project(f"{UPLOAD}refused/", imports.RefusedRows),
    of_project(f"{UPLOAD}work/", imports.Work),
    of_project(f"{UPLOAD}start/", imports.Start),
    of_project(f"{UPLOAD}cancel/", imports.Cancel),
    of_project(f"{UPLOAD}people/", imports.AskingPeople),
    of_project(f"{UPLOAD}withdraw/", imports.WithdrawImport),
    # --- Judging ---
    of_project("next/", work.Next),
    of_project(f"{CLAIM}renew/", work.Renewal),
    of_project(f"{CLAIM}release/", work.Release),
    of_project(f"{CLAIM}flag/", work.Flagging),
    of_project("judgments/", work.Judgments),
    of_project("judgments/undo/", work.Undo),
    of_project("judgments/redo/", work.Redo),
    of_project("judgments/<int:judgment_id>/", work.OneJudgment),
    # --- Figures and files ---
    of_project("quality/", projects.Quality),
    of_project("agreement/", projects.Agreement),
    of_project("export/", data.export),
    of_project("export/jobs/", data.Jobs),
    of_project(JOB, data.OneJob),
    of_project(f"{JOB}file/", data.JobFile),
    of_project(f"{JOB}cancel/", data.JobCancellation),
    of_project("pairs/", data.export, file_format="jsonl"),
    of_project("pairs.csv", data.export, file_format="csv"),
    of_project("judgments.jsonl", data.export, file_format="judgments"),
    of_project("judgments.csv", data.export, file_format="judgments_csv"),
    of_project("snapshots/", snapshots.Snapshots),
    of_project("snapshots/jobs/", snapshots.SnapshotJobs),
    of_project(SNAPSHOT_JOB, snapshots.OneSnapshotJob),
    of_project(f"{SNAPSHOT_JOB}cancel/", snapshots.SnapshotJobCancellation),
    of_project(SNAPSHOT, snapshots.OneSnapshot),
    of_project(f"{SNAPSHOT}pairs/", snapshots.SnapshotPairs),
    of_project(f"{SNAPSHOT}exact/", snapshots.ExactPairs),
    path("<path:path>", projects.unknown),
]

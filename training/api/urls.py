from annotate.api.urls import of_project
from training.api import estimates, merged, policies, rounds

ROUND, POLICY, MERGE = "rounds/<int:number>/", "policies/<int:policy_id>/", "merged/<uuid:merge_id>/"

urlpatterns = [
    of_project("rounds/", rounds.Rounds),
    of_project("rounds/writing/", rounds.Writing),
    of_project("rounds/ready/", rounds.Readiness),
    of_project("rounds/choosing/", rounds.Choosing),
    of_project("rounds/estimates/", estimates.Estimates),
    of_project("rounds/estimates/<int:estimate_id>/", estimates.OneEstimate),
    of_project("workers/", rounds.Workers),
    of_project(ROUND, rounds.OneRound),
    of_project(f"{ROUND}metrics/", rounds.Metrics),
    of_project(f"{ROUND}gate/", rounds.Gate),
    of_project(f"{ROUND}resume/", rounds.Resumption),
    of_project(f"{ROUND}cancel/", rounds.Cancellation),
    of_project(f"{ROUND}promote/", rounds.Promotion),
    of_project(f"{ROUND}reject/", rounds.Rejection),
    of_project("policies/", policies.Policies),
    of_project(POLICY, policies.OnePolicy),
    of_project(f"{POLICY}current/", policies.Current),
    of_project(f"{POLICY}name/", policies.Name),
    of_project(f"{POLICY}card/", policies.Card),
    of_project(f"{POLICY}lineage/", policies.PolicyLineage),
    of_project(f"{POLICY}merged/", merged.Merges),
    of_project(MERGE, merged.OneMerge),
    of_project(f"{MERGE}file/", merged.MergeFile),
    of_project(f"{MERGE}cancel/", merged.MergeCancellation),
    of_project("judgments/<int:judgment_id>/lineage/", policies.JudgmentLineage),
    of_project("leaderboard/", policies.Leaderboard),
]

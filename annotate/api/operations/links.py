"""Links of the schema: which operations go on from an answer, and with what of it."""

from typing import Any

ID = "$response.body#/id"
FIRST = "$response.body#/results/0/id"
CLAIM = "$response.body#/claim/token"
NUMBER = "$response.body#/number"
DIGEST = "$response.body#/digest"

# (operation, status) -> the parameter of the address that its answer tells, where it is, and the operations.
LINKS: dict[tuple[str, str], tuple[str, str, tuple[str, ...]]] = {
    ("take_the_next_comparison", "200"): (
        "token", CLAIM, ("keep_a_claim", "give_a_claim_back", "flag_a_comparison"),
    ),
    ("undo_your_latest_judgment", "200"): ("token", CLAIM, ("keep_a_claim", "give_a_claim_back")),
    ("judge", "201"): ("judgment_id", ID, ("get_a_judgment", "revise_a_judgment")),
    ("list_judgments", "200"): ("judgment_id", FIRST, ("get_a_judgment",)),
    ("list_prompts", "200"): ("prompt_id", FIRST, ("get_a_prompt", "withdraw_a_prompt", "restore_a_prompt")),
    ("list_comparisons", "200"): (
        "comparison_id",
        FIRST,
        ("get_a_comparison", "change_the_priority", "withdraw_a_comparison", "restore_a_comparison"),
    ),
    ("list_flags", "200"): ("flag_id", FIRST, ("resolve_a_flag",)),
    ("upload_a_file", "201"): (
        "import_id", ID,
        (
            "get_an_import", "work_on_an_import", "change_the_options_of_an_import", "start_an_import",
            "cancel_an_import", "download_the_rows_that_cannot_be_used",
        ),
    ),
    ("work_on_an_import", "200"): ("import_id", ID, ("start_an_import", "withdraw_an_import")),
    ("prepare_a_file", "201"): (
        "job_id", ID, ("get_a_prepared_file", "download_a_prepared_file", "cancel_a_prepared_file"),
    ),
    ("list_members", "200"): ("membership_id", FIRST, ("get_a_member",)),
    ("invite_a_person", "201"): ("invitation_id", ID, ("withdraw_an_invitation",)),
    ("take_a_snapshot", "201"): (
        "digest", DIGEST, ("get_a_snapshot", "get_the_pairs_of_a_snapshot", "get_the_exact_pairs_of_a_snapshot"),
    ),
    ("take_a_snapshot", "202"): (
        "job_id", ID, ("get_a_snapshot_under_way", "cancel_a_snapshot_under_way"),
    ),
    ("start_a_round", "201"): ("number", NUMBER, ("get_a_round", "list_the_metrics_of_a_round", "cancel_a_round")),
    ("start_a_round_that_only_writes", "201"): ("number", NUMBER, ("get_a_round", "cancel_a_round")),
    ("cancel_a_round", "200"): ("number", NUMBER, ("get_a_round", "resume_a_round")),
    ("list_policies", "200"): ("policy_id", FIRST, ("get_a_policy", "make_a_policy_current_again")),
    ("merge_a_policy", "202"): (
        "merge_id", ID, ("get_merged_weights", "download_merged_weights", "cancel_merged_weights"),
    ),
}  # fmt: skip


def add_links(paths: dict[str, Any]) -> None:
    """Add the links to the answers of a schema. The claim of `next/` also leads to its verdict."""
    for described in (one for methods in paths.values() for one in methods.values()):
        for (operation, status), (parameter, place, following) in LINKS.items():
            if described["operationId"] == operation:
                links = {name: _link(name, **{parameter: place}) for name in following}
                if place == CLAIM:
                    verdict = {"token": CLAIM, "verdict": "tie"}
                    links["judge"] = {**_link("judge"), "requestBody": verdict}
                described["responses"][status]["links"] = links


def _link(operation: str, **parameters: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": {"slug": "$request.path.slug", **parameters}}

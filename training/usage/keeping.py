"""Good trials, kept: the prompt in the project's prompts, and two of the answers as a comparison."""

import random

from django.db import transaction
from django.utils.translation import gettext as _

from annotate.errors import RefusalError
from annotate.models import Comparison, Completion, Project, Prompt, prompt_columns
from training.models import Answer, Trial


@transaction.atomic
def keep_prompt(trial: Trial) -> tuple[Prompt, bool]:
    """Return the project's prompt of a trial, and whether it is new."""
    # As an import does: of two that write the same prompt, the second sees the first one's.
    project = Project.objects.select_for_update(no_key=True).get(pk=trial.project_id)
    columns = prompt_columns(project, trial.content, trial.tools)
    return Prompt.objects.get_or_create(
        project=project, digest=columns.pop("digest"), defaults={**columns, "batch": "tried"}
    )


@transaction.atomic
def keep_comparison(trial: Trial, first: int, second: int) -> Comparison:
    """Make a comparison of two written answers, by the ids of their policies. Raises RefusalError."""
    prompt, _is_new = keep_prompt(trial)
    written = {one.policy_id: one for one in trial.answers.filter(state=Answer.State.DONE)}
    chosen = [written[policy] for policy in dict.fromkeys((first, second)) if policy in written]
    if len(chosen) != 2:
        raise RefusalError(_("Choose two answers that are written."))
    if any(not one.text.strip() for one in chosen):
        raise RefusalError(_("An answer is empty: there is nothing to compare."))
    if chosen[0].text.strip() == chosen[1].text.strip():
        raise RefusalError(_("Both answers say the same."))
    digests = {one.policy_id: one for one in chosen}
    same = Comparison.objects.filter(project=trial.project_id, prompt=prompt, batch=_batch(trial))
    for found in same.select_related("first", "second"):
        if {found.first.policy_id, found.second.policy_id} == set(digests):
            return found  # sent twice
    random.shuffle(chosen)  # ids must not tell which is whose
    completions = [_completion(one, prompt) for one in chosen]
    for completion in completions:
        completion.save()
    return Comparison.objects.create(
        project_id=trial.project_id,
        prompt=prompt,
        first=completions[0],
        second=completions[1],
        batch=_batch(trial),
        needed=prompt.project.judgments_needed,
    )


def _batch(trial: Trial) -> str:
    return f"tried {trial.pk.hex[:12]}"


def _completion(answer: Answer, prompt: Prompt) -> Completion:
    sample = answer.sample
    return Completion(
        prompt=prompt,
        policy_id=answer.policy_id,
        text=answer.text,
        messages=sample.get("messages"),
        token_ids=sample.get("token_ids"),
        prompt_token_ids=sample.get("prompt_token_ids"),
        logprob=sample.get("logprob"),
        finish_reason=answer.finish_reason,
        seed=sample.get("seed"),
        sampling=sample.get("sampling", {}),
    )

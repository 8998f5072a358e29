"""The pages on which a policy is taken away: its adapter, merged weights, card, commands, and a push to a hub."""

from pathlib import Path
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from annotate.errors import RefusalError
from annotate.forms.exports import PushForm
from annotate.models import Policy, Role
from annotate.people.access import ADMINS, READERS, ProjectRequest, project_view
from annotate.projects import trail
from training.models import MergedWeights
from training.usage import hub_push, merging, model_card, packages, serving
from training.usage.places import has_adapter
from training.views.using.forms import MergeForm


@never_cache
@project_view(*READERS)
def take_policy(request: ProjectRequest, policy_id: int) -> HttpResponse:
    """Show the ways to take a policy away. A POST has its weights merged."""
    policy = _policy(request, policy_id)
    if request.method != "POST":
        return _page(request, policy)
    form = MergeForm(request.POST, merging.measure_sizes(policy))
    if not form.is_valid():
        return _page(request, policy, merge_form=form)
    try:
        merge = merging.request(policy, request.user, form.cleaned_data["precision"])
    except RefusalError as refused:
        messages.error(request, str(refused))
        return redirect("take-policy", request.project.slug, policy.pk)
    _record(request, f"merged weights of {policy.name}", precision=merge.precision)
    return redirect("merged-weights", request.project.slug, merge.pk)


def _page(
    request: ProjectRequest,
    policy: Policy,
    *,
    push: PushForm | None = None,
    merge_form: MergeForm | None = None,
) -> HttpResponse:
    push = push or PushForm()
    merge_form = merge_form or MergeForm(None, merging.measure_sizes(policy) if policy.adapter else {})
    context: dict[str, Any] = {
        "policy": policy,
        "is_here": has_adapter(policy),
        "archive": packages.archive_name(policy),
        "recipes": serving.recipes(policy) if policy.adapter else [],
        "licence": model_card.base_licence(policy.base_model),
        "merged": MergedWeights.objects.filter(policy=policy)[:5],
        "push": push,
        "merge_form": merge_form,
        "is_admin": request.membership.role == Role.ADMIN,
        "section": "policies",
    }
    return render(
        request, "training/using/take.html", context, status=422 if push.errors or merge_form.errors else 200
    )


@require_GET
@project_view(*READERS)
def adapter_archive(request: ProjectRequest, policy_id: int) -> HttpResponse | StreamingHttpResponse:
    """Send the adapter with its card as one zip file."""
    policy = _policy(request, policy_id)
    try:
        chunks = packages.archive_chunks(policy)
    except RefusalError as refused:
        messages.error(request, str(refused))
        return redirect("take-policy", request.project.slug, policy.pk)
    _record(request, f"adapter of {policy.name}")
    headers = {
        "Content-Disposition": f'attachment; filename="{packages.archive_name(policy)}"',
        "Cache-Control": "no-store",
    }
    return StreamingHttpResponse(chunks, content_type="application/zip", headers=headers)


@require_GET
@project_view(*READERS)
def card(request: ProjectRequest, policy_id: int) -> HttpResponse:
    """Send the model card."""
    policy = _policy(request, policy_id)
    _record(request, f"model card of {policy.name}")
    name = f"{packages.archive_name(policy).removesuffix('.zip')}-README.md"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    text = model_card.write(policy)
    return HttpResponse(text, content_type="text/markdown; charset=utf-8", headers=headers)


@project_view(*READERS, post=ADMINS)
def push(request: ProjectRequest, policy_id: int) -> HttpResponse:
    """Push the adapter to a hub, with a token that is used here and kept nowhere."""
    policy = _policy(request, policy_id)
    if request.method != "POST":
        return redirect("take-policy", request.project.slug, policy.pk)
    form = PushForm(request.POST)
    if not form.is_valid():
        return _page(request, policy, push=form)
    wanted = form.cleaned_data
    try:
        address = hub_push.push(policy, wanted["repository"], wanted["token"], public=wanted["public"])
    except RefusalError as refused:
        form.add_error(refused.field if refused.field in form.fields else None, refused.message)
        return _page(request, policy, push=form)
    _record(request, f"adapter of {policy.name} to {wanted['repository']} on the hub")
    messages.success(request, _("Pushed to %(address)s.") % {"address": address})
    return redirect("take-policy", request.project.slug, policy.pk)


@never_cache
@project_view(*READERS)
def merge_page(request: ProjectRequest, merge_id: UUID) -> HttpResponse:
    """Show how far merged weights are. A POST stops them."""
    merge = _merge(request, merge_id)
    if request.method == "POST":
        merge.cancel()
        return redirect("merged-weights", request.project.slug, merge.pk)
    merging.look_after(merge)
    recipes = serving.merged_recipes(merge.policy, Path(merge.filename).stem, merge.dtype)
    context = {"merge": merge, "policy": merge.policy, "recipes": recipes, "section": "policies"}
    return render(
        request, "training/using/_merge.html" if request.htmx else "training/using/merge.html", context
    )


@require_GET
@project_view(*READERS)
def merge_file(request: ProjectRequest, merge_id: UUID) -> FileResponse:
    """Send merged weights until they expire."""
    merge = _merge(request, merge_id)
    answer = merging.download(merge)
    _record(request, f"merged weights of {merge.policy.name}")
    return answer


def _merge(request: ProjectRequest, merge_id: UUID) -> MergedWeights:
    found = (
        MergedWeights.objects.filter(policy__project=request.project).with_expiry().select_related("policy")
    )
    merge = get_object_or_404(found, pk=merge_id)
    merge.policy.project = request.project
    return merge


def _policy(request: ProjectRequest, policy_id: int) -> Policy:
    policy: Policy = get_object_or_404(request.project.policies, pk=policy_id)
    policy.project = request.project
    return policy


def _record(request: ProjectRequest, target: str, **details: Any) -> None:
    trail.record(trail.Verb.EXPORTED, request.user, project=request.project, target=target, **details)

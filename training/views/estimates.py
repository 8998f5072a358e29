"""Estimates: asked for beside the form that starts a round, or beside the base model, and polled until answered."""

from collections.abc import Iterator
from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from annotate.people.access import ADMINS, ProjectRequest, project_view
from training.models import DryRun, Worker
from training.rounds import estimates
from training.rounds.starts import RoundError
from training.templatetags.round_figures import duration
from training.views.outcome import ENCODING
from training.views.rounds import show_list
from training.views.using.round_forms import TrainingForm, WritingForm

Figures = list[tuple[str, str]]


@require_POST
@project_view(*ADMINS)
def ask(request: ProjectRequest) -> HttpResponse:
    """Ask for an estimate of the `kind` in the address, by the form that would start it."""
    kind = request.GET.get("kind")
    form: TrainingForm | WritingForm | None = None
    try:
        if kind == DryRun.Kind.MODEL:
            name = request.POST.get("base_model", "").strip()
            return _asked(request, estimates.ask_model(request.project, request.user, name))
        form = (WritingForm if kind == DryRun.Kind.WRITING else TrainingForm)(request.project, request.POST)
        if form.is_valid():
            return _asked(request, _ask(request, form))
    except RoundError as error:
        if form is None:
            return render(request, "training/_estimate.html", {"refused": str(error)}, status=422)
        form.refuse(error)
    if request.htmx:
        return render(request, "training/_estimate.html", {"form": form}, status=422)
    return show_list(request, form)


def _ask(request: ProjectRequest, form: TrainingForm | WritingForm) -> DryRun:
    if isinstance(form, WritingForm):
        count = form.cleaned_data["count"]
        return estimates.ask_writing(
            request.project, request.user, count, form.sampling(), form.choosing(), **form.writers()
        )
    return estimates.ask_round(request.project, request.user, form.chosen(), **form.policies())


def _asked(request: ProjectRequest, made: DryRun) -> HttpResponse:
    return _show(request, made) if request.htmx else redirect(made)


@require_GET
@project_view(*ADMINS)
def estimate_page(request: ProjectRequest, estimate_id: int) -> HttpResponse:
    """Show an estimate, as a page or as a fragment that asks for itself again until it is answered."""
    found = get_object_or_404(DryRun, project=request.project, pk=estimate_id)
    found.project = request.project
    estimates.fail_if_silent(found)
    return _show(request, found)


def _show(request: ProjectRequest, estimate: DryRun) -> HttpResponse:
    context: dict[str, Any] = {
        "estimate": estimate,
        "worker_missing": estimate.is_open and not Worker.for_training(),
        "sections": list(_sections(estimate.result)) if estimate.state == DryRun.State.DONE else [],
        "template_missing": _lacks_template(estimate),
    }
    name = "training/_estimate.html" if request.htmx else "training/estimate.html"
    return render(request, name, context)


def _lacks_template(estimate: DryRun) -> bool:
    """Return whether a base model was looked at that has no chat template."""
    model = estimate.result.get("model")
    return bool(model) and estimate.kind == DryRun.Kind.MODEL and not model["chat_template"]


def _sections(plan: dict[str, Any]) -> Iterator[tuple[str, Figures, bool]]:
    """Yield what a plan says: a title, figures, and whether it fits into memory."""
    yield _("Base model"), list(_model(plan["model"])), plan.get("fits", True)
    training, sampling = plan.get("training"), plan.get("sampling")
    if plan.get("pairs"):
        fits = training["fits"] if training else True
        yield _("Training"), [*_pairs(plan["pairs"]), *(_cost(training) if training else ())], fits
    if plan.get("prompts"):
        fits = sampling["fits"] if sampling else True
        yield (
            _("Sampling"),
            [*_prompts(plan["prompts"], sampling), *(_cost(sampling) if sampling else ())],
            fits,
        )


def _model(model: dict[str, Any]) -> Iterator[tuple[str, str]]:
    templates = {"": _("none"), "model": _("the model’s own"), "settings": _("that of the settings")}
    size = _("%(millions)s million parameters, %(bytes)s of weights in %(dtype)s") % {
        "millions": f"{model['parameters'] / 1e6:,.1f}",
        "bytes": filesizeformat(model["weights_bytes"]),
        "dtype": model["dtype"],
    }
    yield _("Architecture"), model["architecture"]
    yield _("Size"), size
    yield (
        _("Context"),
        _("%(count)s tokens") % {"count": f"{model['context']:,}"} if model["context"] else "–",
    )
    yield _("Chat template"), templates[model["chat_template"]]
    free = {"size": filesizeformat(model["available_bytes"]), "device": model["device"].upper()}
    yield _("Memory of the worker"), _("%(size)s free, on its %(device)s") % free


def _pairs(pairs: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "trained" not in pairs:
        yield _("Pairs"), f"{pairs['given']:,}"
        return
    yield _("Pairs"), f"{pairs['trained']:,}"
    if to_label := pairs.get("to_label"):
        yield _("A probe may label"), _("%(count)s more, taken to be as long") % {"count": f"{to_label:,}"}
    for part in ("dropped", "truncated"):
        for why, count in pairs["left_out"][part].items():
            label = _("Left out") if part == "dropped" else _("Cut to fit")
            yield label, f"{count:,} {ENCODING.get(why, why)}"
    if tokens := pairs["tokens"]["pair"]:
        yield _("Tokens of a pair"), _spread(tokens)


def _prompts(prompts: dict[str, Any], sampling: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    yield _("Prompts"), f"{prompts.get('written_for', prompts['given']):,}"
    for name, label in (("too_long", _("Too long")), ("refused", _("Refused by the chat template"))):
        if prompts.get(name):
            yield label, f"{prompts[name]:,}"
    if prompts.get("tokens"):
        yield _("Tokens of a prompt"), _spread(prompts["tokens"])
    if sampling and "completions" in sampling:
        yield _("Completions"), f"{sampling['completions']:,}"
        length = {
            "mean": f"{sampling['mean_tokens']:,.0f}",
            "cut": f"{100 * sampling['cut_share']:.0f}",
            "limit": f"{sampling['max_new_tokens']:,}",
        }
        yield _("Their length"), _("%(mean)s tokens, %(cut)s %% of them cut at %(limit)s") % length


def _cost(part: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "steps" in part:
        rows = ngettext("%(steps)s step", "%(steps)s steps", part["steps"]) % {"steps": f"{part['steps']:,}"}
        yield _("Steps"), rows
    if "total_seconds" in part:
        yield _("Time"), _("about %(time)s") % {"time": duration(part["total_seconds"])}
    yield _("Peak memory"), _("about %(size)s") % {"size": filesizeformat(part["peak_memory_bytes"])}


def _spread(tokens: dict[str, Any]) -> str:
    names = {name: f"{tokens[name]:,}" for name in ("min", "p50", "p90", "max")}
    return _("%(min)s to %(max)s, half of them at most %(p50)s, 90 %% at most %(p90)s") % names

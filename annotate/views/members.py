"""Members of a project: list, invite, make an account, change a role, remove, and the trail of it all."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.errors import RefusalError
from annotate.forms.account import AddMemberForm, NewAccountForm, RoleForm
from annotate.forms.projects import name_settings
from annotate.models import Invitation, Membership, Role, User
from annotate.people import invitations, password_links
from annotate.people.access import ADMINS, ProjectRequest, project_view
from annotate.people.members import change_role, list_members, remove_member
from annotate.projects import trail
from annotate.queueing import qualification
from primitives.text import make_storable, printable


@never_cache
@require_http_methods(["GET", "POST"])
@project_view(*ADMINS)
def members(request: ProjectRequest) -> HttpResponse:
    """Show the list. A POST asks whether the person named is meant, and invites no one yet."""
    form = AddMemberForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["person"]
        try:
            invitations.check(request.membership, name)
        except RefusalError as error:
            form.add_error(error.field or None, str(error))
        else:
            return _list(request, add_form=form, asked=_question(request.user, form))
    return _list(request, add_form=form)


@never_cache
@require_http_methods(["GET", "POST"])
@project_view(*ADMINS)
def invite(request: ProjectRequest) -> HttpResponse:
    """Invite the person who was asked about."""
    if request.method == "GET":
        return redirect("members", request.project.slug)
    form = AddMemberForm(request.POST)
    if form.is_valid():
        try:
            invited = invitations.invite(
                request.membership, form.cleaned_data["person"], form.cleaned_data["role"]
            )
        except RefusalError as error:
            form.add_error(error.field or None, str(error))
        else:
            messages.success(
                request,
                _("%(person)s is invited, and becomes a member by accepting.") % {"person": invited.name},
            )
            return redirect("members", request.project.slug)
    return _list(request, add_form=form)


@require_POST
@project_view(*ADMINS)
def withdraw_invitation(request: ProjectRequest, invitation_id: int) -> HttpResponse:
    name = invitations.withdraw(request.membership, invitation_id)
    if name is None:
        messages.info(request, _("That invitation is answered or withdrawn already."))
    else:
        messages.success(request, _("The invitation of %(person)s is withdrawn.") % {"person": name})
    return redirect("members", request.project.slug)


@never_cache
@require_http_methods(["GET", "POST"])
@project_view(*ADMINS)
def new_account(request: ProjectRequest) -> HttpResponse:
    """Make an account, and answer with its link: nothing but this page ever holds it."""
    if request.method == "GET":  # the page with the link, opened again
        return redirect("members", request.project.slug)
    form = NewAccountForm(request.POST)
    if form.is_valid():
        try:
            added = invitations.make_account(request.membership, **form.cleaned_data)
            return _hand_over(request, added)
        except RefusalError as error:
            form.add_error(error.field or None, str(error))
    return _list(request, account_form=form)


@never_cache
@require_http_methods(["GET", "POST"])
@project_view(*ADMINS)
def member(request: ProjectRequest, membership_id: int) -> HttpResponse:
    """Act on one member: `action` is role, remove, link, admit or again."""
    project = request.project
    if request.method == "GET":  # the page with the link, opened again
        return redirect("members", project.slug)
    action = request.POST.get("action")
    try:
        if action == "remove":
            person = remove_member(request.membership, membership_id)
            messages.success(
                request, _("%(person)s is no longer a member. Their judgments are kept.") % {"person": person}
            )
            if person == request.user:
                return redirect("home")
        elif action in ("admit", "again"):
            _qualification(request, membership_id, let_in=action == "admit")
        elif action == "link":
            found = project.memberships.select_related("user").get(pk=membership_id)
            return _hand_over(request, found)
        else:
            form = RoleForm(request.POST)
            if not form.is_valid():
                raise RefusalError(_("Choose one of the three roles."))
            changed = change_role(request.membership, membership_id, form.cleaned_data["role"])
            messages.success(
                request,
                _("%(person)s: %(role)s.") % {"person": changed.user, "role": changed.get_role_display()},
            )
            if changed.pk == request.membership.pk and changed.role != Role.ADMIN:
                return redirect("project", project.slug)
    except Membership.DoesNotExist:
        messages.error(request, _("That person is no longer a member of this project."))
    except RefusalError as error:
        messages.error(request, str(error))
    return redirect("members", project.slug)


@never_cache
@require_GET
@project_view(*ADMINS)
def project_trail(request: ProjectRequest) -> HttpResponse:
    """Show the trail of changes to the project's members and data."""
    project = request.project
    chosen = {name: make_storable(request.GET.get(name, "")) for name in ("person", "verb")}
    page = trail.browse(project, **chosen, before=trail.parse_key(request.GET.get("before", "")))
    for entry in page.entries:
        if entry.verb == trail.Verb.SETTINGS:
            entry.target = name_settings(entry.target)  # as it is shown: an entry is never stored again
    older = request.GET.copy()
    older["before"] = str(page.older)
    unknown = chosen["verb"] if chosen["verb"] not in ("", *trail.Verb.values) else ""
    context = {
        "section": "members",
        "unknown": printable(unknown),
        "entries": page.entries,
        "older": older.urlencode() if page.older else "",
        "filtered": any(chosen.values()),
        "people": trail.list_people(project),
        "verbs": [choice for choice in trail.Verb.choices if choice[0] not in trail.ACCOUNT_VERBS],
        **chosen,
    }
    return render(request, "annotate/trail.html", context, status=422 if unknown else 200)


def _qualification(request: ProjectRequest, membership_id: int, *, let_in: bool) -> None:
    """Let a member in without a passed qualification, or let them retry it."""
    project = request.project
    person = project.memberships.select_related("user").get(pk=membership_id).user
    if let_in:
        qualification.admit(project, person)
        trail.record(trail.Verb.ADMITTED, request.user, project=project, subject=person)
        messages.success(request, _("%(person)s may judge now.") % {"person": person})
    else:
        qualification.try_again(project, person)
        messages.success(request, _("%(person)s starts the qualification again.") % {"person": person})


def _question(admin: User, form: AddMemberForm) -> dict[str, Any]:
    """Ask before an invitation: whom, as what, or whether to make an account instead.

    The second is offered unless the admin knows the person from another project. It says nothing of other accounts.
    """
    name, role = form.cleaned_data["person"], form.cleaned_data["role"]
    known = invitations.known_person(name, admin)
    return {
        "name": name,
        "full_name": known.get_full_name() if known else "",
        "role": role,
        "role_label": Role(role).label,
        "account_form": None
        if known
        else NewAccountForm(initial={"username": name.partition("@")[0], "role": role}),
    }


def _hand_over(request: ProjectRequest, to: Membership) -> HttpResponse:
    """Answer with the page and a new link on it. The link is in no redirect and in no session."""
    link = request.build_absolute_uri(password_links.make_link(to, request.membership))
    return _list(request, handover={"username": to.user.username, "link": link})


def _list(
    request: ProjectRequest,
    add_form: AddMemberForm | None = None,
    account_form: NewAccountForm | None = None,
    **more: Any,
) -> HttpResponse:
    add_form = add_form or AddMemberForm()
    context = {
        "section": "members",
        "members": list_members(request.project, password_links.can_have_link(request.user)),
        "invited": Invitation.objects.filter(project=request.project).select_related("by__user"),
        "roles": Role.choices,
        "add_form": add_form,
        "account_form": account_form,
        **more,
    }
    refused = add_form.errors or (account_form is not None and account_form.errors)
    return render(request, "annotate/members.html", context, status=422 if refused else 200)

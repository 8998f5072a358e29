"""Who belongs to a project: the list, adding, inviting, changing a role, removing."""

from typing import Any

from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from annotate import qualification
from annotate.access import get_project
from annotate.forms import AddMemberForm, InviteForm, RoleForm
from annotate.members import (
    MemberError,
    add_member,
    change_role,
    find_person,
    invite,
    member_list,
    password_links,
    password_path,
    remove_member,
)
from annotate.models import Membership, Project, Role, User

INVITATION = "invitation"  # session key: a link to hand over, shown once


def members(request: HttpRequest, slug: str) -> HttpResponse:
    """The list; a POST adds a person who has an account, or offers to make one for somebody who has not."""
    project, membership = get_project(request, slug, Role.ADMIN)
    form = AddMemberForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name, role = form.cleaned_data["person"].strip(), form.cleaned_data["role"]
        try:
            person = find_person(name)
            if person is None:
                return _list(
                    request, project, membership, add_form=form, invite_form=_invitation_for(name, role)
                )
            add_member(project, person, role)
        except MemberError as error:
            form.add_error(error.field or None, str(error))
        else:
            messages.success(request, _("%(person)s is a member now.") % {"person": person})
            return redirect("members", slug)
    return _list(request, project, membership, add_form=form)


@require_POST
def new_account(request: HttpRequest, slug: str) -> HttpResponse:
    project, membership = get_project(request, slug, Role.ADMIN)
    form = InviteForm(request.POST)
    if not form.is_valid():
        return _list(request, project, membership, invite_form=form)
    added = invite(project, **form.cleaned_data)
    _hand_over(request, added, membership.user)
    return redirect("members", slug)


@require_POST
def member(request: HttpRequest, slug: str, membership_id: int) -> HttpResponse:
    """What is done to one member: `action` is role, remove, link, admit or again."""
    project, membership = get_project(request, slug, Role.ADMIN)
    action = request.POST.get("action")
    try:
        if action == "remove":
            person = remove_member(project, membership_id)
            messages.success(
                request, _("%(person)s is no longer a member. Their judgments are kept.") % {"person": person}
            )
            if person == request.user:
                return redirect("home")
        elif action in ("admit", "again"):
            _qualification(request, project, membership_id, let_in=action == "admit")
        elif action == "link":
            found = project.memberships.select_related("user").get(pk=membership_id)
            _hand_over(request, found, membership.user)
        else:
            form = RoleForm(request.POST)
            if not form.is_valid():
                raise MemberError(_("Choose one of the three roles."))
            changed = change_role(project, membership_id, form.cleaned_data["role"])
            messages.success(
                request,
                _("%(person)s: %(role)s.") % {"person": changed.user, "role": changed.get_role_display()},
            )
            if changed.pk == membership.pk and changed.role != Role.ADMIN:
                return redirect("project", slug)
    except Membership.DoesNotExist:
        messages.error(request, _("That person is no longer a member of this project."))
    except MemberError as error:
        messages.error(request, str(error))
    return redirect("members", slug)


class SetPassword(auth_views.PasswordResetConfirmView):
    """Where a password link leads: whoever holds it chooses the account's password, once, and is signed in."""

    template_name = "annotate/set_password.html"
    success_url = reverse_lazy("home")
    token_generator = password_links
    post_reset_login = True

    def form_valid(self, form: Any) -> HttpResponse:
        answer = super().form_valid(form)
        messages.success(self.request, _("Your password is set, and you are signed in."))
        return answer


def _qualification(request: HttpRequest, project: Project, membership_id: int, *, let_in: bool) -> None:
    """Let somebody in without a passed qualification, or let them try once more."""
    person = project.memberships.select_related("user").get(pk=membership_id).user
    if let_in:
        qualification.admit(project, person)
        messages.success(request, _("%(person)s may judge now.") % {"person": person})
    else:
        qualification.try_again(project, person)
        messages.success(request, _("%(person)s begins the qualification anew.") % {"person": person})


def _invitation_for(name: str, role: str) -> InviteForm:
    username, _at, host = name.partition("@")
    return InviteForm(initial={"username": username, "email": name if host else "", "role": role})


def _hand_over(request: HttpRequest, member: Membership, admin: User) -> None:
    link = request.build_absolute_uri(password_path(member.user, admin))
    request.session[INVITATION] = {"username": member.user.username, "link": link}


def _list(
    request: HttpRequest,
    project: Project,
    membership: Membership,
    add_form: AddMemberForm | None = None,
    invite_form: InviteForm | None = None,
) -> HttpResponse:
    add_form = add_form or AddMemberForm()
    context = {
        "project": project,
        "membership": membership,
        "members": member_list(project, membership.user),
        "roles": Role.choices,
        "add_form": add_form,
        "invite_form": invite_form,
        "invitation": request.session.pop(INVITATION, None),
    }
    refused = add_form.errors or (invite_form is not None and invite_form.errors)
    return render(request, "annotate/members.html", context, status=422 if refused else 200)

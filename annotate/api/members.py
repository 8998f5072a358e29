"""Members of a project, and invitations. Links with which a password is chosen are made on the page alone."""

from typing import Any

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotFound
from rest_framework.response import Response

from annotate.api.access import Scope, get_token
from annotate.api.operations.declaration import Call, Endpoint, operation
from annotate.api.projects import raise_errors
from annotate.api.shapes.people import (
    InvitationOut,
    InvitationsOut,
    InviteIn,
    MemberOut,
    MembersOut,
    MyInvitationOut,
    MyInvitationsOut,
    RoleIn,
    member_data,
)
from annotate.api.shapes.projects import ProjectLineOut, project_line
from annotate.forms.account import AddMemberForm
from annotate.models import Invitation, Membership, Project, User
from annotate.people import invitations
from annotate.people.access import ADMINS
from annotate.people.members import change_role, list_members, remove_member
from annotate.people.pseudonyms import pseudonym
from annotate.projects import trail
from annotate.queueing import qualification


class Members(Endpoint):
    tag = "Members"

    @operation("List members", roles=ADMINS, gives=MembersOut)
    def get(self, call: Call) -> Response:
        return Response({"results": list(_members(call.project))})


class OneMember(Endpoint):
    tag = "Members"

    @operation("Get a member", roles=ADMINS, gives=MemberOut)
    def get(self, call: Call, membership_id: int) -> Response:
        return _answer(call, membership_id)

    @operation(
        "Change a role",
        "A project keeps at least one admin.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=RoleIn,
        gives=MemberOut,
    )
    def patch(self, call: Call, membership_id: int) -> Response:
        _membership(call, membership_id)
        change_role(call.membership, membership_id, call.given["role"])
        return _answer(call, membership_id)

    @operation(
        "Remove a member",
        "What they judged stays, under their name.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        status=204,
    )
    def delete(self, call: Call, membership_id: int) -> Response:
        _membership(call, membership_id)
        remove_member(call.membership, membership_id)
        return Response(status=204)


class Admission(Endpoint):
    tag = "Members"

    @operation(
        "Let a member judge",
        "Without a passed qualification.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=MemberOut,
    )
    def post(self, call: Call, membership_id: int) -> Response:
        person = _membership(call, membership_id).user
        qualification.admit(call.project, person)
        trail.record(trail.Verb.ADMITTED, call.user, project=call.project, subject=person)
        return _answer(call, membership_id)


class Requalification(Endpoint):
    tag = "Members"

    @operation(
        "Let a member qualify again",
        "With gold comparisons that they have not judged.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        gives=MemberOut,
    )
    def post(self, call: Call, membership_id: int) -> Response:
        qualification.try_again(call.project, _membership(call, membership_id).user)
        return _answer(call, membership_id)


class Invitations(Endpoint):
    tag = "Members"

    @operation("List invitations", "Those that wait for an answer.", roles=ADMINS, gives=InvitationsOut)
    def get(self, call: Call) -> Response:
        waiting = call.project.invitations.select_related("by__user")
        return Response({"results": InvitationOut(waiting, many=True).data})

    @operation(
        "Invite a person",
        "They become a member by accepting. The answer does not tell whether there is an account "
        "of that name.",
        scope=Scope.ADMIN,
        roles=ADMINS,
        takes=InviteIn,
        gives=InvitationOut,
        status=201,
        has_key=True,
    )
    def post(self, call: Call) -> Response:
        form = AddMemberForm(call.given)
        raise_errors(form)
        made = invitations.invite(call.membership, form.cleaned_data["person"], form.cleaned_data["role"])
        return Response(InvitationOut(made).data, status=201)


class OneInvitation(Endpoint):
    tag = "Members"

    @operation("Withdraw an invitation", scope=Scope.ADMIN, roles=ADMINS, status=204)
    def delete(self, call: Call, invitation_id: int) -> Response:
        get_object_or_404(call.project.invitations, pk=invitation_id)
        invitations.withdraw(call.membership, invitation_id)
        return Response(status=204)


class MyInvitations(Endpoint):
    tag = "Members"

    @operation(
        "List your invitations",
        "Those that you can answer. A token for one project lists none.",
        roles=None,
        gives=MyInvitationsOut,
    )
    def get(self, call: Call) -> Response:
        token = get_token(call.request)
        is_narrow = token is not None and token.project is not None
        waiting = Invitation.objects.none() if is_narrow else invitations.open_invitations(call.user)
        return Response({"results": MyInvitationOut(waiting.order_by("pk"), many=True).data})


class MyInvitation(Endpoint):
    tag = "Members"

    @operation(
        "Accept an invitation",
        "You become a member, in the role that it names.",
        scope=Scope.ADMIN,
        roles=None,
        gives=ProjectLineOut,
    )
    def post(self, call: Call, invitation_id: int) -> Response:
        joined = invitations.accept(call.user, invitation_id)
        if joined is None:
            raise NotFound(_("That invitation was withdrawn, or has ended."))
        return Response(project_line(joined))

    @operation("Decline an invitation", scope=Scope.ADMIN, roles=None, status=204)
    def delete(self, call: Call, invitation_id: int) -> Response:
        if invitations.decline(call.user, invitation_id) is None:
            raise NotFound(_("That invitation was withdrawn, or has ended."))
        return Response(status=204)


def _membership(call: Call, membership_id: int) -> Membership:
    return get_object_or_404(call.project.memberships.select_related("user"), pk=membership_id)


def _members(project: Project) -> Any:
    # None is linkable: the API makes no links.
    for member in list_members(project, User.objects.none()):
        yield member_data(member, pseudonym(member.membership.user_id))


def _answer(call: Call, membership_id: int) -> Response:
    """Return one member as the list has them."""
    _membership(call, membership_id)
    return Response(next(one for one in _members(call.project) if one["id"] == membership_id))

"""The shapes of members, invitations and the trail."""

from typing import Any

from rest_framework import serializers

from annotate.api.shapes.base import Note, Shape, StrictSerializer
from annotate.api.shapes.rows import OBJECT, WHEN
from annotate.models import Role, TrailEntry
from annotate.people.members import Member


class MemberOut(Shape):
    """A member. `id` is the membership's. `annotator` is the name in exports."""

    EXAMPLE = {
        "id": 4, "username": "toni", "annotator": "annotator-2", "role": "annotator", "judgments": 120,
        "last_active": WHEN, "awaits_password": False, "awaits_qualification": False,
    }  # fmt: skip

    id = serializers.IntegerField()
    username = serializers.CharField()
    annotator = serializers.CharField()
    role = serializers.ChoiceField(Role.choices)
    judgments = serializers.IntegerField()
    last_active = serializers.DateTimeField(allow_null=True)
    awaits_password = serializers.BooleanField()
    awaits_qualification = serializers.BooleanField()


def member_data(member: Member, pseudonym: str) -> dict[str, Any]:
    return {
        "id": member.membership.pk,
        "username": member.membership.user.username,
        "annotator": pseudonym,
        "role": member.membership.role,
        **{
            name: getattr(member, name)
            for name in ("judgments", "last_active", "awaits_password", "awaits_qualification")
        },
    }


class MembersOut(Shape):
    EXAMPLE = {"results": [MemberOut.EXAMPLE]}

    results = MemberOut(many=True)


class RoleIn(StrictSerializer):
    EXAMPLE = {"role": "researcher"}

    role = serializers.ChoiceField(Role.choices)


class InviteIn(StrictSerializer):
    """A person to invite, by username or confirmed email address."""

    EXAMPLE = {"person": "rosa", "role": "researcher"}

    person = serializers.CharField(max_length=254)
    role = serializers.ChoiceField(Role.choices)


class InvitationOut(Shape):
    """An invitation that waits for an answer. It does not tell whether there is an account of that name."""

    EXAMPLE = {"id": 9, "name": "rosa", "role": "researcher", "invited_by": "olive", "made_at": WHEN}

    id = serializers.IntegerField()
    name = serializers.CharField()
    role = serializers.ChoiceField(Role.choices)
    invited_by = serializers.CharField(source="by.user.username")
    made_at = serializers.DateTimeField()


class InvitationsOut(Shape):
    EXAMPLE = {"results": [InvitationOut.EXAMPLE]}

    results = InvitationOut(many=True)


class MyInvitationOut(Shape):
    """An invitation of yours, to the project `slug`."""

    EXAMPLE = {
        "id": 9,
        "slug": "reviews",
        "project": "Film reviews",
        "role": "annotator",
        "invited_by": "olive",
        "made_at": WHEN,
    }

    id = serializers.IntegerField()
    slug = serializers.SlugField(source="project.slug")
    project = serializers.CharField(source="project.name")
    role = serializers.ChoiceField(Role.choices)
    invited_by = serializers.CharField(source="by.user.username")
    made_at = serializers.DateTimeField()


class MyInvitationsOut(Shape):
    EXAMPLE = {"results": [MyInvitationOut.EXAMPLE]}

    results = MyInvitationOut(many=True)


class TrailOut(serializers.ModelSerializer[TrailEntry]):
    """An entry of the trail: who did what."""

    EXAMPLE = {
        "id": 31,
        "at": WHEN,
        "who": "olive",
        "verb": "role",
        "target": "toni",
        "details": {"role": "admin"},
    }

    who = serializers.CharField(source="who_name", allow_blank=True)
    details = Note(OBJECT)

    class Meta:
        model = TrailEntry
        fields = ["id", "at", "who", "verb", "target", "details"]

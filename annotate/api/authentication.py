"""Authentication by `Authorization: Bearer wst_…`, with a token made on the page "API tokens"."""

from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from annotate.models import ApiToken, User, token_digest

USED_EVERY = timedelta(minutes=1)  # how exact "last used" is: an answer should not cost a write


class TokenAuthentication(BaseAuthentication):
    """Sign-in by token, looked up by its digest. Wrong ones are not counted, since 256 bits cannot be guessed."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _space, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = (
            ApiToken.objects.select_related("user", "project")
            .filter(digest=token_digest(given.strip()), user__is_active=True)
            .first()
        )
        if token is None:
            raise AuthenticationFailed(
                _("This token is unknown or was revoked: make one on the page “API tokens”.")
            )
        if token.has_expired:
            raise AuthenticationFailed(_("This token has expired: make another on the page “API tokens”."))
        now = timezone.now()
        if token.last_used_at is None or now - token.last_used_at > USED_EVERY:
            ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="Whetstone"'

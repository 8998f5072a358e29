"""One's account: signing in, the password, and the tokens of the API."""

from typing import Any

from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from annotate.access import get_user
from annotate.forms import TokenForm
from annotate.models import ApiToken
from annotate.throttle import LOGIN, PASSWORD

NEW_TOKEN = "new_token"  # noqa: S105 - a session key: the token just made, shown once
MOST_TOKENS = 20


class LoginForm(AuthenticationForm):
    """After ten failures a name has to wait, from the address that they came from."""

    def clean(self) -> dict[str, Any]:
        address = self.request.META.get("REMOTE_ADDR", "") if self.request else ""
        key = f"{self.cleaned_data.get('username', '').lower()} {address}"
        wait = LOGIN.wait(key)
        if wait:
            raise ValidationError(_too_many(wait // 60 + 1), code="throttled")
        try:
            cleaned: dict[str, Any] = super().clean()
        except ValidationError:
            LOGIN.count(key)
            raise
        LOGIN.forget(key)
        return cleaned


class PasswordForm(PasswordChangeForm):
    """After ten wrong guesses at the present password its account has to wait: the browser may be somebody else's."""

    def clean_old_password(self) -> str:
        key = str(self.user.pk)
        wait = PASSWORD.wait(key)
        if wait:
            raise ValidationError(_too_many(wait // 60 + 1), code="throttled")
        try:
            given: str = super().clean_old_password()
        except ValidationError:
            PASSWORD.count(key)
            raise
        PASSWORD.forget(key)
        return given


class ChangePassword(auth_views.PasswordChangeView):
    """Choosing another password. Whoever does it stays signed in here, and is signed out everywhere else."""

    form_class = PasswordForm
    template_name = "annotate/password.html"
    success_url = reverse_lazy("home")

    def form_valid(self, form: Any) -> HttpResponse:
        answer = super().form_valid(form)
        messages.success(self.request, _("Password changed. Other browsers are signed out."))
        return answer


def _too_many(minutes: int) -> str:
    return (
        ngettext(
            "Too many attempts: try again in %d minute.",
            "Too many attempts: try again in %d minutes.",
            minutes,
        )
        % minutes
    )


def tokens(request: HttpRequest) -> HttpResponse:
    """The API tokens of whoever asks. A new one is shown once, after the redirect."""
    user = get_user(request)
    owned = ApiToken.objects.filter(user=user).order_by("-pk")
    form = TokenForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if owned.count() >= MOST_TOKENS:
            form.add_error(None, _("You have %d tokens: revoke one that is not used.") % MOST_TOKENS)
        else:
            _row, token = ApiToken.issue(user, form.cleaned_data["name"])
            request.session[NEW_TOKEN] = token
            return redirect("tokens")
    context = {"form": form, "tokens": owned, "new_token": request.session.pop(NEW_TOKEN, None)}
    response = render(request, "annotate/tokens.html", context, status=422 if form.errors else 200)
    response["Cache-Control"] = "no-store"
    return response


@require_POST
def revoke_token(request: HttpRequest, token_id: int) -> HttpResponse:
    user = get_user(request)
    if ApiToken.objects.filter(pk=token_id, user=user).delete()[0]:
        messages.success(request, _("Token revoked: it opens nothing any more."))
    return redirect("tokens")

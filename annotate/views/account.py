"""One's account: signing in, the password, and the tokens of the API."""

from typing import Any

from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.contrib.auth.forms import PasswordChangeForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from annotate.access import get_user
from annotate.authentication import OWN_PASSWORD, TooManyAttempts
from annotate.forms import TokenForm
from annotate.models import ApiToken

NEW_TOKEN = "new_token"  # noqa: S105 - a session key: the token just made, shown once
MOST_TOKENS = 20


class PasswordForm(PasswordChangeForm):
    """Limits guesses at the present password: the browser may have been left open."""

    def clean_old_password(self) -> str:
        key = str(self.user.pk)
        if wait := OWN_PASSWORD.admit(key):
            raise TooManyAttempts(wait)
        given: str = super().clean_old_password()
        OWN_PASSWORD.forget(key)
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

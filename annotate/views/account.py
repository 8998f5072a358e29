"""One's account: signing in, the password, the tokens of the API, and what happened to it."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth import views as auth_views
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.forms.account import TokenForm
from annotate.models import ApiToken, User
from annotate.people import invitations, password_links
from annotate.people.access import get_user
from annotate.people.authentication import OWN_PASSWORD, TooManyAttemptsError, remember_browser
from annotate.projects import trail

LINK = "password_link"  # session key: the number of the link that this browser opened
MOST_TOKENS = 20


class PasswordForm(PasswordChangeForm):
    """Limits guesses at the present password: the browser may have been left open."""

    revoke_tokens = forms.BooleanField(required=False, initial=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        count = self.user.api_tokens.count()
        if count:
            self.fields["revoke_tokens"].label = ngettext(
                "Also revoke my API token", "Also revoke my %(count)d API tokens", count
            ) % {"count": count}
        else:
            del self.fields["revoke_tokens"]

    def save(self, commit: bool = True) -> Any:
        self.user.password_set_by = self.user
        self.user.keeps_tokens = not self.cleaned_data.get("revoke_tokens", True)
        return super().save(commit)

    def clean_old_password(self) -> str:
        key = str(self.user.pk)
        if wait := OWN_PASSWORD.admit(key):
            raise TooManyAttemptsError(wait)
        given: str = super().clean_old_password()
        OWN_PASSWORD.forget(key)
        return given


class ChangePassword(auth_views.PasswordChangeView):
    """The form of a new password. Its user stays signed in here, and is signed out everywhere else."""

    form_class = PasswordForm
    template_name = "annotate/password.html"
    success_url = reverse_lazy("home")

    def form_valid(self, form: Any) -> HttpResponse:
        answer = super().form_valid(form)
        remember_browser(self.request, form.user)
        messages.success(self.request, _("Password changed. Other browsers are signed out."))
        return answer


@never_cache
@require_GET
def open_link(request: HttpRequest, secret: str) -> HttpResponse:
    """Open a password link. The secret leaves the address before the page is shown."""
    link = password_links.find_link(secret)
    request.session.pop(LINK, None)
    if link is not None:
        request.session[LINK] = link.pk
    return redirect("choose-password")


@never_cache
@require_http_methods(["GET", "POST"])
def choose_password(request: HttpRequest) -> HttpResponse:
    """Choose the account's password with the link that this browser opened, and be signed in."""
    link = password_links.get_link(request.session.get(LINK))
    if link is None:
        return render(request, "annotate/set_password.html", {"form": None})
    form = SetPasswordForm(link.person, request.POST or None)
    if request.method == "POST" and form.is_valid():
        person = password_links.use_link(link.pk, form.cleaned_data["new_password1"])
        if person is None:  # it ended meanwhile
            return redirect("choose-password")
        request.session.pop(LINK, None)
        login(request, person)
        messages.success(request, _("Your password is set, and you are signed in."))
        return redirect("home")
    context = {"form": form, "tokens": link.person.api_tokens.exists()}
    return render(request, "annotate/set_password.html", context, status=422 if form.errors else 200)


def tell_about_links(request: HttpRequest, user: User, **_signal: Any) -> None:
    """Receive `user_logged_in`, which every way to sign in sends."""
    match = request.resolver_match
    if hasattr(request, "_messages") and not (match and match.url_name == "choose-password"):
        password_links.tell(request, user)


@never_cache
@require_GET
def account(request: HttpRequest) -> HttpResponse:
    """Show the account, and what happened to it."""
    user = get_user(request)
    before = request.GET.get("before", "")
    page = trail.browse_account(user, trail.parse_key(before))
    context = {
        "entries": page.entries,
        "older": page.older,
        "newest": bool(before),
        "tokens": user.api_tokens.count(),
    }
    return render(request, "annotate/account.html", context)


@never_cache
@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """Show the user's API tokens. A new one is in the answer to its form, and nowhere else."""
    user = get_user(request)
    owned = ApiToken.objects.filter(user=user).select_related("project").order_by("-pk")
    form, new_token = TokenForm(request.POST or None, person=user), ""
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            # Of two requests at once, the second counts the first.
            User.objects.select_for_update(no_key=True).get(pk=user.pk)
            if owned.count() >= MOST_TOKENS:
                form.add_error(None, _("You have %d tokens: revoke one that is not used.") % MOST_TOKENS)
            else:
                row, new_token = ApiToken.issue(user, **form.chosen())
                trail.record(trail.Verb.TOKEN_MADE, user, subject=user, target=row, **_limits(row))
                form = TokenForm(None, person=user)
    context = {"form": form, "tokens": owned, "new_token": new_token}
    return render(request, "annotate/tokens.html", context, status=422 if form.errors else 200)


def _limits(token: ApiToken) -> dict[str, Any]:
    """Return what a token is limited to, for the trail."""
    return {
        "scope": token.scope,
        "only_in": token.project.slug if token.project else "",
        "expires": token.expires_at.date().isoformat() if token.expires_at else "",
    }


@require_POST
def revoke_token(request: HttpRequest, token_id: int) -> HttpResponse:
    user = get_user(request)
    with transaction.atomic():
        token = ApiToken.objects.select_for_update().filter(pk=token_id, user=user).first()
        if token is not None:
            token.delete()
            trail.record(trail.Verb.TOKEN_REVOKED, user, subject=user, target=token)
            messages.success(request, _("Token revoked: it opens nothing any more."))
    return redirect("tokens")


@require_POST
def answer_invitation(request: HttpRequest, invitation_id: int) -> HttpResponse:
    """Join the project, or decline."""
    user = get_user(request)
    if "decline" in request.POST:
        if declined := invitations.decline(user, invitation_id):
            messages.success(request, _("You declined to join %(project)s.") % {"project": declined.project})
            return redirect("home")
    elif joined := invitations.accept(user, invitation_id):
        messages.success(
            request,
            _("You are a member of %(project)s now (%(role)s).")
            % {"project": joined.project, "role": joined.get_role_display()},
        )
        return redirect("project", joined.project.slug)
    messages.info(request, _("That invitation was withdrawn, or has ended."))
    return redirect("home")

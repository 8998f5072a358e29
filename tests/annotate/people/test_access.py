"""Access: anonymous people log in first, outsiders see nothing, teammates only what their role allows."""

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.test import RequestFactory
from django.urls import path

from annotate.models import Role, User
from annotate.people.access import LoginMiddleware, LoginNeededError, get_project, project_view

pytestmark = pytest.mark.once  # forms and pages, whatever the database


@project_view(Role.ADMIN)
def view(request):
    return HttpResponse(f"{request.project} {request.membership.role}")


def login(request):
    return HttpResponse("login")


urlpatterns = [
    path("p/<slug:slug>/", view),
    path("login/", login, name="login"),
    path("", login, name="home"),
]


@pytest.fixture
def ask(project, settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [
        "django_htmx.middleware.HtmxMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "annotate.people.access.LoginMiddleware",
    ]


def request_by(user, **headers):
    request = RequestFactory().get("/p/reviews/", headers=headers)
    request.user = user
    return request


def test_project_and_membership_come_in_one_query(project, teammate, django_assert_num_queries):
    with django_assert_num_queries(1):
        found, membership = get_project(request_by(teammate), project.slug)
        assert (found.slug, membership.user.username, membership.role) == ("reviews", "toni", "annotator")


def test_a_role_that_is_asked_for_lets_in_and_another_is_told_so(project, owner, teammate, researcher):
    assert get_project(request_by(owner), project.slug, Role.ADMIN)
    assert get_project(request_by(researcher), project.slug, Role.ADMIN, Role.RESEARCHER)
    with pytest.raises(PermissionDenied, match="Annotator"):
        get_project(request_by(teammate), project.slug, Role.ADMIN)


def test_to_an_outsider_a_project_does_not_exist(project, outsider):
    with pytest.raises(Http404) as outside:
        get_project(request_by(outsider), project.slug)
    with pytest.raises(Http404) as missing:
        get_project(request_by(outsider), "no-such-project")
    assert str(outside.value) == str(missing.value)


def test_a_superuser_is_not_special(project, outsider):
    User.objects.filter(pk=outsider.pk).update(is_superuser=True, is_staff=True)
    outsider.refresh_from_db()
    with pytest.raises(Http404):
        get_project(request_by(outsider), project.slug)


def test_somebody_not_logged_in_is_asked_to(project):
    with pytest.raises(LoginNeededError):
        get_project(request_by(AnonymousUser()), project.slug)


def test_a_page_leads_to_the_login_and_back(ask, client):
    response = client.get("/p/reviews/?page=2")
    assert (response.status_code, response["Location"]) == (302, "/login/?next=/p/reviews/%3Fpage%3D2")


def test_a_fragment_takes_its_page_to_the_login_and_back(ask, client):
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/p/reviews/judge/?a=1"}
    response = client.post("/p/reviews/", headers=headers)
    assert response.status_code == 200
    assert response["HX-Redirect"] == "/login/?next=/p/reviews/judge/%3Fa%3D1"


def test_a_form_leads_back_to_its_page_never_to_another_site(ask, client):
    def back_to(referer):
        return client.post("/p/reviews/", headers={"Referer": referer})["Location"]

    assert (
        back_to("http://testserver/p/reviews/history/?q=x")
        == "/login/?next=/p/reviews/history/%3Fq%3Dx%23unsent"
    )
    assert back_to("https://evil.example/p/") == "/login/?next=/%23unsent"
    headers = {"HX-Request": "true", "HX-Current-URL": "https://evil.example/p/"}
    assert client.get("/p/reviews/", headers=headers)["HX-Redirect"] == "/login/?next=/p/reviews/"


def test_roles_reach_the_view_through_a_real_request(ask, client_for, owner, teammate, outsider):
    assert client_for(owner).get("/p/reviews/").content == b"Film reviews admin"
    assert client_for(teammate).get("/p/reviews/").status_code == 403
    assert client_for(outsider).get("/p/reviews/").status_code == 404


def test_other_exceptions_are_left_alone(project):
    middleware = LoginMiddleware(lambda request: HttpResponse())
    assert middleware.process_exception(request_by(AnonymousUser()), ValueError()) is None

"""Headers of every answer: a strict Content-Security-Policy, and nothing kept by caches."""

from collections.abc import Callable, Sequence

from django.http import HttpRequest, HttpResponse

DIRECTIVES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


def write_policy(image_hosts: Sequence[str] = ()) -> str:
    """Return the Content-Security-Policy of a page that may load images from these hosts."""
    images = " ".join([DIRECTIVES["img-src"], *(f"https://{host}" for host in image_hosts)])
    return "; ".join(f"{name} {value}" for name, value in (DIRECTIVES | {"img-src": images}).items())


class SecurityHeadersMiddleware:
    """Adds them where a view has not set its own.

    After a logout on a shared browser, the Back button must not show what a colleague saw. Only static files, which
    WhiteNoise marks as cacheable, are kept.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        # A page of a project knows it (`annotate.people.access.admit`), and with it the hosts that it allows.
        hosts = getattr(getattr(request, "project", None), "image_hosts", ())
        response.headers.setdefault("Content-Security-Policy", write_policy(hosts))
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response

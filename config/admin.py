"""Django's admin site, with what its pages do not check themselves."""

from functools import wraps
from typing import Any

from django.contrib import admin
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse


class AdminSite(admin.AdminSite):
    """Refuses a NUL in the address: filters hand it to the database, and PostgreSQL raises an error."""

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            asked = [text for name, values in request.GET.lists() for text in (name, *values)]
            if any("\0" in str(text) for text in (*asked, *args, *kwargs.values())):
                raise BadRequest("A NUL in the address.")
            answer: HttpResponse = view(request, *args, **kwargs)
            return answer

        return super().admin_view(checked, cacheable)

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", include("annotate.urls")),
    path("", include("training.urls")),
    # Before the last one, which knows that there is no such address.
    path("api/v1/", include("training.api.urls")),
    path("api/v1/", include("annotate.api.urls")),
    # One form changes a password, and it limits guesses.
    path("admin/password_change/", RedirectView.as_view(pattern_name="password")),
    path("admin/", admin.site.urls),
]

handler400 = "annotate.views.errors.bad_request"
handler403 = "annotate.views.errors.forbidden"
handler404 = "annotate.views.errors.not_found"
handler500 = "annotate.views.errors.server_error"

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("annotate.urls")),
    path("", include("training.urls")),
    path("api/v1/", include("annotate.api.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "annotate.views.errors.bad_request"
handler403 = "annotate.views.errors.forbidden"
handler404 = "annotate.views.errors.not_found"
handler500 = "annotate.views.errors.server_error"

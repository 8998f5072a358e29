from django.urls import path

from training import project_pages, views

urlpatterns = [
    path("", project_pages.home, name="home"),
    path("p/<slug:slug>/", project_pages.project, name="project"),
    path("p/<slug:slug>/rounds/", views.round_list, name="rounds"),
    path("p/<slug:slug>/rounds/ready/", views.ready_pairs, name="ready_pairs"),
    path("p/<slug:slug>/rounds/<int:number>/", views.round_page, name="round"),
    path("p/<slug:slug>/rounds/<int:number>/live/", views.round_live, name="round_live"),
    path("p/<slug:slug>/rounds/<int:number>/gallery/", views.gallery, name="gallery"),
    path("p/<slug:slug>/rounds/<int:number>/files/<path:name>", views.round_file, name="round_file"),
    path("p/<slug:slug>/policies/", views.policy_list, name="policies"),
    path("p/<slug:slug>/policies/<int:policy_id>/", views.policy_page, name="policy"),
    path("p/<slug:slug>/comparisons/<int:comparison_id>/policies/", views.shaped_policies, name="shaped"),
]

"""The URLs of the app."""

from django.urls import path

from . import views

urlpatterns = [
    path("", views.runs, name="runs"),
    path("new/", views.new, name="new"),
    path("runs/<uuid:run_id>/", views.run, name="run"),
    path("runs/<uuid:run_id>/events", views.events, name="events"),
    path("runs/<uuid:run_id>/cancel", views.cancel, name="cancel"),
    path("runs/<uuid:run_id>/artifacts/<int:artifact_id>", views.artifact, name="artifact"),
]

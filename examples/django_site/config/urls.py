"""The URLs of the site: its app, logging in and out, and where the runtime sends artifacts."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from django.views.decorators.http import require_POST

urlpatterns = [
    path("", include("runs.urls")),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", require_POST(LogoutView.as_view()), name="logout"),
    path("runtimeuse/", include("runtimeuse_sync.django.urls")),
]

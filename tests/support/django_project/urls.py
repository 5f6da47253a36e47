"""The URLs of the project for tests."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("runtimeuse/", include("runtimeuse_sync.django.urls"))]

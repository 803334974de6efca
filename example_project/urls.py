"""The addresses of the intranet."""

from django.urls import include, path

from example_project import views

urlpatterns = [
    path("", views.start, name="start"),
    path("news/", views.news, name="news"),
    path("expenses/", views.expenses, name="expenses"),
    path("expenses/claim/", views.claim, name="claim"),
    path("salary/", views.salary, name="salary"),
    path("payroll/", views.PayrollView.as_view(), name="payroll"),
    # Nothing here or in the view says that this page needs a step-up: STEPUP["PROTECTED_VIEWS"] does.
    path("account/password/", views.password, name="password"),
    path("oidc/", include("stepup.urls")),
]

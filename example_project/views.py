"""The pages of the intranet, each protected in another way."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from django.views.generic import TemplateView

from example_project import company
from example_project.forms import ClaimForm
from example_project.proofs import proofs
from example_project.receivers import step_up_times
from stepup.decorators import mfa_required
from stepup.mixins import MFARequiredMixin
from stepup.session import evidence


@never_cache
def start(request: HttpRequest) -> HttpResponse:
    """The public front page or, for those signed in, who they are and what this session has proved."""
    if not request.user.is_authenticated:
        return render(request, "example/welcome.html")
    return render(
        request,
        "example/start.html",
        {
            "signed_in_at": request.user.last_login,
            "proofs": proofs(evidence(request), step_up_times(request)),
            "notice": company.NEWS[0],
        },
    )


@login_required
def news(request: HttpRequest) -> HttpResponse:
    """For everyone who is signed in; no step-up needed."""
    return render(request, "example/news.html", {"notices": company.NEWS})


@login_required
def expenses(request: HttpRequest) -> HttpResponse:
    """A form that everyone who is signed in can fill in; sending it is another matter."""
    return render(request, "example/expenses.html", {"form": ClaimForm()})


@require_POST
@mfa_required
def claim(request: HttpRequest) -> HttpResponse:
    """Money leaves the company here. The form is kept while the person steps up, so that nobody fills it in twice."""
    form = ClaimForm(request.POST, request.FILES)
    if not form.is_valid():
        return render(request, "example/expenses.html", {"form": form})
    messages.success(request, f"Your claim of €{form.cleaned_data['amount']} is on its way to you.")
    return redirect("expenses")


@mfa_required
def salary(request: HttpRequest) -> HttpResponse:
    """The employee's own payslip, behind the decorator."""
    payslip = company.PAYSLIPS.get(getattr(request.user, "email", ""))
    return render(
        request,
        "example/salary.html",
        {"payslip": payslip, "month": company.PAY_MONTH, "pay_day": company.PAY_DAY},
    )


class PayrollView(MFARequiredMixin, TemplateView):
    """The monthly payroll by department, behind the mixin."""

    template_name = "example/payroll.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        departments = company.PAYROLL
        return super().get_context_data(
            **kwargs,
            month=company.PAY_MONTH,
            departments=departments,
            people=sum(department.people for department in departments),
            gross=sum(department.gross for department in departments),
            overtime=sum(department.overtime for department in departments),
            total=sum(department.total for department in departments),
        )


def password(request: HttpRequest) -> HttpResponse:
    """The network drive password. Only STEPUP["PROTECTED_VIEWS"] stands in front of it."""
    user = cast("User", request.user)  # nobody gets this far without having signed in
    form = SetPasswordForm(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        # A new password ends the sessions of its user; this one goes on.
        update_session_auth_hash(request, user)
        messages.success(request, "Your network drive password has been changed.")
        return redirect("start")
    return render(request, "example/password.html", {"form": form})

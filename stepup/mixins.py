"""Doors for class-based views, synchronous and asynchronous."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.views.generic import View

from stepup import gate
from stepup.conf import DEFAULT_REQUIREMENT
from stepup.gate import Needs

__all__ = ["MFARequiredMixin", "StepUpRequiredMixin"]


class StepUpRequiredMixin:
    """Let only users through who satisfy :attr:`requirement`. It goes before the view: ``class Page(Mixin, ListView)``.

    Attributes:
        requirement: a name from ``STEPUP["REQUIREMENTS"]``, a :class:`~stepup.Requirement`, or a tuple of several that
            must all be satisfied.
        keep_form: whether a form that is sent to this view is kept until after a step-up.

    Raises:
        TypeError: where a class is defined that puts a view before it, because the view would never ask.
    """

    requirement: Needs = DEFAULT_REQUIREMENT
    keep_form: bool = True
    request: HttpRequest

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if View in cls.__mro__ and cls.__mro__.index(View) < cls.__mro__.index(StepUpRequiredMixin):
            raise TypeError(f"{cls.__qualname__} is not protected: the step-up mixin has to stand before the view.")

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., Any]:
        view: Callable[..., Any] = super().as_view(**initkwargs)  # type: ignore[misc] # View's, as checked above
        # What picks one for each request is called by `dispatch`, with a view at hand.
        picks = cls.get_requirement is not StepUpRequiredMixin.get_requirement
        needs: Any = cls.get_requirement if picks else initkwargs.get("requirement", cls.requirement)
        return gate.mark(view, needs, "mixin", keep_form=initkwargs.get("keep_form", cls.keep_form))

    def get_requirement(self) -> Needs:
        """The requirement for this very request; override it where that depends on something."""
        return self.requirement

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if not self.keep_form:
            gate.keep_no_form(request)
        proceed = super().dispatch  # type: ignore[misc] # View's
        through = gate.aguard if self.view_is_async else gate.guard  # type: ignore[attr-defined] # View's
        return through(request, self.get_requirement(), proceed, *args, **kwargs)


class MFARequiredMixin(StepUpRequiredMixin):
    """Let only users through who have passed multi-factor authentication: the requirement named ``mfa``."""

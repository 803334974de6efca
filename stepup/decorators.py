"""Doors for function-based views, synchronous and asynchronous."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import isclass
from typing import Any, TypeVar, overload

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from stepup import gate
from stepup.conf import DEFAULT_REQUIREMENT
from stepup.gate import Aged, Needs, Single

__all__ = ["mfa_required", "stepup_required"]

View = TypeVar("View", bound=Callable[..., HttpResponseBase | Awaitable[HttpResponseBase]])


@overload
def mfa_required(view: View) -> View: ...
@overload
def mfa_required(
    *, max_age: int | None = None, submit_max_age: int | None = None, keep_form: bool = True
) -> Callable[[View], View]: ...
def mfa_required(
    view: Callable[..., Any] | None = None,
    *,
    max_age: int | None = None,
    submit_max_age: int | None = None,
    keep_form: bool = True,
) -> Any:
    """Let only users through who have passed multi-factor authentication: the requirement named ``mfa``.

    Use it bare or called, on functions only; class-based views take :class:`stepup.mixins.MFARequiredMixin`.

    Args:
        max_age: how many seconds ago they may have authenticated, at the most; in place of the requirement's own. With
            0 it opens once for each time that they do.
        submit_max_age: beside ``max_age``, the same for unsafe methods such as POST: longer, so that a form which was
            opened in time can be sent.
        keep_form: whether a form that is sent to the view is kept until after a step-up.
    """
    door = _door(_aged(DEFAULT_REQUIREMENT, max_age, submit_max_age), keep_form)
    return door if view is None else door(view)


@overload
def stepup_required(requirement: View) -> View: ...
@overload
def stepup_required(
    requirement: Callable[[HttpRequest], Single | tuple[Single, ...]], *, keep_form: bool = True
) -> Callable[[View], View]: ...
@overload
def stepup_required(
    requirement: Single = ...,
    *others: Single,
    max_age: int | None = None,
    submit_max_age: int | None = None,
    keep_form: bool = True,
) -> Callable[[View], View]: ...
def stepup_required(
    requirement: Any = DEFAULT_REQUIREMENT,
    *others: Single,
    max_age: int | None = None,
    submit_max_age: int | None = None,
    keep_form: bool = True,
) -> Any:
    """Let only users through who satisfy a requirement, or several.

    Args:
        requirement: a name from ``STEPUP["REQUIREMENTS"]``, a :class:`~stepup.Requirement`, or a function that takes
            the request and returns either, or a tuple of them. Used bare, as ``@stepup_required``, it is the
            requirement named ``mfa``.
        others: further names or requirements, which must be satisfied too.
        max_age: with one name only: how many seconds ago they may have authenticated, in place of the requirement's
            own. With 0 it opens once for each time that they do.
        submit_max_age: beside ``max_age``, the same for unsafe methods such as POST.
        keep_form: whether a form that is sent to the view is kept until after a step-up.

    Raises:
        TypeError, ValueError: where the view is defined, if these do not go together.
    """
    if others:
        if max_age is not None or submit_max_age is not None:
            raise TypeError("max_age goes with the name of one requirement")
        return _door((requirement, *others), keep_form)
    if max_age is not None or submit_max_age is not None:
        return _door(_aged(requirement, max_age, submit_max_age), keep_form)
    if not callable(requirement):
        return _door(requirement, keep_form)
    bare = _door(DEFAULT_REQUIREMENT, keep_form)(requirement)
    if iscoroutinefunction(requirement):
        return bare

    # Both a view and a function that picks a requirement take a request. Which of the two it was given shows when the
    # result is called: with a view to protect, or with a request to answer.
    @wraps(bare)
    def either(first: Any, *args: Any, **kwargs: Any) -> Any:
        return bare(first, *args, **kwargs) if isinstance(first, HttpRequest) else _door(requirement, keep_form)(first)

    return either


def _aged(name: str, max_age: int | None, submit_max_age: int | None) -> Needs:
    if max_age is None:
        if submit_max_age is not None:
            raise TypeError("submit_max_age goes with max_age")
        return name
    return Aged(name, max_age, submit_max_age)


def _door(needs: Needs, keep_form: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        if isclass(view):
            raise TypeError(f"{view.__qualname__} is a class: use stepup.mixins, or decorate what as_view() returns.")

        if iscoroutinefunction(view) or _is_async_dispatch(view):

            @wraps(view)
            async def protected(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                if not keep_form:
                    gate.keep_no_form(request)
                return await gate.aguard(request, needs, view, *args, **kwargs)

        else:

            @wraps(view)
            def protected(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                if not keep_form:
                    gate.keep_no_form(request)
                # `gate.guard` would do, and hand the arguments over twice.
                refusal = gate.admit(request, needs)
                if refusal is None:
                    return gate.seal(view(request, *args, **kwargs))
                return view(request, *args, **kwargs) if refusal is gate.UNSEALED else refusal

        return gate.mark(protected, needs, keep_form=keep_form)

    return decorate


def _is_async_dispatch(view: Any) -> bool:
    """Whether it is the `dispatch` of an asynchronous class-based view, as `method_decorator` hands it over."""
    return getattr(getattr(getattr(view, "func", view), "__self__", None), "view_is_async", False)

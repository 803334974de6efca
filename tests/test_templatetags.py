"""`{% satisfies %}`."""

from __future__ import annotations

from django.template import engines

from tests.visitor import Visitor


def test_a_template_can_ask_what_is_satisfied(visitor: Visitor) -> None:
    assert visitor.get("/").content.endswith(b"|shut")
    visitor.sign_in()
    assert visitor.get("/").content.endswith(b"|shut")
    visitor.step_up("/decorated/")
    assert visitor.get("/").content.endswith(b"|open")


def test_without_a_request_nothing_is_satisfied() -> None:
    template = engines["django"].from_string('{% load stepup %}{% satisfies "mfa" %}')
    assert template.render({}) == "False"

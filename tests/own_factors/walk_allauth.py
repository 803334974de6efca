"""Run in the project that the how-to makes with django-allauth, which its test puts together."""

from __future__ import annotations

import time
from typing import Any

import pyotp
from django.contrib.auth import get_user_model
from django.test import Client, TestCase

NEXT = "/second-factor/?next=%2Fsalary%2F"
REAUTHENTICATE = "/accounts/2fa/reauthenticate/?next=%2Fsalary%2F"


class CodesOfAllauth(TestCase):
    def setUp(self) -> None:
        self.user = get_user_model().objects.create_user("anna", "anna@harbour.example", "a-password-of-anna")
        self.client = Client()

    def sign_in(self) -> Any:
        return self.client.post("/accounts/login/", {"login": "anna", "password": "a-password-of-anna"})

    def enrol(self) -> str:
        """Set up an authenticator app, on allauth's own pages."""
        self.client.post("/accounts/reauthenticate/", {"password": "a-password-of-anna"})
        page = self.client.get("/accounts/2fa/totp/activate/")
        secret: str = page.context["form"].secret
        set_up = self.client.post("/accounts/2fa/totp/activate/", {"code": pyotp.TOTP(secret).now()})
        assert set_up.status_code == 302, set_up.content
        return secret

    def code(self, secret: str) -> str:
        code: str = pyotp.TOTP(secret).at(int(time.time()) + 30)  # the next one: each is good once
        return code

    def test_the_page_opens_after_a_code_and_not_before(self) -> None:
        self.sign_in()
        secret = self.enrol()
        self.assertRedirects(self.client.get("/salary/"), NEXT, fetch_redirect_response=False)
        self.assertRedirects(self.client.get(NEXT), REAUTHENTICATE, fetch_redirect_response=False)
        self.assertEqual(self.client.get(REAUTHENTICATE).status_code, 200)
        key = self.client.cookies["sessionid"].value

        self.assertEqual(self.client.post(REAUTHENTICATE, {"code": "wrong"}).status_code, 200)
        self.assertEqual(self.client.get("/salary/").status_code, 302)
        opened = self.client.post(REAUTHENTICATE, {"code": self.code(secret)})

        self.assertRedirects(opened, "/salary/", fetch_redirect_response=False)
        self.assertEqual(self.client.get("/salary/").content, b"You earn a lot.")
        self.assertNotEqual(self.client.cookies["sessionid"].value, key)

    def test_who_signs_in_with_a_code_is_not_asked_again(self) -> None:
        self.sign_in()
        secret = self.enrol()
        self.client.post("/accounts/logout/")

        asked = self.sign_in()
        self.assertRedirects(asked, "/accounts/2fa/authenticate/", fetch_redirect_response=False)
        self.assertEqual(self.client.get("/salary/").status_code, 302)
        entered = self.client.post("/accounts/2fa/authenticate/", {"code": self.code(secret)})

        self.assertEqual(entered.status_code, 302)
        self.assertEqual(self.client.get("/salary/").content, b"You earn a lot.")

    def test_who_has_no_second_factor_is_sent_to_set_one_up_and_a_password_opens_nothing(self) -> None:
        self.sign_in()
        self.assertRedirects(self.client.get("/salary/"), NEXT, fetch_redirect_response=False)
        self.assertEqual(self.client.get(NEXT)["Location"], "/accounts/2fa/totp/activate/")
        self.client.post("/accounts/reauthenticate/?next=/salary/", {"password": "a-password-of-anna"})
        self.assertEqual(self.client.get("/salary/").status_code, 302)

    def test_who_is_not_signed_in_signs_in_first(self) -> None:
        asked = self.client.get("/salary/", follow=True)
        self.assertEqual(asked.redirect_chain[-1][0], "/accounts/login/?next=/second-factor/%3Fnext%3D%252Fsalary%252F")

    def test_it_leads_nowhere_but_to_this_site(self) -> None:
        self.sign_in()
        secret = self.enrol()
        sent = self.client.get("/second-factor/?next=https://evil.example/")["Location"]
        answer = self.client.post(sent, {"code": self.code(secret)})
        self.assertNotIn("evil.example", answer["Location"])

"""Run in the project that the how-to makes with django-otp, which its test puts together."""

from __future__ import annotations

import base64
import time
from typing import Any

import pyotp
from django.contrib.auth import get_user_model
from django.test import Client, TestCase
from django_otp.plugins.otp_totp.models import TOTPDevice

from stepup.testing.driver import Person

NEXT = "/second-factor/?next=%2Fsalary%2F"


class OneTimeCodes(TestCase):
    def setUp(self) -> None:
        self.client = Client()
        self.anna = Person("anna", "anna-password")

    def sign_in(self, challenge: Any) -> Any:
        """At the OP, with a password alone."""
        back = self.anna.authenticate(challenge["Location"], factor=None)
        return self.client.get(back.removeprefix("http://testserver"))

    def enrol(self) -> TOTPDevice:
        return TOTPDevice.objects.create(user=get_user_model().objects.get(), name="phone")

    def code(self, device: TOTPDevice, offset: int = 0) -> str:
        secret = base64.b32encode(device.bin_key).decode()
        code: str = pyotp.TOTP(secret).at(int(time.time()) + 30 * offset)
        return code

    def send(self, device: TOTPDevice, code: str, at: str = NEXT) -> Any:
        return self.client.post(at, {"otp_device": device.persistent_id, "otp_token": code})

    def test_the_page_opens_after_a_code_and_not_before(self) -> None:
        asked = self.client.get("/salary/")
        self.assertRedirects(asked, NEXT, fetch_redirect_response=False)
        to_sign_in = self.client.get(asked["Location"])
        self.assertTrue(to_sign_in["Location"].startswith("/oidc/authenticate/?next="))
        back = self.sign_in(self.client.get(to_sign_in["Location"]))
        self.assertRedirects(back, NEXT, fetch_redirect_response=False)
        device = self.enrol()
        self.assertRedirects(self.client.get("/salary/"), NEXT, fetch_redirect_response=False)
        key = self.client.cookies["sessionid"].value

        opened = self.send(device, self.code(device))

        self.assertRedirects(opened, "/salary/", fetch_redirect_response=False)
        self.assertEqual(self.client.get("/salary/").content, b"You earn a lot.")
        self.assertNotEqual(self.client.cookies["sessionid"].value, key)
        thief = Client()
        thief.cookies["sessionid"] = key
        self.assertEqual(thief.get("/salary/").status_code, 302)

    def test_a_code_that_is_wrong_or_used_opens_nothing(self) -> None:
        self.sign_in(self.client.get("/oidc/authenticate/"))
        device = self.enrol()
        self.assertEqual(self.send(device, "000000" if self.code(device) != "000000" else "000001").status_code, 200)
        self.assertEqual(self.client.get("/salary/").status_code, 302)
        time.sleep(1.1)  # django-otp has people wait after a guess
        code = self.code(device)
        self.assertEqual(self.send(device, code).status_code, 302)
        self.client.post("/oidc/logout/")
        self.anna = Person("anna", "anna-password")
        self.sign_in(self.client.get("/oidc/authenticate/"))
        self.assertEqual(self.send(device, code).status_code, 200)
        self.assertEqual(self.client.get("/salary/").status_code, 302)

    def test_it_leads_nowhere_but_to_this_site(self) -> None:
        self.sign_in(self.client.get("/oidc/authenticate/"))
        device = self.enrol()
        answer = self.send(device, self.code(device), "/second-factor/?next=https://evil.example/")
        self.assertEqual(answer["Location"], "/")

    def test_a_step_up_at_the_provider_afterwards_is_no_other_user_s(self) -> None:
        self.sign_in(self.client.get("/oidc/authenticate/"))
        device = self.enrol()
        self.send(device, self.code(device))
        again = self.sign_in(self.client.get("/oidc/authenticate/"))
        self.assertEqual(again.status_code, 302)
        self.assertEqual(self.client.get("/salary/").content, b"You earn a lot.")

"""A form that was sent before its step-up is kept, shown, and sent once."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.models import Session
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest
from django.test import AsyncClient, Client, RequestFactory
from django.urls import clear_url_caches

from stepup import clock, conf, kept, session, vault
from stepup.models import SessionLink
from stepup.testing.driver import Person
from stepup.testing.provider.launcher import RunningProvider
from tests.kept_urls import DOORS, GUARDED, SEEN
from tests.threads import closing_connections
from tests.visitor import Visitor, query

#: As a browser sends a form of this site.
OWN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
ANNA = "anna@harbour.example"
GUARD = "tests.kept_urls.Guard"
CROSS = {**OWN, "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}

#: Names that stand twice, other scripts, nothing at all, and what has a meaning in a form.
FIELDS = {
    "amount": ["1200", "1300"],
    "to": ["Zoë Ångström 李"],
    "note": [""],
    "a&b=c": ["x&y=z +%41;\r\nnext"],
    "naïve": ["</script><b>"],
}


@pytest.fixture(autouse=True)
def site(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = "tests.kept_urls"
    settings.STEPUP = {
        **settings.STEPUP,
        "REQUIREMENTS": {"sudo": {"max_age": 300}, "never": {"acr": ["urn:never"]}},
        "PROTECTED_VIEWS": {"by-name": "mfa", "by-name-async": "mfa", "by-name-method": "mfa"},
    }
    SEEN.clear()
    clear_url_caches()
    yield
    clock.offset = 0.0
    clear_url_caches()


class Browser(Visitor):
    """A person whose browser sends forms, and whose site checks them."""

    is_async = False

    def __init__(self, username: str) -> None:
        super().__init__(username)
        self.client = Client(enforce_csrf_checks=True)

    def send(self, path: str, data: Any = None, *, headers: dict[str, str] | None = None, **options: Any) -> Any:
        """Send a request as it is."""
        headers = OWN if headers is None else headers
        if not self.is_async:
            return self.client.post(path, data or {}, headers=headers, **options)
        client: Any = AsyncClient(enforce_csrf_checks=True)
        client.cookies = self.client.cookies
        response = async_to_sync(client.post)(path, data or {}, headers=headers, **options)
        self.client.cookies = client.cookies
        return response

    def fill_in(self, path: str, fields: dict[str, Any], *, encoded: bool = False, **options: Any) -> Any:
        """Open the page with the form, and send it: as multipart, or URL-encoded."""
        fields = {"csrfmiddlewaretoken": self.client.get("/form/").content.decode(), **fields}
        if encoded:
            options["content_type"] = "application/x-www-form-urlencoded"
            return self.send(path, urlencode(fields, doseq=True), **options)
        return self.send(path, fields, **options)

    def confirm(self, challenge: Any, factor: Any = "push") -> Any:
        """Step up, and come to the page that shows the form."""
        back = self.come_back(self.authenticate(challenge, factor))
        assert back["Location"].startswith("/oidc/authenticate/?kept="), back.content
        return self.client.get(back["Location"])

    def press(self, page: Any, **changes: Any) -> Any:
        """Press the button of the page."""
        assert page.status_code == 200, page.content
        return self.send(page.context["action"], {"csrfmiddlewaretoken": str(page.context["csrf_token"])}, **changes)


@pytest.fixture
def browse(op: RunningProvider) -> Callable[[str], Browser]:
    return Browser


@pytest.fixture
def anna(op: RunningProvider) -> Browser:
    """Anna, signed in with a password."""
    browser = Browser("anna")
    browser.sign_in()
    return browser


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_gone(response: Any, caplog: pytest.LogCaptureFixture, reason: str) -> bool:
    """Whether this is the page that says so, and the log says why."""
    said = [vars(record)["reason"] for record in caplog.records if getattr(record, "event", "") == "form_refused"]
    assert "no-store" in response["Cache-Control"]
    return (
        response.status_code == 410
        and "This was sent already, or is no longer there" in response.content.decode()
        and bool(said)
        and said[-1] == reason
    )


# What arrives is what was sent


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_form_arrives_at_each_door_as_it_was_sent_and_once(anna: Browser, path: str, is_async: bool) -> None:
    anna.is_async = is_async

    challenge = anna.fill_in(f"{path}?id=7&id=8", FIELDS, encoded=True)
    assert (challenge.status_code, SEEN) == (303, [])
    page = anna.confirm(challenge)
    assert SEEN == []
    answer = anna.press(page)

    assert answer.status_code == 200
    (seen,) = SEEN
    assert seen["path"] == f"{path}?id=7&id=8"
    assert seen["get"] == {"id": ["7", "8"]}
    assert seen["post"] == FIELDS
    assert (seen["type"], seen["files"], seen["user"]) == (
        "application/x-www-form-urlencoded",
        [],
        ANNA,
    )
    assert seen["length"]


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("is_async", [False, True])
def test_files_arrive_at_each_door_byte_for_byte(anna: Browser, path: str, is_async: bool) -> None:
    anna.is_async = is_async
    contents = [bytes(range(256)) * 1000, b"", b"\r\n--boundary--\r\n"]
    names = ["käse & <co>.bin", "leer.txt", "a&amp;amp;b.txt"]
    types = ["application/octet-stream", "text/plain", "text/csv; charset=latin-1"]
    files = [SimpleUploadedFile(*each) for each in zip(names, contents, types, strict=True)]

    page = anna.confirm(anna.fill_in(path, {**FIELDS, "paper": files}))
    assert [row["size"] for row in page.context["shown"]["rows"] if row["name"] == "paper"] == list(map(len, contents))
    anna.press(page)

    (seen,) = SEEN
    assert seen["post"] == FIELDS
    assert [(name, digest) for name, _, _, _, digest in seen["files"]] == [("paper", sha256(c)) for c in contents]
    assert [name for _, name, _, _, _ in seen["files"]] == ["käse & <co>.bin", "leer.txt", "a&amp;b.txt"]
    assert [(kind, charset) for _, _, kind, charset, _ in seen["files"]] == [
        ("application/octet-stream", None),
        ("text/plain", None),
        ("text/csv", "latin-1"),
    ]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"amount": 1200, "to": ["Zo\xc3\xab"], "pin": "4711"}'),
        ("application/vnd.api+json; charset=utf-8", b"[]"),
        ("application/json", b"{no json"),
        ("application/json", b"[" * 100_000),
        ("application/xml", b"<pay amount='1200'/>"),
        ("text/plain", b"amount=1200\r\n"),
        ("application/octet-stream", bytes(range(256))),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_any_other_body_arrives_as_it_is(anna: Browser, kind: str, body: bytes, is_async: bool) -> None:
    anna.is_async = is_async

    anna.press(anna.confirm(anna.send("/exempt/?x=1", body, content_type=kind)))

    (seen,) = SEEN
    assert base64.b64decode(seen["body"]) == body
    assert (seen["header"], seen["path"], seen["post"]) == (kind, "/exempt/?x=1", {})


@pytest.mark.parametrize("encoded", [False, True])
def test_a_form_with_nothing_in_it_arrives_too(anna: Browser, encoded: bool) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", {}, encoded=encoded))
    anna.press(page)

    (seen,) = SEEN
    assert (seen["post"], len(seen["token"])) == ({}, 1)


def test_a_request_without_a_content_type_arrives_without_one(anna: Browser) -> None:
    anna.press(anna.confirm(anna.send("/exempt/", b"x", content_type="")))

    (seen,) = SEEN
    assert (seen["header"], base64.b64decode(seen["body"])) == ("", b"x")


def test_the_view_takes_it_apart_with_its_own_upload_handlers(anna: Browser) -> None:
    paper = SimpleUploadedFile("a.txt", b"quiet", "text/plain")

    anna.press(anna.confirm(anna.fill_in("/uploading/", {"paper": paper})))

    (seen,) = SEEN
    assert seen["files"] == [("paper", "a.txt", "text/plain", None, sha256(b"QUIET"))]


def test_the_view_sees_the_page_that_the_form_came_from(anna: Browser) -> None:
    referer = "http://testserver/form/?page=2"

    anna.press(anna.confirm(anna.fill_in("/decorated/", FIELDS, headers={**OWN, "Referer": referer})))

    assert SEEN[0]["referer"] == referer


def test_a_form_without_a_step_up_to_wait_for_is_just_sent(anna: Browser) -> None:
    anna.come_back(anna.authenticate(anna.client.get("/decorated/")))

    assert anna.fill_in("/decorated/", FIELDS).status_code == 200
    assert len(SEEN) == 1
    assert "stepup_forms" not in anna.session


# The page


def test_the_page_shows_what_is_about_to_be_sent_and_hides_what_is_secret(anna: Browser) -> None:
    fields = {
        "amount": "1200",
        "note": "",
        "old_password": "hunter2hunter2",
        "cardNumber": "4242424242424242",
        "userPin": "9876",
        "api-token": "t0k3n-t0k3n",
        "cvv2": "737",
        "pin": "",
        "shipping": "by sea",
        "opinion": "mine",
        "long": "x" * 999,
    }

    page = anna.confirm(anna.fill_in("/decorated/?id=7", fields, encoded=True))

    rows = {row["name"]: row["value"] for row in page.context["shown"]["rows"]}
    assert rows == {
        "amount": "1200",
        "note": "",
        "old_password": "••••••••",
        "cardNumber": "••••••••",
        "userPin": "••••••••",
        "api-token": "••••••••",
        "cvv2": "••••••••",
        "pin": "",
        "shipping": "by sea",
        "opinion": "mine",
        "long": "x" * 200 + "…",
    }
    content = page.content.decode()
    for secret in ("hunter2hunter2", "4242424242424242", "9876", "t0k3n-t0k3n", "737<"):
        assert secret not in content
    assert "/decorated/?id=7" in content
    assert "no-store" in page["Cache-Control"]
    assert page["X-Frame-Options"] == "DENY"
    assert page.templates[0].name == "stepup/kept.html"


def test_the_page_shows_json_with_what_is_secret_in_it_hidden(anna: Browser) -> None:
    body = json.dumps(
        {"amount": 1200, "to": [{"iban": "DE1", "secretWord": {"deep": 1}}], "long": "y" * 999, "ok": True}
    )

    page = anna.confirm(anna.send("/exempt/", body, content_type="application/json"))

    shown = page.context["shown"]["text"]
    assert json.loads(shown) == {
        "amount": 1200,
        "to": [{"iban": "DE1", "secretWord": "••••••••"}],
        "long": "y" * 200 + "…",
        "ok": True,
    }
    assert '\n  "amount": 1200' in shown


def test_the_page_shows_of_a_large_form_the_beginning(anna: Browser) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", {f"f{number}": "1" for number in range(50)}, encoded=True))
    assert (len(page.context["shown"]["rows"]), page.context["shown"]["more"]) == (40, 10)
    assert "and 10 more fields" in page.content.decode()


def test_the_page_shows_of_much_json_the_beginning(anna: Browser) -> None:
    body = json.dumps(list(range(1000)))
    page = anna.confirm(anna.send("/exempt/", body, content_type="application/json"))
    assert len(page.context["shown"]["text"]) == 3001


@pytest.mark.parametrize("depth", [19, 300])
def test_what_the_page_shows_of_json_takes_little_room(depth: int) -> None:
    body = ("[" * depth + ",".join(["1"] * 400_000) + "]" * depth).encode()
    request = make(body, "application/json")
    assert len(request.body) == len(body)

    tracemalloc.start()
    form = kept._form_of(request, None, path="/a/", back="/", most=len(body))
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 1_000_000
    assert (form.shown["text"], form.shown["size"]) == ("", len(body))


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data", "application/json", "x/y"]
)
def test_what_the_page_shows_of_whatever_it_is_is_little(settings: Any, kind: str) -> None:
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = settings.DATA_UPLOAD_MAX_NUMBER_FILES = None
    many = {f"{number}{'n' * 300}": "v" * 300 for number in range(1100)}
    files = [("paper", SimpleUploadedFile("f" * 240, b"x")) for _ in range(1100)]
    if kind == "multipart/form-data":
        request: Any = RequestFactory().post("/a/", {**many, "paper": [file for _name, file in files]})
    else:
        body = urlencode(many) if "form" in kind else json.dumps(many)
        request = RequestFactory().post("/a/", body, content_type=kind + "n" * 5000 * (kind == "x/y"))
    request.META["HTTP_SEC_FETCH_SITE"] = "same-origin"
    request.user = User()

    form = read(request, 10_000_000)

    assert len(json.dumps(form.shown)) < 40 * 2000
    assert len(form.shown["rows"]) == (40 if "form" in kind else 0)
    assert form.shown["more"] == {"multipart/form-data": 2160, "application/x-www-form-urlencoded": 1060}.get(kind, 0)
    assert len(form.shown["kind"]) <= 201


def test_of_a_field_whose_name_nobody_reads_to_the_end_the_value_is_not_shown(anna: Browser) -> None:
    name = "n" * 250 + "_password"
    page = anna.confirm(anna.fill_in("/decorated/", {name: "hunter2"}))

    assert [row["value"] for row in page.context["shown"]["rows"]] == ["••••••••"]


def test_the_page_shows_of_fields_and_files_together_so_many(anna: Browser) -> None:
    papers = [SimpleUploadedFile(f"{number}.txt", b"x") for number in range(5)]

    page = anna.confirm(anna.fill_in("/decorated/", {**{f"f{number}": "1" for number in range(38)}, "paper": papers}))

    assert [row["value"] for row in page.context["shown"]["rows"][-3:]] == ["1", "0.txt", "1.txt"]
    assert page.context["shown"]["more"] == 3


def test_the_page_shows_of_anything_else_its_kind_and_size(anna: Browser) -> None:
    page = anna.confirm(anna.send("/exempt/", b"<password>hunter2</password>", content_type="text/xml"))

    assert "hunter2" not in page.content.decode()
    assert "Data of the kind “text/xml”, 28" in page.content.decode()


def test_what_a_form_says_is_text_and_no_markup_on_the_page(anna: Browser) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", {"<i>": "</script><script>alert(1)</script>"}, encoded=True))

    assert "<i>" not in page.content.decode()
    assert "<script>alert" not in page.content.decode()
    assert page.content.decode().count("<script") == 1, "our own, which is a file"


@pytest.mark.parametrize(
    ("headers", "sends_by_itself"),
    [
        (OWN, True),
        ({"Origin": "http://testserver"}, True),
        ({"Origin": "https://testserver"}, None),
        ({}, False),
        ({**OWN, "Sec-Fetch-Site": "same-site"}, False),
        ({**OWN, "Sec-Fetch-Site": "none"}, False),
    ],
)
def test_only_a_form_of_this_very_site_by_itself(
    anna: Browser, headers: dict[str, str], sends_by_itself: bool | None
) -> None:
    sent = anna.fill_in("/decorated/", {"amount": "1200"}, headers=headers)
    if sends_by_itself is None:
        assert sent.status_code == 403, "Django's own check refuses it"
        return
    page = anna.confirm(sent)

    assert (page.context["countdown"] == 5) is sends_by_itself
    assert ("kept.js" in page.content.decode()) is sends_by_itself
    assert anna.press(page).status_code == 200
    assert SEEN[0]["post"] == {"amount": ["1200"]}


@pytest.mark.parametrize("depth", [19, 21, 900, 4000])
def test_what_is_nested_deeply_is_laid_out_for_nobody(anna: Browser, depth: int) -> None:
    body = b'{"a":' * depth + b"1" + b"}" * depth
    page = anna.confirm(anna.send("/exempt/", body, content_type="application/json"))
    text = page.context["shown"]["text"]
    assert len(text) <= 3001
    assert ("…" in text) is (20 < depth < 4000)
    assert anna.press(page).status_code == 200
    assert base64.b64decode(SEEN[0]["body"]) == body


@pytest.mark.parametrize(("length", "is_shown"), [(10_000, True), (10_001, False)])
def test_a_large_json_body_is_not_laid_out(anna: Browser, length: int, is_shown: bool) -> None:
    body = b'["' + b"x" * (length - 4) + b'"]'
    page = anna.confirm(anna.send("/exempt/", body, content_type="application/json"))
    assert bool(page.context["shown"]["text"]) is is_shown


def test_half_a_character_is_shown_and_sent_as_it_is(anna: Browser) -> None:
    body = rb'{"a": "\ud800", "\udfff": 1}'
    page = anna.confirm(anna.send("/exempt/", body, content_type="application/json"))
    assert "\\ud800" in page.context["shown"]["text"]
    assert anna.press(page).status_code == 200
    assert base64.b64decode(SEEN[0]["body"]) == body


def test_a_form_is_kept_for_the_host_that_it_was_sent_to(anna: Browser, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    other = {**OWN, "Host": "localhost"}
    assert anna.press(page, headers=other).status_code == 410
    assert anna.client.get(page.wsgi_request.get_full_path(), headers=other).status_code == 410
    assert SEEN == []
    assert anna.press(page).status_code == 200


HIDDEN = [
    "/not-keeping-method/",
    "/not-keeping-method-inside/",
    "/not-keeping-method-by-name/",
    "/not-keeping-hidden-raised/",
    "/not-keeping-hidden-as-view/",
    "/not-keeping-hidden/",
    "/not-keeping-hidden-class/",
    "/not-keeping-hidden-async/",
]


@pytest.mark.parametrize("path", HIDDEN)
def test_a_door_that_nobody_sees_on_the_view_keeps_no_form_either(
    anna: Browser, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "stepup"):
        sent = anna.fill_in(path, FIELDS)
    assert sent.status_code == 403
    assert [each.reason for each in caplog.records if getattr(each, "event", "") == "form_not_kept"] == ["off"]  # type: ignore[attr-defined]


def test_a_form_can_be_discarded(anna: Browser, caplog: pytest.LogCaptureFixture) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS, headers={**OWN, "Referer": "/form/?page=2"}))

    token = {"csrfmiddlewaretoken": str(page.context["csrf_token"])}
    left = anna.send(page.context["discard_url"], token)

    assert (left.status_code, left["Location"]) == (303, "/form/?page=2")
    assert "stepup_forms" not in anna.session
    assert is_gone(anna.press(page), caplog, "unknown")
    assert is_gone(anna.send(page.context["discard_url"], token), caplog, "unknown")
    assert SEEN == []


def test_a_foreign_page_cannot_discard_a_form(anna: Browser) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))

    assert anna.send(page.context["discard_url"], {}).status_code == 403
    assert anna.press(page).status_code == 200


def test_the_view_that_starts_a_sign_in_takes_no_other_post(anna: Browser) -> None:
    token = anna.client.get("/form/").content.decode()
    response = anna.send("/oidc/authenticate/", {"csrfmiddlewaretoken": token})
    assert (response.status_code, response["Allow"]) == (405, "GET")


# Whose it is, and how often


def test_a_form_is_sent_once(anna: Browser, caplog: pytest.LogCaptureFixture) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))

    assert anna.press(page).status_code == 200
    assert is_gone(anna.press(page), caplog, "unknown")
    assert is_gone(anna.client.get(page.wsgi_request.get_full_path()), caplog, "unknown")
    assert len(SEEN) == 1


def test_of_two_presses_at_the_same_moment_one_counts(anna: Browser, caplog: pytest.LogCaptureFixture) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    as_it_was = dict(anna.session.items())
    anna.press(page)
    # The other request had read the session, and the form, before the first one took it.
    (entry,) = as_it_was["stepup_forms"].values()
    now = anna.session
    now["stepup_forms"] = as_it_was["stepup_forms"]
    now.save()
    again = type(now)()
    again["stepup_forms"] = locked_again(page)
    again._session_key = entry["key"]
    again.save(must_create=True)

    assert is_gone(anna.press(page), caplog, "used")
    assert len(SEEN) == 1


@pytest.mark.parametrize("engine", ["cache", "file"])
def test_of_many_presses_at_the_same_moment_one_counts(settings: Any, engine: str, tmp_path: Path) -> None:
    settings.SESSION_FILE_PATH = str(tmp_path)
    store_class = import_module(f"django.contrib.sessions.backends.{engine}").SessionStore
    user, current = User(pk=1, username="anna"), conf.current()

    def request_of(store: Any) -> Any:
        request: Any = RequestFactory().post("/a/")
        request.user, request.session = user, store
        return request

    first = request_of(store_class())
    first.session.create()
    assert session.keep_form(first, "id", "a form", current, now=clock.now())
    first.session.save()
    requests = [request_of(store_class(first.session.session_key)) for _ in range(20)]
    assert all(session.kept_form(each, "id", current, now=clock.now()) == "a form" for each in requests)

    with ThreadPoolExecutor(len(requests)) as pool:
        take = closing_connections(lambda each: session.take_form(each, "id", current, now=clock.now()))
        took = list(pool.map(take, requests))

    assert took.count(True) == 1


def locked_again(page: Any) -> str:
    form = kept.Form(
        id=query(page.wsgi_request.get_full_path())["kept"],
        requirement=None,
        path="/decorated/",
        content_type="text/plain",
        referer="",
        back="/",
        by_itself=True,
        host="testserver",
        shown={},
        body=b"",
    )
    return vault.lock(form.pack(), purpose="kept form")


def test_a_form_is_for_the_user_who_filled_it_in(anna: Browser, caplog: pytest.LogCaptureFixture) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    store = anna.session
    store["stepup_forms"] = {key: {**entry, "user": "4711"} for key, entry in store["stepup_forms"].items()}
    store.save()

    assert is_gone(anna.press(page), caplog, "unknown")
    assert is_gone(anna.client.get(page.context["discard_url"]), caplog, "unknown")
    assert SEEN == []


@pytest.mark.parametrize("name", ["anna", "ben"])
def test_a_form_is_for_the_session_that_it_was_filled_in_in(
    anna: Browser, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    other = Browser(name)
    other.come_back(other.authenticate(other.client.get("/decorated/"), "totp"))
    token = {"csrfmiddlewaretoken": other.client.get("/form/").content.decode()}

    assert is_gone(other.send(page.context["action"], token), caplog, "unknown")
    assert is_gone(other.client.get(page.context["discard_url"]), caplog, "unknown")
    assert SEEN == []
    assert anna.press(page).status_code == 200


def test_signing_out_ends_a_form(anna: Browser, caplog: pytest.LogCaptureFixture) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    token = {"csrfmiddlewaretoken": anna.client.get("/form/").content.decode()}
    anna.send("/oidc/logout/", token)

    assert is_gone(anna.press(page), caplog, "not signed in")
    anna.come_back(anna.authenticate(anna.client.get("/decorated/")))
    token = {"csrfmiddlewaretoken": anna.client.get("/form/").content.decode()}
    assert is_gone(anna.send(page.context["action"], token), caplog, "unknown")
    assert SEEN == []


@pytest.mark.parametrize(
    "change",
    [
        lambda action: action.replace("/decorated/", "/decorated/other/"),
        lambda action: action.replace("/decorated/", "/open/"),
        lambda action: action.replace("id=7", "id=8"),
        lambda action: action.replace("id=7&", ""),
        lambda action: f"{action}&id=8",
    ],
)
def test_a_form_goes_where_it_was_sent_to(
    anna: Browser, change: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    page = anna.confirm(anna.fill_in("/decorated/?id=7", FIELDS))
    token = {"csrfmiddlewaretoken": str(page.context["csrf_token"])}

    assert is_gone(anna.send(change(page.context["action"]), token), caplog, "path")
    assert SEEN == []
    assert anna.press(page).status_code == 200


@pytest.mark.parametrize("path", [*DOORS, "/open/"])
@pytest.mark.parametrize("mark", ["stepup_kept=unknown", "stepup_kept=", "stepup_kept=a&stepup_kept=b"])
@pytest.mark.parametrize("is_async", [False, True])
def test_no_view_runs_with_the_empty_form_that_stands_for_one_that_is_gone(
    anna: Browser, path: str, mark: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    anna.is_async = is_async
    assert is_gone(anna.fill_in(f"{path}?{mark}", {}), caplog, "unknown")
    assert SEEN == []


@pytest.mark.parametrize("path", ["/decorated/", "/decorated-async/", "/class/", "/class-async/"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_door_on_a_view_needs_no_middleware(
    anna: Browser, settings: Any, path: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if "StepUpMiddleware" not in each]
    anna.client = with_cookies(anna)
    anna.is_async = is_async
    page = anna.confirm(anna.fill_in(path, FIELDS))

    assert anna.press(page).status_code == 200
    assert SEEN[0]["post"] == FIELDS
    assert is_gone(anna.press(page), caplog, "unknown")


def with_cookies(browser: Browser) -> Client:
    """The same browser, at a site whose settings have changed."""
    client = Client(enforce_csrf_checks=True)
    client.cookies = browser.client.cookies
    return client


@pytest.mark.parametrize("guard", ["after", "before", "without"])
def test_middleware_sees_the_form_when_its_view_is_known_and_what_stands_for_it_before(
    anna: Browser, settings: Any, guard: str
) -> None:
    step_up = "stepup.middleware.StepUpMiddleware"
    stand = {"after": [step_up, GUARD], "before": [GUARD, step_up], "without": [GUARD]}[guard]
    settings.MIDDLEWARE = [*(each for each in settings.MIDDLEWARE if each != step_up), *stand]
    anna.client = with_cookies(anna)
    page = anna.confirm(anna.fill_in("/decorated/", {"amount": "1200"}))
    GUARDED.clear()

    assert anna.press(page).status_code == 200

    seen = ("view", "1200", False) if guard == "after" else ("view", None, True)
    assert [("request", None, True), seen] == GUARDED


def test_middleware_that_refuses_a_form_when_its_view_is_known_refuses_one_that_was_kept(
    anna: Browser, settings: Any
) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", {"amount": "too much"}))
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, GUARD]
    anna.client = with_cookies(anna)

    assert anna.press(page).status_code == 418
    assert SEEN == []


def test_a_query_that_only_looks_as_if_it_stood_for_a_form_is_one_like_any_other(anna: Browser) -> None:
    assert anna.fill_in("/open/?q=stepup_kept=1&not_stepup_kept=2", FIELDS).status_code == 200
    assert SEEN[0]["path"] == "/open/?q=stepup_kept=1&not_stepup_kept=2"


def test_a_form_expires(anna: Browser, caplog: pytest.LogCaptureFixture) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    clock.offset = conf.current().pending_max_age + 5

    assert is_gone(anna.press(page), caplog, "unknown")
    assert is_gone(anna.client.get(page.context["discard_url"]), caplog, "unknown")
    assert SEEN == []


def test_a_form_whose_store_is_gone_is_gone(anna: Browser, caplog: pytest.LogCaptureFixture) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    (entry,) = anna.session["stepup_forms"].values()
    anna.session.delete(entry["key"])

    assert is_gone(anna.press(page), caplog, "unknown")


def test_a_form_that_was_changed_in_its_store_is_refused(
    anna: Browser, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    (entry,) = anna.session["stepup_forms"].values()
    store = type(anna.session)(entry["key"])
    store["stepup_forms"] = f"{store['stepup_forms'][:-8]}AAAAAAA="
    store.save()

    assert is_gone(anna.press(page), caplog, "unreadable")
    assert SEEN == []


def test_a_form_that_another_version_has_kept_is_refused(anna: Browser, caplog: pytest.LogCaptureFixture) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    (entry,) = anna.session["stepup_forms"].values()
    store = type(anna.session)(entry["key"])
    for head in ("", '{"id": "1"}', "[]", '{"requirement": null}', '{"requirement": "mfa"}', '{"requirement": {}}'):
        packed = f"{head}\nbody".encode()
        store["stepup_forms"] = vault.lock(packed, purpose="kept form")
        store.save()
        assert is_gone(anna.press(page), caplog, "unreadable")


def test_two_forms_in_two_tabs_do_not_mix(anna: Browser) -> None:
    one, other = anna.fill_in("/decorated/", {"n": "1"}), anna.fill_in("/decorated/", {"n": "2"})

    page = anna.confirm(other)
    first = anna.confirm(one)
    anna.press(page)
    anna.press(first)

    assert [seen["post"] for seen in SEEN] == [{"n": ["2"]}, {"n": ["1"]}]


def test_a_session_has_a_few_forms_and_drops_the_oldest(anna: Browser) -> None:
    challenges = []
    for number in range(7):
        clock.offset = float(number)
        challenges.append(anna.fill_in("/decorated/", {"n": str(number)}))

    assert len(anna.session["stepup_forms"]) == 5
    assert Session.objects.count() == 1 + 5
    anna.press(anna.confirm(challenges[2]))
    assert SEEN[0]["post"] == {"n": ["2"]}
    back = anna.come_back(anna.authenticate(challenges[0]))
    assert anna.client.get(back["Location"]).status_code == 410


# Somebody who is not signed in


@pytest.mark.parametrize("path", DOORS)
def test_a_visitor_signs_in_and_steps_up_in_one_trip_and_the_form_is_there(
    browse: Callable[[str], Browser], path: str
) -> None:
    anna = browse("anna")

    page = anna.confirm(anna.fill_in(path, FIELDS))
    assert page.context["countdown"] == 0, "somebody else may have signed in, at a computer of many"
    anna.press(page)

    assert (SEEN[0]["post"], SEEN[0]["user"]) == (FIELDS, ANNA)


def test_a_form_of_a_visitor_belongs_to_who_signs_in_first(
    browse: Callable[[str], Browser], caplog: pytest.LogCaptureFixture
) -> None:
    anna = browse("anna")
    anna.confirm(anna.fill_in("/decorated/", FIELDS))
    (entry,) = anna.session["stepup_forms"].values()
    assert entry["user"] == anna.session["_auth_user_id"]


def test_nobody_opens_a_form_before_signing_in(
    browse: Callable[[str], Browser], caplog: pytest.LogCaptureFixture
) -> None:
    anna = browse("anna")
    challenge = anna.fill_in("/decorated/", FIELDS)
    (id,) = anna.session["stepup_forms"]  # noqa: A001

    assert is_gone(anna.client.get(f"/oidc/authenticate/?kept={id}"), caplog, "not signed in")
    anna.press(anna.confirm(challenge))
    assert SEEN[0]["post"] == FIELDS


def test_a_visitor_gets_little_room(browse: Callable[[str], Browser], anna: Browser) -> None:
    large = {"paper": SimpleUploadedFile("a.bin", b"x" * (kept.ANONYMOUS_BYTES + 1))}

    answer = browse("anna").fill_in("/decorated/", large)

    assert (answer.status_code, SEEN) == (403, [])
    large["paper"].seek(0)
    assert anna.fill_in("/decorated/", large).status_code == 303


# When the step-up does not come off, or does not last


def test_a_step_up_that_was_cancelled_can_be_tried_again_and_the_form_is_there(
    anna: Browser, op: RunningProvider
) -> None:
    challenge = anna.fill_in("/decorated/", FIELDS)
    answer = {"error": "access_denied", "state": query(challenge["Location"])["state"], "iss": op.issuer}
    declined = anna.client.get("/oidc/callback/", answer)
    assert declined.context["verdict"] == "declined"

    again = anna.client.get(declined.context["retry_url"])
    anna.press(anna.confirm(again))

    assert SEEN[0]["post"] == FIELDS


def test_a_form_is_shown_to_nobody_who_has_not_proved_what_it_waits_for(anna: Browser, op: RunningProvider) -> None:
    challenge = anna.fill_in("/decorated/", FIELDS)
    answer = {"error": "access_denied", "state": query(challenge["Location"])["state"], "iss": op.issuer}
    retry_url = anna.client.get("/oidc/callback/", answer).context["retry_url"]
    url = query(retry_url)["next"]

    asked = anna.client.get(url)

    assert (asked.status_code, query(asked["Location"])["acr_values"]) == (
        302,
        query(challenge["Location"])["acr_values"],
    )
    token = {"csrfmiddlewaretoken": anna.client.get("/form/").content.decode()}
    (id,) = anna.session["stepup_forms"]  # noqa: A001
    assert anna.send(f"/decorated/?stepup_kept={id}", token).status_code == 303
    assert SEEN == []
    anna.press(anna.confirm(asked))
    assert SEEN[0]["post"] == FIELDS


def test_the_page_is_not_shown_where_sign_in_was_all_that_came_of_it(anna: Browser) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    store = anna.session
    del store["stepup"]
    store.save()

    stopped = anna.client.get(page.context["discard_url"])

    assert (stopped.status_code, stopped.context["verdict"]) == (403, "ignored")
    anna.press(anna.confirm(anna.client.get(stopped.context["retry_url"])))
    assert SEEN[0]["post"] == FIELDS


def test_evidence_that_is_gone_by_then_is_asked_for_again_for_the_same_form(anna: Browser) -> None:
    page = anna.confirm(anna.fill_in("/decorated/?id=7", FIELDS, encoded=True))
    (id,) = anna.session["stepup_forms"]  # noqa: A001
    clock.offset = 130.0
    store = anna.session
    del store["stepup"]
    store.save()

    challenge = anna.press(page)

    assert (challenge.status_code, SEEN) == (303, [])
    assert list(anna.session["stepup_forms"]) == [id]
    again = anna.confirm(challenge)
    assert again.context["action"] == page.context["action"]
    assert again.context["shown"] == page.context["shown"]
    assert again.context["countdown"] == 0, "by itself it is sent once"
    anna.press(again)
    assert [(seen["post"], seen["path"]) for seen in SEEN] == [(FIELDS, "/decorated/?id=7")]


def test_a_page_that_asks_right_after_its_step_up_does_not_go_round_in_circles(anna: Browser) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    store = anna.session
    del store["stepup"]
    store.save()

    stopped = anna.press(page)

    assert (stopped.status_code, stopped.context["verdict"]) == (403, "ignored")
    anna.press(anna.confirm(anna.client.get(stopped.context["retry_url"])))
    assert SEEN[0]["post"] == FIELDS


@pytest.mark.parametrize("path", ["/two-doors/", "/two-doors-turned/"])
def test_two_doors_behind_each_other_ask_for_what_each_wants(anna: Browser, settings: Any, path: str) -> None:
    settings.STEPUP = {**settings.STEPUP, "REQUIREMENTS": {"sudo": {"max_age": 0}}, "LEEWAY": 0}
    anna.come_back(anna.authenticate(anna.client.get("/decorated/")))

    page = anna.confirm(anna.fill_in(path, FIELDS))
    clock.offset = 50.0
    assert anna.press(page).status_code == 200

    assert [seen["post"] for seen in SEEN] == [FIELDS]


@pytest.mark.parametrize("path", ["/decorated/", "/once/"])
@pytest.mark.parametrize("headers", [{"HX-Request": "true", "Sec-Fetch-Mode": "cors"}, {"Sec-Fetch-Mode": "cors"}])
def test_a_form_that_a_script_sends_in_vain_is_kept_too(anna: Browser, path: str, headers: dict[str, str]) -> None:
    page = anna.confirm(anna.fill_in(path, FIELDS))
    store = anna.session
    del store["stepup"]
    store.save()

    told = anna.press(page, headers={**OWN, **headers, "Referer": "http://testserver/form/"})

    assert (told.status_code, SEEN) == (401, [])
    url = told["HX-Redirect"] if "HX-Request" in headers else told.json()["step_up_url"]
    anna.press(anna.confirm(anna.client.get(url)))
    assert [seen["post"] for seen in SEEN] == [FIELDS]


# When the OP no longer vouches for the user


@pytest.fixture(params=["with doors", "alone"])
def renewing(anna: Browser, settings: Any, request: Any) -> Browser:
    """Anna at a site that renews sign-ins, with `StepUpMiddleware` and without it, at the time when hers is due."""
    middleware = [each for each in settings.MIDDLEWARE if "StepUpMiddleware" not in each]
    step_up = ["stepup.middleware.StepUpMiddleware"] if request.param == "with doors" else []
    settings.MIDDLEWARE = [*middleware, "stepup.middleware.SessionRenewalMiddleware", *step_up]
    settings.STEPUP = {**settings.STEPUP, "PROTECTED_VIEWS": {}}
    anna.client = with_cookies(anna)
    clock.offset = 901.0
    return anna


def forgotten(anna: Browser, op: RunningProvider) -> None:
    """The OP has nobody signed in any more, and says so."""
    sent = anna.client.get("/form/", headers={"Sec-Fetch-Mode": "navigate"})
    op.reset()
    anna.come_back(anna.authenticate(sent, None))
    assert anna.session["stepup_renewal"]["ended"]


@pytest.mark.parametrize("path", ["/open/", "/decorated/", "/decorated-async/"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_form_waits_for_a_sign_in_that_the_op_wants_and_is_not_lost(
    renewing: Browser, op: RunningProvider, path: str, is_async: bool
) -> None:
    anna = renewing
    anna.is_async = is_async
    # The page with the form was opened before.
    token = anna.client.get("/form/").content.decode()
    forgotten(anna, op)

    challenge = anna.send(path, {"csrfmiddlewaretoken": token, **FIELDS})
    assert (challenge.status_code, "prompt" in query(challenge["Location"])) == (303, False)
    page = anna.confirm(challenge)
    assert SEEN == []
    if path != "/open/":
        page = anna.confirm(anna.press(page))  # the sign-in has brought no second factor
    anna.press(page)

    assert [(seen["post"], seen["path"]) for seen in SEEN] == [(FIELDS, path)]


def test_a_form_that_was_kept_before_is_neither_sent_nor_shown_nor_lost_until_then(
    renewing: Browser, op: RunningProvider
) -> None:
    anna = renewing
    page = anna.confirm(anna.fill_in("/decorated/?id=7", FIELDS))
    clock.offset += 300.0
    anna.come_back(anna.authenticate(anna.client.get("/oidc/authenticate/"), None))
    clock.offset += 500.0
    store = anna.session
    store["oidc_id_token_expiration"] = 0
    store.save()
    forgotten(anna, op)

    for response in (anna.press(page), anna.client.get(page.context["discard_url"])):
        assert response["Location"].startswith(op.issuer)
        assert query(query_next(anna, response)) == query(page.context["discard_url"])
    assert SEEN == []
    stolen = anna.press(page, headers={**OWN, "Sec-Fetch-Mode": "cors"})
    assert (stolen.status_code, stolen.json()["error"]) == (401, "login_required")

    asked = anna.confirm(anna.press(page))
    assert asked.status_code == 302, "what was proved was so in a session that the OP has ended"
    again = anna.confirm(asked)
    assert again.context["shown"] == page.context["shown"]
    anna.press(again)
    assert [(seen["post"], seen["path"]) for seen in SEEN] == [(FIELDS, "/decorated/?id=7")]


def query_next(anna: Browser, challenge: Any) -> str:
    return str(anna.session["stepup_pending"][query(challenge["Location"])["state"]]["next"])


def test_a_page_that_is_renewed_silently_comes_back_and_nothing_was_sent(renewing: Browser) -> None:
    anna = renewing
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    store = anna.session
    store["oidc_id_token_expiration"] = 0
    store.save()
    url = page.context["discard_url"]

    sent = anna.client.get(url, headers={"Sec-Fetch-Mode": "navigate"})
    assert query(sent["Location"])["prompt"] == "none"
    assert anna.come_back(anna.authenticate(sent, None))["Location"] == url
    again = anna.client.get(url, headers={"Sec-Fetch-Mode": "navigate"})
    assert (again.context["shown"], SEEN) == (page.context["shown"], [])
    anna.press(again)
    assert [seen["post"] for seen in SEEN] == [FIELDS]


def test_what_stands_for_a_form_is_not_interrupted_where_a_renewal_is_due(renewing: Browser) -> None:
    anna = renewing
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    store = anna.session
    store["oidc_id_token_expiration"] = 0
    store.save()

    assert anna.press(page).status_code == 200
    assert [seen["post"] for seen in SEEN] == [FIELDS]


@pytest.mark.parametrize("path", ["/open/", "/decorated/", "/decorated-async/"])
@pytest.mark.parametrize("is_async", [False, True])
def test_where_sign_ins_are_renewed_no_view_runs_with_the_empty_form_either(
    renewing: Browser, path: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clock.offset = 0.0
    renewing.is_async = is_async
    assert is_gone(renewing.fill_in(f"{path}?stepup_kept=unknown", {}), caplog, "unknown")
    assert SEEN == []


def test_a_view_that_keeps_no_forms_keeps_none_for_a_sign_in_either(
    renewing: Browser, op: RunningProvider, log: pytest.LogCaptureFixture
) -> None:
    token = renewing.client.get("/form/").content.decode()
    forgotten(renewing, op)

    assert why(renewing.send("/not-keeping/", {"csrfmiddlewaretoken": token, **FIELDS}), log) == "off"


# When the OP ends the session


def log_out(anna: Browser, op: RunningProvider) -> None:
    """The OP says itself that she has signed out there."""
    token = op.logout_token("site", sid=SessionLink.objects.get().sid)
    assert Client().post("/oidc/backchannel-logout/", {"logout_token": token}).status_code == 200


def test_a_form_in_a_session_that_is_lowered_is_shown_and_sent_after_another_step_up(
    op: RunningProvider, settings: Any
) -> None:
    settings.STEPUP = {**settings.STEPUP, "BACK_CHANNEL_LOGOUT": "lower"}
    anna = Browser("anna")
    anna.sign_in()
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    log_out(anna, op)
    anna.person = Person("anna", "anna-password")  # whose session at the OP is over

    assert anna.client.get(page.context["discard_url"]).status_code == 302
    challenge = anna.press(page)
    assert (challenge.status_code, SEEN) == (303, [])
    anna.press(anna.confirm(challenge, "totp"))
    assert [seen["post"] for seen in SEEN] == [FIELDS]


def test_a_session_that_is_lowered_sends_no_form_that_the_one_before_has_sent(
    op: RunningProvider, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    anna = Browser("anna")
    anna.sign_in()
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    left = session.stored(session.lowered(anna.session, conf.current()), conf.current())
    anna.press(page)

    request: Any = page.wsgi_request
    request.session = left
    (id,) = left["stepup_forms"]  # noqa: A001
    assert session.kept_form(request, id, conf.current(), now=clock.now()) is None
    assert not session.take_form(request, id, conf.current(), now=clock.now())


@pytest.mark.parametrize("name", ["anna", "ben"])
def test_a_form_in_a_session_that_is_ended_is_nobodys(
    op: RunningProvider, settings: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings.STEPUP = {**settings.STEPUP, "BACK_CHANNEL_LOGOUT": "end"}
    anna = Browser("anna")
    anna.sign_in()
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    log_out(anna, op)
    assert is_gone(anna.press(page), caplog, "not signed in")

    # Somebody signs in at the same browser.
    other = Browser(name)
    other.client = anna.client
    other.come_back(other.authenticate(other.client.get("/decorated/"), "totp" if name == "ben" else "push"))
    token = {"csrfmiddlewaretoken": other.client.get("/form/").content.decode()}
    assert is_gone(other.send(page.context["action"], token), caplog, "unknown")
    assert is_gone(other.client.get(page.context["discard_url"]), caplog, "unknown")
    assert SEEN == []


def test_a_press_that_a_step_up_in_another_tab_overtakes_sends_nothing_and_loses_nothing(anna: Browser) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    request: Any = page.wsgi_request
    before = type(request.session)(anna.session.session_key)
    (id,) = before["stepup_forms"]  # noqa: A001
    anna.come_back(anna.authenticate(anna.client.get("/now/"), "push"))
    assert anna.session.session_key != before.session_key

    request.session = before
    assert not session.take_form(request, id, conf.current(), now=clock.now())
    token = {"csrfmiddlewaretoken": anna.client.get("/form/").content.decode()}
    assert anna.send(page.context["action"], token).status_code == 200
    assert [seen["post"] for seen in SEEN] == [FIELDS]


def test_taking_a_form_undoes_nothing_that_others_have_stored_meanwhile(anna: Browser) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    request: Any = page.wsgi_request
    request.session = type(request.session)(anna.session.session_key)
    (id,) = request.session["stepup_forms"]  # noqa: A001
    other = anna.session
    other["basket"] = "here"
    other.save()

    assert session.take_form(request, id, conf.current(), now=clock.now())
    assert (anna.session["basket"], "stepup_forms" in anna.session) == ("here", False)


# Where a requirement is only reported


@pytest.mark.parametrize("path", [path for path in DOORS if path != "/raised-async/"])
@pytest.mark.parametrize("is_async", [False, True])
def test_nothing_is_kept_where_a_requirement_is_only_reported(
    anna: Browser, settings: Any, path: str, is_async: bool
) -> None:
    settings.STEPUP = {**settings.STEPUP, "REPORT_ONLY": ["mfa"]}
    anna.is_async = is_async

    assert anna.fill_in(path, FIELDS).status_code == 200

    assert SEEN[0]["post"] == FIELDS
    assert "stepup_forms" not in anna.session


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("middleware", [True, False])
def test_a_form_that_was_kept_before_a_requirement_is_only_reported_still_arrives(
    anna: Browser, settings: Any, path: str, is_async: bool, middleware: bool
) -> None:
    if not middleware and path not in ("/decorated/", "/decorated-async/", "/class/", "/class-async/"):
        return
    page = anna.confirm(anna.fill_in(path, FIELDS))
    settings.STEPUP = {**settings.STEPUP, "REPORT_ONLY": ["mfa"]}
    if not middleware:
        settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if "StepUpMiddleware" not in each]
        anna.client = with_cookies(anna)
    anna.is_async = is_async

    assert anna.press(page).status_code == 200
    assert [seen["post"] for seen in SEEN] == [FIELDS]


# How fresh it is, where the proof may be no seconds old


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("later", [0.0, 110.0])
def test_what_was_proved_on_the_way_is_fresh_for_the_form_once(
    anna: Browser, settings: Any, is_async: bool, later: float
) -> None:
    settings.STEPUP = {**settings.STEPUP, "LEEWAY": 0}
    anna.is_async = is_async
    clock.offset = 0.0

    page = anna.confirm(anna.fill_in("/now/?id=7", FIELDS))
    clock.offset = later
    assert anna.press(page).status_code == 200

    assert [seen["post"] for seen in SEEN] == [FIELDS]
    clock.offset = later + 3
    assert anna.fill_in("/now/?id=7", FIELDS).status_code == 303
    assert len(SEEN) == 1


def test_it_is_fresh_for_no_other_form_and_no_other_page(anna: Browser, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "LEEWAY": 0}
    page = anna.confirm(anna.fill_in("/now/?id=7", FIELDS))
    clock.offset = 5.0

    assert anna.fill_in("/now/?id=7", FIELDS).status_code == 303
    assert anna.client.get("/now/?id=7").status_code == 302
    assert anna.client.get(page.context["action"]).status_code == 302
    other = page.context["action"].replace("/now/", "/now/other/")
    assert anna.send(other, {"csrfmiddlewaretoken": str(page.context["csrf_token"])}).status_code == 410
    assert SEEN == []
    assert anna.press(page).status_code == 200


def test_to_look_at_the_page_again_uses_nothing_up(anna: Browser, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "LEEWAY": 0}
    page = anna.confirm(anna.fill_in("/now/", FIELDS))
    clock.offset = 100.0
    page = anna.client.get(page.context["discard_url"])

    assert anna.press(page).status_code == 200
    assert [seen["post"] for seen in SEEN] == [FIELDS]


def test_what_is_fresh_for_the_page_of_a_form_is_so_for_no_page_that_names_it(anna: Browser, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "LEEWAY": 0}
    page = anna.confirm(anna.fill_in("/now/", FIELDS))
    clock.offset = 5.0

    assert anna.client.get("/now/", query(page.context["discard_url"])).status_code == 302


def test_whoever_comes_to_the_page_late_is_asked_before_it_is_shown(anna: Browser, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "LEEWAY": 0}
    page = anna.confirm(anna.fill_in("/now/", FIELDS))
    clock.offset = 125.0

    assert anna.client.get(page.context["discard_url"]).status_code == 302


@pytest.mark.parametrize("is_async", [False, True])
def test_a_form_waits_for_what_its_door_demands_of_what_is_sent(op: RunningProvider, is_async: bool) -> None:
    before = Browser("anna")
    before.sign_in()
    anna = Browser("anna")
    anna.is_async = is_async
    anna.person = before.person
    # The OP remembers, and answers with the time at which it was.
    clock.offset = 400.0

    challenge = anna.fill_in("/aged/", FIELDS)
    assert query(challenge["Location"])["max_age"] == "3600"
    page = anna.confirm(challenge, None)
    assert anna.client.get("/aged/").status_code == 302, "a page may be opened for five minutes only"
    anna.press(page)

    assert [seen["post"] for seen in SEEN] == [FIELDS]


def test_who_sends_by_script_is_asked_for_what_the_page_demands_that_they_come_back_to(
    browse: Callable[[str], Browser],
) -> None:
    anna = browse("anna")
    token = anna.client.get("/form/").content.decode()
    headers = {"Sec-Fetch-Mode": "cors", "X-CSRFToken": token, "Referer": "http://testserver/strict/"}

    told = anna.send("/strict/", {"a": "1"}, headers=headers)

    assert query(anna.client.get(told.json()["step_up_url"])["Location"])["max_age"] == "0"
    assert query(anna.fill_in("/strict/", FIELDS)["Location"])["max_age"] == "600"


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("path", ["/both/", "/both-picked/", "/two-doors/", "/two-doors-turned/"])
def test_a_form_waits_for_all_that_its_doors_demand(anna: Browser, settings: Any, path: str, is_async: bool) -> None:
    settings.STEPUP = {**settings.STEPUP, "LEEWAY": 0}
    anna.is_async = is_async

    page = anna.confirm(anna.fill_in(path, FIELDS))
    store = anna.session
    proofs = store["stepup"].pop("proofs")
    store.save()
    assert anna.client.get(page.context["discard_url"]).status_code == 403, "of the two one is not enough"
    store = anna.session
    store["stepup"] = {**store["stepup"], "proofs": proofs}
    store.save()
    anna.press(page)

    assert [seen["post"] for seen in SEEN] == [FIELDS]


def test_who_reads_for_too_long_is_asked_again(anna: Browser, settings: Any) -> None:
    settings.STEPUP = {**settings.STEPUP, "LEEWAY": 0}
    page = anna.confirm(anna.fill_in("/now/", FIELDS))
    clock.offset = 125.0

    assert (anna.press(page).status_code, SEEN) == (303, [])


# CSRF


def test_a_form_without_a_token_is_refused_before_it_is_kept(anna: Browser) -> None:
    assert anna.send("/decorated/", {"amount": "1200"}).status_code == 403
    assert "stepup_forms" not in anna.session


def test_what_stands_for_a_form_needs_a_token_of_its_own(anna: Browser) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))

    assert anna.send(page.context["action"], {}).status_code == 403
    assert SEEN == []
    assert anna.press(page).status_code == 200


@pytest.mark.parametrize("encoded", [False, True])
def test_a_form_has_one_token_the_fresh_one(browse: Callable[[str], Browser], encoded: bool) -> None:
    anna = browse("anna")
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS, encoded=encoded))
    anna.press(page)

    assert SEEN[0]["token"] == [str(page.context["csrf_token"])]


@pytest.mark.parametrize("encoded", [False, True])
def test_a_check_inside_the_view_is_content_with_a_form_of_this_site(
    browse: Callable[[str], Browser], encoded: bool
) -> None:
    anna = browse("anna")

    anna.press(anna.confirm(anna.fill_in("/exempt-protected/", FIELDS, encoded=encoded)))

    assert SEEN[0]["post"] == FIELDS


@pytest.mark.parametrize("is_signed_in", [True, False])
@pytest.mark.parametrize("headers", [CROSS, {}, {"Origin": "null"}, {**OWN, "Sec-Fetch-Site": "same-site"}])
@pytest.mark.parametrize("path", ["/exempt/", "/exempt-protected/"])
def test_a_form_of_another_site_is_not_kept_where_nobody_has_looked_whose_it_is(
    anna: Browser, headers: dict[str, str], path: str, is_signed_in: bool, caplog: pytest.LogCaptureFixture
) -> None:
    client = anna.client if is_signed_in else Client(enforce_csrf_checks=True)
    before, sessions = dict(anna.session), Session.objects.count()

    with caplog.at_level("INFO", "stepup"):
        answer = client.post(path, {"to": "mallory"}, headers=headers)

    assert answer.status_code == 403
    assert answer.templates[0].name == "stepup/not_sent.html"
    assert "sessionid" not in answer.cookies, "it takes nobody's session away"
    assert dict(anna.session) == before
    assert Session.objects.count() == sessions
    assert [each.reason for each in caplog.records if getattr(each, "event", "") == "form_not_kept"] == ["origin"]  # type: ignore[attr-defined]
    assert SEEN == []


def test_a_form_that_was_kept_is_kept_again_whatever_the_browser_says_then(anna: Browser) -> None:
    page = anna.confirm(anna.send("/exempt/", FIELDS))
    clock.offset = 130.0
    store = anna.session
    del store["stepup"]
    store.save()

    anna.press(anna.confirm(anna.press(page, headers={})), headers={})

    assert [seen["post"] for seen in SEEN] == [FIELDS]


@pytest.mark.parametrize(("headers", "is_kept"), [(OWN, True), ({}, False), (CROSS, False)])
def test_a_door_that_stands_before_the_check_goes_by_the_browsers_word(
    anna: Browser, settings: Any, headers: dict[str, str], is_kept: bool
) -> None:
    names = [each for each in settings.MIDDLEWARE if "CsrfViewMiddleware" not in each]
    settings.MIDDLEWARE = [*names, "django.middleware.csrf.CsrfViewMiddleware"]
    anna.client = with_cookies(anna)

    assert anna.fill_in("/by-name/", FIELDS, headers=headers).status_code == (303 if is_kept else 403)
    assert ("stepup_forms" in anna.session) is is_kept


def test_the_middleware_may_stand_before_the_check(anna: Browser, settings: Any) -> None:
    names = [each for each in settings.MIDDLEWARE if "CsrfViewMiddleware" not in each]
    settings.MIDDLEWARE = [*names, "django.middleware.csrf.CsrfViewMiddleware"]
    anna.client = with_cookies(anna)

    anna.press(anna.confirm(anna.fill_in("/by-name/", FIELDS)))

    assert SEEN[0]["post"] == FIELDS


# Where it is kept


@pytest.mark.parametrize("engine", ["db", "cache", "cached_db", "file"])
def test_each_engine_that_keeps_sessions_on_the_server_keeps_forms(
    op: RunningProvider, settings: Any, engine: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    anna = Browser("anna")
    anna.sign_in()
    content = bytes(range(256)) * 2000

    page = anna.confirm(anna.fill_in("/decorated/", {**FIELDS, "paper": SimpleUploadedFile("a.bin", content)}))
    (entry,) = anna.session["stepup_forms"].values()
    store_class = import_module(settings.SESSION_ENGINE).SessionStore
    assert 0 < store_class(entry["key"]).get_expiry_age() <= conf.current().pending_max_age
    assert anna.press(page).status_code == 200

    assert SEEN[0]["post"] == FIELDS
    assert SEEN[0]["files"][0][4] == sha256(content)
    assert not store_class().exists(entry["key"])
    assert is_gone(anna.press(page), caplog, "unknown")


def test_the_users_own_session_stays_small(anna: Browser) -> None:
    before = len(json.dumps(dict(anna.session.items())))
    anna.fill_in("/decorated/", {"note": "n" * 100_000})

    assert len(json.dumps(dict(anna.session.items()))) < before + 1000


@pytest.mark.parametrize("encoded", [False, True])
def test_nothing_of_a_form_is_stored_in_clear(anna: Browser, settings: Any, tmp_path: Path, encoded: bool) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.file"
    settings.SESSION_FILE_PATH = str(tmp_path)
    anna = Browser("anna")
    anna.sign_in()
    anna.fill_in("/decorated/?account=4711-0815", {"recipient": "Wilhelmina"}, encoded=encoded)

    (entry,) = anna.session["stepup_forms"].values()
    stored = [dict(anna.session.items()), dict(type(anna.session)(entry["key"]).items())]
    for word in ("recipient", "Wilhelmina", "4711-0815"):
        assert word not in json.dumps(stored)
    locked = stored[1]["stepup_forms"]
    assert b"Wilhelmina" in vault.unlock(locked, purpose="kept form")


def test_no_value_of_a_form_is_logged(anna: Browser, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    anna.press(anna.confirm(anna.fill_in("/decorated/?account=4711-0815", {"recipient": "Wilhelmina"})))

    ours = [record for record in caplog.records if record.name == "stepup"]
    events = [record.event for record in ours]  # type: ignore[attr-defined]
    assert [event for event in events if event.startswith("form")] == ["form_kept", "form_restored"]
    said = "".join(repr(vars(record)) for record in ours)
    assert "Wilhelmina" not in said
    assert "recipient" not in said
    assert "4711-0815" not in said


# What is not kept


def why(response: Any, caplog: pytest.LogCaptureFixture) -> str:
    """The reason in the log for a page that says that a form was not sent."""
    assert (response.status_code, response.templates[0].name) == (403, "stepup/not_sent.html")
    assert "Your form was not sent" in response.content.decode()
    assert SEEN == []
    said: list[str] = [
        vars(record)["reason"] for record in caplog.records if getattr(record, "event", "") == "form_not_kept"
    ]
    return said[-1]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "stepup")
    return caplog


def test_a_site_can_switch_it_off(anna: Browser, settings: Any, log: pytest.LogCaptureFixture) -> None:
    settings.STEPUP = {**settings.STEPUP, "KEEP_FORMS": False}

    assert why(anna.fill_in("/decorated/", FIELDS), log) == "off"
    assert "stepup_forms" not in anna.session


@pytest.mark.parametrize(
    "path",
    [
        "/not-keeping/",
        "/not-keeping-stepup/",
        "/not-keeping-class/",
        "/not-keeping-as-view/",
        "/not-keeping-decorated-class/",
        "/not-keeping-inside/",
    ],
)
def test_a_view_can_switch_it_off(anna: Browser, path: str, log: pytest.LogCaptureFixture) -> None:
    response = anna.fill_in(path, FIELDS)

    assert why(response, log) == "off"
    assert response.context["step_up_url"].startswith("/oidc/authenticate/?next=")


def test_where_the_browser_holds_the_session_it_is_not_kept_and_the_page_says_so(
    op: RunningProvider, settings: Any, log: pytest.LogCaptureFixture
) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    anna = Browser("anna")
    anna.sign_in()

    response = anna.fill_in("/decorated/", FIELDS)

    assert why(response, log) == "cookie"
    assert "This site keeps nothing on its server between two pages" in response.content.decode()


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_a_form_is_kept_up_to_a_size(anna: Browser, settings: Any, excess: int, log: pytest.LogCaptureFixture) -> None:
    settings.STEPUP = {**settings.STEPUP, "KEEP_FORMS_BYTES": 2000}
    response = anna.send("/exempt/", b"x" * (2000 + excess), content_type="text/plain")

    if excess > 0:
        assert why(response, log) == "too large"
        assert "too large" in response.content.decode()
    else:
        assert response.status_code == 303


@pytest.mark.parametrize("size", [900, 1100])
def test_a_file_counts(anna: Browser, settings: Any, size: int, log: pytest.LogCaptureFixture) -> None:
    settings.STEPUP = {**settings.STEPUP, "KEEP_FORMS_BYTES": 1024}
    response = anna.fill_in("/decorated/", {"paper": SimpleUploadedFile("a.bin", b"x" * size)})

    assert why(response, log) == "too large"


def make(body: bytes, content_type: str, **changes: Any) -> HttpRequest:
    request = RequestFactory().post("/a/", body, content_type=content_type, headers=OWN)
    request.user = AnonymousUser()
    request.META.update(changes)
    return request


def read(request: HttpRequest, most: int = 2000) -> kept.Form:
    return kept._form_of(request, None, path="/a/", back="/", most=most)


MULTIPART = "multipart/form-data; boundary=b"


def part(name: str, value: str, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'.encode()


@pytest.mark.parametrize("length", ["", "many"])
def test_a_size_that_is_not_announced_is_measured(length: str) -> None:
    for most, is_kept in ((2001, True), (2000, False)):
        request: Any = make(b"x" * 2001, "text/plain", CONTENT_LENGTH=length)
        request._body = b"x" * 2001  # as an asynchronous server hands it over
        if is_kept:
            assert len(read(request, most).body) == 2001
        else:
            with pytest.raises(kept.NotKept, match="too large"):
                read(request, most)


def test_a_file_that_does_not_say_how_large_it_is_is_not_kept() -> None:
    request: Any = make(part("a", "1") + b"--b--", MULTIPART)
    paper = SimpleUploadedFile("a.bin", b"x")
    paper.size = None
    request.FILES.setlist("paper", [paper])
    with pytest.raises(kept.NotKept, match="too large"):
        read(request)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (part(r"a\"b", "1") + b"--b--", MULTIPART),
        (part("a", "1") + b"--b--", "multipart/form-data"),
        (b"&".join([b"a=1"] * 1001), "application/x-www-form-urlencoded"),
    ],
)
def test_a_form_that_cannot_be_read_or_would_come_back_as_another_is_not_kept(body: bytes, content_type: str) -> None:
    with pytest.raises(kept.NotKept, match="unreadable"):
        read(make(body, content_type), 100_000)


def test_a_form_of_which_somebody_else_has_taken_the_body_is_not_kept() -> None:
    request = make(part("a", "1") + b"--b--", MULTIPART)
    request.read()
    with pytest.raises(kept.NotKept, match="unreadable"):
        read(request)


def test_a_form_whose_body_was_read_whole_before_is_kept() -> None:
    request = make(part("a", "1") + b"--b--", MULTIPART)
    assert request.body
    assert b"1" in read(request).body


@pytest.mark.parametrize("charset", ["latin-1", "utf-8"])
def test_a_form_in_another_charset_arrives_as_it_was_understood(settings: Any, charset: str) -> None:
    settings.DEFAULT_CHARSET = charset
    body = part("name", "Zoë").decode().encode(charset) + b"--b--"
    request: Any = make(b"-", MULTIPART, CONTENT_LENGTH=str(len(body)))
    request._stream = BytesIO(body)

    form = read(request)
    again: Any = make(b"-", "text/plain")
    kept._replace(again, form, "")

    assert dict(again.POST.lists()) == {"name": ["Zoë"]}


def test_a_body_that_the_view_has_begun_to_read_is_not_kept(anna: Browser, log: pytest.LogCaptureFixture) -> None:
    anna.come_back(anna.authenticate(anna.client.get("/decorated/")))
    assert why(anna.send("/streaming/", b"x" * 10, content_type="text/plain"), log) == "unreadable"


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_no_browser_sends_a_form_in_another_way(anna: Browser, method: str, log: pytest.LogCaptureFixture) -> None:
    response = getattr(anna.client, method)("/exempt/", b"x", headers=OWN)

    assert why(response, log) == "method"


@pytest.mark.parametrize("path", [f"/decorated/?{'x' * 2000}"])
def test_an_address_that_nobody_is_sent_back_to_keeps_no_form(
    anna: Browser, path: str, log: pytest.LogCaptureFixture
) -> None:
    assert why(anna.fill_in(path, FIELDS), log) == "address"


def test_a_script_is_told_where_to_step_up_and_keeps_its_form_itself(anna: Browser) -> None:
    token = anna.client.get("/form/").content.decode()
    headers = {"Sec-Fetch-Mode": "cors", "X-CSRFToken": token}

    assert anna.send("/decorated/", {"a": "1"}, headers=headers).status_code == 401
    assert "stepup_forms" not in anna.session


def test_a_store_that_takes_no_form_is_no_error(anna: Browser, settings: Any, log: pytest.LogCaptureFixture) -> None:
    settings.CACHES = {"default": {"BACKEND": "tests.kept_urls.Full"}}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    anna = Browser("anna")
    anna.sign_in()

    assert why(anna.fill_in("/decorated/", {"note": "n" * 5000}), log) == "store"
    assert anna.fill_in("/decorated/", {"note": "n"}).status_code == 303


def test_a_session_that_was_ended_meanwhile_sends_nothing(anna: Browser) -> None:
    page = anna.confirm(anna.fill_in("/decorated/", FIELDS))
    request: Any = page.wsgi_request
    loaded = type(request.session)(request.session.session_key)
    loaded.get("stepup_forms")
    request.session.delete()
    request.session = loaded

    (id,) = loaded["stepup_forms"]  # noqa: A001
    assert not session.take_form(request, id, conf.current(), now=clock.now())


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "key",
        {},
        {"key": 5, "at": 0},
        {"key": "k" * 31, "at": 0},
        {"key": "../" + "k" * 29, "at": 0},
        {"key": "k" * 32},
        {"key": "k" * 32, "at": "0"},
        {"key": "k" * 32, "at": -1},
    ],
)
def test_a_damaged_entry_is_none(anna: Browser, entry: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = anna.session
    for stored in ({"id": entry}, [entry], entry):
        store["stepup_forms"] = stored
        store.save()
        assert is_gone(anna.client.get("/oidc/authenticate/?kept=id"), caplog, "unknown")

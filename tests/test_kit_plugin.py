"""The test kit as a user's suite has it: in a project of its own, that knows what is documented and no more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Where the plugin is installed its entry point is blocked, so that it is loaded once, from here.
LOADED = ("-p", "no:stepup", "-p", "stepup.testing.plugin")

SETTINGS = """
SECRET_KEY = "a-key-for-this-test-only-which-is-long-enough"
ALLOWED_HOSTS = ["pay.example"]
ROOT_URLCONF = "pay_urls"
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.staticfiles",
    "stepup",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "stepup.middleware.SessionRenewalMiddleware",
    "stepup.middleware.StepUpMiddleware",
]
AUTHENTICATION_BACKENDS = ["stepup.backends.StepUpBackend"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
STATIC_URL = "static/"
USE_TZ = True
LOGIN_URL = "oidc_authentication_init"
OIDC_RP_CLIENT_ID = "pay"
OIDC_RP_CLIENT_SECRET = "a secret of the site that is long enough"
OIDC_RP_SIGN_ALGO = "RS256"
OIDC_OP_TOKEN_ENDPOINT = "https://op.example/token"
STEPUP = {
    "PROVIDER": "auth0",
    "ISSUER": "https://op.example/",
    "REQUIREMENTS": {"gold": {"acr_values": ["gold"], "acr": ["gold"], "max_age": 600}},
    "PROTECTED_VIEWS": {"salary": "mfa", "vault": "gold"},
}
"""

URLS = """
from django.http import HttpResponse
from django.urls import include, path

from stepup.decorators import mfa_required


def salary(request):
    return HttpResponse(f"{request.user.email} earns a lot")


@mfa_required
async def bonus(request):
    return HttpResponse("and a bonus")


urlpatterns = [
    path("oidc/", include("stepup.urls")),
    path("salary/", salary, name="salary"),
    path("vault/", salary, name="vault"),
    path("bonus/", bonus, name="bonus"),
    path("canteen/", lambda request: HttpResponse("soup"), name="canteen"),
]
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    pytester.makepyfile(pay_settings=SETTINGS, pay_urls=URLS)
    pytester.makeini(
        """
        [pytest]
        DJANGO_SETTINGS_MODULE = pay_settings
        addopts = --strict-markers
        filterwarnings = error
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = function
        """
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    return pytester


def test_the_salary_scenario_in_thirty_lines(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from stepup.testing.assertions import assert_protected, assert_satisfied, assert_step_up_required

        def test_protected(db):
            assert_protected("/salary/", "mfa")
            assert_protected("/vault/", "gold")
            assert_protected("/bonus/", "mfa")

        def test_a_password_is_not_enough(stepup_client, stepup_user):
            stepup_client.sign_in(stepup_user, amr=["pwd"])
            assert_step_up_required(stepup_client.get("/salary/"), "mfa")

        def test_proof_opens_it(stepup_client):
            user = stepup_client.elevate("mfa", age=60)
            assert stepup_client.get("/salary/").content.decode() == f"{user.email} earns a lot"

        def test_proof_grows_old(stepup_client, stepup_clock):
            stepup_client.elevate("gold")
            assert stepup_client.get("/vault/").status_code == 200
            stepup_clock.move(631)
            assert_step_up_required(stepup_client.get("/vault/"), "gold")

        def test_the_round_trip(stepup_client, stepup_provider, stepup_user):
            stepup_client.sign_in(stepup_user)
            page = stepup_client.step_up(stepup_client.get("/salary/"))
            assert page.content.decode() == f"{stepup_user.email} earns a lot"
            assert_satisfied(stepup_client, "mfa")
            assert any(request.path == "/oauth/token" for request in stepup_provider.requests())

        def test_classes_of_the_sites_own(stepup_client, stepup_provider):
            page = stepup_client.step_up(stepup_client.get("/vault/"), "ben", factor="totp")
            assert page.content == b"ben@harbour.example earns a lot"

        @pytest.mark.stepup_provider("ignores_acr_values")
        def test_a_provider_that_does_not_listen(stepup_client):
            page = stepup_client.step_up(stepup_client.get("/salary/"))
            assert (page.status_code, page.context["verdict"]) == (403, "proof_missing")
        """
    )
    result = project.runpytest_subprocess(*LOADED)
    result.assert_outcomes(passed=7)


def test_each_test_has_a_provider_settings_and_a_clock_that_are_as_at_the_start(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from django.conf import settings
        from stepup import clock, conf

        @pytest.fixture(scope="module")
        def issuers():
            return []

        @pytest.mark.stepup_provider
        def test_first(client, stepup_settings, stepup_clock, settings, issuers, db):
            issuers.append(conf.current().issuer)
            assert conf.current().issuer.startswith("http://127.0.0.1:")
            client.get("/salary/")
            settings.LOGIN_REDIRECT_URL = "/elsewhere/"
            stepup_settings(LEEWAY=7, OIDC_RP_SIGN_ALGO="ES256")
            settings.LOGIN_REDIRECT_URL = "/elsewhere/again/"
            assert (conf.current().leeway, conf.current().algorithms) == (7, ("ES256",))
            stepup_clock.move(3600)
            assert clock.offset == 3600

        def test_second():
            assert conf.current().issuer == settings.STEPUP["ISSUER"] == "https://op.example/"
            assert (conf.current().leeway, conf.current().algorithms) == (30, ("RS256",))
            assert settings.LOGIN_REDIRECT_URL == "/accounts/profile/"
            assert clock.offset == 0

        def test_third(stepup_provider, issuers):
            assert conf.current().issuer == stepup_provider.issuer == issuers[0], "it was started once"
            assert stepup_provider.requests() == []
        """
    )
    project.runpytest_subprocess(*LOADED).assert_outcomes(passed=3)


def test_a_personality_stays_with_its_test_whatever_the_site_shares_of_the_provider_between_processes(
    project: pytest.Pytester,
) -> None:
    project.makepyfile(
        """
        import time
        import pytest

        def status(client):
            asked = client.get("/salary/")
            return asked.status_code if asked.status_code != 302 else client.step_up(asked).status_code

        # One after the other, in this order.
        @pytest.mark.parametrize(
            ("personality", "expected"),
            [
                ("jwks_server_error", 503), ("well_behaved", 200), ("jwks_server_error", 503),
                ("metadata_without_endpoints", 503), ("well_behaved", 200), ("metadata_server_error", 503),
                ("well_behaved", 200),
            ],
        )
        def test_status(stepup_client, personality, expected, request):
            request.applymarker(pytest.mark.stepup_provider(personality))
            request.getfixturevalue("stepup_provider")
            started = time.perf_counter()
            assert status(stepup_client) == expected
            assert time.perf_counter() - started < 2, "nobody waits for another who is asking"
        """
    )
    project.runpytest_subprocess(*LOADED).assert_outcomes(passed=7)


def test_a_marked_test_case_leaves_the_test_environment_as_it_is(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from django.test import TestCase
        from stepup import conf

        @pytest.mark.stepup_provider
        class MarkedTests(TestCase):
            def test_where(self):
                assert conf.current().issuer.startswith("http://127.0.0.1:")

        def test_another(stepup_client):
            assert stepup_client.get("/salary/").status_code == 302
        """
    )
    project.runpytest_subprocess(*LOADED).assert_outcomes(passed=2)


def test_a_mark_on_one_parameter_is_for_that_parameter(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from stepup import conf

        @pytest.mark.parametrize("here", [pytest.param(True, marks=pytest.mark.stepup_provider), False])
        def test_where(here):
            assert ("127.0.0.1" in conf.current().issuer) is here
        """
    )
    project.runpytest_subprocess(*LOADED).assert_outcomes(passed=2)


@pytest.mark.parametrize("marker", ['("ignores_acr_values")', '(personality="ignores_acr_values")'])
def test_a_mark_may_name_the_personality(project: pytest.Pytester, marker: str) -> None:
    project.makepyfile(
        f"""
        import pytest

        @pytest.mark.stepup_provider{marker}
        def test_misbehaves(stepup_client):
            page = stepup_client.step_up(stepup_client.get("/salary/"))
            assert page.context["verdict"] == "proof_missing"
        """
    )
    project.runpytest_subprocess(*LOADED).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    "said", ['"expired", "wrong_nonce"', '"expired", personality="expired"', 'persona="expired"', "None"]
)
def test_a_mark_that_says_anything_else_is_told_before_a_test_runs(project: pytest.Pytester, said: str) -> None:
    project.makepyfile(
        f"""
        import pytest

        def test_another():
            pass

        @pytest.mark.stepup_provider({said})
        def test_marked():
            pass
        """
    )
    result = project.runpytest_subprocess(*LOADED)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.assert_outcomes()
    told = f"ERROR: The marker stepup_provider takes one personality, or none: not stepup_provider({said})."
    assert told.replace('"', "'") in result.stderr.lines


def test_a_mark_with_a_personality_that_there_is_not_names_those_that_look_like_it(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.stepup_provider("ignore_acr_value")
        def test_near():
            pass

        @pytest.mark.stepup_provider("charming")
        def test_far():
            pass
        """
    )
    result = project.runpytest_subprocess(*LOADED)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        [
            "E *ProviderError: there is no personality 'ignore_acr_value': did you mean 'ignores_acr_values'*?",
            "E *ProviderError: there is no personality 'charming'",
        ]
    )


def test_a_parallel_run_has_a_provider_for_each_process(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(6))
        def test_round_trip(stepup_client, stepup_provider, number, tmp_path_factory):
            page = stepup_client.step_up(stepup_client.get("/salary/"))
            assert page.content == b"anna@harbour.example earns a lot"
            assert len(stepup_provider.authentications()) == 1
            (tmp_path_factory.getbasetemp().parent / str(stepup_provider.port)).touch()

        def test_ends():
            pass
        """
    )
    result = project.runpytest_subprocess(*LOADED, "-n", "2", "--basetemp", str(project.path / "both"))
    result.assert_outcomes(passed=7)
    ports = [path for path in (project.path / "both").iterdir() if path.name.isdigit()]
    assert len(ports) == 2


def test_asynchronous_tests(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from stepup.testing.assertions import aassert_protected, aassert_satisfied, assert_step_up_required

        pytestmark = pytest.mark.django_db(transaction=True)

        async def test_steps(stepup_async_client):
            client = stepup_async_client
            await client.sign_in(amr=["pwd"])
            assert_step_up_required(await client.get("/bonus/"), "mfa")
            user = await client.elevate("mfa", age=60)
            assert (await client.get("/bonus/")).content == b"and a bonus"
            await aassert_satisfied(client, "mfa")
            evidence = await client.evidence()
            assert set(evidence.proofs["amr"]) == {"pwd", "mfa"}

        @pytest.mark.stepup_provider
        async def test_round_trip(stepup_async_client):
            client = stepup_async_client
            page = await client.step_up(await client.get("/bonus/"))
            assert page.content == b"and a bonus"

        @pytest.mark.stepup_provider
        async def test_round_trip_of_a_script(stepup_async_client):
            client = stepup_async_client
            asked = await client.get("/bonus/", headers={"Accept": "application/json"})
            assert asked.status_code == 401
            page = await client.step_up(asked, deny=True)
            assert page.status_code == 403

        async def test_protected():
            await aassert_protected("/bonus/", "mfa")
        """
    )
    project.runpytest_subprocess(*LOADED).assert_outcomes(passed=4)


def test_without_pytest_django_a_fixture_says_what_is_missing(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n")
    project.makepyfile("def test_client(stepup_client): pass\ndef test_else(): pass")
    result = project.runpytest_subprocess(*LOADED, "-p", "no:django")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*fixture 'db' not found"])


def test_what_pytest_shows_of_the_fixtures_tells_what_they_are_for(project: pytest.Pytester) -> None:
    shown = project.runpytest_subprocess(*LOADED, "--fixtures").stdout.str()
    for line in (
        "stepup_client -- *",
        "*stepup_client.step_up(response)*follows a challenge*",
        "stepup_async_client -- *",
        "stepup_provider -- *",
        "stepup_provider_process [[]session scope[]] -- *",
        "stepup_settings -- *",
        "stepup_clock -- *",
        "stepup_user -- *",
    ):
        pytest.LineMatcher(shown.splitlines()).fnmatch_lines([line])
    assert (
        "@pytest.mark.stepup_provider(personality):" in project.runpytest_subprocess(*LOADED, "--markers").stdout.str()
    )


@pytest.mark.parametrize(
    "blocked", [["-p", "no:django"], ["-p", "no:django", "-p", "no:asyncio"]], ids=["alone", "without asyncio"]
)
def test_a_suite_that_does_not_use_it_imports_nothing_for_it(project: pytest.Pytester, blocked: list[str]) -> None:
    project.makeini("[pytest]\n")
    project.makepyfile(
        """
        import sys

        def test_nothing_is_there():
            ours = {name for name in sys.modules if name.partition(".")[0] == "stepup"}
            assert ours <= {"stepup", "stepup._version", "stepup.assurance", "stepup.testing", "stepup.testing.plugin"}
            assert not {"django", "factory", "requests", "jwt", "cryptography"} & sys.modules.keys()
        """
    )
    project.runpytest_subprocess(*LOADED, *blocked).assert_outcomes(passed=1)


def run_by_django(project: pytest.Pytester, *, tests: int) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "pay_settings", "PYTHONPATH": f"{ROOT}:{project.path}"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", "test"],
        cwd=project.path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"Ran {tests} tests" in done.stderr


def test_the_mixin_for_django_test_case_needs_no_pytest(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_mixin="""
        from pathlib import Path

        from django.test import TestCase

        from stepup import clock, conf
        from stepup.testing.testcase import StepUpTestMixin


        class SalaryTests(StepUpTestMixin, TestCase):
            def test_protected(self):
                self.assertProtected("/salary/", "mfa")
                Path("list.txt").write_text("salary  mfa\\nvault  gold\\nbonus  mfa\\n")
                self.assertEqual(self.assertSiteProtected("list.txt"), ["/salary/", "/vault/", "/bonus/"])

            def test_steps(self):
                self.client.sign_in(amr=["pwd"])
                self.assertStepUpRequired(self.client.get("/salary/"), "mfa")
                self.client.elevate("gold", age=60)
                self.assertSatisfied(self.client, "gold")
                self.stepup_clock.move(600)
                self.assertStepUpRequired(self.client.get("/vault/"), "gold")

            def test_round_trip(self):
                provider = self.stepup_provider
                page = self.client.step_up(self.client.get("/salary/"))
                self.assertContains(page, "anna@harbour.example earns a lot")
                self.assertEqual(len(provider.authentications()), 1)
                self.stepup_clock.move(60)

            def test_settings(self):
                self.stepup_settings(LEEWAY=2)
                self.assertEqual(conf.current().leeway, 2)

            async def test_async(self):
                await self.async_client.elevate("mfa")
                self.assertEqual((await self.async_client.get("/bonus/")).status_code, 200)


        class MisbehavingTests(StepUpTestMixin, TestCase):
            stepup_personality = "ignores_acr_values"

            def test_round_trip(self):
                self.assertEqual(conf.current().leeway, 30)
                self.assertEqual(clock.offset, 0)
                self.assertEqual(self.stepup_provider.authentications(), [])
                page = self.client.step_up(self.client.get("/salary/"))
                self.assertEqual(page.context["verdict"], "proof_missing")

            def test_it_does_so_from_the_start(self):
                page = self.client.step_up(self.client.get("/salary/"))
                self.assertEqual(page.context["verdict"], "proof_missing")
        """
    )
    run_by_django(project, tests=7)
    project.runpytest_subprocess(*LOADED).assert_outcomes(passed=7)


@pytest.mark.parametrize("endpoint", [None, "https://op.example/authorize"])
def test_what_a_test_case_changes_by_other_means_is_put_back_with_what_it_changes_through_the_mixin(
    project: pytest.Pytester, endpoint: str | None
) -> None:
    project.makepyfile(pay_settings=f"{SETTINGS}\nOIDC_OP_AUTHORIZATION_ENDPOINT = {endpoint!r}\n")
    project.makepyfile(
        test_mixin="""
        from django.conf import settings
        from django.test import TestCase, override_settings

        from stepup import conf
        from stepup.testing.testcase import StepUpTestMixin


        class AsTheyWereTests(TestCase):
            def setUp(self):
                super().setUp()
                self.assertEqual(settings.LOGIN_REDIRECT_URL, "/accounts/profile/")
                self.assertEqual((conf.current().leeway, conf.current().issuer), (30, "https://op.example/"))


        class ChangingTests(StepUpTestMixin, AsTheyWereTests):
            @override_settings(LOGIN_REDIRECT_URL="/leaked/")
            def test_1_decorated(self):
                self.stepup_settings(LEEWAY=1)

            @override_settings(LOGIN_REDIRECT_URL="/leaked/")
            def test_2_decorated_with_a_provider(self):
                self.assertEqual(self.stepup_provider.issuer, conf.current().issuer)

            def test_3_within(self):
                change = self.settings(LOGIN_REDIRECT_URL="/leaked/")
                change.enable()
                self.stepup_settings(LEEWAY=1)
                change.disable()

            def test_4_nothing(self):
                self.assertEqual(self.client.get("/canteen/").content, b"soup")


        class LaterTests(AsTheyWereTests):
            def test_nothing_is_left(self):
                self.assertEqual(self.client.get("/canteen/").content, b"soup")
        """
    )
    run_by_django(project, tests=5)
    project.runpytest_subprocess(*LOADED).assert_outcomes(passed=5)


def test_a_mark_on_a_test_case_says_how_its_provider_behaves_unless_the_class_does(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from django.test import TestCase

        from stepup.testing.testcase import StepUpTestMixin


        class Steps:
            def step_up(self):
                return self.client.step_up(self.client.get("/salary/")).context["verdict"]


        @pytest.mark.stepup_provider("ignores_acr_values")
        class MarkedTests(Steps, StepUpTestMixin, TestCase):
            def test_at_once(self):
                self.assertEqual(self.step_up(), "proof_missing")

            def test_when_it_has_been_asked_for(self):
                self.assertEqual(self.stepup_provider.requests(), [])
                self.assertEqual(self.step_up(), "proof_missing")


        @pytest.mark.stepup_provider
        class MarkedAndNamedTests(Steps, StepUpTestMixin, TestCase):
            stepup_personality = "ignores_acr_values"

            def test_the_name_counts(self):
                self.assertEqual(self.step_up(), "proof_missing")

            @pytest.mark.stepup_provider("ignores_acr_values")
            def test_they_say_the_same(self):
                self.assertEqual(self.step_up(), "proof_missing")

            @pytest.mark.stepup_provider("expired")
            def test_they_differ(self):
                self.fail("which is found out before")
        """
    )
    result = project.runpytest_subprocess(*LOADED)
    result.assert_outcomes(passed=4, failed=1)
    told = "The marker has the provider behave as 'expired', and stepup_personality as 'ignores_acr_values': *"
    result.stdout.fnmatch_lines([f"E *ConfigurationError: {told}"])


def test_the_example_is_tested_as_a_user_would() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *LOADED, "-q", "-p", "no:cacheprovider", "example_project"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout

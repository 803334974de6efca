"""What the provider is told: who can sign in, which applications may ask, and for whom it asks a second factor.

Parsed strictly. A key that is not known is an error, since a misspelt one would silently switch something off.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, TypeVar

from stepup.testing.provider.action import MULTI_FACTOR
from stepup.testing.provider.uris import LOOPBACK, is_entry

#: Algorithms an application can be registered with for its ID tokens (RFC 7518, section 3.1; RFC 8037).
SIGNING_ALGORITHMS = ("RS256", "ES256", "PS256", "EdDSA", "HS256")

#: What the provider may be run for. There is no third use: its people and passwords are published.
PURPOSES = ("development", "tests")

#: Octets an HS256 secret has at least (RFC 7518, section 3.2).
MINIMAL_SECRET = 32

DEFAULT_PORT = 9000

#: Where applications find what they keep of a provider, below its issuer: its metadata, and its keys.
METADATA_PATH, KEYS_PATH = ".well-known/openid-configuration", ".well-known/jwks.json"

#: The personality of a provider that is told nothing else.
WELL_BEHAVED = "well_behaved"

#: Seconds that may be added to each answer.
MOST_LATENCY = 60


class ConfigurationError(ValueError):
    """The provider cannot be run with this configuration. The message says where and why."""


def _is_base32(text: str) -> bool:
    try:
        return bool(base64.b32decode(text + "=" * (-len(text) % 8)))
    except ValueError:
        return False


@dataclass(frozen=True)
class User:
    """A person who can sign in. With neither `totp_secret` nor `push` they have no second factor.

    `totp_secret` is base32, as authenticator apps take it. `sub` is `stepup|<username>` unless it is given.
    """

    username: str
    password: str = field(repr=False)
    sub: str = ""
    name: str = ""
    given_name: str = ""
    family_name: str = ""
    email: str = ""
    email_verified: bool = True
    totp_secret: str | None = field(default=None, repr=False)
    push: bool = False

    def __post_init__(self) -> None:
        if not self.username or not self.password:
            raise ConfigurationError("a user needs a username and a password")
        if not self.sub:
            object.__setattr__(self, "sub", f"stepup|{self.username}")
        if self.totp_secret is not None and not _is_base32(self.totp_secret):
            raise ConfigurationError(f"user {self.username!r}: totp_secret is not base32")

    @property
    def has_second_factor(self) -> bool:
        return self.push or self.totp_secret is not None

    @property
    def display_name(self) -> str:
        return self.name or self.username


@dataclass(frozen=True)
class Client:
    """An application that may send people here. Its redirect URIs: see `uris.RegisteredUris`.

    `name` is what people read on the pages; `client_id` is shown where it is empty. With a `public_key`, in PEM, it
    authenticates with `private_key_jwt` and in no other way; its secret may be empty then. `require_pushed`: it has to
    push its authentication requests (RFC 9126); `require_signed`: to sign them, with that key (RFC 9101).
    `backchannel_logout_uri` is told when somebody signs out here who has signed in there
    (`backchannel_logout_session_required`: with the session's `sid`, which it gets anyway), and
    `frontchannel_logout_uri` is shown in a frame then; empty for no. `refresh_tokens`: it gets one without the scope
    `offline_access` too. `amr_when_refreshed`: an ID token that a refresh token brings repeats `amr` and `acr`, which
    Auth0 leaves out.
    """

    client_id: str
    client_secret: str = field(repr=False)
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...] = ()
    id_token_signed_response_alg: str = "RS256"  # noqa: S105 - not a password
    require_pkce: bool = True
    name: str = ""
    public_key: str = ""
    require_pushed: bool = False
    require_signed: bool = False
    backchannel_logout_uri: str = ""
    backchannel_logout_session_required: bool = False
    frontchannel_logout_uri: str = ""
    refresh_tokens: bool = False
    amr_when_refreshed: bool = False

    def __post_init__(self) -> None:
        where = f"client {self.client_id!r}"
        if not self.client_id or not (self.client_secret or self.public_key):
            raise ConfigurationError("a client needs a client_id and a client_secret or a public_key")
        if self.public_key and not self.public_key.startswith("-----BEGIN PUBLIC KEY-----"):
            raise ConfigurationError(f"{where}: public_key is not a public key in PEM")
        if self.require_signed and not self.public_key:
            raise ConfigurationError(f"{where}: require_signed needs a public_key")
        if not self.redirect_uris:
            raise ConfigurationError(f"{where} has no redirect URI")
        for uri in (*self.redirect_uris, *self.post_logout_redirect_uris):
            if not is_entry(uri):
                raise ConfigurationError(f"{where}: {uri!r} is not a redirect URI")
        for uri in filter(None, (self.backchannel_logout_uri, self.frontchannel_logout_uri)):
            if uri.startswith(LOOPBACK) or not is_entry(uri):
                raise ConfigurationError(f"{where}: {uri!r} is not a logout URI")
        if self.id_token_signed_response_alg not in SIGNING_ALGORITHMS:
            raise ConfigurationError(f"{where}: id_token_signed_response_alg is one of {', '.join(SIGNING_ALGORITHMS)}")
        if self.uses_shared_secret and len(self.client_secret.encode()) < MINIMAL_SECRET:
            raise ConfigurationError(f"{where}: HS256 needs a client secret of at least {MINIMAL_SECRET} octets")

    @property
    def display_name(self) -> str:
        return self.name or self.client_id

    @property
    def uses_shared_secret(self) -> bool:
        """Whether the client secret signs the ID tokens of this application."""
        return self.id_token_signed_response_alg.startswith("HS")


DEFAULT_USERS = (
    User(
        username="anna",
        password="anna-password",  # noqa: S106 - published on purpose: a person for development
        name="Anna Lindqvist",
        given_name="Anna",
        family_name="Lindqvist",
        email="anna@harbour.example",
        totp_secret="NBQXEYTPOVZC2YLONZQS2MJR",  # noqa: S106 - see above
        push=True,
    ),
    User(
        username="ben",
        password="ben-password",  # noqa: S106 - see above
        name="Ben Okafor",
        given_name="Ben",
        family_name="Okafor",
        email="ben@harbour.example",
        totp_secret="NBQXEYTPOVZC2YTFNYWTCMJR",  # noqa: S106 - see above
    ),
    User(
        username="cleo",
        password="cleo-password",  # noqa: S106 - see above
        name="Cleo Marchetti",
        given_name="Cleo",
        family_name="Marchetti",
        email="cleo@harbour.example",
    ),
)


@dataclass(frozen=True)
class Configuration:
    """Everything the provider is told.

    `clients_with_mfa` lists the client ids for which a requested second factor is asked for; None stands for all.
    `port` 0 takes any free one. The issuer follows from host, port and `tls`: a certificate file and its key file (in
    PEM), or True for a certificate that is made on the spot; `RunningProvider.certificate` is where it is then.
    `latency` is in seconds, and is added to each answer that is for an application and not for a browser.
    `personality` is one of `personalities.PERSONALITIES`. `acr_values` are those that ask for a second factor, each of
    which is the `acr` then, and `amr` is what the ID token says of it. `claims` are what it says besides, by name; each
    of them asks for a second factor too, where the parameter `claims` names it (OpenID Connect Core 1.0, section 5.5).
    `proofs` are what it says in place of both, `amr` among them, where an application has asked for a certain class or
    claim: by its value or name.
    """

    purpose: str
    clients: tuple[Client, ...]
    users: tuple[User, ...] = DEFAULT_USERS
    clients_with_mfa: tuple[str, ...] | None = None
    host: str = "127.0.0.1"
    port: int = 0
    tls: bool | tuple[str, str] = False
    latency: float = 0.0
    personality: str = WELL_BEHAVED
    acr_values: tuple[str, ...] = (MULTI_FACTOR,)
    amr: tuple[str, ...] = ("mfa",)
    claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    proofs: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.purpose not in PURPOSES:
            raise ConfigurationError(f"this provider is for {' and '.join(PURPOSES)}, not for {self.purpose!r}")
        if not _is_loopback(self.host):
            raise ConfigurationError(
                f"this provider serves its own machine only: {self.host!r} is not a loopback address"
            )
        if not 0 <= self.port <= 65535:
            raise ConfigurationError(f"{self.port} is not a port")
        if not 0 <= self.latency <= MOST_LATENCY:
            raise ConfigurationError(f"a latency is between 0 and {MOST_LATENCY} seconds")
        ids = [client.client_id for client in self.clients]
        _distinct("client_id", ids)
        _distinct("username", [user.username for user in self.users])
        _distinct("sub", [user.sub for user in self.users])
        for client_id in self.clients_with_mfa or ():
            if client_id not in ids:
                raise ConfigurationError(f"clients_with_mfa: there is no client {client_id!r}")

    @classmethod
    def from_dict(cls, data: object) -> Configuration:
        """Read what `to_dict` wrote, or what a person did. Raises `ConfigurationError`."""
        return _read(cls, data, "configuration")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON can carry it, secrets included."""
        return asdict(self)


def from_site(
    site: object,
    *,
    client_id: str | None,
    client_secret: str | None,
    sign_algo: str,
    callback_path: str | None,
    host: str | None = None,
    port: int | None = None,
    personality: str | None = None,
) -> Configuration:
    """The configuration of a site under development, from its setting `STEPUP_PROVIDER` and the few it has already.

    Where `STEPUP_PROVIDER` names no CLIENTS, there is one, made of the site's own client id, secret and algorithm,
    and any port of this machine may be its address. `host`, `port` and `personality` are those of the command line.
    Raises `ConfigurationError`.
    """
    if not isinstance(site, Mapping):
        raise ConfigurationError("STEPUP_PROVIDER is a dictionary")
    settings: dict[str, Any] = {
        "USERS": None,
        "CLIENTS": None,
        "CLIENTS_WITH_MFA": None,
        "HOST": "127.0.0.1",
        "PORT": DEFAULT_PORT,
        "PERSONALITY": WELL_BEHAVED,
    }
    _refuse_unknown(site, settings, "STEPUP_PROVIDER")
    settings.update(site)
    data: dict[str, Any] = {
        "purpose": "development",
        "clients": settings["CLIENTS"],
        "clients_with_mfa": settings["CLIENTS_WITH_MFA"],
        "host": settings["HOST"] if host is None else host,
        "port": settings["PORT"] if port is None else port,
        "personality": settings["PERSONALITY"] if personality is None else personality,
    }
    if settings["USERS"] is not None:
        data["users"] = settings["USERS"]
    if settings["CLIENTS"] is None:
        if not client_id or not client_secret or not callback_path:
            raise ConfigurationError(
                "STEPUP_PROVIDER names no CLIENTS, and the site has no client id, client secret and callback URL"
            )
        data["clients"] = [
            {
                "client_id": client_id,
                "client_secret": client_secret,
                "redirect_uris": [LOOPBACK + callback_path],
                "post_logout_redirect_uris": [LOOPBACK + "/*"],
                "id_token_signed_response_alg": sign_algo,
            }
        ]
    return _read(Configuration, data, "STEPUP_PROVIDER")


_T = TypeVar("_T", User, Client, Configuration)


def _read(cls: type[_T], data: object, where: str) -> _T:
    if not isinstance(data, Mapping):
        raise ConfigurationError(f"{where} is a dictionary")
    known = {each.name: each for each in fields(cls)}
    _refuse_unknown(data, known, where)
    needed = (each for each in known.values() if each.default is each.default_factory is MISSING)
    missing = [each.name for each in needed if each.name not in data]
    if missing:
        raise ConfigurationError(f"{where}: {', '.join(missing)} missing")
    values: dict[str, Any] = {
        name: _READERS[str(known[name].type)](value, f"{where}.{name}") for name, value in data.items()
    }
    return cls(**values)


def _refuse_unknown(data: Mapping[Any, object], known: Mapping[str, object], where: str) -> None:
    unknown = sorted(str(key) for key in data if key not in known)
    if unknown:
        raise ConfigurationError(f"{where}: unknown {', '.join(unknown)} (known are {', '.join(known)})")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{where} is a string")
    return value


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{where} is True or False")
    return value


def _number(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigurationError(f"{where} is a whole number")
    return value


def _seconds(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigurationError(f"{where} is a number of seconds")
    return float(value)


def _tls(value: object, where: str) -> bool | tuple[str, str]:
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple) and len(value) == 2:
        return _text(value[0], where), _text(value[1], where)
    raise ConfigurationError(f"{where} is True, False, or the paths of a certificate and its key")


def _many(read: Callable[[object, str], Any]) -> Callable[[object, str], Any]:
    def each(value: object, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ConfigurationError(f"{where} is a list")
        return tuple(read(item, f"{where}[{number}]") for number, item in enumerate(value))

    return each


def _mapping(read: Callable[[object, str], Any]) -> Callable[[object, str], Any]:
    def each(value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{where} is a dictionary")
        return {_text(name, where): read(item, f"{where}[{name!r}]") for name, item in value.items()}

    return each


def _or_none(read: Callable[[object, str], Any]) -> Callable[[object, str], Any]:
    return lambda value, where: None if value is None else read(value, where)


#: How each kind of field is read, by its annotation.
_READERS: dict[str, Callable[[object, str], Any]] = {
    "str": _text,
    "bool": _flag,
    "int": _number,
    "float": _seconds,
    "bool | tuple[str, str]": _tls,
    "str | None": _or_none(_text),
    "tuple[str, ...]": _many(_text),
    "tuple[str, ...] | None": _or_none(_many(_text)),
    "Mapping[str, tuple[str, ...]]": _mapping(_many(_text)),
    "Mapping[str, Mapping[str, tuple[str, ...]]]": _mapping(_mapping(_many(_text))),
    "tuple[Client, ...]": _many(lambda value, where: _read(Client, value, where)),
    "tuple[User, ...]": _many(lambda value, where: _read(User, value, where)),
}


def _distinct(what: str, values: list[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ConfigurationError(f"{what} {twice[0]!r} is there twice")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

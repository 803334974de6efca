"""The OP, the sites that sign in through it, and the table that is shown when all is measured."""

from __future__ import annotations

import datetime as dt
import http.client
import ipaddress
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.benchmarks.measure import Row, Table

_TABLE = pytest.StashKey[Table]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLE] = Table()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[_TABLE].rows:
        terminalreporter.section("ours / theirs: medians, measured in turn in one run")
        terminalreporter.write_line(str(config.stash[_TABLE]))


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Adds a row to the table; takes what `Row` takes."""

    def report(**row: Any) -> None:
        request.config.stash[_TABLE].rows.append(Row(**row))

    return report


class Process:
    """A module of this package that runs in a process of its own, and answers lines with lines."""

    def __init__(self, module: str, *args: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.benchmarks.{module}", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)

    def __call__(self, do: str, **order: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self._process.stdin.flush()
        return self.read()

    def stop(self) -> None:
        self._process.communicate(timeout=30)


class Bench:
    """The OP, and sites to be started for it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        pem, ca = _certificate()
        (directory / "op.pem").write_bytes(pem)
        # With all the authorities that a site has by default: reading them is a good part of what a TLS context costs.
        self._bundle = directory / "authorities.pem"
        self._bundle.write_bytes(Path(certifi.where()).read_bytes() + ca)
        self._op = Process("op", str(directory / "op.pem"))
        self.issuers: dict[str, str] = self._op.read()
        self._sites: dict[tuple[str, ...], Process] = {}

    def site(self, kind: str, scheme: str, sessions: str = "db") -> Process:
        """A site of a kind that talks to the OP with or without TLS, its sessions in the database or the cache."""
        which = (kind, scheme, sessions)
        if which not in self._sites:
            database = self._directory / f"{'-'.join(which)}.sqlite3"
            arguments = (kind, sessions, self.issuers[scheme], self.issuers["http"], str(database), str(self._bundle))
            self._sites[which] = Process("site", *arguments)
        return self._sites[which]

    def set_latency(self, seconds: float) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.issuers["http"]).netloc)
        connection.request("GET", f"/latency?{seconds}")
        connection.getresponse().read()
        connection.close()

    def stop(self) -> None:
        for process in (*self._sites.values(), self._op):
            process.stop()


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    yield bench
    bench.stop()


def _certificate() -> tuple[bytes, bytes]:
    """A certificate for 127.0.0.1 with its key, and the authority that it is from, in PEM."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Benchmarks")])
    now = dt.datetime.now(dt.timezone.utc)

    def builder(name: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(authority_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )

    may_sign = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    authority = (
        builder(authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(may_sign, critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    own = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")]), key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = serialization.Encoding.PEM
    return private + own.public_bytes(pem), authority.public_bytes(pem)

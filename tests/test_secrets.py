"""No secret is shown, however it is spelt: secrets and spellings are drawn at random, and all output looked through."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, assume, example, given, settings, strategies as st

from emdstore import Catalog, S3ArtifactStore, open_store
from emdstore.cli.app import run
from emdstore.errors import redact, redact_url

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789"
# No name of a parameter, and nothing else in a message, looks like this.
PART = st.text(LETTERS, min_size=5, max_size=8).map("Q7".__add__)
SECRET = st.lists(PART, min_size=1, max_size=3).flatmap(
    lambda parts: st.lists(st.sampled_from("/@:+%~!$*,;=?#&"), min_size=len(parts) - 1, max_size=len(parts) - 1).map(
        lambda marks: "".join(one for pair in zip(parts, [*marks, ""], strict=True) for one in pair)
    )
)
NAME = st.one_of(
    st.sampled_from(
        ["sig", "pwd", "passwd", "auth", "code", "jsessionid", "token", "sas", "X-Amz-Signature", "AWSAccessKeyId", "k"]
    ),
    st.text("abcdefghijklmnopqrstuvwxyz_-", min_size=1, max_size=12).filter(
        lambda name: name not in ("region", "prefix", "page", "uploads", "delimiter", "sslmode")
    ),
)
SPELL: dict[str, Callable[[str, str], str]] = {  # after the scheme; the secret may be quoted or not
    "a password": lambda name, secret: f"model:{secret}@127.0.0.1:1/out/run",
    "a parameter": lambda name, secret: f"127.0.0.1:1/out?a=1&{name}={secret}",
    "the first parameter": lambda name, secret: f"127.0.0.1:1/out?{name}={secret}&b=2",
    "a quoted password": lambda name, secret: f"model:{quote(secret, safe='')}@127.0.0.1:1/out",
    "a user": lambda name, secret: f"{quote(secret, safe='')}@127.0.0.1:1/out",
    "a quoted parameter": lambda name, secret: f"127.0.0.1:1/out?{name}={quote(secret, safe='')}",
    "a bare parameter": lambda name, secret: f"127.0.0.1:1/out?{quote(secret, safe='')}",
    "after the query": lambda name, secret: f"127.0.0.1:1/out?a=b#{name}={secret}",
}
URL = st.builds(
    lambda spelt, scheme, name, secret: (f"{scheme}://{SPELL[spelt](name, secret)}", secret),
    st.sampled_from(sorted(SPELL)),
    st.sampled_from(["ftp", "HTTP", "https", "s3", "S3", "smb", "sftp", "nonsense", "postgresql", "mysql"]),
    NAME,
    SECRET,
)
# Whom to log in as is no secret to SSH, which takes passwords nowhere but from people.
IS_USER_OF_SSH = re.compile(r"sftp://[^/?#:@]*@").match
OFTEN = settings(max_examples=150, suppress_health_check=list(HealthCheck))


def assert_hidden(secret: str, text: str) -> None:
    for part in re.findall(f"[{LETTERS}]{{7,}}", secret):
        assert part not in text, text


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    """Note all that is logged while the block runs, by anybody."""
    lines: list[str] = []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, emdstore = Note(), logging.getLogger("emdstore")
    emdstore.addHandler(handler)
    try:
        yield lines
    finally:
        emdstore.removeHandler(handler)


def said_by(call: Callable[[], Any]) -> str:
    """Return what a call returns or raises, as anybody might print it."""
    try:
        made = call()
    except Exception as error:
        return "".join(traceback.format_exception_only(error)) + repr(error) + repr(vars(error))
    return f"{made!r} {made}"


@OFTEN
@given(URL)
def test_no_url_is_shown_with_its_secret(drawn: tuple[str, str]) -> None:
    url, secret = drawn
    shown = redact_url(url)
    assert_hidden(secret, shown)
    assert redact_url(shown) == redact(shown) == shown
    assert_hidden(secret, redact(f"GET '{url}' failed: see \"{url}\""))


@OFTEN
@given(URL)
@example(("postgresql://?sig=Q722222@Q722222", "Q722222@Q722222"))
@example(("ftp://model:Q722222/Q722222@127.0.0.1:1/out/run", "Q722222/Q722222"))
def test_no_store_or_catalog_shows_it(drawn: tuple[str, str]) -> None:
    url, secret = drawn
    assume(not IS_USER_OF_SSH(url))
    with everything_logged() as logged:
        said = [said_by(lambda: open_store(url)), said_by(lambda: Catalog(url))]
        said.append(said_by(lambda: S3ArtifactStore("s3://bucket", endpoint_url=url)))
        said.append(said_by(lambda: S3ArtifactStore("s3://bucket", endpoint_url=url).exists("a")))
    assert_hidden(secret, "".join(said + logged))


@OFTEN
@given(
    secret=PART,
    name=st.sampled_from(
        [
            "password",
            "PGPASSWORD",
            "secret_access_key",
            "AWS_SECRET_ACCESS_KEY",
            "sas_token",
            "client_secret",
            "api-key",
        ]
    ),
    spelt=st.sampled_from(
        ["{}={}", "host=h {}={} port=1", '"{}": "{}"', "'{}': '{}'", "{}: {}1", "{} => {}", "--{}={}"]
    ),
)
def test_no_setting_of_an_engine_shows_it(secret: str, name: str, spelt: str) -> None:
    assert_hidden(secret, redact(f"engine failed with {spelt.format(name, secret)}"))


HEADERS = [
    "Authorization: Basic {}", "authorization: Bearer {}", "Cookie: s={}", "x-amz-security-token: {}",
    "'X-Auth-Token': '{}'", "Bearer {}2",
]  # fmt: skip


@OFTEN
@given(secret=PART, header=st.sampled_from(HEADERS))
def test_no_header_shows_it(secret: str, header: str) -> None:
    assert_hidden(secret, redact(f"sent {header.format(secret)}"))


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(URL, st.sampled_from(["", "--json", "-v", "-vv"]), st.sampled_from(["store", "catalog", "endpoint", "key"]))
@example(("HTTP://model:Q722222/Q722223@127.0.0.1:1/out/run", "Q722222/Q722223"), "-vv", "store")
def test_no_command_shows_it(
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
    drawn: tuple[str, str],
    option: str,
    at: str,
) -> None:
    url, secret = drawn
    folder = str(tmp_path_factory.getbasetemp())
    quick = ["--timeout", "0.2", "--retries", "0"]
    call = {
        "store": ["transfer", folder, url, "no/such/key", "--dry-run", *quick],
        "catalog": ["db", "check", "--catalog", url],
        "endpoint": ["ls", "s3://bucket/x", "--endpoint-url", url, *quick],
        "key": ["ls", folder, url],
    }[at]
    before = logging.getLogger().handlers[:]
    try:
        assert run([*call, *([option] if option else [])]) != 0 or at == "store"
    finally:
        logging.getLogger().handlers[:] = before
        logging.getLogger("emdstore").setLevel(logging.NOTSET)
        logging.getLogger().setLevel(logging.WARNING)
    out, err = capsys.readouterr()
    assert_hidden(secret, out + err)

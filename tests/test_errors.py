"""The error family: what callers may catch, and what a message may say."""

from __future__ import annotations

import errno
import inspect
import pickle

import pytest

from emdstore import errors
from emdstore.errors import (
    CatalogUnavailableError,
    DamagedOnTheWayError,
    EmdstoreError,
    MissingExtraError,
    StoreError,
    StoreUnavailableError,
    redact,
)

FAMILY = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, EmdstoreError) and each is not EmdstoreError
]

BUILTINS = {
    "ArtifactChangedError": RuntimeError,
    "ArtifactExistsError": FileExistsError,
    "ArtifactNotFoundError": FileNotFoundError,
    "BundleError": ValueError,
    "InvalidKeyError": ValueError,
    "KeyConflictError": FileExistsError,
    "MissingExtraError": ImportError,
    "StoreAccessError": PermissionError,
    "LookRefusedError": PermissionError,
    "ArtifactRetainedError": PermissionError,
    "StoreError": OSError,
    "UnsupportedError": NotImplementedError,
    "StoreURLError": ValueError,
    "StoreUnavailableError": ConnectionError,
    "CatalogUnavailableError": ConnectionError,
    "UnsafePathError": PermissionError,
}


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
class TestEveryError:
    def test_is_also_a_builtin_that_a_caller_would_catch(self, kind: type[EmdstoreError]) -> None:
        own = [base for base in kind.__mro__ if base.__module__ == "builtins"]
        assert own[0] not in (Exception, BaseException)
        assert issubclass(kind, BUILTINS.get(kind.__name__, Exception))

    def test_says_what_it_was_told_and_nothing_else(self, kind: type[EmdstoreError]) -> None:
        """`OSError` and `KeyError` have ideas of their own of how they look."""
        assert str(kind("no artifact 'a'", key="a", store="memory://x")) == "no artifact 'a'"
        assert str(kind()) == ""

    def test_crosses_processes_with_all_that_it_carries(self, kind: type[EmdstoreError]) -> None:
        again = pickle.loads(pickle.dumps(kind("message", key="a/b", store="memory://x")))
        assert type(again) is kind
        assert (str(again), again.key, again.store) == ("message", "a/b", "memory://x")

    def test_can_be_made_by_its_class_alone(self, kind: type[EmdstoreError]) -> None:
        """So tblib unpickles errors wherever Dask is loaded."""
        again = kind.__new__(kind)
        assert type(again) is kind

    def test_is_explained(self, kind: type[EmdstoreError]) -> None:
        assert kind.__doc__
        assert kind.__doc__ != kind.__bases__[0].__doc__


def test_only_what_may_pass_is_worth_another_try() -> None:
    passing = [kind for kind in FAMILY if issubclass(kind, ConnectionError)]
    assert set(passing) == {CatalogUnavailableError, DamagedOnTheWayError, StoreUnavailableError}


def test_a_missing_extra_comes_with_the_command_that_installs_it() -> None:
    assert "pip install 'emdstore[s3]'" in str(MissingExtraError.of("S3ArtifactStore", "s3"))


class TestRedact:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("s3://AKIA:hidden@host/bucket", "s3://***@host/bucket"),
            ("postgresql+psycopg://me:hidden@db:5432/catalog", "postgresql+psycopg://***@db:5432/catalog"),
            ("https://h/b?X-Amz-Signature=hidden&partNumber=1", "https://h/b?X-Amz-Signature=***&partNumber=1"),
            ("?AWSAccessKeyId=hidden&secret_token=hidden", "?AWSAccessKeyId=***&secret_token=***"),
            ("GET 'https://h/b?token=hidden' failed", "GET 'https://h/b?token=***' failed"),
            ("https://h/b?x=hidden#access_token=hidden", "https://h/b?x=***#access_token=***"),
            ("https://h/b?hidden is bare", "https://h/b?*** is bare"),
            ("ftp://me:hid/den@host:21/x", "ftp://***@host:21/x"),
            ("smb://me:hid@d/en@host/x", "smb://***@host/x"),
            ("s3://AKIA:hid/den@bucket/x", "s3://***@bucket/x"),
            ("s3://bucket/model@v2/x", "s3://bucket/model@v2/x"),
            ("host=db password=hidden port=5432", "host=db password=*** port=5432"),
            ("{'secret_access_key': 'hidden', 'n': 1}", "{'secret_access_key': '***', 'n': 1}"),
            ('{"sessionToken": "hid\\"den"}', '{"sessionToken": "***"}'),
            ("AWS_SECRET_ACCESS_KEY=hidden", "AWS_SECRET_ACCESS_KEY=***"),
            ("Authorization: AWS4-HMAC-SHA256 Credential=hidden/x", "Authorization: ***"),
            ("sent 'x-amz-security-token': 'hidden'", "sent 'x-amz-security-token': ***"),
            ("with Bearer hidden-hidden", "with Bearer ***"),
            ("it wants a token: give one", "it wants a token: give one"),
            ("password authentication failed", "password authentication failed"),
            ("nothing to hide in run1/out.log?", "nothing to hide in run1/out.log?"),
            ("mail me@example.org", "mail me@example.org"),
        ],
    )
    def test_hides_credentials_and_keeps_the_rest(self, text: str, shown: str) -> None:
        assert redact(text) == shown
        assert redact(shown) == shown

    def test_hides_known_secrets_wherever_they_stand(self) -> None:
        assert (
            redact("the key abc-def was refused; abc too", ["abc", "abc-def", ""]) == "the key *** was refused; *** too"
        )


def test_the_number_of_a_system_error_crosses_processes() -> None:
    error = StoreError("the disk is full", key="a")
    error.errno = errno.ENOSPC
    there = pickle.loads(pickle.dumps(error))
    assert (there.errno, there.key, str(there)) == (errno.ENOSPC, "a", "the disk is full")

"""The folder of a bucket behind an S3 store, and the engine's client for it."""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import quote

import attrs

from emdstore import system
from emdstore.errors import (
    ArtifactNotFoundError,
    InvalidKeyError,
    StoreAccessError,
    StoreUnavailableError,
    StoreURLError,
    redact,
)
from emdstore.keys import MAX_KEY_BYTES, validate_key
from emdstore.per_process import PerProcess
from emdstore.stores.checksums import md5_of_etag
from emdstore.stores.content_types import content_type
from emdstore.stores.port import ArtifactInfo
from emdstore.stores.s3.credentials import Found, from_environment
from emdstore.stores.s3.engine import extension
from emdstore.stores.s3.errors import ErrorTranslator, first_line, is_of_engine, is_panic, is_refused_without_reason
from emdstore.stores.s3.signing import Credentials, signed_headers
from emdstore.stores.secrecy import FOUND_AGAIN, left_behind
from emdstore.stores.waiting import heard

# Opening a client takes some 10 ms, and each of its connections a handshake, which a worker should not spend on every
# store that it receives. The keys are the settings, and what the environment may add to them.
_clients: PerProcess[dict[object, Any]] = PerProcess(dict)


_FLAGS = frozenset({"uploads"})
"""Parameters that mean something without a value."""

_SENT_AT_ONCE = 512 * 1024  # that goes up in the time of an answer, over whatever line


class _Heard:
    """The engine's functions, made interruptible by Ctrl-C."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(extension(), name)
        return functools.partial(heard, found) if callable(found) else found


_HEARD = _Heard()


class Connection:
    """The engine's clients for one bucket. They connect on first use, and all folders of a store share them.

    Parameters
    ----------
    settings
        Returns the arguments of obstore's ``S3Store`` for requests, or (True) for large uploads. It is called when the
        store is used, because they may depend on the environment.
    errors
        The translator of errors.
    lacks
        The options that were removed when the store was pickled.
    profile
        The profile whose credentials to use; None to look for credentials.

    Attributes
    ----------
    bucket_seen
        Whether any answer has proved that the bucket exists.
    knows_conditions
        Whether the server may support conditional puts; False once it has said that it does not.
    """

    def __init__(
        self,
        settings: Callable[[bool], dict[str, Any]],
        errors: ErrorTranslator,
        lacks: Collection[str] = (),
        profile: str | None = None,
    ) -> None:
        self._settings, self._errors, self._lacks, self._profile = settings, errors, lacks, profile
        self._asking: PerProcess[Any] = PerProcess(lambda: self._connect(False))
        self._sending: PerProcess[Any] = PerProcess(lambda: self._connect(True))
        self.bucket_seen = False
        self.knows_conditions = True

    def client(self, sending: int = 0) -> tuple[Any, Any]:
        """Return obstore's functions, and this process' client for requests that send so many bytes.

        The engine has one limit for a server's silence, and the time of an upload counts towards it. So there is a more
        patient client for large uploads.
        """
        return _HEARD, (self._sending if sending > _SENT_AT_ONCE else self._asking).get()

    def _connect(self, sending: bool) -> Any:
        around = frozenset((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
        settings = self._settings(sending)
        found = self._found_around(settings["config"])
        settings["config"] = {**found.settings, **settings["config"]}
        key = pickle.dumps(settings), around, self._profile
        opened = _clients.get()
        try:
            if key not in opened:
                opened[key] = extension()._store.S3Store(**settings, credential_provider=found.provider)
        except BaseException as error:
            if is_panic(error):
                raise self._errors.broken_down("open", "") from None
            if not isinstance(error, Exception) or not is_of_engine(error):
                raise
            name, reason = self._errors.name, redact(first_line(str(error)), self._errors.secrets)
            raise StoreURLError(f"{name} cannot be opened with these options: {reason}", store=name) from None
        return opened[key]

    def _found_around(self, config: Mapping[str, Any]) -> Found:
        name = self._errors.name
        if not self._lacks:
            return from_environment(config, name, self._profile)
        said = left_behind(", ".join(self._lacks), name)
        if not FOUND_AGAIN.issuperset(self._lacks):
            raise StoreAccessError(said, store=name)
        try:
            return from_environment(config, name, self._profile)
        except StoreAccessError:
            raise StoreAccessError(said, store=name) from None


@attrs.frozen(repr=False)
class Bucket:
    """A folder of a bucket, with everything that operations on it need.

    Attributes
    ----------
    name
        The bucket.
    prefix
        The folder; ``""`` for the whole bucket.
    connection
        To the server.
    errors
        The translator of errors.
    timeout, connect_timeout, retries
        See `S3ArtifactStore`.
    signs
        Whether requests are signed.
    trusts_any_certificate
        Whether every certificate of the server is accepted.
    ca_bundle
        Returns certificates in PEM that are trusted beside those of the system, or None.
    check_etag
        Whether an ETag that looks like an MD5 is one.
    part_size, part_uploads
        See `S3ArtifactStore`.
    """

    name: str
    prefix: str
    connection: Connection
    errors: ErrorTranslator
    timeout: float
    connect_timeout: float
    retries: int
    signs: bool
    trusts_any_certificate: bool
    ca_bundle: Callable[[], str | None]
    check_etag: bool
    part_size: int
    part_uploads: int
    base: str = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.prefix + "/" if self.prefix else "", takes_self=True)
    )

    patience: ClassVar[float] = 60.0
    """Seconds after which no request is tried again; an outage of about a minute does no harm."""

    def __repr__(self) -> str:
        return self.errors.name

    def client(self, sending: int = 0) -> tuple[Any, Any]:
        """See `Connection.client`."""
        return self.connection.client(sending)

    def object_name(self, key: str) -> str:
        """Check a key, and return the object's name."""
        name = self.base + validate_key(key)
        if len(name) * 4 > MAX_KEY_BYTES and len(name.encode()) > MAX_KEY_BYTES:
            raise InvalidKeyError(
                f"not a valid key: {key!r}: with the store's prefix it is longer than the {MAX_KEY_BYTES} bytes that "
                f"S3 allows; open {self!r} with a shorter prefix",
                key=key,
                store=repr(self),
            )
        return name

    def key_of(self, object_name: str) -> str:
        """Return the key, valid or not, of an object that lies in the folder."""
        return object_name[len(self.base) :]

    def describe(self, key: str, entry: Any) -> ArtifactInfo:
        """Return an artifact's info from what obstore or a listing says of the object."""
        tag = entry["e_tag"]
        checksum = md5_of_etag(tag) if self.check_etag else None
        return ArtifactInfo(key, entry["size"], entry["last_modified"].timestamp(), tag, checksum)

    def attributes_of(self, key: str) -> dict[str, str]:
        """Return the attributes that are uploaded with an artifact's bytes."""
        kind = content_type(key)
        return {} if kind is None else {"Content-Type": kind}

    def described(self, key: str, entry: Any) -> ArtifactInfo:
        """Return an artifact's info from an answer about the object.

        Raises
        ------
        StoreUnavailableError
            If it lacks what every S3 server says of an object, because a gateway has answered.
        """
        if entry["e_tag"] is None and not entry["last_modified"].timestamp():
            raise StoreUnavailableError(
                f"cannot look at {key!r} in {self!r}: the answer is not about an object; something other than "
                "the server has answered, a gateway perhaps; try again",
                key=key,
                store=repr(self),
            )
        return self.describe(key, entry)

    def look_at(self, key: str) -> ArtifactInfo:
        """Return the server's info of an artifact; `ArtifactNotFoundError` if nothing lies at the key."""
        name = self.object_name(key)
        obs, client = self.client()
        try:
            with self.errors.translating("look at", key):
                try:
                    return self.described(key, obs.head(client, name))
                except Exception as error:
                    if not is_of_engine(error):
                        raise
                    is_absent = isinstance(error, FileNotFoundError)
                    if self.connection.bucket_seen if is_absent else not is_refused_without_reason(error):
                        raise
                    # The answer to HEAD has no body: a missing bucket looks like a missing object, and a refusal has no
                    # reason. GET tells.
                    return self.described(key, obs.get(client, name).meta)
        except ArtifactNotFoundError:
            self.connection.bucket_seen = True
            raise

    def signed(self, method: str, object_name: str, query: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """Return the URL and the headers of a signed request without a body.

        Parameters
        ----------
        method
            What to ask.
        object_name
            The object; ``""`` for the bucket.
        query
            The parameters; those without a value are left out.
        """
        obs, client = self.client()
        config = dict(client.config)
        region = _setting(config, "region", "default_region") or "us-east-1"
        endpoint = _setting(config, "endpoint") or f"https://s3.{region}.amazonaws.com"
        is_hosted = (_setting(config, "virtual_hosted_style_request") or "").lower() == "true"
        place = "/".join(
            filter(None, [endpoint.rstrip("/"), "" if is_hosted else self.name, _quoted(object_name, "/")])
        )
        asked = "&".join(f"{name}={_quoted(query[name])}" for name in sorted(query) if query[name] or name in _FLAGS)
        url = f"{place}?{asked}"
        if not self.signs:
            return url, {}
        pays = (_setting(config, "request_payer") or "").lower() in ("true", "requester")
        more = {"x-amz-request-payer": "requester"} if pays else {}
        if client.credential_provider is not None:
            told = client.credential_provider()
            who = Credentials(told["access_key_id"], told["secret_access_key"], told["token"])
            return url, signed_headers(method, url, region, who, system.current().now(), more)
        key, secret = _setting(config, "access_key_id"), _setting(config, "secret_access_key")
        if key and secret:
            who = Credentials(key, secret, _setting(config, "session_token", "token"))
            return url, signed_headers(method, url, region, who, system.current().now(), more)
        # Only the engine knows the credentials of a role, and it signs only URLs of objects. With an endpoint that ends
        # in a query, the URL of an object without a name is that of what comes before it; the slash before the name
        # goes to a parameter that S3 ignores.
        config |= {"endpoint": f"{url}{asked and '&'}x-id=emdstore", "virtual_hosted_style_request": True}
        signer = obs._store.S3Store(config=config, client_options=client.client_options)
        return obs.sign(signer, method, "", timedelta(minutes=5)), {}


def _setting(config: Mapping[str, Any], *names: str) -> str | None:
    """Return a value from the engine's settings or, as the engine does, from the environment."""
    for name in names:
        found = config.get(name) or config.get(f"aws_{name}") or os.environ.get(f"AWS_{name.upper()}")
        if found:
            return str(found)
    return None


def _quoted(text: str, safe: str = "") -> str:
    return quote(text, safe=safe + "~")

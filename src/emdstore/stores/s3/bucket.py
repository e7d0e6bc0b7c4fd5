"""The ground that an S3 store stands on: one folder of a bucket, and the engine's client for it."""

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
from emdstore.stores.s3.credentials import from_environment
from emdstore.stores.s3.engine import extension
from emdstore.stores.s3.errors import ErrorTranslator, first_line, is_of_engine, is_panic, is_refused_without_reason
from emdstore.stores.s3.signing import Credentials, signed_headers
from emdstore.stores.secrecy import FOUND_AGAIN, left_behind
from emdstore.stores.waiting import heard

# To open a client takes some 10 ms and its connections as many handshakes, which a worker should not spend on every
# store that it is sent. By the settings, and by what the environment may add to them.
_clients: PerProcess[dict[object, Any]] = PerProcess(dict)


_SENT_AT_ONCE = 512 * 1024  # that goes up in the time of an answer, over whatever line


class _Heard:
    """The engine's functions, which Ctrl-C interrupts."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(extension(), name)
        return functools.partial(heard, found) if callable(found) else found


_HEARD = _Heard()


class Connection:
    """The engine's clients for one bucket, which connect when they are first used; all folders of a store share them.

    Parameters
    ----------
    settings
        Tells what obstore's ``S3Store`` takes to ask, or (True) to send large bodies. It is called when the store is
        used, because the environment may have a say in it.
    errors
        Who the errors are about.
    lacks
        The options that were left behind when the store was pickled.

    Attributes
    ----------
    bucket_seen
        Whether the server has said anything that only a bucket which is there says.
    knows_conditions
        Whether the server may know conditional puts: False as soon as it has said that it does not.
    """

    def __init__(
        self, settings: Callable[[bool], dict[str, Any]], errors: ErrorTranslator, lacks: Collection[str] = ()
    ) -> None:
        self._settings, self._errors, self._lacks = settings, errors, lacks
        self._asking: PerProcess[Any] = PerProcess(lambda: self._connect(False))
        self._sending: PerProcess[Any] = PerProcess(lambda: self._connect(True))
        self.bucket_seen = False
        self.knows_conditions = True

    def client(self, sending: int = 0) -> tuple[Any, Any]:
        """Return obstore's functions, and this process' client to ask, or to send so many bytes at a time.

        The engine has one limit for how long a server may be silent, and counts the time in which a body goes up. So
        for large bodies there is a client that is patient.
        """
        return _HEARD, (self._sending if sending > _SENT_AT_ONCE else self._asking).get()

    def _connect(self, sending: bool) -> Any:
        around = frozenset((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
        settings = self._settings(sending)
        settings["config"] = self._found_around(settings["config"]) | settings["config"]
        key = pickle.dumps(settings), around
        opened = _clients.get()
        try:
            if key not in opened:
                opened[key] = extension()._store.S3Store(**settings)
        except BaseException as error:
            if is_panic(error):
                raise self._errors.broken_down("open", "") from None
            if not isinstance(error, Exception) or not is_of_engine(error):
                raise
            name, reason = self._errors.name, redact(first_line(str(error)), self._errors.secrets)
            raise StoreURLError(f"{name} cannot be opened with these options: {reason}", store=name) from None
        return opened[key]

    def _found_around(self, config: Mapping[str, Any]) -> dict[str, str]:
        name = self._errors.name
        if not self._lacks:
            return from_environment(config, name)
        said = left_behind(", ".join(self._lacks), name)
        if not FOUND_AGAIN.issuperset(self._lacks):
            raise StoreAccessError(said, store=name)
        try:
            return from_environment(config, name)
        except StoreAccessError:
            raise StoreAccessError(said, store=name) from None


@attrs.frozen(repr=False)
class Bucket:
    """A folder of a bucket, and what all that is done in it needs.

    Attributes
    ----------
    name
        The bucket.
    prefix
        The folder; ``""`` for the whole bucket.
    connection
        To the server.
    errors
        Who the errors are about.
    timeout, connect_timeout, retries
        See `S3ArtifactStore`.
    signs
        Whether requests are signed.
    trusts_any_certificate
        Whether the server's certificate is believed, whoever signed it.
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
    check_etag: bool
    part_size: int
    part_uploads: int
    base: str = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.prefix + "/" if self.prefix else "", takes_self=True)
    )

    patience: ClassVar[float] = 60.0
    """Seconds after which no request is tried again, so that an outage of about a minute does no harm."""

    def __repr__(self) -> str:
        return self.errors.name

    def client(self, sending: int = 0) -> tuple[Any, Any]:
        """See `Connection.client`."""
        return self.connection.client(sending)

    def object_name(self, key: str) -> str:
        """Return the object's name for a key, which is checked here."""
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
        """Return what is said of an object, by obstore or in a listing, of the artifact."""
        tag = entry["e_tag"]
        checksum = md5_of_etag(tag) if self.check_etag else None
        return ArtifactInfo(key, entry["size"], entry["last_modified"].timestamp(), tag, checksum)

    def attributes_of(self, key: str) -> dict[str, str]:
        """Return what goes up with an artifact's bytes."""
        kind = content_type(key)
        return {} if kind is None else {"Content-Type": kind}

    def described(self, key: str, entry: Any) -> ArtifactInfo:
        """Return what an answer about an object says of the artifact.

        Raises
        ------
        StoreUnavailableError
            If it says nothing that an S3 server says of every object: some gateway has answered, with its own page.
        """
        if entry["e_tag"] is None and not entry["last_modified"].timestamp():
            raise StoreUnavailableError(
                f"cannot look at {key!r} in {self!r}: the answer is not about an object; something else than "
                "the server has answered, a gateway perhaps; try again",
                key=key,
                store=repr(self),
            )
        return self.describe(key, entry)

    def look_at(self, key: str) -> ArtifactInfo:
        """Return what the server says of the artifact; `ArtifactNotFoundError` if nothing lies at the key."""
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
                    # The answer to HEAD has no body, so a missing bucket looks like a missing object, and nothing says
                    # why it was refused. GET tells.
                    return self.described(key, obs.get(client, name).meta)
        except ArtifactNotFoundError:
            self.connection.bucket_seen = True
            raise

    def signed(self, method: str, object_name: str, query: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """Return the URL and the headers of a request without a body, signed.

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
        asked = "&".join(f"{name}={_quoted(query[name])}" for name in sorted(query) if query[name])
        url = f"{place}?{asked}"
        if not self.signs:
            return url, {}
        key, secret = _setting(config, "access_key_id"), _setting(config, "secret_access_key")
        if key and secret:
            who = Credentials(key, secret, _setting(config, "session_token", "token"))
            return url, signed_headers(method, url, region, who, system.current().now())
        # Only the engine knows the credentials of a role. It signs URLs of objects only. At an endpoint that ends in a
        # query, the URL of an object without a name is that of whatever is before it; the slash before that name goes
        # to a parameter that S3 ignores.
        config |= {"endpoint": f"{url}{asked and '&'}x-id=emdstore", "virtual_hosted_style_request": True}
        signer = obs._store.S3Store(config=config, client_options=client.client_options)
        return obs.sign(signer, method, "", timedelta(minutes=5)), {}


def _setting(config: Mapping[str, Any], *names: str) -> str | None:
    """Return what the engine's settings or, as the engine does, the environment say."""
    for name in names:
        found = config.get(name) or config.get(f"aws_{name}") or os.environ.get(f"AWS_{name.upper()}")
        if found:
            return str(found)
    return None


def _quoted(text: str, safe: str = "") -> str:
    return quote(text, safe=safe + "~")

"""Finding credentials if none were passed.

The engine looks in the environment, for a web identity, in a container and finally at the metadata service of cloud
machines. Outside a cloud nothing answers there, and the engine asks for a long time. So this module asks first, for two
seconds at most, and reads the user's profiles in ``~/.aws``, which the engine does not. A profile that says how to get
credentials (single sign-on, a program, a role) is left to botocore.
"""

from __future__ import annotations

import configparser
import http.client
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from emdstore import system
from emdstore.errors import MissingExtraError, StoreAccessError, StoreURLError
from emdstore.per_process import PerProcess

_SECONDS = 2.0
_OTHERS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_METADATA = "http://169.254.169.254"
_OF_PROFILE = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "region": "region",
    "endpoint_url": "endpoint",
}

_HOW = ("role_arn", "sso_session", "sso_start_url", "credential_process", "web_identity_token_file", "login_session")
"""Options of a profile that say how to get credentials."""
_BRIEFLY = timedelta(minutes=9)  # botocore renews them ten minutes before they expire

_answered: PerProcess[set[str]] = PerProcess(set)


@attrs.frozen
class Found:
    """What to add to the engine's settings.

    Attributes
    ----------
    settings
        By the engine's names.
    provider
        Returns credentials that expire, whenever it is called; None if there are none of that kind.
    """

    settings: Mapping[str, str] = attrs.field(factory=dict)
    provider: Callable[[], dict[str, Any]] | None = None


def from_environment(config: Mapping[str, object], store: str, profile: str | None = None) -> Found:
    """Return what to add to the engine's settings so that it finds credentials, or need not look for them.

    Parameters
    ----------
    config
        The engine's settings so far.
    store
        The store, for errors.
    profile
        The profile to use, whatever the environment says; None for the one that it names.

    Raises
    ------
    StoreAccessError
        If there are no credentials.
    StoreURLError
        If the profile does not exist.
    MissingExtraError
        If the profile says how to get credentials, and botocore, which can get them, is not installed.
    """
    given = {name.lower().removeprefix("aws_") for name in config}
    if "access_key_id" in given or config.get("skip_signature"):
        return Found()
    if profile is None and os.environ.get("AWS_ACCESS_KEY_ID"):
        return Found()
    named = profile or os.environ.get("AWS_PROFILE")
    name = named or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    said = _profile(name, store, must_exist=named is not None)
    found = {_OF_PROFILE[each]: value for each, value in said.items() if each in _OF_PROFILE}
    found = {each: value for each, value in found.items() if each not in given}
    if "role_arn" in said or ("access_key_id" not in found and any(each in said for each in _HOW)):
        settings = {each: value for each, value in found.items() if each in ("region", "endpoint")}
        return Found(settings, _by_botocore(name, store))
    if "access_key_id" in found:
        return Found(found)
    if profile is not None:
        raise StoreAccessError(f"the profile {name!r} has no credentials for {store}", store=store)
    if any(os.environ.get(each) for each in _OTHERS):
        return Found()
    endpoint = str(config.get("metadata_endpoint") or os.environ.get("AWS_METADATA_ENDPOINT") or _METADATA)
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" and _answers(endpoint):
        return Found()
    raise StoreAccessError(
        f"no credentials were found for {store}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or "
        "pass them; for a public bucket say anonymous=True (--anonymous)",
        store=store,
    )


def _profile(name: str, store: str, *, must_exist: bool) -> dict[str, str]:
    """Return the options of one of the user's profiles."""
    home = Path.home() / ".aws"
    config, credentials = configparser.RawConfigParser(), configparser.RawConfigParser()
    try:
        config.read(os.environ.get("AWS_CONFIG_FILE") or home / "config", encoding="utf-8")
        credentials.read(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials", encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise StoreURLError(f"the profiles in {home} cannot be read: {type(error).__name__}", store=store) from None
    sections = [
        parser[section]
        for parser, section in ((config, f"profile {name}"), (config, name), (credentials, name))
        if parser.has_section(section)
    ]
    if not sections and must_exist:
        raise StoreURLError(f"there is no such profile as {name!r} in {home}", store=store)
    said = {option: value.strip() for section in sections for option, value in section.items() if value}
    if os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        said.pop("region", None)
    return said


def _by_botocore(profile: str, store: str) -> Callable[[], dict[str, Any]]:
    """Return a function that returns the credentials of a profile, renewed before they expire."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import Session
    except ImportError:
        raise MissingExtraError.of(f"the profile {profile!r}, which says how to get credentials,", "aws") from None

    def refused(reason: object) -> StoreAccessError:
        return StoreAccessError(f"the profile {profile!r} gave no credentials for {store}: {reason}", store=store)

    def provide() -> dict[str, Any]:
        try:
            now = who.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise refused(error) from None
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": system.current().now() + _BRIEFLY,
        }

    try:
        who = Session(profile=profile).get_credentials()
    except (BotoCoreError, ClientError) as error:
        raise refused(error) from None
    if who is None:
        raise refused("what it says is not complete")
    provide()  # so that errors are raised here, and not in a thread of the engine
    return provide


def _answers(endpoint: str) -> bool:
    """Tell whether there is a metadata service."""
    if endpoint in _answered.get():
        return True
    parts = urlsplit(endpoint)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_SECONDS / 2)
    try:
        connection.request("PUT", "/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        if connection.getresponse().status != 200:  # a proxy, perhaps, that lets nobody get there
            return False
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    _answered.get().add(endpoint)
    return True

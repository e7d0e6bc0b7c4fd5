"""Finding credentials if none were passed.

The engine looks in the environment, for a web identity, in a container and finally at the metadata service of cloud
machines. Outside a cloud nothing answers there, and the engine asks for a long time. So this module asks first, for two
seconds at most, and reads the user's profiles in ``~/.aws``, which the engine does not.
"""

from __future__ import annotations

import configparser
import http.client
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from emdstore.errors import StoreAccessError, StoreURLError
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

_answered: PerProcess[set[str]] = PerProcess(set)


def from_environment(config: Mapping[str, object], store: str) -> dict[str, str]:
    """Return what to add to the engine's settings so that it finds credentials, or need not look for them.

    Parameters
    ----------
    config
        The engine's settings so far.
    store
        The store, for errors.

    Raises
    ------
    StoreAccessError
        If there are no credentials.
    StoreURLError
        If ``AWS_PROFILE`` names a profile that does not exist.
    """
    given = {name.lower().removeprefix("aws_") for name in config}
    if "access_key_id" in given or config.get("skip_signature") or os.environ.get("AWS_ACCESS_KEY_ID"):
        return {}
    found = _profile(store)
    if "access_key_id" in found:
        return {name: value for name, value in found.items() if name not in given}
    if any(os.environ.get(name) for name in _OTHERS):
        return {}
    endpoint = str(config.get("metadata_endpoint") or os.environ.get("AWS_METADATA_ENDPOINT") or _METADATA)
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" and _answers(endpoint):
        return {}
    raise StoreAccessError(
        f"no credentials were found for {store}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or "
        "pass them; for a public bucket say skip_signature=True",
        store=store,
    )


def _profile(store: str) -> dict[str, str]:
    """Return the settings in the user's profile, under the engine's names."""
    name = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
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
    if not sections and os.environ.get("AWS_PROFILE"):
        raise StoreURLError(f"AWS_PROFILE is {name!r}, and there is no such profile in {home}", store=store)
    said = {option: value for section in sections for option, value in section.items()}
    if os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        said.pop("region", None)
    return {_OF_PROFILE[option]: value.strip() for option, value in said.items() if option in _OF_PROFILE and value}


def _answers(endpoint: str) -> bool:
    """Tell whether there is a metadata service."""
    if endpoint in _answered.get():
        return True
    parts = urlsplit(endpoint)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_SECONDS / 2)
    try:
        connection.request("PUT", "/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    _answered.get().add(endpoint)
    return True

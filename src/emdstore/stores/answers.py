"""The error codes of S3 servers: what each means, and what to do about it, for every engine."""

from __future__ import annotations

import errno
import re

import attrs

from emdstore.errors import ArtifactRetainedError, StoreAccessError, StoreError, StoreUnavailableError, UnsupportedError


@attrs.frozen
class Meaning:
    """The meaning of a server's error.

    Attributes
    ----------
    kind
        The emdstore error to raise.
    advice
        What to do about it.
    errno
        The operating system's number for such an error, if there is one.
    """

    kind: type[StoreError]
    advice: str
    errno: int | None = None


_DAMAGED = Meaning(StoreUnavailableError, "the bytes were damaged on the way and refused; try again")
_BUSY = Meaning(StoreUnavailableError, "try again later")
_TOO_MANY = Meaning(StoreUnavailableError, "the server asks for fewer requests: try again later, or with fewer workers")
_EXPIRED = Meaning(StoreAccessError, "the credentials have expired: get new ones, and AWS_SESSION_TOKEN with them")
_UNKNOWN_KEY = Meaning(
    StoreAccessError, "the server does not know this access key: check AWS_ACCESS_KEY_ID and endpoint_url"
)
_WRONG_SECRET = Meaning(
    StoreAccessError, "the secret key is not that of the access key: check AWS_SECRET_ACCESS_KEY and the session token"
)
_CLOCK = Meaning(StoreAccessError, "this machine's clock is wrong, or the server's: set it, and try again")
_REGION = Meaning(StoreError, "the bucket is in another region: set AWS_REGION, or pass region=")
_ARCHIVED = Meaning(
    StoreError, "it is in an archive (Glacier, or a tier like it): have it restored (`aws s3api restore-object`) first"
)
_KMS = Meaning(
    StoreAccessError,
    "it is encrypted with a key of KMS that refuses these credentials: they need kms:Decrypt to read, and "
    "kms:GenerateDataKey to write, and the key has to be enabled",
)
_FULL = Meaning(StoreError, "its quota is used up: remove something, or ask for more", errno.EDQUOT)
_NO_SPACE = Meaning(StoreError, "the server has no room left: remove something, or ask its operators", errno.ENOSPC)
_LOCKED = Meaning(StoreAccessError, "the bucket or the account is closed: ask its owner")
_RETAINED = Meaning(
    ArtifactRetainedError,
    "it is retained: a rule or a hold (object lock) keeps it as it is, and whoever made that knows until when",
)
_CANNOT = Meaning(UnsupportedError, "this server does not support such requests; nothing was changed")

_BY_CODE = {
    **dict.fromkeys(
        ("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"),
        _DAMAGED,
    ),
    **dict.fromkeys(("ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted"), _BUSY),
    **dict.fromkeys(
        ("SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "TooManyRequests",
         "TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded"),
        _TOO_MANY,
    ),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"), _EXPIRED),
    **dict.fromkeys(("InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException"), _UNKNOWN_KEY),
    **dict.fromkeys(("SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity"), _WRONG_SECRET),
    "RequestTimeTooSkewed": _CLOCK,
    **dict.fromkeys(
        ("PermanentRedirect", "TemporaryRedirect", "Redirect", "AuthorizationHeaderMalformed",
         "IllegalLocationConstraintException"),
        _REGION,
    ),
    **dict.fromkeys(("InvalidObjectState", "ObjectNotInActiveTierError", "RestoreAlreadyInProgress"), _ARCHIVED),
    **dict.fromkeys(
        ("QuotaExceeded", "QuotaExceededException", "XMinioAdminBucketQuotaExceeded", "ServiceQuotaExceededException"),
        _FULL,
    ),
    **dict.fromkeys(("InsufficientStorage", "InsufficientCapacity", "XMinioStorageFull", "StorageFull"), _NO_SPACE),
    **dict.fromkeys(("AllAccessDisabled", "AccountProblem", "NotSignedUp"), _LOCKED),
    "NotImplemented": _CANNOT,
    **dict.fromkeys(
        ("ObjectLocked", "ObjectUnderActiveHold", "RetentionPolicyNotMet", "BlobImmutableDueToPolicy"), _RETAINED
    ),
}  # fmt: skip

_BUSY_STATUS = {408, 500, 502, 503, 504}
_SAID_RETAINED = re.compile(
    r"object[ -]?lock\b|\bWORM\b|\bretention (period|policy)|\bretained\b", re.IGNORECASE
).search
"""What servers say that have no code for it: AWS, Ceph, MinIO."""
_REGION_SAID = re.compile(r"<Region>([\w-]+)</Region>|expecting '([\w-]+)'").search


def meaning_of_answer(status: int | None, code: str | None, text: str) -> Meaning | None:
    """Return what an S3 server's error means; None if the error is not known.

    Parameters
    ----------
    status
        Of HTTP.
    code
        S3's own.
    text
        The server's whole answer.
    """
    code = code or ""
    if code.startswith("KMS.") or "kms:" in text or "KMSKeyNotFound" in code:
        return _KMS
    if (status == 403 or code in ("AccessDenied", "InvalidRequest")) and _SAID_RETAINED(text):
        return _RETAINED
    found = _BY_CODE.get(code)
    if found is _REGION and (said := _REGION_SAID(text)) is not None:
        region = said[1] or said[2]
        return attrs.evolve(_REGION, advice=f"the bucket is in the region {region}: set AWS_REGION={region}")
    if found is not None:
        return found
    if status == 507:
        return _NO_SPACE
    if status == 429:
        return _TOO_MANY
    if status == 501:
        return _CANNOT
    if status in _BUSY_STATUS:
        return _BUSY
    if status in (301, 307):
        return _REGION
    if status in (401, 403):
        return Meaning(StoreAccessError, "check the credentials, and what they may do in this bucket")
    return None

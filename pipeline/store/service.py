"""Requests to an S3 service: tried again by our own rules, and their failures told in one sentence."""

from collections.abc import Callable, Iterator, Mapping, Set
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast
from xml.etree import ElementTree

from pipeline.errors import ConfigError, StoreError
from pipeline.store.retrying import Retrier, codes_of

if TYPE_CHECKING:
    from botocore.session import Session
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
MISSING = {"404", "NoSuchKey", "NotFound"}
DENIED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden"}


class Expected(Exception):
    """A failure that the caller has an answer to."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


class Service:
    """A client of one bucket and prefix. Each call names its action and key for the sentence it may fail with."""

    def __init__(self, bucket: str, prefix: str, deadline_s: float) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.client = _client()
        self._retrier = Retrier(deadline_s)

    def call(
        self,
        action: str,
        key: str,
        attempt: Callable[[], T],
        expected: Set[str] = frozenset(),
        deadline_s: float | None = None,
    ) -> T:
        """The answer; Expected for a failure with one of the `expected` codes; else one sentence, as StoreError."""
        try:
            return self._retrier.call(attempt, deadline_s)
        except Exception as error:
            if codes_of(error) & expected:
                raise Expected(error) from None
            raise self.failed(action, key, error) from None

    def where(self, key: str) -> dict[str, Any]:
        """The bucket and key of a request about an object of the store."""
        return {"Bucket": self.bucket, "Key": self.prefix + key}

    def address(self, key: str) -> str:
        """The same as people write it."""
        return f"s3://{self.bucket}/{self.prefix}{key}"

    def unless_missing(self, action: str, key: str, attempt: Callable[[], T]) -> T | None:
        try:
            return self.call(action, key, attempt, MISSING)
        except Expected as error:
            if "NoSuchBucket" in codes_of(error.cause):
                raise self.failed(action, key, error.cause) from None
            return None

    def failed(self, action: str, key: str, error: Exception) -> Exception:
        """A sentence for what botocore raised; an exception that isn't botocore's stays itself."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        if not isinstance(error, BotoCoreError | ClientError):
            return error
        place = f"{action} on {self.address(key)}"
        codes = codes_of(error)
        if isinstance(error, NoCredentialsError):
            return StoreError(
                f"No credentials for {place}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile."
            )
        if codes & DENIED:
            return StoreError(
                f"Access denied: {place}. The credentials in use may not do that; ask for the permission."
            )
        if "NoSuchBucket" in codes:
            return StoreError(f"There is no bucket {self.bucket!r} ({place}). Create it, or correct BERTMILL_STORE.")
        reason = ", ".join(sorted(codes)) or type(error).__name__
        return StoreError(
            f"Object storage failed at {place}: {reason}, after retries. Check that AWS_ENDPOINT_URL_S3 is right and "
            f"the service is up, and run again: finished work is kept."
        )

    def pages(
        self,
        action: str,
        prefix: str,
        fetch: Callable[..., Any],
        markers: Mapping[str, str],
        expected: Set[str] = frozenset(),
    ) -> Iterator[Any]:
        """The pages of a listing; `markers` says which of a page's values go into which of the next one's arguments."""
        asked: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self.prefix + prefix}
        while True:
            page = self.call(action, prefix, _bound(fetch, asked), expected)
            yield page
            if not page.get("IsTruncated"):
                return
            asked = asked | {argument: page[value] for value, argument in markers.items()}


def _bound(fetch: Callable[..., Any], asked: dict[str, Any]) -> Callable[[], Any]:
    return lambda: fetch(**asked)


def _client() -> "S3Client":
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    # Over https botocore's own checksum would follow the body as a trailer, which Ceph 16 refuses: an MD5 goes before.
    config = Config(
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",  # what is read is checked by its own sha256
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=32,
    )
    try:
        session = _session()
        region = session.get_config_variable("region") or "us-east-1"
        client = session.create_client("s3", region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(
            f"botocore can't make an S3 client: {type(error).__name__}. Check the AWS_* variables."
        ) from None
    client.meta.events.register("before-parse.s3.ListObjectsV2", _read_contents)
    return cast("S3Client", client)


def _read_contents(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Read a page's objects, and leave the rest to botocore, which takes three times as long for a thousand."""
    try:
        page = ElementTree.fromstring(response_dict["body"])  # noqa: S314  (as botocore does)
    except ElementTree.ParseError:
        return
    found = [element for element in page if element.tag.rpartition("}")[2] == "Contents"]
    if response_dict["status_code"] == 200 and found:
        page[:] = [element for element in page if element.tag.rpartition("}")[2] != "Contents"]
        response_dict["body"] = ElementTree.tostring(page)
        customized_response_dict["Contents"] = [_content(element) for element in found]


def _content(element: ElementTree.Element) -> dict[str, Any]:
    fields = {field.tag.rpartition("}")[2]: field.text or "" for field in element}
    modified = datetime.fromisoformat(fields["LastModified"])
    size, etag = int(fields["Size"]), fields.get("ETag", "")
    return {"Key": fields["Key"], "Size": size, "ETag": etag, "LastModified": modified}


@cache
def _session() -> "Session":
    """One a process, which reads dates fast: botocore's own way takes more than half of the time of a listing.

    botocore's, not boto3's, which adds its own transfers: a fifth of a second that each command would wait for.
    """
    import botocore.session
    from botocore.utils import parse_timestamp

    def parsed(value: Any) -> Any:
        try:
            date = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            return parse_timestamp(value)
        return date if date.tzinfo is not None else parse_timestamp(value)

    session = botocore.session.get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parsed)
    return session

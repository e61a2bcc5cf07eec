"""A store on S3, or any service that speaks it, through boto3.

Create-only is PutObject with `If-None-Match: *`, the one conditional write that services agree on. Its answer can be
lost after it was carried out, so a 412 is read back and compared. Each request is tried again by our own rules
(retrying.py), botocore's retries are off: so a deadline bounds a call as a whole. Files go up and come down in parts of
one size, some at a time: memory is bounded by their product, and a part that fails is sent or fetched again alone.
"""

import base64
import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from pipeline.errors import ConfigError, CorruptArtifact, StoreError
from pipeline.store.backend import Stored
from pipeline.store.cache import Cache
from pipeline.store.retrying import Retrier, codes_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
PART_SIZE = 16 << 20
"""Of S3's 10,000 parts: a blob of up to 160 GB."""
CONCURRENCY = 4
SMALL = 1 << 20
"""A blob of up to this is put again rather than asked for: one request instead of two."""
MISSING = {"404", "NoSuchKey", "NotFound"}
TAKEN = {"412", "PreconditionFailed"}
DENIED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden"}


class S3Backend:
    """Objects under `prefix` of `bucket`; verified copies of them in `cache`."""

    def __init__(
        self, bucket: str, prefix: str, cache: Cache, *, deadline_s: float = 300, kms_key: str | None = None
    ) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.cache = cache
        self._client = _client()
        self._retrier = Retrier(deadline_s)
        self._encryption: dict[str, Any] = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        )

    def get(self, key: str) -> bytes | None:
        def read() -> bytes:
            answer = self._client.get_object(Bucket=self.bucket, Key=self._key(key))
            return answer["Body"].read()

        return self._unless_missing("GetObject", key, read)

    def put(self, key: str, data: bytes) -> None:
        self._call("PutObject", key, lambda: self._put(key, data))

    def create(self, key: str, data: bytes) -> bool:
        try:
            self._call("PutObject (If-None-Match)", key, lambda: self._put(key, data, IfNoneMatch="*"), TAKEN)
        except _Expected:
            return self.get(key) == data  # ours, if an earlier answer was lost on its way
        return True

    def size(self, key: str) -> int | None:
        head = self._head(key)
        return None if head is None else head["ContentLength"]

    def age(self, key: str) -> float | None:
        if (head := self._head(key)) is None:
            return None
        now = parsedate_to_datetime(head["ResponseMetadata"]["HTTPHeaders"]["date"])
        return max(0.0, float((now - head["LastModified"]).total_seconds()))

    def _head(self, key: str) -> Any:
        return self._unless_missing(
            "HeadObject", key, lambda: self._client.head_object(Bucket=self.bucket, Key=self._key(key))
        )

    def upload(self, key: str, source: Path) -> None:
        size = source.stat().st_size
        if size > PART_SIZE:
            self._upload_parts(key, source, size)
            return
        checksum = base64.b64encode(bytes.fromhex(key.rpartition("/")[2])).decode()
        data = source.read_bytes()
        self._call("PutObject", key, lambda: self._put(key, data, ChecksumSHA256=checksum))

    def has(self, key: str, size: int) -> bool:
        return size > SMALL and self.size(key) == size

    def _upload_parts(self, key: str, source: Path, size: int) -> None:
        place: dict[str, Any] = {"Bucket": self.bucket, "Key": self._key(key)}
        started = self._call(
            "CreateMultipartUpload", key, lambda: self._client.create_multipart_upload(**place, **self._encryption)
        )
        place["UploadId"] = started["UploadId"]

        def send(number: int) -> Any:
            with source.open("rb") as file:
                file.seek((number - 1) * PART_SIZE)
                data = file.read(PART_SIZE)
            sent: dict[str, Any] = {"PartNumber": number, "Body": data, "ContentMD5": _md5(data)}
            answer = self._call("UploadPart", key, lambda: self._client.upload_part(**place, **sent))
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            parts = list(_in_parallel(send, range(1, -(-size // PART_SIZE) + 1)))
            self._complete(key, place, parts, size)
        except BaseException:
            with suppress(StoreError):
                self._call("AbortMultipartUpload", key, lambda: self._client.abort_multipart_upload(**place))
            raise

    def _complete(self, key: str, place: dict[str, Any], parts: list[Any], size: int) -> None:
        """An upload that isn't there any more was completed by an attempt whose answer was lost: the size tells."""
        try:
            self._call(
                "CompleteMultipartUpload",
                key,
                lambda: self._client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts}),
                MISSING | {"NoSuchUpload"},
            )
        except _Expected as error:
            if self.size(key) != size:
                raise self._failed("CompleteMultipartUpload", key, error.cause) from None

    def download(self, key: str, sha256: str, size: int, what: str) -> Path:
        def fill(file: IO[bytes], digest: Any, offset: int) -> None:
            for data in _in_parallel(lambda start: self._range(key, start, size), range(offset, size, PART_SIZE)):
                digest.update(data)
                file.write(data)

        try:
            for _ in range(2):  # once more: it may have been damaged on its way
                path, found = self.cache.copy(sha256, fill)
                if found == sha256:
                    return path
        except _Expected:
            raise CorruptArtifact(f"{what} is missing: s3://{self.bucket}/{self._key(key)} isn't there.") from None
        raise CorruptArtifact(
            f"{what} is corrupt: s3://{self.bucket}/{self._key(key)} has the sha256 {found[:12]}…, not {sha256[:12]}…."
        )

    def _range(self, key: str, start: int, size: int) -> bytes:
        """One part of an object; nothing where it is shorter than it should be."""
        end = min(start + PART_SIZE, size) - 1

        def read() -> bytes:
            answer = self._client.get_object(Bucket=self.bucket, Key=self._key(key), Range=f"bytes={start}-{end}")
            return answer["Body"].read()

        try:
            return self._call("GetObject", key, read, MISSING | {"416", "InvalidRange"})
        except _Expected as error:
            if codes_of(error.cause) & MISSING:
                raise
            return b""

    def list(self, prefix: str) -> Iterator[Stored]:
        asked: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self._key(prefix)}
        while True:
            page = self._call("ListObjectsV2", prefix, lambda: self._client.list_objects_v2(**asked))
            for each in page.get("Contents", []):
                yield Stored(each["Key"][len(self.prefix) :], each["Size"], each["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, key: str) -> None:
        self._call("DeleteObject", key, lambda: self._client.delete_object(Bucket=self.bucket, Key=self._key(key)))

    def _put(self, key: str, data: bytes, **more: Any) -> Any:
        sent: dict[str, Any] = {"Body": data, "ContentMD5": _md5(data)} | self._encryption | more
        return self._client.put_object(Bucket=self.bucket, Key=self._key(key), **sent)

    def _key(self, key: str) -> str:
        return self.prefix + key

    def _call(self, action: str, key: str, attempt: Callable[[], T], expected: Set[str] = frozenset()) -> T:
        """The answer; _Expected for a failure with one of the `expected` codes; else one sentence, as StoreError."""
        try:
            return self._retrier.call(attempt)
        except Exception as error:
            if codes_of(error) & expected:
                raise _Expected(error) from None
            raise self._failed(action, key, error) from None

    def _unless_missing(self, action: str, key: str, attempt: Callable[[], T]) -> T | None:
        try:
            return self._call(action, key, attempt, MISSING)
        except _Expected as error:
            if "NoSuchBucket" in codes_of(error.cause):
                raise self._failed(action, key, error.cause) from None
            return None

    def _failed(self, action: str, key: str, error: Exception) -> Exception:
        """A sentence for what botocore raised; an exception that isn't botocore's stays itself."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        if not isinstance(error, BotoCoreError | ClientError | Boto3Error):
            return error
        place = f"{action} on s3://{self.bucket}/{self._key(key)}"
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
            f"The store failed at {place}: {reason}, after retries. Check that AWS_ENDPOINT_URL_S3 is right and the "
            f"service is up, and run again: finished work is kept."
        )


class _Expected(Exception):
    """A failure that the caller has an answer to."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


def _in_parallel(work: Callable[[int], T], items: range) -> Iterator[T]:
    """Results in order, with `CONCURRENCY` under way: never more of them in memory than that."""
    if len(items) == 1:
        yield work(items[0])
        return
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        under_way: deque[Future[T]] = deque()
        try:
            for item in items:
                if len(under_way) == CONCURRENCY:
                    yield under_way.popleft().result()
                under_way.append(pool.submit(work, item))
            while under_way:
                yield under_way.popleft().result()
        finally:
            for each in under_way:
                each.cancel()


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _client() -> "S3Client":
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    # Over https botocore's own checksum would follow the body as a trailer, which Ceph 16 refuses: an MD5 goes before.
    config = Config(
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=16,
    )
    try:
        return boto3.client("s3", config=config, region_name=boto3.Session().region_name or "us-east-1")
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(
            f"boto3 can't make an S3 client: {type(error).__name__}. Check the AWS_* variables."
        ) from None

"""A store on S3, or any service that speaks it, through boto3.

Create-only is PutObject with `If-None-Match: *`, the one conditional write that services agree on. Its answer can be
lost after it was carried out, so a 412 on a retry is read back and compared. Retries of throttling and lost connections
are botocore's (`standard` mode, with jitter); what remains is told in one sentence, by status and code, never by a
message, which may be absent.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, CorruptArtifact, StoreError
from pipeline.store.backend import Stored
from pipeline.store.local import sha256_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART_SIZE = 16 << 20
CREATE_ATTEMPTS = 8
MISSING = {"404", "NoSuchKey", "NotFound"}
TAKEN = {"412", "PreconditionFailed"}
CONFLICT = {"409", "ConditionalRequestConflict", "OperationAborted"}
DENIED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden"}


class S3Backend:
    """Objects under `prefix` of `bucket`; verified copies of them under `cache`."""

    def __init__(self, bucket: str, prefix: str, cache: Path) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.cache = cache
        self._client = _client()

    def get(self, key: str) -> bytes | None:
        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=self._key(key))
            return answer["Body"].read()
        except Exception as error:
            if _codes(error) & MISSING:
                return None
            raise self._failed("GetObject", key, error) from None

    def put(self, key: str, data: bytes) -> None:
        try:
            self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data)
        except Exception as error:
            raise self._failed("PutObject", key, error) from None

    def create(self, key: str, data: bytes) -> bool:
        for attempt in range(CREATE_ATTEMPTS):
            try:
                self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data, IfNoneMatch="*")
            except Exception as error:
                codes = _codes(error)
                if codes & TAKEN:
                    return self.get(key) == data  # ours, if an earlier answer was lost on its way
                if codes & CONFLICT and attempt + 1 < CREATE_ATTEMPTS:
                    time.sleep(0.05 * 2**attempt)
                    continue
                raise self._failed("PutObject (If-None-Match)", key, error) from None
            return True
        raise AssertionError("the last attempt returns or raises")

    def size(self, key: str) -> int | None:
        try:
            return self._client.head_object(Bucket=self.bucket, Key=self._key(key))["ContentLength"]
        except Exception as error:
            if _codes(error) & MISSING:
                return None
            raise self._failed("HeadObject", key, error) from None

    def age(self, key: str) -> float | None:
        try:
            answer = self._client.head_object(Bucket=self.bucket, Key=self._key(key))
        except Exception as error:
            if _codes(error) & MISSING:
                return None
            raise self._failed("HeadObject", key, error) from None
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return max(0.0, (now - answer["LastModified"]).total_seconds())

    def upload(self, key: str, source: Path) -> None:
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(multipart_threshold=PART_SIZE, multipart_chunksize=PART_SIZE, max_concurrency=4)
        try:
            self._client.upload_file(str(source), self.bucket, self._key(key), Config=config)
        except Exception as error:
            raise self._failed("PutObject", key, error) from None

    def download(self, key: str, sha256: str, what: str) -> Path:
        kept = self.cache / "blobs" / sha256[:2] / sha256
        if kept.is_file():
            if sha256_of(kept) == sha256:
                return kept
            kept.unlink(missing_ok=True)  # the copy has rotted: fetch it again
        found = self._fetch(key, kept, sha256, what)
        if found != sha256:
            found = self._fetch(key, kept, sha256, what)  # once more: it may have been damaged on its way
        if found != sha256:
            raise CorruptArtifact(
                f"{what} is corrupt: s3://{self.bucket}/{self._key(key)} has the sha256 {found[:12]}…, "
                f"not {sha256[:12]}…."
            )
        return kept

    def _fetch(self, key: str, kept: Path, sha256: str, what: str) -> str:
        """Download beside `kept`, and rename to it when the sha256 is right. Returns the sha256 that came."""
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=kept.parent)
        except OSError as error:
            raise StoreError(
                f"The cache can't write {kept.parent}: {error.strerror}. Set BERTMILL_CACHE to a folder that can be "
                f"written."
            ) from None
        temporary, digest = Path(name), hashlib.sha256()
        try:
            with os.fdopen(descriptor, "wb") as file:
                answer = self._client.get_object(Bucket=self.bucket, Key=self._key(key))
                for chunk in answer["Body"].iter_chunks(1 << 20):
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() == sha256:
                temporary.chmod(0o444)
                temporary.replace(kept)
            return digest.hexdigest()
        except Exception as error:
            if _codes(error) & MISSING:
                raise CorruptArtifact(f"{what} is missing: s3://{self.bucket}/{self._key(key)} isn't there.") from None
            raise self._failed("GetObject", key, error) from None
        finally:
            temporary.unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[Stored]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._key(prefix))
        try:
            for page in pages:
                for each in page.get("Contents", []):
                    yield Stored(each["Key"][len(self.prefix) :], each["Size"], each["LastModified"].timestamp())
        except Exception as error:
            raise self._failed("ListObjectsV2", prefix, error) from None

    def delete(self, key: str) -> None:
        try:
            self._client.delete_object(Bucket=self.bucket, Key=self._key(key))
        except Exception as error:
            raise self._failed("DeleteObject", key, error) from None

    def _key(self, key: str) -> str:
        return self.prefix + key

    def _failed(self, action: str, key: str, error: Exception) -> Exception:
        """A sentence for what botocore raised; an exception that isn't botocore's stays itself."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        if not isinstance(error, BotoCoreError | ClientError | Boto3Error):
            return error
        place = f"{action} on s3://{self.bucket}/{self._key(key)}"
        codes = _codes(error)
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


def _client() -> "S3Client":
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 6},
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


def _codes(error: Exception) -> set[str]:
    """A failure's HTTP status and S3 error code, as text; an empty set where it is no answer of the service.

    boto3's S3UploadFailedError has the answer in the error that it was raised for.
    """
    answer: dict[str, Any] = getattr(error, "response", None) or getattr(error.__context__, "response", None) or {}
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = answer.get("Error", {}).get("Code")
    return {str(each) for each in (status, code) if each}

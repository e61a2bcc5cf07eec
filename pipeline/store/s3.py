"""A store on S3, or any service that speaks it, through botocore, which boto3 stands on.

Create-only is PutObject with `If-None-Match: *`, the one conditional write that services agree on. Its answer can be
lost after it was carried out, so a 412 is read back and compared. Each request is tried again by our own rules
(retrying.py), botocore's retries are off: so a deadline bounds a call as a whole. Files go up and come down in parts of
one size, some at a time: memory is bounded by their product, and a part that fails is sent or fetched again alone.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any

from pipeline.errors import CorruptArtifact, StoreError
from pipeline.store.backend import Stored
from pipeline.store.cache import Cache
from pipeline.store.parallel import in_parallel
from pipeline.store.retrying import DAMAGED, codes_of
from pipeline.store.service import DENIED, MISSING, Expected, Service

PART_SIZE = 16 << 20
"""Of S3's 10,000 parts: a blob of up to 160 GB."""
CONCURRENCY = 4
LONGEST_COPY = 1 << 30
"""One request copies up to 5 GiB; less at a time ends well within its time."""
TAKEN = {"412", "PreconditionFailed"}


class S3Backend:
    """Objects under `prefix` of `bucket`; verified copies of them in `cache`."""

    cheap = 1 << 20

    def __init__(
        self,
        bucket: str,
        prefix: str,
        cache: Cache,
        *,
        deadline_s: float = 300,
        kms_key: str | None = None,
        single_writer: bool = False,
    ) -> None:
        """`single_writer`: the service may ignore `If-None-Match`, so a create looks first."""
        self.bucket = bucket
        self._looks_first = single_writer
        self.cache = cache
        self._s3 = Service(bucket, f"{prefix}/" if prefix else "", deadline_s)
        self._client = self._s3.client
        self._ahead_s: float | None = None
        self._encryption: dict[str, Any] = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
        )

    def get(self, key: str) -> bytes | None:
        def read() -> tuple[bytes, bool]:
            answer = self._client.get_object(**self._s3.where(key))
            data = answer["Body"].read()
            return data, _is_damaged(data, answer)

        found = self._s3.unless_missing("GetObject", key, read)
        if found is not None and found[1]:  # once more: it may have been damaged on its way
            found = self._s3.unless_missing("GetObject", key, read)
        return found[0] if found is not None else None

    def put(self, key: str, data: bytes) -> None:
        self._s3.call("PutObject", key, lambda: self._put(key, data))

    def create(self, key: str, data: bytes) -> bool:
        if self._looks_first and self.look(key) is not None:
            return False
        try:
            self._s3.call("PutObject (If-None-Match)", key, lambda: self._put(key, data, IfNoneMatch="*"), TAKEN)
        except Expected:
            return self.get(key) == data  # ours, if an earlier answer was lost on its way
        return True

    # Dates

    def look(self, key: str) -> Stored | None:
        head = self._head(key)
        return None if head is None else Stored(key, head["ContentLength"], head["LastModified"].timestamp())

    def age(self, key: str) -> float | None:
        head = self._head(key)
        return None if head is None else max(0.0, _date_of(head) - float(head["LastModified"].timestamp()))

    def now(self) -> float:
        if self._ahead_s is None:
            asked: Any = {"Bucket": self.bucket, "Prefix": self._s3.prefix, "MaxKeys": 1}
            answer = self._s3.call("ListObjectsV2", "", lambda: self._client.list_objects_v2(**asked))
            self._ahead_s = _date_of(answer) - time.time()
        return time.time() + self._ahead_s

    def refresh(self, key: str) -> bool:
        """An object copied onto itself, which S3 allows where its metadata is said to be replaced."""
        if (seen := self.look(key)) is None:
            return False
        source: Any = self._s3.where(key)
        if seen.size <= LONGEST_COPY:
            more = self._encryption | {"CopySource": source, "MetadataDirective": "REPLACE"}
            copied = self._s3.unless_missing("CopyObject", key, lambda: self._client.copy_object(**source, **more))
            return copied is not None

        def copy(place: dict[str, Any], start: int, end: int) -> str:
            span = f"bytes={start}-{end - 1}"
            answer = self._client.upload_part_copy(CopySource=source, CopySourceRange=span, **place)
            return answer["CopyPartResult"]["ETag"]

        self._in_parts("UploadPartCopy", key, seen.size, LONGEST_COPY, copy)
        return True

    def _head(self, key: str) -> Any:
        return self._s3.unless_missing("HeadObject", key, lambda: self._client.head_object(**self._s3.where(key)))

    # Files

    def upload(self, key: str, source: Path) -> None:
        size = source.stat().st_size
        if size <= PART_SIZE:
            checksum = base64.b64encode(bytes.fromhex(key.rpartition("/")[2])).decode()
            data = source.read_bytes()
            self._s3.call("PutObject", key, lambda: self._put(key, data, ChecksumSHA256=checksum))
            return

        def send(place: dict[str, Any], start: int, end: int) -> str:
            with source.open("rb") as file:
                file.seek(start)
                data = file.read(end - start)
            return self._client.upload_part(Body=data, ContentMD5=_md5(data), **place)["ETag"]

        self._in_parts("UploadPart", key, size, PART_SIZE, send)

    def _in_parts(
        self, action: str, key: str, size: int, part_size: int, send: Callable[[dict[str, Any], int, int], str]
    ) -> None:
        """A multipart upload; `send(place, start, end)` sends those bytes as one part of it and returns its ETag."""
        place = self._s3.where(key)
        started = self._s3.call(
            "CreateMultipartUpload", key, lambda: self._client.create_multipart_upload(**place, **self._encryption)
        )
        place["UploadId"] = started["UploadId"]

        def send_part(start: int) -> Any:
            number, end = start // part_size + 1, min(start + part_size, size)
            tag = self._s3.call(action, key, lambda: send(place | {"PartNumber": number}, start, end))
            return {"PartNumber": number, "ETag": tag}

        try:
            parts = list(in_parallel(send_part, range(0, size, part_size), CONCURRENCY))
            self._complete(key, place, parts, size, since=_date_of(started))
        except BaseException:
            with suppress(StoreError):
                self._s3.call("AbortMultipartUpload", key, lambda: self._client.abort_multipart_upload(**place))
            raise

    def _complete(self, key: str, place: dict[str, Any], parts: list[Any], size: int, since: float) -> None:
        """An upload that isn't there any more was completed by an attempt whose answer was lost: the object tells."""
        try:
            self._s3.call(
                "CompleteMultipartUpload",
                key,
                lambda: self._client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts}),
                MISSING | {"NoSuchUpload"},
            )
        except Expected as error:
            seen = self.look(key)
            if seen is None or seen.size != size or seen.modified < since - 1:  # dates are in whole seconds
                raise self._s3.failed("CompleteMultipartUpload", key, error.cause) from None

    def download(self, key: str, sha256: str, size: int, what: str) -> Path:
        def fill(file: IO[bytes], digest: Any, offset: int) -> None:
            for data in self._parts_of(key, offset, size):
                digest.update(data)
                file.write(data)

        try:
            for _ in range(2):  # once more: it may have been damaged on its way
                path, found = self.cache.copy(sha256, fill)
                if found == sha256:
                    return path
        except Expected:
            raise CorruptArtifact(f"{what} is missing: {self._s3.address(key)} isn't there.") from None
        raise CorruptArtifact(
            f"{what} is corrupt: {self._s3.address(key)} has the sha256 {found[:12]}…, not {sha256[:12]}…."
        )

    def release(self, key: str) -> None:
        self.cache.release(key.rpartition("/")[2])

    def digest(self, key: str) -> str | None:
        if (seen := self.look(key)) is None:
            return None
        digest = hashlib.sha256()
        try:
            for data in self._parts_of(key, 0, seen.size):
                digest.update(data)
        except Expected:
            return None
        return digest.hexdigest()

    def _parts_of(self, key: str, offset: int, size: int) -> Iterator[bytes]:
        """An object's bytes from `offset` on, in parts; Expected where it isn't there."""
        return in_parallel(lambda start: self._range(key, start, size), range(offset, size, PART_SIZE), CONCURRENCY)

    def _range(self, key: str, start: int, size: int) -> bytes:
        """One part of an object; nothing where it is shorter than it should be."""
        span = f"bytes={start}-{min(start + PART_SIZE, size) - 1}"

        def read() -> bytes:
            return self._client.get_object(Range=span, **self._s3.where(key))["Body"].read()

        try:
            return self._s3.call("GetObject", key, read, MISSING | {"416", "InvalidRange"})
        except Expected as error:
            if codes_of(error.cause) & MISSING:
                raise
            return b""

    def refuses_damage(self) -> bool:
        key, data = f"work/self-test/{secrets.token_hex(8)}", b"as it was sent"
        damaged = DAMAGED | {"400"}
        try:
            self._s3.call("PutObject", key, lambda: self._put(key, data, ContentMD5=_md5(b"as it came")), damaged, 0)
        except Expected:
            return True
        self.delete(key)
        return False

    def versioning(self) -> str:
        try:
            answer = self._s3.call(
                "GetBucketVersioning", "", lambda: self._client.get_bucket_versioning(Bucket=self.bucket), DENIED
            )
        except Expected:
            return "unknown"
        return answer.get("Status", "off").lower()

    # Listings

    def list(self, prefix: str, *, removed: bool = False) -> Iterator[Stored]:
        if removed:
            yield from self._list_removed(prefix)
            return
        token = {"NextContinuationToken": "ContinuationToken"}
        for page in self._s3.pages("ListObjectsV2", prefix, self._client.list_objects_v2, token):
            yield from map(self._stored, page.get("Contents", []))

    def _list_removed(self, prefix: str) -> Iterator[Stored]:
        last = ""
        for each in self._versions(prefix):
            if "Size" in each and each["Key"] != last:  # the newest of its versions that has bytes
                last = each["Key"]
                yield self._stored(each)

    def _versions(self, prefix: str) -> Iterator[Any]:
        """Versions and delete markers of all objects, in the order of their keys."""
        markers = {"NextKeyMarker": "KeyMarker", "NextVersionIdMarker": "VersionIdMarker"}
        for page in self._s3.pages("ListObjectVersions", prefix, self._client.list_object_versions, markers):
            yield from sorted([*page.get("Versions", []), *page.get("DeleteMarkers", [])], key=lambda each: each["Key"])

    def delete(self, key: str) -> None:
        self._s3.call("DeleteObject", key, lambda: self._client.delete_object(**self._s3.where(key)))

    def erase(self, key: str) -> None:
        self.cache.forget(key.rpartition("/")[2])
        for each in list(self._versions(key)):
            if each["Key"] == self._s3.where(key)["Key"]:
                self._erase(key, each["VersionId"])
        if self.look(key) is not None:  # a service that lists no versions
            self.delete(key)

    def _erase(self, key: str, version: str) -> None:
        place = self._s3.where(key) | {"VersionId": version}
        self._s3.call("DeleteObjectVersion", key, lambda: self._client.delete_object(**place))

    def unfinished(self, prefix: str = "") -> Iterator[Stored]:
        markers = {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"}
        for page in self._s3.pages("ListMultipartUploads", prefix, self._client.list_multipart_uploads, markers):
            for each in page.get("Uploads", []):
                key = each["Key"][len(self._s3.prefix) :]
                yield Stored(key, 0, each["Initiated"].timestamp(), each["UploadId"])

    def discard(self, upload: Stored) -> None:
        place = self._s3.where(upload.key) | {"UploadId": upload.handle}
        ended = MISSING | {"NoSuchUpload"}
        with suppress(Expected):
            self._s3.call(
                "AbortMultipartUpload", upload.key, lambda: self._client.abort_multipart_upload(**place), ended
            )

    def _stored(self, listed: Any) -> Stored:
        return Stored(listed["Key"][len(self._s3.prefix) :], listed["Size"], listed["LastModified"].timestamp())

    def _put(self, key: str, data: bytes, **more: Any) -> Any:
        sent: dict[str, Any] = {"Body": data, "ContentMD5": _md5(data)} | self._encryption | more
        return self._client.put_object(**self._s3.where(key), **sent)


def _is_damaged(data: bytes, answer: Any) -> bool:
    """Whether an object that was written whole isn't what its ETag says: its MD5, unless KMS encrypts it."""
    tag = answer.get("ETag", "").strip('"')
    is_md5 = len(tag) == 32 and answer.get("ServerSideEncryption", "AES256") == "AES256"
    return is_md5 and tag != hashlib.md5(data, usedforsecurity=False).hexdigest()


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _date_of(answer: Any) -> float:
    """When the service says it answered, in seconds since the epoch."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()

"""Object stores: S3, Google Cloud Storage and Azure, by their URI.

Requests go through obstore, which repeats one that fails for a passing reason. What goes wrong is a `StoreError` of one
line, without the credentials that the URI may have.
"""

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit
from urllib.request import Request, urlopen

import pyarrow as pa
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import AzureStore, GCSStore, S3Store

from study.errors import BadInputError
from study.storage.location import public, without_secrets
from study.storage.store import File, Store, StoreError

Client = S3Store | GCSStore | AzureStore
Version = Mapping[str, str]
"""What tells one content of an object from the next, in the store's own words."""

RETRY: Any = {
    "max_retries": 10,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
}
"""How a request that fails for a passing reason is repeated: here and nowhere else."""
READ_WHOLE_BYTES = 32 * 2**20
"""Up to this size an object is read in one request; of a larger one, those parts that are asked for."""
PROBE = ".writable"
"""An object without content, written to see whether that can be done, and what time it is."""
NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound|specified bucket does not exist")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ObjectStore(Store):
    """A folder in a bucket.

    Args:
        client: what makes the requests.
        bucket: its name.
        location: its URI, whose credentials are not shown.
    """

    readers = 32  # a store is waited for
    many = 32

    def __init__(self, client: Client, bucket: str, location: str) -> None:
        self.location = public(location)
        self._client, self._bucket, self._secret_location = client, bucket, location

    def exists(self) -> bool:
        """See `Store.exists`."""
        try:
            with self._errors():
                return any(True for _ in self._client.list())
        except FileNotFoundError:
            return False

    def check_writable(self) -> None:
        """See `Store.check_writable`; the object stays, for to remove it would take a right that writing doesn't."""
        self.put(PROBE, b"")

    def folders(self) -> Sequence[str]:
        """See `Store.folders`."""
        return sorted(self._listed(None)["common_prefixes"])

    def list(self, folder: str, hidden: bool = False) -> Sequence[File]:
        """See `Store.list`."""
        # A console leaves an object that stands for the folder, under the folder's own name.
        objects = [meta for meta in self._listed(folder)["objects"] if meta["path"].startswith(f"{folder}/")]
        files = [File(meta["path"], meta["size"], _ns(meta["last_modified"])) for meta in objects]
        return sorted((file for file in files if hidden or not file.base.startswith(".")), key=lambda file: file.name)

    def tree(self, *names: str) -> Sequence[File]:
        """Return the files of those names and those in folders of those names, however deep; by default all.

        Hidden ones, and those in hidden folders, are left out.
        """
        found = [meta for meta in self._listed(None)["objects"] if meta["path"] in names] if names else []
        for folder in names or (None,):
            with self._errors():
                found += [meta for chunk in self._client.list(folder) for meta in chunk]
        # A console leaves an object that stands for the folder, under the folder's own name.
        folders = {str(parent) for meta in found for parent in PurePosixPath(meta["path"]).parents}
        files = {
            meta["path"]: File(meta["path"], meta["size"], _ns(meta["last_modified"]))
            for meta in found
            if meta["path"] not in folders and not any(part.startswith(".") for part in meta["path"].split("/"))
        }
        return [files[name] for name in sorted(files)]

    def fetch(self, file: File, path: Path) -> None:
        """Write the content of an object into a local file.

        Raises:
            StoreError: it can't be had whole.
            OSError: the file can't be written.
        """
        with self._errors(file.name), path.open("wb") as stream:
            for chunk in self._client.get(file.name):
                stream.write(chunk)
        if path.stat().st_size != file.size:
            raise StoreError(f"{self.shown(file.name)} was cut short or replaced while it was read")

    def open(self, name: str) -> pa.NativeFile:
        """See `Store.open`."""
        with self._errors(name):
            found = self._client.get(name)
            size = found.meta["size"]
            if size <= READ_WHOLE_BYTES:
                return pa.BufferReader(found.bytes())
            version = _version(found.meta)
        return pa.PythonFile(_Parts(size, lambda start, end: self._part(name, start, end, version)), mode="r")

    @contextmanager
    def writer(self, name: str) -> Iterator[IO[bytes]]:
        """See `Store.writer`."""
        with TemporaryFile() as file:
            yield file
            file.seek(0)
            with self._errors():
                self._client.put(name, file)

    def put(self, name: str, content: bytes) -> None:
        """See `Store.put`."""
        with self._errors():
            self._client.put(name, content)

    def read(self, name: str) -> bytes:
        """See `Store.read`; it is one request, whatever the size."""
        with self._errors(name):
            return self._client.get(name).bytes().to_bytes()

    def move(self, name: str, to: str) -> None:
        """See `Store.move`."""
        with self._errors():
            self._client.rename(name, to)

    def delete(self, *names: str) -> None:
        """See `Store.delete`."""
        if names:
            with self._errors():
                self._client.delete(names)

    def put_if_absent(self, name: str, content: bytes) -> Version | None:
        """Write an object and return its version; None, and nothing is written, if there is one of that name."""
        return self._put_if(name, content, "create")

    def put_if_same(self, name: str, content: bytes, version: Version) -> Version | None:
        """Replace that version of an object and return the new one; None, and nothing is written, if it is gone."""
        return self._put_if(name, content, version)

    def read_versioned(self, name: str) -> tuple[bytes, Version, int]:
        """Return an object's content, its version, and when it was written, as `File.changed_ns`.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._errors(name):
            found = self._client.get(name)
            return found.bytes().to_bytes(), _version(found.meta), _ns(found.meta["last_modified"])

    def now_ns(self) -> int:
        """Return the store's own time, as `File.changed_ns`: that of an object which has just been written."""
        self.put(PROBE, b"")
        with self._errors():
            return _ns(self._client.head(PROBE)["last_modified"])

    def _put_if(self, name: str, content: bytes, mode: Any) -> Version | None:
        with self._errors():
            try:
                return _version(self._client.put(name, content, mode=mode))
            except (AlreadyExistsError, PreconditionError):
                return None

    def _part(self, name: str, start: int, end: int, version: Version) -> bytes:
        with self._errors(name):
            try:
                found = self._client.get(name, options={"range": (start, end), "if_match": version.get("e_tag")})
            except PreconditionError:
                raise FileNotFoundError(name) from None  # it is another one by now
            return found.bytes().to_bytes()

    def _listed(self, folder: str | None) -> Any:
        try:
            with self._errors():
                return self._client.list_with_delimiter(folder)
        except FileNotFoundError:
            return {"common_prefixes": [], "objects": []}

    @contextmanager
    def _errors(self, name: str = "") -> Iterator[None]:
        """Raise what goes wrong as a `StoreError` of one line, and as a `FileNotFoundError` what is not there."""
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            if NO_BUCKET.search(str(error)):
                raise FileNotFoundError(f"there is no bucket {self._bucket!r}; make it first.") from None
            if isinstance(error, FileNotFoundError):
                raise FileNotFoundError(self.shown(name)) from None
            raise StoreError(_line(error, self._secret_location)) from None


class _Parts(io.RawIOBase):
    """A file of which a part is fetched when it is read."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self._size, self._fetch, self._place = size, fetch, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        end = min(self._place + len(buffer), self._size)
        part = self._fetch(self._place, end) if end > self._place else b""
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)


def _version(meta: Mapping[str, Any]) -> Version:
    return {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}


def _ns(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1) * 1000


def _line(error: BaseException, location: str) -> str:
    """Return what went wrong in one line: obstore adds the response, and all that led to the error."""
    first, _, rest = str(error).strip().partition("\n")
    said = re.search("<Message>(.+?)</Message>", rest)
    line = re.sub(r"\s*<\?xml.*|(?<=\w)\?\S+", "", first) or type(error).__name__
    return without_secrets(f"{line} {said[1]}" if said else line.rstrip(": "), location)


# URIs -----------------------------------------------------------------------------------------------------------------

REGION_OF = "https://s3.amazonaws.com/{bucket}"
"""What tells anyone the region of a bucket."""
TIMEOUTS: Any = {"connect_timeout": "10s", "read_timeout": "60s", "timeout": "15min"}
ARROW_ONLY = {
    *("allow_bucket_creation", "allow_bucket_deletion", "check_directory_existence_before_creation"),
    *("allow_delayed_open", "smart_defaults", "retry_limit_seconds", "project_id", "credential_kind"),
}
"""Options of a URI that Arrow knows, and that have no meaning here."""


def open_object_store(location: str) -> ObjectStore:
    """Return the store at a URI. Options are those that a URI of Arrow's has, and obstore's own.

    Credentials are those in the URI, else those of the environment.

    Raises:
        BadInputError: the URI can't be used.
    """
    try:
        uri = urlsplit(location)
        options: dict[str, Any] = {name: value for name, value in parse_qsl(uri.query) if name not in ARROW_ONLY}
        if "#" in location:
            raise ValueError("write %23 for #.")
        if uri.scheme not in SCHEMES:
            raise ValueError(f"use {', '.join(f'{scheme}://' for scheme in SCHEMES)} or file://.")
        client, bucket = SCHEMES[uri.scheme](uri, options)
    except (BaseError, ValueError, OSError) as error:
        raise BadInputError(f"{public(location)!r} can't be opened: {_line(error, location)}") from None
    return ObjectStore(client, bucket, location)


def _s3(uri: SplitResult, options: dict[str, Any]) -> tuple[Client, str]:
    bucket = _bucket(uri.netloc.rpartition("@")[2])
    known = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    endpoint = _endpoint(options) or next(filter(None, known), None)
    token = options.pop("session_token", None)
    credentials: Callable[[], Any] | None = None
    if uri.username:
        key, secret = unquote(uri.username), unquote(uri.password or "")

        def credentials() -> Any:
            return {"access_key_id": key, "secret_access_key": secret, "token": token, "expires_at": None}

    elif "AWS_ACCESS_KEY_ID" not in os.environ and "skip_signature" not in options:
        credentials = _of_this_machine()
    if endpoint:
        options["aws_endpoint_url_s3"] = endpoint
    elif "region" not in options and (region := _region_of(bucket)):
        options["region"] = region
    common = _common(uri.path, options, endpoint)
    return S3Store(bucket, credential_provider=credentials, **common), bucket


def _of_this_machine() -> Any:
    """Return what gives credentials of a profile, a role or this machine, as AWS's own tools find them."""
    # They take a fifth of a second to import, and are not needed elsewhere.
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except BotoCoreError as error:
        raise ValueError(str(error)) from None
    except ValueError:
        raise ValueError("there are no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.") from None


def _region_of(bucket: str) -> str | None:
    """Return the region of a bucket of Amazon's; None if it can't be learned."""
    request = Request(REGION_OF.format(bucket=bucket), method="HEAD")
    try:
        with urlopen(request, timeout=10) as answer:
            headers = answer.headers
    except HTTPError as refusal:  # which tells it as well
        headers = refusal.headers
    except OSError:
        return None
    region: str | None = headers.get("x-amz-bucket-region")
    return region


def _gcs(uri: SplitResult, options: dict[str, Any]) -> tuple[Client, str]:
    bucket = _bucket(uri.netloc.rpartition("@")[2])
    endpoint = _endpoint(options) or os.environ.get("STORAGE_EMULATOR_HOST")
    if endpoint:
        options["base_url"] = endpoint
    if uri.username == "anonymous":
        options["skip_signature"] = "true"
    return GCSStore(bucket, **_common(uri.path, options, endpoint)), bucket


def _azure(uri: SplitResult, options: dict[str, Any]) -> tuple[Client, str]:
    """Open a container of Azure, whose URI names the account in one of several ways.

    They are `abfs://CONTAINER[:KEY]@ACCOUNT.dfs.core.windows.net/PATH`, `abfs://[:KEY@]ACCOUNT.blob.core.windows.net/
    CONTAINER/PATH`, `abfs://[ACCOUNT[:KEY]@]CONTAINER/PATH`, and for a server of one's own
    `abfs://ACCOUNT[:KEY]@HOST:PORT/CONTAINER/PATH`.
    """
    user, key, host = unquote(uri.username or ""), unquote(uri.password or ""), uri.netloc.rpartition("@")[2]
    below, _, rest = uri.path.lstrip("/").partition("/")
    account, container, path, endpoint = user, host, uri.path, None
    if host.endswith(".dfs.core.windows.net"):
        account, container = host.partition(".")[0], user
    elif "." in host or ":" in host:
        container, path = below, rest
        if host.endswith(".blob.core.windows.net"):
            account = host.partition(".")[0]
        else:
            secure = options.pop("enable_tls", "true") != "false"
            scheme = options.pop("blob_storage_scheme", "https" if secure else "http")
            endpoint = options["endpoint"] = f"{scheme}://{host}/{user}"
    named = {"account_name": account, "account_key": key}
    options.update({name: value for name, value in named.items() if value})
    return AzureStore(_bucket(container), **_common(path, options, endpoint)), container


SCHEMES: dict[str, Callable[[SplitResult, dict[str, Any]], tuple[Client, str]]] = {
    **{"s3": _s3, "gs": _gcs, "gcs": _gcs, "abfs": _azure, "abfss": _azure, "az": _azure},
}


def _bucket(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError("it names no bucket; in a key or a secret, write / as %2F and @ as %40.")
    return name


def _endpoint(options: dict[str, Any]) -> str | None:
    scheme, endpoint = options.pop("scheme", "https"), options.pop("endpoint_override", None)
    return endpoint if not endpoint or "://" in endpoint else f"{scheme}://{endpoint}"


def _common(path: str, options: dict[str, Any], endpoint: str | None) -> dict[str, Any]:
    """Return what the stores of all clouds are opened with, and take what of it is in the options."""
    client: dict[str, Any] = {**TIMEOUTS, "allow_http": bool(endpoint) and str(endpoint).startswith("http://")}
    if certificate := options.pop("tls_ca_file_path", None):
        client["root_certificate"] = Path(certificate).read_text()
    if options.pop("tls_verify_certificates", "true") == "false":
        client["allow_invalid_certificates"] = True
    prefix = unquote(path).strip("/") or None
    return {"prefix": prefix, "config": options, "client_options": client, "retry_config": RETRY}

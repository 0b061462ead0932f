"""An object store on loopback: S3's API as moto serves it, with a place in front of it where requests go wrong."""

import logging
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

ACCESS_KEY, SECRET_KEY = "PLANTEDACCESSKEY", "planted+secret+key"
CHANGING = ("PUT", "POST", "DELETE")
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nowhere",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
}


@dataclass
class Store:
    """The store, its faults, and what was asked of it.

    Attributes:
        port: where it listens on loopback.
        fail_every: of so many uploads one fails, by a 503 or a connection that breaks; none if 0.
        delay: seconds that each request waits.
        left: how many changing requests are still taken before all are refused for good; None for no end.
        asked: requests by method, those that failed included.
        keys: the access keys that requests were signed with.
    """

    port: int = 0
    fail_every: int = 0
    delay: float = 0.0
    left: int | None = None
    asked: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    failed: int = 0
    _uploads: Iterator[int] = field(default_factory=lambda: count(1))
    _buckets: Iterator[int] = field(default_factory=lambda: count(1))
    _chance: random.Random = field(default_factory=lambda: random.Random(0))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        self.fail_every, self.delay, self.left, self.failed = 0, 0.0, None, 0
        self.asked.clear()
        self.keys.clear()

    def uri(self, user: str = "", prefix: str = "some/results") -> str:
        """A results folder in a bucket of its own."""
        bucket = f"bucket-{next(self._buckets)}"
        self.client().create_bucket(Bucket=bucket)
        return f"s3://{user}{bucket}/{prefix}?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="client",
            aws_secret_access_key="client",
        )

    def objects(self, uri: str) -> dict[str, bytes]:
        """Every object of the URI's bucket by its key."""
        bucket, client = uri.partition("://")[2].rpartition("@")[2].partition("/")[0], self.client()
        keys = [found["Key"] for found in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def fault(self, environ: dict[str, Any]) -> str | None:
        """What is to become of a request in place of an answer."""
        method, signed = environ["REQUEST_METHOD"], environ.get("HTTP_AUTHORIZATION", "")
        with self._lock:
            self.asked[method] += 1
            if "Credential=" in signed:
                self.keys.add(signed.partition("Credential=")[2].partition("/")[0])
            if method in CHANGING and self.left is not None:
                self.left -= 1
                if self.left < 0:
                    return "403 Forbidden"
            if method == "PUT" and self.fail_every and next(self._uploads) % self.fail_every == 0:
                self.failed += 1
                return self._chance.choice(["503 Slow Down", "reset"])
        return None


def _behind(store: Store, served: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    from werkzeug.wsgi import get_input_stream

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        fault = store.fault(environ)
        time.sleep(store.delay)
        if fault is None:
            return served(environ, start)
        get_input_stream(environ).read()  # what is left unread would pass for the next request
        if fault == "reset":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        start(fault, [("Content-Length", "0")])
        return [b""]

    return answer


@pytest.fixture(scope="session")
def served() -> Iterator[Store]:
    # Most runs of a few tests need no store: moto takes long to import, and on a machine with a GPU may not be there.
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    store = Store()
    app = _behind(store, DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    store.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield store
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(served: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store without faults, and credentials for it in the environment."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    served.reset()
    yield served
    served.reset()

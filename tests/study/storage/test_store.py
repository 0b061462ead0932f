import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.errors import BadInputError
from study.storage import object_store
from study.storage.object_store import open_object_store
from study.storage.store import LocalStore, Store, StoreError


@pytest.fixture(params=["folder", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return LocalStore(tmp_path / "results")
    return open_object_store(request.getfixturevalue("store").uri())


# What any store does


def test_what_is_put_is_read_listed_moved_and_deleted(place: Store):
    assert not place.exists()
    assert place.list("a") == []
    for name in ("a/two", "a/one", "a/.hidden", "a/b/deeper", "c/three"):
        place.put(name, name.encode())
    place.put("a/one", b"again")
    assert place.exists()
    assert place.folders() == ["a", "c"]
    assert [(file.name, file.base, file.size) for file in place.list("a")] == [("a/one", "one", 5), ("a/two", "two", 5)]
    assert [file.base for file in place.list("a", hidden=True)] == [".hidden", "one", "two"]
    assert place.read("a/one") == b"again"
    place.move("a/one", "a/first")
    place.delete("a/two", "a/not there")
    assert [file.name for file in place.list("a")] == ["a/first"]
    assert place.read("a/first") == b"again"
    assert place.shown("a/first") in (f"{place.location}/a/first", place.location.replace("?", "/a/first?"))


def test_where_a_file_is_in_the_place_of_the_folder_nothing_is_listed(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    assert LocalStore(tmp_path / "file" / "results").list("a") == []


def test_what_is_not_there_is_said_by_its_name(place: Store):
    with pytest.raises(FileNotFoundError) as caught:
        place.open("a/none")
    assert str(caught.value) == place.shown("a/none")


@pytest.mark.parametrize("name", ["a b/ü%20.json", "a/x=1&y+z.json"])
def test_names_may_have_any_characters(place: Store, name: str):
    place.put(name, b"content")
    folder = name.partition("/")[0]
    assert [file.name for file in place.list(folder)] == [name]
    assert place.read(name) == b"content"


def test_a_stream_is_there_when_it_ends_and_not_where_it_fails(place: Store):
    with place.writer("a/whole") as stream:
        stream.write(b"who")
        assert place.list("a") == []
        stream.write(b"le")
    with pytest.raises(RuntimeError), place.writer("a/half") as stream:  # noqa: PT012
        stream.write(b"ha")
        raise RuntimeError
    assert [file.base for file in place.list("a", hidden=True)] == ["whole"]
    assert place.read("a/whole") == b"whole"


def test_the_time_of_a_change_is_by_the_clock_that_tells_now(store):
    place = open_object_store(store.uri())
    before = place.now_ns()
    place.put("a/x", b"")
    (file,) = place.list("a")
    assert before <= file.changed_ns <= place.now_ns()


# Object stores


def test_of_a_large_object_the_parts_that_are_asked_for_are_fetched(store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(object_store, "READ_WHOLE_BYTES", 1000)
    place = open_object_store(store.uri())
    table = pa.table({f"column {number}": range(number, number + 10_000) for number in range(20)})
    with place.writer("a/large") as stream:
        pq.write_table(table, stream, row_group_size=1000, use_dictionary=False, compression="none")
    with place.open("a/large") as file, pq.ParquetFile(file, pre_buffer=True) as shard:
        assert shard.read_row_groups([2], ["column 3"]).equals(table.select(["column 3"]).slice(2000, 1000))
    with place.open("a/large") as file:
        whole = place.read("a/large")
        assert file.size() == len(whole)
        file.seek(-8, 2)
        assert file.read() == whole[-8:]
        assert file.read() == b""


def test_an_object_that_is_replaced_while_it_is_read_is_none_any_more(store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(object_store, "READ_WHOLE_BYTES", 10)
    place = open_object_store(store.uri())
    place.put("a/x", b"a" * 100)
    with place.open("a/x") as file:
        assert file.read(10) == b"a" * 10
        place.put("a/x", b"b" * 100)
        with pytest.raises(FileNotFoundError):
            file.read(10)


def test_of_two_who_put_what_is_absent_or_the_same_one_does(store):
    place = open_object_store(store.uri())
    first = place.put_if_absent("a", b"1")
    assert first
    assert place.put_if_absent("a", b"2") is None
    second = place.put_if_same("a", b"3", first)
    assert second
    assert place.put_if_same("a", b"4", first) is None
    assert place.put_if_same("none", b"5", first) is None
    content, version, changed_ns = place.read_versioned("a")
    assert (content, version) == (b"3", second)
    assert changed_ns <= place.now_ns()


def test_what_goes_wrong_is_one_line_that_says_what_the_store_said(store):
    place = open_object_store(store.uri("URIKEY:PLANTED@"))
    store.left = 0
    for attempt in (lambda: place.put("a", b""), lambda: place.put_if_absent("a", b""), lambda: place.delete("a")):
        with pytest.raises(StoreError, match="403 Forbidden") as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert "PLANTED" not in str(caught.value)


def test_a_store_that_does_not_listen_is_given_up(store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(object_store.RETRY, "max_retries", 2)
    place = open_object_store("s3://bucket/prefix?endpoint_override=127.0.0.1:1&scheme=http&region=x")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/bucket/prefix/a"):
        place.put("a", b"")


# URIs


def opened(location: str) -> tuple[str, str | None, dict[str, object]]:
    client = open_object_store(location)._client
    return type(client).__name__, client.prefix, dict(client.config)


@pytest.mark.parametrize(
    ("location", "kind", "prefix", "config"),
    [
        ("s3://b?region=x", "S3Store", None, {"bucket": "b", "region": "x"}),
        ("s3://b/some%20where/?region=x", "S3Store", "some where", {"region": "x"}),
        ("s3://b/p?region=x&allow_bucket_creation=true", "S3Store", "p", {"region": "x"}),
        (
            "s3://b/p?endpoint_override=localhost:9000&scheme=http",
            *("S3Store", "p", {"endpoint_url_s3": "http://localhost:9000"}),
        ),
        (
            "s3://b/p?endpoint_override=https://minio.example&virtual_hosted_style_request=true",
            *("S3Store", "p", {"endpoint_url_s3": "https://minio.example", "virtual_hosted_style_request": "true"}),
        ),
        ("gs://b/p", "GCSStore", "p", {"bucket": "b"}),
        ("gs://anonymous@b/p?project_id=x", "GCSStore", "p", {"skip_signature": "true"}),
        ("gcs://b/p?endpoint_override=localhost:1&scheme=http", "GCSStore", "p", {"base_url": "http://localhost:1"}),
        (
            "abfs://c@a.dfs.core.windows.net/p/q",
            *("AzureStore", "p/q", {"account_name": "a", "container_name": "c"}),
        ),
        (
            "abfss://:a2%2B5@a.blob.core.windows.net/c/p/q",
            *("AzureStore", "p/q", {"account_name": "a", "account_key": "a2+5", "container_name": "c"}),
        ),
        ("abfs://a:a2V5@c/p", "AzureStore", "p", {"account_name": "a", "account_key": "a2V5", "container_name": "c"}),
        (
            "abfs://a:a2V5@127.0.0.1:10000/c/p?enable_tls=false",
            *("AzureStore", "p", {"endpoint": "http://127.0.0.1:10000/a", "container_name": "c"}),
        ),
        ("az://a@c/p", "AzureStore", "p", {"account_name": "a", "container_name": "c"}),
    ],
)
@pytest.mark.usefixtures("store")
def test_a_uri_says_which_store_and_how_it_is_reached(
    location: str, kind: str, prefix: str | None, config: dict[str, object]
):
    found = opened(location)
    assert found[:2] == (kind, prefix)
    assert {name: found[2][name] for name in config} == config


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("hdfs://host/results", "use s3://, gs://, gcs://, abfs://, abfss://, az:// or file://."),
        ("s3:///results", "it names no bucket"),
        ("s3://KEY:sEc/ret@bucket/results", "it names no bucket; in a key or a secret, write / as %2F"),
        ("s3://[bucket/results", "Invalid IPv6 URL"),
        ("s3://bucket/results?region=x&regoin=y", "Configuration key: 'regoin' is not valid"),
        ("az://container/results", "Account must be specified"),
        ("s3://bucket/results?region=x&tls_ca_file_path=/no/such/file", "No such file"),
    ],
)
@pytest.mark.usefixtures("store")
def test_a_uri_that_can_not_be_used_is_refused_in_one_sentence(location: str, reason: str):
    with pytest.raises(BadInputError, match="can't be opened") as caught:
        open_object_store(location)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "sEc" not in str(caught.value)


def test_credentials_of_a_uri_are_used_alone(store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of other credentials")
    heard: list[str | None] = []
    fault = store.fault

    def hear(asked: dict[str, str]) -> str | None:
        heard.append(asked.get("HTTP_X_AMZ_SECURITY_TOKEN"))
        return fault(asked)

    monkeypatch.setattr(store, "fault", hear)
    open_object_store(store.uri("KEY:s%2Fecret@")).put("a", b"")
    assert "KEY" in store.keys
    assert heard[-1] is None


def test_credentials_may_be_those_of_a_profile(store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    uri = store.uri()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(BadInputError, match="can't be opened: there are no AWS credentials; set AWS_ACCESS_KEY_ID"):
        open_object_store(uri)
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = PROFILE\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "another")
    with pytest.raises(BadInputError, match=r"can't be opened: The config profile \(another\) could not be found"):
        open_object_store(uri)
    monkeypatch.setenv("AWS_PROFILE", "mine")
    open_object_store(uri).put("a", b"")
    assert "PROFILE" in store.keys


@pytest.mark.parametrize("status", [200, 301, 403])
def test_the_region_of_a_bucket_is_asked_for(status: int, store, monkeypatch: pytest.MonkeyPatch):
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.send_header("x-amz-bucket-region", "eu-west-9")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setattr(object_store, "REGION_OF", f"http://127.0.0.1:{server.server_port}/{{bucket}}")
        assert opened("s3://bucket/prefix")[2]["region"] == "eu-west-9"
        server.shutdown()
    assert "region" not in opened("s3://bucket/prefix")[2]  # nobody says: that of the environment

import os

import pytest

from study.errors import BadInputError
from study.storage.location import absolute, below, public, split, without_secrets

SECRETS = ["sEcret", "sEc/ret", "sEc@ret", "sEc%2Fret", "sEc ret", "sEc/r@et/x", "sEc:ret"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "--results={}"])
def test_who_a_uri_names_is_not_shown_whatever_is_in_the_secret(secret, around):
    shown = public(around.format(f"s3://key:{secret}@bucket/prefix?region=x"))
    assert shown == around.format("s3://bucket/prefix?region=x")


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("?client_secret=sEcret", ""),
        ("?client_secret=sEcret&region=x", "?region=x"),
        ("?region=x&sig=sEcret&scheme=http", "?region=x&scheme=http"),
        ("?sas_token=sEcret&access_key=sEcret", ""),
        ("?endpoint_override=localhost:9000&scheme=http", "?endpoint_override=localhost:9000&scheme=http"),
    ],
)
def test_what_a_query_has_of_secrets_is_not_shown(query, left):
    assert public(f"abfs://container/prefix{query}") == f"abfs://container/prefix{left}"


@pytest.mark.parametrize(
    "text",
    ["results", "/some/where@home?x", "me@home:results", "s3://bucket/a@b", "gs://bucket/prefix", "file:///a@b/c:d@e"],
)
def test_what_names_nobody_is_shown_as_it_is(text):
    assert public(text) == text


def test_a_library_repeats_no_secret():
    location = "s3://key:sEc/ret@bucket/prefix"
    said = f"Cannot parse URI: '{location}'; no such user key:sEc/ret@bucket"
    assert without_secrets(said, location) == "Cannot parse URI: 's3://bucket/prefix'; no such user bucket"


def test_a_query_stays_at_the_end():
    assert below("s3://bucket/prefix/?x=y", "sweep", "ray") == "s3://bucket/prefix/sweep/ray?x=y"
    assert below("s3://bucket", "sweep") == "s3://bucket/sweep"
    assert below("/what?/results", "sweep") == "/what?/results/sweep"


@pytest.mark.parametrize(
    ("location", "folder", "file"),
    [
        ("/results/weights/0.safetensors", "/results/weights", "0.safetensors"),
        ("/0.safetensors", "/", "0.safetensors"),
        ("/what?/file", "/what?", "file"),
        ("s3://bucket/a/file?x=y/z", "s3://bucket/a?x=y/z", "file"),
    ],
)
def test_a_location_is_split_into_the_folder_and_the_file(location, folder, file):
    assert split(location) == (folder, file)


def test_a_path_that_is_no_text_is_refused_before_it_is_needed():
    assert absolute("/tmp/\u732b \u00e9") == "/tmp/\u732b \u00e9"
    with pytest.raises(BadInputError, match="is no text in UTF-8: give the folder another name, or set PYTHONUTF8=1"):
        absolute(os.fsdecode(b"/tmp/results\xff"))

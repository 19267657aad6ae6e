"""URLs: taken apart, refused where they are wrong, and never a place for secrets."""

from __future__ import annotations

import contextlib
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynalayer import URL, ConfigurationError
from strategies import texts

SECRETS = ["wJalrXUtnFEMI", "AKIAIOSFODNN7"]


def parse(text: str) -> URL:
    return URL.parse(text, what="storage")


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "scheme", "location", "options"),
    [
        ("local:snapshots", "local", "snapshots", {}),
        ("local:///var/snapshots", "local", "///var/snapshots", {}),
        ("memory:", "memory", "", {}),
        ("s3-json://bucket/prefix", "s3-json", "//bucket/prefix", {}),
        ("parquet+s3://bucket/a/b", "parquet+s3", "//bucket/a/b", {}),
        ("LOCAL:Snapshots", "local", "Snapshots", {}),
        (
            "dynamodb://events?region=us-east-1&endpoint=http%3A//localhost%3A8000",
            "dynamodb",
            "//events",
            {"region": "us-east-1", "endpoint": "http://localhost:8000"},
        ),
        ("local:a%20b%3Fc", "local", "a b?c", {}),
        ("local:a b", "local", "a b", {}),
        ("local:a:b", "local", "a:b", {}),
        ("local:a#b", "local", "a#b", {}),
        ("local:é/ü", "local", "é/ü", {}),
        ("local:100%", "local", "100%", {}),
        ("local:a\nb", "local", "a\nb", {}),
        ("local:a?x=", "local", "a", {"x": ""}),
        ("local:a?x", "local", "a", {"x": ""}),
        ("local:a?", "local", "a", {}),
        ("local:a?x=1?2", "local", "a", {"x": "1?2"}),
        ("s3-json://bucket/a@b", "s3-json", "//bucket/a@b", {}),
        ("local:a@b", "local", "a@b", {}),
        ("s3-json://host:9000/bucket", "s3-json", "//host:9000/bucket", {}),
        ("s3-json://[::1]:9000/bucket", "s3-json", "//[::1]:9000/bucket", {}),
        ("s3-json://bucket/a:b", "s3-json", "//bucket/a:b", {}),
    ],
)
def test_a_url_is_scheme_location_and_options(text: str, scheme: str, location: str, options: dict[str, str]) -> None:
    assert parse(text) == URL(scheme, location, options)


@pytest.mark.parametrize(
    ("text", "name", "inner"),
    [("local:x", "local", ""), ("parquet+s3://b", "parquet", "s3"), ("a+b+c:x", "a", "b+c"), ("a+:x", "a", "")],
)
def test_the_part_of_the_scheme_before_the_plus_is_the_name(text: str, name: str, inner: str) -> None:
    assert (parse(text).name, parse(text).inner) == (name, inner)


@given(texts(), st.dictionaries(texts(), texts(), max_size=4))
def test_what_was_quoted_comes_back(text: str, options: dict[str, str]) -> None:
    location = "folder/" + text.replace("\0", "")
    query = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in options.items())
    assert parse(f"name:{quote(location, safe='')}?{query}") == URL("name", location, options)


@pytest.mark.parametrize("text", ["local:a%00b", "local:a\0b", "local:%00", "local:///a%00"], ids=range(4))
def test_a_path_with_a_null_byte_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="null byte"):
        parse(text).path(what="storage")


@given(texts())
def test_any_text_is_a_url_or_a_configuration_error(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert parse(text).scheme


@pytest.mark.parametrize(
    "text", ["", "snapshots", "/var/snapshots", "./a", ":x", "1a:x", "a b:x", "s3_json://b", "://x"]
)
def test_text_without_a_scheme_is_refused_with_an_example(text: str) -> None:
    message = refusal(text)
    assert "storage" in message
    assert "it has no scheme, as in 'sqlite:///events.db' or 'local:snapshots'" in message


@pytest.mark.parametrize(
    "text",
    [
        "s3-json://AKIAIOSFODNN7:wJalrXUtnFEMI@bucket/prefix",
        "s3-json://AKIAIOSFODNN7@bucket/prefix",
        "s3-json://:wJalrXUtnFEMI@bucket",
        "parquet+s3://AKIAIOSFODNN7:wJalrXUtnFEMI@host:9000/bucket?region=eu",
        # Secret keys of S3 may well hold a slash, which ends the authority.
        "s3-json://AKIAIOSFODNN7:wJalrXUtnFEMI/K7MDENG@bucket/prefix",
        "s3-json://AKIAIOSFODNN7:wJalrXUtnFEMI?K7MDENG@bucket/prefix",
        "s3-json://AKIAIOSFODNN7:wJalrXUtnFEMI%40bucket/prefix",
        "s3-json://AKIAIOSFODNN7%3AwJalrXUtnFEMI@bucket/prefix",
        "s3-json://AKIAIOSFODNN7:wJalrXUtnFEMI@bucket?a=1&a=2",
    ],
)
def test_credentials_are_refused_and_not_repeated(text: str) -> None:
    message = refusal(text)
    assert not [secret for secret in SECRETS if secret in message]
    assert "credentials" in message


@pytest.mark.parametrize("start", [" s3-json:", "s3_json:", "'s3-json:", ""])
def test_text_that_is_no_url_and_holds_credentials_is_not_repeated(start: str) -> None:
    message = refusal(f"{start}//AKIAIOSFODNN7:wJalrXUtnFEMI@bucket/prefix")
    assert not [secret for secret in SECRETS if secret in message]
    assert "it has no scheme" in message or "credentials" in message


@pytest.mark.parametrize("query", ["secret=wJalrXUtnFEMI&secret=AKIAIOSFODNN7", "key=AKIAIOSFODNN7&key=1"])
def test_an_option_given_twice_is_refused_without_its_values(query: str) -> None:
    message = refusal(f"s3-json://bucket?{query}")
    assert "gives an option twice" in message
    assert not [secret for secret in SECRETS if secret in message]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("local:snapshots", "snapshots"),
        ("local:a/b", "a/b"),
        ("local:./a", "./a"),
        ("local:/a", "/a"),
        ("local:///a/b", "/a/b"),
        ("local:a%2Fb", "a/b"),
        ("local:..", ".."),
    ],
)
def test_a_location_is_a_path_of_this_machine(text: str, path: str) -> None:
    assert parse(text).path(what="storage") == path


@pytest.mark.parametrize("text", ["local:", "local:/", "local:///", "local://", "local:////"])
def test_a_location_without_a_path_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"storage .*local:relative/path"):
        parse(text).path(what="storage")


@pytest.mark.parametrize("text", ["local://host/path", "local://snapshots", "local://./a"])
def test_a_host_in_front_of_a_path_is_refused_with_both_ways_to_write_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"names a host .*write local:relative/path or local:///absolute/path"):
        parse(text).path(what="storage")


def test_an_unknown_option_is_refused_by_name_with_those_that_are_known() -> None:
    url = parse("s3-json://bucket?regoin=wJalrXUtnFEMI")
    with pytest.raises(ConfigurationError, match="knows no option 'regoin'; known options: endpoint, region") as caught:
        url.refuse_options(frozenset({"region", "endpoint"}))
    assert "wJalrXUtnFEMI" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="known options: none"):
        url.refuse_options()


def test_known_options_and_none_at_all_are_taken() -> None:
    parse("s3-json://bucket?region=eu").refuse_options(frozenset({"region"}))
    parse("s3-json://bucket").refuse_options()

"""The location of a study as it may be printed: a path, or a URI without its credentials."""

from __future__ import annotations


def shown_location(location: str) -> str:
    """Return a location without credentials and options.

    >>> shown_location("s3://key:secret@bucket/study?region=eu-west-1"), shown_location("/data/what?")
    ('s3://bucket/study', '/data/what?')
    """
    return without_credentials(location).partition("?")[0].rstrip("/") if "://" in location else location


def without_credentials(location: str) -> str:
    """Return a location without the key and secret that a URI may begin with; its options stay.

    >>> without_credentials("s3://key:secret@bucket/study?region=eu-west-1"), without_credentials("/data/a@b")
    ('s3://bucket/study?region=eu-west-1', '/data/a@b')
    >>> without_credentials("abfss://container:secret@account.dfs.core.windows.net/study")
    'abfss://container@account.dfs.core.windows.net/study'
    """
    scheme, found, rest = location.partition("://")
    if not found:
        return location
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    container = user.partition(":")[0] + at if scheme in ("abfs", "abfss") else ""
    return f"{scheme}://{container}{host}{slash}{path}"

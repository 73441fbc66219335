"""Where a manifest lives: its URI, normalised once.

A manifest is a directory (of a file system) or a name prefix (of a bucket). Four spellings are understood: `gs://`,
`file://`, a bare absolute path, and any other scheme, which `fsspec` is asked for. Guarantees: two spellings of one
place normalise to one URI without a trailing slash; nothing here touches the network or the disk. Characters are
taken as they are: `%20` in a URI is three characters of a name.
"""

from __future__ import annotations

import posixpath
import re

import msgspec

from airflow_dataflux.core.config import check_bucket_name
from airflow_dataflux.core.errors import InvalidRequestError, ManifestError

INDEX_NAME = "manifest.json"
"""Name of the index inside the manifest's directory."""

_INDEX_BEGINS = b'{"format":"dataflux-manifest/'
"""What `index.encode_index` begins an index of any version with."""

INDEX_HEAD_BYTES = len(_INDEX_BEGINS)
"""Bytes of a file that tell whether it is an index."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?(.*)", re.DOTALL)
_NOT_STORAGE = re.compile(
    "https?|ftps?|sftp|ssh|smb|webhdfs|git|github|jupyter|jlab|dask|data|reference|local|dir|zip|tar|libarchive|"
    "blockcache|filecache|simplecache|cached"
)
"""What fsspec would ask a host that the URI names, or read out of another file. A URI comes from a task's parameters,
an XCom or an index, and none of them should make a worker call a host of its choice."""

_LONGEST_BYTES = 4096
"""PATH_MAX of Linux; names in buckets have at most 1,024 bytes."""

_LONGEST_PREFIX_BYTES = 1024 - 64
"""Of a manifest in a bucket: its longest file, a report, is called `reports/` and some 40 bytes more."""

_LONGEST_SEGMENT_BYTES = 255
"""NAME_MAX of all usual file systems."""

_EXAMPLES = "Give gs://bucket/path, file:///path, an absolute path, or another fsspec URI such as s3://bucket/path."


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """One normalised URI.

    Attributes:
        scheme: "file", "gs", or the scheme that fsspec resolves.
        bucket: bare bucket name for "gs", empty otherwise.
        path: object name for "gs" (may be empty: the bucket's root), absolute local path for "file", the whole URI
            otherwise.
        uri: the normalised spelling.
    """

    scheme: str
    bucket: str
    path: str
    uri: str

    def below(self, name: str) -> Location:
        """Return the place of a file in this directory."""
        return parse_location(join_uri(self.uri, name))


def parse_location(uri: str) -> Location:
    """Normalise `uri`.

    Raises InvalidRequestError for an empty, relative or malformed URI and for a name that is no bucket's.
    """
    if not isinstance(uri, str) or not uri.strip():
        raise InvalidRequestError(f"{uri!r} is not the URI of a manifest. {_EXAMPLES}", uri=uri)
    if any(character in uri for character in "\0\r\n"):
        raise InvalidRequestError(f"{uri!r} holds a line break or a zero character. {_EXAMPLES}", uri=uri)
    try:
        length = len(uri.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"{uri!r} holds half of a surrogate pair, which UTF-8 cannot express. {_EXAMPLES}", uri=uri
        ) from error
    if length > _LONGEST_BYTES:
        raise InvalidRequestError(
            f"{uri[:100]!r}… is too long: it has {length} bytes, and at most {_LONGEST_BYTES} are possible. "
            f"{_EXAMPLES}",
            uri=uri,
        )
    if uri.startswith("/"):
        return _local(uri, uri)
    match = _SCHEME.fullmatch(uri)
    if match is None:
        raise InvalidRequestError(
            f"{uri!r} is a relative path: every worker would resolve it differently. {_EXAMPLES}", uri=uri
        )
    scheme, slashes, rest = match[1].lower(), match[2], match[3]
    if not slashes:
        raise InvalidRequestError(f"{uri!r} lacks the // after {scheme}:. {_EXAMPLES}", uri=uri)
    if scheme == "file":
        if not rest.startswith("/"):
            raise InvalidRequestError(
                f"{uri!r} names a host or a relative path: a local manifest is file:///path with three slashes.",
                uri=uri,
            )
        return _local(rest, uri)
    if scheme in ("gs", "gcs"):
        bucket, _, name = rest.partition("/")
        check_bucket_name(bucket)
        name = name.strip("/")
        return Location(scheme="gs", bucket=bucket, path=name, uri=f"gs://{bucket}/{name}".rstrip("/"))
    if not rest.strip("/"):
        raise InvalidRequestError(f"{uri!r} names no place. {_EXAMPLES}", uri=uri)
    if _NOT_STORAGE.fullmatch(scheme) or "::" in rest:
        raise InvalidRequestError(
            f"{uri!r} cannot be the URI of a manifest: {scheme}:// is not followed. {_EXAMPLES}",
            uri=uri,
        )
    normalised = f"{scheme}://{rest.rstrip('/')}"
    return Location(scheme=scheme, bucket="", path=normalised, uri=normalised)


def manifest_location(uri: str) -> Location:
    """Normalise the URI of a manifest or of its index file to the manifest's directory. Raises as parse_location."""
    location = parse_location(uri)
    if location.uri.endswith("/" + INDEX_NAME):
        location = parse_location(location.uri[: -len(INDEX_NAME)])
    if location.scheme == "gs" and not location.path:
        raise InvalidRequestError(
            f"{uri!r} is a bucket's root: a manifest needs a prefix of its own, such as gs://{location.bucket}/manifests/name.",
            uri=uri,
        )
    longest = max(len(segment.encode()) for segment in location.path.split("/"))
    if location.scheme == "gs" and len(location.path.encode()) > _LONGEST_PREFIX_BYTES:
        raise InvalidRequestError(
            f"{uri[:100]!r}… is too long: the files of a manifest need 64 of the 1,024 bytes of an object name.",
            uri=uri,
        )
    if location.scheme == "file" and longest > _LONGEST_SEGMENT_BYTES:
        raise InvalidRequestError(
            f"{uri[:100]!r}… has a directory name of {longest} bytes; file systems take {_LONGEST_SEGMENT_BYTES}.",
            uri=uri,
        )
    return location


def join_uri(directory: str, path: str) -> str:
    """Return the URI of `path`, which is relative to `directory` or already a URI."""
    return path if "://" in path else f"{directory.rstrip('/')}/{path}"


def relative_path(directory: str, uri: str) -> str:
    """Return `uri` relative to `directory` where it is below it, else `uri` itself; undone by join_uri."""
    start = directory.rstrip("/") + "/"
    return uri[len(start) :] if uri.startswith(start) else uri


def _local(path: str, uri: str) -> Location:
    # normpath keeps a leading double slash, which POSIX allows to mean something else.
    normal = "/" + posixpath.normpath(path).lstrip("/")
    if normal == "/":
        raise InvalidRequestError(
            f"{uri!r} is the root of the file system: a manifest needs a directory of its own.", uri=uri
        )
    return Location(scheme="file", bucket="", path=normal, uri=f"file://{normal}")


def check_is_index(data: bytes, uri: str) -> None:
    """Raise ManifestError for a file under the name of an index that is somebody else's, and so not to be replaced.

    An index of any version is taken for one, also one that was cut short.
    """
    begin = data[: len(_INDEX_BEGINS)]
    if begin != _INDEX_BEGINS[: len(begin)]:
        raise ManifestError(
            f"{uri} is there already, and it is no manifest, so it is not replaced. Give the manifest a directory of "
            "its own as manifest_uri, or remove the file if nobody needs it.",
            uri=uri,
        )

"""Files behind a URL, through fsspec: read whole, written whole. fsspec is imported at first use.

What goes wrong is an OSError, as with local files, with a remedy beside it; no message shows a secret.
"""

from __future__ import annotations

import difflib
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import url2pathname

from perfsuite.errors import UsageError

T = TypeVar("T")

TIMEOUT_S = 60.0  # of one operation
_SCHEME = re.compile(r"[A-Za-z][\w+.-]+(::[A-Za-z][\w+.-]+)*://")  # two letters at least: C:/ is a drive
_FILE_NAME = re.compile(r"[\w-][\w.-]*", re.ASCII)
# A password may hold an unescaped "/", so what is no plain host and port is hidden up to the last "@".
_USER = re.compile(r"(?<=://)(?![^/@:]*(:[0-9]{1,5})?(/|$))[^\s?#]*@")
_QUERY = re.compile(r"(?<=\?)[^\s#'\"]+")
_STARS = "***"
_SECRET = 8  # characters: a shorter value in a query is no signature, and is not hidden
_EXTRA = "pip install 'perfsuite[storage]'"


class RemoteError(OSError):
    """A file behind a URL could not be read or written."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True, repr=False)
class Remote:
    """A file or folder behind a URL. As text it is for messages: user, password and query are hidden."""

    url: str

    def __str__(self) -> str:
        return masked(self.url)

    __repr__ = __str__

    def __truediv__(self, name: str) -> Remote:
        """A file in this folder; a query, such as a signature, stays at the end."""
        folder, mark, query = self.url.partition("?")
        return Remote(f"{folder.rstrip('/')}/{name}{mark}{query}")

    def read(self, limit: int) -> bytes | None:
        """The content, but no more than ``limit`` + 1 bytes of it; None if there is no such file."""
        try:
            content: bytes = self._attempt("read", lambda fs, path: fs.cat_file(path, start=0, end=limit + 1))
        except FileNotFoundError:
            return None
        return content[: limit + 1]

    def write(self, content: bytes) -> None:
        """Put the whole content there, or leave what is there. Two that write at once: the later one wins."""
        try:
            self._attempt("written", lambda fs, path: _put(fs, path, content))
        except FileNotFoundError as error:  # no bucket, or no folder above it
            raise RemoteError(self._reason(error), "create the bucket or folder first, or correct the URL") from None

    def files(self, ending: str) -> Iterator[Remote]:
        """The files in this folder with that ending, by name; none if there is no such folder."""
        try:
            found = self._attempt("listed", _names)
        except FileNotFoundError:
            return
        names = {urlsplit(name).path.rpartition("/")[2] for name in found}
        yield from (self / name for name in sorted(names) if name.endswith(ending) and _FILE_NAME.fullmatch(name))

    def _attempt(self, verb: str, operation: Callable[[Any, str], T]) -> T:
        """Raises FileNotFoundError, and RemoteError for all else: each protocol has exceptions of its own."""
        try:
            return _within(TIMEOUT_S, lambda: operation(*_filesystem(self.url)))
        except (FileNotFoundError, RemoteError):
            raise
        except NotImplementedError:
            what = f"{urlsplit(self.url).scheme}:// is read-only"
            remedy = "name a folder, or a URL that can be written, such as s3://bucket/folder"
        except TimeoutError:
            what = f"it could not be {verb} within {TIMEOUT_S:g} s"
            remedy = "check the address and the network, then run again"
        except Exception as error:
            what, remedy = self._reason(error), "check the address, the network and the credentials"
        raise RemoteError(what, remedy)

    def _reason(self, error: Exception) -> str:
        """What a library says of its error, on one line and without secrets."""
        text = masked(f"{type(error).__name__}: {error}")
        for secret in _secrets(self.url):
            text = text.replace(secret, _STARS)
        return " ".join(text.split())


Location = Path | Remote


def location(text: str | Location, root: Path | None = None) -> Location:
    """What a person wrote: a URL, or a path (relative to ``root``). ``file://`` is a path like any other.

    Raises UsageError for a file URL with a host.
    """
    if isinstance(text, Remote):
        return text
    if isinstance(text, Path) or not _SCHEME.match(text):
        return (root or Path()) / text
    parts = urlsplit(text)
    if parts.scheme not in ("file", "local"):
        return Remote(text)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(
            f"{text!r} has a host, {parts.netloc!r}", "write a file URL with three slashes: file:///folder"
        )
    return Path(url2pathname(parts.path))


def masked(text: str) -> str:
    """Text in which no URL shows its user, password or query."""
    return _QUERY.sub(_STARS, _USER.sub(f"{_STARS}@", text))


def _secrets(url: str) -> list[str]:
    """What must not be printed, also where a library took the URL apart; the longest first."""
    user = _USER.search(url)
    _, _, password = user[0][:-1].partition(":") if user else ("", "", "")
    values = [value for _, value in parse_qsl(urlsplit(url).query) if len(value) >= _SECRET]
    return sorted({password, unquote(password), *values} - {""}, key=len, reverse=True)


def _filesystem(url: str) -> tuple[Any, str]:
    """The filesystem and the path in it. Raises RemoteError, saying what to install or what is known."""
    try:
        import fsspec  # type: ignore[import-untyped]  # it ships no types
    except ImportError as error:
        raise RemoteError(f"a URL needs fsspec ({error})", _EXTRA) from None
    scheme, known = urlsplit(url).scheme, {*fsspec.available_protocols(), *fsspec.registry}
    if scheme and scheme not in known:
        near = difflib.get_close_matches(scheme, known, n=3)
        hint = f"did you mean {' or '.join(f'{name}://' for name in near)}? " if near else ""
        raise RemoteError(f"{scheme}:// is no protocol that fsspec knows", f"{hint}write such a URL, or a folder")
    try:
        found: tuple[Any, str] = fsspec.url_to_fs(url)
    except ImportError as error:
        raise RemoteError(f"a package is missing: {error}", f"install it; for http:// and https://: {_EXTRA}") from None
    return found


def _put(fs: Any, path: str, content: bytes) -> None:
    """In a transaction, so that nobody sees half a file. A missing folder is made, a missing bucket is not."""
    try:
        with fs.transaction, fs.open(path, "wb") as file:
            file.write(content)
    except FileNotFoundError:
        fs.mkdir(fs._parent(path), create_parents=False)
        with fs.transaction, fs.open(path, "wb") as file:
            file.write(content)


def _names(fs: Any, path: str) -> list[str]:
    fs.invalidate_cache()  # another process may have written since
    names: list[str] = fs.ls(path, detail=False)
    return names


def _within(seconds: float, work: Callable[[], T]) -> T:
    """Work in a thread of its own: not every protocol has a timeout. Raises TimeoutError."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # it belongs to the thread that waits
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer.result(timeout=seconds)

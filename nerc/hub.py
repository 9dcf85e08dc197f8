"""A repository on the Hub, in which every branch is a revision.

A push is one commit on one branch, which then holds exactly the revision's files. The client keeps
what it fetches in its cache, which is all that is read with HF_HUB_OFFLINE=1.
"""

import glob
import hashlib
import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import httpx2
import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, errors

from nerc.errors import InputError, is_disk_full

logger = logging.getLogger(__name__)

# Neither fetched nor sent: pickles, and what a machine, a shell or an interpreter runs.
_PROGRAMS = (
    "bin pt pth pkl pickle dill joblib ckpt h5 hdf5 keras py pyc pyo pyd pyw pyz ipynb whl egg "
    "so dll dylib exe com msi node wasm jar class sh bash zsh csh ksh fish bat cmd ps1 vbs js mjs "
    "rb pl php lua command desktop app"
).split()
# Nor are hidden files, and names that lead out of a folder or mean something else on some systems.
_LEFT_OUT = [".*", "*/.*", "/*", "*:*", "*[. ]", "*.[sS][oO].[0-9]*"]
_LEFT_OUT += [f"*.{''.join(f'[{c}{c.upper()}]' for c in ending)}" for ending in _PROGRAMS]
_HUB_FILE = ".gitattributes"  # every repository has it; it is not part of a revision
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_ADVICE = {
    401: f"your token is missing or wrong, or you may not read it; {_LOG_IN}",
    403: "you may not write there; use a token that allows writing, of a user who may write",
    404: "there is no such repository, or you may not see it (HF_TOKEN, `hf auth login`)",
    409: "somebody else is changing it; run the same command again",
    412: "somebody else has changed it meanwhile; run the same command again",
    429: "too many requests; wait some minutes and run the same command again",
}

# What the client raises at answers that are no JSON, or JSON of another shape.
_ODD_ANSWERS = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError)
_ODD_ANSWERS += (httpx2.InvalidURL,)

Files = Mapping[str, Path | bytes]  # by their names on the Hub
Hashes = Mapping[str, tuple[str, str | None]]  # git hash and, of a large file, SHA-256; by names


def is_name(repo: str) -> bool:
    """Whether repo has the form USER/NAME and does not look like a path: USER is not models."""
    return re.fullmatch(r"(?!models/)[A-Za-z0-9][\w.-]*/[\w-][\w.-]*", repo) is not None


def may_be_model(name: str) -> bool:
    """Whether name can be that of a model on the Hub: USER/NAME, or NAME for the oldest ones."""
    return is_name(name) or re.fullmatch(r"[\w-][\w.-]*", name) is not None


def belongs(file: str) -> bool:
    """Whether a file of this name can be part of a revision."""
    return not any(fnmatchcase(file.replace("\\", "/"), pattern) for pattern in _LEFT_OUT)


class Repository:
    """USER/NAME on the Hub. Every failure there becomes an InputError of one line."""

    def __init__(
        self, name: str, *, token: str | bool | None = None, cache_dir: str | Path | None = None
    ) -> None:
        self.name = name
        self._api, self._cache = HfApi(token=token), cache_dir

    def names(self) -> list[str]:
        """The branches, in alphabetical order."""
        with self._asking():
            return sorted(self._heads())

    def fetch(self, revision: str, only: Sequence[str] | None = None) -> Path:
        """The folder in the cache with the newest state of a revision; offline, the cached one.

        Files that do not belong to a revision are left out, with a line. only: the files to fetch,
        if not all. InputError where a file is not what the Hub's hash says, even if fetched anew.
        """
        with self._asking(revision):
            folder = self._download(revision, only)
            try:
                hashes, is_asked = self._files(folder.name), True
            except (httpx2.HTTPError, OSError):  # the client took what the cache has
                hashes, is_asked = _hashes_in_cache(folder), False
            changed = _changed(folder, hashes, only)
            if changed and is_asked:
                self._download(folder.name, map(glob.escape, changed), force_download=True)
                changed = _changed(folder, hashes, only)
        left_out = [name for name in hashes if name != _HUB_FILE and not belongs(name)]
        if left_out and only is None:
            logger.warning(
                f"{revision} of {self.name}: hidden files, pickles and programs are not fetched: "
                f"{', '.join(sorted(left_out))}"
            )
        if changed:
            advice = "the Hub was not asked; fetch the revision again where there is a network"
            if is_asked:
                advice = "it was fetched twice, so something on the way or the disk changes it"
            raise InputError(
                f"revision {revision} of {self.name}: {', '.join(changed)} in the cache ({folder}) "
                f"is not what the Hub's hash says; {advice}"
            )
        return folder

    def _download(self, revision: str, only: Iterable[str] | None, **how: bool) -> Path:
        how |= {"cache_dir": self._cache, "ignore_patterns": _LEFT_OUT}
        how |= {"allow_patterns": None if only is None else list(only)}
        return Path(self._api.snapshot_download(self.name, revision=revision, **how))

    def describe_source(self, revision: str, folder: Path) -> str:
        """Which commit a folder from fetch() holds, and whether it is the newest."""
        commit = f"commit {folder.name[:8]} of {self.name}"
        try:
            with self._asking(revision):
                newest = self._api.repo_info(self.name, revision=revision).sha
        except InputError:
            return f"{commit}, from the cache: the Hub was not asked, or did not answer"
        return f"{commit} on the Hub" if newest == folder.name else f"{commit}, just replaced there"

    def check_push(self, revision: str, *, overwrite: bool) -> None:
        """Raise InputError where a push of new files would be refused."""
        with self._asking():
            self._api.whoami()
            if self._exists() and not overwrite:
                heads = self._heads()
                if revision in heads:
                    self._check_free(revision, heads[revision], self._files(heads[revision]))

    def push(
        self, files: Files, revision: str, *, overwrite: bool = False, public: bool = False
    ) -> str:
        """Make a branch hold exactly these files; says what was done.

        Creates the repository where there is none, private unless public. Tries again when the
        connection breaks. The branch never holds a mixture of old and new files.
        """
        for wait in (1, 2, None):  # seconds before the next try
            with self._asking(revision):
                try:
                    return self._push(files, revision, overwrite=overwrite, public=public)
                except (httpx2.TransportError, errors.HfHubHTTPError) as error:
                    response = getattr(error, "response", None)
                    is_refused = response is not None and response.status_code < 500
                    if wait is None or is_refused:
                        raise
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _push(self, files: Files, revision: str, *, overwrite: bool, public: bool) -> str:
        created = ""
        if not self._exists():
            self._api.create_repo(self.name, private=not public, exist_ok=True)
            created = f"created the {'public' if public else 'private'} repository {self.name}; "
        heads = self._heads()
        if revision not in heads:
            first = self._first()
            self._api.create_branch(self.name, branch=revision, revision=first, exist_ok=True)
            heads = self._heads()
        head, branch = heads[revision], f"branch {revision} of {self.name}"
        remote_files = self._files(head)
        if _same(remote_files, files):
            return f"{created}{branch} holds it already"
        if not overwrite:
            self._check_free(revision, head, remote_files)
        changes = [CommitOperationAdd(path, file) for path, file in files.items()]
        surplus = set(remote_files) - set(files) - {_HUB_FILE}
        changes += [CommitOperationDelete(path, is_folder=False) for path in sorted(surplus)]
        about = {"commit_message": f"{revision}, by nerc", "revision": revision}
        self._api.create_commit(self.name, changes, parent_commit=head, **about)
        if not _same(self._files(revision), files):
            raise InputError(f"{branch} does not hold what was sent; run the same command again")
        return f"{created}{branch} holds it: {constants.ENDPOINT}/{self.name}/tree/{revision}"

    def _exists(self) -> bool:
        """Whether the repository exists; raises where it may not be seen."""
        try:
            self._api.repo_info(self.name)
        except errors.RepositoryNotFoundError as error:
            if error.response.status_code != 404:
                raise
            return False
        return True

    def _heads(self) -> dict[str, str]:
        """The newest commit of each branch."""
        refs = self._api.list_repo_refs(self.name)
        return {str(branch.name): branch.target_commit for branch in refs.branches}

    def _files(self, revision: str) -> Hashes:
        """The files of a branch or commit."""
        tree = self._api.list_repo_tree(self.name, recursive=True, revision=revision)
        return {
            entry.path: (entry.blob_id, entry.lfs and entry.lfs.sha256)
            for entry in tree
            if isinstance(entry, huggingface_hub.RepoFile)
        }

    def _first(self) -> str:
        """The repository's first commit, where new branches start: it has the fewest files."""
        return self._api.list_repo_commits(self.name, revision="main")[-1].commit_id

    def _check_free(self, revision: str, head: str, files: Hashes) -> None:
        """Raise InputError where a branch holds files that were committed to it."""
        is_new = revision != "main" and head == self._first()
        if not is_new and set(files) - {_HUB_FILE}:
            raise InputError(
                f"branch {revision} of {self.name} holds something else already; give --overwrite "
                f"to replace it, or another --revision"
            )

    @contextmanager
    def _asking(self, revision: str | None = None) -> Iterator[None]:
        """Turn every failure into an InputError of one line; hide the client's own messages."""
        huggingface_hub.logging.set_verbosity_error()
        if not sys.stderr.isatty():
            huggingface_hub.utils.disable_progress_bars()
        try:
            yield
        except InputError:
            raise
        except errors.HFValidationError as error:
            raise InputError(f"--repo {self.name}: is not a repository's name: {error}") from None
        except errors.RevisionNotFoundError:
            names = ", ".join(self.names())
            raise InputError(
                f"no revision {revision} in {self.name} on the Hub (there: {names})"
            ) from None
        except (httpx2.HTTPError, OSError) as error:
            if isinstance(error, PermissionError) or is_disk_full(error):
                raise
            raise InputError(f"{self.name} on the Hub: {_failure(error, revision)}") from None
        except _ODD_ANSWERS as error:
            raise InputError(
                f"{self.name} on the Hub: {constants.ENDPOINT} answered with something else than "
                f"the Hub does ({type(error).__name__}: {str(error)[:100]}); if this network wants "
                f"a login, open a page in a browser; else check HF_ENDPOINT"
            ) from None


def _failure(error: Exception, revision: str | None) -> str:
    """What went wrong with a request, and what to do."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes):
        if revision is None:
            return "HF_HUB_OFFLINE is set, and this needs the Hub; unset it, or give --revision"
        return (
            f"HF_HUB_OFFLINE is set, and the cache does not have revision {revision}; unset it, or "
            f"fetch the revision where there is a network (docs/hub.md, nodes without a network)"
        )
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"there is no token here; {_LOG_IN}"
    responses = [c.response for c in causes if isinstance(c, errors.HfHubHTTPError)]
    if not responses:
        return (
            f"{constants.ENDPOINT} cannot be reached, or the connection broke "
            f"({type(causes[-1]).__name__}); run the same command again when the network is back"
        )
    if isinstance(error, errors.GatedRepoError):
        return "its owner must give you access; ask on its page on the Hub, then log in"
    code, message = responses[0].status_code, responses[0].headers.get("X-Error-Message")
    advice = _ADVICE.get(code, "the fault is the Hub's; run the same command again later")
    return f"answered {code}{f' ({message})' if message else ''}: {advice}"


def _same(remote: Hashes, files: Files) -> bool:
    """Whether a branch holds these files, and no others."""
    return set(remote) - {_HUB_FILE} == set(files) and all(
        _has_hash(content, remote[name]) for name, content in files.items()
    )


def _changed(folder: Path, hashes: Hashes, only: Sequence[str] | None) -> list[str]:
    """The files of a folder in the cache that are missing or not as their hashes say."""
    fetched = [name for name in hashes if belongs(name) and (only is None or name in only)]
    paths = {name: folder / name for name in fetched}
    return [n for n, path in paths.items() if not (path.exists() and _has_hash(path, hashes[n]))]


def _hashes_in_cache(folder: Path) -> Hashes:
    """The hashes of a folder's files, where it has links to files that are called by their hash."""
    links = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_symlink()}
    found = {name: path.readlink().name for name, path in links.items()}
    found = {n: h for n, h in found.items() if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", h)}
    return {name: (h, h if len(h) == 64 else None) for name, h in found.items()}


def _has_hash(content: Path | bytes, hashes: tuple[str, str | None]) -> bool:
    """Whether content has one of the hashes: the git hash or, of a large file, the SHA-256."""
    if hashes[1]:
        return content_hash(content) == hashes[1]
    content = content if isinstance(content, bytes) else content.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == hashes[0]


def content_hash(content: Path | bytes) -> str:
    """The SHA-256 of a file or of bytes."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""A repository on the Hub, in which every branch is a revision.

A push is one commit on one branch, which then holds exactly the revision's files. The client keeps
what it fetches in its cache, which is all that is read with HF_HUB_OFFLINE=1.
"""

import hashlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import httpx2
import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, errors

from nerc.errors import InputError, is_disk_full

# Files that could run code when they are loaded: neither fetched nor sent.
_PROGRAMS = ["*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.h5", "*.joblib", "*.py"]
_HUB_FILE = ".gitattributes"  # every repository has it; it is not part of a revision
_LEFT_OUT = [*_PROGRAMS, _HUB_FILE]
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_ADVICE = {
    401: f"your token is missing or wrong, or you may not read it; {_LOG_IN}",
    403: "you may not write there; use a token that allows writing, of a user who may write",
    404: "there is no such repository, or you may not see it (HF_TOKEN, `hf auth login`)",
    409: "somebody else is changing it; run the same command again",
    412: "somebody else has changed it meanwhile; run the same command again",
    429: "too many requests; wait some minutes and run the same command again",
}


def is_name(repo: str) -> bool:
    """Whether repo has the form USER/NAME and does not look like a path: USER is not models."""
    return re.fullmatch(r"(?!models/)[A-Za-z0-9][\w.-]*/[\w-][\w.-]*", repo) is not None


def may_be_model(name: str) -> bool:
    """Whether name can be that of a model on the Hub: USER/NAME, or NAME for the oldest ones."""
    return is_name(name) or re.fullmatch(r"[\w-][\w.-]*", name) is not None


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

        only: the files to fetch, if not all.
        """
        about = {"revision": revision, "cache_dir": self._cache, "allow_patterns": only}
        with self._asking(revision):
            folder = self._api.snapshot_download(self.name, ignore_patterns=_LEFT_OUT, **about)
            return Path(folder)

    def describe_source(self, revision: str, folder: Path) -> str:
        """Which commit a folder from fetch() holds, and whether it is the newest."""
        commit = f"commit {folder.name[:8]} of {self.name}"
        try:
            newest = self._api.repo_info(self.name, revision=revision).sha
        except (httpx2.HTTPError, OSError):
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
        self, folder: Path, revision: str, *, overwrite: bool = False, public: bool = False
    ) -> str:
        """Make a branch hold exactly the files of folder; says what was done.

        Creates the repository where there is none, private unless public. Tries again when the
        connection breaks. The branch never holds a mixture of old and new files.
        """
        files = _files_of(folder)
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

    def _push(self, files: dict[str, Path], revision: str, *, overwrite: bool, public: bool) -> str:
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
        return {branch.name: branch.target_commit for branch in refs.branches}

    def _files(self, revision: str) -> dict[str, tuple[str, str | None]]:
        """The git hash of each file, and the SHA-256 of a large one."""
        tree = self._api.list_repo_tree(self.name, recursive=True, revision=revision)
        return {
            entry.path: (entry.blob_id, entry.lfs and entry.lfs.sha256)
            for entry in tree
            if isinstance(entry, huggingface_hub.RepoFile)
        }

    def _first(self) -> str:
        """The repository's first commit, where new branches start: it has the fewest files."""
        return self._api.list_repo_commits(self.name, revision="main")[-1].commit_id

    def _check_free(
        self, revision: str, head: str, files: dict[str, tuple[str, str | None]]
    ) -> None:
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


def _files_of(folder: Path) -> dict[str, Path]:
    """A revision's files by their names; InputError where some are missing or do not belong."""
    if not is_whole(folder):
        raise InputError(f"{folder}: is not a whole revision, config.json or weights are missing")
    files = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    refused = [n for n in files if "/." in f"/{n}" or any(fnmatch(n, p) for p in _PROGRAMS)]
    if refused:
        raise InputError(
            f"{folder}: hidden files, pickles and programs are not part of a revision and are not "
            f"sent; move away {', '.join(refused)}"
        )
    return files


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a model's configuration and weights."""
    weights = ("model.safetensors", "model.safetensors.index.json")
    return (folder / "config.json").is_file() and any((folder / w).is_file() for w in weights)


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


def _same(remote: dict[str, tuple[str, str | None]], files: dict[str, Path]) -> bool:
    """Whether a branch holds the files on the disk, and no others."""
    return set(remote) - {_HUB_FILE} == set(files) and all(
        _hash(path, is_large=bool(remote[name][1])) in remote[name] for name, path in files.items()
    )


def _hash(path: Path, *, is_large: bool) -> str:
    """The SHA-256 of a large file, the git hash of another one."""
    if is_large:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

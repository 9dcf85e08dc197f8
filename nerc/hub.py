"""A repository on the Hub, in which every branch is a revision.

A push is one commit on one branch: before it the branch holds what it held, after it exactly the
revision's files. The client keeps what it fetched in its cache, where HF_HUB_OFFLINE=1 finds it.
"""

import hashlib
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import httpx2
import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, errors

from nerc.errors import InputError, is_disk_full

# Files that could run code when they are loaded are not even fetched.
_PROGRAMS = ["*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.h5", "*.joblib", "*.py"]
_OF_THE_HUB = ".gitattributes"  # which every repository has, and is no part of a revision
_TRIES = 3
_SAYS = {
    401: "who asks is not known, or may not see it; log in with `hf auth login`, or set HF_TOKEN",
    403: "you may not write there: the token must be of a user who may, and allow writing",
    404: "there is no such repository, or you may not see it (HF_TOKEN, `hf auth login`)",
    409: "somebody else is changing it; run the same command again",
    412: "somebody else has changed it meanwhile; run the same command again",
    429: "too many requests; wait some minutes and run the same command again",
}


def is_name(repo: str) -> bool:
    """Whether repo may be USER/NAME; nobody's name on the Hub is models."""
    return re.fullmatch(r"(?!models/)[A-Za-z0-9][\w.-]*/[\w-][\w.-]*", repo) is not None


def may_be_model(name: str) -> bool:
    """Whether name may be that of a model on the Hub: USER/NAME, or NAME of the old ones."""
    return re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) is not None


class Repository:
    """USER/NAME on the Hub. Whatever goes wrong there is an InputError of one line."""

    def __init__(
        self, name: str, *, token: str | bool | None = None, cache_dir: str | Path | None = None
    ) -> None:
        self.name = name
        self._api, self._cache = HfApi(token=token), cache_dir

    def names(self) -> list[str]:
        """The branches, in alphabetical order."""
        with self._asking():
            return sorted(self._heads())

    def fetch(self, revision: str) -> Path:
        """The folder in the cache that holds a revision as it is now, or, offline, as it was."""
        return self._snapshot(revision, ignore_patterns=[*_PROGRAMS, _OF_THE_HUB])

    def fetch_records(self, revision: str) -> Path:
        """A folder in the cache with what a revision says of itself, but for its weights."""
        return self._snapshot(revision, allow_patterns=["config.json", "run.json", "metrics.json"])

    def _snapshot(self, revision: str, **patterns: list[str]) -> Path:
        with self._asking(revision):
            return Path(
                self._api.snapshot_download(
                    self.name, revision=revision, cache_dir=self._cache, **patterns
                )
            )

    def describe_source(self, revision: str, folder: Path) -> str:
        """Which state of a revision folder, which fetch gave, is, and whether the Hub said so."""
        place = f"commit {folder.name[:8]} of {self.name}"
        try:
            newest = self._api.repo_info(self.name, revision=revision).sha
        except (httpx2.HTTPError, OSError):
            return f"{place}, from the cache: the Hub was not asked, or did not answer"
        return f"{place} on the Hub" if newest == folder.name else f"{place}, just replaced there"

    def check_push(self, revision: str, *, overwrite: bool) -> None:
        """Raise InputError where a push of new files would be refused."""
        with self._asking():
            self._api.whoami()
            try:
                heads = self._heads()
            except errors.RepositoryNotFoundError as error:
                if error.response.status_code != 404:
                    raise
                return
            if revision in heads and not overwrite:
                head = heads[revision]
                self._check_free(revision, head, self._first(), self._files(head))

    def push(
        self, folder: Path, revision: str, *, overwrite: bool = False, public: bool = False
    ) -> str:
        """Make a branch hold exactly the files of folder; what was done, in words.

        A repository that is not there is made, a private one unless public. A connection that
        breaks is tried again; whatever happens, the branch holds what it held, or all that is new.
        """
        files = _files_of(folder)
        for attempt in range(_TRIES):
            with self._asking(revision):
                try:
                    return self._push(files, revision, overwrite=overwrite, public=public)
                except (httpx2.TransportError, errors.HfHubHTTPError) as error:
                    response = getattr(error, "response", None)
                    if attempt == _TRIES - 1 or (response and response.status_code < 500):
                        raise
            time.sleep(2**attempt)
        raise AssertionError("the last try returns or raises")

    def _push(self, files: dict[str, Path], revision: str, *, overwrite: bool, public: bool) -> str:
        made = self._make(public=public)
        heads, first = self._heads(), self._first()
        if revision not in heads:
            self._api.create_branch(self.name, branch=revision, revision=first, exist_ok=True)
            heads = self._heads()
        there = self._files(heads[revision])
        place = f"branch {revision} of {self.name}"
        if _same(there, files):
            return f"{made}{place} holds it already"
        if not overwrite:
            self._check_free(revision, heads[revision], first, there)
        changes = [CommitOperationAdd(path, file) for path, file in files.items()]
        surplus = set(there) - set(files) - {_OF_THE_HUB}
        changes += [CommitOperationDelete(path, is_folder=False) for path in sorted(surplus)]
        self._api.create_commit(
            self.name,
            changes,
            commit_message=f"{revision}, by nerc",
            revision=revision,
            parent_commit=heads[revision],
        )
        if not _same(self._files(revision), files):
            raise InputError(f"{place} does not hold what was sent; run the same command again")
        return f"{made}{place} holds it: {constants.ENDPOINT}/{self.name}/tree/{revision}"

    def _make(self, *, public: bool) -> str:
        try:
            self._api.repo_info(self.name)
        except errors.RepositoryNotFoundError as error:
            if error.response.status_code != 404:
                raise
            self._api.create_repo(self.name, private=not public, exist_ok=True)
            return f"made the {'public' if public else 'private'} repository {self.name}; "
        return ""

    def _heads(self) -> dict[str, str]:
        """The commit at the end of each branch."""
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
        """The repository's first commit, from which new branches start: it holds least."""
        return self._api.list_repo_commits(self.name, revision="main")[-1].commit_id

    def _check_free(
        self, revision: str, head: str, first: str, there: dict[str, tuple[str, str | None]]
    ) -> None:
        """Raise InputError where a branch holds something of its own."""
        just_made = revision != "main" and head == first
        if not just_made and set(there) - {_OF_THE_HUB}:
            raise InputError(
                f"branch {revision} of {self.name} holds something else already; give --overwrite "
                f"to replace it, or another --revision"
            )

    @contextmanager
    def _asking(self, revision: str | None = None) -> Iterator[None]:
        """Say in one line what went wrong, and nothing of retries that helped."""
        huggingface_hub.logging.set_verbosity_error()
        if not sys.stderr.isatty():
            huggingface_hub.utils.disable_progress_bars()
        try:
            yield
        except errors.HFValidationError as error:
            raise InputError(f"--repo {self.name}: is no name of a repository: {error}") from None
        except errors.RevisionNotFoundError:
            there = ", ".join(self.names())
            raise InputError(
                f"no revision {revision} in {self.name} on the Hub (there: {there})"
            ) from None
        except PermissionError:
            raise
        except (httpx2.HTTPError, OSError) as error:
            if isinstance(error, OSError) and is_disk_full(error):
                raise
            raise InputError(f"{self.name} on the Hub: {_what(error, revision)}") from None


def _files_of(folder: Path) -> dict[str, Path]:
    """A revision's files by their names; InputError where it lacks any, or holds others, too."""
    names = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    if not is_whole(folder):
        raise InputError(f"{folder}: is no whole revision, lacks config.json or model.safetensors")
    odd = [n for n in names if f"/{n}".find("/.") >= 0 or any(fnmatch(n, p) for p in _PROGRAMS)]
    if odd:
        raise InputError(
            f"{folder}: hidden files, pickles and programs are no part of a revision, and not "
            f"sent; move away {', '.join(odd)}"
        )
    return names


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a model and its weights."""
    weights = ("model.safetensors", "model.safetensors.index.json")
    return (folder / "config.json").is_file() and any((folder / w).is_file() for w in weights)


def _what(error: Exception, revision: str | None) -> str:
    """In words, what became of a request."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes):
        if revision is None:
            return "HF_HUB_OFFLINE is set, and this takes the Hub; unset it, or give --revision"
        return (
            f"HF_HUB_OFFLINE is set, and the cache does not have revision {revision}; fetch it "
            f"where there is a network (see README, nodes without a network), or unset it"
        )
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"there is no token here; {_SAYS[401].partition('; ')[2]}"
    responses = [c.response for c in causes if isinstance(c, errors.HfHubHTTPError)]
    if not responses:
        return (
            f"{constants.ENDPOINT} cannot be reached, or broke off ({type(causes[-1]).__name__}); "
            f"run the same command again when the network is back"
        )
    code = responses[0].status_code
    if isinstance(error, errors.GatedRepoError):
        return "its owner lets in who asked only; ask on its page on the Hub, then log in"
    said = responses[0].headers.get("X-Error-Message")
    advice = _SAYS.get(code, "a fault of the Hub's own; run the same command again later")
    return f"answered {code}{f' ({said})' if said else ''}: {advice}"


def _same(there: dict[str, tuple[str, str | None]], files: dict[str, Path]) -> bool:
    """Whether the Hub's files are those on the disk, and no others."""
    if set(there) - {_OF_THE_HUB} != set(files):
        return False
    return all(
        (_sha256(path) == sha256) if sha256 else (_git_hash(path) == blob)
        for (blob, sha256), path in ((there[name], path) for name, path in files.items())
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_hash(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

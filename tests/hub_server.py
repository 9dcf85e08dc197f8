"""A small Hub on loopback: what huggingface_hub asks about repositories of models, in memory.

It has repositories, branches, commits and files, the large ones by Git LFS. Like the real Hub, it
refuses a missing token, a missing branch and a commit on anything but a branch's newest commit.
Hub.faults makes requests fail on purpose.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

TOKEN = "hf_of_the_tests"
LARGE = (".safetensors",)  # files sent by LFS


@dataclass(frozen=True)
class File:
    """A file of a commit; large files have a sha256."""

    content: bytes
    sha256: str | None = None

    @property
    def git_hash(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass(frozen=True)
class Commit:
    """The files of a branch at one time, and the commit before."""

    files: dict[str, File]
    title: str
    parent: str | None


@dataclass
class Repo:
    """Commits by their hashes, and the newest commit of each branch."""

    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, File], title: str) -> str:
        parent = self.branches.get(branch)
        sha = hashlib.sha1(repr((len(self.commits), parent, title, sorted(files))).encode())
        self.commits[sha.hexdigest()] = Commit(files, title, parent)
        self.branches[branch] = sha.hexdigest()
        return sha.hexdigest()

    def find(self, revision: str) -> str | None:
        """The hash of a branch or a commit."""
        return revision if revision in self.commits else self.branches.get(revision)

    def content(self, branch: str) -> dict[str, bytes]:
        return {n: f.content for n, f in self.commits[self.branches[branch]].files.items()}


@dataclass
class Hub:
    """The server's state.

    A fault is a status, "drop" for a connection that breaks in the middle of a request, "change"
    for a file whose bytes change on the way, or another answer with status 200: bytes, such as a
    page in HTML, or a list or dict of JSON. It happens `times` times to requests that match the
    pattern.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # of LFS
    log: list[str] = field(default_factory=list)
    faults: list[list] = field(default_factory=list)  # [pattern, fault, times]
    before_commit: Callable[[], None] | None = None
    url: str = ""

    def fault(self, request: str) -> int | str | bytes | list | dict | None:
        for entry in self.faults:
            if entry[2] and re.search(entry[0], request):
                entry[2] -= 1
                return entry[1]
        return None


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of a connection, one after the other."""

    protocol_version = "HTTP/1.1"
    hub: Hub
    lock: threading.RLock

    def log_message(self, *_) -> None:
        pass

    def answer(self, code: int, body=b"", **headers: str) -> None:
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(code)
        length = headers.pop("Content_Length", str(len(body)))
        for name, value in {"Content-Length": length, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, code: int, error: str, message: str) -> None:
        self.answer(code, {"error": message}, X_Error_Code=error, X_Error_Message=message)

    def serve(self) -> None:
        request = f"{self.command} {self.path}"
        fault = self.hub.fault(request)
        if fault == "drop":
            self.rfile.read(min(10, int(self.headers.get("Content-Length") or 0)))
            self.close_connection = True
            return self.connection.close()
        data = self.body()
        with self.lock:
            self.hub.log.append(request)
            if isinstance(fault, int):
                return self.refuse(fault, "", "on purpose")
            if isinstance(fault, bytes | list | dict):
                return self.answer(200, fault)
            self.changes = fault == "change"
            self.route(unquote(urlparse(self.path).path), data)

    do_GET = do_POST = do_PUT = do_HEAD = serve

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def may(self) -> bool:
        """Whether the token is right; refuses the request if not."""
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self.refuse(401, "", "Invalid credentials in Authorization header")
        return False

    def route(self, path: str, data: bytes) -> None:
        base = f"http://{self.headers['Host']}"
        if path == "/api/whoami-v2":
            if self.may():
                self.answer(200, {"type": "user", "name": "tester", "fullname": "T", "orgs": []})
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            if self.may():
                self.create(json.loads(data), base)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self.lfs(json.loads(data), base)
        elif match := re.fullmatch(r"/_lfs/([0-9a-f]{64})", path):
            assert hashlib.sha256(data).hexdigest() == match[1]
            self.hub.objects[match[1]] = data
            self.answer(200)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(*match.groups())
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/([^/]+)(?:/(.*))?)?", path):
            self.model(match[1], match[2] or "revision", match[3] or "", data, base)
        else:
            self.refuse(404, "NotFound", f"nothing is known of {path}")

    def create(self, wanted: dict, base: str) -> None:
        name = f"{wanted.get('organization') or 'tester'}/{wanted['name']}"
        if name in self.hub.repos:
            return self.answer(409, {"error": "exists", "url": f"{base}/{name}"})
        if not name.startswith("tester/"):
            return self.refuse(403, "", "You don't have the rights to create it")
        self.hub.repos[name] = repo = Repo(wanted.get("visibility") == "private")
        repo.commit(
            "main", {".gitattributes": File(b"*.safetensors filter=lfs\n")}, "initial commit"
        )
        self.answer(200, {"url": f"{base}/{name}", "name": name, "id": name})

    def lfs(self, wanted: dict, base: str) -> None:
        found = []
        for thing in wanted["objects"]:
            upload = {"upload": {"href": f"{base}/_lfs/{thing['oid']}", "header": {}}}
            actions = {} if thing["oid"] in self.hub.objects else {"actions": upload}
            found.append({"oid": thing["oid"], "size": thing["size"], **actions})
        self.answer(200, {"transfer": "basic", "objects": found})

    def repo(self, name: str) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.headers.get("Authorization") is None):
            return self.refuse(404, "RepoNotFound", "Repository not found")
        return repo

    def commit_of(self, repo: Repo, revision: str) -> str | None:
        return repo.find(revision) or self.refuse(404, "RevisionNotFound", "Invalid rev id")

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.repo(name)
        sha = repo and self.commit_of(repo, revision)
        if not sha:
            return
        file = repo.commits[sha].files.get(path)
        if file is None:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        etag = {"ETag": f'"{file.sha256 or file.git_hash}"', "X_Repo_Commit": sha}
        content = file.content[:-1] + b"!" if self.changes else file.content
        length = {"Content_Length": str(len(file.content))} if self.command == "HEAD" else {}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return self.answer(200, content, **etag, **length)
        first, last = int(wanted[1]), int(wanted[2] or len(file.content) - 1)
        span = {"Content_Range": f"bytes {first}-{last}/{len(file.content)}"}
        self.answer(206, content[first : last + 1], **etag, **span)

    def model(self, name: str, what: str, rest: str, data: bytes, base: str) -> None:
        if (repo := self.repo(name)) is None:
            return
        if what == "refs":
            heads = [
                {"name": n, "ref": f"refs/heads/{n}", "targetCommit": c}
                for n, c in repo.branches.items()
            ]
            return self.answer(200, {"branches": heads, "converts": [], "tags": []})
        if what in ("branch", "commit", "preupload") and not self.may():
            return
        if what == "branch":
            return self.branch(repo, rest, json.loads(data))
        if what == "commit":
            return self.commit(repo, name, rest, data, base)
        if what == "preupload":
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular"}
                for f in json.loads(data)["files"]
            ]
            return self.answer(200, {"files": [m | {"shouldIgnore": False} for m in modes]})
        if not (sha := self.commit_of(repo, rest.partition("/")[0] or "main")):
            return
        if what == "tree":
            self.answer(200, [entry(p, f) for p, f in repo.commits[sha].files.items()])
        elif what == "commits":
            self.answer(200, history(repo, sha))
        elif what == "revision":
            files = [{"rfilename": path} for path in repo.commits[sha].files]
            about = {"_id": "1", "id": name, "modelId": name, "sha": sha, "private": repo.private}
            self.answer(200, about | {"tags": [], "downloads": 0, "likes": 0, "siblings": files})
        else:
            self.refuse(404, "NotFound", f"nothing is known of {what}")

    def branch(self, repo: Repo, name: str, wanted: dict) -> None:
        if name in repo.branches:
            return self.answer(409, {"error": "Reference already exists"})
        if sha := self.commit_of(repo, wanted.get("startingPoint", "main")):
            repo.branches[name] = sha
            self.answer(201, {})

    def commit(self, repo: Repo, name: str, branch: str, data: bytes, base: str) -> None:
        if self.hub.before_commit is not None:
            self.hub.before_commit()
        if branch not in repo.branches:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        files, title = dict(repo.commits[repo.branches[branch]].files), ""
        for line in data.splitlines():
            change = json.loads(line)
            kind, value = change["key"], change["value"]
            if kind == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, repo.branches[branch]):
                    return self.refuse(412, "", "A commit has happened since")
            elif kind == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]))
            elif kind == "lfsFile":
                files[value["path"]] = File(self.hub.objects[value["oid"]], value["oid"])
            elif kind == "deletedFile":
                del files[value["path"]]
            else:
                return self.refuse(400, "", f"nothing is known of {kind}")
        sha = repo.commit(branch, files, title)
        self.answer(200, {"commitOid": sha, "commitUrl": f"{base}/{name}/commit/{sha}"})


def entry(path: str, file: File) -> dict:
    found = {"type": "file", "path": path, "oid": file.git_hash, "size": len(file.content)}
    if file.sha256:
        found["lfs"] = {"oid": file.sha256, "size": len(file.content), "pointerSize": 130}
    return found


def history(repo: Repo, sha: str | None) -> list[dict]:
    found = []
    while sha is not None:
        commit = repo.commits[sha]
        about = {"id": sha, "title": commit.title, "message": "", "authors": []}
        found.append(about | {"date": "2026-01-01T00:00:00.000Z"})
        sha = commit.parent
    return found


def serve() -> tuple[Hub, ThreadingHTTPServer]:
    """A new Hub and its server, which shutdown() ends."""
    hub = Hub()
    handler = type("Handler", (Handler,), {"hub": hub, "lock": threading.RLock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return hub, server

"""A stub of a language model's server on loopback, which speaks OpenAI's chat completions.

  python tests/llm_server.py --gold FILE [FILE ...] [--port NUMBER] [--faults NAME=RATE ...]

It answers from expert labels, with faults and errors planted on purpose. Its first line is its URL;
it serves until SIGTERM. Tests use Server instead:

  with Server(sentences, faults={"changed": 0.1, "429": 0.05}) as server:
      client = OpenAI(base_url=server.url, api_key="none")
"""

import argparse
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.utils import formatdate
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run from anywhere

from llm_replies import FAULTS, GOOD_MODEL_ERRORS, Model, Reply, Words, pick, share  # noqa: E402

from nerc.data.conll import read_conll  # noqa: E402

# What goes wrong on the way; it happens to the first sending of a request only.
TRANSPORT = {
    "429": "too many requests, with Retry-After in seconds",
    "429_bare": "too many requests, without Retry-After",
    "429_date": "too many requests, with Retry-After as a date",
    "500": "internal error",
    "503": "service unavailable",
    "dropped": "the connection ends before the reply",
    "dropped_midway": "the connection ends in the middle of the reply",
    "slow": "the reply comes after --slow seconds",
}
_REASONS = {
    **{200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests"},
    **{500: "Internal Server Error", 503: "Service Unavailable"},
}


def gold(paths: Sequence[str | Path]) -> dict[Words, tuple[str, ...]]:
    """Words and tags of CoNLL files; of sentences with the same words, the first one's tags."""
    found: dict[Words, tuple[str, ...]] = {}
    for path in paths:
        for sentence in read_conll(path):
            found.setdefault(sentence.words, sentence.tags)
    return found


class Server:
    """The server, from `with` to its end; what is replied is Model's to say (**model).

    faults has rates of FAULTS and of TRANSPORT. latency and slow are in seconds, and each request
    waits by itself. requests has what --log writes, a dict a request in the order they came in: the
    hash of its body, its sentence, kind (inline, json or verify), try (1 or 2) and seed, the meant
    tags, the fault of the reply, what goes wrong in transport, and the status (None: none is sent).
    A request that transport fails, unless it is slow, has no fault: there is no reply.
    """

    def __init__(
        self,
        sentences: Mapping[Words, Sequence[str]],
        *,
        faults: Mapping[str, float] | None = None,
        latency: float = 0.0,
        slow: float = 30.0,
        port: int = 0,
        log: str | Path | None = None,
        **model,
    ) -> None:
        faults = faults or {}
        if unknown := set(faults) - set(FAULTS) - set(TRANSPORT):
            raise ValueError(f"no fault is named {min(unknown)}")
        of_replies = {name: rate for name, rate in faults.items() if name in FAULTS}
        self.transport = {name: rate for name, rate in faults.items() if name in TRANSPORT}
        if max(sum(of_replies.values()), sum(self.transport.values())) > 1 + 1e-9:
            raise ValueError("the rates of faults add up to more than 1")
        self.model = Model(sentences, of_replies, **model)
        self.latency, self.slow, self.port = latency, slow, port
        self.requests: list[dict] = []
        self.log = log and Path(log)
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.seen: set[str] = set()  # hashes of bodies
        self.connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "Server":
        handler = type("Handler", (Handler,), {"server_of": self})
        self.file = self.log.open("a", encoding="utf-8") if self.log else None
        self.http = _Http(("127.0.0.1", self.port), handler)
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        self.http.shutdown()
        with self.lock:
            for connection in self.connections:
                with suppress(OSError):  # its client has gone
                    connection.shutdown(socket.SHUT_RDWR)
        self.http.server_close()  # waits for the connections' threads
        self.thread.join()
        if self.file:
            self.file.close()

    def record(self, about: dict) -> None:
        with self.lock:
            self.requests.append(about)
            if self.file:
                self.file.write(json.dumps(about, ensure_ascii=False) + "\n")
                self.file.flush()

    def completion(self, request: dict, key: str) -> tuple[dict, dict]:
        """The reply to a request as the protocol has it, and what the log says of it."""
        reply, about = self.model.reply(request)
        prompt = sum(tokens_of(message["content"]) for message in request["messages"])
        completion = tokens_of(reply.content or reply.refusal or "")
        usage = {"prompt_tokens": prompt, "completion_tokens": completion}
        return {
            "id": f"chatcmpl-{key[:24]}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request["model"],
            "choices": [choice(reply)],
            "usage": usage | {"total_tokens": prompt + completion},
        }, about


def tokens_of(text: str) -> int:
    """A count of tokens, which a real tokenizer would do better."""
    return len(text) // 4 + 1


def choice(reply: Reply) -> dict:
    message = {"role": "assistant", "content": reply.content, "refusal": reply.refusal}
    return {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": reply.finish_reason,
    }


class _Http(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of a connection, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_of: Server

    def handle(self) -> None:
        server = self.server_of
        with server.lock:
            server.connections.add(self.connection)
        try:
            if not server.stopped.is_set():
                super().handle()
        except ConnectionError:  # the client has gone
            pass
        finally:
            with server.lock:
                server.connections.discard(self.connection)

    def log_message(self, *_) -> None:
        pass

    def send(self, status: int, body: dict, *, part: float = 1.0, **headers: str) -> None:
        """Send a status, headers and a body in JSON, or only the first part of the body."""
        data = json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        data = data[: int(part * len(data))]
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode() + data)

    def refuse(self, status: int, message: str, **headers: str) -> None:
        error = {"message": message, "type": _REASONS[status], "param": None, "code": None}
        self.send(status, {"error": error}, **headers)

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            return self.refuse(404, f"nothing is at {self.path}")
        model = {"id": "stub", "object": "model", "created": 0, "owned_by": "nerc"}
        self.send(200, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        server = self.server_of
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/v1/chat/completions":
            return self.refuse(404, f"nothing is at {self.path}")
        key = sha256(body).hexdigest()
        try:
            request = json.loads(body)
            if request.get("stream") or request.get("n", 1) != 1:
                return self.refuse(400, "the stub gives one reply, and not in a stream")
            reply, about = server.completion(request, key)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            server.record({"body": key, "status": 400, "error": repr(error)})
            return self.refuse(400, f"the stub cannot answer: {error!r}")
        with server.lock:
            is_first = key not in server.seen
            server.seen.add(key)
        where = (about[name] for name in ("sentence", "kind", "try", "seed"))
        number = share(server.model.seed, *where, "transport")
        fault = pick(server.transport, number) if is_first else None
        about = {"body": key, "transport": fault, "status": status_of(fault)} | about
        server.record(about if fault in (None, "slow") else about | {"fault": None})
        server.stopped.wait(server.slow if fault == "slow" else server.latency)
        self.deliver(reply, fault, number)

    def deliver(self, reply: dict, fault: str | None, number: float) -> None:
        """Send the reply, or what goes wrong instead."""
        if fault in (None, "slow"):
            return self.send(200, reply)
        if fault.startswith("429"):
            seconds = "1" if int(number * 1e6) % 10 == 0 else "0.05"
            waits = {"429": seconds, "429_date": formatdate(time.time() + 1, usegmt=True)}
            after = {"Retry_After": waits[fault]} if fault in waits else {}
            return self.refuse(429, "too many requests, on purpose", **after)
        if not fault.startswith("dropped"):
            return self.refuse(int(fault), "on purpose")
        if fault == "dropped_midway":
            self.send(200, reply, part=0.5)
        self.close_connection = True


def status_of(fault: str | None) -> int | None:
    """The status that goes over the line; None if none does."""
    if fault in (None, "slow", "dropped_midway"):
        return 200
    return None if fault == "dropped" else int(fault[:3])


def rate(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    return name, float(number)


def main(argv: Sequence[str] | None = None) -> None:
    names = [f"  {name}: {text}" for name, text in TRANSPORT.items()]
    names += [f"  {name}: {fault.formats}" for name, fault in FAULTS.items()]
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="\n".join(["names of faults:", *names]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--gold", nargs="+", required=True, metavar="FILE", help="CoNLL files with the labels")
    add("--port", type=int, default=0, help="0: any that is free")
    add("--latency", type=float, default=0.0, metavar="SECONDS", help="before each reply")
    add("--slow", type=float, default=30.0, metavar="SECONDS", help="before a slow reply")
    add("--seed", type=int, default=0, help="draws the faults and errors")
    add("--faults", nargs="+", type=rate, default=[], metavar="NAME=RATE")
    add("--again", type=float, default=0.0, help="share of second tries with the fault again")
    add(
        "--errors",
        type=float,
        default=0.0,
        help=f"share of entities labelled wrongly; {GOOD_MODEL_ERRORS} for labels of F1 0.85",
    )
    add("--varies", type=float, default=0.0, help="share of entities that differ between samples")
    add("--log", metavar="FILE", help="a line of JSON a request is appended")
    flags = vars(parser.parse_args(argv))
    flags["faults"] = dict(flags["faults"])
    try:
        server = Server(gold(flags.pop("gold")), **flags)
    except ValueError as error:
        parser.error(str(error))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()

"""Ends a process of a run when another host falls silent: a cut link tells nobody."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from nerc.errors import InputError

BEAT = 1.0  # seconds
LIMIT = 30  # beats without a word, after which a process is lost


@contextmanager
def heartbeat(accelerator: Accelerator, end: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile, a thread calls end with a sentence once processes have been silent for LIMIT.

    A thread of every process and one of the main process send each other a byte in every beat,
    whatever their processes compute or wait for. A process that ends closes its connection, and is
    not lost: torch tells those who wait for it. InputError if the processes cannot connect.
    """
    if accelerator.num_processes == 1:
        yield
        return
    hosts = gather_object([socket.gethostname()])
    links = _connect(accelerator.process_index, accelerator.num_processes)
    stopped = Event()
    thread = Thread(target=_watch, args=(links, hosts, stopped, end), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        for link in links.values():
            link.close()


def _connect(rank: int, num_processes: int) -> dict[int, socket.socket]:
    """Connections by the process at the other end: all to the main process, or that process's."""
    links, address, port = {}, os.environ["MASTER_ADDR"], None
    server = None
    try:
        if rank == 0:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            how = {"family": family, "dualstack_ipv6": both, "backlog": num_processes}
            server = socket.create_server(("", 0), **how)
            server.settimeout(LIMIT * BEAT)
            port = server.getsockname()[1]
        (port,) = broadcast_object_list([port])
        if server is None:
            links[0] = socket.create_connection((address, port), timeout=LIMIT * BEAT)
            links[0].sendall(rank.to_bytes(4))
        while server and len(links) < num_processes - 1:
            link = server.accept()[0]
            link.settimeout(LIMIT * BEAT)
            links[int.from_bytes(link.recv(4, socket.MSG_WAITALL))] = link
    except OSError as error:
        raise InputError(
            f"the processes of this run cannot connect to {address}, port {port}: {error}; let "
            f"their hosts reach each other at every port, as torch needs, too"
        ) from error
    finally:
        if server:
            server.close()
    for link in links.values():
        link.setblocking(False)
    return links


def _watch(
    links: dict[int, socket.socket], hosts: Sequence[str], stopped: Event, end: Callable
) -> None:
    """Exchange beats until a process is lost; the main process tells the others which.

    Silence is counted in beats of this thread's own, so that a suspended run may go on.
    """
    silent, unread = dict.fromkeys(links, 0), dict.fromkeys(links, b"")
    lost = b""  # their numbers
    while not lost and not stopped.wait(BEAT):
        for rank, link in [*links.items()]:
            silent[rank] += 1
            try:
                link.send(b"\n")
                received = link.recv(4096)
            except BlockingIOError:
                continue
            except ConnectionError:
                received = b""
            except OSError:  # such as no route to the host
                silent[rank] = LIMIT
                continue
            if received:
                silent[rank] = 0
                *lines, unread[rank] = (unread[rank] + received).split(b"\n")
                lost = b"".join(lines)
            else:  # its end; torch's connections tell that
                links.pop(rank).close()
        lost = lost or b" ".join(b"%d" % rank for rank in links if silent[rank] >= LIMIT)
    if lost:
        if 0 not in links:
            for rank in links.keys() - set(map(int, lost.split())):
                with suppress(OSError):
                    links[rank].send(lost + b"\n")
            time.sleep(2 * BEAT)  # until all have read it: a launcher ends them with this one
        end(_sentence([int(rank) for rank in lost.split()], hosts))


def _sentence(lost: list[int], hosts: Sequence[str]) -> str:
    """What is lost, for people; lost: numbers of processes."""
    by_host = {hosts[rank]: [r for r in lost if hosts[r] == hosts[rank]] for rank in lost}
    names = ", ".join(
        f"{host} (process {', '.join(map(str, ranks))})" for host, ranks in by_host.items()
    )
    return (
        f"nothing was heard of host {names} for {LIMIT * BEAT:.0f} s; see whether it runs and "
        f"whether it can be reached; to go on, on these hosts or others, run the same command "
        f"again, with --resume where it trains"
    )

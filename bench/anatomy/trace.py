"""What `strace -f -T` wrote, as plain data: a call each, put together where another thread's line came between.

    27890 1795490670.009953896 accept4(3<TCP:[127.0.0.1:43303]>,  <unfinished ...>
    27891 1795490670.009973565 read(5<...>, "xxxxxxxxxxxx"..., 65536) = 64 <0.000019549>
    27890 1795490670.011123258 <... accept4 resumed>0x7fff56b278d0, [16], SOCK_CLOEXEC) = 7<...> <0.001169362>

Nothing is run here, and no file is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

LEADER = re.compile(r"(?:\[pid +)?(\d+)(?:<[^>]*>)?\]? +(\d+)\.(\d+) +(.*)")
RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
UNFINISHED = re.compile(r" ?<unfinished \.\.\.>$")
CALL = re.compile(r"(\w+)\((.*)\) += (.*?)(?: <(\d+\.\d+)>)?")
ERROR = re.compile(r"(?:-1|\?) (E[A-Z0-9_]+)\b")
DESCRIPTOR = re.compile(r"\b(AT_FDCWD|\d+)<([\w-]+:\[.*?\]|[^<>]*)>")
CLONES = ("clone", "clone3", "fork", "vfork")


@dataclass(frozen=True)
class Call:
    """One system call of a thread. `end_ns` is None where it had not returned when the trace ended.

    `split`: another thread's line came between its beginning and its end.
    """

    tid: int
    start_ns: int  # CLOCK_REALTIME
    end_ns: int | None
    name: str
    arguments: str
    result: str = ""
    split: bool = False

    @property
    def error(self) -> str:
        """The name of the errno, if it failed."""
        found = ERROR.match(self.result)
        return found[1] if found else ""


@dataclass(frozen=True)
class _Begun:
    start_ns: int
    text: str


def read(lines: Iterable[str]) -> list[Call]:
    """Read a trace; the calls are in the order of their beginnings. Signals, exits and whatever else is left out."""
    calls: list[Call] = []
    begun: dict[int, _Begun] = {}
    for line in lines:
        found = LEADER.fullmatch(line.rstrip("\n"))
        if not found:
            continue
        tid, text = int(found[1]), found[4]
        at_ns = int(found[2]) * 1_000_000_000 + int(found[3].ljust(9, "0")[:9])
        if text.startswith(("---", "+++")):
            continue
        resumed = RESUMED.fullmatch(text)
        if resumed:
            start = begun.pop(tid, None)
            if start:  # if not, it began before strace was there
                calls += _call(tid, start.start_ns, at_ns, start.text + resumed[2], split=True)
        elif UNFINISHED.search(text):
            begun[tid] = _Begun(at_ns, UNFINISHED.sub("", text))
        else:
            calls += _call(tid, at_ns, at_ns, text, split=False)
    for tid, start in begun.items():
        name, _, arguments = start.text.partition("(")
        calls.append(Call(tid, start.start_ns, None, name, plain(arguments).rstrip(", "), split=True))
    return sorted(calls, key=lambda call: call.start_ns)


def _call(tid: int, start_ns: int, seen_ns: int, text: str, split: bool) -> list[Call]:
    """The call that the text is, in a list that is empty where it is none; `seen_ns` is its end where none is told."""
    found = CALL.fullmatch(text)
    if not found:
        return []
    name, arguments, result, took = found.groups()
    arguments = UNFINISHED.sub("", arguments).rstrip(", ")  # it was killed in the call
    end_ns = start_ns + round(float(took) * 1e9) if took else seen_ns
    return [Call(tid, start_ns, end_ns, name, plain(arguments), plain(result), split)]


def plain(text: str) -> str:
    """Give each descriptor's kind in place of its addresses and inodes: `5<TCP:[127.0.0.1:1->...]>` is `5<TCP>`."""
    return DESCRIPTOR.sub(lambda found: f"{found[1]}<{_kind(found[2])}>", text)


def _kind(decoration: str) -> str:
    protocol, _, inside = decoration.partition(":[")
    if not inside:
        return decoration.rpartition("/")[2] or decoration
    if protocol == "anon_inode":
        return inside.rstrip("]")
    if protocol.startswith(("TCP", "UNIX")):
        family = "TCP" if protocol.startswith("TCP") else "UNIX"
        return family if "->" in inside else f"{family} listener"
    return protocol


def labels(calls: Iterable[Call], shown: Iterable[int]) -> dict[int, str]:
    """Name the threads `shown`: processes and their threads are told apart by how they were cloned.

    The first line of a trace is the first process's. Numbers count what is shown, in the order in which it began.
    """
    process: dict[int, int] = {}
    for call in calls:
        process.setdefault(call.tid, call.tid)
    first = next(iter(process), 0)
    for call in calls:
        child = re.match(r"\d+", call.result)
        if call.name in CLONES and child:
            thread = "CLONE_THREAD" in call.arguments
            process[int(child[0])] = process[call.tid] if thread else int(child[0])
    wanted = set(shown)
    alone = all(process.get(tid, tid) == first for tid in wanted)
    found: dict[int, str] = {}
    children = threads = 0
    names = {first: "main thread" if alone else "parent"}
    for tid, pid in process.items():
        if tid not in wanted:
            continue
        if pid not in names:
            children += 1
            names[pid] = f"child {children}"
        if tid == pid:
            found[tid] = names[pid]
        else:
            threads += 1
            found[tid] = f"thread {threads}" if pid == first else f"{names[pid]}, thread {threads}"
    return found

"""The anatomy of an echo as plain data: its steps, what each means, the file of results. Nothing is run here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from bench.record import Amount, Count

SCHEMA = 1
FEW = 7  # calls that a sentence lists
# Under strace a call takes several times as long as without: it stops twice, and strace looks at it each time.
UNDER_STRACE = (
    "Every call is stopped twice for strace, so all times are far longer than without it: what counts is the number "
    "and the order of the calls."
)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One system call of the server, or a run of fruitless ones. Times are microseconds since the client's send."""

    who: str  # the thread or process
    name: str
    arguments: str  # strings cut short, descriptors with their kind
    result: str
    at_us: Amount
    took_us: Amount | None  # None: it had not returned when the server slept again
    error: str = ""  # the name of the errno
    slept: bool = False  # it waited for something to happen, off the CPU
    times: Count = 1  # of how many calls in a row that brought nothing this is the sum

    @property
    def end_us(self) -> float | None:
        """When it returned."""
        return None if self.took_us is None else self.at_us + self.took_us


class Anatomy(msgspec.Struct, frozen=True, kw_only=True):
    """One echo of one strategy. Times are microseconds since the client began to send."""

    strategy: str
    transport: str
    message_bytes: Count
    status: Literal["ok", "unavailable", "failed"] = "ok"
    reason: str = ""  # where it isn't "ok"
    send_took_us: Amount = 0.0  # the client's write
    received_us: Amount = 0.0  # when the client had the whole echo
    woke_us: Amount | None = None  # the end of the call that the server slept in; None where it did not sleep
    end_us: Amount = 0.0  # when the server was seen to sleep again
    steps: list[Step] = []
    asleep: dict[str, str] = {}  # who slept all the while, and in which call
    left_out: Count = 0  # steps beyond the most that are kept


class Anatomies(msgspec.Struct, kw_only=True):
    """anatomy.json: results/README.md describes it."""

    created: str  # UTC, ISO 8601
    took_s: float
    tracer: str  # as strace names itself
    anatomies: list[Anatomy]
    host: dict[str, Any]
    versions: dict[str, str]
    command: list[str]
    schema: int = SCHEMA


def read_anatomies(values: Mapping[str, Any] | None) -> list[Anatomy]:
    """Give the anatomies of an anatomy.json that was read as plain values; none where it has another form."""
    try:
        return msgspec.convert((values or {}).get("anatomies", []), list[Anatomy])
    except msgspec.ValidationError:
        return []


def lanes(anatomy: Anatomy) -> list[str]:
    """The threads and processes that did something, in the order in which they did."""
    return list(dict.fromkeys(step.who for step in anatomy.steps))


def order(anatomy: Anatomy, who: str) -> str:
    """What one thread did, in a line: "read returns → write → read sleeps"."""
    return " → ".join(_in_order(step) for step in anatomy.steps if step.who == who)


def _in_order(step: Step) -> str:
    if step.times > 1:
        return f"{step.name} = EAGAIN, {step.times:,} times"
    if step.took_us is None:
        return f"{step.name} sleeps"
    if step.error:
        return f"{step.name} = {step.error}"
    return f"{step.name} returns" if step.slept else step.name


def calls(anatomy: Anatomy) -> int:
    """How many system calls the echo takes, from the one that the server wakes up in to its next sleep."""
    return len(_returned(anatomy))


def summed_up(anatomy: Anatomy) -> str:
    """One sentence, without its stop: how many calls the echo takes, and which if they are few."""
    returned = _returned(anatomy)
    if anatomy.woke_us is None:
        asked = sum(step.times for step in anatomy.steps if step.times > 1)
        return f"it never sleeps; {_joined(returned)}, and {asked:,} calls that brought nothing"
    count, where = len(returned), len(lanes(anatomy))
    by = f" of {where} threads or processes" if where > 1 else ""
    return f"{count} system call{'s' * (count != 1)}{by}{f': {_joined(returned)}' if count <= FEW else ''}"


def _returned(anatomy: Anatomy) -> list[Step]:
    return [step for step in anatomy.steps if step.took_us is not None and step.times == 1]


def _joined(steps: Sequence[Step]) -> str:
    return ", ".join(f"{step.name} = {step.error}" if step.error else step.name for step in steps)


def span(anatomy: Anatomy) -> tuple[float, float]:
    """From when to when a timeline is drawn: from shortly before the send until all has happened, polls left out."""
    ends = [anatomy.received_us, anatomy.send_took_us]
    for step in anatomy.steps:
        ends.append(step.at_us if step.end_us is None or step.times > 1 else step.end_us)
    right = max(ends) * 1.06
    return -0.06 * right, right


def user_us(steps: Sequence[Step]) -> list[float | None]:
    """For each step, the time that its thread spent outside the kernel since its last call; None where unknown."""
    ended: dict[str, float | None] = {}
    found: list[float | None] = []
    for step in steps:
        before = ended.get(step.who)
        found.append(None if before is None else max(0.0, step.at_us - before))
        ended[step.who] = step.end_us
    return found


# --- what a call means

READS = ("read", "recvfrom", "recvmsg", "recv", "readv", "pread64", "preadv")
WRITES = ("write", "sendto", "sendmsg", "send", "writev", "pwrite64", "pwritev")
EPOLLS = ("epoll_wait", "epoll_pwait", "epoll_pwait2")
SCANS = ("poll", "ppoll", "select", "pselect6")
# That can put a thread to sleep until something happens.
WAITS = (
    *(*READS, *WRITES, *EPOLLS, *SCANS),
    *("accept", "accept4", "futex", "io_uring_enter", "rt_sigtimedwait", "rt_sigsuspend", "pause", "restart_syscall"),
    *("clock_nanosleep", "nanosleep", "wait4", "waitid"),
)
SLEEPS = {
    "accept": "until a client connects",
    "accept4": "until a client connects",
    "futex": "until another thread wakes it",
    "io_uring_enter": "until an operation has completed",
    "rt_sigtimedwait": "until a signal comes",
    "rt_sigsuspend": "until a signal comes",
    "pause": "until a signal comes",
    "wait4": "until a child ends",
    "waitid": "until a child ends",
    "nanosleep": "for a time",
    "clock_nanosleep": "for a time",
    **dict.fromkeys(READS, "until bytes arrive"),
    **dict.fromkeys(WRITES, "until there is room"),
    **dict.fromkeys((*EPOLLS, *SCANS), "until something is ready"),
}
MEANINGS = {
    "accept": "takes a new connection",
    "accept4": "takes a new connection",
    "io_uring_enter": "submits what is queued, collects what is done",
    "rt_sigtimedwait": "takes a queued signal",
    "rt_sigqueueinfo": "tells by a signal that an operation is done",
    "rt_tgsigqueueinfo": "tells by a signal that an operation is done",
    "rt_sigprocmask": "changes which signals may come",
    "tgkill": "sends a signal to a thread",
    "fork": "starts a process",
    "vfork": "starts a process",
    "mmap": "asks for memory",
    "mremap": "makes a piece of memory larger or smaller",
    "munmap": "gives memory back",
    "brk": "moves the end of the heap",
    "madvise": "gives advice on memory",
    "mprotect": "makes memory usable, or not",
    "getpid": "asks which process it is",
    "gettid": "asks which thread it is",
    "getuid": "asks which user it is",
    "getsockopt": "asks about the socket",
    "setsockopt": "sets an option of the socket",
    "sched_yield": "lets others run first",
    "fcntl": "asks or sets a descriptor's flags",
    "ioctl": "sets a descriptor's mode",
    "exit": "the thread ends",
    **dict.fromkeys(READS, "takes the bytes"),
    **dict.fromkeys(WRITES, "gives the echo to the kernel"),
    **dict.fromkeys(EPOLLS, "is told what is ready"),
    **dict.fromkeys(SCANS, "passes all descriptors, hears which are ready"),
    **dict.fromkeys(("set_robust_list", "rseq", "sigaltstack", "prctl", "sched_getaffinity"), "a new thread's set-up"),
}


def meaning(step: Step) -> str:
    """What a step means, in a few words; nothing for a call that is not known here."""
    if step.took_us is None:
        return f"{_submitted(step, 'submits')}sleeps {_until(step)}"
    if step.times > 1:
        return "asks again and again: nothing there, no sleep"
    if step.error:
        return _failure(step)
    text = _success(step)
    if not step.slept or step.name == "futex":
        return text
    asleep = f"{_submitted(step, 'submitted')}slept {_until(step)}"
    return f"{asleep}, {text}" if step.name in READS else asleep


def _until(step: Step) -> str:
    if step.name in READS and "<signalfd>" in step.arguments:
        return "until a signal comes"
    return SLEEPS.get(step.name, "until something happens")


def _submitted(step: Step, verb: str) -> str:
    """What an io_uring_enter does besides (its second argument is how many operations are new)."""
    if step.name != "io_uring_enter":
        return ""
    count = step.arguments.split(", ")[1:2]
    return f"{verb} {count[0]}, " if count and count[0] != "0" else ""


def _failure(step: Step) -> str:
    if step.error == "EAGAIN" and step.name in READS:
        return "EAGAIN: nothing more there"
    if step.error == "EAGAIN" and step.name in WRITES:
        return "EAGAIN: no room"
    if step.error == "EAGAIN" and step.name.startswith("accept"):
        return "EAGAIN: nobody waits to be accepted"
    if step.error == "EAGAIN" and step.name == "futex":
        return "EAGAIN: no need to wait any more"
    if step.error == "ESPIPE":
        return "ESPIPE: no place to seek to; tries it without one"
    return f"fails: {step.error}"


def _success(step: Step) -> str:
    """By name, and where that does not tell, by arguments and result."""
    nothing = step.result.startswith("0")
    if step.name == "futex":
        return _futex(step, nothing)
    if step.name in ("clone", "clone3"):
        return "starts a thread" if "CLONE_THREAD" in step.arguments else "starts a process"
    if step.name == "epoll_ctl":
        return _interest(step.arguments)
    if step.name in (*EPOLLS, *SCANS) and nothing:
        return "looks: nothing is ready, and it does not wait"
    if step.name in (*READS, *WRITES):
        return _transfer(step, nothing)
    return MEANINGS.get(step.name, "")


def _futex(step: Step, nothing: bool) -> str:
    if "FUTEX_WAKE" in step.arguments:
        return "had nobody to wake" if nothing else "wakes another thread"
    return "slept until another thread woke it" if step.slept else "waits for another thread"


def _interest(arguments: str) -> str:
    if "EPOLLONESHOT" in arguments and "EPOLL_CTL_MOD" in arguments:
        return "arms the descriptor again"
    for operation, text in (("ADD", "adds it to"), ("DEL", "takes it off"), ("MOD", "changes")):
        if f"EPOLL_CTL_{operation}" in arguments:
            return f"{text} the interest list"
    return "changes the interest list"


def _transfer(step: Step, nothing: bool) -> str:
    if step.name in READS:
        if nothing:
            return "end of file: the client has closed"
        if "<signalfd>" in step.arguments:
            return "takes the queued signals"
        return "clears what woke it" if "<eventfd>" in step.arguments else MEANINGS[step.name]
    return "wakes another thread" if "<eventfd>" in step.arguments else MEANINGS[step.name]

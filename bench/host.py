"""Facts of the machine a run was made on, and which CPUs server and load get.

Each fact is read by itself; what this machine doesn't tell is "unknown". No name, address or user of the machine is
taken down: runs are meant to be shown to others. Nothing is changed on the machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import resource
import select
import subprocess
import sys
import tomllib
from collections.abc import Collection, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench.git import RefusedError, changed, commit_of, is_checkout
from bench.probes import quota
from bench.processes import HOME

UNKNOWN = "unknown"
SYS_CPU = Path("/sys/devices/system/cpu")
SYS_NODE = Path("/sys/devices/system/node")
PROC_SYS = Path("/proc/sys")
SYSCTLS = (
    "fs.file-max",
    "fs.pipe-max-size",
    "fs.pipe-user-pages-soft",
    "kernel.io_uring_disabled",
    "kernel.perf_event_paranoid",
    "kernel.threads-max",
    "net.core.busy_poll",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
    "vm.overcommit_memory",
)
LIMITS = ("RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_AS", "RLIMIT_STACK", "RLIMIT_MEMLOCK", "RLIMIT_RTPRIO")
PACKAGES = ("hdrhistogram", "matplotlib", "msgspec", "numba", "numpy", "pandas", "psutil", "scipy")


class CpuLayout(NamedTuple):
    """Which CPUs each part of a run is pinned to, none where that is impossible; `shared`: not physical cores apart."""

    server: list[int]
    load: list[int]
    harness: list[int]
    shared: bool


def choose_cpus(load_threads: int = 1, but: Collection[int] = ()) -> CpuLayout:
    """Choose among the CPUs that this process may run on, for so many load threads at most.

    Cores that have one of `but` are left to others, unless there are no more.
    """
    if not hasattr(os, "sched_getaffinity"):
        return CpuLayout([], [], [], shared=(os.cpu_count() or 1) < 2)
    cores = physical_cores(sorted(os.sched_getaffinity(0)))
    near, far = on_one_node([core for core in cores if {*core}.isdisjoint(but)] or cores)
    return lay_out(near, load_threads, far)


def lay_out(cores: Sequence[Sequence[int]], load_threads: int = 1, far: Sequence[Sequence[int]] = ()) -> CpuLayout:
    """Give the server and each load thread a physical core, as far as they go, and the harness one before that.

    `cores` lists the logical CPUs of each physical core. The first core, where most kernels take their interrupts, is
    the last that a server gets. With one core only, two threads of it are better than one, but still share it. On cores
    that are `far` there is never a server or load: what passes between them would have to cross from one memory to the
    other. The harness, which passes little, is there where the others need all that are near.
    """
    if len(cores) >= 3:
        load = [core[0] for core in cores[2 : 2 + load_threads]]
        return CpuLayout([cores[1][0]], load, [cores[0][0]], shared=False)
    if len(cores) == 2:
        return CpuLayout([cores[1][0]], [cores[0][0]], [(far or cores)[0][0]], shared=False)
    only = cores[0]
    return CpuLayout([only[0]], [only[-1]], [only[-1]], shared=True)


def physical_cores(cpus: Sequence[int]) -> list[list[int]]:
    """Group logical CPUs by the physical core they are threads of, in order."""
    cores: dict[str, list[int]] = {}
    for cpu in cpus:
        siblings = read(SYS_CPU / f"cpu{cpu}/topology/thread_siblings_list")
        cores.setdefault(str(cpu) if siblings == UNKNOWN else siblings, []).append(cpu)
    return list(cores.values())


def on_one_node(cores: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    """The cores of the NUMA node that has most of these, and those of all others; of equal ones the first.

    Where none has two, all of them are near.
    """
    nodes = [cpus_in(text) for text in numa_nodes().values()]
    of_nodes = [[core for core in cores if core[0] in node] for node in nodes]
    near = max(of_nodes, key=len, default=[])
    if len(near) < 2:
        return list(cores), []
    return near, [core for core in cores if core not in near]


def numa_nodes() -> dict[str, str]:
    """The CPUs of each NUMA node that has any, as the kernel lists them; nothing where it tells of none."""
    folders = sorted(SYS_NODE.glob("node[0-9]*"), key=lambda folder: int(folder.name[4:]))
    found = {folder.name: read(folder / "cpulist") for folder in folders}
    return {name: text for name, text in found.items() if text != UNKNOWN}


def cpus_in(text: str) -> set[int]:
    """The CPUs of a list such as "0-3,8" (cpuset(7), "List format"); none where it is no such list."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        with suppress(ValueError):
            found |= {*range(int(first), int(last or first) + 1)}
    return found


def describe(layout: CpuLayout) -> dict[str, Any]:
    """Everything about this machine that figures may depend on."""
    cpus = layout.server + layout.load
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    memory = psutil.virtual_memory()
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "distribution": distribution(),
        "virtualization": virtualization(),
        "cpu_model": cpu_model(),
        "cpus": os.cpu_count() or UNKNOWN,
        "cpus_allowed": allowed,
        "physical_cores": psutil.cpu_count(logical=False) or UNKNOWN,
        "smt": read(SYS_CPU / "smt/control"),
        "smt_siblings": [",".join(map(str, core)) for core in physical_cores(allowed) if len(core) > 1],
        "numa_nodes": numa_nodes(),
        "cpu_quota": quota.cpus() or "none",
        "governor": per_cpu(cpus, "cpufreq/scaling_governor"),
        "frequency_max_khz": per_cpu(cpus, "cpufreq/scaling_max_freq"),
        "turbo_off": read(SYS_CPU / "intel_pstate/no_turbo"),
        "clock_source": read(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "memory_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "pinned": {"server": layout.server, "load": layout.load, "harness": layout.harness},
        "interpreter": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": platform.python_compiler(),
        "libc": " ".join(platform.libc_ver()).strip() or UNKNOWN,
        "git": git(),
        "pipe": pipe(),
        "limits": limits(),
        "sysctls": {name: read(PROC_SYS / name.replace(".", "/")) for name in SYSCTLS},
    }


def versions() -> dict[str, str]:
    """Versions of iobench, of Python and of what the figures pass through."""
    found = {"iobench": own_version(), "python": platform.python_version()}
    return found | {name: version(name) for name in PACKAGES}


def version(package: str) -> str:
    """The installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def own_version(home: Path = HOME) -> str:
    """The version of iobench, also in a checkout that is not installed."""
    return str(of_checkout(home).get("version") or version("iobench"))


def of_checkout(home: Path = HOME) -> dict[str, Any]:
    """The table `project` of the checkout that iobench runs from; empty where it is installed.

    Then its metadata lies beside its packages, and whatever else does belongs to somebody else.
    """
    if any(home.glob("iobench-*.dist-info")):
        return {}
    try:
        project = tomllib.loads((home / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return {}
    return project if isinstance(project, dict) and project.get("name") == "iobench" else {}


def read(path: Path) -> str:
    """A small file of the kernel's, in one line."""
    try:
        return " ".join(path.read_text().split()) or UNKNOWN
    except (OSError, UnicodeDecodeError):
        return UNKNOWN


def per_cpu(cpus: Sequence[int], name: str) -> str:
    """One setting of several CPUs: one value if they agree, otherwise each."""
    values = sorted({read(SYS_CPU / f"cpu{cpu}" / name) for cpu in cpus})
    return ", ".join(values) or UNKNOWN


def cpu_model() -> str:
    """The name that the processor gives itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or UNKNOWN
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    return named.get("model name") or named.get("Model") or named.get("CPU part") or UNKNOWN


def distribution() -> str:
    """The system's own name, such as "Debian GNU/Linux 13 (trixie)"."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", UNKNOWN)
    except OSError:
        return platform.platform()


def virtualization() -> str:
    """What kind of virtual machine or container this is, as far as an ordinary user can tell."""
    try:
        asked = subprocess.run(["systemd-detect-virt"], capture_output=True, text=True, timeout=5, check=False)
        if asked.stdout.strip():
            return asked.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        pass
    vendor = read(Path("/sys/class/dmi/id/sys_vendor"))
    try:
        guest = " hypervisor" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return vendor
    if not guest:
        return "none" if vendor == UNKNOWN else f"none ({vendor})"
    return f"virtual machine ({vendor})"


def pipe() -> dict[str, int | str]:
    """What a pipe holds, and how much is written to it at one go or not at all (pipe(7)).

    A user with more than fs.pipe-user-pages-soft pages in pipes gets smaller ones: 1,024 pipes of the usual 64 KiB, or
    512 connections, are that many. Root is exempt.
    """
    reading, writing = os.pipe()
    try:
        capacity = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ) if hasattr(fcntl, "F_GETPIPE_SZ") else UNKNOWN
    finally:
        os.close(reading)
        os.close(writing)
    return {"capacity_bytes": capacity, "atomic_bytes": select.PIPE_BUF}


def limits() -> dict[str, list[int | str]]:
    """Soft and hard resource limits (getrlimit(2))."""
    found: dict[str, list[int | str]] = {}
    for name in LIMITS:
        if hasattr(resource, name):
            both = resource.getrlimit(getattr(resource, name))
            found[name] = ["unlimited" if value == resource.RLIM_INFINITY else value for value in both]
    return found


def git() -> dict[str, Any]:
    """The commit of the code that ran: from the checkout, or from what pip noted down at an installation from git.

    `reason`: why git tells none of a checkout that there is.
    """
    try:
        # Not that of some other repository round the place of installation.
        if of_checkout(HOME) and is_checkout(HOME) and (commit := commit_of(HOME)):
            return {"commit": commit, "dirty": changed(HOME, "--untracked-files=no")}
    except RefusedError as error:
        return {"commit": UNKNOWN, "dirty": UNKNOWN, "reason": error.reason}
    try:
        noted = json.loads(metadata.distribution("iobench").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        noted = {}
    return {"commit": noted.get("vcs_info", {}).get("commit_id", UNKNOWN), "dirty": UNKNOWN}


def command() -> list[str]:
    """The command line as its user would type it, without the path of the program."""
    return ["iobench", *sys.argv[1:]]

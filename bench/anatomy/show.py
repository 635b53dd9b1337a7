"""An anatomy on the terminal, within 80 columns: a numbered list of the steps with their bars. Nothing is run here."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.anatomy.steps import UNDER_STRACE, Anatomy, Step, lanes, meaning, span, summed_up, user_us
from bench.say import WIDTH, say

BAR = 14
STEP = 40  # columns left for the call itself
LEGEND = (
    "Microseconds: at, since the client began to send; user, that the thread spent outside the kernel since its last "
    "call; call, in the call. Bars: ▓ in a system call, ░ asleep in one; between them the thread ran."
)
Aside = tuple[float, float | None, str]  # when, how long, what
WHO_COLOURS = ("cyan", "magenta", "green", "blue", "red")


def anatomy(found: Anatomy) -> None:
    """Print one echo."""
    console = Console(highlight=False)
    width = min(WIDTH, console.width)
    what = f"one echo of {found.message_bytes} bytes, {found.transport}"
    if found.status != "ok":
        console.print(
            f"[bold]{escape(found.strategy)}[/]: [yellow]{found.status}[/]: {escape(found.reason)}", width=width
        )
        return
    console.print(f"[bold]{escape(found.strategy)}[/], {what}: {escape(summed_up(found))}", width=width)
    for who, call in found.asleep.items():
        console.print(f"  [dim]{who} sleeps in {call} all the while[/]", width=width)
    console.print(_steps(found, width))
    if found.left_out:
        console.print(f"[dim]{found.left_out} more steps are not shown[/]")


def legend(tracer: str) -> None:
    """Say once what the columns are, and how far the times can be trusted."""
    say(LEGEND)
    say(f"Under {tracer}: {UNDER_STRACE[0].lower()}{UNDER_STRACE[1:]}")


def _steps(found: Anatomy, width: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, width=width)
    for column, size in (("", 2), ("at", 7), ("user", 5), ("call", 7)):
        table.add_column(column, justify="right", width=size, no_wrap=True)
    table.add_column("", width=BAR, no_wrap=True)
    table.add_column("", ratio=1, overflow="fold")
    left, right = span(found)
    colours = {who: WHO_COLOURS[i % len(WHO_COLOURS)] for i, who in enumerate(lanes(found))}
    several = len(colours) > 1 or bool(found.asleep)

    asides: list[Aside] = [
        (0.0, found.send_took_us, "client: sends the message"),
        (found.received_us, None, "client: has the whole echo"),
    ]
    if found.woke_us is not None:
        asides.append((found.woke_us, None, "server: wakes up"))
    asides.sort()
    for number, (step, user) in enumerate(zip(found.steps, user_us(found.steps), strict=True), 1):
        while asides and _shown_at(step, found) >= asides[0][0]:
            table.add_row(*_aside(asides.pop(0), left, right))
        colour = colours[step.who]
        bar = _bar(step.at_us, step.end_us, left, right, "░" if step.slept else "▓")
        gloss = escape(f"{step.who}: {meaning(step)}" if several else meaning(step)).rstrip(": ")
        table.add_row(
            str(number),
            "before" if step.at_us < 0 else _number(step.at_us),
            "" if user is None or step.at_us < 0 else _number(user),
            "" if step.took_us is None or step.at_us < 0 else _number(step.took_us),
            f"[{colour}]{bar}[/]",
            f"[bold]{escape(step.name)}[/]{escape(_call(step))}\n[dim]{gloss}[/]".removesuffix("\n[dim][/]"),
        )
    for left_over in asides:
        table.add_row(*_aside(left_over, left, right))
    return table


def _shown_at(step: Step, found: Anatomy) -> float:
    """What orders a step among the client's: a call that began before the message is told first."""
    return -1.0 if step.at_us < 0 else step.at_us


def _aside(one: Aside, left: float, right: float) -> tuple[str, ...]:
    at, took, text = one
    bar = _bar(at, at + (took or 0), left, right, "▓" if took else "◆")
    return "", _number(at), "", "" if took is None else _number(took), f"[yellow]{bar}[/]", f"[yellow]{text}[/]"


def _call(step: Step) -> str:
    """Arguments and result; rich cuts what is too long, so the result of a long call comes first."""
    if step.times > 1:
        return f" = EAGAIN, {step.times:,} times"
    result = _result(step)
    room = STEP - 2 - len(step.name) - len(result)
    arguments = step.arguments if len(step.arguments) <= room else step.arguments[: max(0, room - 1)] + "…"
    return f"({arguments}){result}"


def _result(step: Step) -> str:
    if step.took_us is None:
        return ""
    return f" = {step.error}" if step.error else f" = {step.result.split(' ')[0]}"


def _bar(start: float, end: float | None, left: float, right: float, mark: str) -> str:
    scale = BAR / (right - left)
    first = min(BAR - 1, max(0, int((start - left) * scale)))
    last = BAR if end is None else min(BAR, max(first + 1, round((end - left) * scale)))
    return " " * first + mark * (last - first)


def _number(value: float) -> str:
    return f"{value:,.0f}"

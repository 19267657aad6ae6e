"""The command: searches all parts, or shows what comes of leaving out a rule."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from dynalayer.testing.model.parts import PARTS
from dynalayer.testing.model.rules import RULES
from dynalayer.testing.model.search import Found, Scene, search
from dynalayer.testing.model.traces import tell

__all__ = ["main"]

FAULT, CUT_SHORT = 1, 3  # 2 is a usage error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: As on the command line; None: those of this process.

    Returns:
        The exit code: 0 where nothing is wrong, or where a rule was left out and something is; 1 where it is the other
        way round; 3 where a bound cut a search short and nothing was found.
    """
    options = _parser().parse_args(arguments)
    if options.list:
        _list()
        return 0
    if options.without:
        return _without(options)
    return _search_all(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dynalayer.testing.model",
        description="Search every interleaving of the protocol's steps for a read or a snapshot that is wrong.",
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="search this part only; may be repeated")
    parser.add_argument(
        "--without",
        action="append",
        choices=RULES,
        metavar="RULE",
        help="switch a rule off and show the shortest trace that then goes wrong; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="list parts and rules, and do nothing else")
    parser.add_argument("--small", action="store_true", help="search the small size of each part, which takes seconds")
    parser.add_argument("--seconds", type=_positive, help="stop after so many seconds")
    parser.add_argument("--states", type=_positive, help="stop each part after so many states")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _list() -> None:
    _say("parts:")
    for part in PARTS.values():
        _say(f"  {part.name:18} {part.what}")
    _say("rules, each with the part in which its absence shows and the steps of the shortest trace:")
    for rule in RULES.values():
        _say(f"  {rule.name:18} {rule.what} ({rule.part}, {rule.steps})")


def _search_all(options: argparse.Namespace) -> int:
    out_of_time, begun = _deadline(options), time.perf_counter()
    states, code = 0, 0
    for name in options.part or PARTS:
        scene = PARTS[name].scene(full=not options.small)
        found = search(scene, states=options.states, deadline=out_of_time)
        states += found.states
        _report(name, scene, found)
        if found.problem is not None:
            code = FAULT
        elif not found.complete:
            code = code or CUT_SHORT
    _say(f"{'all':18} {states:10,} states  {time.perf_counter() - begun:6.1f} s  {_VERDICTS[code]}")
    return code


_VERDICTS = {0: "nothing is wrong", FAULT: "WRONG", CUT_SHORT: "nothing is wrong as far as it was searched"}


def _without(options: argparse.Namespace) -> int:
    """Search what is asked for, or where the rules' absence shows, in the small size first."""
    off, out_of_time = frozenset(options.without), _deadline(options)
    parts = options.part or list(dict.fromkeys(RULES[name].part for name in options.without))
    complete = True
    for name in parts:
        for full in (False,) if options.small else (False, True):
            scene = PARTS[name].scene(off, full=full)
            found = search(scene, states=options.states, deadline=out_of_time)
            complete = complete and found.complete
            if found.problem is not None:
                _report(name, scene, found)
                return 0
        _report(name, scene, found)
    return FAULT if complete else CUT_SHORT


def _report(name: str, scene: Scene, found: Found) -> None:
    verdict = "nothing is wrong" if found.complete else "nothing is wrong so far: cut short"
    if found.problem is not None:
        verdict = f"WRONG after {len(found.problem.path) - 1} steps"
    _say(f"{name:18} {found.states:10,} states  {found.seconds:6.1f} s  {verdict}")
    if found.problem is not None:
        for line in tell(scene, found.problem):
            _say(line)


def _deadline(options: argparse.Namespace) -> Callable[[], bool]:
    end = None if options.seconds is None else time.perf_counter() + options.seconds
    return lambda: end is not None and time.perf_counter() >= end


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

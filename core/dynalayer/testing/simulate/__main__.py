"""`python -m dynalayer.testing.simulate`: runs seeds, and shows the first that fails, shortened."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence

from dynalayer.testing.simulate.logs import LOGS
from dynalayer.testing.simulate.run import plan_of, run
from dynalayer.testing.simulate.shorten import shortened
from dynalayer.testing.simulate.stores import STORES

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says; the exit code: 0, or 1 where a run failed."""
    options = _parser().parse_args(arguments)
    logger = logging.getLogger("dynalayer")
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL + 1)  # what fails on purpose is told by the trace
        return _run(options)
    finally:
        logger.setLevel(level)


def _run(options: argparse.Namespace) -> int:
    totals: Counter[str] = Counter()
    started = time.monotonic()
    for seed in range(options.seed, options.seed + options.seeds):
        outcome = run(plan_of(seed, log=options.log, store=options.store))
        totals.update(outcome.counts)
        if options.trace:
            print("\n".join(outcome.trace))  # noqa: T201 -- a command's output
        if outcome.failure is not None:
            print(f"seed {seed} fails: {outcome.failure}")  # noqa: T201
            short = shortened(outcome)
            print("\n".join(short.trace))  # noqa: T201
            print(f"shortened to {len(short.plan.operations)} operations, {len(short.faults)} faults: {short.failure}")  # noqa: T201
            print(f"again: python -m dynalayer.testing.simulate --seed {seed}")  # noqa: T201
            return 1
    told = ", ".join(f"{count:,} {name}" for name, count in totals.items())
    print(f"{options.seeds:,} seeds in {time.monotonic() - started:.0f} s, none fails: {told}")  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dynalayer.testing.simulate",
        description="The real engine in a simulated world: writers, syncers, readers, crashes and faults, from a seed.",
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from that one on (default: 1)")
    parser.add_argument("--log", choices=sorted(LOGS), help="the event log (default: the seed's choice)")
    parser.add_argument("--store", choices=sorted(STORES), help="where segments are kept (default: the seed's choice)")
    parser.add_argument("--trace", action="store_true", help="print what happens, a line a step")
    return parser


if __name__ == "__main__":
    sys.exit(main())

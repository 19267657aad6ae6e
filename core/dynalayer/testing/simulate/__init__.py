"""The real engine, logs and adapters, in a world that follows from a seed: `python -m dynalayer.testing.simulate`."""

from dynalayer.testing.simulate.run import Outcome, Plan, plan_of, run

__all__ = ["Outcome", "Plan", "plan_of", "run"]

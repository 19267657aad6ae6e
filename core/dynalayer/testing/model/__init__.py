"""A model of the protocol, and a search of everything that may happen in it.

`python -m dynalayer.testing.model` takes writers, syncers, readers, as-of readers, compactors, a vacuum and resets of
one partition through every interleaving of their steps, with lost and late answers, with expiry whenever it is allowed,
and looks in each state whether a read would give every acknowledged event, in order, once. `--without RULE` leaves a
rule of the protocol out, and shows the shortest way to what then goes wrong. docs/model.md says what is modelled, and
what is not.
"""

from __future__ import annotations

from dynalayer.testing.model.parts import PARTS, Part
from dynalayer.testing.model.rules import RULES, Rule
from dynalayer.testing.model.search import Found, Problem, Scene, search
from dynalayer.testing.model.traces import Move, moves, tell

__all__ = ["PARTS", "RULES", "Found", "Move", "Part", "Problem", "Rule", "Scene", "moves", "search", "tell"]

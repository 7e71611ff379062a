"""Scripted misbehaviour: one list of rules, each a matcher, a number of times, and an action."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

Proceed = Callable[[], Any]
Action = Callable[[Any, Proceed], Any]
Match = str | Callable[[Any], object] | None


@dataclass(eq=False)
class Rule:
    """``action(subject, proceed)`` in the place of ``proceed()``, for the first ``times`` subjects that match."""

    stage: str
    matches: Callable[[Any], object]
    times: int | None
    action: Action
    fired: int = 0


class Rules:
    """All the rules of a fake. Several that match are nested, the last one given outermost."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(self, rule: Rule) -> Rule:
        """Add a rule; ``rule.fired`` counts how often it acted."""
        with self._lock:
            self._rules = [*self._rules, rule]
        return rule

    def clear(self) -> None:
        """Behave well from now on."""
        self._rules = []

    def apply(self, stage: str, subject: Any, proceed: Proceed) -> Any:
        """Do ``proceed()`` as the rules want it."""
        for rule in self._rules:
            if rule.stage == stage and rule.matches(subject):
                with self._lock:
                    if rule.times == rule.fired:
                        continue
                    rule.fired += 1
                proceed = partial(rule.action, subject, proceed)
        return proceed()


def text_of(graph: dict[str, Any]) -> str:
    """All the strings that a graph's nodes are given, one a line."""
    values = (value for node in graph.values() for value in node.get("inputs", {}).values())
    return "\n".join(value for value in values if isinstance(value, str))

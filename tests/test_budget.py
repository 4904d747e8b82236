"""Of what uploads share, no more is taken than there is."""

from __future__ import annotations

import gc

from starlette_upload_keepalive.files.budget import Budget


def test_a_budget_is_never_overdrawn() -> None:
    """P7: memory has a limit."""
    budget = Budget(10)
    assert budget.take(6)
    assert not budget.take(5)
    assert budget.take(4)
    assert not budget.take(1)
    assert budget.take(0)
    budget.give_back(6)
    assert budget.used == 4
    assert budget.take(6)


def test_what_is_there_anyway_is_counted_and_leaves_less() -> None:
    budget = Budget(10)
    budget.add(20)
    assert (budget.used, budget.left) == (20, -10)
    assert not budget.take(1)
    budget.give_back(15)
    assert budget.take(5)


def test_the_garbage_collector_may_give_back_while_its_thread_takes() -> None:
    class Forgotten:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            budget.give_back(6)

    class Collecting(Budget):
        @property
        def left(self) -> float:
            gc.collect()
            return super().left

    budget = Collecting(10)
    budget.add(6)
    Forgotten()
    assert budget.take(10)
    assert budget.used == 10

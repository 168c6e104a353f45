import pytest

from tokexp.launch.recovery import RetryBudget


@pytest.mark.parametrize(
    ("cause", "restarts"),
    [("code", 0), ("nan", 0), ("disk", 0), ("cancel", 0), ("memory", 1), ("input", 1), ("timeout", 2), ("lost", 3)],
)
def test_a_cause_has_its_number_of_restarts(cause, restarts):
    budget = RetryBudget()
    assert [budget.allows(cause, None) for _ in range(restarts + 1)] == [True] * restarts + [False]


def test_a_job_that_gets_on_may_be_preempted_as_often_as_it_takes():
    budget = RetryBudget()
    assert all(budget.allows("stopped", step) for step in range(50))


def test_a_job_that_dies_at_the_same_step_is_given_up_with_the_reason():
    budget = RetryBudget()
    assert budget.allows("lost", 40)
    assert [budget.allows("lost", 40) for _ in range(3)] == [True, True, False]
    assert "no further than step 40" in budget.exhausted("lost")


def test_progress_does_not_renew_the_budget_for_lack_of_memory():
    budget = RetryBudget()
    assert budget.allows("memory", 10)
    assert not budget.allows("memory", 20)

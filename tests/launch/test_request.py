from dataclasses import replace

from tests.launch.fake_stages import node, plan
from tokexp.launch.request import run_record


def test_the_same_spec_on_other_data_is_another_run():
    first = plan(node("first"), node("second"))
    again = run_record(plan(node("first"), node("second")))
    changed = run_record(replace(first, nodes=(replace(first.nodes[0], key="f" * 40), first.nodes[1])))
    assert run_record(first).ref == again.ref
    assert changed.spec_hash == again.spec_hash
    assert changed.ref != again.ref

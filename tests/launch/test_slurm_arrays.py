from pathlib import Path

from tokexp.launch.base import Task
from tokexp.launch.slurm_arrays import JobArray, Need, dependency, plan_arrays
from tokexp.spec.resources import Resources

ONE, TWO = Resources(cpus=1), Resources(cpus=2)


def task(name: str, *after: Task, kind: str = "pretrain", resources: Resources = ONE) -> Task:
    return Task(Path(name), resources, kind, name, tuple(each.folder for each in after))


def planned(tasks, outside=None, max_array=1000):
    return plan_arrays(tasks, outside or {}, max_array)


def names(array: JobArray) -> list[str]:
    return [each.name for each in array.tasks]


def texts(arrays: list[JobArray]) -> list[str | None]:
    """The dependency of each array, its number and 100 being its id."""
    sizes, ids = [len(array.tasks) for array in arrays], [str(100 + number) for number in range(len(arrays))]
    return [dependency(array, sizes, ids[:number]) for number, array in enumerate(arrays)]


def check(tasks: list[Task], arrays: list[JobArray], outside=()) -> None:
    """Every task is in one array, and waits for all that it comes after: by an edge, or through another parent."""
    place = {each.folder: (n, i) for n, array in enumerate(arrays) for i, each in enumerate(array.tasks)}
    assert sorted(place) == sorted(each.folder for each in tasks)
    waits: dict[Path, set[Path]] = {}
    at = {(n, i): folder for folder, (n, i) in place.items()}
    for number, array in enumerate(arrays):
        for index, each in enumerate(array.tasks):
            direct = {at[need.array, index if need.index is None else need.index] for need in array.needs}
            assert all(need.array < number for need in array.needs)
            waits[each.folder] = direct.union(*(waits[parent] for parent in direct))
            assert {parent for parent in each.after if parent in place} <= waits[each.folder]
            for parent in direct:  # and for nothing that it has no business with
                assert parent in each.after


def test_a_chain_is_one_job_after_the_other():
    a = task("a", kind="tokenizer")
    b = task("b", a, kind="tokens")
    c = task("c", a, b)
    arrays = planned([a, b, c])
    assert texts(arrays) == [None, "afterok:100", "afterok:101"]


def test_many_tasks_after_one_are_an_array_that_waits_for_it():
    root = task("root", kind="tokens")
    many = [task(f"p{n}", root) for n in range(5)]
    arrays = planned([root, *many])
    assert [names(array) for array in arrays] == [["root"], ["p0", "p1", "p2", "p3", "p4"]]
    assert texts(arrays) == [None, "afterok:100"]


def test_arrays_follow_arrays_element_by_element():
    parents = [task(f"p{n}") for n in range(4)]
    children = [task(f"c{n}", parents[n], kind="downstream") for n in (2, 0, 3, 1)]
    arrays = planned([*parents, *children])
    assert names(arrays[1]) == ["c0", "c1", "c2", "c3"]
    assert texts(arrays) == [None, "aftercorr:100"]


def test_a_thousand_trials_of_one_shape_take_one_call_for_each_stage():
    tokenizer = task("tokenizer", kind="tokenizer")
    tokens = task("tokens", tokenizer, kind="tokens")
    tasks = [tokenizer, tokens]
    for n in range(1000):
        pretrain = task(f"p{n}", tokenizer, tokens)
        finetune = task(f"f{n}", tokens, pretrain, kind="downstream")
        tests = [task(f"e{n}{word}", tokenizer, tokens, finetune, kind="evaluate") for word in "ab"]
        tasks += [pretrain, finetune, *tests]
    arrays = planned(tasks)
    check(tasks, arrays)
    assert [len(array.tasks) for array in arrays] == [1, 1, 1000, 1000, 1000, 1000]
    assert texts(arrays) == [None, "afterok:100", "afterok:101", "aftercorr:102", "aftercorr:103", "aftercorr:103"]


def test_longer_arrays_are_cut_and_their_followers_alike():
    parents = [task(f"p{n}") for n in range(25)]
    children = [task(f"c{n}", parents[n], kind="downstream") for n in range(25)]
    arrays = planned([*parents, *children], max_array=10)
    check([*parents, *children], arrays)
    assert [len(array.tasks) for array in arrays] == [10, 10, 5, 10, 10, 5]
    assert texts(arrays)[3:] == ["aftercorr:100", "aftercorr:101", "aftercorr:102"]


def test_resources_and_kinds_make_arrays_of_their_own():
    tasks = [task("a"), task("b", resources=TWO), task("c", kind="adapt"), task("d")]
    assert [names(array) for array in planned(tasks)] == [["a", "d"], ["b"], ["c"]]


def test_parents_are_put_together_by_what_follows_so_that_whole_arrays_match():
    parents = [task(f"p{n}") for n in range(6)]
    children = [task(f"c{n}", parents[n], kind="downstream") for n in (1, 3, 5)]
    arrays = planned([*parents, *children])
    check([*parents, *children], arrays)
    assert sorted(names(array) for array in arrays) == [["c1", "c3", "c5"], ["p0", "p2", "p4"], ["p1", "p3", "p5"]]


def test_few_parents_with_many_children_each_take_an_array_for_each_parent():
    parents = [task(f"t{n}", kind="tokens") for n in range(3)]
    children = [task(f"p{n}{seed}", parents[n]) for seed in range(50) for n in range(3)]
    arrays = planned([*parents, *children])
    check([*parents, *children], arrays)
    assert [len(array.tasks) for array in arrays] == [3, 50, 50, 50]
    assert texts(arrays)[1:] == ["afterok:100_0", "afterok:100_1", "afterok:100_2"]


def test_many_parents_with_few_children_each_take_an_array_for_each_child():
    parents = [task(f"t{n}", kind="tokens") for n in range(50)]
    children = [task(f"p{n}{seed}", parents[n]) for seed in range(3) for n in range(50)]
    arrays = planned([*parents, *children])
    check([*parents, *children], arrays)
    assert texts(arrays)[1:] == ["aftercorr:100"] * 3


def test_what_comes_after_two_arrays_waits_for_both_element_by_element():
    roots = [task(f"r{n}", kind="tokens") for n in range(3)]
    adapts = [task(f"a{n}", roots[n], kind="adapt") for n in range(3)]
    teachers = [task(f"t{n}", roots[n], kind="pretrain") for n in range(3)]
    ends = [task(f"e{n}", roots[n], adapts[n], teachers[n], kind="downstream") for n in range(3)]
    arrays = planned([*roots, *adapts, *teachers, *ends])
    check([*roots, *adapts, *teachers, *ends], arrays)
    assert texts(arrays) == [None, "aftercorr:100", "aftercorr:100", "aftercorr:101,aftercorr:102"]


def test_irregular_plans_are_exact():
    parents = [task(f"p{n}") for n in range(3)]
    both = task("both", parents[0], parents[2], kind="downstream")
    other = task("other", parents[1], parents[2], kind="downstream")
    end = task("end", both, other, kind="evaluate")
    tasks = [*parents, both, other, end]
    arrays = planned(tasks)
    check(tasks, arrays)


def test_jobs_of_earlier_calls_are_waited_for_by_their_ids():
    done, running = Path("done"), Path("running")
    first = Task(Path("a"), ONE, "pretrain", "a", (done, running))
    second = Task(Path("b"), ONE, "downstream", "b", (running, Path("a")))
    arrays = planned([first, second], {running: "55_3"})
    assert arrays[0].outside == ("55_3",)
    assert texts(arrays) == ["afterok:55_3", "afterok:100"]


def test_a_need_of_a_single_job_is_its_id_and_of_an_element_its_index():
    array = JobArray((task("x"),), (Need(0, 0), Need(1, 7), Need(2, None)), ("9",))
    assert dependency(array, [1, 10, 10], ["1", "2", "3"]) == "afterok:9:1:2_7,aftercorr:3"


def test_random_plans_keep_every_edge():
    import random

    for seed in range(60):
        draw = random.Random(seed)
        tasks: list[Task] = []
        for n in range(draw.randint(1, 40)):
            after = draw.sample(tasks, min(len(tasks), draw.choice([0, 1, 1, 1, 2, 3])))
            kind, resources = draw.choice(["tokens", "pretrain", "downstream"]), draw.choice([ONE, ONE, TWO])
            tasks.append(task(f"t{n:02d}", *after, kind=kind, resources=resources))
        check(tasks, planned(tasks, max_array=draw.choice([2, 5, 1000])))

"""Rules about the text of the source: names, characters, docstrings, and constructs that run what they read."""

import ast
import re

from tests.guards.source_files import ROOT, SOURCES, TESTS, parse, short

EMPTY_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|misc|managers?)(_|$|\.)")
TEXT_FILES = (".py", ".yaml", ".yml", ".toml", ".md", ".sh", ".txt", ".json")


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    names = [short(path) for path in SOURCES for part in path.relative_to(ROOT).parts if EMPTY_NAMES.search(part)]
    assert names == []


def test_source_and_tests_are_ascii() -> None:
    assert [short(path) for path in (*SOURCES, *TESTS) if not path.read_bytes().isascii()] == []


def test_every_module_class_and_public_function_has_a_docstring() -> None:
    bare = []
    for path in SOURCES:
        tree = parse(path)
        bare += [short(path)] if ast.get_docstring(tree) is None else []
        for node in ast.walk(tree):
            public = isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
            nested = isinstance(node, ast.FunctionDef) and node not in tree.body and not _is_method(tree, node)
            if public and not nested and ast.get_docstring(node) is None:
                bare.append(f"{short(path)}:{node.lineno} {node.name}")
    assert bare == []


def _is_method(tree: ast.Module, function: ast.FunctionDef) -> bool:
    return any(function in cls.body for cls in tree.body if isinstance(cls, ast.ClassDef) and cls.name[0] != "_")


def test_nothing_runs_what_it_reads() -> None:
    found = []
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                if {"cloudpickle", "dill", "shelve", "marshal"} & {name.split(".")[0] for name in modules}:
                    found.append(f"{short(path)}:{node.lineno} pickle")
            if isinstance(node, ast.Call) and (problem := _runs_text(node)):
                found.append(f"{short(path)}:{node.lineno} {problem}")
    assert found == []


def _runs_text(call: ast.Call) -> str | None:
    name = ast.unparse(call.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in {"eval", "exec", "os.system", "os.popen"} or name.startswith("pickle."):
        return name
    if name in {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"} and "Safe" not in str(keywords):
        return name
    if keywords.get("shell") == "True":
        return "shell=True"
    if name == "torch.load" and keywords.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if name in {"np.load", "numpy.load"} and keywords.get("allow_pickle", "False") != "False":
        return "numpy.load with pickles"
    return None


def test_the_guard_against_running_text_sees_each_construct() -> None:
    texts = (
        "eval(x)",
        "pickle.loads(b)",
        "yaml.load(f)",
        "run(c, shell=True)",
        "torch.load(p)",
        "np.load(p, allow_pickle=True)",
    )
    calls = [ast.parse(text, mode="eval").body for text in texts]
    assert all(isinstance(call, ast.Call) and _runs_text(call) for call in calls)


def test_specs_and_plans_never_load_heavy_packages_at_import() -> None:
    heavy = {"torch", "torchvision", "timm", "numpy", "mlflow", "sklearn", "matplotlib", "PIL", "pandas", "optuna"}
    light = ("spec", "plan", "ledger", "launch", "report", "verbs", "cli.py", "errors.py", "registry.py", "bench")
    found = []
    for path in SOURCES:
        if path.relative_to(ROOT / "tokexp").parts[0] not in light:
            continue
        for node in parse(path).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                module = getattr(node, "module", None)
                names = {name.split(".")[0] for name in ([module] if module else [a.name for a in node.names])}
                found += [f"{short(path)}:{node.lineno} {name}" for name in sorted(names & heavy)]
    assert found == []

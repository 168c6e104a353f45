"""Nothing outgrows what one person reads at once: files, functions, constructors, abstract bases."""

import ast

from tests.guards.source_files import SOURCES, functions, parse, short

LINES_PER_FILE = 400
LINES_PER_FUNCTION = 60
PARAMETERS = 8
ABSTRACT_METHODS = 4


def test_no_file_is_longer_than_the_ceiling() -> None:
    sizes = {short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert len(sizes) > 20
    assert {name: size for name, size in sizes.items() if size > LINES_PER_FILE} == {}


def test_no_function_is_longer_than_the_ceiling() -> None:
    long = {
        f"{short(path)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in SOURCES
        for node in functions(parse(path))
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > LINES_PER_FUNCTION
    }
    assert long == {}


def test_no_constructor_takes_more_than_eight_parameters() -> None:
    wide = {}
    for path in SOURCES:
        for node in functions(parse(path)):
            arguments = node.args
            count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1
            if node.name == "__init__" and count > PARAMETERS:
                wide[f"{short(path)}:{node.lineno}"] = count
    assert wide == {}


def test_no_contract_asks_for_more_than_four_methods() -> None:
    heavy = {}
    for path in SOURCES:
        for cls in (node for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef)):
            abstract = [n for n in functions(cls) if any("abstractmethod" in ast.dump(d) for d in n.decorator_list)]
            if len(abstract) > ABSTRACT_METHODS:
                heavy[f"{short(path)} {cls.name}"] = [node.name for node in abstract]
    assert heavy == {}

"""Static analysis of what a module calls and imports, by fully qualified names."""

import ast
from collections.abc import Iterator

MODULES = {"time", "datetime", "bench"}
CALLS = {
    *("print", "open", "torch.save", "torch.load"),
    *("random.seed", "numpy.random.seed", "torch.seed", "torch.manual_seed"),
    *("torch.random.seed", "torch.random.manual_seed"),
    *("torch.cuda.manual_seed", "torch.cuda.manual_seed_all"),
}
METHODS = {"cuda", "open", "read_text", "read_bytes", "write_text", "write_bytes"}


def of_the_runner(source: str) -> Iterator[str]:
    """Yield uses of what belongs to the runner: files, clocks, devices, seeds and its modules."""
    names: dict[str, str] = {}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                first = each.name.partition(".")[0]
                names[each.asname or first] = each.name if each.asname else first
                if first in MODULES:
                    yield f"import {each.name}"
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
            if node.module.partition(".")[0] in MODULES:
                yield f"from {node.module} import"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, *others = dotted(node.func)
            name = ".".join((names.get(first, first), *others))
            if name in CALLS or (others and others[-1] in METHODS):
                yield f"{name}()"


def dotted(node: ast.expr) -> list[str]:
    """Return the parts of a name such as ``torch.manual_seed``; any other expression is an empty part."""
    if isinstance(node, ast.Attribute):
        return [*dotted(node.value), node.attr]
    return [node.id if isinstance(node, ast.Name) else ""]

"""The mutants of a Python source text, made by cosmic-ray's operators."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from parso.python.tree import Operator

OPERATORS = re.compile(
    "core/(?:"
    # arithmetic: the inverse, or what is next of kin
    "ReplaceBinaryOperator_(?:Add_Sub|Sub_Add|Mul_Div|Div_Mul|MatMul_Mul|Pow_Mul|FloorDiv_Div|Mod_Mul"
    "|BitAnd_BitOr|BitOr_BitAnd|BitXor_BitAnd|LShift_RShift|RShift_LShift)"
    # comparisons: the boundary and the opposite
    "|ReplaceComparisonOperator_(?:Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Lt_GtE|LtE_Gt|Gt_LtE|GtE_Lt|Eq_NotEq|NotEq_Eq"
    "|Is_IsNot|IsNot_Is)"
    "|ReplaceUnaryOperator_Delete_(?:USub|Invert|Not)"
    "|AddNot|ReplaceTrueWithFalse|ReplaceFalseWithTrue|ReplaceAndWithOr|ReplaceOrWithAnd"
    "|ReplaceBreakWithContinue|ReplaceContinueWithBreak|ExceptionReplacer|NumberReplacer|RemoveDecorator"
    "|ZeroIterationForLoop)"
)


@dataclass(frozen=True)
class Mutant:
    """One change of a module.

    Attributes
    ----------
    operator, occurrence
        cosmic-ray's name of the operator, and which of the places that it finds in the module.
    line
        Where, counted from 1.
    change
        The changed lines without indentation, ``before -> after``: the mutant's name, which moving code does not change.
    code
        The whole source text with the change.
    functions
        The first lines (decorators included) of the functions around it, as code objects have them.
    """

    operator: str
    occurrence: int
    line: int
    change: str
    code: str
    functions: tuple[int, ...]


@cache
def mutants(source: str) -> tuple[Mutant, ...]:
    """Return every mutant of a module's source text, in the order of its lines, without the two kinds that no test can see.

    Left out are changes of what is not executed or only said (annotations, the signs ``*`` and ``**``, what stands in an
    f-string), and changes of an assertion about the code itself (``zip(strict=True)``, ``@dataclass(frozen=True)``).
    """
    found = []
    for name in cosmic_ray.plugins.operator_names():
        if OPERATORS.fullmatch(name):
            found += list(_of_operator(name, source))
    # Two operators can make the same text, such as `not` before a comparison and its opposite: once is enough.
    distinct = {mutant.code: mutant for mutant in reversed(found)}
    order = sorted(distinct.values(), key=lambda mutant: (mutant.line, mutant.operator, mutant.occurrence))
    return tuple(order)


def _of_operator(name: str, source: str) -> Iterator[Mutant]:
    operator = cosmic_ray.plugins.get_operator(name)()
    tree = get_ast(source)
    places = ((node, at) for node in ast_nodes(tree) for at in operator.mutation_positions(node))
    for occurrence, (node, (start, _)) in enumerate(places):
        leaf = tree.get_leaf_for_position(start, include_prefixes=True)
        if _unseen(leaf) or (name.endswith("RemoveDecorator") and "dataclass" in node.get_code()):
            continue
        code = mutate_code(source, operator, occurrence)
        if code is not None and code != source:
            around = _functions(leaf)
            yield Mutant(
                name.removeprefix("core/"), occurrence, start[0], _change(source, code), code, around
            )


def _unseen(leaf: Any) -> bool:
    """Whether the leaf is an annotation, a sign of a signature, text, or a check of the code itself."""
    if isinstance(leaf, Operator) and leaf.parent.type in ("parameters", "param", "dictorsetmaker"):
        return True  # signs of a signature, and ** of {**a}
    child, node = leaf, leaf.parent
    while node is not None:
        if node.type in ("fstring", "decorator") or (node.type == "argument" and _is_strict(node)):
            return True
        if node.type in ("annassign", "tfpdef") and node.children.index(child) == (
            1 if node.type == "annassign" else 2
        ):
            return True
        if node.type == "funcdef" and child is node.annotation:
            return True
        child, node = node, node.parent
    return False


def _functions(leaf: Any) -> tuple[int, ...]:
    """Return the first lines of the functions whose bodies hold the leaf, and none for what the import runs."""
    found: list[int] = []
    child, node = leaf, leaf.parent
    while node is not None:
        if node.type == "funcdef" and child is node.children[-1]:
            first = node.parent if node.parent.type in ("decorated", "async_stmt") else node
            found.append(first.get_first_leaf().line)
        child, node = node, node.parent
    return tuple(found)


def _is_strict(argument: Any) -> bool:
    return argument.get_code().replace(" ", "").strip() in ("strict=True", "strict=False")


def _change(source: str, code: str) -> str:
    before, after = source.split("\n"), code.split("\n")
    first = next(
        n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b
    )  # a mutant keeps the file's last line
    back = 1
    while before[-back] == after[-back]:
        back += 1
    old, new = (" ".join(" ".join(lines[first : len(lines) - back + 1]).split()) for lines in (before, after))
    return f"{old} -> {new}"

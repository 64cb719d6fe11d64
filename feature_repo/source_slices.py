"""What computes a feature, cut out of a module's source: the text that a contract's hash covers.

Pure and static: the module is parsed, never run. See docs/decisions/0044-versioned-feature-services.md.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_IGNORED: Final = frozenset({"annotation", "returns", "ctx", "kind", "type_comment", "type_params", "type_ignores"})
"""Fields of nodes that compute nothing."""


@dataclass(frozen=True)
class FeatureSource:
    """The code that computes one feature.

    ``text`` is the same for any layout, comments, docstrings and annotations, and in every Python version. ``names``
    are all words in it that may name another feature, or a constant of another module.
    """

    text: str
    names: frozenset[str]


def slice_of(source: str, root: str, feature: str, features: Collection[str]) -> FeatureSource:
    r"""Return what function ``root`` of a module does to compute ``feature``.

    All functions and constants of the module that it reaches belong to it, with one exception: a dictionary whose keys
    are names of ``features`` computes or describes each of them apart, and only the entry of ``feature`` counts.

    Examples
    --------
    >>> from feature_repo.source_slices import slice_of
    >>> source = "def derive(x):\n    half = x / 2\n    return {'a': half, 'b': x + 1}"
    >>> slice_of(source, "derive", "b", {"a", "b"}) == slice_of(source.replace("2", "3"), "derive", "b", {"a", "b"})
    True
    """
    return _Slicer(_definitions(source), feature, frozenset(features)).slice(root)


@functools.lru_cache(maxsize=1)
def _definitions(source: str) -> Mapping[str, ast.AST]:
    found: dict[str, ast.AST] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
        elif isinstance(node, ast.Assign):
            found |= {each.id: node.value for each in node.targets if isinstance(each, ast.Name)}
    return found


@dataclass
class _Slicer:
    definitions: Mapping[str, ast.AST]
    feature: str
    features: frozenset[str]
    parts: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def slice(self, root: str) -> FeatureSource:
        waiting = [root]
        while waiting:
            name = waiting.pop()
            if name in self.parts:
                continue
            node = self.definitions[name]
            kept = self._kept(node)
            words: set[str] = set().union(*(self._words(each) for each in kept))
            self.parts[name] = " ".join(self._text(each) for each in kept)
            self.names |= words
            waiting += sorted(words & self.definitions.keys())
        return FeatureSource(
            "\n".join(f"{name}: {self.parts[name]}" for name in sorted(self.parts)), frozenset(self.names)
        )

    def _kept(self, node: ast.AST) -> list[ast.AST]:
        """Return the nodes of a definition that count for the feature: all, or those that its entry needs."""
        if not isinstance(node, ast.FunctionDef):
            return [node]
        function = node
        body = [each for each in function.body if not _is_text(each)]
        last = body[-1] if body else None
        if not (isinstance(last, ast.Return) and isinstance(last.value, ast.Dict) and self._is_table(last.value)):
            return [function.args, *body]
        if not (entries := self._entries(last.value)):
            return []
        needed: set[str] = set().union(*(self._words(each) for each in entries))
        kept: list[ast.AST] = []
        for statement in reversed(body[:-1]):
            # A statement that is no assignment may change anything.
            if not isinstance(statement, ast.Assign | ast.AnnAssign) or _assigned(statement) & needed:
                kept.append(statement)
                needed |= self._words(statement)
        arguments = sorted(needed & {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)})
        return [*(ast.Name(each) for each in arguments), *reversed(kept), *entries]

    def _is_about_others(self, node: ast.AST) -> bool:
        """Return whether a node names a function that computes other features only."""
        found = self.definitions.get(node.id) if isinstance(node, ast.Name) else None
        if not isinstance(found, ast.FunctionDef) or not isinstance(found.body[-1], ast.Return):
            return False
        returned = found.body[-1].value
        return isinstance(returned, ast.Dict) and self._is_table(returned) and not self._entries(returned)

    def _is_table(self, node: ast.Dict) -> bool:
        keys = [each.value for each in node.keys if isinstance(each, ast.Constant)]
        return len(keys) == len(node.keys) and bool(self.features.intersection(map(str, keys)))

    def _entries(self, node: ast.Dict) -> list[ast.AST]:
        """Return keys and values of the entries that are about the feature."""
        found: list[ast.AST] = []
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None and self.feature in self._words(key) | self._words(value):
                found += [key, value]
        return found

    def _children(self, node: ast.AST) -> Iterator[tuple[str, ast.AST | str]]:
        if isinstance(node, ast.Dict) and self._is_table(node):
            yield from (("entry", each) for each in self._entries(node))
            return
        for name, value in ast.iter_fields(node):
            if name in _IGNORED or value is None:
                continue
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST):
                    if not (_is_text(each) or self._is_about_others(each)):
                        yield name, each
                elif each is not None:
                    yield name, repr(each)

    def _text(self, node: ast.AST) -> str:
        inner = " ".join(
            f"{name}={each if isinstance(each, str) else self._text(each)}" for name, each in self._children(node)
        )
        return f"{type(node).__name__}({inner})"

    def _words(self, node: ast.AST) -> set[str]:
        """Return the names and strings below a node."""
        found = set()
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        for _, each in self._children(node):
            if isinstance(each, ast.AST):
                found |= self._words(each)
        return found


def _assigned(statement: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}


def _is_text(node: ast.AST) -> bool:
    """Return whether a node is a bare string: a docstring, or one below a constant."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

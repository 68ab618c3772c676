"""Making a watched twin of a function: the same from the same source, which notes what it changes before it does.

- A twin is made from the source only if that compiles to just the code that runs; else there is none, and a command
  that raises is undone by reading the state again.
- Values, order of evaluation and line numbers are those of the function; `Changes` does what changes something.
- What a twin calls is called as a twin, too, as far as there is one; else the changes are `lost`.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from tokenize import TokenError
from types import CodeType, FunctionType
from typing import Any, cast

from perdure.prevalence.changes import Twin

_NOTES = "_perdure_changes"
_REFUSED = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Global, ast.Nonlocal, ast.Yield, ast.YieldFrom, ast.Await,
    ast.With, ast.AsyncWith, ast.AsyncFor, ast.Import, ast.ImportFrom, ast.Match, ast.TryStar,
)  # fmt: skip
_OPERATORS = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.MatMult: "matmul", ast.Div: "truediv",
    ast.FloorDiv: "floordiv", ast.Mod: "mod", ast.Pow: "pow", ast.LShift: "lshift", ast.RShift: "rshift",
    ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
}  # fmt: skip


class Refused(Exception):
    """The source has something of which no twin can be made."""


NO_TWIN = (OSError, TypeError, SyntaxError, ValueError, IndexError, RecursionError, TokenError, Refused)
"""What `made_twin` raises where there is none: it is `inspect`, `ast` and `compile` that meet strange sources."""


def made_twin(function: FunctionType) -> Twin:
    """The twin of a function; raises one of `NO_TWIN`."""
    if function.__closure__ or "<" in function.__code__.co_filename:
        raise Refused
    lines, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef) or len(tree.body) != 1:
        raise Refused
    _strip(definition)
    ast.increment_lineno(tree, first - 1)
    if not _is_same(_compiled(tree, function).__code__, function.__code__):
        raise Refused  # the file has changed since it was imported
    sets_only, reads_only = _sets_only(definition), _reads_only(definition, function.__globals__)
    _Rewriter().generic_visit(definition)  # changes it in place
    definition.args.posonlyargs.insert(0, ast.arg(_NOTES))
    ast.fix_missing_locations(tree)
    twin = _compiled(tree, function)
    twin.__defaults__, twin.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    twin.sets_only, twin.reads_only, twin.makes = sets_only, reads_only, set()
    made: Twin = twin
    return made


def _strip(definition: ast.FunctionDef) -> None:
    """Leave the names of parameters and the body; defaults are given to the twin as they are."""
    definition.decorator_list, definition.returns = [], None
    arguments = definition.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument is not None:
            argument.annotation = None
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    arguments.kw_defaults = [None if each is None else ast.Constant(None) for each in arguments.kw_defaults]
    ast.fix_missing_locations(definition)


def _compiled(tree: ast.Module, function: FunctionType) -> Any:
    """The function of the definition in the tree, made but not run, with the globals of the other one."""
    future = function.__code__.co_flags & __future__.annotations.compiler_flag
    # What a module imports is called in another way than what it defines: the compiler has to see it.
    whole = ast.Module([*_imports_of(function), *tree.body], [])
    made = compile(whole, function.__code__.co_filename, "exec", future, dont_inherit=True)
    name = function.__code__.co_name  # the function may have been given another one since
    code = next((each for each in made.co_consts if isinstance(each, CodeType) and each.co_name == name), None)
    if code is None:
        raise Refused
    return FunctionType(code, function.__globals__, function.__name__)


def _imports_of(function: FunctionType) -> list[ast.stmt]:
    file = function.__code__.co_filename
    if file not in _imports:
        lines, _ = inspect.findsource(function)
        waiting: list[ast.AST] = [ast.parse("".join(lines))]
        found: list[ast.stmt] = []
        while waiting:
            for node in ast.iter_child_nodes(waiting.pop()):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    if getattr(node, "module", "") != "__future__":
                        found.append(node)
                elif isinstance(node, (ast.stmt, ast.ExceptHandler)) and not isinstance(node, _SCOPES):
                    waiting.append(node)
        _imports[file] = found
    return _imports[file]


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_imports: dict[str, list[ast.stmt]] = {}  # of each file, at its top level


def _is_same(one: CodeType, other: CodeType) -> bool:
    """Whether two functions do the same: their code, their names, their constants."""
    return (
        one.co_code == other.co_code
        and one.co_names == other.co_names
        and one.co_varnames == other.co_varnames
        and len(one.co_consts) == len(other.co_consts)
        and all(
            _is_same(mine, its)
            if isinstance(mine, CodeType) and isinstance(its, CodeType)
            else _is_same_value(mine, its)
            for mine, its in zip(one.co_consts, other.co_consts, strict=True)
        )
    )


def _is_same_value(one: Any, other: Any) -> bool:
    return type(one) is type(other) and repr(one) == repr(other)


def _sets_only(definition: ast.FunctionDef) -> frozenset[str] | None:
    """The attributes of its first argument that a function sets to what it is given, if it does no more than that."""
    arguments = definition.args.args
    names: set[str] = set()
    for line in definition.body:
        if isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)):
            continue
        if not isinstance(line, (ast.Assign, ast.AnnAssign)) or line.value is None or not arguments:
            return None
        if not all(isinstance(node, _GIVEN) for node in ast.walk(line.value)):
            return None
        for target in line.targets if isinstance(line, ast.Assign) else [line.target]:
            for each in _assigned(target, line.value):
                holder = each.value if isinstance(each, ast.Attribute) else None
                if not isinstance(holder, ast.Name) or holder.id != arguments[0].arg:
                    return None
                names.add(each.attr)  # type: ignore[attr-defined]
    return frozenset(names)


def _assigned(target: ast.expr, value: ast.expr) -> list[ast.expr]:
    """The targets one by one, where as many values are written out; to unpack anything else may run somebody's code."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return target.elts
    return [target]


def _reads_only(definition: ast.FunctionDef, known: dict[str, Any]) -> bool:
    """Whether a function is seen to change nothing: no attribute and no item set, and nothing called that may do so."""
    for node in ast.walk(ast.Module(definition.body, [])):
        if isinstance(node, (ast.AugAssign, ast.Delete, ast.Lambda, *_REFUSED)):
            return False
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            return False
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                if called.id not in _READERS or called.id in known:
                    return False
            elif not isinstance(called, ast.Attribute) or called.attr not in _READING_METHODS:
                return False
    return True


_ITS_FRAME = frozenset({"locals", "globals", "vars", "dir", "eval", "exec"})
_FRAMES = frozenset({"_getframe", "currentframe"})
_GIVEN = (ast.Name, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.Load)
_READERS = frozenset({
    "abs", "all", "any", "bool", "bytes", "dict", "divmod", "enumerate", "float", "format", "frozenset", "hash", "int",
    "isinstance", "issubclass", "len", "list", "max", "min", "range", "repr", "reversed", "round", "set", "sorted",
    "str", "sum", "tuple", "type", "zip",
})  # fmt: skip
_READING_METHODS = frozenset({
    "get", "keys", "values", "items", "copy", "index", "count", "lower", "upper", "casefold", "strip", "startswith",
    "endswith", "format", "join", "split", "isoformat", "total_seconds", "union", "intersection", "difference",
    "issubset", "issuperset", "isdisjoint",
})  # fmt: skip


class _Rewriter(ast.NodeTransformer):
    """Puts calls of `Changes` in the place of what may change something."""

    def __init__(self) -> None:
        self._names = 0

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, _REFUSED):
            raise Refused
        for name in (getattr(node, "id", ""), getattr(node, "attr", "")):
            if name.startswith("__") and not name.endswith("__"):
                raise Refused  # inside of a class it has another name
        if getattr(node, "id", "") in _ITS_FRAME or getattr(node, "attr", "") in _FRAMES:
            raise Refused  # it would be asked of another function's frame
        return self.visit_test(node) if isinstance(node, _TESTS) else super().visit(node)

    # What is read by an operator, a loop or a test has to be quiet.

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        node.left, node.right = self._quiet(node.left), self._quiet(node.right)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        node.operand = self._quiet(node.operand)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        node.values = [self._quiet(value) for value in node.values]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if all(isinstance(each, (ast.Is, ast.IsNot)) for each in node.ops):
            return self.generic_visit(node)
        node.left, node.comparators = self._quiet(node.left), [self._quiet(each) for each in node.comparators]
        return node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        self.generic_visit(node)
        node.value = _wrapped(node.value)
        return node

    def visit_Starred(self, node: ast.Starred) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load):
            node.value = _wrapped(node.value)
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        node.keys = [key if key is None else self.visit(key) for key in node.keys]
        pairs = zip(node.keys, node.values, strict=True)
        node.values = [self._quiet(value) if key is None else self.visit(value) for key, value in pairs]
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        node.value = self._quiet(node.value) if node.arg is None else self.visit(node.value)
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return _call("small", cast("ast.expr", self.generic_visit(node)), at=node)

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.iter = _wrapped(node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.iter, node.ifs = _wrapped(node.iter), [_wrapped(each) for each in node.ifs]
        return node

    def visit_test(self, node: ast.If | ast.While | ast.IfExp | ast.Assert) -> ast.AST:
        self.generic_visit(node)
        node.test = _wrapped(node.test)
        return node

    def _quiet(self, node: ast.expr) -> ast.expr:
        return _wrapped(self.visit(node))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if not isinstance(node.ctx, ast.Load):
            raise Refused
        return _call("get_attribute", self.visit(node.value), ast.Constant(node.attr), at=node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if not isinstance(node.ctx, ast.Load):
            raise Refused
        return _call("get_item", self.visit(node.value), self._key(node), at=node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Attribute) and node.func.attr in _FRAMES:
            raise Refused
        arguments = [self.visit(argument) for argument in node.args]
        keywords = [self.visit(keyword) for keyword in node.keywords]
        if isinstance(node.func, ast.Attribute):
            head = [self.visit(node.func.value), ast.Constant(node.func.attr)]
            self._check(node.func.attr)
            return _call("call_method", *head, *arguments, at=node, keywords=keywords)
        return _call("call", self.visit(node.func), *arguments, at=node, keywords=keywords)

    def visit_Assign(self, node: ast.Assign) -> Any:
        value: ast.expr = self.visit(node.value)
        if any(isinstance(target, (ast.Tuple, ast.List)) for target in node.targets):
            value = _wrapped(value)
        if len(node.targets) > 1:
            first, value = self._kept(value, node)
            return [first, *(each for target in node.targets for each in self._assigned(target, value, node))]
        made = self._assigned(node.targets[0], value, node)
        return made if len(made) > 1 else made[0]

    def _assigned(self, target: ast.expr, value: ast.expr, at: ast.stmt) -> list[ast.stmt]:
        """The statements that assign to a target; of several places, the leftmost first, as Python does."""
        if isinstance(target, (ast.Attribute, ast.Subscript)):
            return [ast.copy_location(ast.Expr(self._store(target, value)), at)]
        if isinstance(target, (ast.Tuple, ast.List)) and not all(isinstance(each, ast.Name) for each in target.elts):
            names = [self._name() for _ in target.elts]
            places: list[ast.expr] = [
                ast.Starred(ast.Name(name, ast.Store()), ast.Store())
                if isinstance(each, ast.Starred)
                else ast.Name(name, ast.Store())
                for name, each in zip(names, target.elts, strict=True)
            ]
            made: list[ast.stmt] = [ast.copy_location(ast.Assign([ast.Tuple(places, ast.Store())], value), at)]
            for name, each in zip(names, target.elts, strict=True):
                place = each.value if isinstance(each, ast.Starred) else each
                made += self._assigned(place, ast.Name(name, ast.Load()), at)
            return made
        return [ast.copy_location(ast.Assign([self.visit(target)], value), at)]

    def _kept(self, value: ast.expr, at: ast.stmt) -> tuple[ast.stmt, ast.expr]:
        name = self._name()
        return ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], value), at), ast.Name(name, ast.Load())

    def _name(self) -> str:
        self._names += 1
        return f"{_NOTES}_{self._names}"

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None or not isinstance(node.target, (ast.Attribute, ast.Subscript)):
            raise Refused
        return ast.copy_location(ast.Expr(self._store(node.target, self.visit(node.value))), node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        operate = ast.Constant(f"__i{_OPERATORS[type(node.op)]}__")
        target, value = node.target, self.visit(node.value)
        if isinstance(target, ast.Name):
            read = ast.copy_location(ast.Name(target.id, ast.Load()), target)
            made = _call("in_place", read, operate, value, at=node)
            return ast.copy_location(ast.Assign([target], made), node)
        method = "begin_attribute" if isinstance(target, ast.Attribute) else "begin_item"
        begun = _call(method, self.visit(target.value), self._key(target), at=node)
        return ast.copy_location(ast.Expr(_call("end_in_place", begun, operate, value, at=node)), node)

    def visit_Delete(self, node: ast.Delete) -> Any:
        made: list[ast.stmt] = []
        for target in node.targets:
            if isinstance(target, (ast.Attribute, ast.Subscript)):
                method = "delete_attribute" if isinstance(target, ast.Attribute) else "delete_item"
                call = _call(method, self.visit(target.value), self._key(target), at=node)
                made.append(ast.copy_location(ast.Expr(call), node))
            else:
                made.append(ast.copy_location(ast.Delete([self.visit(target)]), node))
        return made if len(made) > 1 else made[0]

    def _store(self, target: ast.Attribute | ast.Subscript, value: ast.expr) -> ast.expr:
        method = "set_attribute" if isinstance(target, ast.Attribute) else "set_item"
        return _call(method, value, self.visit(target.value), self._key(target), at=target)

    def _key(self, node: ast.Attribute | ast.Subscript) -> ast.expr:
        if isinstance(node, ast.Attribute):
            self._check(node.attr)
            return ast.Constant(node.attr)
        if isinstance(node.slice, ast.Slice):
            parts = [part if part is None else self.visit(part) for part in _parts(node.slice)]
            return ast.Call(ast.Name("slice", ast.Load()), [part or ast.Constant(None) for part in parts], [])
        key: ast.expr = self.visit(node.slice)
        return key

    def _check(self, name: str) -> None:
        if name.startswith("__") and not name.endswith("__"):
            raise Refused


def _wrapped(node: ast.expr) -> ast.expr:
    """Have it looked at whether it is quiet, unless that is known beforehand."""
    if isinstance(node, _QUIET):
        return node
    return _call("quiet", node, at=node)


_TESTS = (ast.If, ast.While, ast.IfExp, ast.Assert)
_QUIET = (
    ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp,
    ast.GeneratorExp, ast.Compare, ast.BinOp, ast.UnaryOp, ast.BoolOp,
)  # fmt: skip


def _parts(node: ast.Slice) -> tuple[ast.expr | None, ...]:
    return node.lower, node.upper, node.step


def _call(method: str, *arguments: ast.expr, at: ast.AST, keywords: list[ast.keyword] | None = None) -> ast.Call:
    function = ast.Attribute(ast.Name(_NOTES, ast.Load()), method, ast.Load())
    return ast.copy_location(ast.Call(function, list(arguments), keywords or []), at)

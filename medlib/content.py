"""Telling by content whether two trainings are one: `digest` of what they are made of.

Our own functions and classes, and the reader's in a notebook, count by their code with
everything that it reaches; those of libraries by their name; values by value. Comments,
docstrings and line numbers are no content.
"""

import collections
import contextlib
import dis
import functools
import hashlib
import importlib.util
import inspect
import itertools
import numbers
import os
import pathlib
import random
import sys
import sysconfig
import types

import numpy as np
import torch
from torch import Tensor, nn

# Their repr says all there is to say.
PLAIN = (
    type(None), str, bytes, numbers.Number, range, slice, types.EllipsisType,
    types.GenericAlias, types.UnionType, pathlib.PurePath, np.dtype, np.generic,
    np.ufunc, torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout,
)  # fmt: skip
BUILTIN = (
    types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType,
    types.MethodWrapperType, types.ClassMethodDescriptorType,
)  # fmt: skip
CONTAINERS = (dict, collections.OrderedDict, list, tuple, set, frozenset)
# What Python puts into a class by itself: its slots, the fields of a NamedTuple.
FIELDS = (
    types.MemberDescriptorType, types.GetSetDescriptorType,
    type(vars(dis.Positions)["lineno"]),
)  # fmt: skip
MEMBERS = (property, staticmethod, classmethod, functools.cached_property)
CACHED = type(functools.cache(len))
STANDARD_LIBRARY = sysconfig.get_path("stdlib") + os.sep
LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
MADE_IN_PYTHON = 1 << 9  # flag of a class that a class statement made, not C
# The global generators, whose state is `fit`'s: it seeds them before each step.
SEEDED = (
    random.random.__self__, np.random.rand.__self__,  # type: ignore[attr-defined]
    torch.default_generator,
)  # fmt: skip


class Indescribable(TypeError):
    """A part of a training has no content by which it could be found again."""


def digest(thing) -> str:
    """The content of `thing` in 32 hexadecimal digits. Raises Indescribable."""
    version = f"{sys.version_info[:2]} torch {torch.__version__.rsplit('.', 1)[0]}"
    try:
        text = version + describe(thing, {})
    except RecursionError:
        raise Indescribable(
            "what this training reaches goes too deep for the store; expected no list "
            "that holds itself, and no figure or other large object of a library. "
            "Leave it out, or unset MEDLIB_STORE to train without a store"
        ) from None
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def describe(thing, seen: dict[int, object]) -> str:
    """Text that is equal where content is equal. `seen` holds the functions, classes
    and objects that are described already, or just being: they may reach each other."""
    if isinstance(thing, PLAIN) and not _ours(type(thing).__module__):
        return repr(thing)
    if type(thing) in CONTAINERS:
        return f"{type(thing).__name__} {_items(thing, seen)}"
    if name := _name_in_library(thing):
        return name
    if id(thing) in seen:
        return f"again {list(seen).index(id(thing))}"
    seen[id(thing)] = thing  # kept alive, so that nothing else takes its number
    if isinstance(thing, Tensor | np.ndarray):
        return _array(thing, seen)
    if isinstance(thing, types.CodeType):  # by itself, without what it reaches
        return _code(thing, {}, seen)
    if isinstance(thing, BUILTIN):
        owner = getattr(thing, "__self__", None)  # of w.mul: w
        owner = None if isinstance(owner, types.ModuleType) else owner
        return f"{thing.__qualname__} of {describe(owner, seen)}"
    if isinstance(thing, functools.partial):
        return "partial " + describe([thing.func, thing.args, thing.keywords], seen)
    if isinstance(thing, types.MethodType):
        return describe([thing.__func__, thing.__self__], seen)
    if isinstance(thing, CACHED):
        return describe(thing.__wrapped__, seen)
    if isinstance(thing, type):
        return _class(thing, seen)
    if isinstance(thing, types.FunctionType):
        return _function(thing, seen)
    if hasattr(type(thing), "fingerprint"):  # a Dataset knows its own
        return thing.fingerprint()
    if any(thing is generator for generator in SEEDED):
        return type(thing).__qualname__
    attributes = hasattr(thing, "__dict__") or hasattr(type(thing), "__slots__")
    hidden = isinstance(thing, random.Random)  # its state lies in C
    if attributes and not hidden and type(thing).__flags__ & MADE_IN_PYTHON:
        return _object(thing, seen)
    raise Indescribable(
        f"{thing!r} takes part in this training, and has no content by which the store "
        "could know it again; expected functions, classes, functools.partial, numbers, "
        "text, arrays and what is made of them; of a module of yours, the names that "
        "are used; of a compiled network, the network itself. Make it inside the "
        "function that uses it, or unset MEDLIB_STORE to train without a store"
    )


def _items(thing, seen: dict) -> str:
    if isinstance(thing, dict):
        return _items([part for pair in thing.items() for part in pair], seen)
    if isinstance(thing, set | frozenset):  # in whatever order: none sees another
        return str(sorted(describe(v, dict(seen)) for v in thing))
    return "[" + ", ".join(describe(v, seen) for v in thing) + "]"


def _array(values: Tensor | np.ndarray, seen: dict) -> str:
    kind, more = f"{values.dtype} {tuple(values.shape)}", ""
    if isinstance(values, Tensor):
        hooks = [values._backward_hooks, values._post_accumulate_grad_hooks]
        of_gradient = [list(h.values()) for h in hooks if h]
        more = describe([values.requires_grad, of_gradient], seen)
        flat = values.detach().cpu().contiguous().reshape(-1)
        raw = flat.view(torch.uint8).numpy().tobytes() if len(flat) else b""
    else:
        plain = values.dtype != object
        raw = values.tobytes() if plain else describe(values.tolist(), seen).encode()
    return f"{kind} {hashlib.blake2b(raw).hexdigest()[:32]} {more}"


def _ours(module: str | None) -> bool:
    """Is this code of the book or of the reader, which may change, or of a library?"""
    top = (module or "__main__").split(".")[0]
    return top in ("__main__", "__mp_main__", "medlib") or not _installed(top)


@functools.cache
def _installed(package: str) -> bool:
    """Does Python come with it, or does it lie where pip puts packages?"""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # made by hand, as is one that is not found
        spec = None
    if spec is None:
        return False
    where = spec.origin or next(iter(spec.submodule_search_locations or ()), "")
    if where in ("built-in", "frozen") or where.startswith(STANDARD_LIBRARY):
        return True
    return not {"site-packages", "dist-packages"}.isdisjoint(pathlib.Path(where).parts)


def _name_in_library(thing) -> str | None:
    """The name under which a library keeps it."""
    if isinstance(thing, types.ModuleType):
        return None if _ours(thing.__name__) else f"module {thing.__name__}"
    module = getattr(thing, "__module__", None)
    name = getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or _ours(module):
        return None
    found = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}.{name}" if found is thing else None


def _class(thing: type, seen: dict) -> str:
    parts = [f"class {thing.__qualname__}", describe(thing.__bases__, seen)]
    if type(thing) is not type:
        parts.append(describe(type(thing), seen))
    if not _ours(thing.__module__):  # made by a library around classes of ours
        return str(parts)
    for name, value in [*vars(thing).items()]:
        member = isinstance(value, MEMBERS)
        dull = name.startswith("__") and not callable(value) and not member
        if dull or name == "_abc_impl" or isinstance(value, FIELDS):
            continue
        if member:
            given = ("fget", "fset", "__func__", "func")
            value = [getattr(value, part, None) for part in given]
        parts.append(f"{name} {describe(value, seen)}")
    return str(parts)


def _object(thing, seen: dict) -> str:
    """Class and attributes, and the items or the value that it has beside them."""
    state = object.__getstate__(thing)  # slots too, and whatever pickle would not see
    if isinstance(thing, nn.Module):
        state = vars(thing) | {"training": None}  # which `fit` sets
        for name, value in vars(thing).items():
            if "hooks" in name and isinstance(value, dict):
                state[name] = list(value.values())  # its keys count all of a process
    parts = [describe([type(thing), state], seen)]
    if isinstance(thing, CONTAINERS):
        parts.append(_items(thing, seen))
    if isinstance(thing, PLAIN):
        parts.append(repr(thing))
    return str(parts)


def _function(thing: types.FunctionType, seen: dict) -> str:
    module, code, cells = thing.__globals__.get("__name__"), thing.__code__, []
    for cell in thing.__closure__ or ():
        try:
            cells += _parts(cell.cell_contents, _names(code))
        except ValueError:  # not filled yet: a function that calls itself
            cells.append(None)
    if _ours(module):
        text = _code(code, thing.__globals__, seen)
    else:  # made by a library around something of ours
        text = f"{module}.{code.co_qualname}"
    given = [thing.__defaults__, thing.__kwdefaults__, cells, vars(thing)]
    return f"def {text} {describe(given, seen)}"


def _code(code: types.CodeType, names: dict, seen: dict) -> str:
    """Instructions with what they act on, and the globals that they reach."""
    starred = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    counts = code.co_argcount, code.co_kwonlyargcount, starred
    lines = [f"{code.co_varnames} {counts}"]
    instructions = list(dis.get_instructions(code))
    for instruction, after in itertools.zip_longest(instructions, instructions[1:]):
        value = instruction.argval
        if isinstance(value, types.CodeType):
            value = _code(value, names, seen)
        elif instruction.opcode in dis.hasconst:  # only what is loaded: no docstring
            value = describe(value, seen)
        if not (after and after.argval in ("__doc__", "__firstlineno__")):
            lines.append(f"{instruction.opname} {value}")
    reached = describe(_reached(instructions, names, _names(code)), seen)
    return f"{lines} {code.co_exceptiontable.hex()} {reached}"


def _names(code: types.CodeType) -> set[str]:
    """What `code`, and the functions inside it, name that is not of their own."""
    inner = [_names(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    return set(code.co_names).union(*inner)


def _reached(instructions: list[dis.Instruction], names: dict, used: set) -> list:
    """The globals that code loads, and what it imports."""
    found = []
    for i, instruction in enumerate(instructions):
        name = instruction.argval
        if instruction.opname in LOADS and name in names:
            found += _parts(names[name], used)
        elif instruction.opname == "IMPORT_NAME":
            dots = "." * instructions[i - 2].argval
            path = importlib.util.resolve_name(dots + name, names.get("__package__"))
            if _ours(path):
                # What is missing is not reached either.
                with contextlib.suppress(ImportError):
                    found += _parts(importlib.import_module(path), used)
    return found


def _parts(value, used: set[str]) -> list:
    """`value`; of a module of ours, what code that names `used` can reach of it."""
    if not _our_module(value):
        return [value]
    found = []
    for name in sorted(used):
        if hasattr(value, name):
            found += _parts(getattr(value, name), used - {name})
    return [part for part in found if not _our_module(part)] or [value]


def _our_module(value) -> bool:
    return isinstance(value, types.ModuleType) and _ours(value.__name__)

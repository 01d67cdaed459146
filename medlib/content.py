"""Telling by content whether two trainings are one: `digest` of what they are made of.

Our own functions and classes, and the reader's in a notebook, count by their code with
everything that it reaches; those of libraries by their name; values by value. Comments,
docstrings and line numbers are no content.
"""

import dis
import functools
import hashlib
import importlib
import numbers
import pathlib
import sys
import sysconfig
import types

import numpy as np
import torch
from torch import Tensor, nn

# Their repr says all there is to say.
PLAIN = (
    type(None), str, bytes, numbers.Number, range, slice, types.EllipsisType,
    types.GenericAlias, types.UnionType, pathlib.PurePath, np.dtype, np.ufunc,
    torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout,
)  # fmt: skip
BUILTIN = (
    types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType,
    types.MethodWrapperType,
)  # fmt: skip
LIBRARIES = tuple(sysconfig.get_paths()[k] for k in ("stdlib", "purelib", "platlib"))
MADE_IN_PYTHON = 1 << 9  # flag of a class that a class statement made, not C


class Indescribable(TypeError):
    """A part of a training has no content by which it could be found again."""


def digest(thing) -> str:
    """The content of `thing` in 32 hexadecimal digits. Raises Indescribable."""
    version = f"{sys.version_info[:2]} torch {torch.__version__.rsplit('.', 1)[0]}"
    text = version + describe(thing, {})
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def describe(thing, seen: dict[int, object]) -> str:
    """Text that is equal where content is equal. `seen` holds the functions, classes
    and objects that are described already, or just being: they may reach each other."""
    if isinstance(thing, PLAIN):
        return repr(thing)
    if isinstance(thing, Tensor | np.ndarray):
        return _array(thing)
    if isinstance(thing, types.ModuleType):
        return f"module {thing.__name__}"
    if isinstance(thing, types.CodeType):  # by itself, without what it reaches
        return _code(thing, {}, seen)
    if isinstance(thing, BUILTIN):
        return f"{thing.__module__}.{thing.__qualname__}"
    if isinstance(thing, tuple | list):
        kind = "" if type(thing) in (tuple, list) else type(thing).__qualname__
        return kind + "[" + ", ".join(describe(v, seen) for v in thing) + "]"
    if isinstance(thing, set | frozenset):
        return "{" + ", ".join(sorted(describe(v, seen) for v in thing)) + "}"
    if isinstance(thing, dict):
        pairs = (f"{describe(k, seen)}: {describe(v, seen)}" for k, v in thing.items())
        return "{" + ", ".join(pairs) + "}"
    if id(thing) in seen:
        return f"again {getattr(thing, '__qualname__', type(thing).__qualname__)}"
    seen[id(thing)] = thing  # kept alive, so that nothing else takes its number
    if isinstance(thing, functools.partial):
        return "partial " + describe([thing.func, thing.args, thing.keywords], seen)
    if isinstance(thing, types.MethodType):
        return describe([thing.__func__, thing.__self__], seen)
    if isinstance(thing, type):
        return _class(thing, seen)
    if isinstance(thing, types.FunctionType):
        return _function(thing, seen)
    if isinstance(thing, nn.Module):
        return _network(thing, seen)
    if hasattr(thing, "fingerprint"):  # a Dataset knows its own
        return thing.fingerprint()
    if hasattr(thing, "__wrapped__"):  # functools.cache and its kin
        return describe(thing.__wrapped__, seen)
    if hasattr(thing, "__dict__") and type(thing).__flags__ & MADE_IN_PYTHON:
        return describe([type(thing), vars(thing)], seen)
    raise Indescribable(
        f"{thing!r} takes part in this training, and has no content by which the store "
        "could know it again; expected functions, classes, functools.partial, numbers, "
        "text, arrays and what is made of them. Make it inside the function that uses "
        "it, or unset MEDLIB_STORE to train without a store"
    )


def _array(values: Tensor | np.ndarray) -> str:
    kind = str(values.dtype)
    if isinstance(values, Tensor):
        flat = values.detach().cpu().contiguous().reshape(-1)
        raw = flat.view(torch.uint8).numpy().tobytes() if len(flat) else b""
    else:
        plain = values.dtype != object
        raw = values.tobytes() if plain else repr(values.tolist()).encode()
    return f"{kind} {tuple(values.shape)} {hashlib.blake2b(raw).hexdigest()[:32]}"


def _ours(module: str | None) -> bool:
    """Is this code of the book or of the reader, which may change, or of a library?"""
    if not module or module == "__main__" or module.split(".")[0] == "medlib":
        return True
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return bool(file) and not file.startswith(LIBRARIES)


def _class(thing: type, seen: dict) -> str:
    if not _ours(thing.__module__):
        return f"{thing.__module__}.{thing.__qualname__}"
    parts = []
    for name, value in vars(thing).items():
        made = isinstance(value, types.FunctionType)
        if name.startswith("__") and not made:  # where it stands, its annotations, …
            continue
        if isinstance(value, property | staticmethod | classmethod):
            given = [getattr(value, f, None) for f in ("fget", "fset", "__func__")]
            parts.append(name + describe(given, seen))
            continue
        try:
            parts.append(name + describe(value, seen))
        except Indescribable:  # a slot or another part that Python itself made
            parts.append(f"{name} {type(value).__qualname__}")
    return f"class {thing.__qualname__} {describe(thing.__bases__, seen)} {parts}"


def _function(thing: types.FunctionType, seen: dict) -> str:
    wrapped = getattr(thing, "__wrapped__", None)
    if not _ours(thing.__globals__.get("__name__")):
        # A library's decorator around a function of ours, or all of it a library's.
        name = f"{thing.__module__}.{thing.__qualname__}"
        return name + (describe(wrapped, seen) if wrapped else "")
    cells = []
    for cell in thing.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet: a function that calls itself
            cells.append(None)
    given = describe([thing.__defaults__, thing.__kwdefaults__, cells], seen)
    return f"def {_code(thing.__code__, thing.__globals__, seen)} {given}"


def _code(code: types.CodeType, names: dict, seen: dict) -> str:
    """Instructions with what they act on, and the globals that they reach."""
    lines = [f"{code.co_varnames} {code.co_argcount} {code.co_kwonlyargcount}"]
    for instruction in dis.get_instructions(code):
        value = instruction.argval
        if isinstance(value, types.CodeType):
            value = _code(value, names, seen)
        elif instruction.opname == "LOAD_CONST":  # only what is loaded: no docstring
            value = describe(value, seen)
        lines.append(f"{instruction.opname} {value}")
    reached = [describe(value, seen) for value in _reached(code, names)]
    return f"{lines} {code.co_exceptiontable.hex()} {reached}"


def _reached(code: types.CodeType, names: dict) -> list:
    """The globals that `code` loads, and what it imports; of a module of ours, only the
    part that is used."""
    found, module, instructions = [], None, list(dis.get_instructions(code))
    for i, instruction in enumerate(instructions):
        name = instruction.argval
        if instruction.opname == "IMPORT_NAME":
            module = importlib.import_module(name) if name and _ours(name) else None
        elif instruction.opname == "IMPORT_FROM" and module:
            found.append(getattr(module, name, None))
        elif instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and name in names:
            value = names[name]
            for after in instructions[i + 1 :]:
                ours = isinstance(value, types.ModuleType) and _ours(value.__name__)
                if not ours or after.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                    break
                value = getattr(value, after.argval, None)
            found.append(value)
    return found


def _network(model: nn.Module, seen: dict) -> str:
    """The code of its layers, their settings, and the weights as they are."""
    of_torch, lines = set(vars(nn.Module())), []
    for name, layer in model.named_modules():
        settings = {k: v for k, v in vars(layer).items() if k not in of_torch}
        settings |= {k: v for k, v in vars(layer).items() if "hooks" in k and v}
        lines.append(f"{name} {describe([type(layer), settings], seen)}")
    for name, values in [*model.named_parameters(), *model.named_buffers()]:
        lines.append(f"{name} {values.requires_grad} {_array(values)}")
    return "\n".join(lines)

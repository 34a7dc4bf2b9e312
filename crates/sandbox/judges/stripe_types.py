"""What the official stripe-python declares about Stripe's objects, and where a value is not like that.

A member without `Optional` is always there and never null. `Optional` is null OR left out: the package does not tell these
two apart. An open enum is `Union[Literal[...], str]`, an id that can be expanded `Union[str, Class]`; a `Literal` alone is a
constant. No member is there that the package does not know. A deleted object is its id, its kind and `deleted`.
"""
import ast
import functools
import importlib
import inspect
import re
import sys
import typing
from decimal import Decimal

from stripe._list_object import ListObject
from stripe._stripe_object import StripeObject, UntypedStripeObject

PLAIN = {str: "str", int: "int", bool: "bool", float: "float", Decimal: "decimal in a str", type(None): "null"}
checks = 0


@functools.cache
def names(module):
    """What a module's annotations may refer to: also what it imports for type checkers only."""
    found = dict(vars(sys.modules[module]))
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[module]))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("stripe."):
            if not node.module.startswith("stripe.params"):
                source = importlib.import_module(node.module)
                found.update({x.asname or x.name: getattr(source, x.name) for x in node.names if hasattr(source, x.name)})
    return found


@functools.cache
def members(cls):
    """Name and type of each member of an object."""
    own = type("Own", (), {"__annotations__": cls.__annotations__})
    hints = typing.get_type_hints(own, names(cls.__module__))
    return {name: hint for name, hint in hints.items() if typing.get_origin(hint) is not typing.ClassVar and name[0] != "_"}


def choices(hint):
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Union else (hint,)


def is_plain(value, hint):
    if hint is Decimal:
        return isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value) is not None
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def called(hint):
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(repr(x) for x in typing.get_args(hint))
    return PLAIN.get(hint) or getattr(typing.get_origin(hint) or hint, "__name__", str(hint))


def misfits(value, hint, at=""):
    """Each place where the value is not what the type says."""
    global checks
    checks += 1
    if hint is typing.Any:
        return
    objects = []
    for choice in choices(hint):
        origin = typing.get_origin(choice)
        if choice in PLAIN and is_plain(value, choice):
            return
        if origin is typing.Literal and any(type(x) is type(value) and x == value for x in typing.get_args(choice)):
            return
        if origin in (list, dict) and isinstance(value, origin):
            pairs = enumerate(value) if origin is list else value.items()
            for key, inner in pairs:
                yield from misfits(inner, typing.get_args(choice)[-1], f"{at}[{key}]")
            return
        if isinstance(origin or choice, type) and issubclass(origin or choice, StripeObject) and isinstance(value, dict):
            objects.append(choice)
    if len(objects) > 1:  # a source is an account, a card, ...: the object itself says which
        objects = [x for x in objects if getattr(x, "OBJECT_NAME", None) == value.get("object")]
    if objects:
        yield from misfits_of_object(value, objects[0], at)
        return
    seen = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    yield f"{at}: wants {', '.join(called(x) for x in choices(hint))}; is {seen}"


def misfits_of_object(value, cls, at):
    inner = typing.get_args(cls)
    if typing.get_origin(cls) is UntypedStripeObject:
        wanted = {name: inner[0] for name in value}
    elif typing.get_origin(cls) is ListObject:
        wanted = {"object": typing.Literal["list"], "data": typing.List[inner[0]], "has_more": bool, "url": str}
    elif "deleted" in value:
        wanted = {name: members(cls).get(name) for name in ("id", "object")} | {"deleted": typing.Literal[True]}
    else:
        wanted = members(cls)
    for name in [*wanted, *(name for name in value if name not in wanted)]:
        place = f"{at}.{name}" if at else name
        if name not in wanted:
            yield f"{place}: {called(cls)} has no such member"
        elif name in value:
            yield from misfits(value[name], wanted[name], place)
        elif type(None) not in choices(wanted[name]):
            yield f"{place}: is missing"

"""The objects of the sandbox against the types that the official stripe-python declares for them.

usage: stripe_objects.py BASE_URL [KEY]   every object that the sandbox lists, makes and deletes (needs `pip install stripe==16.1.0`)
       stripe_objects.py --self-test      only that this judge notices what it should, which BASE_URL does first as well
Names each object that does not fit and prints "N objects fit, M checks passed"; exit status 1 when one did not fit.

What the types say, and so what is judged: a member without `Optional` is always there and never null. `Optional` is null OR
left out: the package does not tell these two apart. An open enum is `Union[Literal[...], str]`, an id that can be expanded
`Union[str, Class]`; a `Literal` alone is a constant. No member is there that the package does not know.
"""
import ast
import copy
import functools
import importlib
import inspect
import re
import sys
import typing
import uuid
from decimal import Decimal

import stripe
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


GONE = object()
TIER = {"flat_amount": None, "flat_amount_decimal": None, "unit_amount": 5, "unit_amount_decimal": "5.25", "up_to": None}
PRICE = {"id": "price_1", "object": "price", "active": True, "billing_scheme": "tiered", "created": 1, "currency": "usd",
         "livemode": False, "metadata": {"tier": "pro"}, "product": {"id": "prod_1", "object": "product", "deleted": True},
         "tiers": [TIER], "type": "recurring", "unit_amount": None}
CUSTOMER = {"id": "cus_1", "object": "customer", "created": 1, "livemode": False, "balance": -5, "default_source": None, "metadata": {},
            "invoice_settings": {"custom_fields": None, "default_payment_method": "pm_1", "footer": None, "rendering_options": None},
            "subscriptions": {"object": "list", "data": [], "has_more": False, "url": "/v1/customers/cus_1/subscriptions"}}
# A type, a thing that fits it, a place, what is put there, and the only complaint.
NOTICED = [
    (stripe.Price, PRICE, "created", GONE, "created: is missing"),
    (stripe.Price, PRICE, "created", True, "created: wants int; is True"),
    (stripe.Price, PRICE, "created", 1.5, "created: wants int; is 1.5"),
    (stripe.Price, PRICE, "active", 1, "active: wants bool; is 1"),
    (stripe.Price, PRICE, "active", None, "active: wants bool; is None"),
    (stripe.Price, PRICE, "unit_amount", "49", "unit_amount: wants int, null; is '49'"),
    (stripe.Price, PRICE, "unit_amout", 49, "unit_amout: Price has no such member"),
    (stripe.Price, PRICE, "object", "plan", "object: wants 'price'; is 'plan'"),
    (stripe.Price, PRICE, "metadata.tier", 1, "metadata.tier: wants str; is 1"),
    (stripe.Price, PRICE, "metadata", [], "metadata: wants UntypedStripeObject; is a list"),
    (stripe.Price, PRICE, "tiers.0.up_to", "inf", "tiers[0].up_to: wants int, null; is 'inf'"),
    (stripe.Price, PRICE, "tiers.0.unit_amount_decimal", 5, "tiers[0].unit_amount_decimal: wants decimal in a str, null; is 5"),
    (stripe.Price, PRICE, "product", None, "product: wants str, Product; is None"),
    (stripe.Price, PRICE, "product.deleted", False, "product.deleted: wants True; is False"),
    (stripe.Price, PRICE, "product.name", "Pro", "product.name: Product has no such member"),
    (stripe.Customer, CUSTOMER, "subscriptions.has_more", GONE, "subscriptions.has_more: is missing"),
    (stripe.Customer, CUSTOMER, "subscriptions.data", [1], "subscriptions.data[0]: wants Subscription; is 1"),
    (stripe.Customer, CUSTOMER, "invoice_settings", "none", "invoice_settings: wants InvoiceSettings, null; is 'none'"),
    (stripe.Customer, CUSTOMER, "default_source", {"object": "coin"},
     "default_source: wants str, Account, BankAccount, Card, Source, null; is an object"),
    (stripe.Customer, CUSTOMER, "billing_mode", "open", "billing_mode: Customer has no such member"),
]
# What may be, without a complaint.
ALLOWED = [(stripe.Price, PRICE, "type", "an enum is open"), (stripe.Price, PRICE, "nickname", None),
           (stripe.Price, PRICE, "unit_amount", GONE), (stripe.Customer, CUSTOMER, "default_source", "card_1")]


def spoiled(value, place, what):
    value = copy.deepcopy(value)
    *way, last = [int(x) if x.isdigit() else x for x in place.split(".")]
    holder = functools.reduce(lambda inner, name: inner[name], way, value)
    if what is GONE:
        del holder[last]
    else:
        holder[last] = what
    return value


def self_test():
    wrong = 0
    for cls, value, place, what, *complaint in [*NOTICED, *ALLOWED]:
        for given, wanted in [(value, []), (spoiled(value, place, what), complaint)]:
            if list(misfits(given, cls)) != wanted:
                wrong += 1
                print(f"SELF-TEST {cls.__name__} {place}: {list(misfits(given, cls))}, wanted {wanted}")
    if wrong:
        sys.exit(1)
    print(f"self-test: {len(NOTICED)} misfits are noticed, {len(ALLOWED)} liberties are allowed")


def places(value, way=()):
    """The way to everything inside a value."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*way, str(key))
        yield from places(inner, (*way, str(key)))


class Judge:
    def __init__(self, base, key):
        self.client = stripe.StripeClient(key, base_addresses={"api": base.rstrip("/")}, max_network_retries=0)
        self.fit, self.bad, self.tried = 0, 0, set()

    def see(self, value, cls):
        """Judges one object; the first of each kind is then spoiled everywhere, and each time that must be seen."""
        complaints = list(misfits(value, cls))
        self.fit, self.bad = self.fit + (not complaints), self.bad + bool(complaints)
        for complaint in complaints:
            print(f"MISFIT {cls.__name__} {value.get('id')}: {complaint}")
        if not complaints and (cls, len(value)) not in self.tried:
            self.tried.add((cls, len(value)))
            for place in map(".".join, places(value)):
                if not any(misfits(spoiled(value, place, [[[]]]), cls)):
                    self.bad += 1
                    print(f"NOT NOTICED {cls.__name__} {place}: became a list of lists")
        return value

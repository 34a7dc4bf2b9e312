"""The objects of the sandbox against the types that the official stripe-python declares for them.

usage: stripe_objects.py BASE_URL [KEY]   all that the sandbox lists, makes and deletes (`pip install stripe==16.1.0`)
       stripe_objects.py --self-test      only that this judge notices what it should, which BASE_URL does first as well
Names each object that does not fit and prints "N objects fit, M checks passed"; exit status 1 when one did not fit.
"""
import copy
import functools
import json
import sys
import urllib.request

import stripe
from stripe._list_object import ListObject
from stripe._object_classes import get_object_class

sys.dont_write_bytecode = True  # nothing is left behind beside the sources
import stripe_types  # noqa: E402
from stripe_types import misfits  # noqa: E402

GONE = object()
TIER = {"flat_amount": None, "flat_amount_decimal": None, "unit_amount": 5, "unit_amount_decimal": "5.25", "up_to": None}
PRICE = {"id": "price_1", "object": "price", "active": True, "billing_scheme": "tiered", "created": 1, "currency": "usd",
         "livemode": False, "metadata": {"tier": "pro"}, "product": {"id": "prod_1", "object": "product", "deleted": True},
         "tiers": [TIER], "type": "recurring", "unit_amount": None}
CUSTOMER = {"id": "cus_1", "object": "customer", "created": 1, "livemode": False, "balance": -5, "default_source": None,
            "metadata": {}, "invoice_settings": {"custom_fields": None, "default_payment_method": "pm_1", "footer": None},
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
        self.base = base.rstrip("/")
        self.client = stripe.StripeClient(key, base_addresses={"api": base.rstrip("/")}, max_network_retries=0)
        self.fit, self.bad, self.checks, self.tried, self.told = 0, 0, -stripe_types.checks, set(), set()

    def see(self, value, cls):
        """Judges one object; the first of each kind is then spoiled everywhere, and each time that must be seen."""
        complaints = list(misfits(value, cls))
        self.fit, self.bad = self.fit + (not complaints), self.bad + bool(complaints)
        for complaint in complaints:
            print(f"MISFIT {cls.__name__} {value.get('id')}: {complaint}")
        if not complaints and (cls, len(value)) not in self.tried:
            self.tried.add((cls, len(value)))
            before = stripe_types.checks
            # What an event tells of is anything at all to these types; it is judged by itself in `time`.
            for place in [x for x in map(".".join, places(value)) if cls is not stripe.Event or not x.startswith("data.")]:
                if not any(misfits(spoiled(value, place, [[[]]]), cls)):
                    self.bad += 1
                    print(f"NOT NOTICED {cls.__name__} {place}: became a list of lists")
            self.checks -= stripe_types.checks - before
        return value

    def call(self, cls, method, path, **params):
        return self.see(self.client.raw_request(method, f"/v1/{path}", **params).data, cls)

    def list(self, cls, path, **params):
        """All rows of a list, page by page."""
        found, page = [], None
        while page is None or page["has_more"]:
            after = {"starting_after": found[-1]["id"]} if found else {}
            page = self.client.raw_request("get", f"/v1/{path}", limit=100, **after, **params).data
            found += [self.see(row, cls) for row in page["data"]]
            self.see({**page, "data": []}, ListObject[cls])
        return found

    def business(self):
        for path, (cls, expandable) in LISTS.items():
            more = {"status": "all"} if path == "subscriptions" else {}
            found = self.list(cls, path, **more)  # the little business has at least one of everything
            self.call(cls, "get", f"{path}/{found[0]['id']}")
            for member in expandable.split():
                self.list(cls, path, expand=[f"data.{member}"], **more)
            if path == "customers":
                for row in found:
                    self.list(stripe.PaymentMethod, f"customers/{row['id']}/payment_methods")
            if path == "subscriptions":
                for row in found:
                    self.list(stripe.SubscriptionItem, "subscription_items", subscription=row["id"])
            if path == "invoices":
                for row in found[::10]:
                    self.list(stripe.InvoiceLineItem, f"invoices/{row['id']}/lines")
        self.call(stripe.Account, "get", "account")

    def made_and_deleted(self):
        def create(cls, path, **params):
            return self.call(cls, "post", path, **params)["id"]

        every = {"currency": "usd", "product": create(stripe.Product, "products", name="Judge's wig")}
        price = create(stripe.Price, "prices", unit_amount=900, recurring={"interval": "month"}, **every)
        steps = [{"up_to": 10, "unit_amount": 5}, {"up_to": "inf", "unit_amount_decimal": "2.5"}]
        tiers = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": steps}
        create(stripe.Price, "prices", recurring={"interval": "month"}, expand=["tiers"], **tiers, **every)
        plan = create(stripe.Plan, "plans", amount=700, interval="year", **every)
        self.call(stripe.Plan, "delete", f"plans/{plan}")
        coupons = [{"percent_off": 20, "duration": "once"}, {"amount_off": 100, "currency": "usd", "duration": "forever"}]
        coupon, other = [create(stripe.Coupon, "coupons", **coupon) for coupon in coupons]
        customer = create(stripe.Customer, "customers", email="judge@example.com", metadata={"a": "1"})
        method = create(stripe.PaymentMethod, "payment_methods/pm_card_visa/attach", customer=customer)
        settings = {"default_payment_method": method}
        self.call(stripe.Customer, "post", f"customers/{customer}", invoice_settings=settings, address={"country": "DE"})
        begun = {"customer": customer, "items": [{"price": price, "quantity": 2}]}
        more = {"discounts": [{"coupon": coupon}], "expand": ["latest_invoice", "discounts"]}
        first = create(stripe.Subscription, "subscriptions", **more, **begun)
        create(stripe.Subscription, "subscriptions", trial_period_days=7, **begun)
        changes = {"cancel_at_period_end": True, "pause_collection": {"behavior": "void"}}
        self.call(stripe.Subscription, "post", f"subscriptions/{first}", **changes)
        self.call(stripe.Subscription, "delete", f"subscriptions/{first}")
        charge = create(stripe.Charge, "charges", amount=500, currency="usd", source="tok_visa")
        create(stripe.Refund, "refunds", charge=charge, amount=100)
        self.list(stripe.Refund, f"charges/{charge}/refunds")
        self.list(stripe.Invoice, "invoices", customer=customer, expand=["data.payments", "data.discounts"])
        self.call(stripe.PaymentMethod, "post", f"payment_methods/{method}/detach")
        self.call(stripe.Coupon, "delete", f"coupons/{other}")
        self.call(stripe.Customer, "delete", f"customers/{customer}")
        self.call(stripe.Customer, "get", f"customers/{customer}")
        self.call(stripe.Subscription, "get", f"subscriptions/{first}", expand=["customer"])
        self.call(stripe.Product, "delete", f"products/{create(stripe.Product, 'products', name='Nothing')}")


    def written(self):
        """What people write: invoices, intents, sessions, meters, clocks; each judged as it is answered."""
        def create(cls, path, **params):
            return self.call(cls, "post", path, **params)["id"]

        customer = create(stripe.Customer, "customers", email="writer@example.com", payment_method="pm_card_visa")
        card = self.list(stripe.PaymentMethod, f"customers/{customer}/payment_methods")[0]["id"]
        self.call(stripe.Customer, "post", f"customers/{customer}", invoice_settings={"default_payment_method": card})
        item = create(stripe.InvoiceItem, "invoiceitems", customer=customer, amount=700, currency="usd", description="Work")
        self.call(stripe.InvoiceItem, "post", f"invoiceitems/{item}", metadata={"a": "b"})
        draft = create(stripe.Invoice, "invoices", customer=customer, pending_invoice_items_behavior="include")
        self.call(stripe.Invoice, "post", f"invoices/{draft}/finalize", auto_advance=False)
        note = create(stripe.CreditNote, "credit_notes", invoice=draft, amount=100, expand=["invoice"])
        self.list(stripe.CreditNoteLineItem, f"credit_notes/{note}/lines")
        self.call(stripe.Invoice, "post", f"invoices/{draft}/pay", expand=["payments", "confirmation_secret"])
        create(stripe.CreditNote, "credit_notes", invoice=draft, amount=200, refund_amount=150, credit_amount=50)
        for end in ["void", "mark_uncollectible"]:
            create(stripe.InvoiceItem, "invoiceitems", customer=customer, amount=500, currency="usd")
            other = create(stripe.Invoice, "invoices", customer=customer, pending_invoice_items_behavior="include")
            self.call(stripe.Invoice, "post", f"invoices/{other}/finalize", auto_advance=False)
            self.call(stripe.Invoice, "post", f"invoices/{other}/{end}")
        begun = self.call(stripe.Subscription, "post", "subscriptions", customer=customer, items=[{"price": "price_starter_monthly"}])
        change = [{"id": begun["items"]["data"][0]["id"], "price": "price_enterprise_monthly"}]
        self.call(stripe.Invoice, "post", "invoices/create_preview", subscription=begun["id"],
                  subscription_details={"items": change})
        self.call(stripe.Subscription, "post", f"subscriptions/{begun['id']}", items=change, proration_behavior="always_invoice",
                  expand=["latest_invoice"])
        self.call(stripe.Subscription, "post", f"subscriptions/{begun['id']}/pause", type="subscription")
        self.call(stripe.Subscription, "post", f"subscriptions/{begun['id']}/resume", billing_cycle_anchor={"type": "now"})
        added = create(stripe.SubscriptionItem, "subscription_items", subscription=begun["id"], price="price_addon_support_monthly")
        self.call(stripe.SubscriptionItem, "delete", f"subscription_items/{added}")
        for token in ["pm_card_visa", "pm_card_authenticationRequired"]:
            create(stripe.PaymentIntent, "payment_intents", amount=500, currency="usd", confirm=True, payment_method=token,
                   expand=["latest_charge", "payment_method"])
            create(stripe.SetupIntent, "setup_intents", confirm=True, payment_method=token)
        held = create(stripe.PaymentIntent, "payment_intents", amount=500, currency="usd", capture_method="manual",
                      payment_method="pm_card_visa", confirm=True)
        self.call(stripe.PaymentIntent, "post", f"payment_intents/{held}/capture", amount_to_capture=300)
        self.disputed()
        self.scheduled()
        self.taxed()
        coupon = create(stripe.Coupon, "coupons", percent_off=50, duration="once")
        create(stripe.PromotionCode, "promotion_codes", promotion={"type": "coupon", "coupon": coupon}, code="JUDGE")
        lines = [{"price": "price_starter_monthly", "quantity": 2}]
        session = create(stripe.checkout.Session, "checkout/sessions", mode="subscription", line_items=lines,
                         success_url="https://example.com/done", expand=["line_items"])
        self.list(stripe.LineItem, f"checkout/sessions/{session}/line_items")
        press(f"{self.base}/_sandbox/pages/checkout/{session}", b"card=pm_card_visa&email=buyer@example.com")
        self.call(stripe.checkout.Session, "get", f"checkout/sessions/{session}", expand=["subscription", "invoice", "customer"])
        other = create(stripe.checkout.Session, "checkout/sessions", mode="setup", currency="usd", success_url="https://example.com")
        self.call(stripe.checkout.Session, "post", f"checkout/sessions/{other}/expire")
        create(stripe.billing_portal.Session, "billing_portal/sessions", customer=customer, expand=["configuration"])
        create(stripe.billing_portal.Configuration, "billing_portal/configurations", business_profile={"headline": "Hello"})
        meter = create(stripe.billing.Meter, "billing/meters", display_name="Calls", event_name="calls",
                       default_aggregation={"formula": "sum"})
        event = {"stripe_customer_id": customer, "value": "25"}
        self.call(stripe.billing.MeterEvent, "post", "billing/meter_events", event_name="calls", payload=event)
        create(stripe.WebhookEndpoint, "webhook_endpoints", url="http://127.0.0.1:1/", enabled_events=["*"])
        now = json.load(urllib.request.urlopen(f"{self.base}/_sandbox/clock"))["now"]
        clock = create(stripe.test_helpers.TestClock, "test_helpers/test_clocks", frozen_time=now, name="Judge")
        clocked = create(stripe.Customer, "customers", test_clock=clock, payment_method="pm_card_visa")
        create(stripe.Subscription, "subscriptions", customer=clocked, items=[{"price": "price_starter_monthly"}],
               trial_period_days=7)
        self.call(stripe.test_helpers.TestClock, "post", f"test_helpers/test_clocks/{clock}/advance", frozen_time=now + 900_000)
        self.list(stripe.billing.MeterEventSummary, f"billing/meters/{meter}/event_summaries", customer=customer,
                  start_time=now - 100, end_time=now + 100)

    def disputed(self):
        """Payments that their owners take back, and how that ends."""
        for token, ends in [("createDispute", ["winning_evidence", "losing_evidence", None]), ("createDisputeInquiry", [None])]:
            for end in ends:
                paid = self.call(stripe.PaymentIntent, "post", "payment_intents", amount=900, currency="usd", confirm=True,
                                 payment_method=f"pm_card_{token}")
                found = self.list(stripe.Dispute, "disputes", payment_intent=paid["id"], expand=["data.charge", "data.payment_intent"])
                place = f"disputes/{found[0]['id']}"
                if end:
                    self.call(stripe.Dispute, "post", place, evidence={"uncategorized_text": end, "customer_name": "Ada"})
                else:
                    self.call(stripe.Dispute, "post", f"{place}/close")
                self.call(stripe.Dispute, "get", place)

    def scheduled(self):
        """Subscriptions that change by themselves: some before our eyes, one while time goes by."""
        customer = self.call(stripe.Customer, "post", "customers", payment_method="pm_card_visa",
                             invoice_settings={"default_payment_method": "pm_card_visa"})["id"]
        phases = [{"items": [{"price": f"price_{tier}_monthly"}], "duration": {"interval": "month"}, "metadata": {"tier": tier}}
                  for tier in ["starter", "professional"]]
        for end in ["release", "cancel", None]:
            made = self.call(stripe.SubscriptionSchedule, "post", "subscription_schedules", customer=customer, start_date="now",
                             phases=phases, end_behavior=end or "cancel", expand=["customer", "subscription"])
            if end:
                self.call(stripe.SubscriptionSchedule, "post", f"subscription_schedules/{made['id']}/{end}")
        begun = self.call(stripe.Subscription, "post", "subscriptions", customer=customer, items=[{"price": "price_starter_monthly"}])
        made = self.call(stripe.SubscriptionSchedule, "post", "subscription_schedules", from_subscription=begun["id"])
        running = {"items": phases[0]["items"], "end_date": made["current_phase"]["end_date"]}
        self.call(stripe.SubscriptionSchedule, "post", f"subscription_schedules/{made['id']}", phases=[running, phases[1]])
        self.call(stripe.Subscription, "get", f"subscriptions/{begun['id']}", expand=["schedule"])
        self.list(stripe.SubscriptionSchedule, "subscription_schedules", customer=customer, expand=["data.phases.items.price"])

    def taxed(self):
        """Invoices with tax in them and tax on top."""
        rates = [self.call(stripe.TaxRate, "post", "tax_rates", display_name="VAT", inclusive=inclusive, percentage="7.375",
                           country="DE", tax_type="vat")["id"] for inclusive in [True, False]]
        self.call(stripe.TaxRate, "post", f"tax_rates/{rates[0]}", metadata={"a": "b"})
        customer = self.call(stripe.Customer, "post", "customers", source="tok_visa", expand=["tax_ids"],
                             tax_id_data=[{"type": "eu_vat", "value": "DE123456789"}])["id"]
        other = self.call(stripe.TaxId, "post", f"customers/{customer}/tax_ids", type="us_ein", value="1", expand=["customer"])
        self.call(stripe.TaxId, "delete", f"customers/{customer}/tax_ids/{other['id']}")
        self.list(stripe.TaxId, f"customers/{customer}/tax_ids")
        self.call(stripe.Subscription, "post", "subscriptions", customer=customer, default_tax_rates=rates[:1],
                  items=[{"price": "price_starter_monthly", "tax_rates": rates[1:]}, {"price": "price_addon_support_monthly"}],
                  expand=["latest_invoice"])
        self.call(stripe.InvoiceItem, "post", "invoiceitems", customer=customer, amount=700, currency="usd", tax_rates=rates)
        draft = self.call(stripe.Invoice, "post", "invoices", customer=customer, default_tax_rates=rates[:1],
                          pending_invoice_items_behavior="include")
        self.list(stripe.InvoiceLineItem, f"invoices/{draft['id']}/lines")

    def time(self):
        """Half a year goes by; then every event and everything that it tells of is judged."""
        for days in [0, 30, 30, 30, 30, 30]:
            forward = json.dumps({"advance": f"{days}d"}).encode()
            request = urllib.request.Request(f"{self.base}/_sandbox/clock", forward, {"content-type": "application/json"})
            urllib.request.urlopen(request).read()
            told = self.list(stripe.Event, "events")
            for event in told:
                self.see(event["data"]["object"], get_object_class("V1", event["data"]["object"]["object"]))
            self.told |= {event["type"] for event in told}


def press(url, form):
    """Sends a form as a browser does, and stays where it leads."""
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None
    try:
        urllib.request.build_opener(Stay).open(urllib.request.Request(url, form))
    except urllib.error.HTTPError as answer:
        if answer.code != 303:
            raise


# Each list, what its rows are, and what can be expanded in them.
LISTS = {
    "customers": (stripe.Customer, "subscriptions sources tax tax_ids invoice_settings.default_payment_method"),
    "products": (stripe.Product, "default_price"),
    "prices": (stripe.Price, "product tiers currency_options"),
    "plans": (stripe.Plan, "product tiers"),
    "coupons": (stripe.Coupon, "applies_to"),
    "subscriptions": (stripe.Subscription, "customer latest_invoice.payments discounts.source.coupon default_payment_method"),
    "invoices": (stripe.Invoice, "customer payments discounts confirmation_secret parent.subscription_details.subscription"),
    "invoice_payments": (stripe.InvoicePayment, "invoice payment.payment_intent"),
    "charges": (stripe.Charge, "customer refunds payment_intent"),
    "refunds": (stripe.Refund, "charge payment_intent"),
    "payment_methods": (stripe.PaymentMethod, "customer"),
    "payment_intents": (stripe.PaymentIntent, "customer latest_charge payment_method"),
}

WRITTEN = {
    "disputes": stripe.Dispute, "tax_rates": stripe.TaxRate, "subscription_schedules": stripe.SubscriptionSchedule, "invoiceitems": stripe.InvoiceItem, "credit_notes": stripe.CreditNote, "promotion_codes": stripe.PromotionCode,
    "checkout/sessions": stripe.checkout.Session, "billing/meters": stripe.billing.Meter, "setup_intents": stripe.SetupIntent,
    "billing_portal/configurations": stripe.billing_portal.Configuration, "webhook_endpoints": stripe.WebhookEndpoint,
    "test_helpers/test_clocks": stripe.test_helpers.TestClock, "subscriptions": stripe.Subscription, "invoices": stripe.Invoice,
    "charges": stripe.Charge, "payment_intents": stripe.PaymentIntent, "invoice_payments": stripe.InvoicePayment,
}

self_test()
if sys.argv[1:] != ["--self-test"]:
    judge = Judge(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "sk_test_judge")
    judge.business()
    judge.made_and_deleted()
    judge.written()
    judge.time()
    for path, cls in WRITTEN.items():
        judge.list(cls, path)
    missing = {"invoice.paid", "customer.subscription.updated", "customer.subscription.deleted", "invoice.payment_failed",
               "checkout.session.completed", "charge.dispute.created", "invoice.upcoming", "subscription_schedule.completed", "customer.subscription.trial_will_end", "charge.succeeded"} - judge.told
    if missing:
        print(f"NOBODY TOLD of {', '.join(sorted(missing))}")
        judge.bad += 1
    print(f"{judge.fit} objects fit, {stripe_types.checks + judge.checks} checks passed")
    if judge.bad:
        print(f"{judge.bad} did not")
        sys.exit(1)

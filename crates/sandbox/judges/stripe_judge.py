"""The official stripe-python, unchanged, against the sandbox.

usage: stripe_judge.py BASE_URL [KEY]     (the sandbox must hold the seeded business; needs `pip install stripe==16.1.0`)
Prints "N checks passed"; exit status 1 when a check failed, each of which is named.
"""
import http.server
import json
import sys
import threading
import urllib.request
import uuid
from collections import Counter

import stripe

BASE = sys.argv[1].rstrip("/")
KEY = sys.argv[2] if len(sys.argv) > 2 else "sk_test_judge"
passed, failed = 0, []


def client(key=KEY, version=None, retries=0):
    return stripe.StripeClient(key, base_addresses={"api": BASE}, max_network_retries=retries, stripe_version=version).v1


def check(what, good, seen=None):
    global passed
    if good:
        passed += 1
    else:
        failed.append(what)
        print(f"FAILED {what}: {seen!r}")


def same(what, seen, wanted):
    check(what, seen == wanted, (seen, "wanted", wanted))


def refused(what, kind, call, **wanted):
    try:
        seen = call()
    except stripe.StripeError as error:
        same(f"{what}: class", type(error).__name__, kind)
        for name, value in wanted.items():
            got = getattr(error, name, None) if name != "param" else getattr(error, "param", None)
            same(f"{what}: {name}", got, value)
        check(f"{what}: request id", (error.request_id or "").startswith("req_"), error.request_id)
        return error
    check(f"{what}: refused", False, seen)
    return None


def rows(service, **params):
    return list(service.list(params={"limit": 100, **params}).auto_paging_iter())


def seeded(found):
    """Only what the seed planted, so that the judge can be asked twice."""
    return [x for x in found if "_sandbox_" in x.id]


def business(c):
    customers = seeded(rows(c.customers))
    same("150 customers", len(customers), 150)
    same("no customer twice", len({x.id for x in customers}), 150)
    check("newest first", all(a.created >= b.created for a, b in zip(customers, customers[1:])))
    subscriptions = seeded(rows(c.subscriptions))
    same("statuses", dict(Counter(x.status for x in subscriptions)), {"active": 109, "trialing": 10, "past_due": 1})
    same("with canceled", len(seeded(rows(c.subscriptions, status="all"))), 121)
    same("ended", [x.status for x in seeded(rows(c.subscriptions, status="ended"))], ["canceled"])
    monthly = Counter()
    for x in subscriptions:
        for item in x["items"].data:
            amount = item.price.unit_amount * item.quantity
            assert item.price.recurring is not None
            monthly[x.currency] += amount // 12 if item.price.recurring.interval == "year" else amount
    same("monthly value", dict(monthly), {"usd": 499000, "jpy": 7000})
    same("two items", sum(len(x["items"].data) == 2 for x in subscriptions), 1)
    ada = rows(c.customers, email="ada@example.com")
    same("ada", [x.id for x in ada], ["cus_sandbox_user"])
    charges = seeded(rows(c.charges))
    same("charges", dict(Counter(x.status for x in charges))["failed"], 1)
    same("refunded", sum(x.refunded for x in charges), 1)
    kinds = Counter(x.type for x in rows(c.payment_methods))
    check("bank debits", kinds["us_bank_account"] >= 1 and kinds["sepa_debit"] >= 1, kinds)
    for name in ["products", "prices", "plans", "coupons", "invoices", "invoice_payments", "refunds", "payment_intents"]:
        check(f"list of {name}", len(rows(getattr(c, name))) > 0)
    same("no history", rows(c.events), [])
    same("account", c.accounts.retrieve_current().object, "account")
    items = c.subscription_items.list(params={"subscription": "sub_sandbox_user"}).data
    same("items", [x.price.id for x in items], ["price_professional_monthly"])
    same("lines", c.invoices.line_items.list("in_sandbox_user_1").data[0].amount, 4900)


def pages(c):
    forward = [x.id for x in rows(c.invoices)]
    first = c.invoices.list(params={"limit": 7})
    second = c.invoices.list(params={"limit": 7, "starting_after": first.data[-1].id})
    same("forward", [x.id for x in first.data + second.data], forward[:14])
    back = c.invoices.list(params={"limit": 7, "ending_before": second.data[0].id})
    same("backward", [x.id for x in back.data], [x.id for x in first.data])
    same("backward has more", (first.has_more, back.has_more), (True, False))
    whole = c.invoices.list(params={"limit": 3, "ending_before": forward[-1]})
    same("backward iteration", sorted(x.id for x in whole.auto_paging_iter()), sorted(forward[:-1]))
    refused("bad cursor", "InvalidRequestError", lambda: c.invoices.list(params={"starting_after": "in_nothing"}),
            http_status=400, code="resource_missing", param="starting_after")
    for limit in [0, 101, -1]:
        refused(f"limit {limit}", "InvalidRequestError", lambda: c.charges.list(params={"limit": limit}),
                http_status=400, code="parameter_invalid_integer", param="limit")
    newest = first.data[0].created
    same("created", {x.created for x in rows(c.invoices, created={"gte": newest})}, {newest})


def errors(c):
    refused("no such customer", "InvalidRequestError", lambda: c.customers.retrieve("cus_nobody"),
            http_status=404, code="resource_missing", param="id")
    refused("no such price", "InvalidRequestError", lambda: c.subscriptions.create(
        params={"customer": "cus_sandbox_user", "items": [{"price": "price_no"}]}),
        http_status=400, code="resource_missing", param="items[0][price]")
    refused("unknown parameter", "InvalidRequestError", lambda: c.customers.create(params={"nmae": "x"}),
            http_status=400, code="parameter_unknown", param="nmae")
    refused("missing parameter", "InvalidRequestError", lambda: c.products.create(params={}),
            http_status=400, code="parameter_missing", param="name")
    refused("bad key", "AuthenticationError", lambda: client("sk_live_nope").customers.list(), http_status=401)
    refused("bad version", "InvalidRequestError", lambda: client(version="yesterday").customers.list(), http_status=400)
    refused("bad path of expand", "InvalidRequestError",
            lambda: c.customers.list(params={"expand": ["data.email"]}), http_status=400)
    refused("five levels", "InvalidRequestError",
            lambda: c.subscriptions.list(params={"expand": ["data.items.data.price.product"]}),
            http_status=400, code="property_expansion_max_depth")


def expansions(c):
    found = c.subscriptions.retrieve("sub_sandbox_user", params={"expand": [
        "customer", "latest_invoice.payments.data", "items.data.price.product", "default_payment_method"]})
    same("customer", found.customer.email, "ada@example.com")
    same("product", found["items"].data[0].price.product.metadata["tier"], "professional")
    payment = found.latest_invoice.payments.data[0].payment
    intent = c.payment_intents.retrieve(payment.payment_intent, params={"expand": ["latest_charge.refunds", "payment_method"]})
    same("charge", (intent.latest_charge.amount, intent.payment_method.card.last4), (4900, "4242"))
    same("refunds", intent.latest_charge.refunds.data, [])
    by_intent = c.invoice_payments.list(params={"payment": {"type": "payment_intent", "payment_intent": intent.id}})
    same("invoice of an intent", by_intent.data[0].invoice, found.latest_invoice.id)
    customer = c.customers.retrieve("cus_sandbox_user", params={"expand": [
        "subscriptions", "invoice_settings.default_payment_method"]})
    same("subscriptions", customer.subscriptions.data[0].id, "sub_sandbox_user")
    same("default method", customer.invoice_settings.default_payment_method.card.brand, "visa")
    lists = c.charges.list(params={"customer": "cus_sandbox_user", "expand": ["data.customer", "data.payment_intent"]})
    same("in lists", {x.customer.id for x in lists.data}, {"cus_sandbox_user"})


def life(c):
    product = c.products.create(params={"name": "Judge's gown", "metadata": {"tier": "starter"}})
    price = c.prices.create(params={"product": product.id, "currency": "usd", "unit_amount": 1250,
                                    "recurring": {"interval": "month"}})
    same("price", (price.unit_amount, price.recurring.interval, price.type), (1250, "month", "recurring"))
    same("plan of the price", c.plans.retrieve(price.id).amount, 1250)
    customer = c.customers.create(params={"email": "judge@example.com", "name": "Judge", "metadata": {"a": "1", "b": "2"}})
    customer = c.customers.update(customer.id, params={"metadata": {"a": "", "c": "3"}, "phone": "+1 555"})
    same("metadata is merged", dict(customer.metadata.to_dict()), {"b": "2", "c": "3"})
    refused("nothing to pay with", "InvalidRequestError", lambda: c.subscriptions.create(
        params={"customer": customer.id, "items": [{"price": price.id}]}), code="resource_missing")
    method = c.payment_methods.attach("pm_card_mastercard", params={"customer": customer.id})
    same("attached", (method.customer, method.card.brand), (customer.id, "mastercard"))
    c.customers.update(customer.id, params={"invoice_settings": {"default_payment_method": method.id}})
    coupon = c.coupons.create(params={"percent_off": 20, "duration": "repeating", "duration_in_months": 3})
    made = c.subscriptions.create(params={
        "customer": customer.id, "items": [{"price": price.id, "quantity": 2}], "discounts": [{"coupon": coupon.id}],
        "metadata": {"tier": "starter"}, "expand": ["latest_invoice.payments", "discounts.source.coupon"]})
    same("active", made.status, "active")
    same("invoice", (made.latest_invoice.status, made.latest_invoice.subtotal, made.latest_invoice.total), ("paid", 2500, 2000))
    same("discount", made.discounts[0].source.coupon.percent_off, 20)
    same("coupon is counted", c.coupons.retrieve(coupon.id).times_redeemed, 1)
    intent = c.payment_intents.retrieve(made.latest_invoice.payments.data[0].payment.payment_intent)
    charge = c.charges.retrieve(intent.latest_charge)
    same("charge", (charge.amount, charge.status, charge.customer), (2000, "succeeded", customer.id))
    refund = c.refunds.create(params={"charge": charge.id, "amount": 500, "reason": "requested_by_customer"})
    same("partial refund", (refund.status, c.charges.retrieve(charge.id).amount_refunded), ("succeeded", 500))
    c.refunds.create(params={"payment_intent": intent.id})
    same("full refund", c.charges.retrieve(charge.id).refunded, True)
    refused("refund of nothing", "InvalidRequestError", lambda: c.refunds.create(params={"charge": charge.id}),
            code="charge_already_refunded")
    item = made["items"].data[0]
    changed = c.subscriptions.update(made.id, params={"items": [{"id": item.id, "quantity": 5}], "cancel_at_period_end": True,
                                                      "proration_behavior": "none"})
    same("changed", (changed["items"].data[0].quantity, changed.cancel_at_period_end), (5, True))
    same("ended", c.subscriptions.cancel(made.id).status, "canceled")
    same("not listed", c.subscriptions.list(params={"customer": customer.id}).data, [])
    same("listed", len(c.subscriptions.list(params={"customer": customer.id, "status": "canceled"}).data), 1)
    trial = c.subscriptions.create(params={"customer": customer.id, "items": [{"price": price.id}], "trial_period_days": 7,
                                           "expand": ["latest_invoice"]})
    same("trial", (trial.status, trial.latest_invoice.total, trial.latest_invoice.status), ("trialing", 0, "paid"))
    same("methods", len(c.customers.payment_methods.list(customer.id, params={"type": "card"}).data), 1)
    same("detached", c.payment_methods.detach(method.id).customer, None)
    same("deleted", c.customers.delete(customer.id).deleted, True)
    same("gone", c.customers.retrieve(customer.id).deleted, True)
    same("its trial ended", c.subscriptions.retrieve(trial.id).status, "canceled")
    same("coupon deleted", c.coupons.delete(coupon.id).deleted, True)
    refused("product in use", "InvalidRequestError", lambda: c.products.delete(product.id))


def declines(c):
    customer = c.customers.create(params={"email": "declined@example.com"})
    method = c.payment_methods.attach("pm_card_chargeCustomerFail", params={"customer": customer.id})
    params = {"customer": customer.id, "items": [{"price": "price_starter_monthly"}], "default_payment_method": method.id}
    made = c.subscriptions.create(params={**params, "expand": ["latest_invoice.confirmation_secret"]})
    same("incomplete", (made.status, made.latest_invoice.status), ("incomplete", "open"))
    check("secret", "_secret_" in made.latest_invoice.confirmation_secret.client_secret)
    refused("declined", "CardError", lambda: c.subscriptions.create(params={**params, "payment_behavior": "error_if_incomplete"}),
            http_status=402, code="card_declined")
    refused("declined when attached", "CardError", lambda: c.payment_methods.attach(
        "pm_card_chargeDeclined", params={"customer": customer.id}), http_status=402)
    refused("charge declined", "CardError", lambda: c.charges.create(
        params={"amount": 100, "currency": "usd", "source": "tok_chargeDeclined"}), code="card_declined")
    same("charge", c.charges.create(params={"amount": 100, "currency": "usd", "source": "tok_visa"}).paid, True)


def idempotency(c):
    key = str(uuid.uuid4())
    first = c.customers.create(params={"name": "Once"}, options={"idempotency_key": key})
    again = c.customers.create(params={"name": "Once"}, options={"idempotency_key": key})
    same("one customer", first.id, again.id)
    same("replayed", again.last_response.headers.get("Idempotent-Replayed"), "true")
    same("original request", again.last_response.headers.get("Original-Request"), first.last_response.request_id)
    refused("other parameters", "IdempotencyError",
            lambda: c.customers.create(params={"name": "Twice"}, options={"idempotency_key": key}), http_status=400)
    refused("a bad request is not kept", "InvalidRequestError",
            lambda: c.customers.create(params={"email": "nobody"}, options={"idempotency_key": key + "b"}), code="email_invalid")
    kept = c.customers.create(params={"email": "some@example.com"}, options={"idempotency_key": key + "b"})
    same("so the key is free", kept.email, "some@example.com")


def ages():
    old = client(version="2025-02-24.acacia")
    found = old.subscriptions.retrieve("sub_sandbox_user", params={"expand": ["latest_invoice.payment_intent.latest_charge.invoice"]})
    seen = found.to_dict()
    check("period on the subscription", seen["current_period_end"] > seen["current_period_start"])
    check("not on the item", "current_period_end" not in seen["items"]["data"][0])
    same("plan", (seen["plan"]["amount"], seen["quantity"]), (4900, 1))
    invoice = seen["latest_invoice"]
    same("invoice", (invoice["paid"], invoice["subscription"], invoice["tax"]), (True, "sub_sandbox_user", None))
    same("intent", invoice["payment_intent"]["invoice"], invoice["id"])
    same("charge", invoice["payment_intent"]["latest_charge"]["invoice"]["id"], invoice["id"])
    line = invoice["lines"]["data"][0]
    same("line", (line["price"]["id"], line["plan"]["amount"], line["type"]), ("price_professional_monthly", 4900, "subscription"))
    discount = old.subscriptions.retrieve("sub_sandbox_061").to_dict()["discount"]
    same("discount", discount["coupon"]["id"], "FOUNDING20")
    older = client(version="2020-08-27").charges.list(params={"limit": 1}).data[0].to_dict()
    same("refunds in charges", older["refunds"]["object"], "list")
    basil = client(version="2025-03-31.basil").subscriptions.retrieve(
        "sub_sandbox_061", params={"expand": ["discounts"]}).to_dict()
    same("coupon between", basil["discounts"][0]["coupon"]["id"], "FOUNDING20")
    check("period between", "current_period_end" in basil["items"]["data"][0] and "current_period_end" not in basil)


class Hook(http.server.BaseHTTPRequestHandler):
    """A webhook endpoint as stripe-python's documentation has it: the raw body goes into the official check."""
    secrets, events, refused, statuses = [], [], [], []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status = Hook.statuses.pop(0) if Hook.statuses else 200
        try:
            event = stripe.Webhook.construct_event(body, self.headers["stripe-signature"], Hook.secrets[0])
            if status == 200:
                Hook.events.append(event)
        except stripe.SignatureVerificationError as error:
            Hook.refused.append(str(error))
        try:
            stripe.Webhook.construct_event(body.replace(b"evt_", b"evt-"), self.headers["stripe-signature"], Hook.secrets[0])
            failed.append("an altered body was taken")
        except stripe.SignatureVerificationError:
            pass
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def own(path, **body):
    request = urllib.request.Request(f"{BASE}/_sandbox/{path}", json.dumps(body).encode(), {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request))


def hooks(c):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = c.webhook_endpoints.create(params={"url": f"http://127.0.0.1:{server.server_port}/hook", "enabled_events": ["*"]})
    Hook.secrets.append(endpoint.secret)
    Hook.statuses.append(500)
    customer = c.customers.create(params={"email": "hook@example.com", "payment_method": "pm_card_visa"})
    card = c.customers.payment_methods.list(customer.id).data[0].id
    made = c.subscriptions.create(params={"customer": customer.id, "items": [{"price": "price_starter_monthly"}],
                                          "default_payment_method": card, "trial_period_days": 7})
    own("clock", advance="8d")
    own("clock", advance="31d")
    same("refused signatures", Hook.refused, [])
    mine = [x for x in Hook.events if x.data.object.to_dict().get("customer") == customer.id]
    told = {x.type for x in mine}
    for name in ["customer.subscription.created", "customer.subscription.trial_will_end", "customer.subscription.updated",
                 "invoice.created", "invoice.finalized", "invoice.paid", "charge.succeeded", "payment_intent.succeeded"]:
        check(f"told of {name}", name in told)
    check("the first one came again", any(x.type == "customer.created" and x.data.object.id == customer.id for x in Hook.events))
    same("renewed", c.subscriptions.retrieve(made.id).status, "active")
    paid = [x.data.object.amount_paid for x in mine if x.type == "invoice.paid"]
    same("paid", sorted(paid), [0, 1900, 1900])
    listed = [x.id for x in c.events.list(params={"type": "invoice.paid", "limit": 100}).auto_paging_iter()]
    check("the list has them", {x.id for x in mine if x.type == "invoice.paid"} & set(listed))
    same("nothing waits", c.events.list(params={"delivery_success": False}).data, [])
    c.webhook_endpoints.update(endpoint.id, params={"disabled": True})
    before = len(Hook.events)
    c.customers.update(customer.id, params={"name": "Quiet"})
    own("clock", advance="1h")
    same("disabled", len(Hook.events), before)
    same("gone", c.webhook_endpoints.delete(endpoint.id).deleted, True)


def clocks(c):
    start = json.load(urllib.request.urlopen(f"{BASE}/_sandbox/clock"))["now"]
    clock = c.test_helpers.test_clocks.create(params={"frozen_time": start, "name": "Judge"})
    customer = c.customers.create(params={"test_clock": clock.id, "payment_method": "pm_card_visa"})
    card = c.customers.payment_methods.list(customer.id).data[0].id
    made = c.subscriptions.create(params={"customer": customer.id, "items": [{"price": "price_professional_monthly"}],
                                          "default_payment_method": card})
    c.test_helpers.test_clocks.advance(clock.id, params={"frozen_time": start + 40 * 86400})
    same("ready", c.test_helpers.test_clocks.retrieve(clock.id).status, "ready")
    same("two invoices", [x.status for x in c.invoices.list(params={"subscription": made.id}).data], ["paid", "paid"])
    same("clock deleted", c.test_helpers.test_clocks.delete(clock.id).deleted, True)


def writes(c):
    customer = c.customers.create(params={"email": "writes@example.com", "payment_method": "pm_card_visa"})
    card = c.customers.payment_methods.list(customer.id).data[0].id
    c.customers.update(customer.id, params={"invoice_settings": {"default_payment_method": card}})
    c.invoice_items.create(params={"customer": customer.id, "amount": 700, "currency": "usd"})
    draft = c.invoices.create(params={"customer": customer.id, "pending_invoice_items_behavior": "include"})
    same("draft", (draft.status, draft.total), ("draft", 700))
    same("open", c.invoices.finalize_invoice(draft.id).status, "open")
    same("paid", c.invoices.pay(draft.id).status, "paid")
    refused("paid twice", "InvalidRequestError", lambda: c.invoices.pay(draft.id), code=None)
    note = c.credit_notes.create(params={"invoice": draft.id, "amount": 200, "refund_amount": 200})
    same("credited", (note.type, note.refunds[0].amount_refunded), ("post_payment", 200))
    made = c.subscriptions.create(params={"customer": customer.id, "items": [{"price": "price_starter_monthly"}]})
    items = [{"id": made["items"].data[0].id, "price": "price_enterprise_monthly"}]
    ahead = c.invoices.create_preview(params={"subscription": made.id, "subscription_details": {"items": items}})
    changed = c.subscriptions.update(made.id, params={"items": items, "proration_behavior": "always_invoice", "expand": ["latest_invoice"]})
    same("prorated", changed.latest_invoice.total, 9900 - 1900)
    same("as was foreseen", ahead.total, 9900 + 9900 - 1900)
    refused("old anchor", "InvalidRequestError", lambda: c.subscriptions.update(made.id, params={"billing_cycle_anchor": "now"}),
            param="billing_cycle_anchor")
    intent = c.payment_intents.create(params={"amount": 500, "currency": "usd", "confirm": True, "payment_method": "pm_card_authenticationRequired"})
    same("the bank asks", (intent.status, intent.next_action.type), ("requires_action", "redirect_to_url"))
    refused("declined", "CardError", lambda: c.payment_intents.create(params={
        "amount": 500, "currency": "usd", "confirm": True, "payment_method": "pm_card_visa_chargeDeclinedLostCard"}),
        http_status=402, code="card_declined")
    session = c.checkout.sessions.create(params={"mode": "subscription", "success_url": "https://example.com",
                                                 "line_items": [{"price": "price_starter_monthly", "quantity": 1}]})
    same("checkout", (session.status, session.url.startswith(BASE)), ("open", True))
    portal = c.billing_portal.sessions.create(params={"customer": customer.id})
    check("portal", portal.url.startswith(BASE))
    c.billing.meters.create(params={"display_name": "Calls", "event_name": "judged", "default_aggregation": {"formula": "count"}})
    event = c.billing.meter_events.create(params={"event_name": "judged", "payload": {"stripe_customer_id": customer.id}})
    same("metered", event.event_name, "judged")


for part in [business, pages, errors, expansions]:
    part(client())
ages()
for part in [life, declines, idempotency, writes, clocks, hooks]:
    part(client())
print(f"{passed} checks passed")
if failed:
    print(f"{len(failed)} checks failed")
    sys.exit(1)

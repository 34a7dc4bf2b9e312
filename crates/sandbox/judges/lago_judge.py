"""The official lago-python-client, unchanged, against the Lago sandbox.

usage: lago_judge.py BASE_URL [KEY]                                  (everything; needs `pip install lago-python-client==1.55.0`)
       lago_judge.py --events-only BASE_URL KEY SUBSCRIPTION CODE    (events and batches of a subscription that exists)
Prints "N checks passed"; exit status 1 when a check failed, each of which is named.
"""
import base64
import hashlib
import hmac
import json
import sys
import threading
import time
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer

from lago_python_client.client import Client
from lago_python_client.exceptions import LagoApiError, LagoRateLimitError
from lago_python_client.models import (
    BatchEvent, BillableMetric, BillableMetricFilter, BillableMetricFilters, Charge, Charges, Customer, Event, Invoice, Plan,
    Subscription, Tax, Wallet, WalletTransaction, WebhookEndpoint,
)

EVENTS_ONLY = sys.argv[1] == "--events-only"
WORDS = sys.argv[2:] if EVENTS_ONLY else sys.argv[1:]
BASE = WORDS[0].rstrip("/")
KEY = WORDS[1] if len(WORDS) > 1 else "judge"
RUN = uuid.uuid4().hex[:8]
HMAC_KEY = b"sandbox-hmac-key"
passed, failed = 0, []


def check(what, good, seen=None):
    global passed
    if good:
        passed += 1
    else:
        failed.append(what)
        print(f"FAILED {what}: {seen!r}")


def same(what, seen, wanted):
    check(what, seen == wanted, (seen, "wanted", wanted))


def refused(what, status, details, call, code="validation_errors"):
    """The client raises, with this status and these details."""
    try:
        seen = call()
    except LagoApiError as error:
        same(f"{what}: status", error.status_code, status)
        if status not in (401, 429):
            same(f"{what}: code", error.response.get("code"), code)
        if details is not None:
            same(f"{what}: details", error.response.get("error_details"), details)
        return error
    check(f"{what}: refused", False, seen)
    return None


def client(key=KEY):
    return Client(api_key=key, api_url=BASE)


def control(path, body):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + "/_sandbox/" + path, data=data, headers={"Content-Type": "application/json"},
                                     method="DELETE" if body is None else "POST")
    return json.load(urllib.request.urlopen(request, timeout=10))


def fresh(what):
    return f"{what}-{RUN}-{uuid.uuid4().hex[:12]}"


DOUBLE = {"transaction_id": ["value_already_exist"]}


def events(c, subscription, code):
    """Single events, batches, and what comes twice. Returns how many units and events must count now."""
    def event(transaction_id, units="1", **more):
        return Event(transaction_id=transaction_id, external_subscription_id=subscription, code=code,
                     timestamp=f"{time.time():.3f}", properties={"units": units}, **more)

    first = event(fresh("single"), "2.5")
    made = c.events.create(first)
    same("echoed id", made.transaction_id, first.transaction_id)
    same("echoed subscription", made.external_subscription_id, subscription)
    same("echoed code", made.code, code)
    same("echoed properties", made.properties["units"], "2.5")
    sent = datetime.fromtimestamp(float(first.timestamp), timezone.utc)
    same("timestamp to the millisecond", made.timestamp, sent.strftime("%Y-%m-%dT%H:%M:%S.") + f"{sent.microsecond // 1000:03d}Z")
    same("no customer id", (made.lago_customer_id, made.lago_subscription_id), (None, None))
    refused("the same event again", 422, DOUBLE, lambda: c.events.create(first))
    refused("a time in words", 422, {"timestamp": ["invalid_format"]},
            lambda: c.events.create(Event(transaction_id=fresh("bad"), external_subscription_id=subscription, code=code,
                                          timestamp="2026-11-22T10:00:00Z", properties={"units": "1"})))
    refused("no id", 422, {"transaction_id": ["value_is_mandatory"]}, lambda: c.events.create(event("")))
    integer = c.events.create(Event(transaction_id=fresh("integer"), external_subscription_id=subscription, code=code,
                                    timestamp=int(time.time()) + 1, properties={"units": 1}))
    check("whole seconds", integer.timestamp.endswith(".000Z"), integer.timestamp)

    batch = [event(fresh("batch")) for _ in range(100)]
    same("a batch says nothing", c.events.batch_create(BatchEvent(events=batch)), None)
    refused("the same batch again", 422, {str(n): DOUBLE for n in range(100)}, lambda: c.events.batch_create(BatchEvent(events=batch)))
    mixed = [event(fresh("mixed")), batch[7], event(fresh("mixed"))]
    refused("a batch with one double", 422, {"1": DOUBLE}, lambda: c.events.batch_create(BatchEvent(events=mixed)))
    c.events.batch_create(BatchEvent(events=[mixed[0], mixed[2]]))
    twin = event(fresh("twin"))
    refused("an id twice in one batch", 422, {"1": DOUBLE}, lambda: c.events.batch_create(BatchEvent(events=[twin, twin])))
    refused("101 events", 422, {"events": ["too_many_events"]},
            lambda: c.events.batch_create(BatchEvent(events=[event(fresh("many")) for _ in range(101)])))
    refused("no events", 422, {"events": ["no_events"]}, lambda: c.events.batch_create(BatchEvent(events=[])))
    if EVENTS_ONLY:  # a sandbox may be one that takes any key
        refused("a wrong key", 401, None, lambda: client("wrong").events.create(event(fresh("key"))))
    return 2.5 + 1 + 100 + 2, 104, first.transaction_id


def catalogue(c, code):
    metric = c.billable_metrics.create(BillableMetric(name="API", code=code, aggregation_type="sum_agg", field_name="units", recurring=False))
    same("metric", (metric.code, metric.aggregation_type, metric.field_name), (code, "sum_agg", "units"))
    again = BillableMetric(name="API", code=code, aggregation_type="sum_agg", field_name="units")
    refused("a metric twice", 422, {"code": ["value_already_exist"]}, lambda: c.billable_metrics.create(again))
    same("metric found", c.billable_metrics.find(code).lago_id, metric.lago_id)
    filters = BillableMetricFilters(__root__=[BillableMetricFilter(key="region", values=["eu", "us"])])
    counted = c.billable_metrics.create(BillableMetric(name="GPU", code=f"gpu-{code}", aggregation_type="count_agg", filters=filters))
    same("filters", [(f.key, f.values) for f in counted.filters.__root__], [("region", ["eu", "us"])])
    ranges = [{"from_value": 0, "to_value": 100, "per_unit_amount": "0.01", "flat_amount": "0"},
              {"from_value": 101, "to_value": None, "per_unit_amount": "0.005", "flat_amount": "1"}]
    charge = Charge(billable_metric_id=metric.lago_id, charge_model="graduated", properties={"graduated_ranges": ranges})
    plan = Plan(name="Pro", code=f"pro-{code}", interval="monthly", amount_cents=4900, amount_currency="USD", pay_in_advance=False,
                charges=Charges(__root__=[charge]))
    made = c.plans.create(plan)
    same("plan", (made.code, made.amount_cents, made.charges.__root__[0].properties["graduated_ranges"][0]["per_unit_amount"]), (plan.code, 4900, "0.01"))
    refused("a plan twice", 422, {"code": ["value_already_exist"]}, lambda: c.plans.create(plan))
    unknown = plan.copy(update={"code": fresh("p"), "charges": Charges(__root__=[charge.copy(update={"billable_metric_id": str(uuid.uuid4())})])})
    refused("an unknown metric", 404, None, lambda: c.plans.create(unknown), code="billable_metrics_not_found")
    same("plan found", c.plans.find(plan.code).lago_id, made.lago_id)
    check("lists", {plan.code} <= {p.code for p in c.plans.find_all()["plans"]})
    return plan.code


def people(c, plan_code):
    customer_id, subscription_id = fresh("customer"), fresh("subscription")
    first = c.customers.create(Customer(external_id=customer_id, name="Ada", email="ada@example.com", currency="USD"))
    second = c.customers.create(Customer(external_id=customer_id, name="Ada L."))
    same("one customer", first.lago_id, second.lago_id)
    same("found", c.customers.find(customer_id).name, "Ada L.")
    refused("an unknown customer", 404, None, lambda: c.customers.find(fresh("nobody")), code="customer_not_found")
    refused("a wrong currency", 422, {"currency": ["value_is_invalid"]},
            lambda: c.customers.create(Customer(external_id=fresh("c"), currency="XYZ")))
    since = (datetime.now(timezone.utc) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    ask = Subscription(external_customer_id=customer_id, plan_code=plan_code, external_id=subscription_id, subscription_at=since)
    made = c.subscriptions.create(ask)
    same("subscription", (made.status, made.plan_code, made.started_at), ("active", plan_code, since))
    same("the same again is the same", c.subscriptions.create(ask).lago_id, made.lago_id)
    same("subscription found", c.subscriptions.find(subscription_id).lago_id, made.lago_id)
    listed = c.subscriptions.find_all({"external_customer_id": customer_id})
    same("one of them", (listed["meta"]["total_count"], [s.external_id for s in listed["subscriptions"]]), (1, [subscription_id]))
    refused("an unknown plan", 404, None, lambda: c.subscriptions.create(ask.copy(update={"plan_code": "none"})), code="plan_not_found")
    refused("somebody else's", 422, {"external_id": ["value_already_exist"]},
            lambda: c.subscriptions.create(ask.copy(update={"external_customer_id": fresh("thief")})))
    return customer_id, subscription_id


def usage(c, customer_id, subscription_id, units, count):
    seen = c.customers.current_usage(customer_id, subscription_id)
    line = seen.charges_usage.__root__[0] if hasattr(seen.charges_usage, "__root__") else seen.charges_usage[0]
    same("units", line.units, str(units))
    same("events", line.events_count, count)
    # 100 at a cent, five and a half at half a cent, and a dollar for the second range: 2.0275, rounded once.
    same("amount", (line.amount_cents, seen.amount_cents, seen.currency), (203, 203, "USD"))
    refused("usage of nobody", 404, None, lambda: c.customers.current_usage(fresh("nobody"), subscription_id), code="customer_not_found")
    refused("usage of no subscription", 405, None, lambda: c.customers.current_usage(customer_id, fresh("none")), code="no_active_subscription")
    past = c.customers.past_usage(customer_id, subscription_id)
    same("nothing is over", past["usage_periods"], [])


def found_by_id(c, transaction_id):
    same("event found", c.events.find(transaction_id).transaction_id, transaction_id)
    refused("an unknown event", 404, None, lambda: c.events.find(fresh("none")), code="event_not_found")


def wallets(c, customer_id):
    wallet = c.wallets.create(Wallet(external_customer_id=customer_id, rate_amount="0.5", currency="USD", name="Credits", granted_credits="10"))
    same("before the job", (wallet.credits_balance, wallet.rate_amount), ("0.0", "0.5"))
    same("after the job", c.wallets.find(wallet.lago_id).credits_balance, "10.0")
    ask = WalletTransaction(wallet_id=wallet.lago_id, paid_credits="4", granted_credits="1", metadata=[{"key": "ours", "value": RUN}])
    made = c.wallet_transactions.create(ask)
    made = made.__root__ if hasattr(made, "__root__") else made["wallet_transactions"] if isinstance(made, dict) else made
    same("paid waits, granted is there", [(t.transaction_status, t.status) for t in made], [("purchased", "pending"), ("granted", "settled")])
    invoice = c.invoices.find(made[0].lago_invoice_id)
    same("what it costs", (invoice.invoice_type, invoice.total_amount_cents, invoice.payment_status), ("credit", 200, "pending"))
    c.invoices.update(Invoice(payment_status="succeeded"), invoice.lago_id)
    same("paid", c.wallets.find(wallet.lago_id).credits_balance, "15.0")
    refused("too much", 422, {"voided_credits": ["insufficient_credits"]},
            lambda: c.wallet_transactions.create(WalletTransaction(wallet_id=wallet.lago_id, voided_credits="100")))
    refused("nobody's wallet", 422, {"customer": ["customer_not_found"]},
            lambda: c.wallets.create(Wallet(external_customer_id=fresh("nobody"), rate_amount="1", currency="USD")))
    same("terminated", c.wallets.destroy(wallet.lago_id).status, "terminated")


def webhooks(c):
    heard, arrived = [], threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            arrived.set()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/hooks"
    endpoint = c.webhook_endpoints.create(WebhookEndpoint(webhook_url=url, signature_algo="hmac", name="judge", event_types=["customer.created"]))
    same("endpoint", (endpoint.signature_algo, endpoint.event_types), ("hmac", ["customer.created"]))
    c.customers.create(Customer(external_id=fresh("told"), name="<A&B>"))
    check("told", arrived.wait(10))
    headers, body = heard[0]
    wanted = base64.b64encode(hmac.new(HMAC_KEY, body, hashlib.sha256).digest()).decode()
    same("signature over the raw bytes", headers["X-Lago-Signature"], wanted)
    message = json.loads(body)
    same("message", (message["webhook_type"], message["object_type"], message["customer"]["name"]), ("customer.created", "customer", "<A&B>"))
    check("public key", c.webhooks.public_key().startswith(b"-----BEGIN PUBLIC KEY-----"))
    c.webhook_endpoints.destroy(endpoint.lago_id)
    server.shutdown()


def trouble(c, subscription_id, code):
    def event():
        return Event(transaction_id=fresh("trouble"), external_subscription_id=subscription_id, code=code, timestamp=int(time.time()), properties={"units": "0"})

    headers = {"x-ratelimit-limit": "500", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}
    control("faults", {"path_prefix": "/api/v1/events", "times": 2, "kind": "status", "status": 429, "headers": headers})
    begun = time.monotonic()
    c.events.create(event())
    check("two waits of a second, as the headers say", 1.8 < time.monotonic() - begun < 15, time.monotonic() - begun)
    control("faults", {"path_prefix": "/api/v1/events", "kind": "status", "status": 429, "headers": headers | {"x-ratelimit-reset": "0"}})
    try:
        Client(api_key=KEY, api_url=BASE, retry_on_rate_limit=False).billable_metrics.find(code)
        c.events.create(event())
        check("a limit that does not end", False)
    except LagoRateLimitError as error:
        same("a limit that does not end", (error.status_code, error.limit, error.reset), (429, 500, 0))
    control("faults", None)
    lost = event()
    control("faults", {"path_prefix": "/api/v1/events", "times": 1, "kind": "commit_then_close"})
    try:
        c.events.create(lost)
        check("a lost answer", False)
    except Exception as error:  # what the client's HTTP library raises is its own affair
        check("a lost answer", not isinstance(error, LagoApiError), error)
    refused("it was stored", 422, DOUBLE, lambda: c.events.create(lost))


def everything():
    c, code = client(), f"api-{RUN}"
    plan_code = catalogue(c, code)
    customer_id, subscription_id = people(c, plan_code)
    units, count, transaction_id = events(c, subscription_id, code)
    usage(c, customer_id, subscription_id, units, count)
    found_by_id(c, transaction_id)
    wallets(c, customer_id)
    webhooks(c)
    trouble(c, subscription_id, code)
    same("ended", c.subscriptions.destroy(subscription_id).status, "terminated")
    tax = c.taxes.create(Tax(name="VAT", code=f"vat-{RUN}", rate=20.0))
    same("tax", (tax.code, tax.rate), (f"vat-{RUN}", 20.0))


if EVENTS_ONLY:
    events(client(), *WORDS[2:4])
else:
    everything()
print(f"{passed} checks passed")
if failed:
    print(f"{len(failed)} checks failed")
    sys.exit(1)

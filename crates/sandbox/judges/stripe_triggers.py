"""What the official Stripe CLI asks for when it is told to trigger an event, and whether that event happens.

usage: stripe_triggers.py BASE_URL [KEY]    (`pip install stripe==16.1.0`, for the types of what is told)

Each trigger of the table is a list of requests, as `stripe trigger NAME` sends them: without a version, with parameters in the
form of several ages. All must be answered as the table says, and an event of that name must tell of one of the objects that
were answered; all of them in the form that the official stripe-python declares for it. Prints "N triggers, M checks passed"; exit status 1 when a check failed, each of which is named.

Two triggers are as Stripe's reference says in place of what the CLI hopes for: a schedule that somebody cancels is canceled and
not aborted, and it is announced to expire seven days before, so its clock goes two days further. Two triggers of the 123 can
be run by nobody who is offline, and stand in OFFLINE with the reason.
"""
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from stripe._object_classes import get_object_class

sys.dont_write_bytecode = True  # nothing is left behind beside the sources
from stripe_types import misfits  # noqa: E402

# What the CLI sends to a host of its own in place of the base that it is given.
OFFLINE = {
    "v1.billing.meter.error_report_triggered": "meter events go to https://meter-events.stripe.com, whatever --api-base says",
    "v1.billing.meter.no_meter_found": "meter events go to https://meter-events.stripe.com, whatever --api-base says",
}

# Beginnings that triggers share. A line is `name = METHOD path parameters -> status`; POST and 200 need not be said, and
# {name} is the id in the answer of that name, {name.member} another member of it.
PARTS = """
customer
    customer = customers description=Judge
payer
    customer = customers payment_method=pm_card_visa invoice_settings[default_payment_method]=pm_card_visa
sourced
    customer = customers source=tok_visa description=Judge
product
    product = products name=Wig description=Horsehair
monthly
    product = products name=Wig
    price = prices product={product} unit_amount=1500 currency=usd recurring[interval]=month
once
    product = products name=Wig
    price = prices product={product} unit_amount=1500 currency=usd
once_eur
    product = products name=Wig
    price = prices product={product} unit_amount=1500 currency=eur
paid
    intent = payment_intents amount=100 currency=usd payment_method_types[]=card payment_method=pm_card_visa confirm=true
refunded
    intent = payment_intents amount=100 currency=usd payment_method_types[]=card payment_method=pm_card_visa confirm=true
    refund = refunds payment_intent={intent}
coupon
    coupon = coupons percent_off=20
couponed
    coupon = coupons percent_off=20
    customer = customers coupon={coupon} description=Judge
promotion
    coupon = coupons percent_off=20
    code = promotion_codes coupon={coupon}
work
    item = invoiceitems amount=2000 currency=usd customer={customer} description=Work
draft
    customer = customers description=Judge
    item = invoiceitems amount=2000 currency=usd customer={customer} description=Work
    invoice = invoices customer={customer} description=Judge pending_invoice_items_behavior=include
open
    invoices/{invoice}/finalize
noted
    note = credit_notes invoice={invoice} lines[0][type]=custom_line_item lines[0][unit_amount]=1000 lines[0][quantity]=1 lines[0][description]=Less
subscribed
    subscription = subscriptions customer={customer} items[0][price]={price}
portal
    portal = billing_portal/configurations business_profile[headline]=Hello business_profile[privacy_policy_url]=https://www.example.com business_profile[terms_of_service_url]=https://www.example.com features[subscription_cancel][enabled]=true
plan
    plan = plans amount=2000 product[name]=Wig currency=usd interval=month
inquired
    intent = payment_intents amount=100 currency=usd payment_method_types[]=card payment_method=pm_card_createDisputeInquiry confirm=true
scheduled
    schedule = subscription_schedules customer={customer} start_date=now phases[0][iterations]=1 phases[0][items][0][price]={price} phases[0][items][0][quantity]=1 phases[1][iterations]=1 phases[1][items][0][price]={price} phases[1][items][0][quantity]=2
rate
    rate = tax_rates display_name=VAT inclusive=true percentage=10 description=Judge
clocked
    clock = test_helpers/test_clocks frozen_time=1577836800 name=Judge
    customer = customers test_clock={clock}
    product = products name=Wig
    price = prices product={product} unit_amount=1500 currency=usd recurring[interval]=month
clock
    clock = test_helpers/test_clocks frozen_time=1577836800 name=Judge
intended
    intent = payment_intents amount=2000 currency=usd description=Judge
attached
    customer = customers description=Judge
    method = payment_methods/pm_card_visa/attach customer={customer}
available
    intent = payment_intents amount=2000 currency=usd payment_method=pm_card_bypassPending payment_method_types[]=card confirm=true
account
    account = accounts type=standard
transferred
    account = accounts
    transfer = transfers destination={account} amount=1000 currency=usd
quoted
    quote = quotes customer={customer} description=Offer line_items[0][price]={price} line_items[0][quantity]=10
accepting
    quotes/{quote}/finalize
linked
    link = payment_links line_items[0][price]={price} line_items[0][quantity]=1
sessioned
    session = identity/verification_sessions type=document options[document][require_matching_selfie]=true return_url=https://stripe.com
holder
    holder = issuing/cardholders name=Ada type=individual individual[first_name]=Ada individual[last_name]=Judge individual[card_issuing][user_terms_acceptance][date]=1470266163 individual[card_issuing][user_terms_acceptance][ip]=91.121.146.224 billing[address][line1]=1+Main+Street billing[address][city]=San+Francisco billing[address][state]=CA billing[address][postal_code]=94111 billing[address][country]=US
holder_gb
    holder = issuing/cardholders name=Ada type=individual phone_number=%2B447700900000 individual[first_name]=Ada individual[last_name]=Judge individual[card_issuing][user_terms_acceptance][date]=1470266163 individual[card_issuing][user_terms_acceptance][ip]=91.121.146.224 billing[address][line1]=1+Old+Street billing[address][city]=London billing[address][state]=London billing[address][postal_code]=EC1V+9NR billing[address][country]=GB
holder_eu
    holder = issuing/cardholders name=Ada type=individual phone_number=%2B34666777888 individual[first_name]=Ada individual[last_name]=Judge individual[card_issuing][user_terms_acceptance][date]=1470266163 individual[card_issuing][user_terms_acceptance][ip]=91.121.146.224 billing[address][line1]=P.+de+la+Castellana+1 billing[address][city]=Madrid billing[address][state]=Madrid billing[address][postal_code]=28046 billing[address][country]=ES
card
    card = issuing/cards currency=usd type=virtual cardholder={holder}
active
    card = issuing/cards currency=usd type=virtual cardholder={holder} status=active
active_gbp
    card = issuing/cards currency=gbp type=virtual cardholder={holder} status=active
active_eur
    card = issuing/cards currency=eur type=virtual cardholder={holder} status=active
spent
    transaction = test_helpers/issuing/transactions/create_force_capture card={card} amount=100 currency=usd
"""

SHIPPING = "shipping[name]=Ada shipping[address][line1]=1+Side+Street shipping[address][postal_code]=94103 " \
    "shipping[address][city]=San+Francisco shipping[address][state]=CA shipping[address][country]=US"
SHIPPED = SHIPPING.replace("shipping[name]", "shipping.name").replace("shipping[", "payment_intent_data[shipping][") \
    .replace("shipping.name", "payment_intent_data[shipping][name]")
OWNER = "billing_details[name]=Ada billing_details[email]=ada@example.com"

TRIGGERS = f"""
account.application.deauthorized: account
    DELETE accounts/{{account}}
account.updated: account
    accounts/{{account}} metadata[foo]=bar
balance.available: available
billing_portal.configuration.created: portal
billing_portal.configuration.updated: portal
    billing_portal/configurations/{{portal}} metadata[foo]=bar
billing_portal.session.created: customer
    billing_portal/sessions customer={{customer}}
cash_balance.funds_available: customer
    test_helpers/customers/{{customer}}/fund_cash_balance amount=1000 currency=usd
charge.captured
    intent = payment_intents payment_method=pm_card_visa payment_method_types[]=card amount=2000 capture_method=manual confirm=true currency=usd
    payment_intents/{{intent}}/capture
charge.dispute.closed: inquired
    disputes = GET disputes payment_intent={{intent}}
    disputes/{{disputes.data.0.id}}/close
charge.dispute.created: inquired
charge.dispute.updated: inquired
    disputes = GET disputes payment_intent={{intent}}
    disputes/{{disputes.data.0.id}} metadata[foo]=bar
charge.failed
    payment_intents payment_method=pm_card_visa_chargeDeclined confirm=true amount=100 currency=usd payment_method_types[]=card -> 402
charge.refund.updated: refunded
    refunds/{{refund}} metadata[order_id]=6735
charge.refunded: refunded
charge.succeeded: paid
checkout.session.async_payment_failed: once_eur
    session = checkout/sessions payment_method_types[]=sepa_debit mode=payment line_items[0][price]={{price}} line_items[0][quantity]=2 payment_intent_data[setup_future_usage]=off_session {SHIPPED} success_url=https://example.com cancel_url=https://example.com
    GET payment_pages/{{session}}
    method = payment_methods type=sepa_debit sepa_debit[iban]=IT60X0542811101000000123456 {OWNER}
    payment_pages/{{session}}/confirm payment_method={{method}} expected_amount=3000
checkout.session.async_payment_succeeded: once_eur
    session = checkout/sessions payment_method_types[]=sepa_debit mode=payment line_items[0][price]={{price}} line_items[0][quantity]=2 payment_intent_data[setup_future_usage]=off_session {SHIPPED} success_url=https://example.com cancel_url=https://example.com
    GET payment_pages/{{session}}
    method = payment_methods type=sepa_debit sepa_debit[iban]=AT611904300234573201 {OWNER}
    payment_pages/{{session}}/confirm payment_method={{method}} expected_amount=3000
checkout.session.completed: once
    session = checkout/sessions success_url=https://example.com cancel_url=https://example.com mode=payment line_items[0][price]={{price}} line_items[0][quantity]=2 {SHIPPED}
    GET payment_pages/{{session}}
    method = payment_methods type=card card[token]=tok_visa {OWNER}
    payment_pages/{{session}}/confirm payment_method={{method}} expected_amount=3000
checkout.session.expired: once
    session = checkout/sessions success_url=https://example.com cancel_url=https://example.com mode=payment line_items[0][price]={{price}} line_items[0][quantity]=2
    checkout/sessions/{{session}}/expire
coupon.created: coupon
coupon.deleted: coupon
    DELETE coupons/{{coupon}}
coupon.updated: coupon
    coupons/{{coupon}} metadata[foo]=bar
credit_note.created: draft open noted
credit_note.updated: draft open noted
    credit_notes/{{note}} metadata[foo]=bar
credit_note.voided: draft open noted
    credit_notes/{{note}}/void
customer.created: customer
customer.deleted: customer
    DELETE customers/{{customer}}
customer.discount.created: couponed
customer.discount.deleted: couponed
    customers/{{customer}} coupon=
customer.discount.updated: couponed
    other = coupons percent_off=30
    customers/{{customer}} coupon={{other}}
customer.source.created: customer
    customers/{{customer}}/sources source=tok_visa
customer.source.updated: customer
    source = customers/{{customer}}/sources source=tok_visa
    customers/{{customer}}/sources/{{source}} metadata[foo]=bar
customer.subscription.created: payer monthly subscribed
customer.subscription.deleted: payer monthly subscribed
    DELETE subscriptions/{{subscription}}
customer.subscription.paused: customer monthly
    subscription = subscriptions customer={{customer}} items[0][price]={{price}} trial_period_days=7 trial_settings[end_behavior][missing_payment_method]=pause
    subscriptions/{{subscription}} trial_end=now
customer.subscription.trial_will_end: customer monthly
    subscriptions customer={{customer}} items[0][price]={{price}} trial_period_days=1
customer.subscription.updated: payer monthly subscribed
    subscriptions/{{subscription}} metadata[foo]=bar
customer.updated: customer
    customers/{{customer}} metadata[foo]=bar
customer_cash_balance_transaction.created: customer
    test_helpers/customers/{{customer}}/fund_cash_balance amount=1000 currency=usd
identity.verification_session.canceled: sessioned
    identity/verification_sessions/{{session}}/cancel
identity.verification_session.created: sessioned
identity.verification_session.redacted: sessioned
    identity/verification_sessions/{{session}}/redact
invoice.created: draft
invoice.deleted: draft
    DELETE invoices/{{invoice}}
invoice.finalized: draft open
invoice.marked_uncollectible: draft open
    invoices/{{invoice}}/mark_uncollectible
invoice.paid: attached work
    invoice = invoices customer={{customer}} pending_invoice_items_behavior=include
    invoices/{{invoice}}/pay payment_method={{method}}
invoice.payment_action_required: customer
    method = payment_methods/pm_card_threeDSecure2Required/attach customer={{customer}}
    invoiceitems amount=2000 currency=usd customer={{customer}}
    invoice = invoices customer={{customer}} pending_invoice_items_behavior=include
    invoices/{{invoice}}/pay payment_method={{method}} -> 402
invoice.payment_failed: customer
    method = payment_methods/pm_card_chargeCustomerFail/attach customer={{customer}}
    invoiceitems amount=2000 currency=usd customer={{customer}}
    invoice = invoices customer={{customer}} pending_invoice_items_behavior=include
    invoices/{{invoice}}/pay payment_method={{method}} -> 402
invoice.payment_succeeded: attached work
    invoice = invoices customer={{customer}} pending_invoice_items_behavior=include
    invoices/{{invoice}}/pay payment_method={{method}}
invoice.sent
    customer = customers email=bob@example.com
    invoiceitems amount=2000 currency=usd customer={{customer}}
    invoice = invoices days_until_due=7 customer={{customer}} pending_invoice_items_behavior=include collection_method=send_invoice
    invoices/{{invoice}}/send
invoice.updated: draft
    invoices/{{invoice}} metadata[foo]=bar
invoice.voided: draft open
    invoices/{{invoice}}/void
invoiceitem.created: customer work
invoiceitem.deleted: customer work
    DELETE invoiceitems/{{item}}
issuing_authorization.request: holder active
    issuing/cards/{{card}}/test/authorizations held_amount=100 authorization_method=online
issuing_authorization.request.eu -> issuing_authorization.request: holder_eu active_eur
    issuing/cards/{{card}}/test/authorizations held_amount=100 held_currency=eur authorization_method=online
issuing_authorization.request.gb -> issuing_authorization.request: holder_gb active_gbp
    issuing/cards/{{card}}/test/authorizations held_amount=100 held_currency=gbp authorization_method=online
issuing_card.created: holder card
issuing_card.created.eu -> issuing_card.created: holder_eu active_eur
issuing_card.created.gb -> issuing_card.created: holder_gb active_gbp
issuing_cardholder.created: holder
issuing_cardholder.created.eu -> issuing_cardholder.created: holder_eu
issuing_cardholder.created.gb -> issuing_cardholder.created: holder_gb
issuing_transaction.created: holder card spent
issuing_transaction.purchase_details_receipt_updated: holder active
    test_helpers/issuing/transactions/create_force_capture card={{card}} amount=100 currency=usd merchant_data[category]=taxicabs_limousines merchant_data[city]=San+Francisco merchant_data[country]=US merchant_data[name]=Rocket+Rides merchant_data[network_id]=1234567890 merchant_data[postal_code]=94111 purchase_details[receipt][0][description]=Ride purchase_details[receipt][0][quantity]=1 purchase_details[receipt][0][unit_cost]=10000
issuing_transaction.updated: holder card spent
    issuing/transactions/{{transaction}} metadata[order_id]=6735
payment_intent.amount_capturable_updated
    payment_intents payment_method_types[]=card return_url=https://example.com amount=2000 confirm=true currency=usd payment_method=pm_card_visa capture_method=manual confirmation_method=manual
payment_intent.canceled: intended
    payment_intents/{{intent}}/cancel cancellation_reason=requested_by_customer
payment_intent.created: intended
payment_intent.partially_funded: customer
    payment_intents amount=20000 currency=jpy customer={{customer}} payment_method_types[]=customer_balance payment_method_data[type]=customer_balance payment_method_options[customer_balance][funding_type]=bank_transfer payment_method_options[customer_balance][bank_transfer][type]=jp_bank_account confirm=true
    test_helpers/customers/{{customer}}/fund_cash_balance amount=10000 currency=jpy
payment_intent.payment_failed
    payment_intents payment_method=pm_card_chargeDeclined payment_method_types[]=card amount=2000 confirm=true currency=usd -> 402
payment_intent.processing
    method = payment_methods type=sepa_debit sepa_debit[iban]=AT321904300235473204 {OWNER}
    payment_intents amount=1000 currency=eur confirm=true mandate_data[customer_acceptance][accepted_at]=1590590577 mandate_data[customer_acceptance][type]=offline payment_method={{method}} payment_method_types[]=sepa_debit
payment_intent.requires_action
    payment_intents payment_method=pm_card_authenticationRequired payment_method_types[]=card amount=2000 currency=usd confirm=true
payment_intent.succeeded
    payment_intents payment_method=pm_card_visa payment_method_types[]=card {SHIPPING} amount=2000 confirm=true currency=usd
payment_link.created: monthly linked
payment_link.updated: monthly linked
    payment_links/{{link}} allow_promotion_codes=true
payment_method.attached: attached
payment_method.detached: attached
    payment_methods/{{method}}/detach
payment_method.updated: customer
    setup = setup_intents customer={{customer}} payment_method=pm_card_visa confirm=true
    payment_methods/{{setup.payment_method}} metadata[foo]=bar
payout.created: available
    payouts amount=1100 currency=usd description=Judge
payout.updated: available
    payout = payouts amount=1100 currency=usd description=Judge
    payouts/{{payout}} metadata[foo]=bar
plan.created: plan
plan.deleted: plan
    DELETE plans/{{plan}}
plan.updated: plan
    plans/{{plan}} metadata[foo]=bar
price.created: monthly
price.updated: monthly
    prices/{{price}} metadata[foo]=bar
product.created: product
product.deleted: product
    DELETE products/{{product}}
product.updated: product
    products/{{product}} metadata[foo]=bar
promotion_code.created: promotion
promotion_code.updated: promotion
    promotion_codes/{{code}} metadata[foo]=bar
quote.accepted: sourced monthly quoted accepting
    quotes/{{quote}}/accept
quote.canceled: sourced monthly quoted
    quotes/{{quote}}/cancel
quote.created: sourced monthly quoted
quote.finalized: sourced monthly quoted accepting
reporting.report_run.succeeded
    reporting/report_runs report_type=balance.summary.1 parameters[interval_start]=1641045832 parameters[interval_end]=1646143432
setup_intent.canceled
    setup = setup_intents payment_method_types[]=card
    setup_intents/{{setup}}/cancel cancellation_reason=requested_by_customer
setup_intent.created
    setup_intents payment_method_types[]=card
setup_intent.requires_action
    setup_intents confirm=true payment_method=pm_card_authenticationRequired
setup_intent.setup_failed
    setup_intents payment_method_types[]=card confirm=true payment_method=pm_card_chargeDeclined -> 402
setup_intent.succeeded
    setup_intents confirm=true payment_method=pm_card_visa payment_method_types[]=card
subscription.payment_failed -> invoice.payment_failed: monthly
    method = payment_methods type=card card[token]=tok_chargeCustomerFail
    customer = customers name=Ada
    payment_methods/{{method}}/attach customer={{customer}}
    customers/{{customer}} invoice_settings[default_payment_method]={{method}}
    subscription = subscriptions customer={{customer}} items[0][price]={{price}}
    GET invoices/{{subscription.latest_invoice}}
subscription.payment_succeeded -> invoice.payment_succeeded: monthly
    method = payment_methods type=card card[token]=tok_visa
    customer = customers name=Ada
    payment_methods/{{method}}/attach customer={{customer}}
    customers/{{customer}} invoice_settings[default_payment_method]={{method}}
    subscription = subscriptions customer={{customer}} items[0][price]={{price}}
    GET invoices/{{subscription.latest_invoice}}
subscription_schedule.aborted -> subscription_schedule.canceled: sourced monthly
    schedule = subscription_schedules customer={{customer}} start_date=1893456000 phases[0][items][0][price]={{price}} phases[0][items][0][quantity]=1
    subscription_schedules/{{schedule}}/cancel prorate=false invoice_now=false
subscription_schedule.canceled: sourced monthly scheduled
    subscription_schedules/{{schedule}}/cancel
subscription_schedule.completed: clocked
    subscription_schedules customer={{customer}} start_date=1577836800 end_behavior=release phases[0][iterations]=1 phases[0][items][0][price]={{price}} phases[0][items][0][quantity]=1
    test_helpers/test_clocks/{{clock}}/advance frozen_time=1580515200
subscription_schedule.created: sourced monthly scheduled
subscription_schedule.expiring: clocked
    subscription_schedules customer={{customer}} start_date=1577836800 end_behavior=cancel phases[0][end_date]=1580256000 phases[0][items][0][price]={{price}} phases[0][items][0][quantity]=1
    test_helpers/test_clocks/{{clock}}/advance frozen_time=1579651200
subscription_schedule.released: sourced monthly scheduled
    subscription_schedules/{{schedule}}/release
subscription_schedule.updated: sourced monthly scheduled
    subscription_schedules/{{schedule}} metadata[foo]=bar
tax_rate.created: rate
tax_rate.updated: rate
    tax_rates/{{rate}} metadata[foo]=bar
test_helpers.test_clock.advancing: clock
    test_helpers/test_clocks/{{clock}}/advance frozen_time=1580515200
test_helpers.test_clock.created: clock
test_helpers.test_clock.deleted: clock
    DELETE test_helpers/test_clocks/{{clock}}
test_helpers.test_clock.ready: clock
    test_helpers/test_clocks/{{clock}}/advance frozen_time=1580515200
topup.created
    topups amount=2000 currency=usd description=Judge
transfer.created: available transferred
transfer.reversed: available transferred
    transfers/{{transfer}}/reversals amount=100
transfer.updated: available transferred
    transfers/{{transfer}} metadata[foo]=bar
"""

# `object` of what an event tells of: the name before its last word, but for these.
KINDS = {"charge.dispute": "dispute", "charge.refund.updated": "refund", "customer.discount": "discount", "customer.subscription": "subscription",
         "customer.source": "card", "account.application": "application", "issuing_authorization": "issuing.authorization",
         "issuing_card": "issuing.card", "issuing_cardholder": "issuing.cardholder", "issuing_transaction": "issuing.transaction"}

# How long an event may take that comes after the answer.
PATIENCE = 10


class Judge:
    def __init__(self, base, key):
        self.base, self.key, self.passed, self.failed, self.asked = base.rstrip("/"), key, 0, 0, set()

    def check(self, what, good, seen=None):
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        if not good:
            print(f"FAILED {what}: {seen!r}")
        return good

    def ask(self, method, path, form=""):
        body = None if method == "GET" else form.encode()
        request = urllib.request.Request(f"{self.base}/v1/{path}", body, {"Authorization": f"Bearer {self.key}"}, method=method)
        try:
            answer = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as refusal:
            answer = refusal
        self.asked.add(answer.headers["request-id"])
        return answer.status, json.load(answer)

    def trigger(self, name, event, lines):
        """Sends the requests of one trigger; then its event must tell of something that they were answered."""
        answers, seen, self.asked = {}, set(), set()
        for line in lines:
            request, _, status = line.partition(" -> ")
            to, method, path, form = step(request, answers)
            got, answer = self.ask(method, path, form)
            if not self.check(f"{name}: {method} {path}", got == int(status or 200), (got, answer)):
                return
            if got == 200:
                self.fits(f"{name}: the form of what {path} answers", answer)
            answers[to] = answer
            seen |= set(ids(answer))
        told = self.told(event, seen)
        if self.check(f"{name}: {event} tells of it", told is not None, sorted(seen)):
            wanted = KINDS.get(event) or KINDS.get(event.rpartition(".")[0]) or event.rpartition(".")[0]
            self.check(f"{name}: what it tells of", told["data"]["object"]["object"] == wanted, told)
            self.fits(f"{name}: its form", told["data"]["object"])
            self.check(f"{name}: retrieved", self.ask("GET", f"events/{told['id']}") == (200, told))

    def fits(self, what, value):
        for one in value["data"] if value["object"] == "list" else [value]:
            wrong = list(misfits(one, get_object_class("V1", one["object"])))
            self.check(what, not wrong, wrong)

    def told(self, name, about):
        end = time.monotonic() + PATIENCE
        while True:
            _, page = self.ask("GET", f"events?type={name}&limit=100")
            fit = [event for event in page["data"]
                   if about & set(ids(event["data"]["object"])) or event["request"]["id"] in self.asked]
            if fit or time.monotonic() > end:
                return fit[0] if fit else None
            time.sleep(0.02)


def step(line, answers):
    """`name = METHOD path parameters` with its references resolved."""
    def refer(match):
        name, _, member = match[1].partition(".")
        found = answers[name]
        for part in (member or "id").split("."):
            found = found[int(part) if part.isdigit() else part]
        return found

    words = re.sub(r"\{([\w.]+)\}", refer, line).split()
    to = words[0] if words[1:2] == ["="] else ""
    words = words[2:] if to else words
    method = words.pop(0) if words[0].isupper() else "POST"
    path, *pairs = words
    pairs = [pair.partition("=")[::2] for pair in pairs]
    form = urllib.parse.urlencode([(name, urllib.parse.unquote_plus(value)) for name, value in pairs])
    return (to, method, f"{path}?{form}", "") if method == "GET" and form else (to, method, path, form)


def ids(value):
    """The ids of everything that an answer names or holds."""
    if isinstance(value, str):
        if re.fullmatch(r"[a-z]+(_[a-z]+)*_\w+|\w{8}", value):
            yield value
    else:
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from ids(inner)


def table(text):
    """Each heading with the lines below it."""
    rows = {}
    for line in text.strip().splitlines():
        if line.startswith(" "):
            rows[heading].append(line.strip())
        else:
            heading = line
            rows[heading] = []
    return rows


judge = Judge(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "sk_test_judge")
parts, triggers = table(PARTS), table(TRIGGERS)
for heading, lines in triggers.items():
    title, _, begun = heading.partition(": ")
    trigger, _, event = title.partition(" -> ")
    judge.trigger(trigger, event or trigger, [line for part in begun.split() for line in parts[part]] + lines)
for trigger, why in OFFLINE.items():
    print(f"not run: {trigger}, because {why}")
print(f"{len(triggers)} triggers, {judge.passed} checks passed")
if judge.failed:
    print(f"{judge.failed} checks failed")
    sys.exit(1)

// The official stripe-node, unchanged, against the sandbox.
//
// usage: node stripe_judge.mjs BASE_URL [KEY]     (the sandbox must hold the seeded business; needs `npm install stripe@23.1.0`)
// Prints "N checks passed"; exit status 1 when a check failed, each of which is named.
import { createRequire } from 'node:module';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { isDeepStrictEqual } from 'node:util';

// The package is looked for where the judge is run, so that nothing has to be installed beside this file.
const loaded = createRequire(`${process.cwd()}/`)('stripe');
const Stripe = loaded.default ?? loaded;
const base = new URL(process.argv[2]);
const key = process.argv[3] ?? 'sk_test_judge';
let passed = 0;
const failed = [];

const client = (options = {}) => new Stripe(options.key ?? key, {
  host: base.hostname, port: Number(base.port), protocol: 'http', telemetry: false, maxNetworkRetries: options.retries ?? 0,
  apiVersion: options.version ?? '2026-09-30.endive',
});

function same(what, seen, wanted) {
  if (isDeepStrictEqual(seen, wanted)) { passed += 1; return; }
  failed.push(what);
  console.log(`FAILED ${what}: ${JSON.stringify(seen)} wanted ${JSON.stringify(wanted)}`);
}

async function refused(what, call, wanted) {
  try {
    const seen = await call();
    same(`${what}: refused`, seen, 'an error');
  } catch (error) {
    for (const [name, value] of Object.entries(wanted)) same(`${what}: ${name}`, error[name], value);
    same(`${what}: request id`, String(error.requestId).startsWith('req_'), true);
  }
}

async function rows(list) {
  const out = [];
  for await (const row of list) out.push(row);
  return out;
}

async function business(stripe) {
  const seeded = (found) => found.filter((row) => row.id.includes('_sandbox_'));
  const customers = seeded(await rows(stripe.customers.list({ limit: 100 })));
  same('150 customers', new Set(customers.map((row) => row.id)).size, 150);
  const subscriptions = seeded(await rows(stripe.subscriptions.list({ limit: 100 })));
  same('120 subscriptions', subscriptions.length, 120);
  const monthly = { usd: 0, jpy: 0 };
  for (const subscription of subscriptions) {
    for (const item of subscription.items.data) {
      const months = item.price.recurring.interval === 'year' ? 12 : 1;
      monthly[subscription.currency] += (item.price.unit_amount * item.quantity) / months;
    }
  }
  same('monthly value', monthly, { usd: 499000, jpy: 7000 });
  const names = ['products', 'prices', 'plans', 'coupons', 'invoices', 'invoicePayments', 'charges', 'refunds', 'paymentMethods', 'paymentIntents'];
  for (const name of names) same(`list of ${name}`, (await stripe[name].list({ limit: 1 })).data.length, 1);
  same('no history', (await stripe.events.list()).data, []);
  same('account', (await stripe.accounts.retrieveCurrent?.() ?? await stripe.accounts.retrieve()).object, 'account');
}

async function pages(stripe) {
  const all = (await rows(stripe.charges.list({ limit: 100 }))).map((row) => row.id);
  const first = await stripe.charges.list({ limit: 5 });
  const second = await stripe.charges.list({ limit: 5, starting_after: first.data[4].id });
  same('forward', [...first.data, ...second.data].map((row) => row.id), all.slice(0, 10));
  const back = await stripe.charges.list({ limit: 5, ending_before: second.data[0].id });
  same('backward', back.data.map((row) => row.id), all.slice(0, 5));
  const cut = await stripe.charges.list({ limit: 4 }).autoPagingToArray({ limit: 9 });
  same('auto paging', cut.map((row) => row.id), all.slice(0, 9));
  await refused('bad cursor', () => stripe.charges.list({ starting_after: 'ch_nothing' }),
    { type: 'StripeInvalidRequestError', statusCode: 400, code: 'resource_missing', param: 'starting_after' });
}

async function errors(stripe) {
  await refused('no such customer', () => stripe.customers.retrieve('cus_nobody'),
    { type: 'StripeInvalidRequestError', statusCode: 404, code: 'resource_missing', param: 'id' });
  await refused('unknown parameter', () => stripe.customers.create({ nmae: 'x' }),
    { type: 'StripeInvalidRequestError', statusCode: 400, code: 'parameter_unknown', param: 'nmae' });
  await refused('missing parameter', () => stripe.products.create({}), { code: 'parameter_missing', param: 'name' });
  await refused('bad key', () => client({ key: 'sk_live_x' }).customers.list(), { type: 'StripeAuthenticationError', statusCode: 401 });
  await refused('bad path', () => stripe.charges.list({ expand: ['customer'] }), {
    type: 'StripeInvalidRequestError',
    message: "This property cannot be expanded (customer). You may want to try expanding 'data.customer' instead.",
  });
}

async function life(stripe) {
  const customer = await stripe.customers.create({ email: 'node@example.com', metadata: { tier: 'starter' }, payment_method: 'pm_card_amex' });
  const methods = await stripe.customers.listPaymentMethods(customer.id);
  same('method', methods.data.map((row) => row.card.brand), ['amex']);
  const made = await stripe.subscriptions.create({
    customer: customer.id, items: [{ price: 'price_professional_monthly' }, { price: 'price_addon_support_monthly', quantity: 2 }],
    default_payment_method: methods.data[0].id, expand: ['latest_invoice.payments', 'customer'],
  });
  same('active', [made.status, made.latest_invoice.total, made.customer.id], ['active', 14700, customer.id]);
  same('lines', made.latest_invoice.lines.data.map((row) => row.amount), [4900, 9800]);
  const intent = await stripe.paymentIntents.retrieve(made.latest_invoice.payments.data[0].payment.payment_intent, { expand: ['latest_charge'] });
  const refund = await stripe.refunds.create({ payment_intent: intent.id, metadata: { why: 'judge' } });
  same('refund', [refund.amount, refund.charge], [14700, intent.latest_charge.id]);
  const updated = await stripe.subscriptions.update(made.id, { metadata: { a: 'b' }, description: 'changed' });
  same('updated', [{ ...updated.metadata }, updated.description], [{ a: 'b' }, 'changed']);
  same('canceled', (await stripe.subscriptions.cancel(made.id)).status, 'canceled');
  same('deleted', (await stripe.customers.del(customer.id)).deleted, true);
}

async function idempotency(stripe) {
  const idempotencyKey = randomUUID();
  const [one, two] = [await stripe.customers.create({ name: 'Once' }, { idempotencyKey }), await stripe.customers.create({ name: 'Once' }, { idempotencyKey })];
  same('one customer', one.id, two.id);
  same('replayed', two.lastResponse.headers['idempotent-replayed'], 'true');
  await refused('other parameters', () => stripe.customers.create({ name: 'Twice' }, { idempotencyKey }),
    { type: 'StripeIdempotencyError', statusCode: 400 });
}

async function trouble(stripe) {
  const script = (fault) => fetch(new URL('/_sandbox/faults', base), {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(fault),
  });
  await script({ path_prefix: '/v1/coupons', times: 1, kind: 'status', status: 429, retry_after: '1' });
  await refused('rate limit', () => stripe.coupons.list(), { type: 'StripeRateLimitError', statusCode: 429 });
  await script({ path_prefix: '/v1/coupons', times: 1, kind: 'reset' });
  await script({ path_prefix: '/v1/coupons', times: 1, kind: 'status', status: 503 });
  same('retried', (await client({ retries: 2 }).coupons.list()).object, 'list');
  const name = `once ${randomUUID()}`;
  await script({ method: 'POST', path_prefix: '/v1/customers', times: 1, kind: 'drop_after_commit' });
  await client({ retries: 2 }).customers.create({ name });
  const found = (await rows(stripe.customers.list({ limit: 100 }))).filter((row) => row.name === name);
  same('executed once', found.length, 1);
}

async function ages() {
  const old = client({ version: '2025-02-24.acacia' });
  const found = await old.subscriptions.retrieve('sub_sandbox_user', { expand: ['latest_invoice.charge'] });
  same('period', typeof found.current_period_end, 'number');
  same('invoice', [found.latest_invoice.paid, found.latest_invoice.subscription], [true, 'sub_sandbox_user']);
  same('charge', found.latest_invoice.charge.invoice, found.latest_invoice.id);
}

// A webhook endpoint as stripe-node's documentation has it: the raw body goes into the official check.
async function hooks(stripe) {
  const [events, refused] = [[], []];
  let secret;
  const server = createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks);
      try {
        events.push(stripe.webhooks.constructEvent(body, request.headers['stripe-signature'], secret));
      } catch (error) {
        refused.push(error.message);
      }
      try {
        stripe.webhooks.constructEvent(`${body} `, request.headers['stripe-signature'], secret);
        refused.push('an altered body was taken');
      } catch { /* as it must be */ }
      response.end();
    });
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  const url = `http://127.0.0.1:${server.address().port}/hook`;
  const endpoint = await stripe.webhookEndpoints.create({ url, enabled_events: ['*'], api_version: '2025-02-24.acacia' });
  secret = endpoint.secret;
  same('secret', (await stripe.webhookEndpoints.retrieve(endpoint.id)).secret, undefined);
  const customer = await stripe.customers.create({ email: 'hooks@example.com', source: 'tok_visa' });
  const made = await stripe.subscriptions.create({ customer: customer.id, items: [{ price: 'price_starter_monthly' }] });
  const clock = await fetch(new URL('/_sandbox/clock', base), {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ advance: '32d' }),
  });
  same('clock', clock.status, 200);
  same('refused', refused, []);
  const mine = events.filter((event) => event.data.object.customer === customer.id);
  const paid = mine.filter((event) => event.type === 'invoice.paid').map((event) => event.data.object);
  same('paid', paid.map((invoice) => [invoice.paid, invoice.subscription]), [[true, made.id], [true, made.id]]);
  same('version', [...new Set(mine.map((event) => event.api_version))], ['2025-02-24.acacia']);
  const renewed = mine.filter((event) => event.type === 'customer.subscription.updated').at(-1);
  same('period moved', typeof renewed.data.previous_attributes.current_period_end, 'number');
  same('gone', (await stripe.webhookEndpoints.del(endpoint.id)).deleted, true);
  server.closeAllConnections();
  server.close();
}

async function writes(stripe) {
  const customer = await stripe.customers.create({ email: 'writes@example.com', source: 'tok_visa' });
  await stripe.invoiceItems.create({ customer: customer.id, amount: 700, currency: 'usd' });
  const draft = await stripe.invoices.create({ customer: customer.id, pending_invoice_items_behavior: 'include' });
  await stripe.invoices.finalizeInvoice(draft.id);
  same('invoice', (await stripe.invoices.pay(draft.id)).status, 'paid');
  const made = await stripe.subscriptions.create({ customer: customer.id, items: [{ price: 'price_starter_monthly' }] });
  const paused = await stripe.subscriptions.pause(made.id);
  same('paused', [paused.status, paused.status_details.paused.type], ['paused', 'subscription']);
  const resumed = await stripe.subscriptions.resume(made.id, { billing_cycle_anchor: { type: 'now' } });
  same('resumed', resumed.status, 'active');
  await refused('declined', () => stripe.paymentIntents.create({
    amount: 100, currency: 'usd', confirm: true, payment_method: 'pm_card_chargeDeclinedExpiredCard',
  }), { type: 'StripeCardError', statusCode: 402, code: 'expired_card' });
  const asked = await stripe.paymentIntents.create({
    amount: 100, currency: 'usd', confirm: true, payment_method: 'pm_card_threeDSecure2Required', return_url: 'https://example.com',
  });
  same('the bank asks', asked.next_action.redirect_to_url.return_url, 'https://example.com');
  const preview = await stripe.invoices.createPreview({ subscription: made.id });
  same('preview', preview.billing_reason, 'upcoming');
  const session = await stripe.checkout.sessions.create({
    mode: 'payment', success_url: 'https://example.com',
    line_items: [{ quantity: 1, price_data: { currency: 'usd', unit_amount: 750, product_data: { name: 'Book' } } }],
  });
  same('session', [session.amount_total, session.status], [750, 'open']);
}

const stripe = client();
for (const part of [business, pages, errors, ages, life, idempotency, trouble, writes, hooks]) await part(stripe);
console.log(`${passed} checks passed`);
if (failed.length > 0) {
  console.log(`${failed.length} checks failed`);
  process.exit(1);
}

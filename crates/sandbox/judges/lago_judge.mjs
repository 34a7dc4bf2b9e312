// The official lago-javascript-client, unchanged, against the Lago sandbox.
//
// usage: node lago_judge.mjs BASE_URL [KEY]                                 (needs `npm install lago-javascript-client@1.53.0`)
//        node lago_judge.mjs --events-only BASE_URL KEY SUBSCRIPTION CODE   (events and batches of a subscription that exists)
// Prints "N checks passed"; exit status 1 when a check failed, each of which is named.
import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { createPublicKey, createVerify, randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';

// The package is looked for where the judge is run, so that nothing has to be installed beside this file.
const { Client, getLagoError, LagoRateLimitError } = createRequire(`${process.cwd()}/`)('lago-javascript-client');
const eventsOnly = process.argv[2] === '--events-only';
const [given, key = 'judge', ...rest] = process.argv.slice(eventsOnly ? 3 : 2);
const base = given.replace(/\/$/, '');
const run = randomUUID().slice(0, 8);
let passed = 0;
const failed = [];

const client = (apiKey = key, more = {}) => Client(apiKey, { baseUrl: `${base}/api/v1`, ...more });
const fresh = (what) => `${what}-${run}-${randomUUID().slice(0, 12)}`;

function same(what, seen, wanted) {
  if (isDeepStrictEqual(seen, wanted)) { passed += 1; return; }
  failed.push(what);
  console.log(`FAILED ${what}: ${JSON.stringify(seen)} wanted ${JSON.stringify(wanted)}`);
}

async function refused(what, status, call, code, details) {
  try {
    const { data } = await call();
    same(`${what}: refused`, data, 'an error');
  } catch (response) {
    const error = await getLagoError(response);
    same(`${what}: status`, [response.status, error.status], [status, status]);
    if (code !== undefined) same(`${what}: code`, error.code, code);
    if (details !== undefined) same(`${what}: details`, error.error_details, details);
  }
}

const control = (path, body) => fetch(`${base}/_sandbox/${path}`, {
  method: body === null ? 'DELETE' : 'POST',
  headers: { 'content-type': 'application/json' },
  body: body === null ? undefined : JSON.stringify(body),
});

const double = { transaction_id: ['value_already_exist'] };
const invalid = 'validation_errors';

async function events(lago, subscription, code) {
  const event = (what, units = '1') => ({
    transaction_id: fresh(what), external_subscription_id: subscription, code, timestamp: (Date.now() / 1000).toFixed(3), properties: { units },
  });
  const first = event('single', '2.5');
  const made = (await lago.events.createEvent({ event: first })).data.event;
  same('echo', [made.transaction_id, made.external_subscription_id, made.code, made.properties.units],
    [first.transaction_id, subscription, code, '2.5']);
  same('timestamp', made.timestamp, new Date(Math.round(Number(first.timestamp) * 1000)).toISOString());
  await refused('the same event again', 422, () => lago.events.createEvent({ event: first }), invalid, double);
  await refused('a time in words', 422, () => lago.events.createEvent({ event: { ...event('bad'), timestamp: new Date().toISOString() } }),
    invalid, { timestamp: ['invalid_format'] });
  await refused('no id', 422, () => lago.events.createEvent({ event: { ...event('bad'), transaction_id: '' } }),
    invalid, { transaction_id: ['value_is_mandatory'] });
  const batch = Array.from({ length: 100 }, () => event('batch'));
  const stored = (await lago.events.createBatchEvents({ events: batch })).data.events;
  same('a batch is echoed in order', stored.map((one) => one.transaction_id), batch.map((one) => one.transaction_id));
  await refused('the same batch again', 422, () => lago.events.createBatchEvents({ events: batch }),
    invalid, Object.fromEntries(batch.map((_, index) => [String(index), double])));
  const mixed = [event('mixed'), batch[7], event('mixed')];
  await refused('one double', 422, () => lago.events.createBatchEvents({ events: mixed }), invalid, { 1: double });
  same('the rest', (await lago.events.createBatchEvents({ events: [mixed[0], mixed[2]] })).data.events.length, 2);
  const twin = event('twin');
  await refused('twice in one batch', 422, () => lago.events.createBatchEvents({ events: [twin, twin] }), invalid, { 1: double });
  await refused('101 events', 422, () => lago.events.createBatchEvents({ events: Array.from({ length: 101 }, () => event('many')) }),
    invalid, { events: ['too_many_events'] });
  await refused('no events', 422, () => lago.events.createBatchEvents({ events: [] }), invalid, { events: ['no_events'] });
  await refused('no key', 401, () => client('').events.createEvent({ event: event('key') }));
  return { units: '104.5', count: 103, first };
}

async function catalogue(lago, code) {
  const metric = { name: 'API', code, aggregation_type: 'sum_agg', field_name: 'units', recurring: false };
  const made = (await lago.billableMetrics.createBillableMetric({ billable_metric: metric })).data.billable_metric;
  await refused('a metric twice', 422, () => lago.billableMetrics.createBillableMetric({ billable_metric: metric }), invalid, { code: ['value_already_exist'] });
  const plan = {
    name: 'Pro', code: `pro-${code}`, interval: 'monthly', amount_cents: 4900, amount_currency: 'USD', pay_in_advance: false,
    charges: [{ billable_metric_id: made.lago_id, charge_model: 'standard', properties: { amount: '0.002' } }],
  };
  const created = (await lago.plans.createPlan({ plan })).data.plan;
  same('plan', [created.code, created.charges[0].properties.amount], [plan.code, '0.002']);
  same('plan found', (await lago.plans.findPlan(plan.code)).data.plan.lago_id, created.lago_id);
  return plan.code;
}

async function people(lago, planCode) {
  const [customer, subscription] = [fresh('customer'), fresh('subscription')];
  const upsert = async (more) => (await lago.customers.createCustomer({ customer: { external_id: customer, ...more } })).data.customer;
  const first = await upsert({ name: 'Ada', email: 'ada@example.com' });
  const second = await upsert({ name: 'Ada L.' });
  same('one customer', [second.lago_id, second.email], [first.lago_id, 'ada@example.com']);
  const since = new Date(Date.now() - 300_000).toISOString();
  const ask = { external_customer_id: customer, plan_code: planCode, external_id: subscription, subscription_at: since };
  const made = (await lago.subscriptions.createSubscription({ subscription: ask })).data.subscription;
  same('subscription', [made.status, made.plan_code], ['active', planCode]);
  same('again', (await lago.subscriptions.createSubscription({ subscription: ask })).data.subscription.lago_id, made.lago_id);
  same('found', (await lago.subscriptions.findSubscription(subscription)).data.subscription.external_id, subscription);
  same('listed', (await lago.subscriptions.findAllSubscriptions({ external_customer_id: customer })).data.meta.total_count, 1);
  await refused('an unknown plan', 404, () => lago.subscriptions.createSubscription({ subscription: { ...ask, plan_code: 'none' } }), 'plan_not_found');
  return [customer, subscription];
}

async function usage(lago, customer, subscription, wanted) {
  const current = async (who, what) => (await lago.customers.findCustomerCurrentUsage(who, { external_subscription_id: what })).data.customer_usage;
  const [line] = (await current(customer, subscription)).charges_usage;
  same('usage', [line.units, line.events_count, line.amount_cents], [wanted.units, wanted.count, 21]);
  await refused('nobody', 404, () => lago.customers.findCustomerCurrentUsage(fresh('nobody'), { external_subscription_id: subscription }), 'customer_not_found');
  await refused('no subscription', 405, () => lago.customers.findCustomerCurrentUsage(customer, { external_subscription_id: fresh('none') }), 'no_active_subscription');
  same('past', (await lago.customers.findAllCustomerPastUsage(customer, { external_subscription_id: subscription })).data.usage_periods, []);
  same('event', (await lago.events.findEvent(wanted.first.transaction_id)).data.event.transaction_id, wanted.first.transaction_id);
  const pages = await lago.events.findAllEvents({ external_subscription_id: subscription, per_page: 50, page: 3 });
  same('pages', [pages.data.meta.total_count, pages.data.meta.next_page, pages.data.events.length], [wanted.count, null, wanted.count - 100]);
}

async function wallets(lago, customer) {
  const wallet = (await lago.wallets.createWallet({ wallet: { external_customer_id: customer, rate_amount: '1.0', currency: 'USD', name: 'Credits' } })).data.wallet;
  const asked = { wallet_id: wallet.lago_id, paid_credits: '4', granted_credits: '1' };
  const made = (await lago.walletTransactions.createWalletTransaction({ wallet_transaction: asked })).data.wallet_transactions;
  same('transactions', made.map((one) => one.status), ['pending', 'settled']);
  await lago.invoices.updateInvoice(made[0].lago_invoice_id, { invoice: { payment_status: 'succeeded' } });
  same('balance', (await lago.wallets.findWallet(wallet.lago_id)).data.wallet.credits_balance, '5.0');
}

async function webhooks(lago) {
  let hear;
  const heard = new Promise((resolve) => { hear = resolve; });
  const server = createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => { response.end(); hear([request.headers, Buffer.concat(chunks).toString()]); });
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => { server.on('listening', resolve); });
  const url = `http://127.0.0.1:${server.address().port}/hooks`;
  const endpoint = (await lago.webhookEndpoints.createWebhookEndpoint({ webhook_endpoint: { webhook_url: url, signature_algo: 'jwt', event_types: ['customer.created'] } })).data.webhook_endpoint;
  await lago.customers.createCustomer({ customer: { external_id: fresh('told'), name: '<A&B>' } });
  const [headers, body] = await heard;
  const encoded = (await lago.webhooks.fetchJsonPublicKey()).data.webhook.public_key;
  same('the same key as text', (await lago.webhooks.fetchPublicKey()).data, encoded);
  const pem = Buffer.from(encoded, 'base64').toString();
  const [head, claims, signature] = headers['x-lago-signature'].split('.');
  const good = createVerify('RSA-SHA256').update(`${head}.${claims}`).verify(createPublicKey(pem), Buffer.from(signature, 'base64url'));
  const said = JSON.parse(Buffer.from(claims, 'base64url').toString());
  same('jwt', [good, headers['x-lago-signature-algorithm'], said.data === body, said.iss], [true, 'jwt', true, base]);
  same('message', JSON.parse(body).customer.name, '<A&B>');
  await lago.webhookEndpoints.destroyWebhookEndpoint(endpoint.lago_id);
  server.close();
}

async function trouble(subscription, code) {
  const headers = { 'x-ratelimit-limit': '500', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '1' };
  const fault = { path_prefix: '/api/v1/events', kind: 'status', status: 429, headers };
  const event = () => ({ event: { transaction_id: fresh('trouble'), external_subscription_id: subscription, code, timestamp: Date.now() / 1000, properties: { units: '0' } } });
  const patient = client(key, { rateLimitRetry: { maxRetries: 3 } });
  await control('faults', { ...fault, times: 1 });
  const begun = Date.now();
  same('after a wait', (await patient.events.createEvent(event())).status, 200);
  same('as long as the headers say', Date.now() - begun >= 900, true);
  await control('faults', { ...fault, times: 1 });
  await refused('no patience', 429, () => client().events.createEvent(event()));
  await control('faults', { ...fault, headers: { ...headers, 'x-ratelimit-reset': '0' } });
  const error = await patient.events.createEvent(event()).catch((caught) => caught);
  same('a limit that does not end', error instanceof LagoRateLimitError || error.status === 429, true);
  await control('faults', null);
}

if (eventsOnly) {
  await events(client(), ...rest);
} else {
  const lago = client();
  const code = `api-${run}`;
  const [customer, subscription] = await people(lago, await catalogue(lago, code));
  await usage(lago, customer, subscription, await events(lago, subscription, code));
  await wallets(lago, customer);
  await webhooks(lago);
  await trouble(subscription, code);
  same('ended', (await lago.subscriptions.destroySubscription(subscription)).data.subscription.status, 'terminated');
}
console.log(`${passed} checks passed`);
if (failed.length > 0) {
  console.log(`${failed.length} checks failed`);
  process.exit(1);
}

//! The names of everything that can be configured, with its default and what it means.

/// A variable that the program reads, for `--help`, the documents and the check of unknown names.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    pub name: &'static str,
    pub default: &'static str,
    pub meaning: &'static str,
}

/// Every variable. Each may also be given as `NAME_FILE`, the path of a file that holds the value.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "STRIPE_SECRET_KEY",
        default: "",
        meaning: "sk_… or rk_…; unset: the program runs without Stripe",
    },
    Variable {
        name: "STRIPE_API_BASE",
        default: "https://api.stripe.com",
        meaning: "base URL, for sandboxes and proxies",
    },
    Variable {
        name: "STRIPE_API_VERSION",
        default: "2026-09-30.endive",
        meaning: "the Stripe-Version sent with every request",
    },
    Variable {
        name: "STRIPE_RATE",
        default: "",
        meaning: "requests a second at most; unset: 80 with a live key, 20 with a test key",
    },
    Variable {
        name: "STRIPE_WEBHOOK_SECRET",
        default: "",
        meaning: "whsec_…, several with commas between while one takes over; unset: no webhooks",
    },
    Variable {
        name: "LAGO_API_URL",
        default: "",
        meaning: "base URL of Lago, to which usage is shipped; unset: no Lago",
    },
    Variable { name: "LAGO_API_KEY", default: "", meaning: "API key of the organisation at Lago" },
    Variable {
        name: "LAGO_WEBHOOK_SECRET",
        default: "",
        meaning: "HMAC key of Lago's webhooks; unset: they are signed with Lago's own key (JWT)",
    },
    Variable { name: "BILLHOOK_LAGO_RATE", default: "50", meaning: "requests a second to Lago at most" },
    Variable {
        name: "REDIS_URL",
        default: "",
        meaning: "redis://…, where counters and holds live and Ops Center keeps its sessions; unset: counters of this process, own sessions",
    },
    Variable { name: "DATABASE_URL", default: "sqlite://billhook.db", meaning: "sqlite://PATH or postgres://…" },
    Variable { name: "BILLHOOK_LISTEN", default: "127.0.0.1:8084", meaning: "address of the API" },
    Variable {
        name: "BILLHOOK_METRICS_LISTEN",
        default: "",
        meaning: "address of GET /metrics; unset: no metrics listener",
    },
    Variable {
        name: "BILLHOOK_PUBLIC_URL",
        default: "http://localhost:8084",
        meaning: "used for every URL that leaves the program",
    },
    Variable {
        name: "BILLHOOK_UPGRADE_URL",
        default: "",
        meaning: "where refused users can get more; unset: /billing/upgrade under the public URL",
    },
    Variable {
        name: "BILLHOOK_ALLOWED_HOSTS",
        default: "",
        meaning: "further names the API may be called by, comma separated",
    },
    Variable {
        name: "BILLHOOK_CATALOG",
        default: "",
        meaning: "path of the tier catalogue (TOML); unset: the built-in one",
    },
    Variable {
        name: "BILLHOOK_SYNC_INTERVAL",
        default: "24h",
        meaning: "pause between full syncs with Stripe while its list of events is read between them; five minutes at most where it cannot be",
    },
    Variable {
        name: "BILLHOOK_USAGE_WINDOW",
        default: "35d",
        meaning: "how old a usage event may be; ids are remembered as long",
    },
    Variable {
        name: "BILLHOOK_LATE_EVENTS",
        default: "count",
        meaning: "events of a closed credit period: count (in the running one) or reject",
    },
    Variable { name: "BILLHOOK_LOG", default: "info", meaning: "log level, or TARGET=LEVEL pairs, comma separated" },
];

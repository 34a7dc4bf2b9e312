//! The program as a value: what every role is built from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use billing::catalogue::Catalogue;

use crate::answers::Answers;
use crate::clock::{Chance, Clock};
use crate::config::Config;
use crate::counters::book::Book;
use crate::counters::{Counters, Embedded, Redis};
use crate::error::Result;
use crate::gateways::stripe::{Settings, Stripe};
use crate::ops::lago::Lago;
use crate::ops::page::CursorKey;
use crate::ops::usage::writer::Writer;
use crate::ops::{catalogue, publishing, reservations, usage};
use crate::sessions::ForeignSessions;
use crate::store::db::OpenError;
use crate::store::{self, Db};
use crate::telemetry::WebhookNumbers;

/// The program; a clone is one more pointer to the same parts.
#[derive(Debug, Clone)]
pub struct App(Arc<Parts>);

/// What the program is made of.
#[derive(Debug)]
pub struct Parts {
    pub db: Db,
    pub clock: Arc<dyn Clock>,
    pub chance: Arc<Chance>,
    pub config: Config,
    pub catalogue: Arc<Catalogue>,
    pub stripe: Option<Stripe>,
    pub lago: Option<Lago>,
    /// How the events of Stripe's fare.
    pub webhooks: Arc<WebhookNumbers>,
    pub foreign_sessions: Option<ForeignSessions>,
    pub answers: Arc<Answers>,
    pub cursor_key: CursorKey,
    /// The accounts, folded from the usage log.
    pub book: Book,
    /// Who decides what may be held of them.
    pub counters: Counters,
    /// The writer of the usage log.
    pub usage: Writer,
    /// Told when another process has written to the log.
    pub follow_log: tokio::sync::Notify,
    /// Another process has committed something: the log may be further than the book.
    pub log_behind: Arc<AtomicBool>,
    /// Held by whoever writes the accounts down.
    pub writing_down: Arc<tokio::sync::Mutex<()>>,
    /// What is held, as it is written down.
    pub notes: reservations::Notes,
    /// This process among those that share the database.
    pub holder: String,
    /// Held by the full sync that is under way in this process.
    pub sync_turn: tokio::sync::Mutex<()>,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Why the program cannot be built.
#[derive(Debug)]
pub enum BuildError {
    Database(OpenError),
    Stripe(crate::gateways::stripe::SettingsError),
    Lago(crate::gateways::lago::SettingsError),
    Schema(crate::error::Error),
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(error) => write!(f, "{error}"),
            Self::Stripe(error) => write!(f, "STRIPE_API_BASE or STRIPE_SECRET_KEY: {error}"),
            Self::Lago(error) => write!(f, "LAGO_API_URL or LAGO_API_KEY: {error}"),
            Self::Schema(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BuildError {}

impl App {
    /// The program that serves, or one that works alone: the database follows its catalogue.
    pub async fn build(config: Config, clock: Arc<dyn Clock>, chance: Chance) -> Result<Self, BuildError> {
        Self::build_with(config, clock, chance, |settings| settings).await
    }

    /// The program for a command beside whoever serves: it works by the database's own catalogue, and of itself writes nothing.
    pub async fn visit(config: Config, clock: Arc<dyn Clock>, chance: Chance) -> Result<Self, BuildError> {
        let db = opened(&config).await?;
        Self::beside(db, config, clock, chance).await?.followed().await
    }

    /// The same for a command that only looks: it makes no database.
    pub async fn look(config: Config, clock: Arc<dyn Clock>, chance: Chance) -> Result<Self, BuildError> {
        let db = found(&config).await?;
        Self::beside(db, config, clock, chance).await?.followed().await
    }

    /// The same for who looks for what is wrong: a log that cannot be followed is for them to name.
    pub async fn inspect(config: Config, clock: Arc<dyn Clock>, chance: Chance) -> Result<Self, BuildError> {
        let db = found(&config).await?;
        let app = Self::beside(db, config, clock, chance).await?;
        if let Err(error) = usage::following::follow_log(&app).await {
            tracing::error!(%error, "the log cannot be followed to its end");
        }
        Ok(app)
    }

    async fn beside(db: Db, mut config: Config, clock: Arc<dyn Clock>, chance: Chance) -> Result<Self, BuildError> {
        config.catalogue = catalogue::of_database(&db, config.catalogue).await.map_err(BuildError::Schema)?;
        Self::join(db, config, clock, chance, |settings| settings).await
    }

    async fn followed(self) -> Result<Self, BuildError> {
        usage::following::follow_log(&self).await.map_err(BuildError::Schema)?;
        Ok(self)
    }

    /// The same with other limits of the client of Stripe's: a test has no time for a deadline of half a minute.
    pub async fn build_with(
        config: Config,
        clock: Arc<dyn Clock>,
        chance: Chance,
        limits: fn(Settings) -> Settings,
    ) -> Result<Self, BuildError> {
        let db = opened(&config).await?;
        let app = Self::join(db, config, clock, chance, limits).await?;
        app.take_over().await.map_err(BuildError::Schema)?;
        Ok(app)
    }

    /// Brings everything that is derived up to date with us.
    async fn take_over(&self) -> Result<()> {
        // Before anything is taken: who is refused here must not count as running.
        usage::following::follow_log(self).await?;
        catalogue::in_its_currency(self).await?;
        catalogue::serve_by(&self.db, &self.catalogue, &self.holder).await?;
        usage::adoption::adopt(self).await?;
        usage::following::follow_log(self).await?;
        catalogue::adopt(self).await?;
        usage::plans::follow(self).await?;
        usage::plans::watch_unknown(self).await?;
        publishing::begin(self).await?;
        reservations::restore(self).await
    }

    /// Joins the parts.
    async fn join(
        db: Db,
        config: Config,
        clock: Arc<dyn Clock>,
        chance: Chance,
        limits: fn(Settings) -> Settings,
    ) -> Result<Self, BuildError> {
        // Redis takes the one that the process has; somebody else may have installed it already, and it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let chance = Arc::new(chance);
        let stripe = config.stripe.as_ref().map(|stripe| gateway(stripe, &chance, limits)).transpose()?;
        let lago = config.lago.as_ref().map(lago_gateway).transpose()?;
        let cursor_key = CursorKey::load(&db, &chance).await.map_err(BuildError::Schema)?;
        let written = db.read(store::accounts::stand).await.map_err(BuildError::Schema)?;
        let holder = billing::id::new("prc_", clock.now(), chance.bytes().map_err(BuildError::Schema)?);
        let counters = counters(&config, &db, &chance, &*clock, &holder).await.map_err(BuildError::Schema)?;
        let answers = Arc::new(Answers::default());
        let log_behind = Arc::new(AtomicBool::new(false));
        let (kept, behind) = (Arc::clone(&answers), Arc::clone(&log_behind));
        db.listen(move |changes| {
            if changes.contains(&store::Change::Everything) {
                behind.store(true, Ordering::Release);
            }
            kept.drop_changed(changes);
        });
        Ok(Self(Arc::new(Parts {
            db,
            clock,
            chance,
            catalogue: Arc::new(config.catalogue.clone()),
            stripe,
            lago,
            webhooks: Arc::default(),
            foreign_sessions: config.redis_url.clone().map(ForeignSessions::new),
            answers,
            cursor_key,
            book: Book::open(written).shared(config.redis_url.is_some()),
            counters,
            usage: Writer::default(),
            follow_log: tokio::sync::Notify::new(),
            log_behind,
            writing_down: Arc::default(),
            notes: reservations::Notes::default(),
            holder,
            sync_turn: tokio::sync::Mutex::default(),
            config,
        })))
    }
}

/// The database, with its schema up to date.
async fn opened(config: &Config) -> Result<Db, BuildError> {
    let db = open(config, Db::open).await?;
    store::migrations::run(&db).await.map_err(BuildError::Schema)?;
    Ok(db)
}

/// The same where it is there already.
async fn found(config: &Config) -> Result<Db, BuildError> {
    let db = open(config, Db::open_there).await?;
    if !db.read(store::migrations::are_there).await.map_err(BuildError::Schema)? {
        let detail = "this is no database of ours: billhook serve and billhook migrate make it one".to_owned();
        return Err(BuildError::Database(OpenError::Missing(detail)));
    }
    store::migrations::run(&db).await.map_err(BuildError::Schema)?;
    Ok(db)
}

/// Opens the database on a thread where waiting is allowed.
async fn open(config: &Config, open: fn(&str) -> Result<Db, OpenError>) -> Result<Db, BuildError> {
    let address = config.database_url.clone();
    let opened = tokio::task::spawn_blocking(move || open(secrecy::ExposeSecret::expose_secret(&address))).await;
    opened.map_err(|error| BuildError::Database(OpenError::Unusable(error.into())))?.map_err(BuildError::Database)
}

/// In Redis where there is one, else in memory.
async fn counters(config: &Config, db: &Db, chance: &Chance, clock: &dyn Clock, holder: &str) -> Result<Counters> {
    let Some(url) = config.redis_url.clone() else { return Ok(Counters::Embedded(Embedded)) };
    let new = billing::id::new("log_", clock.now(), chance.bytes()?);
    let log = db.write(move |tx| store::facts::get_or_set(tx, store::facts::USAGE_LOG, &new)).await?;
    Ok(Counters::Redis(Box::new(Redis::new(
        url,
        config.catalogue.events.keys().map(|kind| kind.to_string()),
        &log,
        holder,
    ))))
}

fn gateway(
    stripe: &crate::config::Stripe,
    chance: &Arc<Chance>,
    limits: fn(Settings) -> Settings,
) -> Result<Stripe, BuildError> {
    let mut settings = Settings::new(stripe.base.clone(), stripe.key.clone(), stripe.version.clone());
    settings.rate_per_second = stripe.rate_per_second;
    settings.burst = stripe.rate_per_second;
    let chance = Arc::clone(chance);
    // Jitter needs no secrecy: a source that fails gives no jitter, not a failed request.
    let random = Arc::new(move || chance.bytes::<8>().map_or(0, u64::from_le_bytes));
    Stripe::new(limits(settings), random).map_err(BuildError::Stripe)
}

fn lago_gateway(lago: &crate::config::Lago) -> Result<Lago, BuildError> {
    let mut settings = crate::gateways::lago::Settings::new(lago.base.clone(), lago.key.clone());
    settings.rate_per_second = lago.rate_per_second;
    settings.burst = (lago.rate_per_second / 5).max(1);
    crate::gateways::lago::Lago::new(settings).map(Lago::new).map_err(BuildError::Lago)
}

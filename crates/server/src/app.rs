//! The program as a value: what every role is built from.

use std::sync::Arc;

use billing::catalogue::Catalogue;

use crate::answers::Answers;
use crate::clock::{Chance, Clock};
use crate::config::Config;
use crate::error::Result;
use crate::gateways::stripe::{Settings, Stripe};
use crate::ops::page::CursorKey;
use crate::sessions::ForeignSessions;
use crate::store::{self, Db};

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
    pub foreign_sessions: Option<ForeignSessions>,
    pub answers: Arc<Answers>,
    pub cursor_key: CursorKey,
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
    Database(store::db::OpenError),
    Stripe(crate::gateways::stripe::SettingsError),
    Schema(crate::error::Error),
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(error) => write!(f, "{error}"),
            Self::Stripe(error) => write!(f, "STRIPE_API_BASE or STRIPE_SECRET_KEY: {error}"),
            Self::Schema(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BuildError {}

impl App {
    /// Opens the database, brings the schema up to date and joins the parts.
    pub async fn build(config: Config, clock: Arc<dyn Clock>, chance: Chance) -> Result<Self, BuildError> {
        Self::build_with(config, clock, chance, |settings| settings).await
    }

    /// The same with other limits of the client of Stripe's: a test has no time for a deadline of half a minute.
    pub async fn build_with(
        config: Config,
        clock: Arc<dyn Clock>,
        chance: Chance,
        limits: fn(Settings) -> Settings,
    ) -> Result<Self, BuildError> {
        let db = open(&config).await?;
        store::migrations::run(&db).await.map_err(BuildError::Schema)?;
        let chance = Arc::new(chance);
        let stripe = config.stripe.as_ref().map(|stripe| gateway(stripe, &chance, limits)).transpose()?;
        let cursor_key = CursorKey::load(&db, &chance).await.map_err(BuildError::Schema)?;
        let answers = Arc::new(Answers::default());
        let kept = Arc::clone(&answers);
        db.listen(move |changes| kept.drop_changed(changes));
        let app = Self(Arc::new(Parts {
            db,
            clock,
            chance,
            catalogue: Arc::new(config.catalogue.clone()),
            stripe,
            foreign_sessions: config.redis_url.clone().map(ForeignSessions::new),
            answers,
            cursor_key,
            sync_turn: tokio::sync::Mutex::default(),
            config,
        }));
        crate::ops::derivation::follow_catalogue(&app).await.map_err(BuildError::Schema)?;
        Ok(app)
    }
}

/// Opens the database on a thread where waiting is allowed.
async fn open(config: &Config) -> Result<Db, BuildError> {
    let address = config.database_url.clone();
    let opened = tokio::task::spawn_blocking(move || Db::open(secrecy::ExposeSecret::expose_secret(&address))).await;
    opened
        .map_err(|error| BuildError::Database(store::db::OpenError::Unusable(error.into())))?
        .map_err(BuildError::Database)
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

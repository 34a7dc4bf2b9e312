//! What this process knows of an account that lies in Redis.

use std::sync::Arc;

/// How many commits of an account are remembered that Redis may not know of yet.
const UNTOLD_MAX: usize = 256;

/// What a process knows of an account that lies in Redis, which may lose it at any time.
#[derive(Debug, Default)]
pub struct There {
    /// Which life of the account there holds everything that this process holds of it; empty: none that is known.
    pub life: Arc<str>,
    /// How often this process had held or released something of it at the last answer: less means that some of it is lost.
    pub seen: i64,
    /// How many holds this process has remembered of it.
    pub placed: u64,
    /// Reservations whose commit is counted here and not known to be told there.
    pub untold: Vec<Box<str>>,
    /// How often this process has published it.
    pub published: u64,
    /// The right to publish it, which one has at a time.
    publishing: Option<Arc<tokio::sync::Mutex<()>>>,
}

impl There {
    pub fn publishing(&mut self) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.publishing.get_or_insert_default())
    }

    pub fn note_untold(&mut self, id: &str) {
        // Whoever publishes tells them all in the end: a few of the newest are enough for those who cannot wait.
        if self.untold.len() >= UNTOLD_MAX {
            self.untold.remove(0);
        }
        self.untold.push(id.into());
    }
}

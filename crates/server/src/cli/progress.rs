//! How far a sync is: a bar over Stripe's lists on a terminal, now and then a log line elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::out;
use crate::ops::sync::Progress;
use crate::store::mirror::Resource;

/// One sync's line.
pub(super) struct ProgressLine {
    state: Mutex<State>,
    terminal: bool,
}

struct State {
    started: Instant,
    told: Instant,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { state: Mutex::new(State { started: now, told: now }), terminal: std::io::stderr().is_terminal() }
    }

    pub(super) fn show(&self, progress: Progress) {
        let pause = if self.terminal { Duration::from_millis(100) } else { Duration::from_secs(5) };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.told.elapsed() < pause {
            return;
        }
        state.told = Instant::now();
        let rate = u128::from(progress.objects) * 1000 / state.started.elapsed().as_millis().max(1);
        let resource = progress.resource.name();
        if self.terminal {
            let done = Resource::ALL.iter().position(|resource| *resource == progress.resource).unwrap_or(0);
            let bar: String = (0..Resource::ALL.len()).map(|list| if list <= done { '#' } else { '-' }).collect();
            out::tell_progress(&format!("[{bar}] {resource:15} {} objects, {rate}/s", progress.objects));
        } else {
            let rate = u64::try_from(rate).unwrap_or(u64::MAX);
            tracing::info!(resource, objects = progress.objects, rate, "syncing with Stripe");
        }
    }

    /// Clears the line; the next sync begins anew.
    pub(super) fn end(&self) {
        if self.terminal {
            out::tell_progress("");
        }
        let now = Instant::now();
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { started: now, told: now };
    }
}

//! Would an event be late?

use super::{AHEAD_MS, Account, AccountError, Moment};

impl Account {
    /// Whether an event of this time would come too late for its own period, and so count in the running one. Both in
    /// milliseconds since 1970.
    pub fn is_late(&self, event_ms: i64, received_ms: i64) -> Result<bool, AccountError> {
        let received_ms = received_ms.max(self.received_ms);
        let event_ms = event_ms.min(received_ms.saturating_add(AHEAD_MS));
        let moment = Moment { event_ms, received_ms, now_ms: received_ms.max(event_ms) };
        if !self.turns_at(moment) {
            return Ok(self.place(moment).late);
        }
        let mut turned = self.clone();
        turned.roll(moment)?;
        Ok(turned.place(moment).late)
    }
}

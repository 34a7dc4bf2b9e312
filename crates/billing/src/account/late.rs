//! Would an event be late, and where did it count?

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

    /// The first millisecond of the running period, if an event that was counted lies in it: then it counted there.
    pub fn running_since(&self, event_ms: i64) -> Option<i64> {
        let start_ms = self.period.span.start_ms;
        (event_ms >= start_ms).then_some(start_ms)
    }
}

//! Which code of Lago's an entry has: decided once, by its place in the log. A Lago on ClickHouse knows an event by its code as
//! well, so whatever is said about an entry later has to say the code of the first time.

use std::collections::BTreeMap;

use billing::catalogue::Catalogue;

use super::event::open_from;
use crate::app::App;
use crate::counters::reading;
use crate::error::Result;
use crate::store::lago::{self, Code};
use crate::store::log::{self, Kind, Logged};
use crate::store::{Db, Tx, db::Isolation};

/// The codes that each type has had, with the positions from which on.
#[derive(Debug, Default)]
pub struct Codes(BTreeMap<String, Vec<(i64, String)>>);

impl Codes {
    /// Reads them. There are as many as were ever changed.
    pub fn read(tx: &mut Tx<'_>) -> Result<Self> {
        let mut codes = Self::default();
        for Code { event_type, from_position, code } in lago::codes(tx)? {
            codes.0.entry(event_type).or_default().push((from_position, code));
        }
        Ok(codes)
    }

    /// The code of an entry; nothing where it is not for Lago, because an operator gave its type an empty one. What takes an entry
    /// back has the code of that one.
    pub fn of(&self, entry: &Logged) -> Option<&str> {
        let position = taken_back(entry).unwrap_or(entry.position);
        let (_, code) = self.rows(&entry.event_type).iter().rev().find(|(from, _)| *from <= position)?;
        Some(&**code).filter(|code| !code.is_empty())
    }

    fn rows(&self, event_type: &str) -> &[(i64, String)] {
        self.0.get(event_type).map_or(&[], Vec::as_slice)
    }

    /// Whether some entry has or had this code.
    pub fn has(&self, code: &str) -> bool {
        !code.is_empty() && self.0.values().flatten().any(|(_, known)| known == code)
    }
}

/// The place of the entry that this one takes back; the first versions did not write it down.
pub(super) fn taken_back(entry: &Logged) -> Option<i64> {
    entry.body.as_deref().filter(|_| entry.kind == Kind::Void).and_then(reading::voided)
}

/// The codes for whoever shows entries.
pub async fn known(app: &App) -> Result<Codes> {
    app.db.read(Codes::read).await
}

/// Writes down from which entry on a type has another code than before, because this catalogue comes into force. A type without
/// entries has none before; of what an older version recorded nothing else is known.
pub fn follow(tx: &mut Tx<'_>, catalogue: &Catalogue) -> Result<()> {
    let known = Codes::read(tx)?;
    for (event_type, event) in &catalogue.events {
        let last = known.rows(event_type).last();
        if last.is_some_and(|(_, code)| *code == event.lago_code) {
            continue;
        }
        // Nothing is appended until we have committed: nobody sends an entry under the code that was.
        let from_position = if last.is_some() { log::hold_head(tx)? + 1 } else { 0 };
        let (event_type, code) = (event_type.to_string(), event.lago_code.clone());
        lago::save_code(tx, &Code { event_type, from_position, code })?;
    }
    Ok(())
}

/// In a database that has no notes of codes: they are those of the catalogue that it was priced by until now.
pub async fn begin(db: &Db, catalogue: &Catalogue) -> Result<()> {
    if !db.read(lago::codes).await?.is_empty() {
        return Ok(());
    }
    let catalogue = catalogue.clone();
    db.write_in(Isolation::Statement, move |tx| follow(tx, &catalogue)).await
}

/// Types and codes that the catalogue does not say any more and that Lago has to know all the same: the open month has events
/// under them, or such are still to be sent.
pub fn past(tx: &mut Tx<'_>, catalogue: &Catalogue, now_ms: i64) -> Result<Vec<(String, String)>> {
    let position = lago::cursor(tx)?.position;
    let mut past: Vec<(String, String)> = Vec::new();
    for (event_type, rows) in Codes::read(tx)?.0 {
        for (at, (_, code)) in rows.iter().enumerate() {
            let said = catalogue.events.values().any(|event| event.lago_code == *code);
            if code.is_empty() || said || past.iter().any(|(_, known)| known == code) {
                continue;
            }
            let unsent = rows.get(at + 1).is_some_and(|(next, _)| position + 1 < *next);
            if unsent || lago::has_sums(tx, code, open_from(now_ms))? {
                past.push((event_type.clone(), code.clone()));
            }
        }
    }
    Ok(past)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log::Source;

    #[test]
    fn an_entry_has_the_code_of_its_place_and_what_takes_it_back_the_same() {
        let rows = [(0, "old"), (11, "new"), (21, ""), (31, "old")];
        let codes =
            Codes(BTreeMap::from([("tts".to_owned(), rows.map(|(from, code)| (from, code.to_owned())).into())]));
        let void = |counted_ms, of| Some(reading::void_body(counted_ms, of));
        for (kind, event_type, position, body, code) in [
            (Kind::Usage, "tts", 1, None, "old"),
            (Kind::Usage, "tts", 10, None, "old"),
            (Kind::Usage, "tts", 11, None, "new"),
            (Kind::Adjust, "tts", 20, Some("25 4".to_owned()), "new"),
            (Kind::Usage, "tts", 21, None, ""),
            (Kind::Usage, "tts", 31, None, "old"),
            (Kind::Usage, "stt", 11, None, ""),
            (Kind::Void, "tts", 31, void(Some(1_700_000_000_000), 11), "new"),
            (Kind::Void, "tts", 31, void(None, 12), "new"),
            (Kind::Void, "tts", 32, void(None, 25), ""),
            (Kind::Void, "tts", 12, void(Some(-5), 10), "old"),
            (Kind::Void, "tts", 10, Some("1700000000000".to_owned()), "old"),
            (Kind::Void, "tts", 10, None, "old"),
        ] {
            let entry = Logged {
                position,
                kind,
                user: "u".into(),
                event_type: event_type.into(),
                quantity: 1,
                weight: 1,
                event_ms: 0,
                received_ms: 0,
                id: [0; 16],
                transaction_id: "t".into(),
                source: Source::Own,
                previous: None,
                body,
            };
            assert_eq!(codes.of(&entry).unwrap_or_default(), code, "{entry:?}");
        }
        assert!(codes.has("new") && !codes.has("") && !codes.has("other"));
    }
}

//! Which entry is which: ids of sixteen bytes, and fingerprints of what an entry says.

use std::hash::Hasher;

use billing::entry::Pack;
use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher13 as SipHasher128};

use crate::store::log::{Entry, EntryId, Kind, Logged, ulid};

/// The id of an entry. A ULID or a UUID in its usual notation is taken as it is, because ids that grow with time are cheap to
/// keep in order; every other text is hashed. `space` keeps ids of different origins apart.
pub fn entry_id(space: &str, transaction_id: &str) -> EntryId {
    if space.is_empty()
        && let Some(id) = ulid::read(transaction_id).or_else(|| uuid(transaction_id))
    {
        return id;
    }
    let mut hasher = SipHasher128::new_with_keys(0x6269_6c6c_686f_6f6b, 0x7573_6167_6520_6964);
    write(&mut hasher, space);
    write(&mut hasher, transaction_id);
    hasher.finish128().as_bytes()
}

/// The id of an event. What a CloudEvent is called is its own only together with where it comes from (`source`): two producers may
/// count from 1, or hand on one request's id. The same holds for a subscription of Lago's whose id somebody else has used.
pub fn event_id(producer: Option<&str>, transaction_id: &str) -> EntryId {
    let Some(producer) = producer else { return entry_id("", transaction_id) };
    let mut id = entry_id(&format!("cloudevents {producer}"), transaction_id);
    // The first 48 bits of a ULID and of a UUIDv7 are its time.
    if let Some(named) = ulid::read(transaction_id).or_else(|| uuid(transaction_id)) {
        id[..6].copy_from_slice(&named[..6]);
    }
    id
}

/// The id of an entry that the program makes. They lie before the ids of all events of the day, which come in the order of time
/// and are appended at the end.
pub fn own_id(space: &str, name: &str) -> EntryId {
    let mut id = entry_id(space, name);
    id[..6].fill(0);
    id
}

/// Of everything that two entries with one id must agree in. An entry whose sender gave no time is not compared by it.
pub fn fingerprint(entry: &Entry, timed: bool) -> i64 {
    let at_ms = timed.then_some(entry.event_ms);
    of_content([&entry.transaction_id, &entry.user, &entry.event_type], entry.quantity, at_ms, entry.body.as_deref())
}

/// Whether this may be the fingerprint of an entry that is in the log; else the right one. Nothing where the log cannot tell.
pub fn is_fingerprint_of(entry: &Logged, kept: i64) -> Result<(), Option<i64>> {
    let texts = [&*entry.transaction_id, &*entry.user, &*entry.event_type];
    let of = |at_ms, body| of_content(texts, entry.quantity, at_ms, body);
    let timeless = of(None, entry.body.as_deref());
    let timed = of(Some(entry.event_ms), entry.body.as_deref());
    let (right, also) = match entry.kind {
        Kind::Plan => (timed, timed),
        Kind::Void | Kind::Revoke | Kind::Expire => (timeless, timeless),
        // A pack is the same whenever it is granted again.
        Kind::Grant => {
            let pack = Pack::parse(entry.body.as_deref().unwrap_or_default()).map_err(|_| None)?;
            let content = of(None, Some(&Pack { granted_ms: 0, ..pack }.encode()));
            (content, content)
        }
        Kind::Usage | Kind::Adjust if entry.event_ms != entry.received_ms => (timed, timed),
        // Without a time of its own it happened when it was accepted, and with one it may have: who is told it with a time again
        // is answered by the entry itself.
        Kind::Usage | Kind::Adjust => (timeless, timed),
    };
    // An id that was lost and is known again: the entry itself is compared. Of plans and voids earlier versions said nothing.
    let is_unsaid = kept == 0 && matches!(entry.kind, Kind::Usage | Kind::Plan | Kind::Void);
    if kept == right || kept == also || is_unsaid { Ok(()) } else { Err(Some(right)) }
}

fn of_content(texts: [&str; 3], quantity: i64, at_ms: Option<i64>, body: Option<&str>) -> i64 {
    let mut hasher = SipHasher13::new_with_keys(0x6269_6c6c_686f_6f6b, 0x7573_6167_6520_6670);
    for text in texts {
        write(&mut hasher, text);
    }
    hasher.write_i64(quantity);
    hasher.write_i64(at_ms.unwrap_or(i64::MIN));
    write(&mut hasher, body.unwrap_or("\u{0}"));
    i64::from_ne_bytes(hasher.finish().to_ne_bytes())
}

/// With its length, so that two texts never run into each other.
fn write(hasher: &mut impl Hasher, text: &str) {
    hasher.write_usize(text.len());
    hasher.write(text.as_bytes());
}

/// 8-4-4-4-12 hexadecimal digits in lower case.
fn uuid(text: &str) -> Option<EntryId> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut value = 0_u128;
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u128::from(digit);
    }
    Some(value.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_grow_with_time_stay_in_their_order() {
        for pair in [
            ["01JD7Z2X0000000000000000AA", "01JD7Z2X0000000000000000AB"],
            ["00000000000000000000000000", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"],
            ["01937b2e-1111-7000-8000-000000000001", "01937b2e-1112-7000-8000-000000000000"],
        ] {
            assert!(entry_id("", pair[0]) < entry_id("", pair[1]), "{pair:?}");
        }
        assert_eq!(entry_id("", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), [0xff; 16]);
    }

    #[test]
    fn a_producers_ids_are_its_own_and_stay_in_their_order() {
        let [first, second] = ["01JD7Z2X0000000000000000AA", "01JD7Z2X0100000000000000AA"];
        let [one, other] = [Some("/gateway"), Some("/embedder")];
        assert_ne!(event_id(one, first), event_id(other, first));
        assert_ne!(event_id(one, first), event_id(None, first));
        assert_ne!(event_id(one, "1"), event_id(other, "1"));
        assert_eq!(event_id(one, "1"), event_id(one, "1"));
        assert!(event_id(one, first) < event_id(other, second) && event_id(other, first) < event_id(one, second));
    }

    #[test]
    fn what_the_program_adds_lies_before_what_comes_with_time() {
        let [one, other] = ["plan-u1-0", "plan-u2-0"].map(|name| own_id("plan", name));
        assert!(one.max(other) < entry_id("", "00000000010000000000000000"));
        assert_ne!(one, other);
    }

    #[test]
    fn what_only_looks_like_one_is_hashed() {
        let hashed = [
            "01jd7z2x0000000000000000aa",
            "01JD7Z2X0000000000000000AI",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "01937B2E-1111-7000-8000-000000000001",
            "01937b2e+1111-7000-8000-000000000001",
            "order-1",
            "order-2",
        ];
        let ids: std::collections::HashSet<_> = hashed.iter().map(|text| entry_id("", text)).collect();
        assert_eq!(ids.len(), hashed.len());
        assert_ne!(entry_id("", "order-1"), entry_id("commit", "order-1"));
    }
}

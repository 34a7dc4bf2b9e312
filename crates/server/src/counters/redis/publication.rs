//! What is published: accounts as the scripts read them. Lua's numbers are exact below 2^53; what is greater is cut so that it
//! can only refuse, never let through.

use billing::account::{Account, Room};
use billing::hold::Hold;

/// The greatest whole number that Lua tells from its neighbours.
const EXACT_MAX: i64 = (1 << 53) - 1;
/// Credits without a limit.
const ALL: &str = "all";

/// What one call of the script `apply` carries, of one shard.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    accounts: Vec<Vec<u8>>,
    account_count: usize,
    commits: Vec<Vec<u8>>,
    holds: Vec<Vec<u8>>,
    sights: Vec<Vec<u8>>,
}

impl Publication {
    /// An account as it stands at an instant, with these event types. Nothing where the instant lies outside the calendar.
    pub fn account(&mut self, user: &str, account: &Account, kinds: &[Box<str>], now_ms: i64) {
        let Ok(room) = account.room(now_ms) else { return };
        let fields = fields(account, &room, kinds);
        self.accounts.extend([
            user.into(),
            number(account.position()),
            number(room.until_ms),
            number_of(2 * fields.len()),
        ]);
        self.accounts.extend(fields.into_iter().flat_map(|(name, value)| [name.into_bytes(), value]));
        self.account_count += 1;
    }

    /// The commit of this reservation is counted on the account that goes with it.
    pub fn commit(&mut self, user: &str, id: &str) {
        self.commits.extend([user.into(), id.into()]);
    }

    /// Something is held that Redis may have lost.
    pub fn hold(&mut self, user: &str, id: &str, hold: &Hold) {
        self.holds.extend([user.into(), id.into(), text_of(hold).into_bytes(), number(hold.expires_ms)]);
    }

    /// A program has done so much there, by the count in its field.
    pub fn sight(&mut self, user: &str, field: &str, seen: i64) {
        self.sights.extend([user.into(), field.into(), number(seen)]);
    }

    /// How many accounts are in it.
    pub fn len(&self) -> usize {
        self.account_count
    }

    /// The arguments of the script.
    pub fn args(self, prefix: &str, expected: &str, new: &str, log: &str, life: &str) -> Vec<Vec<u8>> {
        let mut args: Vec<Vec<u8>> = [prefix, expected, new, log, life].map(|text| text.as_bytes().to_vec()).into();
        let lists = [
            (self.account_count, self.accounts),
            (self.holds.len() / 4, self.holds),
            (self.commits.len() / 2, self.commits),
        ];
        for (count, mut list) in lists.into_iter().chain([(self.sights.len() / 3, self.sights)]) {
            args.push(number_of(count));
            args.append(&mut list);
        }
        args
    }
}

/// What the scripts read of an account, beside its entry and how long it is right: by this it is decided.
pub fn fields(account: &Account, room: &Room, kinds: &[Box<str>]) -> Vec<(String, Vec<u8>)> {
    let mut fields = vec![
        ("credits".to_owned(), room.credits.map_or_else(|| ALL.into(), |credits| number(cut(credits.micro())))),
        ("over".to_owned(), number(i64::from(room.expired))),
        ("account".to_owned(), account.encode()),
    ];
    for kind in kinds {
        fields.push((format!("d:{kind}"), number(cut(room.today(kind).micro()))));
        fields.push((format!("m:{kind}"), number(cut(room.month(kind).micro()))));
    }
    fields
}

/// A hold as it lies in Redis.
pub fn text_of(hold: &Hold) -> String {
    format!("h:{}:{}:{}:{}", hold.quantity.micro(), hold.credits.micro(), hold.expires_ms, hold.kind)
}

/// What there is to use is cut down; what is used is never cut at the upper end of what a cap can be, because a cap is cut there
/// too; what was given back is cut up.
pub fn cut(number: i64) -> i64 {
    number.clamp(-EXACT_MAX, EXACT_MAX)
}

/// Whether Lua can tell it from its neighbours.
pub fn is_exact(number: i64) -> bool {
    cut(number) == number
}

pub fn number(number: i64) -> Vec<u8> {
    number.to_string().into_bytes()
}

pub fn number_of(count: usize) -> Vec<u8> {
    count.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_lua_cannot_tell_apart_are_cut_towards_refusing() {
        assert_eq!(cut(i64::MAX), EXACT_MAX);
        assert_eq!(cut(i64::MIN), -EXACT_MAX);
        assert_eq!((cut(EXACT_MAX), cut(5), is_exact(EXACT_MAX + 1)), (EXACT_MAX, 5, false));
    }
}

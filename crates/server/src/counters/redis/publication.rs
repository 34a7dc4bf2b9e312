//! What is published: accounts as the scripts read them. Lua's numbers are exact below 2^53; what is greater is cut so that it
//! can only refuse, never let through.

use billing::account::{Account, Room};
use billing::hold::Hold;
use billing::usage::Quantity;

use super::notation::HoldText;
use super::script::Args;

/// The greatest whole number that Lua tells from its neighbours.
const EXACT_MAX: i64 = (1 << 53) - 1;
/// Credits without a limit.
const ALL: &str = "all";

/// What one call of the script `apply` carries, of one shard.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    accounts: List,
    holds: List,
    commits: List,
    sights: List,
}

#[derive(Debug, Clone, Default)]
struct List {
    count: usize,
    args: Args,
}

impl List {
    fn next(&mut self) -> &mut Args {
        self.count += 1;
        &mut self.args
    }

    fn write(&self, args: &mut Args) {
        args.count(self.count);
        args.append(&self.args);
    }
}

impl Publication {
    /// An account as it stands at an instant, with these event types. Nothing where the instant lies outside the calendar.
    pub fn account(&mut self, user: &str, account: &Account, kinds: &[Box<str>], now_ms: i64) {
        let Ok(room) = account.room(now_ms) else { return };
        let args = self.accounts.next();
        args.text(user);
        args.number(account.position());
        args.number(room.until_ms);
        write_fields(&room, kinds, args);
    }

    /// The commit of this reservation is counted on the account that goes with it.
    pub fn commit(&mut self, user: &str, id: &str) {
        let args = self.commits.next();
        args.text(user);
        args.text(id);
    }

    /// Something is held that Redis may have lost.
    pub fn hold(&mut self, user: &str, id: &str, hold: &Hold) {
        let args = self.holds.next();
        args.text(user);
        args.text(id);
        args.text(&text_of(hold));
        args.number(hold.expires_ms);
    }

    /// A program has done so much there, by the count in its field.
    pub fn sight(&mut self, user: &str, field: &str, seen: i64) {
        let args = self.sights.next();
        args.text(user);
        args.text(field);
        args.number(seen);
    }

    /// How many accounts are in it.
    pub fn len(&self) -> usize {
        self.accounts.count
    }

    /// The arguments of the script.
    pub fn args(&self, head: [&str; 5], kinds: &[Box<str>]) -> Args {
        let mut args = Args::of(head.map(str::as_bytes));
        args.count(2 * kinds.len());
        for kind in kinds {
            args.written(format_args!("d:{kind}"));
            args.written(format_args!("m:{kind}"));
        }
        for list in [&self.accounts, &self.holds, &self.commits, &self.sights] {
            list.write(&mut args);
        }
        args
    }
}

/// What the scripts read of an account, beside its entry and how long it is right: by this it is decided.
pub fn fields(room: &Room, kinds: &[Box<str>]) -> Vec<(String, String)> {
    let mut fields =
        vec![("credits".to_owned(), credits(room)), ("over".to_owned(), i64::from(room.expired).to_string())];
    for kind in kinds {
        fields.push((format!("d:{kind}"), cut(room.today(kind).micro()).to_string()));
        fields.push((format!("m:{kind}"), cut(room.month(kind).micro()).to_string()));
    }
    fields
}

/// The same with their number before them, without what is 0 of a type: that is read where there is nothing.
pub fn write_fields(room: &Room, kinds: &[Box<str>], args: &mut Args) {
    let sums = || kinds.iter().map(|kind| (kind, [("d", room.today(kind)), ("m", room.month(kind))]));
    let used = sums().flat_map(|(_, sums)| sums).filter(|(_, sum)| *sum != Quantity::ZERO).count();
    args.count(4 + 2 * used);
    for text in ["credits", &credits(room), "over", if room.expired { "1" } else { "0" }] {
        args.text(text);
    }
    for (kind, sums) in sums() {
        for (of, sum) in sums.into_iter().filter(|(_, sum)| *sum != Quantity::ZERO) {
            args.written(format_args!("{of}:{kind}"));
            args.number(cut(sum.micro()));
        }
    }
}

fn credits(room: &Room) -> String {
    room.credits.map_or_else(|| ALL.to_owned(), |credits| cut(credits.micro()).to_string())
}

/// A hold as it lies in Redis.
pub fn text_of(hold: &Hold) -> String {
    let (quantity, credits) = (hold.quantity.micro(), hold.credits.micro());
    HoldText { quantity, credits, expires_ms: hold.expires_ms, kind: &hold.kind }.to_string()
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

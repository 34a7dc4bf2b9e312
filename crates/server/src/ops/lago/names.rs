//! Under which id of Lago's a user's entries are there: decided once, by their place in the log, when they go out. Lago knows an
//! event by its subscription as well, so whatever is said about an entry later has to say the id of the first time.

use std::collections::BTreeSet;

use super::codes::taken_back;
use crate::error::Result;
use crate::store::Tx;
use crate::store::lago;
use crate::store::log::Logged;

/// The ids that a user has had, with the positions from which on.
#[derive(Debug, Default)]
pub struct Names(Vec<(i64, String)>);

impl Names {
    pub fn read(tx: &mut Tx<'_>, user: &str) -> Result<Self> {
        lago::names(tx, user).map(Self)
    }

    /// The id of an entry; nothing where nothing of its user has gone out yet. What takes an entry back has the id of that one.
    pub fn of(&self, entry: &Logged) -> Option<&str> {
        self.at(taken_back(entry).unwrap_or(entry.position))
    }

    fn at(&self, position: i64) -> Option<&str> {
        let begun = self.0.iter().rev().find(|(from, _)| *from <= position);
        begun.map(|(_, name)| name.as_str())
    }
}

/// Writes down from which entry on a user has another id than before.
pub fn follow(tx: &mut Tx<'_>, user: &str, from_position: i64, name: &str) -> Result<()> {
    let known = lago::names(tx, user)?;
    match known.last() {
        Some((_, last)) if last == name => Ok(()),
        Some(_) => lago::save_name(tx, user, from_position, name),
        None => lago::save_name(tx, user, 0, name),
    }
}

/// Writes down that a single entry has another id than its place says; that of those after it stays.
pub fn set(tx: &mut Tx<'_>, user: &str, position: i64, name: &str) -> Result<()> {
    let names = Names::read(tx, user)?;
    let Some(after) = names.at(position + 1) else { return follow(tx, user, position, name) };
    if names.at(position) != Some(name) {
        lago::save_name(tx, user, position, name)?;
        lago::save_name(tx, user, position + 1, after)?;
    }
    Ok(())
}

/// Every id under which something of a user may be at Lago. Who had none at first was known there by their own.
pub fn all(tx: &mut Tx<'_>, user: &str) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::from([user.to_owned()]);
    all.extend(lago::subscription(tx, user)?.map(|known| known.external_id));
    all.extend(lago::names(tx, user)?.into_iter().map(|(_, name)| name));
    Ok(all)
}

/// Under what the sums of a user are noted that were billed by hand: they are none of Lago's.
pub fn by_hand(user: &str) -> String {
    format!("billed by hand: {user}")
}

/// Users who have or had an id of Lago's in common, and so one subscription there: what is theirs is compared, and sent again, as one.
#[derive(Debug, Default)]
pub struct Together(Vec<BTreeSet<String>>);

impl Together {
    pub fn read(tx: &mut Tx<'_>) -> Result<Self> {
        let mut groups: Vec<BTreeSet<String>> = Vec::new();
        for users in lago::shared_names(tx)?.into_values() {
            let mut all: BTreeSet<String> = users.into_iter().collect();
            let (touched, apart): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| !group.is_disjoint(&all));
            all.extend(touched.into_iter().flatten());
            groups = apart;
            groups.push(all);
        }
        Ok(Self(groups))
    }

    /// Everybody who is one with this user, and this user.
    pub fn with(&self, user: &str) -> BTreeSet<String> {
        let group = self.0.iter().find(|group| group.contains(user));
        group.cloned().unwrap_or_else(|| BTreeSet::from([user.to_owned()]))
    }
}

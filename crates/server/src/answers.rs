//! Rendered answers and people who are signed in, kept until the transaction that changes them.
//!
//! Nothing here ages: an entry is right until a commit touches what it shows, and then it is gone before the writer gets
//! its answer. Commits of other processes are noticed at the next request, or heard of (`Db::notice_other_writers`).

pub mod disabled;
pub mod keys;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use jiff::Timestamp;

use crate::store::Change;
use crate::store::users::User;

/// How many people and sessions are kept; beyond it the maps are emptied and fill anew.
const KEPT_MAX: usize = 100_000;
/// How many different answers are kept for one person.
const ANSWERS_MAX: usize = 16;

/// A rendered answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// JSON text.
    pub body: Bytes,
    /// A strong validator of the body, with its quotes.
    pub etag: Bytes,
    /// How old the mirrored data in it can be at most; nothing where no mirrored data is shown.
    pub as_of: Option<AsOf>,
    /// From this second on the answer says something else by itself: a day or a period has ended.
    pub valid_until: i64,
}

/// The age of mirrored data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsOf {
    pub second: i64,
    /// The same instant, RFC 3339.
    pub text: Bytes,
}

impl AsOf {
    pub fn at(instant: Timestamp) -> Self {
        Self { second: instant.as_second(), text: Bytes::from(billing::time::wire(instant)) }
    }
}

/// Which answer of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Subscription,
    Invoices { limit: u16 },
    PaymentMethods,
    Usage,
}

/// A user with the answers rendered for them.
#[derive(Debug)]
pub struct Person {
    pub user: User,
    stale: AtomicBool,
    /// Grows whenever the user's usage moves.
    usage_moves: AtomicU64,
    answers: RwLock<Vec<(Page, Arc<Answer>)>>,
}

impl Person {
    pub fn new(user: User) -> Self {
        Self { user, stale: AtomicBool::new(false), usage_moves: AtomicU64::new(0), answers: RwLock::default() }
    }

    /// The kept answer, if it still says what it said. A request that waits may have it in hand while it is dropped;
    /// no change finds it then.
    pub fn answer(&self, page: Page, now: Timestamp) -> Option<Arc<Answer>> {
        if self.stale.load(Ordering::Acquire) {
            return None;
        }
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        let (_, answer) = answers.iter().find(|(kept, _)| *kept == page)?;
        (now.as_second() < answer.valid_until).then(|| Arc::clone(answer))
    }

    /// How often the user's usage has moved; taken before a read whose result is to be kept.
    pub fn usage_moves(&self) -> u64 {
        self.usage_moves.load(Ordering::Acquire)
    }

    /// Keeps an answer that was rendered from a snapshot taken after this user was loaded, unless usage has moved since.
    pub fn keep(&self, page: Page, answer: &Arc<Answer>, usage_moves: u64) {
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        if page == Page::Usage && self.usage_moves() != usage_moves {
            return;
        }
        answers.retain(|(kept, _)| *kept != page);
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        answers.push((page, Arc::clone(answer)));
    }
}

/// A session that this program issued, as it is kept.
#[derive(Debug, Clone)]
pub struct Signed {
    pub person: Arc<Person>,
    pub expires_at: i64,
}

/// SHA-256 of a session token.
pub type TokenHash = [u8; 32];

#[derive(Debug, Default)]
struct Kept {
    sessions: HashMap<TokenHash, Signed>,
    people: HashMap<String, Arc<Person>>,
    by_customer: HashMap<String, Vec<String>>,
    unlinked: HashSet<String>,
}

/// All that is kept.
#[derive(Debug, Default)]
pub struct Answers {
    kept: RwLock<Kept>,
    /// The statistics that admins see.
    stats: RwLock<Arc<Slot>>,
    /// Service keys that were found good.
    pub keys: keys::Keys,
    /// Users that services asked for.
    pub disabled: disabled::Disabled,
    /// Moves with every change: what was read before a change is not kept after it.
    epoch: AtomicU64,
}

/// Room for one answer; replaced as a whole when what it shows changes.
#[derive(Debug, Default)]
pub struct Slot(RwLock<Option<Arc<Answer>>>);

impl Slot {
    pub fn get(&self, now: Timestamp) -> Option<Arc<Answer>> {
        let answer = self.0.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        (now.as_second() < answer.valid_until).then_some(answer)
    }

    pub fn keep(&self, answer: &Arc<Answer>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(answer));
    }
}

impl Answers {
    /// Where time stands among the changes; taken before a read whose result is to be kept.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub fn session(&self, token: &TokenHash) -> Option<Signed> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.sessions.get(token).filter(|signed| !signed.person.stale.load(Ordering::Acquire)).cloned()
    }

    pub fn person(&self, user: &str) -> Option<Arc<Person>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.people.get(user).filter(|person| !person.stale.load(Ordering::Acquire)).cloned()
    }

    /// Keeps a person, and the session they were found by, unless something changed since `epoch`.
    pub fn keep(&self, epoch: u64, person: &Arc<Person>, session: Option<(TokenHash, i64)>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if self.epoch() != epoch {
            return;
        }
        if kept.people.len() >= KEPT_MAX || kept.sessions.len() >= KEPT_MAX {
            *kept = Kept::default();
        }
        let person = kept.one_of(person);
        if let Some((token, expires_at)) = session {
            kept.sessions.insert(token, Signed { person, expires_at });
        }
    }

    /// What these users have used has moved: their page of it is dropped, and nothing else of theirs.
    pub fn usage_changed<'u>(&self, users: impl Iterator<Item = &'u str>) {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if kept.people.is_empty() {
            return;
        }
        for person in users.filter_map(|user| kept.people.get(user)) {
            let mut answers = person.answers.write().unwrap_or_else(PoisonError::into_inner);
            person.usage_moves.fetch_add(1, Ordering::AcqRel);
            answers.retain(|(page, _)| *page != Page::Usage);
        }
    }

    /// The room of the statistics as they are now.
    pub fn stats(&self) -> Arc<Slot> {
        Arc::clone(&self.stats.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Drops what the changes concern.
    pub fn drop_changed(&self, changes: &[Change]) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::User(user) => {
                    self.disabled.forget(user);
                    kept.forget(user);
                }
                Change::Customer(customer) => match kept.by_customer.remove(customer) {
                    Some(users) => users.iter().for_each(|user| kept.forget(user)),
                    // A customer that nobody is linked to may be the one that an e-mail will link.
                    None => std::mem::take(&mut kept.unlinked).iter().for_each(|user| kept.forget(user)),
                },
                Change::Totals => *self.stats.write().unwrap_or_else(PoisonError::into_inner) = Arc::default(),
                Change::Everything => {
                    self.keys.drop_all();
                    self.disabled.drop_all();
                    kept.people.values().for_each(|person| person.stale.store(true, Ordering::Release));
                    *kept = Kept::default();
                    *self.stats.write().unwrap_or_else(PoisonError::into_inner) = Arc::default();
                }
            }
        }
    }
}

impl Kept {
    /// The one `Person` of this user that changes reach: the known one, or else this one from now on. Requests that loaded
    /// the same user side by side must not leave a session with a person of its own, which no change would find.
    fn one_of(&mut self, person: &Arc<Person>) -> Arc<Person> {
        let user = &person.user;
        if let Some(known) = self.people.get(&user.id) {
            return Arc::clone(known);
        }
        self.people.insert(user.id.clone(), Arc::clone(person));
        match &user.customer {
            Some(customer) => {
                let users = self.by_customer.entry(customer.clone()).or_default();
                if !users.contains(&user.id) {
                    users.push(user.id.clone());
                }
            }
            None => {
                self.unlinked.insert(user.id.clone());
            }
        }
        Arc::clone(person)
    }

    fn forget(&mut self, user: &str) {
        if let Some(person) = self.people.remove(user) {
            person.stale.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(id: &str, customer: Option<&str>) -> Arc<Person> {
        Arc::new(Person::new(User {
            id: id.into(),
            email: format!("{id}@example.com"),
            name: None,
            tier: "trial".into(),
            customer: customer.map(str::to_owned),
            admin: false,
            disabled: false,
            created: None,
        }))
    }

    fn kept_after(change: Change, person: &Arc<Person>) -> bool {
        let answers = Answers::default();
        answers.keep(answers.epoch(), person, Some(([1; 32], 100)));
        answers.drop_changed(&[change]);
        answers.session(&[1; 32]).is_some()
    }

    #[test]
    fn a_change_drops_what_it_concerns_and_nothing_else() {
        assert!(!kept_after(Change::User("u".into()), &person("u", None)));
        assert!(kept_after(Change::User("v".into()), &person("u", None)));
        assert!(!kept_after(Change::Customer("cus_1".into()), &person("u", Some("cus_1"))));
        assert!(kept_after(Change::Customer("cus_2".into()), &person("u", Some("cus_1"))));
        assert!(!kept_after(Change::Customer("cus_2".into()), &person("u", None)), "may be linked now");
        assert!(kept_after(Change::Totals, &person("u", None)));
        assert!(!kept_after(Change::Everything, &person("u", None)));
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let answers = Answers::default();
        let epoch = answers.epoch();
        answers.drop_changed(&[Change::User("u".into())]);
        answers.keep(epoch, &person("u", None), Some(([1; 32], 100)));
        assert!(answers.session(&[1; 32]).is_none());
    }

    #[test]
    fn s09_sessions_loaded_side_by_side_share_one_person_and_one_change_ends_both() {
        let answers = Answers::default();
        let epoch = answers.epoch();
        answers.keep(epoch, &person("u", None), Some(([1; 32], 100)));
        answers.keep(epoch, &person("u", None), Some(([2; 32], 100)));
        answers.drop_changed(&[Change::User("u".into())]);
        assert!(answers.session(&[1; 32]).is_none() && answers.session(&[2; 32]).is_none());
    }

    #[test]
    fn usage_that_moves_drops_its_page_and_no_other() {
        let (answers, person) = (Answers::default(), person("u", None));
        answers.keep(answers.epoch(), &person, None);
        let answer = Arc::new(Answer { body: Bytes::new(), etag: Bytes::new(), as_of: None, valid_until: 100 });
        let now = Timestamp::UNIX_EPOCH;
        let before = person.usage_moves();
        person.keep(Page::Usage, &answer, before);
        person.keep(Page::Subscription, &answer, before);
        answers.usage_changed(["v", "u"].into_iter());
        assert!(person.answer(Page::Usage, now).is_none());
        assert!(person.answer(Page::Subscription, now).is_some());
        person.keep(Page::Usage, &answer, before);
        assert!(person.answer(Page::Usage, now).is_none(), "it was rendered before the move");
    }

    #[test]
    fn an_answer_ends_with_its_day() {
        let person = person("u", None);
        let answer = Arc::new(Answer { body: Bytes::new(), etag: Bytes::new(), as_of: None, valid_until: 100 });
        person.keep(Page::Usage, &answer, 0);
        let at = |second| Timestamp::from_second(second).expect("instant");
        assert!(person.answer(Page::Usage, at(99)).is_some());
        assert!(person.answer(Page::Usage, at(100)).is_none());
        assert!(person.answer(Page::Subscription, at(99)).is_none());
    }
}

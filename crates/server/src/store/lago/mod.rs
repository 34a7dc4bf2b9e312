//! What is on its way to Lago, and what is known of what is there: a file per noun.

mod codes;
mod cursor;
mod dead;
mod moved;
mod names;
mod notices;
mod subscriptions;
mod sums;
mod window;

pub use codes::{Code, codes, save_code};
pub use cursor::{Cursor, Fault, advance, cursor, save_tier, set_failing, skip, skips, tier};
pub use dead::{
    Dead, ask_replay, bury, dead_after, dead_count, dead_letter, dead_of, dead_reasons, dead_stored, is_dead,
    leave_dead, raise, replays,
};
pub use moved::{moved, save_moved};
pub use names::{Identity, identity, names, save_name, shared_names};
pub use notices::{keep_notice, notice_applied, notices, sweep_notices};
pub use subscriptions::{
    Subscription, count_differing, count_subscriptions, doubt_subscriptions, forget_made_again, forget_subscription,
    is_shared, made_again, save_delivered, save_difference, save_made_again, save_subscription, subscription,
    subscriptions_after, user_of,
};
pub use sums::{QUARTER_MS, Sum, add_sum, forget_sums, has_sums, sums, sweep_sums};
pub use window::{Item, State, Window, open_window, save_window, window};

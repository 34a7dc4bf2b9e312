//! What other services tell us by themselves.

pub mod lago;
pub mod stripe;

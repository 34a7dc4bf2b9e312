//! Usage goes to Lago: everything once, whatever happens on the way.

mod bench;
mod codes;
mod command;
mod crossing;
mod gateway;
mod gone;
mod history;
mod month_end;
mod names;
mod owed;
mod reconciling;
mod refusals;
mod start;
mod tiers;
mod webhooks;

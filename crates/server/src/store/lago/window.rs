//! The window that is being sent.

use crate::error::{Error, Result};
use crate::store::Tx;
use crate::store::db::args;

/// What became of an event of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Waiting,
    Delivered,
    Dead,
}

/// Exact events, fixed before the first try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The entries that it was made of; 0 and 0 when it holds dead letters that are sent again.
    pub first_position: i64,
    pub last_position: i64,
    pub opened_ms: i64,
    pub items: Vec<Item>,
}

impl Window {
    /// What is not sent yet, or of which nobody knows.
    pub fn waiting(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.state == State::Waiting)
    }
}

/// An event of the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub position: i64,
    /// The JSON object as it is sent, each time the same while Lago may have it.
    pub event: String,
    pub state: State,
}

pub fn window(tx: &mut Tx<'_>) -> Result<Option<Window>> {
    let sql = "SELECT first_position, last_position, opened_ms, events, states FROM lago_window WHERE one = 1";
    let Some(row) = tx.row(sql, args![])? else { return Ok(None) };
    let impossible = || Error::internal("impossible row: a window of Lago's does not fit its states");
    let (events, states) = (row.text(3)?, row.text(4)?);
    let mut items = Vec::new();
    for (line, letter) in events.lines().zip(states.chars()) {
        let (position, event) = line.split_once('\t').ok_or_else(impossible)?;
        let state = match letter {
            'w' => State::Waiting,
            'd' => State::Delivered,
            'x' => State::Dead,
            _ => return Err(impossible()),
        };
        items.push(Item { position: position.parse().map_err(|_| impossible())?, event: event.to_owned(), state });
    }
    if items.len() != states.len() {
        return Err(impossible());
    }
    Ok(Some(Window { first_position: row.int(0)?, last_position: row.int(1)?, opened_ms: row.int(2)?, items }))
}

/// Stores a new window. There must be none.
pub fn open_window(tx: &mut Tx<'_>, window: &Window) -> Result<()> {
    tx.run(
        "INSERT INTO lago_window (one, first_position, last_position, opened_ms, events, states) VALUES (1, ?1, ?2, ?3, ?4, ?5)",
        args![window.first_position, window.last_position, window.opened_ms, lines(window), letters(window)],
    )?;
    Ok(())
}

fn lines(window: &Window) -> String {
    let lines: Vec<String> = window.items.iter().map(|item| format!("{}\t{}", item.position, item.event)).collect();
    lines.join("\n")
}

/// Writes down what became of the events; the window goes when nothing waits any more.
pub fn save_window(tx: &mut Tx<'_>, window: &Window) -> Result<()> {
    if window.waiting().next().is_some() {
        tx.run(
            "UPDATE lago_window SET opened_ms = ?1, events = ?2, states = ?3 WHERE one = 1",
            args![window.opened_ms, lines(window), letters(window)],
        )?;
    } else {
        tx.run("DELETE FROM lago_window WHERE one = 1", args![])?;
    }
    Ok(())
}

fn letters(window: &Window) -> String {
    let letter = |item: &Item| match item.state {
        State::Waiting => 'w',
        State::Delivered => 'd',
        State::Dead => 'x',
    };
    window.items.iter().map(letter).collect()
}

//! What goes into a statement and what comes out of a row.

use crate::error::{Error, Result};

/// One value of a statement or a row. Only what both databases hold without a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    /// Whole columns, for statements that insert many rows at once. PostgreSQL only.
    Ints(Vec<i64>),
    Texts(Vec<Option<String>>),
    Blobs(Vec<Vec<u8>>),
}

/// One value of a statement that is run for many rows: borrowed, so that a row costs no copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Arg<'a> {
    /// Text or nothing.
    pub fn text_or_null(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl From<Arg<'_>> for Value {
    fn from(value: Arg<'_>) -> Self {
        match value {
            Arg::Null => Self::Null,
            Arg::Int(value) => Self::Int(value),
            Arg::Text(value) => Self::Text(value.to_owned()),
            Arg::Bytes(value) => Self::Bytes(value.to_vec()),
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<jiff::Timestamp> for Value {
    /// Instants are stored as whole seconds since 1970.
    fn from(value: jiff::Timestamp) -> Self {
        Self::Int(value.as_second())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        value.as_ref().map_or(Self::Null, |text| Self::Text(text.clone()))
    }
}

/// One row of a result; columns by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub(super) Vec<Value>);

impl Row {
    /// A column that must hold an integer.
    pub fn int(&self, column: usize) -> Result<i64> {
        self.int_or_null(column)?.ok_or_else(|| impossible(column, "an integer, found NULL"))
    }

    /// A column that holds an integer or nothing.
    pub fn int_or_null(&self, column: usize) -> Result<Option<i64>> {
        match self.0.get(column) {
            Some(Value::Int(value)) => Ok(Some(*value)),
            Some(Value::Null) => Ok(None),
            _ => Err(impossible(column, "an integer")),
        }
    }

    /// A column that must hold a count: an integer that is not negative.
    pub fn count(&self, column: usize) -> Result<u64> {
        u64::try_from(self.int(column)?).map_err(|_| impossible(column, "a count"))
    }

    /// A column that must hold 0 or 1.
    pub fn flag(&self, column: usize) -> Result<bool> {
        match self.int(column)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(impossible(column, "0 or 1")),
        }
    }

    /// A column that must hold text.
    pub fn text(&self, column: usize) -> Result<String> {
        self.text_or_null(column)?.ok_or_else(|| impossible(column, "text, found NULL"))
    }

    /// A column that holds text or nothing.
    pub fn text_or_null(&self, column: usize) -> Result<Option<String>> {
        match self.0.get(column) {
            Some(Value::Text(value)) => Ok(Some(value.clone())),
            Some(Value::Null) => Ok(None),
            _ => Err(impossible(column, "text")),
        }
    }

    /// A column that must hold bytes.
    pub fn bytes(&self, column: usize) -> Result<&[u8]> {
        match self.0.get(column) {
            Some(Value::Bytes(value)) => Ok(value),
            _ => Err(impossible(column, "bytes")),
        }
    }

    /// A column that must hold an instant.
    pub fn instant(&self, column: usize) -> Result<jiff::Timestamp> {
        self.instant_or_null(column)?.ok_or_else(|| impossible(column, "an instant, found NULL"))
    }

    /// A column that holds an instant or nothing.
    pub fn instant_or_null(&self, column: usize) -> Result<Option<jiff::Timestamp>> {
        self.int_or_null(column)?
            .map(|second| jiff::Timestamp::from_second(second).map_err(|_| impossible(column, "an instant")))
            .transpose()
    }
}

/// A row that no code of ours can have written.
fn impossible(column: usize, expected: &str) -> Error {
    Error::internal(format!("impossible row: column {column} must be {expected}"))
}

//! Rust as far as the rules have to read it: which text is code, which is literal, and which paths are named.

use std::collections::BTreeSet;

/// A file's code with comments and the insides of literals blanked out, and the string literals by themselves. Every character
/// keeps its place, so that lines can be counted.
pub struct View {
    code: Vec<char>,
    /// Where each literal opens, and its text.
    strings: Vec<(usize, String)>,
}

impl View {
    pub fn of(text: &str) -> View {
        let chars: Vec<char> = text.chars().collect();
        let mut view = View { code: chars.clone(), strings: Vec::new() };
        let mut at = 0;
        while at < chars.len() {
            at = match (chars[at], chars.get(at + 1)) {
                ('/', Some('/')) => view.blank(at, end_of(&chars, at, "\n")),
                ('/', Some('*')) => view.blank(at, end_of(&chars, at + 2, "*/") + 2),
                ('"', _) => view.string(at, at, end_of_string(&chars, at + 1)),
                ('r', Some('"' | '#')) if !word_before(&chars, at) => view.raw(at),
                // A character, unless it is a lifetime.
                ('\'', Some('\\')) => view.blank(at + 1, end_of(&chars, at + 3, "'")),
                ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => view.blank(at + 1, at + 2) + 1,
                _ => at + 1,
            };
        }
        view
    }

    fn blank(&mut self, from: usize, to: usize) -> usize {
        let to = to.min(self.code.len());
        for c in self.code[from..to].iter_mut().filter(|c| **c != '\n') {
            *c = ' ';
        }
        to.max(from + 1)
    }

    fn string(&mut self, opens: usize, quote: usize, closes: usize) -> usize {
        let text = self.code[quote + 1..closes.min(self.code.len())].iter().collect();
        self.strings.push((opens, text));
        self.blank(quote + 1, closes) + 1
    }

    /// `r"…"`, `r#"…"#` and so on; a raw identifier is left alone.
    fn raw(&mut self, at: usize) -> usize {
        let hashes = self.code[at + 1..].iter().take_while(|c| **c == '#').count();
        let quote = at + 1 + hashes;
        if self.code.get(quote) != Some(&'"') {
            return at + 1;
        }
        let close = format!("\"{}", "#".repeat(hashes));
        let closes = end_of(&self.code, quote + 1, &close);
        self.string(at, quote, closes) + hashes
    }

    pub fn without_tests(mut self) -> View {
        let code: String = self.code.iter().collect();
        if let Some(byte) = code.find("#[cfg(test)]\nmod ") {
            self.code.truncate(code[..byte].chars().count());
        }
        self
    }

    fn line(&self, at: usize) -> usize {
        1 + self.code[..at].iter().filter(|c| **c == '\n').count()
    }

    /// Lines that name the word (or path) as a whole; `x::postgres` is another `postgres`.
    pub fn lines_with(&self, word: &str) -> BTreeSet<usize> {
        self.positions(word).map(|at| self.line(at)).collect()
    }

    fn positions(&self, word: &str) -> impl Iterator<Item = usize> {
        let word: Vec<char> = word.chars().collect();
        let (length, lone) = (word.len(), !word.contains(&':'));
        let found = self.code.windows(length.max(1)).enumerate().filter(move |(_, here)| **here == word[..]);
        found.map(|(at, _)| at).filter(move |at| {
            let inside_path = lone && *at >= 2 && self.code[at - 2..*at] == [':', ':'] && self.names_before(at - 2);
            let goes_on = self.code.get(at + length).is_some_and(|c| is_word(*c));
            !word_before(&self.code, *at) && !goes_on && !inside_path
        })
    }

    /// Whether a path goes on to the left of this `::`; a leading `::axum` is the crate itself.
    fn names_before(&self, colons: usize) -> bool {
        colons > 0 && is_word(self.code[colons - 1])
    }

    /// The modules of this crate that are named: `crate::store::x` and `use crate::{http, ops::y}`.
    pub fn crate_modules(&self) -> Vec<(usize, String)> {
        let mut modules = Vec::new();
        for at in self.positions("crate") {
            let rest: String = self.code[at + 5..].iter().collect();
            let Some(path) = rest.strip_prefix("::") else { continue };
            let heads = path.strip_prefix('{').map_or_else(|| vec![first_word(path)], heads_of_group);
            modules.extend(heads.into_iter().map(|head| (self.line(at), head)));
        }
        modules
    }

    /// The first literal of each `format!` and its relatives.
    pub fn format_texts(&self) -> Vec<(usize, &str)> {
        let calls = ["format!", "write!", "writeln!", "format_args!"].into_iter().flat_map(|name| {
            let length = name.chars().count();
            self.positions(name).map(move |at| at + length)
        });
        let text = |after: usize| {
            let argument = self.strings.iter().find(|(opens, _)| *opens > after)?;
            let same_call = !self.code[after..argument.0].contains(&';');
            same_call.then_some((self.line(argument.0), argument.1.as_str()))
        };
        calls.filter_map(text).collect()
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_before(chars: &[char], at: usize) -> bool {
    // `1f64` is a float, although a digit stands before it.
    at > 0 && is_word(chars[at - 1]) && !chars[at - 1].is_ascii_digit()
}

/// Where `needle` comes next, or the end of the file.
fn end_of(chars: &[char], from: usize, needle: &str) -> usize {
    let needle: Vec<char> = needle.chars().collect();
    let from = from.min(chars.len());
    chars[from..].windows(needle.len()).position(|found| found == needle).map_or(chars.len(), |at| from + at)
}

fn end_of_string(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at
}

pub fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| is_word(*c)).collect()
}

/// The first words of `{a, b::{c, d}, e}`, without its opening brace.
fn heads_of_group(text: &str) -> Vec<String> {
    let (mut heads, mut depth, mut start) = (Vec::new(), 1, 0);
    for (at, c) in text.char_indices() {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 || (depth == 1 && c == ',') {
            heads.push(first_word(&text[start..at]));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

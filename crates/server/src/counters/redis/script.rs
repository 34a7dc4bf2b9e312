//! A script: sent by the hash of its text, and in full to a server that does not have it.

use std::fmt::{Arguments, Write as _};
use std::io::Write as _;

use redis::Cmd;

/// A script and its name.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    sha1: String,
}

impl Script {
    pub fn new(text: &'static str) -> Self {
        // Redis names scripts by SHA-1. Nothing is kept secret or safe by it.
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let mut sha1 = String::with_capacity(2 * digest.as_ref().len());
        for byte in digest.as_ref() {
            let _infallible = write!(sha1, "{byte:02x}");
        }
        Self { text, sha1 }
    }

    pub fn by_name(&self, keys: &Args, args: &Args) -> Cmd {
        filled("EVALSHA", &self.sha1, keys, args)
    }

    pub fn in_full(&self, keys: &Args, args: &Args) -> Cmd {
        filled("EVAL", self.text, keys, args)
    }
}

fn filled(command: &str, script: &str, keys: &Args, args: &Args) -> Cmd {
    let (count, bytes) = (keys.ends.len() + args.ends.len() + 3, keys.bytes.len() + args.bytes.len() + script.len());
    let mut filled = Cmd::with_capacity(count, bytes + 32);
    filled.arg(command).arg(script).arg(keys.ends.len());
    for arg in keys.iter().chain(args.iter()) {
        filled.arg(arg);
    }
    filled
}

/// Keys or arguments of a script, one after the other in one piece of memory: a call has hundreds of them.
#[derive(Debug, Clone, Default)]
pub struct Args {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Args {
    pub fn of<'a>(args: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut all = Self::default();
        args.into_iter().for_each(|arg| all.bytes(arg));
        all
    }

    pub fn bytes(&mut self, arg: &[u8]) {
        self.bytes.extend_from_slice(arg);
        self.ends.push(self.bytes.len());
    }

    pub fn text(&mut self, arg: &str) {
        self.bytes(arg.as_bytes());
    }

    pub fn number(&mut self, number: i64) {
        self.written(format_args!("{number}"));
    }

    pub fn count(&mut self, count: usize) {
        self.written(format_args!("{count}"));
    }

    pub fn written(&mut self, arg: Arguments<'_>) {
        let _infallible = self.bytes.write_fmt(arg);
        self.ends.push(self.bytes.len());
    }

    /// Numbers as they lie in memory, for `struct.unpack`.
    pub fn figures<const N: usize>(&mut self, short: &[i32], long: [i64; N]) {
        self.bytes.extend(short.iter().flat_map(|figure| figure.to_le_bytes()));
        self.bytes.extend(long.iter().flat_map(|figure| figure.to_le_bytes()));
        self.ends.push(self.bytes.len());
    }

    pub fn append(&mut self, other: &Self) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| before + end));
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// The scripts.
#[derive(Debug)]
pub struct Scripts {
    pub apply: Script,
    pub begin: Script,
    pub claim: Script,
    pub disown: Script,
    pub find: Script,
    pub give_up: Script,
    pub look: Script,
    pub mend: Script,
    pub release: Script,
    pub reserve: Script,
    pub sweep: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            apply: Script::new(include_str!("apply.lua")),
            begin: Script::new(include_str!("begin.lua")),
            claim: Script::new(include_str!("claim.lua")),
            disown: Script::new(include_str!("disown.lua")),
            find: Script::new(include_str!("find.lua")),
            give_up: Script::new(include_str!("give_up.lua")),
            look: Script::new(include_str!("look.lua")),
            mend: Script::new(include_str!("mend.lua")),
            release: Script::new(include_str!("release.lua")),
            reserve: Script::new(concat!(include_str!("expire.lua"), include_str!("reserve.lua"))),
            sweep: Script::new(concat!(include_str!("expire.lua"), include_str!("sweep.lua"))),
        }
    }
}

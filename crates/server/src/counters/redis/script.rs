//! A script: sent by the hash of its text, and in full to a server that does not have it.

use std::fmt::Write as _;

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

    pub fn by_name(&self, keys: &[&[u8]], args: &[Vec<u8>]) -> Cmd {
        filled("EVALSHA", &self.sha1, keys, args)
    }

    pub fn in_full(&self, keys: &[&[u8]], args: &[Vec<u8>]) -> Cmd {
        filled("EVAL", self.text, keys, args)
    }
}

fn filled(command: &str, script: &str, keys: &[&[u8]], args: &[Vec<u8>]) -> Cmd {
    let mut command = redis::cmd(command);
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(*key);
    }
    for arg in args {
        command.arg(arg.as_slice());
    }
    command
}

/// The scripts.
#[derive(Debug)]
pub struct Scripts {
    pub apply: Script,
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
            look: Script::new(include_str!("look.lua")),
            mend: Script::new(include_str!("mend.lua")),
            release: Script::new(include_str!("release.lua")),
            reserve: Script::new(concat!(include_str!("expire.lua"), include_str!("reserve.lua"))),
            sweep: Script::new(concat!(include_str!("expire.lua"), include_str!("sweep.lua"))),
        }
    }
}

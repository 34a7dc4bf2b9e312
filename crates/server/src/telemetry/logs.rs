//! Structured logs on stderr. A line is one JSON object and one line, whatever is in it: text that could break a line or colour a
//! terminal leaves as an escape.

use std::fmt::{self, Write as _};
use std::io::{self, Write};

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

/// The level string names neither a level nor `target=level`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLevel {
    /// The part that cannot be read.
    pub part: String,
}

impl fmt::Display for BadLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a log level: write one of off, error, warn, info, debug, trace, or target=level, comma separated",
            self.part.escape_debug()
        )
    }
}

impl std::error::Error for BadLevel {}

/// Reads `info` or `billhook=debug,info`. A word that is no level is an error, not a target with everything on.
pub fn levels(text: &str) -> Result<Targets, BadLevel> {
    let mut targets = Targets::new();
    for part in text.split(',').map(str::trim) {
        let bad = || BadLevel { part: part.to_owned() };
        targets = match part.split_once('=') {
            Some((target, level)) if !target.trim().is_empty() => {
                targets.with_target(target.trim(), level.trim().parse::<LevelFilter>().map_err(|_| bad())?)
            }
            Some(_) => return Err(bad()),
            None if part.is_empty() || part.bytes().all(|byte| byte.is_ascii_digit()) => return Err(bad()),
            None => targets.with_default(part.parse::<LevelFilter>().map_err(|_| bad())?),
        };
    }
    Ok(targets)
}

/// A subscriber that writes one JSON object per line into `out`.
pub fn subscriber<W>(levels: Targets, out: W) -> impl tracing::Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(OneLine(out))
        .with_filter(levels);
    tracing_subscriber::registry().with(lines)
}

/// Sends the logs of this process to stderr and gives panics the same form. Call once, first thing.
pub fn start(text: &str) -> Result<(), BadLevel> {
    let subscriber = subscriber(levels(text)?, io::stderr);
    // A second call (tests in one process) keeps the first subscriber: there is nothing to repair.
    let _already_started = tracing::subscriber::set_global_default(subscriber);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // A literal message is ours. A formatted one may carry the caller's input and stays out.
        let message = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(formatted message withheld)");
        tracing::error!(panic.place = place, panic.message = message, "panic");
    }));
    Ok(())
}

/// Wraps a writer so that a line of log stays one line for every reader: JSON escapes CR, LF and ESC by itself, but not
/// U+0085, U+2028, U+2029 and the C1 controls, at which some readers break lines or obey (S-57).
#[derive(Debug, Clone)]
struct OneLine<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) if text.contains(breaks_a_line) => self.0.write_all(escaped(text).as_bytes())?,
            _ => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn breaks_a_line(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}')
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len() + 32), |mut out, c| {
        if breaks_a_line(c) {
            let _infallible = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(say: impl FnOnce()) -> String {
        let page = Page::default();
        let copy = page.clone();
        let subscriber = subscriber(levels("info").unwrap(), move || copy.clone());
        tracing::subscriber::with_default(subscriber, say);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn s57_hostile_text_stays_in_one_json_object_on_one_line() {
        let hostile = [
            "a\r\n{\"level\":\"ERROR\"}",
            "\u{1b}[31mred\u{1b}[0m",
            "line\u{2028}sep\u{2029}par\u{85}nel",
            "\u{9b}31m\0\u{7f}",
            "quote\" back\\slash",
        ];
        let text = logged(|| hostile.iter().for_each(|text| tracing::info!(user.name = %text, "{text}")));
        assert_eq!(text.matches('\n').count(), hostile.len());
        assert!(!text.trim_end().contains(|c: char| breaks_a_line(c) || (c.is_control() && c != '\n')), "{text:?}");
        for (line, said) in text.lines().zip(hostile) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((line["user.name"].as_str(), line["message"].as_str()), (Some(said), Some(said)));
        }
    }

    #[test]
    fn lines_are_flat_with_dotted_names_and_a_utc_time() {
        let line: serde_json::Value =
            serde_json::from_str(&logged(|| tracing::warn!(request.id = "req_1", duration_ms = 3, "slow"))).unwrap();
        assert_eq!((line["level"].as_str(), line["request.id"].as_str()), (Some("WARN"), Some("req_1")));
        assert_eq!((line["duration_ms"].as_i64(), line["message"].as_str()), (Some(3), Some("slow")));
        assert!(line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        assert!(line["target"].as_str().unwrap().contains("telemetry"));
    }

    #[test]
    fn a_level_is_read_or_refused_by_name() {
        let level = |text: &str| levels(text).map(|_| ()).map_err(|bad| bad.part);
        for good in ["info", "billhook=debug,info", "off", "WARN", "hyper=error , debug"] {
            assert_eq!(level(good), Ok(()), "{good}");
        }
        for (bad, part) in
            [("loud", "loud"), ("info,x=loud", "x=loud"), ("", ""), ("info,", ""), ("=info", "=info"), ("3", "3")]
        {
            assert_eq!(level(bad), Err(part.to_owned()), "{bad}");
        }
        let chosen = levels("billhook=debug,info").unwrap();
        assert!(chosen.would_enable("billhook::http", &tracing::Level::DEBUG));
        assert!(!chosen.would_enable("hyper", &tracing::Level::DEBUG));
    }
}

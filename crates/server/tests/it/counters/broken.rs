//! F-25: whatever Redis answers, it is an outage at most: never a panic, never an error of ours.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use std::time::Duration;

use futures_util::future::join_all;

use super::groups::reserve_new;
use super::lines::settled;
use super::{Adapter, Rig, code};
use crate::harness::Database;

/// A server that answers the greeting of a client and then always the same.
fn parrot(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || talk(stream, answer));
        }
    });
    format!("redis://{address}")
}

fn talk(stream: TcpStream, answer: &str) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let command = command(&mut reader)?;
        match command[0].to_ascii_uppercase().as_str() {
            "CLIENT" | "HELLO" | "SELECT" => writer.write_all(b"+OK\r\n").ok()?,
            "INFO" => writer.write_all(b"$17\r\ncluster_enabled:0\r\n").ok()?,
            _ if answer.is_empty() => return None,
            _ => writer.write_all(answer.as_bytes()).ok()?,
        }
    }
}

fn command(reader: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut line = || {
        let mut line = String::new();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    let count: usize = line()?.strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length: usize = line.trim_end().strip_prefix('$')?.parse().ok()?;
        let mut word = vec![0; length + 2];
        reader.read_exact(&mut word).ok()?;
        words.push(String::from_utf8_lossy(&word[..length]).into_owned());
    }
    Some(words)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f25_every_answer_of_a_broken_redis_is_an_outage_and_no_more() {
    for answer in [
        "-READONLY You can't write against a read only replica.\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-MISCONF Redis is configured to save RDB snapshots\r\n",
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        "-NOSCRIPT No matching script. Please use EVAL.\r\n",
        "-MOVED 1234 127.0.0.1:1\r\n",
        "-ASK 1234 127.0.0.1:1\r\n",
        "-CLUSTERDOWN The cluster is down\r\n",
        "-BUSY Redis is busy running a script.\r\n",
        "-NOPERM this user has no permissions\r\n",
        "-ERR something nobody has heard of\r\n",
        "*0\r\n",
        "*1\r\n$7\r\nnothing\r\n",
        "*9\r\n$7\r\ngranted\r\n$1\r\nx\r\n$1\r\nx\r\n$1\r\nx\r\n$1\r\nx\r\n$1\r\nx\r\n$1\r\nx\r\n$1\r\nx\r\n$0\r\n\r\n",
        "*1\r\n$7\r\nmissing\r\n",
        ":42\r\n",
        "$-1\r\n",
        "$3\r\n\u{0}\u{1}\u{2}\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "",
    ] {
        let rig = Rig::at(Some(parrot(answer)), Database::sqlite()).await;
        for number in 0..8 {
            assert_eq!(code(rig.reserve(&format!("r{number}"), "inference", "1").await), "limit.unknown", "{answer:?}");
        }
        rig.record("e", "inference", "1").await;
        assert_eq!(rig.app().counters.degraded(), Some("redis"), "{answer:?}");
        let committed = billhook::ops::reservations::commit(
            rig.app(),
            "r0",
            billhook::ops::reservations::Commit {
                quantity: super::quantity("1"),
                at: None,
                user: Some(rig.user.clone()),
                kind: Some("inference".to_owned()),
            },
        );
        assert!(committed.await.expect("counted").late, "{answer:?}");
    }
}

/// F-22: a Redis that answers and may not be written (no memory left, or a replica since a moment ago) holds nothing: nobody is told that
/// it does, alone or beside others, with an id of their own or one of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_where_redis_may_not_be_written_nothing_is_granted() {
    let no_memory = (&["CONFIG", "SET", "maxmemory", "1"][..], &["CONFIG", "SET", "maxmemory", "0"][..]);
    let replica = (&["REPLICAOF", "127.0.0.1", "1"][..], &["REPLICAOF", "NO", "ONE"][..]);
    for (broken, mended) in [no_memory, replica] {
        let mut rig = Rig::new(Adapter::Redis).await;
        let ttl = Duration::from_mins(5);
        let users = [rig.user.clone(), rig.world.user("v@example.com", None, false).await.0];
        for user in &users {
            rig.user.clone_from(user);
            reserve_new(&rig, "inference", "1", ttl).await.expect("held");
        }
        let said = rig.server.as_ref().expect("a Redis").ask(broken);
        assert_eq!(said, "OK", "{broken:?}");
        for user in &users {
            rig.user.clone_from(user);
            assert_eq!(code(rig.reserve("own", "inference", "3").await), "limit.unknown", "{broken:?}");
            let all = join_all((0..5).map(|_| reserve_new(&rig, "inference", "3", ttl))).await;
            assert!(all.into_iter().all(|outcome| code(outcome) == "limit.unknown"), "{broken:?}");
        }
        assert_eq!(rig.app().counters.degraded(), Some("redis"), "{broken:?}");
        let said = rig.server.as_ref().expect("a Redis").ask(mended);
        assert_eq!(said, "OK", "{mended:?}");
        for user in &users {
            rig.user.clone_from(user);
            assert_eq!(settled(&rig, &format!("{user} more"), "4").await, "ok", "{mended:?}");
            assert_eq!(settled(&rig, &format!("{user} most"), "0.1").await, "credits.exhausted", "{mended:?}");
        }
        assert_eq!(rig.app().counters.degraded(), None, "{mended:?}");
    }
}

//! F-24: a Redis that answers, half a second late. Nobody waits for it longer than the deadline, and when it is quick again it is
//! asked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::server::Server;
use super::{CATALOGUE, Rig, code};
use crate::harness::Database;

const LATE: Duration = Duration::from_millis(500);

/// A way to a Redis: what it answers arrives late, as long as that is wanted. Nothing is lost and nothing changes its order.
#[allow(clippy::disallowed_methods, reason = "the way runs beside the test")]
async fn way_to(server: &Server, is_slow: Arc<AtomicBool>) -> String {
    let there = server.url().trim_start_matches("redis://").to_owned();
    let here = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = here.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = here.accept().await {
            let Ok(server) = TcpStream::connect(&there).await else { continue };
            for end in [&client, &server] {
                end.set_nodelay(true).expect("a connection");
            }
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::spawn(carry(from_client, to_server, Arc::default()));
            tokio::spawn(carry(from_server, to_client, Arc::clone(&is_slow)));
        }
    });
    format!("redis://{address}")
}

/// Each piece arrives so long after it was said, however many are on the way.
#[allow(clippy::disallowed_methods, reason = "the way runs beside the test")]
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_slow: Arc<AtomicBool>) {
    let (said, mut hears) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, bytes)) = hears.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut bytes = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let late = if is_slow.load(Ordering::SeqCst) { LATE } else { Duration::ZERO };
        if said.send((Instant::now() + late, bytes[..length].to_vec())).is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f24_a_redis_that_is_half_a_second_late_keeps_nobody_waiting() {
    let (server, is_slow) = (Server::single(), Arc::new(AtomicBool::new(false)));
    let url = way_to(&server, Arc::clone(&is_slow)).await;
    // By the program's own deadline, not by a test's.
    let rig = Rig::in_a_hurry(Some(url), Database::sqlite(), CATALOGUE).await;
    let mut tries = 0;
    while code(rig.reserve("before", "inference", "1").await) != "ok" {
        tries += 1;
        assert!(tries < 100, "it is quick, and nobody is granted anything");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    is_slow.store(true, Ordering::SeqCst);
    let mut lengths = Vec::new();
    for number in 0..200 {
        let begin = Instant::now();
        let said = code(rig.reserve(&format!("slow{number}"), "inference", "0.001").await);
        lengths.push(begin.elapsed());
        assert_eq!(said, "limit.unknown", "nobody knows in time, and the limit is closed");
    }
    lengths.sort_unstable();
    assert!(lengths[197] <= Duration::from_millis(150), "the p99 of 200 is {:?}", lengths[197]);
    assert!(lengths[160] <= Duration::from_millis(20), "most do not wait at all: {:?}", lengths[160]);
    rig.record("meanwhile", "inference", "1").await;

    is_slow.store(false, Ordering::SeqCst);
    let begin = Instant::now();
    let mut tries = 0;
    while code(rig.reserve(&format!("after{tries}"), "inference", "0.001").await) != "ok" {
        tries += 1;
        assert!(begin.elapsed() < Duration::from_secs(10), "it is quick again, and nobody asks it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(rig.app().counters.degraded(), None);
    // What Redis held for those who had gone away is nobody's: it is free again, and the rest is exact.
    rig.world.clock.advance(Duration::from_mins(6));
    assert_eq!(rig.left().await, "4");
    assert_eq!(super::lost::agrees(&rig).await, [""; 0]);
}

//! A Redis of a test's own, alone or as a cluster of six: to be flushed, frozen, killed and started again.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::database::unique_name;

const PATIENCE: Duration = Duration::from_mins(1);
/// Three masters, and a replica of each.
const NODES: usize = 6;

/// One process or six.
pub struct Server {
    nodes: Vec<Node>,
    folder: PathBuf,
}

struct Node {
    port: u16,
    process: Child,
    args: Vec<String>,
}

impl Server {
    pub fn single() -> Self {
        Self::start(1, &["--appendonly", "no"])
    }

    pub fn cluster() -> Self {
        // Nodes talk on ports that nobody reserved: somebody else may have taken one.
        let mut tries = 0;
        let server = loop {
            let server = Self::start(
                NODES,
                &["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"],
            );
            let addresses: Vec<String> = server.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
            let mut create = Command::new("redis-cli");
            create.args(["--cluster", "create"]).args(&addresses).args(["--cluster-replicas", "1", "--cluster-yes"]);
            let created = create.output().expect("redis-cli");
            if created.status.success() {
                break server;
            }
            tries += 1;
            let [said, complained] =
                [created.stdout, created.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            assert!(tries < 5, "{said}{complained}");
        };
        wait_for("the cluster", || {
            (0..NODES).all(|node| {
                let info = server.at(node, &["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{NODES}"))
            }) && (0..NODES).all(|node| {
                let role = server.at(node, &["INFO", "replication"]);
                role.contains("role:master") || role.contains("master_link_status:up")
            })
        });
        server
    }

    fn start(count: usize, args: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("{}_redis", unique_name()));
        std::fs::create_dir(&folder).expect("a folder");
        let nodes = (0..count).map(|number| Node::start(&folder.join(number.to_string()), args)).collect();
        Self { nodes, folder }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.nodes[0].port)
    }

    /// What the first node says to a command.
    pub fn ask(&self, command: &[&str]) -> String {
        self.at(0, command)
    }

    pub fn at(&self, node: usize, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        let output = cli.args(["-p", &self.nodes[node].port.to_string()]).args(command).output().expect("redis-cli");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Ends it without a word.
    pub fn kill(&mut self, node: usize) {
        let _ = self.nodes[node].process.kill();
        let _ = self.nodes[node].process.wait();
    }

    /// Starts it again on the same port, with what it has saved; empty where it was not told to.
    pub fn start_again(&mut self, node: usize) {
        self.nodes[node].process = Node::run(&self.nodes[node].args);
        wait_for("the server", || self.at(node, &["PING"]) == "PONG");
    }

    pub fn freeze(&self, node: usize) {
        self.signal(node, "STOP");
    }

    pub fn thaw(&self, node: usize) {
        self.signal(node, "CONT");
    }

    fn signal(&self, node: usize, signal: &str) {
        let id = self.nodes[node].process.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().expect("kill").success());
    }

    /// The masters, each with its replica.
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        let by_port = |port: &str| self.nodes.iter().position(|node| node.port.to_string() == port);
        let master_of = |node: usize| {
            let info = self.at(node, &["INFO", "replication"]);
            let port = info.lines().find_map(|line| line.trim().strip_prefix("master_port:"))?.to_owned();
            by_port(&port)
        };
        (0..self.nodes.len()).filter_map(|node| Some((master_of(node)?, node))).collect()
    }

    pub fn role(&self, node: usize) -> String {
        let info = self.at(node, &["INFO", "replication"]);
        info.lines().find_map(|line| line.trim().strip_prefix("role:")).unwrap_or_default().to_owned()
    }
}

pub fn wait_for(what: &str, ready: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < end, "{what} took longer than {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Node {
    fn start(folder: &std::path::Path, args: &[&str]) -> Self {
        std::fs::create_dir(folder).expect("a folder");
        loop {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("an address").port();
            drop(listener);
            if port > 55_000 {
                continue; // the bus of a cluster is ten thousand above
            }
            let mut all: Vec<String> =
                ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"].map(str::to_owned).into();
            all.push(folder.display().to_string());
            all.extend(args.iter().map(ToString::to_string));
            let mut node = Self { port, process: Self::run(&all), args: all };
            let end = Instant::now() + PATIENCE;
            while Instant::now() < end && node.process.try_wait().expect("a process").is_none() {
                if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return node;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn run(args: &[String]) -> Child {
        let mut redis = Command::new("redis-server");
        redis.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        redis.spawn().expect("redis-server is needed: apt-get install redis-server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.process.kill();
            let _ = node.process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

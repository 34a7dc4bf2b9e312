//! Sessions that Ops Center keeps in Redis: `session:{token}`, JSON with the user's id.

use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;

use crate::error::{Cause, Error, Result, Upstream};

const DEADLINE: Duration = Duration::from_millis(500);

/// A reader of foreign sessions.
#[derive(Clone)]
pub struct ForeignSessions {
    url: SecretString,
    connection: std::sync::Arc<OnceCell<Connection>>,
}

#[derive(Clone)]
enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for ForeignSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ForeignSessions")
    }
}

impl ForeignSessions {
    pub fn new(url: SecretString) -> Self {
        Self { url, connection: std::sync::Arc::default() }
    }

    /// The id of the user whose session this is; nothing when there is no such session.
    pub async fn user_of(&self, token: &str) -> Result<Option<String>> {
        let found = tokio::time::timeout(DEADLINE, self.get(token)).await;
        let text =
            found.map_err(|_| unavailable("no answer in time".into()))?.map_err(|error| unavailable(error.into()))?;
        Ok(text.as_deref().and_then(user_id))
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> Result<()> {
        let answer = tokio::time::timeout(DEADLINE, self.get("billhook-doctor")).await;
        answer.map_err(|_| unavailable("no answer in time".into()))?.map_err(|error| unavailable(error.into()))?;
        Ok(())
    }

    async fn get(&self, token: &str) -> redis::RedisResult<Option<String>> {
        let mut command = redis::cmd("GET");
        command.arg(format!("session:{token}"));
        match self.connection.get_or_try_init(|| connect(self.url.expose_secret())).await?.clone() {
            Connection::Single(mut connection) => command.query_async(&mut connection).await,
            Connection::Cluster(mut connection) => command.query_async(&mut connection).await,
        }
    }
}

/// A server that is part of a cluster is spoken to as a cluster.
async fn connect(url: &str) -> redis::RedisResult<Connection> {
    let client = redis::Client::open(url)?;
    let mut single = ConnectionManager::new(client).await?;
    let info: String = redis::cmd("INFO").arg("cluster").query_async(&mut single).await?;
    if info.contains("cluster_enabled:1") {
        let cluster = ClusterClient::new([url])?.get_async_connection().await?;
        return Ok(Connection::Cluster(cluster));
    }
    Ok(Connection::Single(single))
}

/// The user's id in a session: flat (`user_id`) or nested (`user.id`, `user.user_id`), as both generations wrote it.
fn user_id(text: &str) -> Option<String> {
    let session: serde_json::Value = serde_json::from_str(text).ok()?;
    let nested = &session["user"];
    [&session["user_id"], &nested["user_id"], &nested["id"]].into_iter().find_map(|id| id.as_str().map(str::to_owned))
}

fn unavailable(cause: Cause) -> Error {
    Error::Upstream {
        who: Upstream::Redis,
        code: "redis.unavailable",
        retry_after: Duration::from_secs(1),
        cause: Some(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::user_id;

    #[test]
    fn both_generations_of_sessions_name_their_user() {
        for (text, expected) in [
            (r#"{"user_id":"u1","is_admin":true}"#, Some("u1")),
            (r#"{"user":{"id":"u2"},"access_token":"t"}"#, Some("u2")),
            (r#"{"user":{"user_id":"u3"}}"#, Some("u3")),
            (r#"{"user":{}}"#, None),
            ("not json", None),
        ] {
            assert_eq!(user_id(text).as_deref(), expected, "{text}");
        }
    }
}

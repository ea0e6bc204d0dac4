//! Clients that ask one server at the same time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::ensure;
use bytes::Bytes;
use serde_json::json;
use tokio::task::JoinSet;

use super::client::Client;

/// What the clients do.
pub enum Act {
    /// GET of a path, with an answer of that length.
    Get(String, usize),
    /// POST of ConfigMaps to a collection, named by a prefix and a number.
    Create {
        /// The path of the collection.
        path: String,
        /// The beginning of the names.
        prefix: String,
        /// The text in each.
        text: String,
    },
}

impl Act {
    async fn perform(&self, client: &mut Client, turn: usize) -> anyhow::Result<()> {
        match self {
            Act::Get(path, length) => {
                let found = client.get(path).await?;
                ensure!(found == *length, "{path}: {found} bytes in place of {length}");
            }
            Act::Create { path, prefix, text } => {
                client.post(path, config_map(&format!("{prefix}-{turn:05}"), text)).await?;
            }
        }
        Ok(())
    }
}

/// A ConfigMap with a text, as clients send it.
pub fn config_map(name: &str, text: &str) -> Bytes {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "bench"}},
        "data": {"text": text},
    });
    object.to_string().into()
}

/// The clients of one server.
pub struct Load {
    clients: Vec<Client>,
}

impl Load {
    /// Connects.
    pub async fn connect(
        clients: usize,
        address: SocketAddr,
        tls: &Arc<rustls::ClientConfig>,
    ) -> anyhow::Result<Self> {
        Ok(Self { clients: Client::several(clients, address, tls).await? })
    }

    /// Lets the clients act a number of times altogether; returns how often a second.
    pub async fn rate(&mut self, times: usize, act: Act) -> anyhow::Result<f64> {
        let next = Arc::new(AtomicUsize::new(0));
        let act = Arc::new(act);
        let mut tasks = JoinSet::new();
        let started = Instant::now();
        for mut client in self.clients.drain(..) {
            let (next, act) = (Arc::clone(&next), Arc::clone(&act));
            tasks.spawn(async move {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= times {
                        return anyhow::Ok(client);
                    }
                    act.perform(&mut client, turn).await?;
                }
            });
        }
        while let Some(client) = tasks.join_next().await {
            self.clients.push(client??);
        }
        Ok(times as f64 / started.elapsed().as_secs_f64())
    }
}

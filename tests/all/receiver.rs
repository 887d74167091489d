//! Receivers of webhooks, good and bad, on this machine.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub struct Receiver {
    pub url: String,
    pub port: u16,
    received: mpsc::UnboundedReceiver<Received>,
    task: JoinHandle<()>,
}

pub struct Received {
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn id(&self) -> &str {
        &self.headers["x-zero-delivery"]
    }

    pub fn event(&self) -> &str {
        &self.headers["x-zero-event"]
    }
}

/// What is done once a request has arrived.
#[derive(Clone)]
enum Manner {
    /// Answers with these statuses one after the other; the last of them for ever.
    Answer(Vec<u16>),
    /// Says nothing.
    Hang,
    /// Answers 200, and then one byte a second.
    Drip,
    /// Answers 200 with 10 GB.
    Flood,
}

impl Receiver {
    pub async fn answering(status: u16) -> Self {
        Self::on(0, Manner::Answer(vec![status])).await
    }

    pub async fn answering_in_turn(statuses: &[u16]) -> Self {
        Self::on(0, Manner::Answer(statuses.to_vec())).await
    }

    pub async fn on_port(port: u16) -> Self {
        Self::on(port, Manner::Answer(vec![200])).await
    }

    pub async fn hanging() -> Self {
        Self::on(0, Manner::Hang).await
    }

    pub async fn dripping() -> Self {
        Self::on(0, Manner::Drip).await
    }

    pub async fn endless() -> Self {
        Self::on(0, Manner::Flood).await
    }

    async fn on(port: u16, manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, received) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut count = 0;
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, manner.clone(), count, sender.clone()));
                count += 1;
            }
        });
        Self { url: format!("http://127.0.0.1:{port}/hook"), port, received, task }
    }

    /// The next request; fails when none comes.
    pub async fn next(&mut self) -> Received {
        let next = tokio::time::timeout(Duration::from_secs(40), self.received.recv()).await;
        next.expect("a delivery in time").unwrap()
    }

    /// Whether nothing comes for half a second.
    pub async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(500), self.received.recv()).await.is_err()
    }

    /// From now on nobody listens.
    pub async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Serves one request. A test may have gone by then: errors end it.
async fn serve(stream: TcpStream, manner: Manner, count: usize, sender: mpsc::UnboundedSender<Received>) {
    let mut stream = BufReader::new(stream);
    let mut headers = HashMap::new();
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        line.clear();
    }
    let Some(length) = headers.get("content-length").and_then(|length| length.parse().ok()) else { return };
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let _ = sender.send(Received { headers, body: String::from_utf8(body).unwrap() });
    let started = "HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n";
    match manner {
        Manner::Answer(statuses) => {
            let status = statuses[count.min(statuses.len() - 1)];
            let text = if status == 204 { String::new() } else { format!("answered {status}") };
            let location = if status == 302 { "location: /elsewhere\r\n" } else { "" };
            let length = if status == 204 { String::new() } else { format!("content-length: {}\r\n", text.len()) };
            let answer = format!("HTTP/1.1 {status} Said\r\n{location}{length}\r\n{text}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        Manner::Hang => while stream.read_u8().await.is_ok() {},
        Manner::Drip => {
            let _ = stream.write_all(started.as_bytes()).await;
            while stream.write_all(b".").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Manner::Flood => {
            let _ = stream.write_all(started.as_bytes()).await;
            while stream.write_all(&[b'.'; 65536]).await.is_ok() {}
        }
    }
}

use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt, Empty};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::clock::Time;
use crate::net::entrance::Proxies;
use crate::net::tls::local_ca::LocalCa;

const NOW: Time = Time::from_unix(1_790_000_000);
const BIG: usize = 16 * 1024 * 1024;

type Client = tokio_rustls::client::TlsStream<TcpStream>;

fn limits() -> Limits {
    Limits::default()
}

/// Limits at which a stall ends within a moment.
fn short() -> Limits {
    let moment = Duration::from_millis(300);
    Limits { handshake: moment, idle: moment, unread: moment, parting: moment, arriving: moment, ..Limits::default() }
}

/// A server with a local CA on a free port.
struct Running {
    address: SocketAddr,
    ca: Arc<LocalCa>,
    service: Arc<Service>,
    drain: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _directory: TempDir,
}

/// `/` answers at once, `/wait` when it is released, `/big` with 16 MiB, `/refuse` with 400 and words of its own.
#[derive(Default)]
struct Service {
    arrived: Notify,
    release: Notify,
    under_way: AtomicUsize,
}

struct UnderWay(Arc<Service>);

impl UnderWay {
    fn new(service: Arc<Service>) -> Self {
        service.under_way.fetch_add(1, Ordering::SeqCst);
        Self(service)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A body that says when it has been handed over whole, or given up.
struct Content {
    body: Full<Bytes>,
    _under_way: UnderWay,
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Service {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Content> {
        let under_way = UnderWay::new(self.clone());
        self.arrived.notify_one();
        let body = match request.uri().path() {
            "/wait" => {
                self.release.notified().await;
                Bytes::from_static(b"released")
            }
            "/big" => Bytes::from(vec![b'x'; BIG]),
            _ => Bytes::from_static(b"hello"),
        };
        let refuse = request.uri().path() == "/refuse";
        let mut response = Response::new(Content { body: Full::new(body), _under_way: under_way });
        *response.status_mut() = if refuse { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        response
    }
}

fn refuse(Refused { status, message, details }: Refused, peer: Peer) -> Response<Bytes> {
    let body = serde_json::json!({ "code": status.as_u16(), "message": message, "details": details });
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.header("x-peer", peer.address.to_string()).body(body.to_string().into()).unwrap()
}

impl Running {
    async fn start(limits: Limits) -> Self {
        Self::start_with(limits, Duration::from_secs(20)).await
    }

    async fn start_with(limits: Limits, grace: Duration) -> Self {
        let directory = TempDir::new().unwrap();
        let ca = Arc::new(LocalCa::open(directory.path(), &[], Vec::new, None, NOW).unwrap());
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address();
        let service = Arc::new(Service::default());
        let (drain, drained) = oneshot::channel::<()>();
        let task = tokio::spawn({
            let (ca, service) = (ca.clone(), service.clone());
            async move {
                let answer = move |request, _| service.clone().answer(request);
                let entrance = Entrance::new(Proxies::default());
                let drain = async {
                    _ = drained.await;
                    grace
                };
                run(listener, ca.tls(), &entrance, answer, Arc::new(refuse), limits, drain).await;
            }
        });
        Self { address, ca, service, drain: Some(drain), task, _directory: directory }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn tls(&self, protocol: &[u8]) -> Client {
        self.tls_on(self.tcp().await, protocol).await
    }

    async fn tls_on(&self, socket: TcpStream, protocol: &[u8]) -> Client {
        self.try_tls(socket, "localhost", protocol, &[&rustls::version::TLS13], NOW).await.unwrap()
    }

    /// Shakes hands as a client that trusts the CA and nothing else.
    async fn try_tls(
        &self,
        socket: TcpStream,
        name: &'static str,
        protocol: &[u8],
        versions: &[&'static rustls::SupportedProtocolVersion],
        now: Time,
    ) -> io::Result<Client> {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.ca.authority().certificate_pem().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(At(now)))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from(name).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }

    /// Waits until no request is being answered, whole or cut.
    async fn at_rest(&self) {
        soon(async {
            while self.service.under_way.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    fn drain(&mut self) {
        _ = self.drain.take().unwrap().send(());
    }
}

#[derive(Debug)]
struct At(Time);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.unix() as u64)))
    }
}

/// Fails the test instead of hanging it.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("takes too long")
}

/// Everything until the server ends the connection, however it does that.
async fn read_to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    _ = soon(stream.read_to_end(&mut read)).await;
    read
}

/// Sends `request` over HTTP/1.1 and reads until the server ends the connection.
async fn ask(running: &Running, request: &str) -> String {
    let mut stream = running.tls(b"http/1.1").await;
    stream.write_all(request.as_bytes()).await.unwrap();
    String::from_utf8(read_to_end(&mut stream).await).unwrap()
}

/// One answer of `/`, leaving the connection open.
async fn get(stream: &mut Client) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"hello") {
        assert_ne!(soon(stream.read_buf(&mut read)).await.unwrap(), 0, "ended early");
    }
    String::from_utf8(read).unwrap()
}

type Http2 = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

async fn http2(running: &Running, window: u32) -> (Http2, JoinHandle<hyper::Result<()>>) {
    http2_on(running.tls(b"h2").await, window).await
}

async fn http2_on(stream: Client, window: u32) -> (Http2, JoinHandle<hyper::Result<()>>) {
    let (client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    (client, tokio::spawn(connection))
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://localhost{path}")).body(Empty::new()).unwrap()
}

fn error_of(answer: &str) -> (u64, serde_json::Value) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("has a header");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(head.contains("content-type: application/json") && head.contains("connection: close"), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    assert!(head.contains("x-peer: 127.0.0.1:"), "whoever words the error knows whom it is for: {head}");
    let error: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(error["code"], status);
    assert!(error["message"].is_string() && error["details"].is_string());
    (status, error)
}

#[tokio::test]
async fn whoever_trusts_the_ca_connects_by_name_and_address_over_both_protocols() {
    let running = Running::start(limits()).await;
    for name in ["localhost", "127.0.0.1"] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let mut stream = running.try_tls(running.tcp().await, name, b"http/1.1", &[version], NOW).await.unwrap();
            assert!(get(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
            assert!(get(&mut stream).await.starts_with("HTTP/1.1 200 OK"), "the connection stays open");
        }
    }
    let (mut client, _connection) = http2(&running, 65_535).await;
    let answer = soon(client.send_request(request("/"))).await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.collect().await.unwrap().to_bytes(), "hello");
    assert!(
        running.try_tls(running.tcp().await, "evil.example", b"h2", &[&rustls::version::TLS13], NOW).await.is_err()
    );
}

#[tokio::test]
async fn a_renewed_certificate_shows_in_the_next_handshake_and_drops_no_connection() {
    let running = Running::start(limits()).await;
    let mut before = running.tls(b"http/1.1").await;
    get(&mut before).await;
    let later = NOW.plus(Duration::from_secs(25 * 24 * 60 * 60));
    assert!(running.ca.renew(later).unwrap());
    get(&mut before).await;
    let mut after = running
        .try_tls(running.tcp().await, "localhost", b"http/1.1", &[&rustls::version::TLS13], later)
        .await
        .unwrap();
    get(&mut after).await;
    let shown = |client: &Client| client.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_ne!(shown(&before), shown(&after));
}

#[tokio::test]
async fn plain_http_gets_a_hint_where_to_go() {
    let running = Running::start(limits()).await;
    let get = "GET / HTTP/1.1\r\nHost: zero.lan:8443\r\n\r\n";
    let post = "POST /x HTTP/1.1\r\nHost: zero.lan:8443\r\ncontent-length: 2\r\n\r\n{}";
    for request in [get, post] {
        let mut socket = running.tcp().await;
        socket.write_all(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8(read_to_end(&mut socket).await).unwrap();
        let (status, error) = error_of(&answer);
        assert_eq!(status, 400);
        assert_eq!(error["message"], "this port speaks HTTPS");
        assert_eq!(error["details"], "use https://zero.lan:8443 instead");
    }
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_is_closed() {
    let running = Running::start(limits()).await;
    // A ClientHello of TLS 1.1 without extensions.
    let mut tls11 = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    tls11.extend([7; 32]);
    tls11.extend([0, 0, 2, 0, 0x2F, 1, 0]);
    for bytes in [b"\0\0\0\0".as_slice(), b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16garbage", &tls11]
    {
        let mut socket = running.tcp().await;
        socket.write_all(bytes).await.unwrap();
        let answer = read_to_end(&mut socket).await;
        assert!(answer.is_empty() || answer[0] == 21, "nothing but an alert of TLS: {answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_falls_silent_before_http_is_ended() {
    let running = Running::start(short()).await;
    for bytes in [b"".as_slice(), b"\x16", b"\x16\x03\x01\x02\0", b"GET / HT"] {
        let mut socket = running.tcp().await;
        socket.write_all(bytes).await.unwrap();
        assert!(read_to_end(&mut socket).await.is_empty());
    }
}

#[tokio::test]
async fn a_client_that_falls_silent_after_the_handshake_is_ended() {
    let running = Running::start(short()).await;
    for protocol in [b"http/1.1".as_slice(), b"h2"] {
        read_to_end(&mut running.tls(protocol).await).await;
    }
    let mut after_a_request = running.tls(b"http/1.1").await;
    get(&mut after_a_request).await;
    assert!(read_to_end(&mut after_a_request).await.is_empty());
    let (mut client, connection) = http2(&running, 65_535).await;
    soon(client.send_request(request("/"))).await.unwrap();
    soon(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_header_that_drips_in_is_ended() {
    let running = Running::start(short()).await;
    let (mut read, mut write) = tokio::io::split(running.tls(b"http/1.1").await);
    let dripping = tokio::spawn(async move {
        let mut header = b"GET / HTTP/1.1\r\nx: ".to_vec();
        while write.write_all(&header).await.is_ok() {
            header = b"y".to_vec();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(read_to_end(&mut read).await.is_empty());
    dripping.abort();
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_ended() {
    let running = Running::start(short()).await;
    let mut stream = running.tls(b"http/1.1").await;
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    soon(running.service.arrived.notified()).await;
    running.at_rest().await;
    let read = read_to_end(&mut stream).await;
    assert!(read.len() < BIG, "{}", read.len());
}

#[tokio::test]
async fn a_client_that_keeps_its_http2_window_closed_is_ended_though_it_answers_pings() {
    let running = Running::start(short()).await;
    let (mut client, connection) = http2(&running, 1000).await;
    let answer = soon(client.send_request(request("/big"))).await.unwrap();
    soon(connection).await.unwrap().expect_err("is cut");
    assert!(answer.collect().await.is_err());
    running.at_rest().await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_its_whole_answer() {
    let limits = Limits { idle: Duration::from_millis(400), unread: Duration::from_millis(400), ..short() };
    let running = Running::start(limits.clone()).await;
    let mut stream = running.tls(b"http/1.1").await;
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let started = Instant::now();
    let mut read = 0;
    let mut piece = vec![0; 64 * 1024];
    loop {
        match soon(stream.read(&mut piece)).await.unwrap() {
            0 => break,
            n => read += n,
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    assert!(read > BIG && started.elapsed() > limits.unread * 2, "{read} in {:?}", started.elapsed());
}

#[tokio::test]
async fn a_long_poll_outlives_the_idle_limit() {
    let running = Running::start(short()).await;
    let mut stream = running.tls(b"http/1.1").await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let (mut client, _connection) = http2(&running, 65_535).await;
    let other = tokio::spawn(client.send_request(request("/wait")));
    soon(running.service.arrived.notified()).await;
    tokio::time::sleep(short().idle * 4).await;
    assert_eq!(running.service.under_way.load(Ordering::SeqCst), 2);
    running.service.release.notify_waiters();
    assert!(read_to_end(&mut stream).await.ends_with(b"released"));
    assert_eq!(soon(other).await.unwrap().unwrap().collect().await.unwrap().to_bytes(), "released");
}

#[tokio::test]
async fn work_for_a_client_that_has_gone_is_dropped() {
    let running = Running::start(limits()).await;
    let (mut client, connection) = http2(&running, 65_535).await;
    let waiting = tokio::spawn(client.send_request(request("/wait")));
    soon(running.service.arrived.notified()).await;
    connection.abort();
    waiting.abort();
    running.at_rest().await;
}

#[tokio::test]
async fn a_drain_lets_requests_under_way_finish_and_ends_everything_else() {
    let mut running = Running::start(short()).await;
    let mut silent = running.tls(b"http/1.1").await;
    let mut silent2 = running.tls(b"h2").await;
    let mut before_tls = running.tcp().await;
    let mut stream = running.tls(b"http/1.1").await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    soon(running.service.arrived.notified()).await;
    running.drain();
    for idle in [&mut silent, &mut silent2] {
        read_to_end(idle).await;
    }
    read_to_end(&mut before_tls).await;
    assert!(TcpStream::connect(running.address).await.is_err(), "no new connection");
    running.service.release.notify_waiters();
    assert!(read_to_end(&mut stream).await.ends_with(b"released"));
    soon(running.task).await.unwrap();
}

#[tokio::test]
async fn whoever_was_arriving_when_the_drain_began_is_answered() {
    let mut running = Running::start(limits()).await;
    let before_tls = running.tcp().await;
    let before_http2 = running.tcp().await;
    let after_tls = running.tls(b"http/1.1").await;
    let mut idle = running.tls(b"http/1.1").await;
    get(&mut idle).await;
    running.drain();
    read_to_end(&mut idle).await;

    let late = running.tls_on(before_tls, b"http/1.1").await;
    let (mut client, connection) = http2_on(running.tls_on(before_http2, b"h2").await, 65_535).await;
    for mut stream in [after_tls, late] {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let answer = String::from_utf8(read_to_end(&mut stream).await).unwrap();
        assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    }
    let answer = soon(client.send_request(request("/"))).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    drop(client);
    soon(connection).await.unwrap().unwrap();
    soon(running.task).await.unwrap();
}

#[tokio::test]
async fn a_drain_waits_no_longer_than_its_grace() {
    let mut running = Running::start_with(limits(), Duration::from_millis(200)).await;
    let mut stream = running.tls(b"http/1.1").await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    soon(running.service.arrived.notified()).await;
    running.drain();
    soon(&mut running.task).await.unwrap();
    assert!(read_to_end(&mut stream).await.is_empty());
}

#[tokio::test]
async fn one_address_cannot_have_all_connections() {
    let running = Running::start(Limits { connections_per_address: 2, ..limits() }).await;
    let (mut first, _second) = (running.tls(b"http/1.1").await, running.tls(b"http/1.1").await);
    assert!(read_to_end(&mut running.tcp().await).await.is_empty(), "the third is closed at once");
    get(&mut first).await;
    drop(first);
    soon(async {
        while running
            .try_tls(running.tcp().await, "localhost", b"http/1.1", &[&rustls::version::TLS13], NOW)
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn silent_handshakes_do_not_keep_others_out() {
    let running = Running::start(Limits { handshakes: 4, handshake: Duration::from_secs(5), ..limits() }).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        let mut socket = running.tcp().await;
        socket.write_all(b"\x16\x03\x01\x02\0").await.unwrap();
        silent.push(socket);
    }
    get(&mut running.tls(b"http/1.1").await).await;
}

#[tokio::test]
async fn a_request_that_cannot_be_parsed_gets_an_error_like_any_other() {
    let running = Running::start(limits()).await;
    let long = "y".repeat(20_000);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nbad header: x\r\n\r\n", 400),
        ("G\x01T / HTTP/1.1\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        (&format!("GET /{long} HTTP/1.1\r\n\r\n"), 431),
        (&format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"), 431),
        (&format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(500_000)), 431),
        (&format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101)), 431),
    ] {
        let (answered, _) = error_of(&ask(&running, request).await);
        assert_eq!(answered, status, "{}", &request[..40.min(request.len())]);
    }
    let large = Running::start(Limits { header_bytes: 100_000, ..limits() }).await;
    let (answered, _) = error_of(&ask(&large, &format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(70_000))).await);
    assert_eq!(answered, 414);
}

/// A socket that is closed with something unread in it resets the connection, and the answer is lost.
#[tokio::test]
async fn a_client_that_goes_on_sending_after_it_was_refused_still_gets_the_answer() {
    async fn check(mut client: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, request: &str) {
        client.write_all(request.as_bytes()).await.unwrap();
        for _ in 0..20 {
            client.write_all(&[b'x'; 1000]).await.unwrap();
            client.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        error_of(&String::from_utf8(read_to_end(&mut client).await).unwrap());
    }
    let running = Running::start(limits()).await;
    check(running.tcp().await, "PUT / HTTP/1.1\r\n\r\n").await;
    check(running.tls(b"http/1.1").await, "nonsense\r\n\r\n").await;
}

#[tokio::test]
async fn a_malformed_request_after_good_ones_leaves_their_answers_as_they_are() {
    let running = Running::start(limits()).await;
    let mut stream = running.tls(b"http/1.1").await;
    get(&mut stream).await;
    get(&mut stream).await;
    stream.write_all(b"nonsense\r\n\r\n").await.unwrap();
    assert_eq!(error_of(&String::from_utf8(read_to_end(&mut stream).await).unwrap()).0, 400);

    let refused = ask(&running, "GET /refuse HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 400 ") && refused.ends_with("hello"), "an answer of the service's own");

    let good = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let answers = ask(&running, &format!("{good}{good}nonsense\r\n\r\n")).await;
    let (before, error) = answers.rsplit_once("hello").unwrap();
    assert_eq!(before.matches("HTTP/1.1 200 OK").count(), 2);
    assert_eq!(error_of(error).0, 400);
}

#[tokio::test]
async fn a_large_http2_header_gets_an_error_like_any_other() {
    let running = Running::start(limits()).await;
    let (mut client, _connection) = http2(&running, 65_535).await;
    let mut large = request("/");
    large.headers_mut().insert("x", http::HeaderValue::from_str(&"y".repeat(20_000)).unwrap());
    let answer = soon(client.send_request(large)).await.unwrap();
    assert_eq!(answer.status(), 431);
    let body = answer.collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["code"], 431);
}

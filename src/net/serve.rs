//! Accepting, TLS, and HTTP on top: one task a connection, every one of them limited.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, Answer, Verdict};
use super::admission::{Admission, Occasionally, Place};
use super::entrance::{self, Entrance};
use super::listener::Listener;
use super::refusal::Refusal;
use super::tls::device_ca::ClientCertificate;
use super::tls::{ACME_TLS, ServerTls};
use super::{Refuse, Refused, plain};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Of the socket, or the one that a trusted proxy names in its header: another proxy's, when there is one in between.
    pub address: SocketAddr,
    /// Which entrance it came through: see [`Entrance::replace`].
    pub entrance: u64,
    /// What it has proven to hold the key of.
    pub certificate: Option<ClientCertificate>,
}

/// What a client may use up. How long a request's body may take is for whoever reads it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time. More are closed at once.
    pub connections: usize,
    /// Connections at a time from one IPv4 address or IPv6 /64.
    pub connections_per_address: usize,
    /// TLS handshakes at a time. More wait their turn, and those under way have less time.
    pub handshakes: usize,
    /// Time for each step before HTTP: the first byte, the turn, the handshake.
    pub handshake: Duration,
    /// Bytes of a request's line and headers.
    pub header_bytes: usize,
    /// HTTP/2 requests at a time on one connection.
    pub streams: u32,
    /// Time without any request, or until the header of the next one is complete.
    pub idle: Duration,
    /// Time that a piece of an answer (16 KiB) may wait for the client to take it.
    pub unread: Duration,
    /// Time for a connection that has asked nothing yet to do so, from when the server drains.
    pub arriving: Duration,
    /// Time for a connection without requests to close in order, once it has been told to.
    pub parting: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 2048,
            handshakes: 256,
            handshake: Duration::from_secs(10),
            header_bytes: 16 * 1024,
            streams: 128,
            idle: Duration::from_secs(45),
            unread: Duration::from_secs(45),
            arriving: Duration::from_millis(500),
            parting: Duration::from_secs(3),
        }
    }
}

/// Bytes of one connection, in either direction, that hyper may hold beside the pieces of [`Answer`].
const BUFFER: usize = 64 * 1024;
/// An unanswered HTTP/2 ping shows that the client has vanished while we work on its requests.
const PING: Duration = Duration::from_secs(20);

/// Serves `listener` with `answer`, and with `refuse` for what is no request, until `drain` resolves; then accepts no
/// more, lets requests under way be answered for at most as long as `drain` says, and returns.
pub async fn run<S, F, B>(
    listener: Listener,
    tls: &ServerTls,
    entrance: &Entrance,
    answer: S,
    refuse: Arc<Refuse>,
    limits: Limits,
    drain: impl Future<Output = Duration>,
) where
    S: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let admission = Admission::new(limits.connections, limits.connections_per_address);
    let (draining, drained) = watch::channel(None);
    let server = Arc::new(Server {
        answer,
        refuse,
        acceptor: TlsAcceptor::from(tls.config()),
        handshakes: Semaphore::new(limits.handshakes),
        refused_certificates: Occasionally::new(),
        refused_headers: Occasionally::new(),
        refused_places: Occasionally::new(),
        limits,
    });
    let mut connections = JoinSet::new();
    let mut drain = pin!(drain);
    let grace = loop {
        tokio::select! {
            biased;
            grace = &mut drain => break grace,
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            (socket, address) = listener.accept() => match admission.admit() {
                Some(place) => {
                    let (server, drained) = (server.clone(), drained.clone());
                    // The number first: what the connection then meets is at least as new.
                    let (number, replaced) = entrance.enter();
                    let proxies = entrance.proxies();
                    let says_who = proxies.header && proxies.is_trusted(address.ip());
                    let turn = Turning { drained, replaced };
                    connections.spawn(async move {
                        let peer = Peer { address, entrance: number, certificate: None };
                        if let Err(error) = server.serve(socket, peer, says_who, place, turn).await {
                            server.report(address, &error);
                        }
                    });
                }
                None => server.refuse_place(address),
            },
        }
    };
    drop(listener);
    draining.send_replace(Some(Instant::now()));
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(grace, all_ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "cut connections that have not ended in time");
    }
    connections.shutdown().await;
}

/// Why the client's certificate was refused, when that is what has failed.
fn refused_certificate(error: &io::Error) -> Option<&rustls::CertificateError> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(reason) => Some(reason),
        _ => None,
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task has failed");
    }
}

struct Server<S> {
    answer: S,
    refuse: Arc<Refuse>,
    acceptor: TlsAcceptor,
    handshakes: Semaphore,
    refused_certificates: Occasionally,
    refused_headers: Occasionally,
    refused_places: Occasionally,
    limits: Limits,
}

/// When a connection is to end in order.
#[derive(Clone)]
struct Turning {
    /// Since when the server drains.
    drained: watch::Receiver<Option<Instant>>,
    replaced: watch::Receiver<u64>,
}

impl Turning {
    /// Resolves once the server drains, with since when.
    async fn draining(&mut self) -> Instant {
        match self.drained.wait_for(Option::is_some).await {
            Ok(since) => since.unwrap_or_else(Instant::now),
            // `run` is gone, which is the end as well.
            Err(_) => Instant::now(),
        }
    }

    /// Whether the next answer is to be the last.
    fn is_outdated(&self) -> bool {
        self.drained.borrow().is_some() || self.replaced.has_changed().unwrap_or(true)
    }

    /// Resolves once the server drains, or has another entrance than the connection came through, with since when.
    async fn ending(&mut self) -> Instant {
        let mut replaced = self.replaced.clone();
        tokio::select! {
            since = self.draining() => since,
            _ = replaced.changed() => Instant::now(),
        }
    }
}

impl<S, F, B> Server<S>
where
    S: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// A certificate that was refused is a device that cannot reach the appliance: somebody may want to know.
    fn report(&self, address: SocketAddr, error: &io::Error) {
        match refused_certificate(error) {
            Some(reason) => {
                if let Some(times) = self.refused_certificates.due() {
                    tracing::info!(%address, ?reason, times, "refused a client's certificate");
                }
            }
            None => tracing::debug!(%address, %error, "connection"),
        }
    }

    fn refuse_place(&self, address: SocketAddr) {
        if let Some(times) = self.refused_places.due() {
            tracing::warn!(%address, times, "refused connections: there are too many");
        }
    }

    /// Resolves when a connection that was told to end then has to have asked something.
    async fn too_late(&self, told: Instant) {
        sleep_until((told + self.limits.arriving).into()).await;
    }

    /// Resolves when a connection is to take no more requests. One without any yet may just be sending its first, which
    /// hyper would not wait for.
    async fn turns_away(&self, told: impl Future<Output = Instant>, activity: &Activity) {
        let told = told.await;
        if activity.all_ended() == Some(0) {
            self.too_late(told).await;
        }
    }

    /// Whom the connection is from; `None` for a proxy that should have said so and has not.
    async fn identify(&self, socket: &mut TcpStream, proxy: SocketAddr) -> io::Result<Option<SocketAddr>> {
        let error = match timeout(self.limits.handshake, entrance::read_header(socket, proxy)).await? {
            Ok(client) => return Ok(Some(client)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => error,
            Err(error) => return Err(error),
        };
        if let Some(times) = self.refused_headers.due() {
            tracing::warn!(
                %proxy, %error, times,
                "closed a connection of a trusted proxy: with server.proxy_protocol it has to send version 2"
            );
        }
        Ok(None)
    }

    /// `says_who`: it is a proxy's, and begins with a header.
    async fn serve(
        &self,
        mut socket: TcpStream,
        mut peer: Peer,
        says_who: bool,
        mut place: Place,
        mut turning: Turning,
    ) -> io::Result<()> {
        socket.set_nodelay(true)?;
        // The system's part: data that the other end does not acknowledge, because it has vanished.
        let unread = u32::try_from(self.limits.unread.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(&socket, unread)?;

        if says_who {
            let identified = tokio::select! {
                biased;
                () = async { self.too_late(turning.draining().await).await } => return Ok(()),
                identified = self.identify(&mut socket, peer.address) => identified?,
            };
            let Some(client) = identified else { return Ok(()) };
            peer.address = client;
        }
        if !place.take(peer.address.ip()) {
            self.refuse_place(peer.address);
            return Ok(());
        }
        let stream = tokio::select! {
            biased;
            () = async { self.too_late(turning.draining().await).await } => return Ok(()),
            stream = self.handshake(socket, peer) => stream?,
        };
        let Some(stream) = stream else { return Ok(()) };
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let peer = Peer { certificate: shown.map(ClientCertificate::read).transpose()?, ..peer };
        let activity = Activity::new(self.limits.idle, self.limits.unread);
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => self.http2(stream, peer, &activity, turning).await,
            // The handshake was the proof.
            Some(ACME_TLS) => {}
            _ => self.http1(stream, peer, &activity, turning).await,
        }
        Ok(())
    }

    /// `None` when the client spoke no TLS, and has been told.
    async fn handshake(&self, socket: TcpStream, peer: Peer) -> io::Result<Option<TlsStream<TcpStream>>> {
        /// When others wait for their turn, a handshake has one of these parts of its time: silent ones must not
        /// keep everybody else out.
        const PARTS: u32 = 5;
        let patience = self.limits.handshake;
        match timeout(patience, plain::first_byte(&socket)).await?? {
            plain::HANDSHAKE_RECORD => {}
            first if first == ppp::v2::PROTOCOL_PREFIX[0] => {
                if let Some(times) = self.refused_headers.due() {
                    tracing::warn!(
                        address = %peer.address, times,
                        "closed a connection with a PROXY header: this takes server.proxy_protocol = true, and the \
                         address in server.trusted_proxies"
                    );
                }
                return Ok(None);
            }
            _ => {
                plain::hint(socket, peer, patience, &*self.refuse).await?;
                return Ok(None);
            }
        }
        let turn = timeout(patience, self.handshakes.acquire()).await?.map_err(io::Error::other)?;
        let mut handshake = pin!(self.acceptor.accept(socket).into_fallible());
        for _ in 0..PARTS {
            match timeout(patience / PARTS, handshake.as_mut()).await {
                Ok(Ok(stream)) => return Ok(Some(stream)),
                Ok(Err((error, mut socket))) => {
                    drop(turn);
                    // The client believes the handshake to be over and has asked something: it would lose the alert
                    // that says why its certificate was refused.
                    if refused_certificate(&error).is_some() {
                        socket.shutdown().await?;
                        plain::linger(&mut socket).await;
                    }
                    return Err(error);
                }
                Err(_) if self.handshakes.available_permits() == 0 => break,
                Err(_) => {}
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    async fn http1(&self, stream: TlsStream<TcpStream>, peer: Peer, activity: &Arc<Activity>, mut turning: Turning) {
        let outdated = turning.clone();
        let mut io = Refusal::new(TokioIo::new(stream), peer, activity.clone(), self.refuse.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // `Activity` has this limit: hyper's would be a second one, and counts idle time too.
            .header_read_timeout(None)
            .max_header_size(self.limits.header_bytes)
            .max_buf_size(BUFFER.max(self.limits.header_bytes))
            .serve_connection(
                &mut io,
                service_fn(|request| {
                    let (exchange, outdated) = (self.exchange(request, peer, activity), outdated.clone());
                    async move {
                        // Closed while it is idle, it would lose the request that its client is just sending; so its next
                        // answer is its last.
                        exchange.await.map(|mut response| {
                            if outdated.is_outdated() {
                                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                            }
                            response
                        })
                    }
                }),
            );
        let ends = self.turns_away(turning.draining(), activity);
        if drive(connection, |connection| connection.graceful_shutdown(), activity, ends, self.limits.parting).await {
            plain::linger(io.into_inner().inner_mut().get_mut().0).await;
        }
    }

    async fn http2(&self, stream: TlsStream<TcpStream>, peer: Peer, activity: &Arc<Activity>, mut turning: Turning) {
        let largest_header = u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX);
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams)
            // A little past our own limit, which answers with a body; past this one, h2 answers without.
            .max_header_list_size(largest_header.saturating_mul(4))
            .initial_stream_window_size(128 * 1024)
            .initial_connection_window_size(256 * 1024)
            .max_send_buf_size(BUFFER)
            // Streams opened and reset in a row (CVE-2023-44487), by the client or for its mistakes.
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(100)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .serve_connection(TokioIo::new(stream), service_fn(|request| self.exchange(request, peer, activity)));
        let ends = self.turns_away(turning.ending(), activity);
        drive(connection, |connection| connection.graceful_shutdown(), activity, ends, self.limits.parting).await;
    }

    /// One request and its answer.
    fn exchange(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        activity: &Arc<Activity>,
    ) -> impl Future<Output = Result<Response<Replied<B>>, Infallible>> + Send + 'static + use<S, F, B> {
        let exchange = activity.begin();
        let fits = header_size(&request) <= self.limits.header_bytes;
        let answer = if fits {
            // Whatever wraps it moves a pointer, and an idle connection keeps no room for it.
            Ok(Box::pin((self.answer)(request, peer)))
        } else {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            let refused = Refused::new(status, "request header too large", "send fewer or shorter headers");
            Err((self.refuse)(refused, peer))
        };
        async move {
            let response = match answer {
                Ok(answer) => answer.await.map(Either::Left),
                Err(refused) => refused.map(Full::new).map(Either::Right),
            };
            Ok(response.map(|body| exchange.answer(body)))
        }
    }
}

/// The service's own body, or that of an error which was found before it was asked.
type Replied<B> = Answer<Either<B, Full<Bytes>>>;

/// What a request's header takes in HTTP/1.1, for HTTP/2 as well, which compresses it.
fn header_size(request: &Request<Incoming>) -> usize {
    const SEPARATORS: usize = ": \r\n".len();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    target + request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + SEPARATORS).sum::<usize>()
}

/// Runs a connection to its end, or to the end of our patience. Returns whether it ended by itself.
async fn drive<C>(
    connection: C,
    leave: fn(Pin<&mut C>),
    activity: &Activity,
    ends: impl Future<Output = ()>,
    parting: Duration,
) -> bool
where
    C: Future<Output = hyper::Result<()>>,
{
    let (mut connection, mut ends) = (pin!(connection), pin!(ends));
    let mut leaving = false;
    let mut check = Instant::now();
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection");
                }
                return true;
            }
            () = ends.as_mut(), if !leaving => {
                leave(connection.as_mut());
                leaving = true;
                check = Instant::now() + parting;
            }
            () = sleep_until(check.into()) => {
                let now = Instant::now();
                check = match activity.verdict(now) {
                    Verdict::Stalled => return false,
                    _ if leaving && activity.all_ended().is_some() => return false,
                    Verdict::Idle => {
                        leave(connection.as_mut());
                        leaving = true;
                        now + parting
                    }
                    Verdict::Good(_) if leaving => now + parting,
                    Verdict::Good(then) => then,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests;

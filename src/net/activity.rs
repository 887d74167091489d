//! Whose turn is it? The one place that decides whether a connection has stalled.
//!
//! hyper has no timer for a client that says nothing, or that asks and then does not read. So every exchange (one
//! request with its answer) on a connection says here whether the appliance or the client has to act next, and since
//! when; bytes that bring no exchange forward, pings or a header that drips in, count for nothing.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

/// What a connection deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Ask again then.
    Good(Instant),
    /// There is no exchange, and none has begun for too long.
    Idle,
    /// The client has left an answer unread for too long.
    Stalled,
}

/// The exchanges of one connection.
pub(super) struct Activity {
    idle: Duration,
    unread: Duration,
    state: Mutex<State>,
}

struct State {
    /// Exchanges that have ever begun, which numbers them.
    begun: u64,
    turns: HashMap<u64, Turn>,
    /// When an exchange last began or ended, or the connection began.
    changed: Instant,
}

#[derive(Clone, Copy)]
enum Turn {
    /// We work on the answer, or on its next piece.
    Ours,
    /// There is something for the client to take since then.
    Client(Instant),
}

impl Activity {
    /// `idle`: longest time without any exchange. `unread`: longest time that a piece of an answer may wait.
    pub(super) fn new(idle: Duration, unread: Duration) -> Arc<Self> {
        let state = State { begun: 0, turns: HashMap::new(), changed: Instant::now() };
        Arc::new(Self { idle, unread, state: Mutex::new(state) })
    }

    /// A request has arrived. Its exchange lasts until the returned value, or the body made of it, is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Exchange {
        let mut state = self.lock();
        state.begun += 1;
        state.changed = Instant::now();
        let number = state.begun;
        state.turns.insert(number, Turn::Ours);
        Exchange { number, activity: self.clone() }
    }

    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        let state = self.lock();
        if state.turns.is_empty() {
            let end = state.changed + self.idle;
            return if end <= now { Verdict::Idle } else { Verdict::Good(end) };
        }
        let oldest = state.turns.values().filter_map(|turn| match turn {
            Turn::Ours => None,
            Turn::Client(since) => Some(*since),
        });
        match oldest.min().map(|since| since + self.unread) {
            Some(end) if end <= now => Verdict::Stalled,
            Some(end) => Verdict::Good(end),
            // Whatever begins to wait after now has its full time.
            None => Verdict::Good(now + self.idle.min(self.unread)),
        }
    }

    /// The number of exchanges that have ever begun, when all of them have ended.
    pub(super) fn all_ended(&self) -> Option<u64> {
        let state = self.lock();
        state.turns.is_empty().then_some(state.begun)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // No invariant spans the fields, so a panic while it was held has broken nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request and its answer.
pub(super) struct Exchange {
    number: u64,
    activity: Arc<Activity>,
}

impl Exchange {
    /// The answer is ready: from now on the client has to take it.
    pub(super) fn answer<B>(self, body: B) -> Answer<B> {
        self.turn(Turn::Client(Instant::now()));
        Answer { body, rest: Bytes::new(), exchange: self }
    }

    fn turn(&self, turn: Turn) {
        self.activity.lock().turns.insert(self.number, turn);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.activity.lock();
        state.turns.remove(&self.number);
        state.changed = Instant::now();
    }
}

/// The body of an answer, handed over in small pieces: hyper asks for the next one when the last has found room, so
/// being asked shows that the client reads.
pub(super) struct Answer<B> {
    body: B,
    rest: Bytes,
    exchange: Exchange,
}

/// Small enough that a slow client (3 kbit/s) takes one in time, large enough to fill a TLS record.
const PIECE: usize = 16 * 1024;

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if !this.rest.has_remaining() {
            this.exchange.turn(Turn::Ours);
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(other) => {
                        this.exchange.turn(Turn::Client(Instant::now()));
                        return Poll::Ready(Some(Ok(other)));
                    }
                },
                end => return Poll::Ready(end),
            }
        }
        this.exchange.turn(Turn::Client(Instant::now()));
        let piece = this.rest.split_to(PIECE.min(this.rest.len()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn activity() -> Arc<Activity> {
        Activity::new(45 * SECOND, 40 * SECOND)
    }

    #[test]
    fn a_client_that_asks_nothing_is_idle_in_time() {
        let activity = activity();
        let now = Instant::now();
        assert!(matches!(activity.verdict(now), Verdict::Good(_)));
        assert_eq!(activity.verdict(now + 45 * SECOND), Verdict::Idle);
    }

    #[test]
    fn a_long_poll_is_never_cut_while_we_work_on_it() {
        let activity = activity();
        let exchange = activity.begin();
        let later = Instant::now() + 3600 * SECOND;
        assert_eq!(activity.verdict(later), Verdict::Good(later + 40 * SECOND));
        drop(exchange);
        assert!(matches!(activity.verdict(Instant::now() + 44 * SECOND), Verdict::Good(_)), "idle counts from its end");
    }

    #[test]
    fn an_answer_that_nobody_takes_stalls_though_another_exchange_is_lively() {
        let activity = activity();
        let unread = activity.begin().answer(Full::new(Bytes::from_static(b"x")));
        let lively = activity.begin();
        assert_eq!(activity.verdict(Instant::now() + 40 * SECOND), Verdict::Stalled);
        drop(unread);
        assert!(matches!(activity.verdict(Instant::now() + 40 * SECOND), Verdict::Good(_)));
        drop(lively);
    }

    #[tokio::test]
    async fn a_stream_that_waits_for_us_with_a_reading_client_is_never_cut() {
        let activity = activity();
        let (send, mut events) = tokio::sync::mpsc::unbounded_channel();
        let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| events.poll_recv(cx)));
        let mut answer = activity.begin().answer(body);
        send.send(Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"event")))).unwrap();
        answer.frame().await.unwrap().unwrap();
        assert_eq!(activity.verdict(Instant::now() + 40 * SECOND), Verdict::Stalled, "handed over, not yet taken");
        assert!(futures_util::poll!(answer.frame()).is_pending(), "the client asks for more than there is");
        assert!(matches!(activity.verdict(Instant::now() + 3600 * SECOND), Verdict::Good(_)));
    }

    #[tokio::test]
    async fn a_large_answer_goes_out_whole_in_small_pieces() {
        let activity = activity();
        let content = Bytes::from(vec![7; 3 * PIECE + 1]);
        let mut answer = activity.begin().answer(Full::new(content.clone()));
        assert_eq!(answer.size_hint().exact(), Some(content.len() as u64));
        let mut read = Vec::new();
        while let Some(frame) = answer.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= PIECE);
            read.extend_from_slice(&data);
            assert_eq!(answer.size_hint().exact(), Some((content.len() - read.len()) as u64));
        }
        assert!(answer.is_end_stream());
        assert_eq!(read, content);
        drop(answer);
        assert_eq!(activity.all_ended(), Some(1));
    }
}

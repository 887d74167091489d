//! What it costs others when webhooks are told of very much.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::process::setpriority_process;
use serde_json::json;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::appliance::Appliance;
use crate::client::{Call, Client};
use crate::devices::{self, Until};
use crate::table::Table;
use crate::{Fallible, Plan};

const RECEIVERS: usize = 10;
const EVENTS_A_MINUTE: u32 = 10_000;
const DEVICES: usize = 200;
/// Between two requests whose latency is taken, on the average.
const BEAT: Duration = Duration::from_millis(5);
/// The niceness of whom everybody goes before (setpriority(2)).
const LEAST: i32 = 19;
/// How long the last events may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn measure(plan: &Plan, table: &mut Table) -> Fallible<()> {
    let appliance = Appliance::set_up(&[("ZERO_WEBHOOKS_ALLOW_LOOPBACK", "true")]).await?;
    let mut crowd = appliance.client()?.crowd(8).await?;
    let (devices, _) = devices::enrol(&mut crowd, appliance.token(), 0, Until::Count(DEVICES)).await?;
    drop(crowd);
    let client = appliance.client()?;
    let probe = appliance.get(&format!("/api/v1/devices/{}", devices[0].id))?;
    let mut changes = Vec::new();
    for status in ["suspended", "online"] {
        for device in &devices {
            let path = format!("/api/v1/devices/{}/status", device.id);
            changes.push(Call::new(Method::PUT, &path, appliance.token())?.body(&json!({"status": status})));
        }
    }
    let changes = Arc::new(changes);
    let probing = || apart(latencies(client.clone(), probe.clone(), plan.round));
    let changing = || apart(change(client.clone(), changes.clone(), plan.round));
    let mut untold = Vec::new();
    probing().await?;
    for _ in 0..plan.rounds {
        let (changed, times) = tokio::join!(changing(), probing());
        changed?;
        untold.extend(times?);
    }

    let received = Arc::new(AtomicUsize::new(0));
    let mut connection = client.connect().await?;
    for url in receivers(&received)? {
        let webhook = json!({"url": url, "events": ["device.*"], "secret": "a secret of the load test's receivers"});
        connection.send(Call::new(Method::POST, "/api/v1/webhooks", appliance.token())?.body(&webhook)).await?;
    }
    // In turns, so that whatever else the machine does is in both.
    let (mut idle, mut told, mut written) = (Vec::new(), Vec::new(), 0);
    for _ in 0..plan.rounds {
        idle.extend(probing().await?);
        let (changed, times) = tokio::join!(changing(), probing());
        written += changed?;
        told.extend(times?);
    }
    let sent = Instant::now();
    while received.load(Ordering::Relaxed) < written * RECEIVERS {
        if sent.elapsed() > PATIENCE {
            let arrived = received.load(Ordering::Relaxed);
            return Err(format!("of {written} events to {RECEIVERS} receivers {arrived} deliveries arrived").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let late = sent.elapsed().as_millis();
    let [idle, told, untold] = [idle, told, untold].map(p99_micros);
    let detail =
        format!("{told:.0} us to {idle:.0}; {written} events, each to all; the last {late} ms after its cause");
    let figure = format!("GET one device, {EVENTS_A_MINUTE} events a minute to {RECEIVERS} receivers: p99 to idle");
    table.at_most(&figure, 2.0, "times", told / idle, &detail);
    table.note("the same changes, and nobody is told", &format!("p99 {untold:.0} us"));
    Ok(())
}

/// Runs a client on a thread that serves nobody else, as each is a machine of its own.
async fn apart<T: Send + 'static>(work: impl Future<Output = Fallible<T>> + Send + 'static) -> Fallible<T> {
    let run = || Builder::new_current_thread().enable_all().build()?.block_on(work);
    tokio::task::spawn_blocking(run).await?
}

/// Up to as long again as `mean`, or less: clients that each keep a beat would always meet in the same way.
fn pause(mean: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    mean * (nanos / 8 % 1000) / 500
}

/// Suspends and resumes devices at the rate of the events that this makes; tells how many there were.
async fn change(client: Client, changes: Arc<Vec<Call>>, time: Duration) -> Fallible<usize> {
    let mut connection = client.connect().await?;
    let beat = Duration::from_secs(60) / EVENTS_A_MINUTE;
    // As often as leaves all of them as they were.
    let turns = time.as_secs_f64() / (beat.as_secs_f64() * changes.len() as f64);
    let count = turns.ceil() as usize * changes.len();
    let (began, mut due) = (Instant::now(), Duration::ZERO);
    for change in changes.iter().cycle().take(count) {
        due += pause(beat);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        connection.send(change.clone()).await?;
    }
    Ok(count)
}

/// How long a request takes that is sent now and then.
async fn latencies(client: Client, call: Call, time: Duration) -> Fallible<Vec<Duration>> {
    let mut connection = client.connect().await?;
    let (end, mut times) = (Instant::now() + time, Vec::new());
    while Instant::now() < end {
        std::thread::sleep(pause(BEAT));
        let before = Instant::now();
        connection.send(call.clone()).await?;
        times.push(before.elapsed());
    }
    Ok(times)
}

fn p99_micros(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[(times.len() - 1) * 99 / 100].as_secs_f64() * 1e6
}

/// Take whatever is sent to them, and count; tells their URLs. Receivers are other machines: here they are a thread that
/// gives way to everything else on this one.
fn receivers(received: &Arc<AtomicUsize>) -> Fallible<Vec<String>> {
    let listeners = (0..RECEIVERS).map(|_| std::net::TcpListener::bind("127.0.0.1:0"));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners.iter().map(std::net::TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let received = received.clone();
    std::thread::spawn(move || {
        setpriority_process(None, LEAST)?;
        runtime.block_on(async {
            let mut receivers = JoinSet::new();
            for listener in listeners {
                listener.set_nonblocking(true)?;
                receivers.spawn(receive(TcpListener::from_std(listener)?, received.clone()));
            }
            receivers.join_all().await;
            std::io::Result::Ok(())
        })
    });
    Ok(addresses.iter().map(|address| format!("http://{address}/")).collect())
}

async fn receive(listener: TcpListener, received: Arc<AtomicUsize>) {
    while let Ok((socket, _)) = listener.accept().await {
        let received = received.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let received = received.clone();
            async move {
                if request.into_body().collect().await.is_ok() {
                    received.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), answer));
    }
}

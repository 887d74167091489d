//! Requests a second, beside a bare server that answers the same bytes.
//!
//! Client and server share the machine. Where the client takes its share of the processors, the rates are closer to
//! each other than the servers are; the note of processor time a request tells how the servers compare by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::appliance::{Appliance, folder};
use crate::bare::{self, Replies};
use crate::client::{Call, Crowd};
use crate::process::Server;
use crate::table::Table;
use crate::{CONNECTIONS, Fallible, Plan, devices};

pub async fn measure(plan: &Plan, table: &mut Table) -> Fallible<()> {
    let appliance = Appliance::set_up(&[]).await?;
    let fleet = devices::populate(&appliance, 1000).await?;
    let device = format!("/api/v1/devices/{}", fleet[0].id);
    let figures = [("GET one device", device.as_str()), ("GET a page of 20", "/api/v1/devices?page=1&page_size=20")];
    let mut replies = Replies::new();
    for (_, path) in figures {
        let (head, body) = appliance.client()?.connect().await?.exchange(appliance.get(path)?).await?;
        replies.insert(path.into(), (bare::headers(&head)?, String::from_utf8(body.into())?));
    }
    let folder = folder()?;
    let bare = bare::start(folder.path(), &replies)?;
    let mut crowd = appliance.client()?.crowd(CONNECTIONS).await?;
    let mut bare_crowd = bare.client.crowd(CONNECTIONS).await?;
    for (name, path) in figures {
        let call = appliance.get(path)?;
        let (mut ours, mut bares) = (Sum::default(), Sum::default());
        // Both are warm before the first round.
        ours.warm(&mut crowd, &call).await?;
        bares.warm(&mut bare_crowd, &call).await?;
        for _ in 0..plan.rounds {
            ours.round(appliance.server()?, &mut crowd, &call, plan.round).await?;
            bares.round(&bare, &mut bare_crowd, &call, plan.round).await?;
        }
        let detail = format!("{:.0}/s to {:.0}/s bare", ours.rate(), bares.rate());
        table.at_least(&format!("{name}, TLS, 64 connections: rate to bare"), 0.6, ours.rate() / bares.rate(), &detail);
        table.note(
            &format!("{name}: processor time of the server"),
            &format!("{:.0} us a request, bare {:.0} us", ours.cpu_micros(), bares.cpu_micros()),
        );
    }
    Ok(())
}

#[derive(Default)]
pub struct Sum {
    requests: f64,
    time: Duration,
    cpu: Duration,
}

impl Sum {
    pub async fn warm(&mut self, crowd: &mut Crowd, call: &Call) -> Fallible<()> {
        run(crowd, call, Duration::from_millis(500)).await.map(drop)
    }

    pub async fn round(&mut self, server: &Server, crowd: &mut Crowd, call: &Call, time: Duration) -> Fallible<()> {
        let before = server.cpu()?;
        let (requests, took) = run(crowd, call, time).await?;
        self.cpu += server.cpu()? - before;
        self.time += took;
        self.requests += requests as f64;
        Ok(())
    }

    pub fn rate(&self) -> f64 {
        self.requests / self.time.as_secs_f64()
    }

    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests
    }
}

/// The same request for this long; tells how many were answered, and how long it really took.
pub async fn run(crowd: &mut Crowd, call: &Call, time: Duration) -> Fallible<(usize, Duration)> {
    let (end, call, count) = (Instant::now() + time, call.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    let next = move || (Instant::now() < end).then(|| call.clone());
    let take = move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    };
    let took = crowd.run(next, take).await?;
    Ok((count.load(Ordering::Relaxed), took))
}

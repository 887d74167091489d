//! Devices that enrol and check in.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::appliance::Appliance;
use crate::client::{Call, Crowd};
use crate::{CONNECTIONS, Fallible};

#[derive(Clone, Deserialize)]
pub struct Device {
    pub id: String,
    device_token: String,
}

/// When to enrol no more.
#[derive(Clone, Copy)]
pub enum Until {
    Count(usize),
    Time(Instant),
}

/// Enrols devices of five platforms in turn; `first` numbers them on.
pub async fn enrol(crowd: &mut Crowd, token: &str, first: usize, until: Until) -> Fallible<(Vec<Device>, Duration)> {
    let template = Call::new(Method::POST, "/api/v1/devices/enroll", token)?;
    let (number, devices) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let next = move || {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let go_on = match until {
            Until::Count(count) => number < count,
            Until::Time(end) => Instant::now() < end,
        };
        go_on.then(|| template.clone().body(&description(first + number)))
    };
    let enrolled = devices.clone();
    let take = move |reply: Bytes| enrolled.lock().unwrap_or_else(PoisonError::into_inner).push(reply);
    let took = crowd.run(next, take).await?;
    let replies = std::mem::take(&mut *devices.lock().unwrap_or_else(PoisonError::into_inner));
    let devices: Result<_, _> = replies.iter().map(|reply| serde_json::from_slice(reply)).collect();
    Ok((devices?, took))
}

fn description(number: usize) -> serde_json::Value {
    let platforms = ["linux", "windows", "macos", "android", "ios"];
    json!({
        "device_name": format!("Laptop {number} of the sales team"),
        "platform": platforms[number % 5],
        "agent_version": "1.4.2",
        "os_version": "14.2.1",
        "serial_number": format!("C02{number:09}"),
        "hostname": format!("laptop-{number}.sales.acme.example"),
    })
}

/// Each device checks in once.
pub async fn check_in(crowd: &mut Crowd, devices: &[Device]) -> Fallible<()> {
    let calls: Result<Vec<_>, _> = devices.iter().map(call).collect();
    let (calls, at) = (Arc::new(calls?), Arc::new(AtomicUsize::new(0)));
    crowd.run(move || calls.get(at.fetch_add(1, Ordering::Relaxed)).cloned(), |_| ()).await?;
    Ok(())
}

pub fn call(device: &Device) -> Fallible<Call> {
    let path = format!("/api/v1/devices/{}/checkin", device.id);
    Ok(Call::new(Method::POST, &path, &device.device_token)?.body(&json!({"agent_version": "1.4.2"})))
}

/// A fleet of which every fourth device is online, the others still pending.
pub async fn populate(appliance: &crate::appliance::Appliance, count: usize) -> Fallible<Vec<Device>> {
    let mut crowd = appliance.client()?.crowd(CONNECTIONS * 4).await?;
    let (devices, _) = enrol(&mut crowd, appliance.token(), 0, Until::Count(count)).await?;
    let online: Vec<_> = devices.iter().step_by(4).cloned().collect();
    check_in(&mut crowd, &online).await?;
    Ok(devices)
}

/// A fleet whose audit log has so many entries: ten for each device.
pub async fn with_history(appliance: &Appliance, entries: usize) -> Fallible<Vec<Device>> {
    let mut crowd = appliance.client()?.crowd(CONNECTIONS * 4).await?;
    let (devices, _) = enrol(&mut crowd, appliance.token(), 0, Until::Count(entries / 10)).await?;
    // Each is suspended and resumed until the log is as long as it shall be.
    let calls = |status: &str| -> Fallible<Vec<Call>> {
        let change = |device: &Device| {
            let path = format!("/api/v1/devices/{}/status", device.id);
            Ok(Call::new(Method::PUT, &path, appliance.token())?.body(&json!({"status": status})))
        };
        devices.iter().map(change).collect()
    };
    let changes = [calls("suspended")?, calls("online")?].map(Arc::new);
    for turn in 0..9 {
        let (calls, at) = (changes[turn % 2].clone(), Arc::new(AtomicUsize::new(0)));
        crowd.run(move || calls.get(at.fetch_add(1, Ordering::Relaxed)).cloned(), |_| ()).await?;
    }
    Ok(devices)
}

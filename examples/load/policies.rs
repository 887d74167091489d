//! What policies cost: one device's, beside the device itself, and changes that touch many devices.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::appliance::Appliance;
use crate::client::{Call, Client};
use crate::devices::{self, Until};
use crate::rates::Sum;
use crate::table::Table;
use crate::{CONNECTIONS, Fallible, Plan};

/// Groups within each other, and policies that extend each other.
const LEVELS: usize = 5;
const EXTENDS: usize = 3;

pub async fn measure(plan: &Plan, table: &mut Table) -> Fallible<()> {
    let appliance = Appliance::set_up(&[]).await?;
    let admin = Admin { client: appliance.client()?, token: appliance.token() };
    let mut groups: Vec<String> = Vec::new();
    for level in 0..LEVELS {
        let group = json!({"name": format!("level {level}"), "parent_id": groups.last()});
        groups.push(admin.make("groups", &group).await?);
    }
    let innermost = &groups[LEVELS - 1];
    let mut policies: Vec<String> = Vec::new();
    for (number, (name, data)) in sections().into_iter().enumerate() {
        let extended = policies.last().filter(|_| number > 0 && number < EXTENDS);
        let policy = json!({"name": name, "policy_data": data, "extends": extended});
        policies.push(admin.make("policies", &policy).await?);
    }
    // The chain of policies holds for everybody, and one policy for each level of groups.
    admin.post(&format!("policies/{}/assign", policies[EXTENDS - 1]), &json!({"default": true})).await?;
    for (policy, group) in policies[EXTENDS..].iter().zip(&groups) {
        admin.post(&format!("policies/{policy}/assign"), &json!({"group_ids": [group]})).await?;
    }

    let token = admin.post("enrollment-tokens", &json!({"name": "load", "group_id": innermost})).await?;
    let token = token["token"].as_str().ok_or("an enrolment token is shown")?.to_owned();
    let in_group = plan.devices / 10;
    let mut crowd = appliance.client()?.crowd(CONNECTIONS * 4).await?;
    let (members, _) = devices::enrol(&mut crowd, &token, 0, Until::Count(in_group)).await?;
    devices::enrol(&mut crowd, appliance.token(), in_group, Until::Count(plan.devices - in_group)).await?;

    let device = format!("/api/v1/devices/{}", members[0].id);
    let calls = [appliance.get(&device)?, appliance.get(&format!("{device}/policy"))?];
    let mut sums = [Sum::default(), Sum::default()];
    let mut crowd = appliance.client()?.crowd(CONNECTIONS).await?;
    for (sum, call) in sums.iter_mut().zip(&calls) {
        sum.warm(&mut crowd, call).await?;
    }
    for _ in 0..plan.rounds {
        for (sum, call) in sums.iter_mut().zip(&calls) {
            sum.round(appliance.server()?, &mut crowd, call, plan.round).await?;
        }
    }
    let [one, policy] = sums;
    let figure = format!("GET a device's policy, {LEVELS} groups, {EXTENDS} extends: rate to GET one device");
    let detail = format!("{:.0}/s to {:.0}/s", policy.rate(), one.rate());
    table.at_least(&figure, 0.5, policy.rate() / one.rate(), &detail);

    // What they have for everybody now holds for the group's devices before anything else.
    let path = format!("policies/{}/assign", policies[EXTENDS - 1]);
    let took = admin.time(&path, &json!({"group_ids": [innermost]})).await?;
    let figure = format!("assigning a policy to a group of {in_group} devices");
    table.at_most(&figure, 1000.0, "ms", millis(took), "until it is on disk");

    let path = format!("policies/{}/preview", policies[EXTENDS]);
    let took = admin.time(&path, &json!({"assign": {"default": true}})).await?;
    let figure = format!("preview of another default for {} devices", plan.devices);
    table.at_most(&figure, 1000.0, "ms", millis(took), "one request");
    Ok(())
}

/// Names and contents: first those that extend each other, then one for each group.
fn sections() -> Vec<(String, Value)> {
    let data = [
        json!({"storage": {"encryption_required": true}, "compliance": {"passcode_required": true}}),
        json!({"network": {"vpn_required": true, "allowed_domains": ["*.acme.example"]}}),
        json!({"dlp": {"screenshot_allowed": false}, "usb": {"allowed": false}}),
        json!({"usb": {"allowed": true}, "applications": {"install_mode": "any"}}),
        json!({"dlp": {"print_allowed": false}}),
        json!({"network": {"dns_servers": ["10.0.0.53"]}}),
        json!({"compliance": {"min_os_version": "14.0"}}),
        json!({"storage": {"cloud_sync_allowed": false}}),
    ];
    assert_eq!(data.len(), EXTENDS + LEVELS);
    data.into_iter().enumerate().map(|(number, data)| (format!("policy {number}"), data)).collect()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Each request on a connection of its own: the server closes one that is silent for long.
struct Admin<'a> {
    client: &'a Client,
    token: &'a str,
}

impl Admin<'_> {
    async fn post(&self, path: &str, body: &Value) -> Fallible<Value> {
        let reply = self.client.connect().await?.send(self.call(path, body)?).await?;
        Ok(serde_json::from_slice(&reply)?)
    }

    /// Tells the new thing's id.
    async fn make(&self, resource: &str, body: &Value) -> Fallible<String> {
        let made = self.post(resource, body).await?;
        Ok(made["id"].as_str().ok_or("what is made has an id")?.into())
    }

    async fn time(&self, path: &str, body: &Value) -> Fallible<Duration> {
        let mut connection = self.client.connect().await?;
        let before = Instant::now();
        connection.send(self.call(path, body)?).await?;
        Ok(before.elapsed())
    }

    fn call(&self, path: &str, body: &Value) -> Fallible<Call> {
        Ok(Call::new(Method::POST, &format!("/api/v1/{path}"), self.token)?.body(body))
    }
}

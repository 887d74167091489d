use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::config::{Change, ServerConfig};
use crate::domain::Services;
use crate::domain::op::Op;
use crate::domain::settings::{Provisional, SettingsInForce};
use crate::error::Error;
use crate::http::extract;
use crate::http::respond::Json;

/// The settings that decide whether anybody reaches the appliance, as they are in force.
#[derive(Serialize, JsonSchema)]
pub(super) struct SettingsView {
    names: Vec<String>,
    /// Empty where it follows from the first name and the port.
    public_url: String,
    trusted_proxies: Vec<String>,
    proxy_protocol: bool,
    /// `local`, `files` or `acme`.
    tls_mode: &'static str,
    /// How long a change waits to be confirmed.
    confirm_seconds: u64,
    /// Settings that cannot be changed here, and what sets them: a variable of the environment, or a flag.
    fixed: BTreeMap<String, String>,
    /// The last change, as long as it waits to be confirmed.
    provisional: Option<ProvisionalView>,
}

/// A change that is in force, and goes back by itself.
#[derive(Serialize, JsonSchema)]
pub(in crate::api) struct ProvisionalView {
    /// Without a confirmation by then, what was before is in force again.
    pub until: Time,
    pub seconds_left: u64,
}

/// What is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingsChange {
    /// DNS names and addresses under which the appliance is reached, beside those of the machine and those given at setup.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    names: Option<Vec<String>>,
    /// `https://HOST` or `https://HOST:PORT`; empty for the first name and the port it listens on.
    #[schemars(length(max = 512))]
    public_url: Option<String>,
    /// Addresses and networks.
    #[schemars(length(max = 64), inner(length(max = 64)))]
    trusted_proxies: Option<Vec<String>>,
    /// Trusted proxies begin their connections with a header of the PROXY protocol, version 2.
    proxy_protocol: Option<bool>,
    /// `local`, `files` (those of the file of settings) or `acme`.
    #[schemars(length(max = 16))]
    tls_mode: Option<String>,
}

fn view(SettingsInForce { settings, provisional }: &SettingsInForce) -> SettingsView {
    let ServerConfig { names, public_url, trusted_proxies, proxy_protocol, .. } = &settings.config.server;
    SettingsView {
        names: names.iter().map(ToString::to_string).collect(),
        public_url: public_url.as_ref().map(|url| url.origin().ascii_serialization()).unwrap_or_default(),
        trusted_proxies: trusted_proxies.iter().map(ToString::to_string).collect(),
        proxy_protocol: *proxy_protocol,
        tls_mode: settings.config.tls.mode.as_str(),
        confirm_seconds: settings.config.server.confirm.as_secs(),
        fixed: settings.fixed().map(|(setting, source)| (setting.into(), source.to_string())).collect(),
        provisional: provisional
            .as_ref()
            .map(|Provisional { until, left }| ProvisionalView { until: *until, seconds_left: left.as_secs() }),
    }
}

pub(super) async fn read(services: &Services, op: Op) -> Result<Json<SettingsView>, Error> {
    Ok(Json(view(&services.settings_in_force(&op)?)))
}

pub(super) async fn change(
    services: &Services,
    op: Op,
    extract::Json(change): extract::Json<SettingsChange>,
) -> Result<Json<SettingsView>, Error> {
    let SettingsChange { names, public_url, trusted_proxies, proxy_protocol, tls_mode } = change;
    let change = Change { names, public_url, trusted_proxies, proxy_protocol, tls_mode };
    services.change_settings(&op, change).await?;
    read(services, op).await
}

pub(super) async fn confirm(services: &Services, op: Op) -> Result<Json<SettingsView>, Error> {
    services.confirm_settings(&op).await?;
    read(services, op).await
}

//! Settings. A flag wins over the environment (`ZERO_<SECTION>_<KEY>`), the environment over what was changed while the
//! appliance ran ([`changed`]), that over the file, the file over the default.
//!
//! A setting is declared once, in [`Config::visit`], with its key, its bounds and its place in [`Config`]. Reading,
//! printing and the names of the environment's variables all follow from that line. Reading goes on after a mistake,
//! so that all of them are reported at once.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use tracing::level_filters::LevelFilter;
use url::Url;

mod backup;
pub mod changed;
mod host;
mod kind;
mod layers;
mod mistake;
mod network;
mod print;
mod read;
mod secret;
mod smtp;
mod syslog;
#[cfg(test)]
mod tests;
mod tls;
mod update;

pub use backup::{BackupConfig, Recipient};
pub use changed::Change;
pub use host::Host;
pub use layers::Flags;
pub use mistake::{Mistake, Mistakes, Source};
pub use network::{Destination, Egress, NetworkConfig};
pub use read::Loaded;
pub use secret::Secret;
pub use smtp::{SmtpConfig, SmtpTls};
pub use syslog::{HostPort, SyslogConfig};
pub use tls::{AcmeChallenge, TlsConfig, TlsMode};
pub use update::{PublicKey, UpdateConfig};

use kind::text::optional;
use kind::{Kind, choice, count, days, hours, list, mebibytes, per_minute, seconds, switch, text};

/// Every setting, checked and typed. `config/zero.toml` explains each with its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    pub server: ServerConfig,
    pub tls: TlsConfig,
    pub network: NetworkConfig,
    pub limits: LimitsConfig,
    pub auth: AuthConfig,
    pub devices: DevicesConfig,
    pub audit: AuditConfig,
    pub syslog: SyslogConfig,
    pub store: StoreConfig,
    pub backup: BackupConfig,
    pub update: UpdateConfig,
    pub smtp: SmtpConfig,
    pub webhooks: WebhooksConfig,
    pub log: LogConfig,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Names and addresses beside those of the machine itself, for the certificate and the check of `Host`. At most 64.
    pub names: Vec<Host>,
    pub data_dir: PathBuf,
    /// The machine's clock is believed however far ahead it is.
    pub trust_clock: bool,
    /// `https://HOST[:PORT]`, where people reach it some other way than by the first name and the port of `listen`.
    pub public_url: Option<Url>,
    /// Peers whose `X-Forwarded-For` counts. At most 64.
    pub trusted_proxies: Vec<IpNet>,
    /// The connections of trusted proxies begin with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// How long settings that were changed while it runs wait to be confirmed, 1 s to 10 minutes.
    pub confirm: Duration,
    /// How long requests under way may take to finish once the server has been told to stop. At most 300 s.
    pub drain: Duration,
    /// Connections open at a time, 16 to 100,000.
    pub connections: u32,
    /// Connections open at a time from one address, 1 to 100,000.
    pub connections_per_address: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// Requests a minute, for each principal, 1 to 10,000,000.
    pub authenticated_per_minute: NonZeroU32,
    /// Requests a minute, for each address, 1 to 10,000,000.
    pub unauthenticated_per_minute: NonZeroU32,
    /// Requests a minute, for each principal of an enterprise organization, 1 to 10,000,000.
    pub enterprise_per_minute: NonZeroU32,
    /// Principals and addresses remembered at a time, 1,000 to 10,000,000: bounds the limiter's memory.
    pub keys: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AuthConfig {
    /// Life of an access token, 1 hour to 7 days.
    pub access_token_life: Duration,
    /// Life of a refresh token, 1 to 365 days.
    pub refresh_token_life: Duration,
    /// Sessions a user may have at a time, 1 to 10,000.
    pub sessions_per_user: u32,
    /// Age at which the key that signs access tokens is replaced, 1 to 365 days.
    pub signing_key_life: Duration,
    /// Life of an API key, unless its maker says otherwise, 1 to 3,650 days.
    pub api_key_life: Duration,
    /// How long people may go on without the second factor that their organization has begun to require, at most 90 days.
    pub mfa_grace: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DevicesConfig {
    /// A device that has been silent this long is offline, 1 s to 7 days. Longer than `checkin`.
    pub offline_after: Duration,
    /// What devices are told as `next_checkin_seconds`, 1 s to 1 day.
    pub checkin: Duration,
    /// Life of a device's token and certificate, 1 to 3,650 days.
    pub token_life: Duration,
    /// A command that has not been delivered after this long expires, 1 to 365 days.
    pub command_life: Duration,
    /// How long a command that has ended is kept, 1 to 3,650 days.
    pub command_history: Duration,
    /// The VPN addresses of an organization's devices, unless it has its own pool. A network of /8 to /30.
    pub address_pool: Ipv4Net,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditConfig {
    /// Age past which entries of the audit log are let go, at most 100 years; zero for never.
    pub retention: Duration,
    /// Entries that an organization's log may have, before the oldest are let go; 0 for any number.
    pub most_entries: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    /// Bytes; 1 MiB to 64 GiB.
    pub cache: u64,
    /// How long heartbeats are gathered in memory before they are written, 1 s to 1 hour.
    pub heartbeat_flush: Duration,
    /// Bytes. A data file up to this size is verified in full at every start.
    pub verify_at_start: u64,
    /// Bytes. With less free space than this, whatever would grow the data is refused.
    pub min_free: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WebhooksConfig {
    /// Receivers may be in private networks.
    pub allow_private: bool,
    /// Receivers may be on this machine.
    pub allow_loopback: bool,
    /// PEM file of authorities that receivers' certificates may come from, beside the public ones.
    pub ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    pub level: LevelFilter,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text when standard error is a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const MIB: u64 = 1 << 20;

const fn limit(requests: u32) -> NonZeroU32 {
    NonZeroU32::new(requests).expect("a limit of the defaults below is never 0")
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443),
            names: Vec::new(),
            data_dir: "./data".into(),
            trust_clock: false,
            public_url: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            confirm: Duration::from_secs(60),
            drain: Duration::from_secs(20),
            connections: 4096,
            connections_per_address: 2048,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            authenticated_per_minute: const { limit(1_000) },
            unauthenticated_per_minute: const { limit(100) },
            enterprise_per_minute: const { limit(10_000) },
            keys: 100_000,
        }
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            access_token_life: Duration::from_secs(DAY),
            refresh_token_life: Duration::from_secs(30 * DAY),
            sessions_per_user: 100,
            signing_key_life: Duration::from_secs(30 * DAY),
            api_key_life: Duration::from_secs(90 * DAY),
            mfa_grace: Duration::from_secs(7 * DAY),
        }
    }
}

impl Default for DevicesConfig {
    fn default() -> Self {
        Self {
            offline_after: Duration::from_secs(5 * MINUTE),
            checkin: Duration::from_secs(MINUTE),
            token_life: Duration::from_secs(365 * DAY),
            command_life: Duration::from_secs(30 * DAY),
            command_history: Duration::from_secs(365 * DAY),
            address_pool: Ipv4Net::new_assert(Ipv4Addr::new(10, 100, 0, 0), 16),
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            cache: 12 * MIB,
            heartbeat_flush: Duration::from_secs(300),
            verify_at_start: 256 * MIB,
            min_free: 64 * MIB,
        }
    }
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self { allow_private: true, allow_loopback: false, ca_file: None }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: LevelFilter::INFO, format: LogFormat::Auto }
    }
}

/// What goes through all settings in order: it reads them or prints them.
trait Visitor {
    fn section(&mut self, name: &'static str);
    fn setting<K: Kind>(&mut self, key: &'static str, kind: K, value: &mut K::Value);
}

impl Config {
    /// Reads the settings from `file`, where there is one, from `environment`, of which only `ZERO_*` is looked at, and
    /// from `flags`.
    ///
    /// # Errors
    /// Every mistake in all of them, those that a later source would override included.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: Flags,
    ) -> Result<Loaded, Mistakes> {
        read::load(file, environment, flags)
    }

    /// The same without its mistakes, each of which leaves a default: for what is needed before they may count, since a
    /// newer version can know more settings.
    pub fn glance(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: Flags,
    ) -> Self {
        read::read(file, environment, flags).0.config
    }

    fn visit(&mut self, visitor: &mut impl Visitor) {
        let Self {
            server,
            tls,
            network,
            limits,
            auth,
            devices,
            audit,
            syslog,
            store,
            backup,
            update,
            smtp,
            webhooks,
            log,
        } = self;

        visitor.section("server");
        visitor.setting("listen", text::address(), &mut server.listen);
        visitor.setting("names", list(text::host(), 64), &mut server.names);
        visitor.setting("data_dir", text::path(), &mut server.data_dir);
        visitor.setting("trust_clock", switch(), &mut server.trust_clock);
        visitor.setting("public_url", optional(text::origin()), &mut server.public_url);
        visitor.setting("trusted_proxies", list(text::network(), 64), &mut server.trusted_proxies);
        visitor.setting("proxy_protocol", switch(), &mut server.proxy_protocol);
        visitor.setting("confirm_seconds", seconds(1..=600), &mut server.confirm);
        visitor.setting("drain_seconds", seconds(0..=300), &mut server.drain);
        visitor.setting("connections", count(16..=100_000), &mut server.connections);
        visitor.setting("connections_per_address", count(1..=100_000), &mut server.connections_per_address);

        tls.visit(visitor);
        network.visit(visitor);

        visitor.section("limits");
        visitor.setting("authenticated_per_minute", per_minute(), &mut limits.authenticated_per_minute);
        visitor.setting("unauthenticated_per_minute", per_minute(), &mut limits.unauthenticated_per_minute);
        visitor.setting("enterprise_per_minute", per_minute(), &mut limits.enterprise_per_minute);
        visitor.setting("keys", count(1_000..=10_000_000), &mut limits.keys);

        visitor.section("auth");
        visitor.setting("access_token_hours", hours(1..=168), &mut auth.access_token_life);
        visitor.setting("refresh_token_days", days(1..=365), &mut auth.refresh_token_life);
        visitor.setting("sessions_per_user", count(1..=10_000), &mut auth.sessions_per_user);
        visitor.setting("signing_key_days", days(1..=365), &mut auth.signing_key_life);
        visitor.setting("api_key_days", days(1..=3_650), &mut auth.api_key_life);
        visitor.setting("mfa_grace_days", days(0..=90), &mut auth.mfa_grace);

        visitor.section("devices");
        visitor.setting("offline_after_seconds", seconds(1..=7 * DAY), &mut devices.offline_after);
        visitor.setting("checkin_seconds", seconds(1..=DAY), &mut devices.checkin);
        visitor.setting("token_days", days(1..=3_650), &mut devices.token_life);
        visitor.setting("command_days", days(1..=365), &mut devices.command_life);
        visitor.setting("command_history_days", days(1..=3_650), &mut devices.command_history);
        visitor.setting("address_pool", text::pool(), &mut devices.address_pool);

        visitor.section("audit");
        visitor.setting("retention_days", days(0..=36_500), &mut audit.retention);
        visitor.setting("retention_entries", count(0..=4_000_000_000), &mut audit.most_entries);

        syslog.visit(visitor);

        visitor.section("store");
        visitor.setting("cache_mib", mebibytes(1..=65_536), &mut store.cache);
        visitor.setting("heartbeat_flush_seconds", seconds(1..=HOUR), &mut store.heartbeat_flush);
        visitor.setting("verify_at_start_mib", mebibytes(0..=1_048_576), &mut store.verify_at_start);
        visitor.setting("min_free_mib", mebibytes(0..=1_048_576), &mut store.min_free);

        backup.visit(visitor);
        update.visit(visitor);
        smtp.visit(visitor);

        visitor.section("webhooks");
        visitor.setting("allow_private", switch(), &mut webhooks.allow_private);
        visitor.setting("allow_loopback", switch(), &mut webhooks.allow_loopback);
        visitor.setting("ca_file", text::optional_path(), &mut webhooks.ca_file);

        visitor.section("log");
        visitor.setting("level", choice(LEVELS), &mut log.level);
        visitor.setting("format", choice(FORMATS), &mut log.format);
    }
}

const LEVELS: &[(&str, LevelFilter)] = &[
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

const FORMATS: &[(&str, LogFormat)] =
    &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];

impl ServerConfig {
    /// What is wrong with these settings together: the keys, and a sentence.
    fn contradiction(&self) -> Option<(&'static [&'static str], String)> {
        let host = self.public_url.as_ref().and_then(|url| Host::parse(url.host_str()?));
        if let Some(host) = host.filter(|host| !self.names.contains(host)) {
            let why = format!("server.public_url leads to {host}, which server.names must have as well");
            return Some((&["server.public_url", "server.names"], why));
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            let why = "server.proxy_protocol needs server.trusted_proxies: only their headers are read";
            return Some((&["server.proxy_protocol", "server.trusted_proxies"], why.into()));
        }
        None
    }

    /// Where people reach the appliance, which listens on `port` and may have a name that is not in the settings: an origin,
    /// without a slash at its end.
    pub fn url(&self, other: Option<String>, port: u16) -> String {
        if let Some(url) = &self.public_url {
            return url.origin().ascii_serialization();
        }
        let host = self.names.first().map(ToString::to_string).or(other).unwrap_or_else(|| "localhost".into());
        format!("https://{host}:{port}")
    }
}

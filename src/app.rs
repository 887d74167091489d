//! Builds everything, starts it in order, and ends it in reverse. The only place that wires.

use std::fs::File;
use std::future::Future;
use std::io::{BufReader, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::api;
use crate::clock::{Clock, SystemClock, Time};
use crate::config::{Config, Loaded, Secret, ServerConfig};
use crate::domain::audit::forward::Connect;
use crate::domain::audit::offline::{self, Kept, Proof};
use crate::domain::mail::{Letter, SendLetter, Unsent};
use crate::domain::op::Presented;
use crate::domain::recovery::Recovered;
use crate::domain::settings::Changeable;
use crate::domain::setup::NewAppliance;
use crate::domain::system::Edge;
use crate::domain::webhooks::Post;
use crate::domain::{DeviceCertificate, IssueCertificate, Services, recovery, setup};
use crate::error::Error;
use crate::http::dispatch::Dispatch;
use crate::http::limits::Limits;
use crate::http::metrics::Requests;
use crate::http::openapi::document;
use crate::http::peer::UnknownProxy;
use crate::http::router::Router;
use crate::ids::Ids;
use crate::model::device::Certificate;
use crate::model::hex::Hex;
use crate::net::Refused;
use crate::net::entrance::{Entrance, Proxies};
use crate::net::listener::Listener;
use crate::net::outbound::Egress;
use crate::net::serve::{self, Peer};
use crate::net::smtp::{Mail, MailError, Smtp};
use crate::net::syslog::Syslog;
use crate::net::tls::device_ca::{ClientCertificate, CsrError, DeviceCa, Issued};
use crate::store::audit::checkpoints;
use crate::store::{self, Store};
use crate::tasks;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};

mod backup;
mod bundle;
mod certificates;
mod control;
mod doctor;
mod folder;
mod keys;
mod restore;
mod settings;
mod syslog;
pub mod update;
mod webhooks;

pub use backup::{Salvaged, back_up, salvage};
pub use bundle::bundle;
use certificates::Certificates;
pub use doctor::examine;
use folder::{DATA_FILE, give_to_owner, lock};
pub use restore::{Outcome, Wanted, restore};
use update::{Start, Updater};

/// How long requests under way may take to finish when a new version takes over: others wait meanwhile.
const SWITCH_GRACE: Duration = Duration::from_secs(1);

/// Why the appliance does not start, or had to stop; says what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

fn failed(cause: impl std::fmt::Display) -> StartError {
    StartError(cause.to_string())
}

/// What whoever started the appliance needs to know.
pub struct Started {
    /// `https://HOST:PORT`, where it listens.
    pub listens: String,
    /// Where people reach it.
    pub url: String,
    pub setup_code: Option<String>,
    pub ca_fingerprint: String,
    pub ca_path: PathBuf,
}

/// Why it serves no more.
pub enum Ended {
    Stopped,
    /// A new version is to take over, with this listening socket.
    Updating(OwnedFd),
}

pub struct App {
    started: Started,
    services: Arc<Services>,
    dispatch: Arc<Dispatch>,
    certificates: Arc<Certificates>,
    entrance: Arc<Entrance>,
    listener: Listener,
    limits: serve::Limits,
    drain: Duration,
    updater: Updater,
    heartbeat_flush: Duration,
    post: Arc<Post>,
    collector: Option<Arc<Connect>>,
    lock: File,
    control: Option<tokio::net::UnixListener>,
}

impl App {
    /// Starts on the machine's clock, which never shows a time before the last one the data knows of.
    pub async fn start(settings: Loaded, clock: Arc<SystemClock>, start: &mut Start) -> Result<Self, StartError> {
        let (floor, trusts) = (clock.clone(), settings.config.server.trust_clock);
        Self::start_with(settings, clock, start, move |time| believe(&floor, time, trusts)).await
    }

    /// Starts on any clock; `raise_floor` is told the latest time that the data knows of.
    pub async fn start_with(
        settings: Loaded,
        clock: Arc<dyn Clock>,
        start: &mut Start,
        raise_floor: impl FnOnce(Time),
    ) -> Result<Self, StartError> {
        let config = settings.config.clone();
        let data_dir = config.server.data_dir.clone();
        let lock = lock(&data_dir)?;
        let ids = Arc::new(Ids::new(clock.clone()));
        let store = Store::open(&start.data_file, &config.store, ids.clone(), clock.now()).map_err(failed)?;
        raise_floor(store.clock_floor().map_err(failed)?);

        let egress = Arc::new(Egress::new(config.network.clone()));
        let tls_dir = data_dir.join("tls");
        let sealing = keys::sealing(store.reader());
        let device_ca = DeviceCa::open(&tls_dir, &sealing, config.devices.token_life, clock.now()).map_err(failed)?;
        let memory = store.memory().clone();
        let kept = move || memory.directory().settings().names.clone();
        let certificates =
            Arc::new(Certificates::open(&config, &tls_dir, &device_ca, kept, egress.clone(), clock.clone())?);
        let ca = certificates.ca.clone();

        let listener = match start.listener.take() {
            Some(socket) => Listener::adopt(socket).map_err(failed)?,
            None => Listener::bind(config.server.listen).await.map_err(|error| {
                failed(format_args!("cannot listen on {}: {error}. Is another server there?", config.server.listen))
            })?,
        };
        let host = config.server.names.first().map_or_else(|| "localhost".into(), ToString::to_string);
        let listens = format!("https://{host}:{}", listener.address().port());

        let services = Services::new(store, config.clone(), ids.clone(), clock.clone(), issuer(device_ca));
        let targets = webhooks::targets(config.webhooks.clone(), egress.clone(), ca.clone(), listener.address().port());
        let post = webhooks::sender(&config.webhooks, egress.clone(), targets.clone())?;
        let own_name = config.server.names.first().map(ToString::to_string);
        let collector = Syslog::new(&config.syslog, egress.clone(), own_name.as_deref()).map_err(failed)?;
        let collector = collector.map(syslog::connect);
        let (shown, renewed) = (certificates.clone(), certificates.clone());
        let (asked, looked_at) = (egress.clone(), config.clone());
        let unknown_proxy = Arc::new(UnknownProxy::default());
        let noticed = unknown_proxy.clone();
        let edge = Edge {
            trust: certificates.trust(),
            certificate: Box::new(move || shown.state()),
            look: Box::new(move || renewed.look_now()),
            denied: Box::new(move || asked.refused().map(|(purpose, times)| (purpose.as_str().into(), times)).into()),
            diagnose: Arc::new(move |status| doctor::attend(&looked_at, status)),
            unknown_proxy: Box::new(move || noticed.found()),
        };
        let updater = start.updater(&config);
        let ServerConfig { trusted_proxies: trusted, proxy_protocol: header, .. } = config.server.clone();
        let entrance = Arc::new(Entrance::new(Proxies { trusted, header }));
        let changeable = Changeable::new(settings, settings::enforcer(certificates.clone(), entrance.clone()));
        let services = services.at(listener.address().port()).within(targets).behind(edge);
        let services = services.changing(changeable).updating(updater.known());
        let services = Arc::new(match Smtp::new(&config.smtp, egress.clone(), &host).map_err(failed)? {
            Some(smtp) => services.mailing(postman(smtp)),
            None => services,
        });
        services.reconcile_ledger().map_err(failed)?;
        services.discard_unconfirmed().await.map_err(failed)?;
        let control = match control::listen(&data_dir) {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::warn!(%error, "commands on this machine cannot reach the server: zero backup will not work");
                None
            }
        };
        let router = Router::new(api::routes());
        let (own_names, trusted, proxies) = (ca.clone(), ca.clone(), entrance.clone());
        let dispatch = Dispatch {
            services: services.clone(),
            requests: Requests::new(router.routes()),
            router,
            limits: Limits::new(&config.limits, clock.clone()),
            clock: clock.clone(),
            ids,
            is_trusted_proxy: Box::new(move |address| proxies.proxies().is_trusted(address)),
            unknown_proxy,
            uploads: update::inbox(&data_dir).map_err(failed)?,
            is_own_name: Box::new(move |host| own_names.names().contains(host)),
            is_publicly_trusted: Box::new(move |host| trusted.tls().is_publicly_trusted(host)),
        };
        let started = Started {
            listens,
            url: services.url(),
            setup_code: services.setup_code().map(Into::into),
            ca_fingerprint: ca.authority().fingerprint(),
            ca_path: tls_dir.join("ca.pem"),
        };
        let limits = serve::Limits {
            connections: config.server.connections as usize,
            connections_per_address: config.server.connections_per_address as usize,
            ..serve::Limits::default()
        };
        let (heartbeat_flush, drain) = (config.store.heartbeat_flush, config.server.drain);
        start.is_ready(&services).await?;
        let dispatch = Arc::new(dispatch);
        Ok(Self {
            started,
            services,
            dispatch,
            certificates,
            entrance,
            listener,
            limits,
            drain,
            updater,
            heartbeat_flush,
            post,
            collector,
            lock,
            control,
        })
    }

    /// Ends without having served.
    pub fn close(self) {
        let Self { services, dispatch, .. } = self;
        drop(dispatch);
        if let Ok(services) = Arc::try_unwrap(services) {
            services.store.close();
        }
    }

    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Whether writes can be committed; for the watchdog, while [`App::run_until`] owns the app.
    pub fn health(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let services = self.services.clone();
        move || services.ailment().is_none()
    }

    /// Looks at the certificates at once, instead of within a minute; for SIGHUP.
    pub fn look_at_certificates(&self) -> impl Fn() + Send + Sync + 'static {
        let certificates = self.certificates.clone();
        move || certificates.look_now()
    }

    /// Serves until `shutdown`, then lets requests under way finish and closes the data file. What no request waits for
    /// goes on in `background`.
    ///
    /// # Errors
    /// When the disk has failed: nothing can be written any more, and the next start examines the file.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>, background: &Handle) -> Result<Ended, StartError> {
        let Self { services, dispatch, certificates, entrance, listener, limits, .. } = self;
        let Self { heartbeat_flush, post, collector, lock, .. } = self;
        let (drain, mut spare, mut ended) = (self.drain, Some(listener.spare().map_err(failed)?), Ended::Stopped);
        let mut tasks = tasks::start(background, &services, heartbeat_flush, post, collector);
        tasks.spawn(certificates.clone().keep());
        tasks.spawn_on(self.updater.run(services.clone()), background);
        if let Some(listener) = self.control {
            tasks.spawn_on(control::serve(listener, dispatch.clone()), background);
        }
        let (mut disk, mut broken) = (services.store.failed(), None);
        let stop = async {
            let socket = spare.take();
            let grace = tokio::select! {
                () = shutdown => drain,
                () = services.updates.switching() => {
                    ended = socket.map_or(Ended::Stopped, Ended::Updating);
                    drain.min(SWITCH_GRACE)
                }
                _ = disk.wait_for(|failed| *failed) => drain,
                cause = panicked(&mut tasks) => {
                    broken = Some(cause);
                    drain
                }
            };
            services.drain();
            grace
        };
        let answer = dispatch.clone();
        let answer = move |request, peer: Peer| {
            let dispatch = answer.clone();
            async move { dispatch.answer(request, peer.address, peer.entrance, peer.certificate.map(presented)).await }
        };
        let refuse = dispatch.clone();
        let refuse = move |Refused { status, message, details }, peer: Peer| {
            refuse.refuse(status, message, details, peer.address)
        };
        serve::run(listener, certificates.ca.tls(), &entrance, answer, Arc::new(refuse), limits, stop).await;

        tasks.shutdown().await;
        if let Some(cause) = broken {
            return Err(failed(format_args!("a background task broke down ({cause}): start again, and report this")));
        }
        if *disk.borrow() {
            return Err(failed("the data could not be written; the log says why. Check the disk, then start again"));
        }
        services.write_heartbeats().await.map_err(failed)?;
        drop(dispatch);
        match Arc::try_unwrap(services) {
            Ok(services) => services.store.close(),
            Err(_) => tracing::debug!("the data file is closed by the end of the process"),
        }
        drop(lock);
        Ok(ended)
    }
}

/// Tells the clock what the data knows of time, and the log when the machine knows better and is not believed.
fn believe(clock: &SystemClock, floor: Time, trusts: bool) {
    clock.raise_floor(floor);
    if trusts {
        clock.trust();
    }
    if let Some(machine) = clock.doubted() {
        tracing::error!(
            %machine, last = %floor,
            "the machine's clock is more than a year ahead of the last time that is known, and nothing keeps it: time goes \
             on from there. Let NTP set it, or start with server.trust_clock = true if it is right"
        );
    }
}

/// Waits for a task that ends by a panic: what it did would otherwise never be done again, and nobody would know.
async fn panicked(tasks: &mut JoinSet<()>) -> JoinError {
    loop {
        match tasks.join_next().await {
            Some(Err(cause)) if cause.is_panic() => return cause,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

fn postman(smtp: Smtp) -> Box<SendLetter> {
    let smtp = Arc::new(smtp);
    Box::new(move |letter| {
        let smtp = smtp.clone();
        Box::pin(async move {
            let Letter { id, name, email, subject, text, written_at } = letter;
            let written_at = UNIX_EPOCH + Duration::from_secs(written_at.unix().unsigned_abs());
            let mail = Mail { id: id.to_string(), name, email, subject, text, written_at };
            smtp.send(mail).await.map_err(|error| match error {
                MailError::Refused(reason) => Unsent::Refused(reason),
                MailError::Deferred(reason) => Unsent::Deferred(reason),
                MailError::Unreachable(reason) => Unsent::Unreachable(reason),
            })
        })
    })
}

fn issuer(ca: DeviceCa) -> Box<IssueCertificate> {
    Box::new(move |csr, device, organization, now| match ca.issue(csr, device, organization, now) {
        Ok(Issued { certificate_pem, ca_pem, serial, fingerprint, not_after }) => Ok(DeviceCertificate {
            certificate_pem,
            ca_pem,
            certificate: Certificate { fingerprint, serial, expires_at: not_after },
        }),
        Err(CsrError::Failed(error)) => Err(Error::internal(error)),
        Err(error) => Err(Error::field("csr", error.to_string())),
    })
}

fn presented(certificate: ClientCertificate) -> Presented {
    let ClientCertificate { device, organization, fingerprint, not_after } = certificate;
    Presented { device_id: device, organization_id: organization, fingerprint, expires_at: not_after }
}

/// The first organization and its administrator, for `zero init`.
pub struct FirstAdmin {
    pub organization: String,
    pub name: String,
    pub email: String,
    pub password: Secret,
}

/// Sets a data directory up without serving it.
pub fn initialise(config: Config, new: FirstAdmin) -> Result<(), StartError> {
    let password = new.password.expose().to_owned();
    let new = NewAppliance { organization: new.organization, name: new.name, email: new.email, password };
    offline(&config, async |store, now| setup::initialise(store, new, now).await.map(|_| ()))
}

/// Lets a super admin in again, for `zero recover-admin`.
pub fn recover_admin(config: Config, email: String, password: Option<Secret>) -> Result<Recovered, StartError> {
    let data_dir = &config.server.data_dir;
    if !data_dir.join(DATA_FILE).exists() {
        return Err(failed(format_args!("there is no appliance in {}", data_dir.display())));
    }
    offline(&config, async |store, now| {
        recovery::recover_admin(store, &email, password.as_ref().map(|password| password.expose()), now).await
    })
}

/// What `zero audit verify` has found.
pub struct Examined {
    pub proofs: Vec<Proof>,
    /// The public key that the appliance signs checkpoints with, in hexadecimal; an export does not have it.
    pub key: Option<String>,
}

/// Verifies the audit logs in the data directory, or in `file`: a copy of its data file or an export.
pub fn verify_audit(
    config: &Config,
    file: Option<&Path>,
    checkpoint: Option<&Path>,
    key: Option<Vec<u8>>,
) -> Result<Examined, StartError> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| failed(format_args!("{}: {error}", path.display())));
    let kept = match checkpoint {
        Some(path) => Kept::parse(&read(path)?, key).map_err(failed)?,
        None => Kept::default(),
    };
    let in_directory = config.server.data_dir.join(DATA_FILE);
    let _lock = file.is_none().then(|| lock_to_read(&config.server.data_dir)).transpose()?;
    let path = file.unwrap_or(&in_directory);
    let mut opened = File::open(path).map_err(|error| failed(format_args!("{}: {error}", path.display())))?;
    let mut start = Vec::new();
    opened.by_ref().take(4).read_to_end(&mut start).map_err(failed)?;
    if file.is_some() && start != b"redb" {
        opened.rewind().map_err(failed)?;
        let proof = offline::verify_export(BufReader::new(opened), &kept).map_err(failed)?;
        return Ok(Examined { proofs: vec![proof], key: None });
    }
    let looked = store::look(path, &config.store, |snapshot| {
        Ok((offline::verify_data(snapshot, &kept)?, checkpoints::public_key(snapshot)?))
    });
    let (proofs, key) = looked.map_err(failed)?;
    Ok(Examined { proofs, key: Some(Hex(key.to_vec()).to_string()) })
}

fn lock_to_read(data_dir: &Path) -> Result<folder::Reading, StartError> {
    folder::lock_to_read(data_dir)?.ok_or_else(|| {
        failed(format_args!(
            "a zero is running on {}: stop it first, or ask it with GET /api/v1/audit-logs/verify",
            data_dir.display()
        ))
    })
}

/// Works on the data of an appliance that is not running.
fn offline<T>(config: &Config, work: impl AsyncFnOnce(&Store, Time) -> Result<T, Error>) -> Result<T, StartError> {
    let clock = Arc::new(SystemClock::new());
    let _lock = lock(&config.server.data_dir)?;
    let ids = Arc::new(Ids::new(clock.clone() as Arc<dyn Clock>));
    let file = config.server.data_dir.join(DATA_FILE);
    let store = Store::open(&file, &config.store, ids, clock.now()).map_err(failed)?;
    let given = give_to_owner(&config.server.data_dir, &file);
    given.map_err(|error| failed(format_args!("{}: {error}", file.display())))?;
    believe(&clock, store.clock_floor().map_err(failed)?, config.server.trust_clock);
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(failed)?;
    let done = runtime.block_on(work(&store, clock.now()));
    store.close();
    done.map_err(|error| match error {
        Error::Invalid(errors) => failed(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        error => failed(error),
    })
}

/// The OpenAPI document, without a server.
pub fn openapi() -> serde_json::Value {
    document(&api::routes())
}

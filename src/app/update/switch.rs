//! The switch itself, at the start of `zero serve`, before anything else has the data open.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::bundle::compare;
use super::handover::{Handover, Role, binary_of};
use super::prepare::Updater;
use super::state::{Places, Stage, State, Switch};
use super::{bundle, sync};
use crate::app::folder::take;
use crate::app::{StartError, failed};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::domain::Services;
use crate::model::update::{UpdateOutcome, UpdateResult};

/// Bytes compared at a time.
const PIECE: usize = 1 << 20;
/// How long after its time a new version that does not even undo itself is ended.
const LAST_RESORT: Duration = Duration::from_secs(10);

/// How this process starts.
pub struct Start {
    pub data_file: PathBuf,
    pub handover: Handover,
    config_file: Option<PathBuf>,
    state: State,
    /// Where clients wait already.
    pub listener: Option<std::net::TcpListener>,
    /// There when this version is new and has to be ready in time.
    pub tried: Option<Tried>,
}

impl Start {
    pub fn updater(&self, config: &Config) -> Updater {
        Updater { config: config.clone(), config_file: self.config_file.clone(), handover: self.handover.clone() }
    }

    /// The appliance is about to serve: a new version puts its data in place, and the audit log hears how an update has
    /// ended.
    ///
    /// # Errors
    /// Why the new version cannot serve.
    pub async fn is_ready(&mut self, services: &Services) -> Result<(), StartError> {
        if let Some(tried) = &self.tried {
            self.state = tried.confirm()?;
            self.tried = None;
        }
        let Some(outcome) = self.state.last.clone() else { return Ok(()) };
        services.updates.set_ended(outcome.clone());
        if !self.state.unnoted || !services.is_set_up() {
            return Ok(());
        }
        // On a full disk both wait for the next start.
        if let Err(error) = services.note_update_ended(outcome).await {
            tracing::warn!(%error, "the audit log does not say yet how the update has ended");
            return Ok(());
        }
        self.state.unnoted = false;
        if let Err(error) = Places::new(services.data_dir()).write(&self.state) {
            tracing::warn!(%error, "the audit log will say once more how the update has ended");
        }
        Ok(())
    }

    /// Becomes this very version anew, which then makes the switch with nothing open but the socket. Comes back only
    /// where that fails.
    pub fn again(&self, listener: &OwnedFd) -> io::Error {
        let installed = match self.handover.installed() {
            Ok(installed) => Some(installed),
            Err(error) => return error,
        };
        let version = Some(self.handover.running().to_owned());
        let again = Handover { version, installed, ..Handover::default() };
        again.become_it(Path::new("/proc/self/exe"), Some(listener))
    }

    /// Whether another version was this process before.
    pub fn took_over(&self) -> bool {
        self.handover.listener.is_some()
    }

    /// Whether it ends once it is ready.
    pub fn is_rehearsal(&self) -> bool {
        self.handover.role == Role::Rehearses
    }
}

/// Finishes or undoes a switch that was cut short, and makes one that is due: then it does not come back, as the process
/// goes on as the new version.
pub fn begin(config: &Config, config_file: Option<PathBuf>) -> Result<Start, StartError> {
    let handover = Handover::received();
    let places = Places::new(&config.server.data_dir);
    let start = |state, listener, tried, data_file| {
        let handover = handover.clone();
        Start { data_file, handover, config_file, state, listener, tried }
    };
    if handover.role == Role::Rehearses {
        return Ok(start(State::default(), None, None, places.data_file()));
    }
    let listener = handover.take_listener();
    let _lock = take(places.data_dir())?;
    let mut state = places.read().map_err(failed)?;
    if handover.version.is_none() && state.current.as_ref().is_some_and(|one| !compare(one, handover.running()).is_gt())
    {
        // The installed version is as new, and was not handed over.
        state.current = None;
        places.write(&state).map_err(failed)?;
    }
    let Some(switch) = state.switch.clone() else {
        tidy(&places, &state, handover.running());
        return Ok(start(state, listener, None, places.data_file()));
    };
    if switch.stage == Stage::Trying && handover.role == Role::Tried && handover.running() == switch.to {
        let copy = places.copy();
        let kept = listener.as_ref().map(std::net::TcpListener::try_clone).transpose().map_err(failed)?;
        let tried = Tried::new(places, state.clone(), &handover, kept.map(OwnedFd::from), config.update.ready_within);
        return Ok(start(state, listener, Some(tried), copy));
    }
    let outcome = match switch.stage {
        Stage::Staged => {
            let kept: Option<OwnedFd> = listener.as_ref().and_then(|socket| socket.try_clone().ok()).map(Into::into);
            let why = go_over(&places, &mut state, &switch, config, &handover, kept.as_ref());
            Err(format!("the new version could not take over: {why}"))
        }
        Stage::Trying if places.copy().exists() => Err(switch.reason.clone().unwrap_or_else(|| {
            format!("it had not become ready within {} s, or was ended before", config.update.ready_within.as_secs())
        })),
        Stage::Trying => Ok(()),
    };
    settle(&places, &mut state, &switch, outcome);
    tidy(&places, &state, handover.running());
    let data_file = places.data_file();
    Ok(start(state, listener, None, data_file))
}

/// Makes the last copy of the data and becomes the new version. Comes back only with why not.
fn go_over(
    places: &Places,
    state: &mut State,
    switch: &Switch,
    config: &Config,
    handover: &Handover,
    listener: Option<&OwnedFd>,
) -> String {
    let mut gone = || -> io::Result<io::Error> {
        let binary = binary_of(places, &switch.to, config).map_err(io::Error::other)?;
        refresh(&places.data_file(), &places.copy())?;
        sync(places.folder())?;
        state.switch = Some(Switch { stage: Stage::Trying, ..switch.clone() });
        places.write(state)?;
        let installed = Some(handover.installed()?);
        let next = Handover { version: Some(switch.to.clone()), installed, role: Role::Tried, ..Handover::default() };
        set_alarm(config.update.ready_within + LAST_RESORT);
        Ok(next.become_it(&binary, listener))
    };
    let why = gone().unwrap_or_else(|error| error);
    set_alarm(Duration::ZERO);
    why.to_string()
}

/// Notes how a switch has ended.
fn settle(places: &Places, state: &mut State, switch: &Switch, outcome: Result<(), String>) {
    let at = SystemClock::new().now();
    let Switch { id, from, to, .. } = switch.clone();
    match &outcome {
        Ok(()) => tracing::info!(from, to, "updated"),
        Err(reason) => tracing::error!(from, to, reason, "the update was undone"),
    }
    let result = if outcome.is_ok() { UpdateResult::Updated } else { UpdateResult::Undone };
    if result == UpdateResult::Updated {
        state.current = Some(to.clone());
    } else if let Ok(copy) = OpenOptions::new().write(true).open(places.copy()) {
        // Makes room for the state on a full disk. That the file is there says that the data file is the old one.
        let _ = copy.set_len(0);
    }
    state.switch = None;
    state.last = Some(UpdateOutcome { id, from, to, result, reason: outcome.err(), at });
    state.unnoted = true;
    if let Err(error) = places.write(state) {
        // The next start comes to the same end.
        return tracing::error!(%error, "the end of an update cannot be noted");
    }
    let _ = fs::remove_file(places.copy());
}

/// Removes what no version needs any more.
fn tidy(places: &Places, state: &State, running: &str) {
    let needed = |name: &str| {
        name == running
            || state.current.as_deref() == Some(name)
            || state.switch.as_ref().is_some_and(|switch| switch.to == name || switch.from == name)
    };
    for entry in fs::read_dir(places.versions()).into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(needed) {
            let _ = bundle::remove(&entry.path());
        }
    }
    for entry in fs::read_dir(places.folder()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !matches!(name.to_str(), Some("versions" | "state.json")) && state.switch.is_none() {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// A new version until it is ready. It then puts its data in place; otherwise the old one is put back in its own.
pub struct Tried(Arc<Trial>);

struct Trial {
    places: Places,
    installed: io::Result<PathBuf>,
    listener: Option<OwnedFd>,
    /// `None` once it is decided.
    open: Mutex<Option<State>>,
    decided: Condvar,
}

impl Tried {
    fn new(places: Places, state: State, handover: &Handover, listener: Option<OwnedFd>, within: Duration) -> Self {
        let (open, decided) = (Mutex::new(Some(state)), Condvar::new());
        let trial = Arc::new(Trial { places, installed: handover.installed(), listener, open, decided });
        let watched = trial.clone();
        // A thread of its own, as what hangs may be anything. Without it there is still the alarm.
        let started = std::thread::Builder::new().name("zero-trial".into()).spawn(move || {
            let open = watched.open.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = watched.decided.wait_timeout_while(open, within, |open| open.is_some());
            let (open, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if open.is_some() {
                drop(open);
                watched.give_up(&format!("it was not ready within {} s", within.as_secs()));
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "nothing watches the start of the new version but the alarm");
        }
        Self(trial)
    }

    /// The data that this version has opened takes the place of the old one. Nothing has been acknowledged before.
    ///
    /// # Errors
    /// Why it did not; the old data is still in place.
    fn confirm(&self) -> Result<State, StartError> {
        let trial = &*self.0;
        let mut open = trial.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = open.as_mut() else { return Err(failed("it is too late")) };
        let Some(switch) = state.switch.clone() else { return Err(failed("there is nothing to update")) };
        let places = &trial.places;
        put_in_place(places).map_err(|error| failed(format_args!("the new data cannot take its place: {error}")))?;
        settle(places, state, &switch, Ok(()));
        tidy(places, state, &switch.to);
        let settled = state.clone();
        *open = None;
        set_alarm(Duration::ZERO);
        trial.decided.notify_all();
        Ok(settled)
    }

    /// Puts the old version back. Comes back only where that fails.
    pub fn give_up(&self, reason: &str) {
        self.0.give_up(reason);
    }
}

impl Drop for Tried {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.give_up("it broke down at its start");
        }
    }
}

impl Trial {
    fn give_up(&self, reason: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = open.as_mut() else { return };
        if let Some(switch) = &mut state.switch {
            switch.reason = Some(reason.into());
        }
        // Without it, the old one only cannot say why.
        let _ = self.places.write(state);
        set_alarm(Duration::ZERO);
        let Ok(installed) = &self.installed else { return };
        let again = Handover { installed: Some(installed.clone()), ..Handover::default() };
        let error = again.become_it(installed, self.listener.as_ref());
        tracing::error!(%error, "the old version cannot be run: start it");
    }
}

/// The one step after which the new version is the one that serves: the renaming.
fn put_in_place(places: &Places) -> io::Result<()> {
    fs::rename(places.copy(), places.data_file())?;
    sync(places.folder())?;
    sync(places.data_dir())
}

/// Makes `copy` the same as `of`, and writes only where they differ.
pub fn refresh(of: &Path, copy: &Path) -> io::Result<()> {
    let source = File::open(of)?;
    let target = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(copy)?;
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let (mut new, mut old) = (vec![0; PIECE], vec![0; PIECE]);
    let mut offset = 0;
    while offset < length {
        let piece = PIECE.min(usize::try_from(length - offset).unwrap_or(PIECE));
        let (new, old) = (&mut new[..piece], &mut old[..piece]);
        source.read_exact_at(new, offset)?;
        target.read_exact_at(old, offset)?;
        if new != old {
            target.write_all_at(new, offset)?;
        }
        offset += piece as u64;
    }
    target.sync_all()
}

/// Ends this process after that time, whatever it has become by then; zero for never. The last resort: whoever starts it
/// again finds that the switch was cut short.
fn set_alarm(after: Duration) {
    // SAFETY: it only sets a timer of the process.
    unsafe { libc::alarm(u32::try_from(after.as_secs()).unwrap_or(u32::MAX)) };
}

//! A server in a process of its own, and what the kernel says of that process (proc(5)).

use std::fs;
use std::io::{BufRead, BufReader, Error};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Fallible;
use crate::client::Client;

/// The unit of times in `stat`: USER_HZ, which is 100 on every architecture that is built for.
const TICKS_A_SECOND: u32 = 100;

pub struct Server {
    process: Child,
    pub client: Client,
}

impl Server {
    /// Starts a server that says `ready URL` on standard output; tells how long that took. `ca` is read afterwards.
    pub fn start(command: &mut Command, ca: &Path) -> Fallible<(Self, Duration)> {
        let before = Instant::now();
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take().ok_or("standard output is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let took = before.elapsed();
        let Some(url) = line.trim().strip_prefix("ready ") else {
            let _ = process.kill();
            process.wait()?;
            return Err(format!("the server did not get ready: {line:?}").into());
        };
        let client = Client::new(url, ca)?;
        Ok((Self { process, client }, took))
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> Fallible<()> {
        kill_process(Pid::from_child(&self.process), Signal::TERM).map_err(Error::from)?;
        let status = self.process.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) }
    }

    /// Bytes of memory in use now, and the most that ever were.
    pub fn memory(&self) -> Fallible<(u64, u64)> {
        let status = self.read("status")?;
        let kib = |key| Ok::<_, Box<dyn std::error::Error + Send + Sync>>(number(&status, key)? * 1024);
        Ok((kib("VmRSS:")?, kib("VmHWM:")?))
    }

    /// From now on the most memory is the most since now.
    pub fn forget_peak(&self) -> Fallible<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5")?)
    }

    /// Bytes it has caused to be sent to the disk, in whole pages.
    pub fn written(&self) -> Fallible<u64> {
        number(&self.read("io")?, "write_bytes:")
    }

    /// Processor time it has used.
    pub fn cpu(&self) -> Fallible<Duration> {
        let stat = self.read("stat")?;
        // The second field, the name, may hold anything; user and system time are the 14th and 15th.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).ok_or("stat is too short");
        Ok(Duration::from_secs(ticks(11)? + ticks(12)?) / TICKS_A_SECOND)
    }

    fn read(&self, file: &str) -> Fallible<String> {
        Ok(fs::read_to_string(format!("/proc/{}/{file}", self.process.id()))?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn number(text: &str, key: &str) -> Fallible<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let word = line.and_then(|rest| rest.split_whitespace().next()).ok_or_else(|| format!("there is no {key}"))?;
    Ok(word.parse()?)
}

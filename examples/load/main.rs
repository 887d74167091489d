//! The load test: starts the release binary on empty folders, measures it from this other process, and holds it to its
//! figures. Run it through `tests/load/run`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::runtime::Builder;
use zero::turns;

mod appliance;
mod backup;
mod bare;
mod client;
mod devices;
mod enrolment;
mod flash;
mod fleet;
mod handshakes;
mod log;
mod policies;
mod process;
mod rates;
mod table;
mod update;
mod webhooks;

use table::Table;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What the figures are stated for: connections at a time.
const CONNECTIONS: usize = 64;

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Fewer devices and shorter rounds: shows that everything runs, not what holds on a quiet machine
    #[arg(long)]
    quick: bool,
    /// What to measure; everything, when nothing is named
    figures: Vec<Figure>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Figure {
    Rates,
    Handshakes,
    Enrolment,
    Fleet,
    Policies,
    Log,
    Webhooks,
    Backup,
    Update,
    Flash,
}

#[derive(Subcommand)]
enum Role {
    /// The bare server that the appliance is compared with
    #[command(hide = true)]
    BareServer { folder: std::path::PathBuf },
}

/// How much is measured.
struct Plan {
    rounds: u32,
    round: Duration,
    /// Devices of the large fleet.
    devices: usize,
    /// Entries of the audit log that is verified and exported.
    entries: usize,
    /// Requests whose latency is taken, for each page and fleet.
    requests: usize,
    starts: usize,
    /// The period of the heartbeat flush.
    flush_seconds: &'static str,
    flushes: u32,
}

const FULL: Plan = Plan {
    rounds: 6,
    round: Duration::from_secs(4),
    devices: 100_000,
    entries: 1_000_000,
    requests: 2000,
    starts: 5,
    flush_seconds: "300",
    flushes: 2,
};
const QUICK: Plan = Plan {
    rounds: 3,
    round: Duration::from_secs(1),
    devices: 10_000,
    entries: 50_000,
    requests: 500,
    starts: 3,
    flush_seconds: "10",
    flushes: 3,
};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Clients are other machines, which wait for no thread of the server's; and what it is compared with is no worse off.
    let runtime = Builder::new_multi_thread().enable_all().on_thread_start(turns::short).build();
    let done = match (runtime, arguments.role) {
        (Err(error), _) => Err(error.into()),
        (Ok(runtime), Some(Role::BareServer { folder })) => runtime.block_on(bare::serve(&folder)).map(|()| true),
        (Ok(runtime), None) => {
            let plan = if arguments.quick { &QUICK } else { &FULL };
            runtime.block_on(async { tokio::spawn(measure(plan, arguments.figures)).await? })
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the load test could not be run: {error}");
            ExitCode::from(2)
        }
    }
}

/// Tells whether every figure was met.
async fn measure(plan: &Plan, figures: Vec<Figure>) -> Fallible<bool> {
    let wanted = |figure| figures.is_empty() || figures.contains(&figure);
    let mut table = Table::new();
    if wanted(Figure::Rates) {
        rates::measure(plan, &mut table).await?;
    }
    if wanted(Figure::Handshakes) {
        handshakes::measure(plan, &mut table).await?;
    }
    if wanted(Figure::Enrolment) {
        enrolment::measure(plan, &mut table).await?;
    }
    if wanted(Figure::Policies) {
        policies::measure(plan, &mut table).await?;
    }
    if wanted(Figure::Log) {
        log::measure(plan, &mut table).await?;
    }
    if wanted(Figure::Webhooks) {
        webhooks::measure(plan, &mut table).await?;
    }
    if wanted(Figure::Backup) {
        backup::measure(plan, &mut table).await?;
    }
    if wanted(Figure::Update) {
        update::measure(plan, &mut table).await?;
    }
    if wanted(Figure::Flash) {
        flash::measure(plan, &mut table).await?;
    }
    if wanted(Figure::Fleet) {
        fleet::measure(plan, &mut table).await?;
    }
    Ok(table.all_met())
}

//! The command line: flags to a role and its configuration. Prints results, decides nothing.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod care;
mod common;
mod help;
mod join;
mod peers;
mod remote;
mod scheduler;
mod up;
mod watch;
mod worker;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use rustix::process::Signal;

use common::{Common, Format};

use crate::app::{self, CommandError, DoctorArgs, Loaded, LogsArgs, UninstallArgs};
use crate::config::LogFormat;
use crate::supervise::exec_child;

/// Dask in one executable: a scheduler and right-sized workers for the machine in front of you
#[derive(Debug, Parser)]
#[command(name = "rask", version, propagate_version = true, max_term_width = 110)]
#[command(
    after_help = "Start here: rask up. More on each: rask COMMAND --help. Something wrong: rask doctor\nExit codes: 0 done, 1 failed (one line says what, why, what to do), 2 wrong usage"
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a cluster on this machine, with its dashboard
    Up(Box<up::UpFlags>),
    /// Run one scheduler
    Scheduler(Box<scheduler::SchedulerFlags>),
    /// Run workers for any Dask scheduler
    Worker(Box<worker::WorkerFlags>),
    /// Stop it, and its clusters
    Down {
        /// Only clusters that have no appliance
        #[arg(long, hide = true)]
        clusters_only: bool,
    },
    /// Open the dashboard; starts rask in the background if it does not run
    Open {
        /// Print the address, open no browser
        #[arg(long)]
        no_browser: bool,
    },
    /// Show the log of rask itself
    Logs {
        /// Go on showing what is written
        #[arg(long, short)]
        follow: bool,
        /// How many of the last lines
        #[arg(long, short = 'n', default_value_t = 100)]
        lines: u32,
        /// Print control characters as they are
        #[arg(long)]
        raw: bool,
    },
    /// Run a Python script on it; starts one for the script if none runs
    Run(Box<up::RunFlags>),
    /// Lend this machine's cores to another's clusters
    Join(Box<join::Join>),
    /// Take this machine out of the head's clusters; its data moves first
    Leave {
        /// Forget the head without asking it: for one that is gone for good
        #[arg(long)]
        force: bool,
    },
    /// Copy rask to other machines by ssh and let them join
    Deploy(peers::Deploy),
    /// List the machines that joined
    Peers {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Drain, resume or remove a machine that joined
    #[command(subcommand)]
    Peer(peers::PeerCommand),
    /// Show what runs
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Watch a cluster in the terminal
    Top(watch::Top),
    /// Say why a task does not run, or where it ran
    Explain(watch::Explain),
    /// List, make, scale and stop clusters; read their logs
    Cluster(Box<remote::ClusterFlags>),
    /// List the jobs of a batch system that are workers
    Jobs(remote::JobsFlags),
    /// Make, list and revoke tokens, for the API and for machines that join
    Token(Box<remote::TokenFlags>),
    /// Show certificates: subjects, fingerprints, ends
    Certs {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print shell exports that make Client() and Gateway() find it
    #[command(after_help = "Example: eval \"$(rask env)\"")]
    Env,
    /// Make Client() and Gateway() find it: writes ~/.config/dask/rask.yaml
    Configure {
        /// Take that file away again
        #[arg(long)]
        remove: bool,
    },
    /// Check this machine and say what to do about what is wrong
    #[command(after_help = "Exit code: 0 if all is well or could only be better, 1 if something does not work.")]
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Interpreter or environment to look at [default: as rask up would choose]
        #[arg(long, value_name = "PATH")]
        python: Option<String>,
    },
    /// Start rask with this machine or your session, by systemd
    #[command(subcommand)]
    Service(care::Service),
    /// List what rask made for you on this machine, and remove it
    Uninstall {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Keep state and settings
        #[arg(long)]
        keep_state: bool,
        /// The machine's service too, with its state and settings
        #[arg(long)]
        system: bool,
    },
    /// Print every setting with its default, as a commented rask.toml
    SampleConfig,
    /// Print the completion script for a shell
    #[command(after_help = "Example: rask completions bash > ~/.local/share/bash-completion/completions/rask")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write man pages and completions, as packages have them
    #[command(hide = true)]
    GenerateDocs {
        /// Where
        folder: PathBuf,
    },
    /// Run journals of a worker's state machine, lines of JSON, and print what it does
    #[command(hide = true)]
    ReplayWorker,
    /// Become a program that ends with the process that started it
    #[command(hide = true)]
    ExecChild {
        /// The process that starts it.
        #[arg(long)]
        parent: u32,
        /// Sent at its death: KILL or TERM.
        #[arg(long)]
        signal: DeathSignal,
        /// A control group to move into.
        #[arg(long)]
        cgroup: Option<PathBuf>,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPER")]
enum DeathSignal {
    Kill,
    Term,
}

/// Reads the command line and does what it says. Returns the exit code.
pub fn main() -> Result<u8, CommandError> {
    // Those that we start run /proc/self/exe, and `ps` and `top` would call them `exe`.
    let _only_a_name = rustix::thread::set_name(c"rask");
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let Cli { common, command } = match parsed {
        Ok(cli) => cli,
        Err(why) => {
            // Help and version are no failures; for the rest clap says what is wrong and shows the usage.
            let code = if why.use_stderr() { 2 } else { 0 };
            drop(why.print());
            return Ok(code);
        }
    };
    let state = common.state_dir.as_deref();
    match command {
        Command::ExecChild { parent, signal, cgroup, program } => {
            exec_child(parent, signal, cgroup.as_deref(), &program)
        }
        Command::SampleConfig => {
            print!("{}", crate::config::SAMPLE);
            Ok(0)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut self::command(), "rask", &mut script);
            print!("{}", String::from_utf8_lossy(&script));
            Ok(0)
        }
        Command::Status { json } => app::status(state, json).map(|()| 0),
        Command::Down { clusters_only } => app::down(state, clusters_only).map(|()| 0),
        Command::Open { no_browser } => app::open(state, &background_line(&common), no_browser).map(|()| 0),
        Command::Logs { follow, lines, raw } => app::logs(state, LogsArgs { lines, follow, raw }).map(|()| 0),
        Command::Service(service) => service.carry_out(&common).map(|()| 0),
        Command::Uninstall { yes, keep_state, system } => {
            let state_dir = common.state_dir.clone();
            app::uninstall(&UninstallArgs { state_dir, yes, keep_state, system }).map(|()| 0)
        }
        Command::ReplayWorker => app::replay_worker().map(|()| 0),
        Command::GenerateDocs { folder } => app::generate_docs(self::command(), &folder).map(|()| 0),
        Command::Top(top) => top.run(state).map(|()| 0),
        Command::Explain(explain) => explain.run(state).map(|()| 0),
        Command::Cluster(cluster) => {
            app::cluster(&cluster.flags.remote(&common), &cluster.command(), cluster.flags.json).map(|()| 0)
        }
        Command::Jobs(jobs) => jobs.run(&common).map(|()| 0),
        Command::Token(token) => {
            app::token(&token.flags.remote(&common), &token.command(), token.flags.json).map(|()| 0)
        }
        Command::Certs { json } => app::certs(state, json).map(|()| 0),
        Command::Env => app::env(state).map(|()| 0),
        Command::Configure { remove } => app::configure(state, remove).map(|()| 0),
        Command::Doctor { json, python } => {
            let (state_dir, config) = (common.state_dir.clone(), common.config.clone());
            app::doctor(&DoctorArgs { state_dir, config, python }, json)
        }
        Command::Up(up) => app::up(&up.args(&common), &prepared(&common)?).map(|()| 0),
        Command::Run(run) => run.run(&common, &prepared(&common)?),
        Command::Peers { json } => app::peers(state, json).map(|()| 0),
        Command::Peer(peer) => peer.run(state).map(|()| 0),
        Command::Deploy(deploy) => app::deploy(&deploy.args(&common)).map(|()| 0),
        Command::Leave { force } => app::leave(state, force).map(|()| 0),
        Command::Join(join) => app::join(&join.args(&common), &prepared(&common)?).map(|()| 0),
        Command::Scheduler(scheduler) => app::scheduler(&scheduler.args(&common)?, &prepared(&common)?).map(|()| 0),
        Command::Worker(worker) => {
            let allow_users = prepared(&common)?.config.security.allow_users;
            app::worker(&worker.args(&common, allow_users)?).map(|()| 0)
        }
    }
}

/// How `rask open` starts an appliance: with what was said for every command.
fn background_line(common: &Common) -> Vec<OsString> {
    let mut line: Vec<OsString> = ["up", "--detached"].map(OsString::from).into();
    for (flag, value) in [("--config", &common.config), ("--state-dir", &common.state_dir)] {
        line.extend(value.iter().flat_map(|value| [OsString::from(flag), value.into()]));
    }
    line
}

/// The configuration, with logging started as it says.
fn prepared(common: &Common) -> Result<Loaded, CommandError> {
    let mut loaded = app::load_config(common.config.as_deref())?;
    match common.log_format {
        Some(Format::Text) => loaded.config.log.format = LogFormat::Text,
        Some(Format::Json) => loaded.config.log.format = LogFormat::Json,
        None => {}
    }
    app::init_logging(&loaded.config.log)?;
    Ok(loaded)
}

fn exec_child(
    parent: u32,
    signal: DeathSignal,
    cgroup: Option<&Path>,
    program: &[OsString],
) -> Result<u8, CommandError> {
    let signal = match signal {
        DeathSignal::Kill => Signal::KILL,
        DeathSignal::Term => Signal::TERM,
    };
    let Some((program, args)) = program.split_first() else {
        return Err(CommandError::usage("exec-child needs a program"));
    };
    let why = exec_child::become_child(parent, signal, cgroup, program, args);
    Err(CommandError::world(format!("cannot start {}: {why}", program.to_string_lossy())))
}

/// The whole command line.
pub fn command() -> clap::Command {
    help::grouped(Cli::command())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_flag_has_help() {
        command().debug_assert();
        for sub in command().get_subcommands().filter(|sub| !sub.is_hide_set()) {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            for arg in sub.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", sub.get_name(), arg.get_id());
            }
        }
    }

    #[test]
    fn lines_written_for_dask_are_understood() {
        for line in [
            "rask scheduler --host 127.0.0.1 --port 0 --no-dashboard --scheduler-file s.json --idle-timeout 60",
            "rask scheduler --protocol tls --tls-ca-file c --tls-cert d --tls-key e --dashboard-address :0 --no-show",
            "rask scheduler --interface lo --pid-file p --dashboard --preload a.py --preload b.py",
            "rask worker tcp://127.0.0.1:8786 --nworkers 2 --nthreads 1 --memory-limit 1GiB --no-dashboard",
            "rask worker --scheduler-file s.json --nworkers=-1 --name x --resources GPU=2 --death-timeout 60",
            "rask worker tls://h:1 --no-nanny --lifetime 1h --lifetime-restart --local-directory /tmp --preload a.py -- x",
            "rask up --port 0 --scheduler-port 0 --nworkers auto --nthreads 2 --memory-limit 4GiB",
            "rask run script.py --flag-of-script -x",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err("an error"));
        }
    }

    /// Wrapper scripts append flags: the last one wins, as in Dask; what may be repeated is kept.
    #[test]
    fn the_last_of_a_repeated_flag_wins_and_lists_grow() {
        let line = "rask worker a:1 --nworkers 1 --preload a --nworkers 2 --no-nanny --nanny --preload b";
        let Command::Worker(worker) = Cli::try_parse_from(line.split(' ')).expect("valid").command else {
            panic!("another command")
        };
        let common = Common { config: None, state_dir: None, log_format: None };
        let args = worker.args(&common, Vec::new()).expect("fits together");
        assert_eq!((args.nworkers.as_deref(), args.no_nanny), (Some("2"), false));
        assert_eq!(args.pass, ["--preload", "a", "--preload", "b"]);
    }
}

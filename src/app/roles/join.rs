//! The role `rask join`: this machine becomes an extra host of workers for a head, and stays one.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::app::command_error::CommandError;
use crate::app::local::allocation::{Allocation, Scratch};
use crate::app::local::python_env::{choose as pyenv, peer as peerenv};
use crate::app::local::sd_notify::Manager;
use crate::app::local::settings::Loaded;
use crate::app::local::state_dir::{self as state, private_folder};
use crate::app::process::{Signals, block_on, this_process};
use crate::app::text::outln;
use crate::config::LogFormat;
use crate::control::Question;
use crate::files::FileLock;
use crate::host::{Interpreter, probe};
use crate::link::{self, Incoming, Link};
use crate::peer::{
    CallError, Caps, FixedFacts, FoundHead, HeadUrl, JoinError, JoinToken, LinkEnds, LinkOver, Membership, PoolsConfig,
    TrustError, find_heads, hostname, keep_linked, start_pools,
};
use crate::supervise::ParentDeath;

/// Answers come within a second; a sleeping radio takes longer.
const DISCOVERY: Duration = Duration::from_secs(3);

/// `--passing`: longest without a head. One that is started anew is back within seconds; nobody else takes such a machine
/// back from its batch system.
const HEAD_PATIENCE: Duration = Duration::from_secs(300);

/// `--passing`: from the first signal to the end. The head lets go after 20 s, and batch systems kill after 30 s.
const LEAVE_PATIENCE: Duration = Duration::from_secs(25);

/// Flags of `rask join`, as given.
#[derive(Clone, Debug, Default)]
pub struct JoinArgs {
    /// Where the head is. None: as before, or found on the LAN.
    pub url: Option<String>,
    pub token: Option<String>,
    pub name: Option<String>,
    pub cores: Option<u32>,
    /// `--memory`. Unit: bytes.
    pub memory_bytes: Option<u64>,
    pub python: Option<String>,
    pub state_dir: Option<PathBuf>,
    /// `--passing`: for a while only, as a job of a batch system; nothing is kept.
    pub passing: bool,
}

/// Joins if needed, and stays until a signal comes, the machine leaves, or the head removes it.
pub fn join(args: &JoinArgs, loaded: &Loaded) -> Result<(), CommandError> {
    let args = &with_token(args)?;
    if args.passing {
        let scratch = Scratch::make()?;
        let folder = scratch.path().join("peer");
        private_folder(&folder)?;
        return block_on(run(args, loaded, scratch.path(), &folder));
    }
    let state = state::state_dir(args.state_dir.as_deref())?;
    let folder = state.join("peer");
    private_folder(&folder)?;
    let _seat = take_seat(&folder)?;
    block_on(run(args, loaded, &state, &folder))
}

/// `--token -`: its text comes on standard input.
fn with_token(args: &JoinArgs) -> Result<JoinArgs, CommandError> {
    let mut args = args.clone();
    if args.token.as_deref() == Some("-") {
        let mut line = String::new();
        io::stdin()
            .read_line(&mut line)
            .map_err(|why| CommandError::world(format!("cannot read the token from standard input: {why}")))?;
        args.token = Some(line.trim().to_owned());
    }
    Ok(args)
}

/// One `rask join` per state folder.
fn take_seat(folder: &Path) -> Result<FileLock, CommandError> {
    let path = folder.join("lock");
    match FileLock::take(&path) {
        Ok(Some(seat)) => Ok(seat),
        Ok(None) => Err(CommandError::world(format!("a rask join runs already in {}", folder.display()))
            .remedy("end it first, or give another --state-dir")),
        Err(error) => Err(CommandError::world(format!("cannot lock {}: {error}", path.display()))),
    }
}

async fn run(args: &JoinArgs, loaded: &Loaded, state: &Path, folder: &Path) -> Result<(), CommandError> {
    let mut signals = Signals::listen()?;
    let mut joined = signals.during(membership(args, folder)).await?;
    let python = signals.during(own_python(args, loaded, state)).await?;
    let caps = caps(args);
    let versions = python.as_ref().map(|python| (python.version.clone(), python.distributed.clone()));
    let fixed = FixedFacts::look(&caps, versions).await;
    let pools = start_pools(PoolsConfig {
        folder: folder.join("clusters"),
        common_args: common_args(state, loaded),
        log_keep: loaded.config.log.keep,
        python: python.as_ref().map(|python| python.path.clone()),
        find_env: peerenv::finder(state, python),
        parent_death: if args.passing { ParentDeath::Term } else { ParentDeath::Nothing },
    });
    let (wish, leave) = watch::channel(false);
    let _socket = listen_for_leave(folder, wish.clone())?;
    let mut manager = Manager::from_env();
    manager.ready("this machine is a member");
    let for_good = if args.passing { "" } else { ". Leave for good: rask leave" };
    outln!("Joined {} as {}. Stop: Ctrl-C{for_good}", joined.url, joined.name);
    let ends = LinkEnds {
        folder,
        fixed,
        orders: pools.orders.clone(),
        states: pools.states.clone(),
        leave,
        patience: args.passing.then_some(HEAD_PATIENCE),
    };
    let over = match args.passing {
        true => pass(keep_linked(&mut joined, ends), &wish, &mut signals).await,
        false => tokio::select! {
            over = keep_linked(&mut joined, ends) => Some(over),
            signal = signals.next() => {
                manager.stopping();
                eprintln!("{signal}: stopping workers; this machine stays a member: rask join brings it back");
                None
            }
        },
    };
    tokio::select! {
        () = pools.stop() => {}
        _ = signals.next() => eprintln!("another signal: stopping at once"),
    }
    let Some(over) = over else { return Ok(()) };
    match over {
        LinkOver::Goodbye(why) => {
            Membership::forget(folder);
            outln!("This machine is no member any more: {why}");
            Ok(())
        }
        LinkOver::Failed(why) => Err(explain(why)),
    }
}

/// `--passing`: a signal means that this machine is taken from us. What it holds moves elsewhere as long as that is
/// possible. `None`: it was not.
async fn pass(
    linked: impl Future<Output = LinkOver>,
    wish: &watch::Sender<bool>,
    signals: &mut Signals,
) -> Option<LinkOver> {
    tokio::pin!(linked);
    let signal = tokio::select! {
        over = &mut linked => return Some(over),
        signal = signals.next() => signal,
    };
    eprintln!("{signal}: data moves to other workers, then this ends");
    wish.send_replace(true);
    let end = Instant::now().checked_add(LEAVE_PATIENCE).unwrap_or_else(Instant::now);
    tokio::select! {
        // Whatever the head said, or that it is silent: we go.
        over = &mut linked => if let LinkOver::Goodbye(_) = over { Some(over) } else { None },
        () = sleep_until(end) => None,
        _ = signals.next() => None,
    }
}

/// What is lent: as a person says, or what a job has of its node.
fn caps(args: &JoinArgs) -> Caps {
    let share = if args.passing { Allocation::here().map(|job| job.of_this_node()) } else { None };
    Caps {
        cores: args.cores.or(share.map(|share| share.cores)),
        memory_bytes: args.memory_bytes.or(share.map(|share| share.memory_bytes)),
    }
}

/// `rask leave` asks here.
fn listen_for_leave(folder: &Path, wish: watch::Sender<bool>) -> Result<link::Served, CommandError> {
    let path = folder.join("peer.sock");
    let (sender, mut inbox) = mpsc::channel(4);
    let served = link::serve(&path, &this_process(), sender)
        .map_err(|why| CommandError::world(format!("cannot listen on {}: {why}", path.display())))?;
    tokio::spawn(async move {
        while let Some(inbound) = inbox.recv().await {
            // Other questions are dropped unanswered: the asker is told so.
            if let Incoming::Ask { what: Question::Stop, reply } = inbound {
                wish.send_replace(true);
                drop(reply.send("leaving".to_owned()));
            }
        }
        // Never dropped before: that would look like "will never leave", which is true as well.
        drop(wish);
    });
    Ok(served)
}

fn common_args(state: &Path, loaded: &Loaded) -> Vec<OsString> {
    let format = match loaded.config.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let mut args: Vec<OsString> = vec!["--state-dir".into(), state.into(), "--log-format".into(), format.into()];
    if let Some(file) = &loaded.file {
        args.extend(["--config".into(), file.clone().into()]);
    }
    args
}

/// `rask leave`: this machine's data moves to other workers, then it is a member no more.
pub fn leave(state: Option<&Path>, force: bool) -> Result<(), CommandError> {
    let folder = state::state_dir(state)?.join("peer");
    let Some(joined) = Membership::load(&folder).map_err(explain)? else {
        outln!("This machine has not joined any head.");
        return Ok(());
    };
    if force {
        Membership::forget(&folder);
        outln!("Forgotten here. The head still lists {}; there: rask peer remove {}", joined.name, joined.name);
        return Ok(());
    }
    block_on(async {
        let link = Link::new(folder.join("peer.sock"));
        if link.ask(Question::Stop).await.is_err() {
            return Err(CommandError::world("rask join does not run here, and leaving takes it: data is moved first")
                .remedy(
                    "start rask join and leave then, or rask leave --force, and on the head rask peer remove NAME",
                ));
        }
        outln!("Moving data to other workers ...");
        let mut signals = Signals::listen()?;
        tokio::select! {
            _ended = link.gone() => {}
            signal = signals.next() => return Err(CommandError::world(format!("{signal}: no longer waiting; it goes on leaving"))),
        }
        match Membership::load(&folder) {
            Ok(None) => {
                outln!("Left {}.", joined.url);
                Ok(())
            }
            Ok(Some(_)) | Err(_) => {
                Err(CommandError::world("rask join ended before this machine had left").remedy("see its output"))
            }
        }
    })
}

/// As kept, or made now with the token.
async fn membership(args: &JoinArgs, folder: &Path) -> Result<Membership, CommandError> {
    let kept = Membership::load(folder).map_err(explain)?;
    let token = args.token.as_deref().map(JoinToken::parse).transpose();
    let token = token.map_err(|why| {
        CommandError::usage(why)
            .remedy("copy the whole line that the head printed, or make a new token there: rask token create --join")
    })?;
    let url = args.url.as_deref().map(|text| {
        HeadUrl::parse(text).ok_or_else(|| {
            CommandError::usage(format!("{text} is not the address of a head"))
                .remedy("it looks like https://head:8787")
        })
    });
    match (kept, url.transpose()?, token) {
        (Some(kept), None, None) => Ok(kept),
        (Some(kept), Some(url), None) if kept.url == url.to_string() => Ok(kept),
        // The line that was pasted when this machine joined, once more.
        (Some(kept), Some(url), Some(token)) if kept.url == url.to_string() && kept.pin == token.pin.hex() => Ok(kept),
        (_, Some(url), Some(token)) => join_now(args, &url, &token, folder).await,
        (_, Some(url), None) => Err(CommandError::usage(format!("this machine has not joined {url}"))
            .remedy("add the --token that the head printed; another: rask token create --join, on the head")),
        (_, None, Some(_)) => Err(CommandError::usage("a token, but no address of the head")
            .remedy("rask join https://head:8787 --token ...")),
        (None, None, None) if args.url.is_none() => Err(show_heads().await),
        (None, None, None) => Err(CommandError::usage("this machine has not joined any head")
            .remedy("paste the line that rask up --lan prints on the head")),
    }
}

/// Whoever announces itself. Listening takes a moment; it is only a hint.
async fn show_heads() -> CommandError {
    eprintln!("This machine has not joined any head. Looking for some on the LAN ...");
    let found = tokio::task::spawn_blocking(|| find_heads(DISCOVERY)).await;
    match found {
        Ok(Ok(heads)) if !heads.is_empty() => {
            for FoundHead { name, url, fingerprint, version } in &heads {
                outln!("{url}  {name}, rask {version}\n  key {fingerprint}");
            }
            CommandError::usage("which one, and with which token?")
                .remedy("make a token on the head (rask token create --join) and paste the line that it prints; it names the same key")
        }
        Ok(Ok(_)) => CommandError::world("no head announces itself on this LAN")
            .remedy("start rask up --lan on one, and paste the line that it prints"),
        Ok(Err(why)) => CommandError::world(format!("cannot look for heads: {why}"))
            .remedy("paste the line that rask up --lan prints on the head"),
        Err(why) => CommandError::world(format!("cannot look for heads: {why}")),
    }
}

async fn join_now(
    args: &JoinArgs,
    url: &HeadUrl,
    token: &JoinToken,
    folder: &Path,
) -> Result<Membership, CommandError> {
    let job = if args.passing { Allocation::here() } else { None };
    let asked = args.name.clone().or(job.as_ref().map(Allocation::machine)).unwrap_or_else(hostname);
    let passing = (args.passing, job.map(|job| job.id));
    let (joined, odd) = Membership::join(url, token, &asked, passing).await.map_err(explain)?;
    if let Some(words) = odd {
        eprintln!("rask: {words}");
    }
    if joined.name != asked && !args.passing {
        eprintln!("rask: the head calls this machine {}: the name {asked} is taken or cannot be one", joined.name);
    }
    // A membership that cannot be kept would have to be made again with another token.
    joined.save(folder).map_err(explain)?;
    Ok(joined)
}

/// The Python that is here, if one is: never made before the head's is known.
async fn own_python(args: &JoinArgs, loaded: &Loaded, state: &Path) -> Result<Option<Interpreter>, CommandError> {
    let asked = args.python.as_deref().or(Some(loaded.config.up.python.as_str()));
    match pyenv::find(asked, Some(state)).await? {
        Some(path) => Ok(probe(&path).await.ok()),
        None => Ok(None),
    }
}

fn explain(why: JoinError) -> CommandError {
    let text = why.to_string();
    let failure = CommandError::world(text);
    match why {
        JoinError::Call(CallError::Unreachable { .. }) | JoinError::LeavingAlone => {
            failure.remedy("check the address, that rask up --lan runs there, and that no firewall is between")
        }
        JoinError::Call(CallError::Trust(TrustError::OtherAuthority { .. })) => failure
            .remedy("check the address; if the head lost its state and made a new authority, make a new token there: rask token create --join"),
        JoinError::Call(CallError::Trust(TrustError::Clock { .. })) => {
            failure.remedy(format!("set this machine's clock, which says {} (timedatectl set-ntp true)", utc_now()))
        }
        JoinError::Call(CallError::Trust(TrustError::NotTls(_))) => {
            failure.remedy("check the port: it is the one of the head's dashboard, 8787 unless set")
        }
        // The head's own words say what to do.
        JoinError::Call(CallError::Refused { .. }) => failure,
        JoinError::Call(CallError::Trust(_) | CallError::Malformed(_)) | JoinError::Contradiction(_) | JoinError::Pki(_) => {
            failure.remedy("use the same version of rask on both machines, and join again with a new token")
        }
        JoinError::HeadGone { .. } => failure.remedy("start rask up --lan there, and this job again"),
        JoinError::File { .. } => failure.remedy("make room or choose another --state-dir"),
    }
}

fn utc_now() -> String {
    let now = time::OffsetDateTime::from_unix_timestamp(crate::clock::unix_ms() / 1000);
    now.map_or_else(
        |_| "nothing sensible".to_owned(),
        |now| format!("{} {:02}:{:02} UTC", now.date(), now.hour(), now.minute()),
    )
}

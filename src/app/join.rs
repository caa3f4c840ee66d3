//! The role `rask join`: this machine becomes an extra host of workers for a head, and stays one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, watch};

use super::state::private_folder;
use super::{Failure, Loaded, Signals, block_on, pyenv, state};
use crate::host::{Interpreter, probe};
use crate::peer::{
    CallError, Caps, Ends, Fixed, HeadUrl, JoinError, JoinToken, Joined, Over, TrustError, hostname, stay,
};

/// Orders of the head waiting for the owner of the groups.
const ORDERS: usize = 64;

/// Flags of `rask join`, as given.
#[derive(Clone, Debug, Default)]
pub struct JoinArgs {
    /// Where the head is. None: as before, or found on the LAN.
    pub url: Option<String>,
    /// `--token`
    pub token: Option<String>,
    /// `--name`
    pub name: Option<String>,
    /// `--cores`
    pub cores: Option<u32>,
    /// `--memory`. Unit: bytes.
    pub memory_bytes: Option<u64>,
    /// `--python`
    pub python: Option<String>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
}

/// Joins if needed, and stays until a signal comes, the machine leaves, or the head removes it.
pub fn join(args: &JoinArgs, loaded: &Loaded) -> Result<(), Failure> {
    let state = state::state_dir(args.state_dir.as_deref())?;
    let folder = state.join("peer");
    private_folder(&folder)?;
    let _seat = take_seat(&folder)?;
    block_on(run(args, loaded, &state, &folder))
}

/// One `rask join` per state folder.
fn take_seat(folder: &Path) -> Result<File, Failure> {
    let path = folder.join("lock");
    let failed = |why: std::io::Error| Failure::world(format!("cannot lock {}: {why}", path.display()));
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(Failure::world(format!("a rask join runs already in {}", folder.display()))
            .remedy("end it first, or give another --state-dir")),
    }
}

async fn run(args: &JoinArgs, loaded: &Loaded, state: &Path, folder: &Path) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let mut joined = signals.during(membership(args, folder)).await?;
    let python = signals.during(own_python(args, loaded, state)).await?;
    let caps = Caps { cores: args.cores, memory_bytes: args.memory_bytes };
    let versions = python.map(|python| (python.version, python.distributed));
    let fixed = Fixed::look(&caps, versions).await;
    let (orders, _inbox) = mpsc::channel(ORDERS);
    let (_states, shown) = watch::channel(Vec::new());
    let (_wish, leave) = watch::channel(false);
    println!("Joined {} as {}. Stop: Ctrl-C", joined.url, joined.name);
    let ends = Ends { folder, fixed, orders, states: shown, leave };
    let over = tokio::select! {
        over = stay(&mut joined, ends) => over,
        signal = signals.next() => {
            eprintln!("{signal}: stopping; this machine stays a member: rask join brings it back");
            return Ok(());
        }
    };
    match over {
        Over::Goodbye(why) => {
            Joined::forget(folder);
            println!("This machine is no member any more: {why}");
            Ok(())
        }
        Over::Failed(why) => Err(explain(why)),
    }
}

/// As kept, or made now with the token.
async fn membership(args: &JoinArgs, folder: &Path) -> Result<Joined, Failure> {
    let kept = Joined::load(folder).map_err(explain)?;
    let token = args.token.as_deref().map(JoinToken::parse).transpose();
    let token = token.map_err(|why| {
        Failure::usage(why.to_string())
            .remedy("copy the whole line that the head printed, or make a new token there: rask token create --join")
    })?;
    let url = args.url.as_deref().map(|text| {
        HeadUrl::parse(text).ok_or_else(|| {
            Failure::usage(format!("{text} is not the address of a head")).remedy("it looks like https://head:8787")
        })
    });
    match (kept, url.transpose()?, token) {
        (Some(kept), None, None) => Ok(kept),
        (Some(kept), Some(url), None) if kept.url == url.to_string() => Ok(kept),
        // The line that was pasted when this machine joined, once more.
        (Some(kept), Some(url), Some(token)) if kept.url == url.to_string() && kept.pin == token.pin.hex() => Ok(kept),
        (_, Some(url), Some(token)) => join_now(args, &url, &token, folder).await,
        (_, Some(url), None) => Err(Failure::usage(format!("this machine has not joined {url}"))
            .remedy("add the --token that the head printed; another: rask token create --join, on the head")),
        (_, None, Some(_)) => {
            Err(Failure::usage("a token, but no address of the head").remedy("rask join https://head:8787 --token ..."))
        }
        (None, None, None) => Err(Failure::usage("this machine has not joined any head")
            .remedy("paste the line that rask up --lan prints on the head")),
    }
}

async fn join_now(args: &JoinArgs, url: &HeadUrl, token: &JoinToken, folder: &Path) -> Result<Joined, Failure> {
    let asked = args.name.clone().unwrap_or_else(hostname);
    let (joined, odd) = Joined::join(url, token, &asked).await.map_err(explain)?;
    if let Some(words) = odd {
        eprintln!("rask: {words}");
    }
    if joined.name != asked {
        eprintln!("rask: the head calls this machine {}: the name {asked} is taken or cannot be one", joined.name);
    }
    // A membership that cannot be kept would have to be made again with another token.
    joined.save(folder).map_err(explain)?;
    Ok(joined)
}

/// The Python that is here, if one is: never made before the head's is known.
async fn own_python(args: &JoinArgs, loaded: &Loaded, state: &Path) -> Result<Option<Interpreter>, Failure> {
    let asked = args.python.as_deref().or(Some(loaded.config.up.python.as_str()));
    match pyenv::find(asked, Some(state)).await? {
        Some(path) => Ok(probe(&path).await.ok()),
        None => Ok(None),
    }
}

fn explain(why: JoinError) -> Failure {
    let text = why.to_string();
    let failure = Failure::world(text);
    match why {
        JoinError::Call(CallError::Unreachable(_)) => {
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
        JoinError::Call(CallError::Trust(_) | CallError::Odd(_)) | JoinError::Contradiction(_) | JoinError::Pki(_) => {
            failure.remedy("use the same version of rask on both machines, and join again with a new token")
        }
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

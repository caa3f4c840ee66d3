//! `rask deploy --ssh`: copies this program to other machines, and lets them join; or takes both back. Uses the system's
//! `ssh`, so keys, agents and `~/.ssh/config` are as a person set them up. Needs no root anywhere.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use data_encoding::HEXLOWER;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::api::{ApiClient, Remote};
use crate::app::command_error::CommandError;
use crate::app::text::outln;

/// Where it goes on the other machine, below the home folder.
const PLACE: &str = ".local/share/rask/deploy";

/// For all hosts together; what is not used runs out soon. Unit: seconds.
const TOKEN_SECS: u64 = 600;

/// What is there: the machine's kind, and the SHA-256 of the program if it is there.
const LOOK: &str = r#"uname -sm; sha256sum "$HOME/PLACE/rask" 2>/dev/null | cut -d" " -f1"#;

/// The program comes on standard input; it is in its place only when whole. The answer is its SHA-256.
const COPY: &str = r#"set -e
mkdir -p "$HOME/PLACE"
cat > "$HOME/PLACE/rask.partial"
chmod 755 "$HOME/PLACE/rask.partial"
sha256sum "$HOME/PLACE/rask.partial" | cut -d" " -f1
mv "$HOME/PLACE/rask.partial" "$HOME/PLACE/rask""#;

/// The token comes on standard input, so that no list of processes shows it. Waits for "Joined" or for its end.
const JOIN: &str = r#"cd "$HOME/PLACE" || exit 1
IFS= read -r RASK_JOIN_TOKEN; export RASK_JOIN_TOKEN
if [ -f pid ] && kill -0 "$(cat pid)" 2>/dev/null; then echo "joined before, and still there"; exit 0; fi
: > join.log
nohup setsid ./rask join URL ARGS >> join.log 2>&1 < /dev/null &
pid=$!; echo $pid > pid
n=0
while [ $n -lt 300 ]; do
  if grep -q "^Joined" join.log; then grep "^Joined" join.log | tail -1; exit 0; fi
  kill -0 $pid 2>/dev/null || { tail -3 join.log >&2; rm -f pid; exit 1; }
  n=$((n+1)); sleep 0.1
done
echo "it did not join within 30 s" >&2; exit 1"#;

/// Leaves first, so that data is moved; forgets if that fails.
const REMOVE: &str = r#"cd "$HOME/PLACE" 2>/dev/null || { echo "nothing was deployed there"; exit 0; }
if [ -f pid ] && kill -0 "$(cat pid)" 2>/dev/null; then
  ./rask leave >/dev/null 2>&1 || { kill "$(cat pid)" 2>/dev/null; ./rask leave --force >/dev/null 2>&1; }
fi
cd "$HOME" && rm -rf "$HOME/PLACE" && echo removed"#;

/// Flags of `rask deploy`, as given.
#[derive(Clone, Debug, Default)]
pub struct DeployArgs {
    /// Machines, as `ssh` knows them.
    pub hosts: Vec<String>,
    /// Take it back.
    pub remove: bool,
    /// `--python`, handed on to `rask join`.
    pub python: Option<String>,
    pub state_dir: Option<PathBuf>,
}

/// Deploys to all hosts at once, and reports on each.
pub fn deploy(args: &DeployArgs) -> Result<(), CommandError> {
    let state = args.state_dir.as_deref();
    let outcomes = if args.remove {
        each(&args.hosts, |host| ssh(host, &placed(REMOVE), b""))
    } else {
        let program = own_program()?;
        let invitation = invite(state, args.hosts.len())?;
        let join = placed(JOIN).replace("URL", &quoted(&invitation.0)).replace("ARGS", &handed_on(args));
        each(&args.hosts, |host| deploy_one(host, &program, &join, &invitation.1))
    };
    let mut failed = 0_usize;
    for (host, outcome) in args.hosts.iter().zip(outcomes) {
        match outcome {
            Ok(said) => outln!("{host}: {}", said.trim()),
            Err(why) => {
                failed = failed.saturating_add(1);
                outln!("{host}: FAILED: {why}");
            }
        }
    }
    if failed == 0 {
        return Ok(());
    }
    Err(CommandError::world(format!("{failed} of {} machines failed", args.hosts.len()))
        .remedy("try `ssh HOST true` on each of them; the others are done"))
}

/// Why a machine was not reached, or did not do what it should.
#[derive(Debug, thiserror::Error)]
enum DeployError {
    #[error("that is a flag, not a machine")]
    NotAMachine,
    #[error("ssh cannot be started: {0}")]
    NoSsh(#[source] io::Error),
    #[error("ssh cannot be waited for: {0}")]
    Lost(#[source] io::Error),
    /// What ssh, or the script over there, said.
    #[error("{0}")]
    Said(String),
    #[error("it is {there}, and this program is for {here}; install rask there by hand")]
    OtherKind { there: String, here: String },
    #[error("the copy is not what was sent; is its disk full?")]
    BadCopy,
    #[error("the thread that did it crashed")]
    Crashed,
}

fn each(
    hosts: &[String],
    work: impl Fn(&str) -> Result<String, DeployError> + Sync,
) -> Vec<Result<String, DeployError>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = hosts.iter().map(|host| scope.spawn(|| work(host))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(DeployError::Crashed))).collect()
    })
}

fn deploy_one(host: &str, program: &Program, join: &str, token: &str) -> Result<String, DeployError> {
    let there = ssh(host, &placed(LOOK), b"")?;
    let mut lines = there.lines();
    let kind = lines.next().unwrap_or_default().trim().to_owned();
    if kind != program.kind {
        return Err(DeployError::OtherKind { there: kind, here: program.kind.clone() });
    }
    if lines.next().map(str::trim) != Some(program.hash.as_str()) {
        let hash = ssh(host, &placed(COPY), &program.bytes)?;
        if hash.trim() != program.hash {
            return Err(DeployError::BadCopy);
        }
    }
    ssh(host, join, format!("{token}\n").as_bytes())
}

struct Program {
    bytes: Vec<u8>,
    hash: String,
    kind: String,
}

fn own_program() -> Result<Program, CommandError> {
    let bytes =
        fs::read("/proc/self/exe").map_err(|why| CommandError::world(format!("this program cannot be read: {why}")))?;
    let hash = HEXLOWER.encode(&Sha256::digest(&bytes));
    let here = rustix::system::uname();
    let kind = format!("{} {}", here.sysname().to_string_lossy(), here.machine().to_string_lossy());
    Ok(Program { bytes, hash, kind })
}

/// The head's address, and a token for this number of machines.
fn invite(state: Option<&Path>, machines: usize) -> Result<(String, String), CommandError> {
    let remote = Remote { state_dir: state.map(Path::to_path_buf), ..Remote::default() };
    let made = ApiClient::find(&remote)?.post("/join-tokens", &json!({ "ttl_secs": TOKEN_SECS, "uses": machines }))?;
    let part = |name: &str| made.get(name).and_then(|text| text.as_str()).map(str::to_owned);
    let odd = || CommandError::world("the appliance made no token").remedy("see its log");
    Ok((part("address").ok_or_else(odd)?, part("token").ok_or_else(odd)?))
}

fn placed(script: &str) -> String {
    script.replace("PLACE", PLACE)
}

fn handed_on(args: &DeployArgs) -> String {
    args.python.as_ref().map_or_else(String::new, |python| format!("--python {}", quoted(python)))
}

/// For a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Runs a script there, with `input` on its standard input. Never asks for a password: nobody could answer for ten.
fn ssh(host: &str, script: &str, input: &[u8]) -> Result<String, DeployError> {
    if host.starts_with('-') {
        return Err(DeployError::NotAMachine);
    }
    let script = format!("exec sh -c {}", quoted(script));
    let mut child = Command::new("ssh")
        .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", host, &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(DeployError::NoSsh)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A script that ends early says itself why.
        let _cut = stdin.write_all(input);
    }
    let output = child.wait_with_output().map_err(DeployError::Lost)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let said = if said.is_empty() { format!("ssh ended with {}", output.status) } else { said.replace('\n', "; ") };
    Err(DeployError::Said(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_gives_cannot_become_a_command() {
        assert_eq!(quoted("a'b; rm -rf /"), r"'a'\''b; rm -rf /'");
        assert!(ssh("-oProxyCommand=x", "true", b"").is_err());
    }
}

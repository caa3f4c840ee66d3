//! `rask service`: the units for systemd, put in place and taken away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::app::command_error::CommandError;
use crate::app::local::settings::home;
use crate::app::local::state_dir as state;
use crate::app::text::outln;
use crate::config::SAMPLE;
use crate::peer::Membership;

const SYSTEM: [(&str, &str); 3] = [
    ("rask.service", include_str!("../../../packaging/systemd/system/rask.service")),
    ("rask-clusters.service", include_str!("../../../packaging/systemd/system/rask-clusters.service")),
    (JOIN, include_str!("../../../packaging/systemd/system/rask-join.service")),
];
const USER: [(&str, &str); 3] = [
    ("rask.service", include_str!("../../../packaging/systemd/user/rask.service")),
    ("rask-clusters.service", include_str!("../../../packaging/systemd/user/rask-clusters.service")),
    (JOIN, include_str!("../../../packaging/systemd/user/rask-join.service")),
];
/// Clusters of this machine.
const UP: &str = "rask.service";
/// This machine for another's clusters.
const JOIN: &str = "rask-join.service";
/// State of the machine's service.
const STATE: &str = "/var/lib/rask";
const SYSUSERS: &str = include_str!("../../../packaging/systemd/sysusers.conf");

/// What the units name, and a package puts in place.
const PACKAGED: &str = "/usr/bin/rask";

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The machine, as a user of its own.
    System,
    /// Whoever installs it, with all their rights.
    User,
}

impl Scope {
    const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
        }
    }

    const fn units(self) -> [(&'static str, &'static str); 3] {
        match self {
            Self::System => SYSTEM,
            Self::User => USER,
        }
    }
}

/// `rask service install`
#[derive(Clone, Debug)]
pub struct ServiceArgs {
    /// For whom.
    pub scope: Scope,
    /// Only write files, below this folder: for images and packages.
    pub root: Option<PathBuf>,
    /// Only write files.
    pub no_start: bool,
    /// This machine for another's clusters, instead of its own.
    pub join: bool,
    pub python: Option<String>,
    pub config: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
}

/// Without a word about it: root means the machine.
pub fn usual_scope() -> Scope {
    if rustix::process::getuid().is_root() { Scope::System } else { Scope::User }
}

/// Writes the units and starts the service.
///
/// Errors: no systemd here, no right to do so, a program that the service could not reach.
pub fn install(args: &ServiceArgs) -> Result<(), CommandError> {
    let files_only = args.no_start || args.root.is_some();
    if !files_only {
        needs_systemd("`--no-start` only writes the files; `rask up --background` needs no systemd")?;
    }
    let wanted = if args.join { JOIN } else { UP };
    let membership = if args.join && !files_only { Some(membership(args)?) } else { None };
    let program = program(args)?;
    if packaged(args, &program) {
        outln!("The package's units are used unchanged.");
    } else {
        for (path, text) in files(args, &program)? {
            write(&path, &text)?;
            outln!("Wrote {}", path.display());
        }
    }
    if files_only {
        outln!("Not started. Later: {} enable --now {wanted}", systemctl_words(args.scope));
        return Ok(());
    }
    if args.scope == Scope::System {
        run(Command::new("systemd-sysusers"))?;
    }
    if let Some(membership) = membership {
        move_to_service(&membership, args)?;
    }
    systemctl(args.scope, &["daemon-reload"])?;
    systemctl(args.scope, &["enable", "--now", wanted]).map_err(|why| {
        why.remedy(format!(
            "see {} --unit {wanted}",
            match args.scope {
                Scope::System => "journalctl",
                Scope::User => "journalctl --user",
            }
        ))
    })?;
    outln!(
        "{wanted} runs now and at every start of {}.",
        match args.scope {
            Scope::System => "this machine",
            Scope::User => "your session (without one too: loginctl enable-linger)",
        }
    );
    Ok(())
}

/// Stops the service and takes its files away. State stays.
pub fn uninstall(scope: Scope, root: Option<&Path>) -> Result<(), CommandError> {
    if root.is_none() && booted() {
        // Not installed, not running: fine, too.
        let _may_be_unknown = systemctl(scope, &["disable", "--now", UP]);
        let _may_be_unknown = systemctl(scope, &["disable", "--now", JOIN]);
        let _may_be_unknown = systemctl(scope, &["stop", "rask-clusters.service"]);
    }
    let mut removed = 0;
    for path in made(scope, root) {
        match fs::remove_file(&path) {
            Ok(()) => {
                outln!("Removed {}", path.display());
                removed += 1;
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(CommandError::world(format!("cannot remove {}: {why}", path.display()))),
        }
    }
    if removed == 0 {
        outln!("No units of ours in {}.", unit_folder(scope, root).display());
    }
    if root.is_none() && booted() {
        systemctl(scope, &["daemon-reload"])?;
    }
    if scope == Scope::System {
        outln!("Kept: settings in /etc/rask, state in /var/lib/rask, the user rask.");
    }
    Ok(())
}

/// Where a service of that scope keeps its membership.
fn place(args: &ServiceArgs) -> Result<PathBuf, CommandError> {
    match args.scope {
        Scope::User => Ok(state::state_dir(args.state_dir.as_deref())?.join("peer")),
        Scope::System => Ok(Path::new(STATE).join("peer")),
    }
}

/// What this machine was given when it joined, and the folder where it is: the service's own, or this user's.
fn membership(args: &ServiceArgs) -> Result<(Membership, PathBuf), CommandError> {
    for folder in [place(args)?, state::state_dir(args.state_dir.as_deref())?.join("peer")] {
        if let Some(joined) = Membership::load(&folder).map_err(CommandError::world)? {
            return Ok((joined, folder));
        }
    }
    Err(CommandError::usage("this machine has not joined any head")
        .remedy("paste the line that rask up --lan prints on the head, end that with Ctrl-C, and install then"))
}

/// The machine's own service has its state elsewhere, and its own user: the membership moves there, since two processes
/// with one would take the link from each other.
fn move_to_service((joined, folder): &(Membership, PathBuf), args: &ServiceArgs) -> Result<(), CommandError> {
    let place = place(args)?;
    if *folder == place {
        return Ok(());
    }
    let kept = joined.save(&place).map_err(CommandError::world);
    kept.and_then(|()| give_to_service(&place))?;
    Membership::forget(folder);
    outln!("This machine's membership is kept in {} now.", place.display());
    Ok(())
}

fn give_to_service(folder: &Path) -> Result<(), CommandError> {
    let Some(user) = uzers::get_user_by_name("rask") else {
        return Err(CommandError::world("this machine has no user rask").remedy("run systemd-sysusers and try again"));
    };
    let (user, group) = (user.uid(), user.primary_group_id());
    let all = [Path::new(STATE).to_path_buf(), folder.to_path_buf(), folder.join("peer.json")];
    let given = all.iter().try_for_each(|path| std::os::unix::fs::chown(path, Some(user), Some(group)));
    given.map_err(|why| CommandError::world(format!("cannot give {} to the user rask: {why}", folder.display())))
}

/// A service of one scope.
#[derive(Clone, Debug, Serialize)]
struct Status {
    scope: Scope,
    service: &'static str,
    unit: Option<PathBuf>,
    enabled: String,
    active: String,
}

/// Says what is installed and what it does.
pub fn status(as_json: bool) -> Result<(), CommandError> {
    let scopes = [Scope::System, Scope::User];
    let all: Vec<Status> = scopes.into_iter().flat_map(|scope| [look(scope, UP), look(scope, JOIN)]).collect();
    if as_json {
        let text = serde_json::to_string_pretty(&all);
        outln!("{}", text.map_err(CommandError::world)?);
        return Ok(());
    }
    for status in &all {
        let scope = status.scope.name();
        match &status.unit {
            Some(path) => {
                let (service, path) = (status.service, path.display());
                outln!("{scope:<7} {service:<18} {}, {}  ({path})", status.active, status.enabled);
            }
            // One word for what comes together.
            None if status.service == UP => outln!("{scope:<7} not installed"),
            None => {}
        }
    }
    if !booted() {
        outln!("systemd does not run this machine.");
    }
    Ok(())
}

fn look(scope: Scope, service: &'static str) -> Status {
    let packaged = PathBuf::from(format!("/usr/lib/systemd/{}/{service}", scope.name()));
    let unit = [unit_folder(scope, None).join(service), packaged].into_iter().find(|path| path.exists());
    let ask = |what: &str| {
        let output = command(scope).args([what, service]).stderr(Stdio::null()).output();
        let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        if said.is_empty() { "unknown".to_owned() } else { said }
    };
    Status { scope, service, unit, enabled: ask("is-enabled"), active: ask("is-active") }
}

/// What a unit runs after its end: a control group with limits below it takes no process, and ours must take the next
/// one although clusters still live in it.
pub fn release() -> Result<(), CommandError> {
    let table = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = table.lines().find_map(|line| line.strip_prefix("0::/")) else { return Ok(()) };
    // systemd runs commands around the service in a group below it.
    let unit = Path::new(own).ancestors().find(|path| path.extension().is_some_and(|end| end == "service"));
    let Some(unit) = unit else { return Ok(()) };
    let file = Path::new("/sys/fs/cgroup").join(unit).join("cgroup.subtree_control");
    let wanted: Vec<String> =
        fs::read_to_string(&file).unwrap_or_default().split_whitespace().map(|name| format!("-{name}")).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    fs::write(&file, wanted.join(" "))
        .map_err(|why| CommandError::world(format!("cannot write {}: {why}", file.display())))
}

/// Files that `install` makes, except settings.
pub(crate) fn made(scope: Scope, root: Option<&Path>) -> Vec<PathBuf> {
    let folder = unit_folder(scope, root);
    let mut paths: Vec<PathBuf> = scope.units().iter().map(|(name, _)| folder.join(name)).collect();
    if scope == Scope::System {
        paths.push(below(root, "/etc/sysusers.d/rask.conf"));
    }
    paths
}

fn files(args: &ServiceArgs, program: &Path) -> Result<Vec<(PathBuf, String)>, CommandError> {
    let root = args.root.as_deref();
    let folder = unit_folder(args.scope, root);
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for (name, text) in args.scope.units() {
        files.push((folder.join(name), unit(text, program, &settings(args)?)));
    }
    if args.scope == Scope::System {
        files.push((below(root, "/etc/sysusers.d/rask.conf"), SYSUSERS.to_owned()));
        let settings = below(root, "/etc/rask/rask.toml");
        if !settings.exists() {
            files.push((settings, commented(SAMPLE)));
        }
    }
    Ok(files)
}

/// Variables for the service that were said at installation.
fn settings(args: &ServiceArgs) -> Result<Vec<(&'static str, String)>, CommandError> {
    let absolute = |path: &Path| {
        let path =
            std::path::absolute(path).map_err(|why| CommandError::usage(format!("{}: {why}", path.display())))?;
        Ok::<String, CommandError>(path.display().to_string())
    };
    let mut set = Vec::new();
    if let Some(python) = &args.python {
        // A name is looked up when the service starts; a path must not depend on where we are now.
        let path = if python.contains('/') { absolute(Path::new(python))? } else { python.clone() };
        set.push(("RASK_UP__PYTHON", path));
    }
    if let Some(config) = &args.config {
        set.push(("RASK_CONFIG", absolute(config)?));
    }
    if let Some(state) = args.state_dir.as_deref().filter(|_| args.scope == Scope::User) {
        set.push(("RASK_STATE_DIR", absolute(state)?));
    }
    Ok(set)
}

/// A unit for the program where it is, with variables.
fn unit(text: &str, program: &Path, variables: &[(&str, String)]) -> String {
    let program = program.display().to_string();
    let mut unit = text.replace(PACKAGED, &quoted(&program));
    for (name, value) in variables {
        unit = unit.replacen(
            "[Service]\n",
            &format!("[Service]\nEnvironment={}\n", quoted(&format!("{name}={value}"))),
            1,
        );
    }
    unit
}

/// Source: systemd.service(5), "Command lines": quotes, and `%` is special.
fn quoted(text: &str) -> String {
    let text = text.replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// Every setting switched off, so that defaults of later versions count.
fn commented(sample: &str) -> String {
    let lines = sample.lines().map(|line| match line.chars().next() {
        // An empty table of durations would mean that there are none.
        Some('[') if line.contains("default-task-durations") => format!("#{line}"),
        None | Some('#' | '[') => line.to_owned(),
        Some(_) => format!("#{line}"),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// The program as the service would start it.
fn program(args: &ServiceArgs) -> Result<PathBuf, CommandError> {
    let path =
        std::env::current_exe().map_err(|why| CommandError::world(format!("this program has no path: {why}")))?;
    let of_a_person = ["/home", "/root", "/tmp"].iter().any(|folder| path.starts_with(folder));
    if args.scope == Scope::System && args.root.is_none() && of_a_person {
        let what = format!("the service's own user cannot start {}", path.display());
        let remedy = format!("install -m 755 {} /usr/local/bin/rask, and use that one", path.display());
        return Err(CommandError::usage(what).remedy(remedy));
    }
    Ok(path)
}

/// The package has put its units in place, and they say all there is to say.
fn packaged(args: &ServiceArgs, program: &Path) -> bool {
    let unit = below(args.root.as_deref(), &format!("/usr/lib/systemd/{}/rask.service", args.scope.name()));
    let nothing_said = args.python.is_none() && args.config.is_none() && args.state_dir.is_none();
    program == Path::new(PACKAGED) && nothing_said && unit.exists()
}

fn unit_folder(scope: Scope, root: Option<&Path>) -> PathBuf {
    match (scope, root) {
        (Scope::System, root) => below(root, "/etc/systemd/system"),
        (Scope::User, Some(root)) => below(Some(root), "/etc/systemd/user"),
        (Scope::User, None) => {
            home("XDG_CONFIG_HOME", ".config").unwrap_or_else(|| PathBuf::from("/etc")).join("systemd").join("user")
        }
    }
}

fn below(root: Option<&Path>, path: &str) -> PathBuf {
    match root {
        Some(root) => root.join(path.trim_start_matches('/')),
        None => PathBuf::from(path),
    }
}

fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).and_then(|()| fs::write(path, text)).map_err(|why| {
        let failure = CommandError::world(format!("cannot write {}: {why}", path.display()));
        if why.kind() == io::ErrorKind::PermissionDenied {
            failure.remedy("as root (sudo), or for yourself: rask service install --user")
        } else {
            failure
        }
    })
}

/// Does systemd run this machine? Source: man 3 sd_booted.
fn booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn needs_systemd(remedy: &str) -> Result<(), CommandError> {
    if booted() {
        return Ok(());
    }
    let first = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    Err(CommandError::world(format!("systemd does not run this machine (process 1 is {})", first.trim()))
        .remedy(remedy))
}

const fn systemctl_words(scope: Scope) -> &'static str {
    match scope {
        Scope::System => "systemctl",
        Scope::User => "systemctl --user",
    }
}

fn command(scope: Scope) -> Command {
    let mut command = Command::new("systemctl");
    command.args((scope == Scope::User).then_some("--user"));
    command
}

fn systemctl(scope: Scope, args: &[&str]) -> Result<(), CommandError> {
    let mut command = command(scope);
    command.args(args);
    run(command)
}

fn run(mut command: Command) -> Result<(), CommandError> {
    let line = || format!("{command:?}").replace('"', "");
    let words = line();
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(CommandError::world(format!(
                "{words} failed: {}",
                said.trim().lines().last().unwrap_or("it said nothing")
            )))
        }
        Err(why) => Err(CommandError::world(format!("{words} could not be started: {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_names_the_program_where_it_is_and_the_variables_that_were_said() {
        let variables = [("RASK_UP__PYTHON", "/my envs/50%".to_owned())];
        for (_, text) in USER {
            let made = unit(text, Path::new("/opt/my rask/rask"), &variables);
            assert!(!made.contains(PACKAGED), "{made}");
            assert!(made.contains("Exec") && made.contains("\"/opt/my rask/rask\" "), "{made}");
            assert!(made.contains("Environment=\"RASK_UP__PYTHON=/my envs/50%%\"\n"), "{made}");
        }
        assert_eq!(unit(SYSTEM[0].1, Path::new(PACKAGED), &[]), SYSTEM[0].1);
    }

    #[test]
    fn the_settings_of_the_service_are_all_switched_off_and_valid() {
        let text = commented(SAMPLE);
        let file = crate::config::ConfigFile { name: "rask.toml", text: &text };
        assert_eq!(crate::config::Config::load(Some(file), &[]), Ok(crate::config::Config::default()));
        assert!(text.contains("#port = 8787"), "{text}");
    }
}

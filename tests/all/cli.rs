//! The built binary in a fresh folder: output, exit codes, signals. No Python; `tests/python` has the rest.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Generous: the machine may be busy compiling.
const DEADLINE: Duration = Duration::from_secs(30);

/// A folder of its own for each test, and a process in it that does not outlive the test.
struct Home {
    path: PathBuf,
    child: Option<Child>,
}

impl Home {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rask-cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary folder");
        Self { path, child: None }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rask"));
        command.args(line.split_whitespace()).current_dir(&self.path);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &self.path).env("TMPDIR", &self.path);
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("rask starts")
    }

    /// Starts a command whose standard output and error go to `out` in the folder.
    fn start(&mut self, line: &str) {
        let out = fs::File::create(self.path.join("out")).expect("a file");
        let err = out.try_clone().expect("a handle");
        self.child =
            Some(self.command(line).stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("rask starts"));
    }

    fn out(&self) -> String {
        fs::read_to_string(self.path.join("out")).unwrap_or_default()
    }

    /// Waits for a word in the output and returns what follows it up to white space.
    fn after(&mut self, word: &str) -> String {
        let child = self.child.as_mut().expect("started");
        let path = self.path.join("out");
        wait_for(word, || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let rest = text.split_once(word).map(|(_, rest)| rest.to_owned());
            let whole_line = rest.filter(|rest| rest.contains('\n'));
            assert!(whole_line.is_some() || child.try_wait().expect("a child").is_none(), "ended early: {text}");
            whole_line.and_then(|rest| Some(rest.split_whitespace().next()?.to_owned()))
        })
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.child.as_ref().expect("started").id();
        rustix::process::kill_process(pid_of(pid), signal).expect("it is there");
    }

    fn exit_code(&mut self) -> Option<i32> {
        let child = self.child.as_mut().expect("started");
        let status = wait_for("the end of rask", || child.try_wait().expect("a child"));
        status.code()
    }

    /// Files below the folder, without the output.
    fn files(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path.join(below)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name != "out");
        names.sort();
        names
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _may_be_gone = child.kill();
            let _ended = child.wait();
        }
        let _best_effort = fs::remove_dir_all(&self.path);
    }
}

fn pid_of(pid: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("not 0")
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn text(output: &Output) -> (i32, String) {
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// `GET`, body only.
fn get(base: &str, path: &str) -> String {
    let address = base.trim_start_matches("http://").trim_end_matches("/status");
    let mut stream = TcpStream::connect(address).expect("HTTP listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    body.to_owned()
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_is_wrong() {
    let home = Home::new();
    fs::write(home.path.join("bad.toml"), "[up]\nhost = \"127.0.0.1\"\nprot = 1\n").expect("a file");
    for (line, words) in [
        ("up --no-such-flag", &["--no-such-flag"][..]),
        ("up --config bad.toml", &["bad.toml, line 3", "up.prot"]),
        ("up --config missing.toml", &["missing.toml", "--config"]),
        ("up --host 0.0.0.0 --no-local-cluster", &["0.0.0.0", "TLS"]),
        ("scheduler --protocol ucx", &["ucx", "tls"]),
        ("scheduler --protocol tls --port 0", &["certificate", "--tls-cert"]),
        ("scheduler --idle-timeout soon --port 0", &["soon", "5 minutes"]),
        ("scheduler --jupyter", &["--jupyter"]),
        ("worker tcp://127.0.0.1:1 --python /bin/true", &["/bin/true", "--python"]),
        ("worker tcp://127.0.0.1:1 --nworkers many", &["many"]),
        ("scheduler --python /bin/true --port 0", &["/bin/true", "--python"]),
        ("run missing.py", &["missing.py"]),
    ] {
        let (code, stderr) = text(&home.run(line));
        assert_eq!(code, 2, "{line}: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{line}: {stderr}");
    }
}

#[test]
fn a_setting_of_dask_out_of_range_stops_the_scheduler_with_its_name() {
    let home = Home::new();
    let name = "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION";
    let output = home.command("scheduler --port 0").env(name, "-1").output().expect("rask starts");
    let (code, stderr) = text(&output);
    assert_eq!(code, 2);
    assert!(stderr.contains(name), "{stderr}");
}

#[test]
fn without_an_appliance_status_fails_in_one_line_with_the_remedy() {
    let (code, stderr) = text(&Home::new().run("status"));
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
    assert!(stderr.contains("rask up"), "{stderr}");
}

/// Goal: without a Python that has dask, a scheduler starts and says at once what will not work.
#[test]
fn a_scheduler_without_python_says_what_will_not_work() {
    let mut home = Home::new();
    // No interpreter at all: whatever the machine has on PATH.
    let out = fs::File::create(home.path.join("out")).expect("a file");
    let mut command = home.command("scheduler --host 127.0.0.1 --port 0 --no-dashboard");
    home.child = Some(command.env("PATH", "/nonexistent").stderr(out).spawn().expect("rask starts"));
    home.after("Scheduler at:");
    let said = home.out();
    assert_eq!(said.matches("no Python with dask and distributed").count(), 1, "{said}");
    assert!(said.contains("--python"), "{said}");
    home.signal(rustix::process::Signal::TERM);
    assert_eq!(home.exit_code(), Some(0), "{}", home.out());
}

#[test]
fn completions_are_printed_for_a_shell_and_help_fits_a_screen() {
    let home = Home::new();
    let bash = home.run("completions bash");
    assert_eq!(bash.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&bash.stdout).contains("scheduler"));
    let help = home.run("--help");
    assert!(String::from_utf8_lossy(&help.stdout).lines().count() <= 44);
}

/// Goal: what launchers look for is there, and nothing is left behind.
#[test]
fn a_scheduler_says_where_it_is_and_leaves_no_files() {
    let mut home = Home::new();
    let line =
        "scheduler --host 127.0.0.1 --port 0 --dashboard-address 127.0.0.1:0 --scheduler-file s.json --pid-file p";
    home.start(line);
    let address = home.after("Scheduler at:");
    let dashboard = home.after("dashboard at:");
    assert!(address.starts_with("tcp://127.0.0.1:"), "{address}");
    assert_eq!(get(&dashboard, "/health"), "ok");
    assert!(get(&dashboard, "/metrics").contains("dask_scheduler_workers"), "no metrics");
    let file = fs::read_to_string(home.path.join("s.json")).expect("complete when it listens");
    assert!(file.contains(&address), "{file}");
    let pid = fs::read_to_string(home.path.join("p")).expect("a pid file");
    assert_eq!(pid, home.child.as_ref().expect("started").id().to_string());
    home.signal(rustix::process::Signal::TERM);
    assert_eq!(home.exit_code(), Some(0), "{}", home.out());
    assert_eq!(home.files("."), Vec::<String>::new());
}

#[test]
fn a_port_that_is_taken_is_named_with_the_flag_that_changes_it() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    for line in [
        format!("up --no-local-cluster --port {port} --scheduler-port 0"),
        format!("scheduler --host 127.0.0.1 --no-dashboard --port {port}"),
    ] {
        let (code, stderr) = text(&home.run(&line));
        assert_eq!(code, 1, "{line}: {stderr}");
        assert!(stderr.contains(&port.to_string()) && stderr.contains("--port"), "{line}: {stderr}");
    }
    assert_eq!(home.files(".local/state/rask"), Vec::<String>::new());
}

/// Goal: one appliance per state folder; the second shows the first; the end leaves nothing.
#[test]
fn a_second_up_shows_the_first_and_the_end_leaves_nothing() {
    let mut home = Home::new();
    let line = "up --state-dir state --no-local-cluster --port 0 --scheduler-port 0";
    home.start(line);
    let http = home.after("status ");
    home.after("Stop:");
    assert_eq!(get(&http, "/health"), "ok");
    assert!(get(&http, "/api/rask/v1/").contains("\"version\""));
    let second = home.run(line);
    assert_eq!(second.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&second.stdout).contains(&http));
    home.signal(rustix::process::Signal::INT);
    assert_eq!(home.exit_code(), Some(0), "{}", home.out());
    let left = home.files("state");
    assert!(!left.iter().any(|name| name.starts_with("up.") || name == "clusters"), "{left:?}");
}

#[test]
fn after_kill_9_the_next_up_takes_the_seat() {
    let mut home = Home::new();
    let line = "up --state-dir state --no-local-cluster --port 0 --scheduler-port 0";
    home.start(line);
    home.after("Stop:");
    home.signal(rustix::process::Signal::KILL);
    assert_eq!(home.exit_code(), None);
    assert!(home.files("state").contains(&"up.json".to_owned()));
    home.start(line);
    home.after("Stop:");
    home.signal(rustix::process::Signal::TERM);
    assert_eq!(home.exit_code(), Some(0), "{}", home.out());
}

/// Goal: bytes that are neither Dask's nor HTTP's are closed, and the door stays open for others.
#[test]
fn garbage_at_the_door_is_closed_and_disturbs_nobody() {
    let mut home = Home::new();
    home.start("up --state-dir state --no-local-cluster --port 0 --scheduler-port 0");
    let http = home.after("status ");
    home.after("Stop:");
    for bytes in [&[0xff; 64][..], &[0x16, 3, 1, 0, 5][..], &b"GET\0/"[..], &[0x3a, 0, 0, 0, 0, 0, 0, 0][..]] {
        let mut stream = TcpStream::connect(http.trim_start_matches("http://")).expect("listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.write_all(bytes).expect("sent");
        // It may be closed already.
        let _half_closed = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        // A reset is a closed connection too.
        let _closed = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"", "{bytes:?}");
    }
    assert_eq!(get(&http, "/health"), "ok");
}

/// Goal: a child does not outlive its parent, even one that is killed. Method: a shell as the parent.
#[test]
fn a_guarded_child_dies_with_its_parent() {
    let mut home = Home::new();
    let script = format!(
        "{} exec-child --parent $$ --signal KILL -- sleep 600 & echo child $!; wait",
        env!("CARGO_BIN_EXE_rask")
    );
    let out = fs::File::create(home.path.join("out")).expect("a file");
    home.child = Some(Command::new("/bin/sh").args(["-c", &script]).stdout(out).spawn().expect("a shell"));
    let pid: u32 = home.after("child").parse().expect("a pid");
    // Only after it became `sleep` is it guarded.
    wait_for("sleep", || name_of(pid).filter(|name| name == "sleep"));
    home.signal(rustix::process::Signal::KILL);
    home.exit_code();
    wait_for("its death", || name_of(pid).is_none().then_some(()));
}

/// The name of a process that is not a zombie.
fn name_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
    (!rest.starts_with('Z')).then(|| name.to_owned())
}

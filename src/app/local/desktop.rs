//! What a person without a terminal sees: a page in the browser, a message of the desktop.

use std::io::{self, IsTerminal};
use std::process::{Command, Stdio};

pub(crate) fn open_browser(url: &str) {
    let opened =
        Command::new("xdg-open").arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    match opened {
        // Some openers stay as long as the browser does; an ended one must not stay a zombie.
        Ok(mut opener) => drop(std::thread::spawn(move || opener.wait())),
        Err(why) => {
            tracing::warn!(error = %why, "xdg-open could not be started, no browser opens; the address is {url}")
        }
    }
}

/// To a terminal if there is one, else as a message of the desktop.
pub(crate) fn say(what: &str) {
    if io::stderr().is_terminal() {
        eprintln!("{what}");
    } else {
        notify(what);
    }
}

pub(crate) fn notify(what: &str) {
    let mut command = Command::new("notify-send");
    command.args(["--app-name=rask", "--icon=rask", "rask", what]);
    // Only a courtesy: not every desktop has it.
    let _may_not_exist = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

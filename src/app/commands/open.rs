//! `rask open`: shows the dashboard, and starts an appliance if none runs.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::Path;

use crate::app::command_error::CommandError;
use crate::app::local::desktop::{notify, open_browser};
use crate::app::local::state_dir::{Running, state_dir};
use crate::app::roles::up::background;
use crate::app::text::outln;

/// `rask open`: opens the dashboard of the running appliance; starts one first if none runs.
pub fn open(state: Option<&Path>, up_args: &[OsString], no_browser: bool) -> Result<(), CommandError> {
    let opened = state_dir(state).and_then(|state| match Running::find(&state) {
        Some(running) => Ok(running),
        None => background::start(up_args, &state),
    });
    let running = opened.inspect_err(|why| {
        if !io::stderr().is_terminal() {
            notify(&format!("rask could not start: {why}"));
        }
    })?;
    outln!("Dashboard: {}\nStop: rask down", running.http);
    if !no_browser {
        open_browser(&running.http);
    }
    Ok(())
}

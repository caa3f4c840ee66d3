//! Tells a service manager how far we are, and that we are alive. Source: man 3 sd_notify, man 3
//! sd_watchdog_enabled.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// Whoever started us and listens at `$NOTIFY_SOCKET`; nobody does for most.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    listens: Option<(UnixDatagram, SocketAddr)>,
    pulse: Option<JoinHandle<()>>,
}

impl Manager {
    /// As the environment says.
    pub(crate) fn from_env() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let reach = || -> io::Result<(UnixDatagram, SocketAddr)> {
            let address = match name.as_bytes().strip_prefix(b"@") {
                Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
                None => SocketAddr::from_pathname(&name)?,
            };
            Ok((UnixDatagram::unbound()?, address))
        };
        match reach() {
            Ok(listens) => Self { listens: Some(listens), pulse: None },
            Err(why) => {
                tracing::warn!(socket = %name.display(), error = %why, "$NOTIFY_SOCKET cannot be used");
                Self::default()
            }
        }
    }

    /// Still starting; a line for `systemctl status`.
    pub(crate) fn starting(&self, what: &str) {
        self.tell(&format!("STATUS={what}"));
    }

    /// Everything answers. Must be called on the runtime that does the work: if that hangs, the watchdog bites.
    pub(crate) fn ready(&mut self, what: &str) {
        self.tell(&format!("READY=1\nSTATUS={what}"));
        let Some(every) = self.watchdog() else { return };
        let Some((socket, address)) = self.listens.take() else { return };
        let Ok(socket_of_pulse) = socket.try_clone() else { return };
        let address_of_pulse = address.clone();
        self.listens = Some((socket, address));
        self.pulse = Some(tokio::spawn(async move {
            let mut beat = interval(every);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                beat.tick().await;
                // A full queue of the manager's must not stop us; it has the time of another beat.
                let _next_time = socket_of_pulse.send_to_addr(b"WATCHDOG=1", &address_of_pulse);
            }
        }));
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Stopping");
    }

    /// Half the time after which the manager would take us for dead, if it watches this process.
    fn watchdog(&self) -> Option<Duration> {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit_us = number("WATCHDOG_USEC").filter(|limit| *limit > 1 && for_us)?;
        Some(Duration::from_micros(limit_us / 2))
    }

    fn tell(&self, what: &str) {
        if let Some((socket, address)) = &self.listens
            && let Err(why) = socket.send_to_addr(what.as_bytes(), address)
        {
            tracing::warn!(error = %why, "the service manager cannot be told: {what}");
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(pulse) = &self.pulse {
            pulse.abort();
        }
    }
}

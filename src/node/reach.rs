//! The way to the scheduler, and the address that others reach us by.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::NodeError;
use super::plan::WorkerPlan;
use crate::base::Text;
use crate::net::{Address, Connection, Listener, NetError, Pool};

/// Between two tries to reach the scheduler.
const RETRY: Duration = Duration::from_millis(300);

/// A connection to the scheduler, as soon as there is one. Errors: none in the time that the plan gives.
pub(super) async fn connect(pool: &Pool, plan: &WorkerPlan) -> Result<Connection, NodeError> {
    let since = Instant::now();
    let mut told = false;
    loop {
        let why = match pool.connect(&plan.scheduler, plan.connect).await {
            Ok(connection) => return Ok(connection),
            Err(why) => why,
        };
        let late = plan.death_timeout.is_some_and(|most| since.elapsed() >= most);
        if late || matches!(why, NetError::BadAddress(_) | NetError::NoTls) {
            return Err(NodeError::NoScheduler { address: plan.scheduler.clone(), why });
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!(scheduler = %plan.scheduler, %why, "waiting for the scheduler");
        }
        sleep(RETRY).await;
    }
}

/// The address by which the scheduler is reached from here.
fn ip_of(local: &str) -> Result<IpAddr, NodeError> {
    let failed = |why| NodeError::Listen { at: local.to_owned(), why };
    let address = Address::parse(local).map_err(failed)?;
    address.host.parse().map_err(|_| failed(NetError::BadAddress(local.to_owned())))
}

/// Listens where the scheduler is reached from, or as told, on the first free port of these; 0: any.
pub(super) async fn listen(plan: &WorkerPlan, (first, last): (u16, u16), local: &str) -> Result<Listener, NodeError> {
    let ip = plan.host.map_or_else(|| ip_of(local), Ok)?;
    let mut port = first;
    loop {
        let at = SocketAddr::new(ip, port);
        match Listener::bind(at).await {
            Ok(listener) => return Ok(listener),
            Err(why) if port >= last => return Err(NodeError::Listen { at: at.to_string(), why }),
            Err(_) => port = port.saturating_add(1),
        }
    }
}

/// What others are told to connect to.
pub(super) fn announced(plan: &WorkerPlan, mut at: SocketAddr, local: &str) -> Result<Text, NodeError> {
    if at.ip().is_unspecified() {
        at.set_ip(ip_of(local)?);
    }
    Ok(Address::of_socket(plan.scheme, at).to_string().into())
}

//! What is behind the appliance's door, and who may come in.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::config::UpConfig;
use super::lan::Lan;
use crate::app::command_error::CommandError;
use crate::app::commands::doctor::{self, DoctorArgs};
use crate::app::local::authority::folder;
use crate::app::local::state_dir::write_private;
use crate::base::BoxError;
use crate::door::{Door, FindCluster};
use crate::fleet::FleetHandle;
use crate::gateway::Gateway;
use crate::http::{Examine, Front, ServerCertificate};
use crate::net::{PlainRule, Protocol, StrangersPlaces};
use crate::pki::Authority;

/// The handles that connections are served with.
pub(super) struct Behind<'a> {
    pub(super) fleet: &'a FleetHandle,
    pub(super) gateway: &'a Gateway,
    pub(super) authority: Arc<Authority>,
    pub(super) lan: Option<&'a Lan>,
}

/// The door with everything behind it. Errors: there is no certificate for HTTPS.
pub(super) fn door(config: &UpConfig, behind: Behind<'_>) -> Result<Door, CommandError> {
    let rule = PlainRule::LoopbackUsers(config.allow_users.clone());
    let front = Front {
        fleet: behind.fleet,
        gateway: behind.gateway,
        head: behind.lan.map(|lan| &lan.head),
        examine: examine(config),
        same_user: rule.clone(),
    };
    let copy = folder(&config.state).join("server.crt");
    let certificate = ServerCertificate {
        authority: behind.authority,
        names: super::lan::names,
        keep: Box::new(move |pem| write_private(&copy, pem).map_err(std::io::Error::other)),
    };
    let tls = front.encrypted(certificate).map_err(CommandError::world)?;
    let anybody = behind.gateway.admits_strangers();
    let admit = move |stream: &TcpStream, protocol: &Protocol| match protocol {
        // The other side of TLS shows who it is by its certificate or a password.
        Protocol::Tls(_) => Ok(()),
        // With a password, programs of other users of this machine may come too.
        Protocol::Http if anybody => Ok(()),
        Protocol::Http | Protocol::WebSocket | Protocol::Dask | Protocol::Nothing | Protocol::Unknown => {
            rule.admit(stream.peer_addr()?, stream.local_addr()?)
        }
    };
    let fleet = behind.fleet.clone();
    let find: FindCluster = Arc::new(move |name| fleet.link(name));
    let mut door = Door::new(config.limits.clone(), find, front.plain(), Arc::new(admit));
    door.strangers = StrangersPlaces::among(config.limits.connections, config.allow_users.clone());
    (door.lan, door.tls) = (behind.lan.is_some(), Some(tls));
    Ok(door)
}

/// The checks of `rask doctor`, with what this appliance was started with.
fn examine(config: &UpConfig) -> Examine {
    let args = DoctorArgs {
        state_dir: Some(config.state.clone()),
        config: config.file.clone(),
        python: config.python.clone(),
    };
    Arc::new(move || {
        let args = args.clone();
        Box::pin(async move { Ok::<_, BoxError>(serde_json::to_value(doctor::examine(&args).await?)?) })
    })
}

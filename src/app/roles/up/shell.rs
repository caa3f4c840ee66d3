//! The appliance's pages: the dashboard's shell, and the way to the pages of each cluster of the fleet.

use std::sync::Arc;

use crate::fleet::{ClusterStatus, FleetHandle};
use crate::http::{self, Assets, Backends};

/// All of them.
pub(crate) fn pages(fleet: FleetHandle) -> axum::Router {
    let backends: Backends = Arc::new(move |name| {
        let view = fleet.get(name)?;
        let lives = match view.status {
            ClusterStatus::Pending | ClusterStatus::Running | ClusterStatus::Stopping => true,
            ClusterStatus::Stopped | ClusterStatus::Failed => false,
        };
        lives.then(|| fleet.files(name).http())
    });
    http::appliance_router(Assets::default(), backends)
}

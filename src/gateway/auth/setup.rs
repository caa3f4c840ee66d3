//! Why nobody could be told apart.

use crate::store::StoreError;

/// A configuration of `[gateway.auth]` that cannot work, or a store that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AuthSetupError {
    /// The address of the JupyterHub is no URL.
    #[error("gateway.auth.hub_api_url is \"{url}\"; it must be the hub's API, like http://127.0.0.1:8081/hub/api")]
    HubUrl {
        /// As it is configured.
        url: String,
    },
    /// The tokens cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

//! What is served over HTTP: a cluster's pages, feed and JSON, the appliance's pages and APIs and the way from it to its
//! clusters; how all of it is put together, and its TLS. No business rules: it asks and shows.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod answer;
mod appliance;
mod assets;
mod cluster;
mod ends;
mod serve;
mod tls;

pub use appliance::{Examine, Front, peers_document};
pub use cluster::{Pages, PagesError, PagesSocket, serve_pages};
pub use tls::{CertificateError, ServerCertificate};

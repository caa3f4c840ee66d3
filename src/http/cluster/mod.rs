//! Everything that one scheduler serves over HTTP: its page, the live feed, JSON, and the routes that Dask's tools know.
//!
//! One router, on a port of its own or on a Unix socket behind the appliance. All links in it are relative, so it works
//! below any prefix.

mod api;
pub(super) mod dask;
mod live;
mod routes;
mod site;
mod thread;
mod ticket;

pub use thread::{Pages, PagesError, PagesSocket, serve_pages};

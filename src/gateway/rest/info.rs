//! This appliance and its machine.

use axum::Json as Answer;
use axum::extract::State;
use serde_json::{Value, json};

use super::shape::ErrorBody;
use crate::gateway::auth::User;
use crate::gateway::error::ApiError;
use crate::gateway::state::Gateway;
use crate::host::Machine;

/// This appliance: version, process, start, addresses; and who asks.
#[utoipa::path(get, path = "/api/rask/v1/", tag = "appliance", responses((status = 200, body = Object)))]
pub(super) async fn info(State(gateway): State<Gateway>, user: User) -> Answer<Value> {
    let mut all = gateway.info.clone();
    if let Some(fields) = all.as_object_mut() {
        fields.insert("user".to_owned(), json!({ "name": user.name, "admin": user.admin }));
    }
    Answer(all)
}

/// The machine: what may be used of it, and how busy it is.
#[utoipa::path(get, path = "/api/rask/v1/host", tag = "appliance", responses((status = 200, body = Object)))]
pub(super) async fn host() -> Answer<Value> {
    let machine = Machine::look();
    // What the system does not tell is null.
    let memory = sysinfo::System::new().ok().map(|mut system| {
        system.refresh_memory();
        (system.total_memory(), system.available_memory())
    });
    let load = sysinfo::System::load_average().ok().map(|load| [load.one, load.five, load.fifteen]);
    Answer(json!({
        "name": sysinfo::System::host_name().ok(),
        "kernel": sysinfo::System::kernel_version().ok(),
        "cores": machine.cores,
        "memory": machine.memory_bytes,
        "memory_total": memory.map(|(total, _)| total),
        "memory_available": memory.map(|(_, available)| available),
        "load": load,
        "uptime": sysinfo::System::uptime().ok(),
    }))
}

/// What may be chosen for a cluster.
#[utoipa::path(get, path = "/api/rask/v1/options", tag = "clusters",
    responses((status = 200, body = Object, description = "a list of field, label, default and spec")))]
pub(super) async fn options(State(gateway): State<Gateway>, _: User) -> Answer<Value> {
    Answer(json!({ "options": gateway.options.describe() }))
}

/// The settings in force, without secrets. For admins.
#[utoipa::path(get, path = "/api/rask/v1/settings", tag = "appliance",
    responses((status = 200, body = Object), (status = 403, body = ErrorBody)))]
pub(super) async fn settings(State(gateway): State<Gateway>, user: User) -> Result<Answer<Value>, ApiError> {
    match user.admin {
        true => Ok(Answer(gateway.shown_settings.clone())),
        false => Err(ApiError::forbidden(format!("User {} is no admin", user.name))),
    }
}
